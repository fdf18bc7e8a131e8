"""export(recipe) -> Graph: a recipe as the workflow that draws the same picture on a ComfyUI server."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from chapter38.canvas import nodes as facts
from chapter38.canvas.graph import Graph
from chapter38.canvas.spelling import (
    FLUX_SHIFT,
    RUNG,
    SCALED_LINEAR,
    Family,
    escape,
    file_of,
    hint,
    larger,
    model_files,
    trained_as,
    unescape,
)
from chapter38.errors import CannotExpress
from chapter38.recipe import Pixels, Recipe

Wire = list[Any]


def export(recipe: Recipe) -> Graph:
    """The workflow of a recipe, in core nodes only, wired as the family's public workflows are.

    Raises CannotExpress, which names the field, for what ComfyUI has no equal for.

    >>> export(Recipe(prompt="a red boat")).node(3).type
    'CLIPTextEncode'
    """
    return replace(Graph.from_api(_Canvas(recipe).api()), pictures=dict(inputs_of(recipe)))


def image_file(pixels: Pixels) -> str:
    """The name under which a recipe's picture lies in ComfyUI's input folder: the SHA-256 of its pixels."""
    return f"{pixels.sha256}.png"


def inputs_of(recipe: Recipe) -> Iterator[tuple[str, Pixels]]:
    """(file name, picture) of every input that the workflow loads; a server must be given them first."""
    for pixels in (recipe.image, recipe.mask, *(control.image for control in recipe.control)):
        if pixels is not None:
            yield image_file(pixels), pixels


class _Canvas:
    """Collects nodes while the graph is built from the loaders to the saved picture."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.nodes: dict[str, Any] = {}
        self.family, self.files = model_files(recipe.model)
        _refuse(recipe, self.family)

    def add(self, type: str, /, field: str = "recipe", title: str = "", **inputs: Any) -> str:
        """Add a node and return its id. `field` is what a value that the node does not take is blamed on."""
        kind = facts.kinds()[type]
        for name, value in inputs.items():
            if problem := outside(kind.input(name), value):
                raise CannotExpress(field, RUNG, f"{kind.title} {problem}")
        id = str(len(self.nodes) + 1)
        self.nodes[id] = {"class_type": type, "inputs": inputs, "_meta": {"title": title or kind.title}}
        return id

    def api(self) -> dict[str, Any]:
        model, clip, vae = self.loaders()
        positive, negative = self.prompts(clip)
        positive, negative = self.controls(positive, negative, vae)
        latent = self.start(vae)
        model = self.shifted(model)
        r = self.recipe
        latent = self.sample(model, positive, negative, latent, r.steps, r.strength)
        if r.hires:
            latent = self.enlarge(latent, vae)
            latent = self.sample(model, positive, negative, latent, r.hires.steps or r.steps, r.hires.strength, " (refine)")
        image = [self.add("VAEDecode", samples=latent, vae=vae), 0]
        self.add("SaveImage", images=image, filename_prefix="chapter38")
        return self.nodes

    def loaders(self) -> tuple[Wire, Wire, Wire]:
        found: dict[str, Wire] = {}
        for type, fixed in self.family.loader.items():
            if type == "VAELoader" and self.recipe.vae:
                continue
            kind = facts.kinds()[type]
            named = {field.name: self.files[field.name] for field in kind.inputs if field.name in self.files}
            id = self.add(type, "model", **named, **fixed)
            found |= {output: [id, slot] for slot, (_, output) in enumerate(kind.outputs)}
        if self.recipe.vae:
            found["VAE"] = [self.named("VAELoader", "vae", "vae_name", self.recipe.vae), 0]
        model, clip, vae = found["MODEL"], found["CLIP"], found["VAE"]
        for adapter in self.recipe.adapters:
            both = self.family.lora == "LoraLoader"
            more = {"clip": clip, "strength_clip": adapter.weight} if both else {}
            id = self.named(self.family.lora, "adapters", "lora_name", adapter.name, model=model,
                            strength_model=adapter.weight, **more)  # fmt: skip
            model, clip = [id, 0], [id, 1] if both else clip
        if self.recipe.clip_skip:
            last = -(self.recipe.clip_skip + (self.family.layers or 0))
            clip = [self.add("CLIPSetLastLayer", "clip_skip", clip=clip, stop_at_clip_layer=last), 0]
        return model, clip, vae

    def named(self, type: str, field: str, input: str, name: str, **more: Any) -> str:
        """A loader of one file; its title holds our name where the file's does not give it back."""
        file = file_of(field, name)
        said = {} if file.removesuffix(".safetensors") == name and file != self.files.get(input) else {"name": name}
        return self.add(type, field, hint(facts.kinds()[type].title, **said), **{input: file}, **more)

    def prompts(self, clip: Wire) -> tuple[Wire, Wire]:
        r = self.recipe
        text = escape(r.prompt, r.prompt_syntax)
        said = {"syntax": "weighted"} if r.prompt_syntax == "weighted" and unescape(text)[1] == "plain" else {}
        positive: Wire = [
            self.add("CLIPTextEncode", "prompt", hint("Positive prompt", **said), text=text, clip=clip),
            0,
        ]
        if self.family.negative == "zero":
            negative: Wire = [self.add("ConditioningZeroOut", conditioning=positive), 0]
        else:
            text = escape(r.negative, r.prompt_syntax)
            negative = [self.add("CLIPTextEncode", "negative", "Negative prompt", text=text, clip=clip), 0]
        if self.family.guidance == "embedded":
            positive = [self.add("FluxGuidance", "guidance", conditioning=positive, guidance=r.guidance), 0]
        return positive, negative

    def controls(self, positive: Wire, negative: Wire, vae: Wire) -> tuple[Wire, Wire]:
        more = {"vae": vae} if self.family.control == "with vae" else {}
        r, usual = self.recipe, facts.kinds()["ControlNetApplyAdvanced"].title
        for control in r.control:
            net = [self.named("ControlNetLoader", "control", "control_net_name", control.kind), 0]
            image = [self.picture(control.image, "Hint map"), 0]
            asked = (control.start, control.end)
            start, end = window(r, *asked) if self.family.shift is None else asked
            said = {} if (start, end) == asked else {"start": control.start, "end": control.end}
            id = self.add("ControlNetApplyAdvanced", "control", hint(usual, **said), positive=positive, negative=negative,
                          control_net=net, image=image, strength=control.strength, start_percent=start,
                          end_percent=end, **more)  # fmt: skip
            positive, negative = [id, 0], [id, 1]
        return positive, negative

    def picture(self, pixels: Pixels, title: str) -> str:
        return self.add("LoadImage", title=title, image=image_file(pixels))

    def start(self, vae: Wire) -> Wire:
        r = self.recipe
        if r.image is None:
            return [self.add(self.family.latent, "width", width=r.width, height=r.height, batch_size=1), 0]
        latent: Wire = [self.add("VAEEncode", pixels=[self.picture(r.image, "Image"), 0], vae=vae), 0]
        if r.mask is None:
            return latent
        mask = [self.add("LoadImageMask", title="Mask: white may change", image=image_file(r.mask), channel="red"), 0]
        return [self.add("SetLatentNoiseMask", samples=latent, mask=mask), 0]

    def shifted(self, model: Wire) -> Wire:
        r, kind = self.recipe, self.family.shift
        if kind is None:
            return model
        type, usual = kind
        shift = r.shift if r.shift is not None else usual
        if type == "ModelSamplingFlux":  # it takes logarithms, at two sizes of the picture
            if shift is None and self.family.guidance != "embedded":
                return model
            low, high = FLUX_SHIFT if shift is None else (round(math.log(shift), 12),) * 2
            size: dict[str, Any] = {"width": r.width, "height": r.height}
            return [self.add(type, "shift", model=model, max_shift=high, base_shift=low, **size), 0]
        if shift is None:
            return model
        title = hint(facts.kinds()[type].title, **({"shift": shift} if shift == r.shift == usual else {}))
        return [self.add(type, "shift", title, model=model, shift=shift), 0]

    def enlarge(self, latent: Wire, vae: Wire) -> Wire:
        r = self.recipe
        assert r.hires is not None
        width, height = larger(r.width, r.hires.scale), larger(r.height, r.hires.scale)
        image = [self.add("VAEDecode", samples=latent, vae=vae), 0]
        scaled = self.add("ImageScale", "hires", image=image, upscale_method="bicubic", width=width, height=height,
                          crop="disabled", title=hint("Upscale Image", scale=r.hires.scale))  # fmt: skip
        return [self.add("VAEEncode", pixels=[scaled, 0], vae=vae), 0]

    def sample(
        self, model: Wire, positive: Wire, negative: Wire, latent: Wire, steps: int, strength: float, part: str = ""
    ) -> Wire:
        r = self.recipe
        cfg = r.guidance if self.family.guidance == "cfg" else 1.0
        name, scheduler = comfy_names(r.sampler, r.spacing, steps)
        common = {"model": model, "positive": positive, "negative": negative, "latent_image": latent, "cfg": cfg}
        done, denoise = last_steps(steps, strength)
        said: dict[str, Any] = {} if name == r.sampler else {"sampler": r.sampler}
        said |= {} if scheduler == r.spacing else {"spacing": r.spacing}
        said |= {"own_steps": steps} if part and r.hires and r.hires.steps == r.steps else {}
        if scheduler is not None:
            said |= {} if denoise == strength else {"strength": strength}
            return [self.add("KSampler", "guidance", hint(f"KSampler{part}", **said), seed=r.seed, steps=done,
                             sampler_name=name, scheduler=scheduler, denoise=denoise, **common), 0]  # fmt: skip
        said |= {"steps": steps} | ({} if strength == 1 else {"strength": strength})
        sampler = [self.add("KSamplerSelect", sampler_name=name), 0]
        trained = trained_as(self.family, r.shift, r.width, r.height)
        listed = [self.add("ManualSigmas", "spacing", sigmas=sigma_text(r.sampler, r.spacing, trained, steps, done)), 0]
        id = self.add("SamplerCustom", "guidance", hint(f"SamplerCustom{part}", **said), add_noise=True,
                      noise_seed=r.seed, sampler=sampler, sigmas=listed, **common)  # fmt: skip
        return [id, 0]


def comfy_names(sampler: str, spacing: str, steps: int) -> tuple[str, str | None]:
    """ComfyUI's sampler and scheduler for the same picture; scheduler None: hand it the list of noise levels.

    Raises CannotExpress where ComfyUI has no equal.
    """
    from chapter38.code.samplers import twin

    same = twin(sampler, spacing, steps)
    if same.sampler is None or same.why:
        raise CannotExpress("sampler", RUNG, f"{sampler} with {spacing} spacing: {same.why}")
    if sampler.startswith("flow_") and spacing == "trailing" and 1000 % steps == 0:
        return same.sampler, "simple"  # both take every (1000 / steps)-th level, from the top
    return same.sampler, same.scheduler


def last_steps(steps: int, strength: float) -> tuple[int, float]:
    """(steps that run, ComfyUI's `denoise`): Diffusers runs the last int(steps * strength) of a list of `steps`.

    ComfyUI takes the last `steps` of int(steps / denoise): of the shortest decimals that give that list, the nearest.
    """
    done = min(int(steps * strength), steps)
    if done < 1:
        raise CannotExpress("strength", RUNG, f"{strength} of {steps} steps leaves none to run")
    for digits in range(1, 12):
        unit = 10**-digits
        nearby = [round(done / steps + shift * unit, digits) for shift in (0, 1, -1)]
        fits = [value for value in nearby if 0 < value <= 1 and int(done / value) == steps]
        if fits:
            return done, fits[0]
    raise CannotExpress("strength", RUNG, f"no denoise makes ComfyUI run the last {done} of {steps} steps")


def window(r: Recipe, start: float, end: float) -> tuple[float, float]:
    """A control's window in ComfyUI's percents, which count timesteps where Diffusers counts steps: set between two steps.

    On at step i of n where start <= i/n and (i+1)/n <= end.
    """
    if (start, end) == (0, 1):
        return start, end
    from chapter38.code.samplers import scheduler
    from chapter38.code.start import skipped_steps

    solver = scheduler(r.sampler, r.spacing, SCALED_LINEAR, r.steps)
    skipped = skipped_steps(solver, r.steps, r.strength) * getattr(solver, "order", 1)
    times = [float(t) for t in solver.timesteps[skipped:]]
    count = len(times)
    on = [i for i in range(count) if start <= i / count and (i + 1) / count <= end]
    if not on or r.hires:
        why = "with a second pass, ComfyUI would apply it to that one's steps too" if on else "no step lies in it"
        raise CannotExpress("control", RUNG, f"the window {start:g} to {end:g}: {why}")

    def percent(i: int) -> float:
        if 0 < i < count and times[i - 1] - times[i] < 4:
            raise CannotExpress("control", RUNG, f"the window {start:g} to {end:g} splits steps of nearly the same noise")
        return i / count if i in (0, count) else round(1 - (times[i - 1] + times[i]) / 2 / 999, 3)

    return percent(on[0]), percent(on[-1] + 1)


def sigma_text(sampler: str, spacing: str, trained: tuple[dict[str, Any], float | None], steps: int, done: int) -> str:
    """The last noise levels that the Code rung visits, for ManualSigmas: exact to float32, without exponents."""
    import numpy as np

    from chapter38.code import samplers, spacings

    found = samplers.levels(sampler, spacing, spacings.trained(*trained), steps)
    if spacing in samplers.TABLE[sampler].native:  # Diffusers' own list, whose last digits are those of float32
        found = getattr(samplers.scheduler(sampler, spacing, trained[0], steps, trained[1]), "sigmas", found)
    return ", ".join(np.format_float_positional(np.float32(value), trim="0") for value in found[-(done + 1) :])


def _refuse(r: Recipe, family: Family) -> None:
    """Everything that can be said no to without building a graph."""
    usual = Recipe(prompt="", model=r.model).guidance
    refusals = [
        ("references", bool(r.references), "instruction edits are not exported yet"),
        ("shift", r.shift is not None and family.shift is None, "this kind of model has no timestep shift"),
        ("clip_skip", r.clip_skip > 0 and family.layers is None, "its text encoders have no layer to stop at"),
        ("control", bool(r.control) and family.control is None, "no core node applies a ControlNet to this kind of model"),
        ("negative", bool(r.negative) and family.negative == "zero", "this kind of model runs without a negative prompt"),
        ("sampler", (family.shift is not None) != r.sampler.startswith("flow_") and r.sampler.removeprefix("flow_") in
         ("euler", "heun"), "flow-matching models take flow_euler and flow_heun, the others euler and heun"),
        ("guidance", family.guidance == "cfg" and r.guidance < 1,
         "below 1 only ComfyUI runs a negative pass; 1 switches it off on both"),
        ("guidance", family.guidance is None and r.guidance != usual, f"this model takes none; leave it at {usual}"),
        ("width", bool(r.width % family.grid), f"this model's sizes are multiples of {family.grid}"),
        ("height", bool(r.height % family.grid), f"this model's sizes are multiples of {family.grid}"),
        ("image", r.image is not None and r.image.image.size != (r.width, r.height), "it has another size than the recipe"),
        ("strength", r.image is not None and r.strength == 1 and r.spacing not in ("leading", "ddim_uniform"),
         "at 1 ComfyUI adds the picture to full noise and Diffusers blends them; 0.99 is the same on both"),
        ("mask", r.mask is not None and not _on_grid(r.mask), "ComfyUI softens it unless it is black and white in 8x8 blocks"),
        ("control", any(c.image.image.width * r.height != c.image.image.height * r.width for c in r.control),
         "a hint map has other proportions than the picture"),
        ("mask", r.mask is not None and r.mask.image.size != (r.width, r.height), "it has another size than the recipe"),
    ]  # fmt: skip
    for field, is_so, why in refusals:
        if is_so:
            raise CannotExpress(field, RUNG, why)


def _on_grid(mask: Pixels) -> bool:
    import numpy as np

    values = np.asarray(mask.image.convert("L"))
    height, width = (side // 8 * 8 for side in values.shape)
    blocks = values[:height, :width].reshape(height // 8, 8, width // 8, 8)
    return bool(np.isin(values, (0, 255)).all() and (blocks == blocks[:, :1, :, :1]).all())


def outside(field: facts.Input | None, value: Any) -> str | None:
    """What is wrong with a widget's value, in words; None where nothing is."""
    if field is None or isinstance(value, (list, dict)):
        return None
    if field.options and value not in field.options:
        return f"has no {field.name} {value!r}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if field.least is not None and value < field.least:
            return f"takes {field.name} from {field.least:g}, not {value:g}"
        if field.most is not None and value > field.most:
            return f"takes {field.name} up to {field.most:g}, not {value:g}"
    return None
