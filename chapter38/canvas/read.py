"""read(graph) -> (Recipe, what did not fit): the recipe behind a workflow, whoever wired it.

It walks upstream from the picture that is saved. What a recipe has no word for is told, with the node it is in.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chapter38.canvas import nodes as facts
from chapter38.canvas.export import comfy_names, last_steps, sigma_text, window
from chapter38.canvas.graph import Graph, guarded, is_link
from chapter38.canvas.spelling import (
    FAMILIES,
    FLUX_SHIFT,
    Family,
    file_of,
    hints,
    larger,
    model_of,
    models,
    name_of,
    trained_as,
    unescape,
)
from chapter38.errors import CannotExpress, GraphError, RecipeError
from chapter38.recipe import SAMPLERS, SPACINGS, Pixels, Recipe

SAVES = ("SaveImage", "PreviewImage")
SAMPLES = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
FLOW = {"euler": "flow_euler", "heun": "flow_heun"}


def read(graph: Graph, folder: Path | None = None) -> tuple[Recipe, list[str]]:
    """The recipe of a workflow, and a list of what did not fit: "node 5 (KSampler): …".

    The pictures that it loads come with an exported graph; for others give `folder`, the one they lie in. Raises
    GraphError where there is no recipe in it at all: no sampler between a model and a saved picture.
    """
    reader = _Reader(graph.api(), graph.pictures, folder)
    fields = guarded(reader.recipe)
    try:
        return Recipe(**fields), reader.misfits
    except RecipeError as error:
        raise GraphError(f"the workflow asks for what no recipe can say: {error}") from None


class _Reader:
    def __init__(self, api: dict[str, Any], pictures: Mapping[str, Pixels], folder: Path | None) -> None:
        self.api, self.pictures, self.folder = switched(api), pictures, folder
        self.misfits: list[str] = []
        self.seen: set[str] = set()

    def misfit(self, id: str, why: str) -> None:
        line = f"node {id} ({self.title(id)}): {why}"
        if line not in self.misfits:
            self.misfits.append(line)

    def title(self, id: str) -> str:
        meta = self.api[id].get("_meta")
        return str(meta.get("title") or self.type(id)) if isinstance(meta, dict) else self.type(id)

    def type(self, id: str) -> str:
        return str(self.api[id]["class_type"])

    def value(self, id: str, name: str, default: Any = None) -> Any:
        """A widget's value; one that comes through a link is followed to a node that just holds it."""
        value = self.api[id].get("inputs", {}).get(name, default)
        if is_link(value) and value[0] not in self.api:
            return default
        if is_link(value):
            held = self.api[value[0]].get("inputs", {})
            if self.type(value[0]).startswith("Primitive") and "value" in held:
                self.seen.add(value[0])
                return self.value(value[0], "value", default)
            self.misfit(id, f"{name} is computed by node {value[0]} ({self.title(value[0])})")
            return default
        return value

    def up(self, id: str, name: str) -> str | None:
        """The node that feeds an input, if any."""
        value = self.api[id].get("inputs", {}).get(name)
        return value[0] if is_link(value) and value[0] in self.api else None

    def walk(self, id: str | None, name: str) -> list[str]:
        """Node, the node that feeds its input `name`, and so on."""
        chain: list[str] = []
        while id is not None and id not in chain:
            chain.append(id)
            self.seen.add(id)
            id = self.up(id, name)
        return chain

    def hints(self, id: str) -> dict[str, str]:
        return hints(self.title(id))

    # --- from the saved picture back to the loaders ---

    def recipe(self) -> dict[str, Any]:
        sampler, decode = self.last_sampler()
        fields: dict[str, Any] = {}
        first = self.first_pass(sampler)
        model = self.models(first, decode, fields)
        self.start(first, fields)
        self.sampling(first, model, fields)
        self.prompts(first, model, fields)
        if first != sampler:
            self.hires(sampler, first, fields)
        self.leftover(sampler, decode)
        return fields

    def last_sampler(self) -> tuple[str, str | None]:
        """(sampler, VAEDecode) behind the picture that is saved last."""
        saves = [id for id in self.api if self.type(id) in SAVES] or [
            id for id in self.api if (kind := facts.kind(self.type(id))) and kind.is_output
        ]
        ends = [(save, self.back_to_sampler(save)) for save in saves]
        found = [(save, sampler) for save, sampler in ends if sampler]
        if not found:
            raise GraphError("no recipe here: no saved picture comes from a sampler that is known")
        save, sampler = found[-1]
        for other, sampled in found[:-1]:
            self.seen.add(other)
            if sampled != sampler and sampled not in self.back(sampler):
                self.misfit(other, "a second picture; only one fits a recipe")
        decode = next((id for id in self.back(save) if self.type(id) == "VAEDecode"), None)
        self.seen.add(save)
        return sampler, decode

    def back(self, id: str | None) -> list[str]:
        """Everything upstream of a node, nearest first."""
        found, queue = [], [id] if id else []
        while queue:
            now = queue.pop(0)
            if now in found or now is None:
                continue
            found.append(now)
            queue += [v[0] for v in self.api[now].get("inputs", {}).values() if is_link(v) and v[0] in self.api]
        return found[1:]

    def back_to_sampler(self, id: str) -> str | None:
        return next((up for up in self.back(id) if self.type(up) in SAMPLES), None)

    def first_pass(self, sampler: str) -> str:
        """The sampler whose latents the last one refines, if it refines any."""
        before = [up for up in self.back(self.up(sampler, "latent_image")) if self.type(up) in SAMPLES]
        start = self.up(sampler, "latent_image")
        if start and self.type(start) in SAMPLES:
            before.insert(0, start)
        for extra in before[1:]:
            self.misfit(extra, "a third sampling pass; a recipe has at most two")
        return before[0] if before else sampler

    def models(self, sampler: str, decode: str | None, fields: dict[str, Any]) -> Family:
        head = self.up(sampler, "model") or self.up(self.up(sampler, "guider") or sampler, "model")
        chain = self.walk(head, "model")
        found: dict[str, str] = {}
        adapters: list[tuple[str, float]] = []
        shift = None
        for id in chain:
            type = self.type(id)
            if type in ("LoraLoader", "LoraLoaderModelOnly"):
                adapters.insert(0, self.adapter(id))
            elif type in ("ModelSamplingSD3", "ModelSamplingAuraFlow", "ModelSamplingFlux"):
                shift = id
            elif facts.kind(type) and type in ("CheckpointLoaderSimple", "UNETLoader", "DiffusersLoader"):
                names = {"model_path": "ckpt_name"}
                widgets = {names.get(key, key): str(self.value(id, key)) for key in self.api[id]["inputs"]}
                found |= {key: v for key, v in widgets.items() if key in ("ckpt_name", "unet_name")}
                if type == "DiffusersLoader":
                    found["ckpt_name"] += ".safetensors"
            else:
                self.misfit(id, "changes the model in a way that a recipe has no word for")
        fields["model"] = model_of(found) or "postcards"
        if not found:
            raise GraphError(f"node {sampler} ({self.title(sampler)}): no model that is known feeds it")
        if adapters:
            fields["adapters"] = adapters
        family = FAMILIES[models()[fields["model"]]["family"]] if fields["model"] in models() else FAMILIES["sd"]
        if shift:
            self.shift(shift, family, fields)
        self.vae(decode, family, found, fields)
        return family

    def adapter(self, id: str) -> tuple[str, float]:
        weight = self.value(id, "strength_model", 1.0)
        if self.value(id, "strength_clip", weight) != weight:
            self.misfit(id, "another strength for the text encoder; a recipe has one weight a LoRA")
        return name_of(str(self.value(id, "lora_name")), self.hints(id)), weight

    def shift(self, id: str, family: Family, fields: dict[str, Any]) -> None:
        said = self.hints(id)
        if self.type(id) == "ModelSamplingFlux":
            low, high = self.value(id, "base_shift"), self.value(id, "max_shift")
            if (low, high) == FLUX_SHIFT:
                return
            if low != high:
                self.misfit(id, "a shift that depends on the picture's size; a recipe has one number")
                return
            fields["shift"] = float(f"{math.exp(high):.11g}")
            return
        shift = self.value(id, "shift")
        usual = family.shift and shift == family.shift[1]
        if not usual or said.get("shift") == str(float(shift)):
            fields["shift"] = shift

    def vae(self, decode: str | None, family: Family, found: dict[str, str], fields: dict[str, Any]) -> None:
        loader = self.up(decode, "vae") if decode else None
        if decode:
            self.seen.add(decode)
        if not loader:
            return
        self.seen.add(loader)
        if self.type(loader) == "VAELoader":
            name = name_of(str(self.value(loader, "vae_name")), self.hints(loader))
            own = models().get(fields["model"], {}).get("files", {}).get("vae_name")
            if file_of("vae", name) != own or "name" in self.hints(loader):
                fields["vae"] = name

    def prompts(self, sampler: str, family: Family, fields: dict[str, Any]) -> None:
        guider = self.up(sampler, "guider")
        at = guider or sampler
        if guider:
            self.seen.add(guider)
        positive = self.up(at, "positive") or self.up(at, "conditioning")
        control = self.controls(positive, fields)
        if control:
            fields["control"] = control
        text, clip, said = self.text(positive, fields)
        fields["prompt"], fields["prompt_syntax"] = unescape(text)
        if said.get("syntax") == "weighted":
            fields |= {"prompt": text, "prompt_syntax": "weighted"}
        negative = self.up(at, "negative")
        if negative and family.negative == "text":
            other, _, _ = self.text(negative, fields, side="negative")
            plain, syntax = unescape(other)
            weighted = fields["prompt_syntax"] == "weighted" or syntax == "weighted"
            if weighted and fields["prompt_syntax"] == "plain":
                fields |= {"prompt": text, "prompt_syntax": "weighted"}
            fields["negative"] = other if weighted else plain
        else:
            for id in self.walk(negative, "negative"):
                self.walk(id, "conditioning")
        self.clip(clip, family, fields)

    def controls(self, id: str | None, fields: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while id and self.type(id) == "ControlNetApplyAdvanced":
            self.seen.add(id)
            net, image = self.up(id, "control_net"), self.up(id, "image")
            picture = self.picture(image, id)
            if net and picture is not None:
                self.seen.add(net)
                kind = name_of(str(self.value(net, "control_net_name")), self.hints(net))
                names = {"strength": "strength", "start": "start_percent", "end": "end_percent"}
                numbers = {ours: self.value(id, theirs) for ours, theirs in names.items()}
                numbers |= self.window(id, numbers, fields)
                found.insert(0, {"kind": kind, "image": picture, **numbers})
            id = self.up(id, "positive")
        return found

    def window(self, id: str, numbers: dict[str, Any], fields: dict[str, Any]) -> dict[str, float]:
        """Start and end as fractions of the steps, where the hint says them and they come to these percents."""
        start, end = (_number(self.hints(id).get(name)) for name in ("start", "end"))
        if start is None or end is None:
            return {}
        names = ("steps", "sampler", "spacing", "strength", "image", "width", "height")
        try:
            found = window(Recipe(prompt="", **{name: fields[name] for name in names if name in fields}), start, end)
        except (CannotExpress, RecipeError, ImportError):
            return {}
        return {"start": start, "end": end} if found == (numbers["start"], numbers["end"]) else {}

    def text(self, id: str | None, fields: dict[str, Any], side: str = "positive") -> tuple[str, str | None, dict[str, str]]:
        """(text, the node that gives its text encoder, hints) behind a conditioning."""
        while id:
            self.seen.add(id)
            type = self.type(id)
            if type == "CLIPTextEncode":
                return str(self.value(id, "text", "")), self.up(id, "clip"), self.hints(id)
            if type == "FluxGuidance":
                fields["guidance"] = self.value(id, "guidance")
            elif type not in ("ControlNetApplyAdvanced", "ConditioningZeroOut"):
                self.misfit(id, "changes the prompt's meaning in a way that a recipe has no word for")
            names = (side, "conditioning", "conditioning_1", "conditioning_to")
            id = next((up for name in names if (up := self.up(id, name))), None)
        return "", None, {}

    def clip(self, id: str | None, family: Family, fields: dict[str, Any]) -> None:
        for node in self.walk(id, "clip"):
            if self.type(node) == "CLIPSetLastLayer":
                skip = -int(self.value(node, "stop_at_clip_layer")) - (family.layers or 1)
                fields["clip_skip"] = max(skip, 0)
        if id and self.type(id) == "LoraLoader" and not fields.get("adapters"):
            self.misfit(id, "a LoRA on the text encoder alone")

    def start(self, sampler: str, fields: dict[str, Any]) -> None:
        id = self.up(sampler, "latent_image")
        while id:
            self.seen.add(id)
            type = self.type(id)
            if type.startswith("Empty"):
                sides = {side: self.value(id, side) for side in ("width", "height")}
                fields |= {side: value for side, value in sides.items() if value is not None}
                if self.value(id, "batch_size", 1) != 1:
                    self.misfit(id, "several pictures at once; a recipe draws one")
            elif type == "SetLatentNoiseMask":
                mask = self.up(id, "mask")
                fields["mask"] = self.picture(mask, id)
                if mask and self.value(mask, "channel", "red") == "alpha":
                    self.misfit(mask, "takes the mask from transparency; a recipe's mask is white where it may change")
            elif type == "VAEEncode":
                source = self.up(id, "pixels")
                fields["image"] = image = self.picture(source, id)
                if image is not None:
                    fields["width"], fields["height"] = image.image.size
            else:
                self.misfit(id, "a start that a recipe has no word for")
            id = self.up(id, "samples")
        if fields.get("image") is None:
            fields.pop("image", None), fields.pop("mask", None)

    def picture(self, id: str | None, user: str) -> Pixels | None:
        if id is None or self.type(id) not in ("LoadImage", "LoadImageMask"):
            self.misfit(id or user, "a picture that the workflow makes itself; a recipe carries finished ones")
            return None
        self.seen.add(id)
        name = str(self.value(id, "image"))
        if name in self.pictures:
            return self.pictures[name]
        path = within(self.folder, name) if self.folder else None
        if path and path.is_file():
            return Pixels(path)
        self.misfit(id, f"the picture {name!r} was not handed over")
        return None

    def sampling(self, id: str, family: Family, fields: dict[str, Any]) -> None:
        said, strength = self.hints(id), 1.0
        self.seen.add(id)
        if self.type(id) in ("KSampler", "KSamplerAdvanced"):
            steps = self.value(id, "steps")
            name, spacing = self.value(id, "sampler_name"), self.value(id, "scheduler")
            if self.type(id) == "KSamplerAdvanced":
                self.advanced(id, steps)
            else:
                steps, strength = self.denoised(id, steps, said)
            seed = self.value(id, "seed", self.value(id, "noise_seed", 0))
        else:
            steps, strength, name, spacing, seed = self.custom(id, said)
        if family.guidance == "cfg":
            fields["guidance"] = self.value(self.up(id, "guider") or id, "cfg", 1.0)
        fields |= {"steps": steps, "seed": seed}
        self.named(id, name, spacing, steps, said, family, fields)
        if fields.get("image") is not None:
            fields["strength"] = strength
        elif strength != 1:
            self.misfit(id, f"denoise {strength} of an empty start")

    def denoised(self, id: str, done: int, said: Mapping[str, str]) -> tuple[int, float]:
        """(steps as Diffusers counts them, strength) from ComfyUI's steps and denoise."""
        denoise = self.value(id, "denoise", 1.0)
        if not isinstance(denoise, (int, float)) or denoise <= 0:
            self.misfit(id, f"denoise {denoise} draws nothing")
            return done, 1.0
        steps = int(done / denoise)
        strength = _number(said.get("strength"))
        hinted = strength is not None and 0 < strength <= 1 and _agree(steps, strength, done, denoise)
        return steps, strength if hinted and strength is not None else float(denoise)

    def advanced(self, id: str, steps: int) -> None:
        whole = self.value(id, "start_at_step", 0) == 0 and self.value(id, "end_at_step", 10000) >= steps
        if not whole or self.value(id, "add_noise") != "enable" or self.value(id, "return_with_leftover_noise") == "enable":
            self.misfit(id, "runs a part of the steps; a recipe runs them all")

    def custom(self, id: str, said: Mapping[str, str]) -> tuple[int, float, Any, Any, int]:
        """(steps, strength, sampler, scheduler, seed) of a SamplerCustom or SamplerCustomAdvanced."""
        select, sigmas, noise = (self.up(id, name) for name in ("sampler", "sigmas", "noise"))
        self.seen |= {node for node in (select, sigmas, noise) if node}
        name = self.value(select, "sampler_name") if select else None
        seed = self.value(noise, "noise_seed", 0) if noise else self.value(id, "noise_seed", 0)
        if sigmas and self.type(sigmas) == "BasicScheduler":
            steps, strength = self.denoised(sigmas, self.value(sigmas, "steps"), said)
            return steps, strength, name, self.value(sigmas, "scheduler"), seed
        listed = str(self.value(sigmas, "sigmas", "")) if sigmas else ""
        done = max(listed.count(","), 1)
        count, strength = _number(said.get("steps")), _number(said.get("strength")) or 1.0
        if sigmas and self.type(sigmas) == "ManualSigmas" and count and "spacing" in said:
            return int(count), strength, name, ("listed", listed, done), seed
        self.misfit(sigmas or id, "a list of noise levels that no spacing gives")
        return done, 1.0, name, None, seed

    def named(
        self,
        id: str,
        name: Any,
        spacing: Any,
        steps: int,
        said: Mapping[str, str],
        family: Family,
        fields: dict[str, Any],
    ) -> None:
        """Sampler and spacing: ComfyUI's own names, unless the hints name others that come to the same."""
        trained = trained_as(family, fields.get("shift"), fields.get("width", 0), fields.get("height", 0))
        if family.shift and name in FLOW and "sampler" not in said:
            said = {"sampler": FLOW[name], **said}
        if pair := meaning(name, spacing, steps, said, trained):
            fields["sampler"], fields["spacing"] = pair
            return
        name = FLOW.get(name, name) if family.shift else name
        for field, value, known in (("sampler", name, SAMPLERS), ("spacing", spacing, SPACINGS)):
            if value in known:
                fields[field] = value
            elif value is not None:
                shown = "a list of noise levels" if isinstance(value, tuple) else repr(value)
                self.misfit(id, f"{field} {shown} has no counterpart; the model's usual one stands in")

    def hires(self, id: str, first: str, fields: dict[str, Any]) -> None:
        steps, strength = self.denoised(id, self.value(id, "steps", 1), self.hints(id))
        if self.type(id) == "SamplerCustom":
            steps, strength, *_ = self.custom(id, self.hints(id))
        self.seen.add(id)
        between = [up for up in [self.up(id, "latent_image"), *self.back(self.up(id, "latent_image"))]
                   if up and up not in self.back(first) and up != first]  # fmt: skip
        self.seen.update(between)
        scale = next((self.scale(up, fields) for up in between if self.type(up) in _SCALERS), None)
        if scale is None or scale <= 1:
            self.misfit(id, "a second pass that does not enlarge the picture")
            return
        hires = {"scale": scale, "steps": None if steps == fields["steps"] else steps, "strength": strength}
        if self.hints(id).get("own_steps") == str(steps):
            hires["steps"] = steps
        fields["hires"] = hires

    def scale(self, id: str, fields: dict[str, Any]) -> float | None:
        by = self.value(id, "scale_by")
        if by is None:
            width, height = self.value(id, "width", 0), self.value(id, "height", 0)
            said = _number(self.hints(id).get("scale"))
            base = fields.get("width", 0), fields.get("height", 0)
            if said and (larger(base[0], said), larger(base[1], said)) == (width, height):
                return said
            by = width / base[0] if base[0] else None
        return by

    def leftover(self, sampler: str, decode: str | None) -> None:
        """What the saved picture depends on, and no step above has taken in."""
        for id in {*self.back(decode), *self.back(sampler)} - self.seen:
            why = "is not known" if facts.kind(self.type(id)) is None else "has no part in the recipe"
            self.misfit(id, f"{self.type(id)} {why}")


def switched(api: dict[str, Any]) -> dict[str, Any]:
    """The workflow without its If/Else switches: what hangs on one hangs on the branch that it is set to."""

    def settled(value: Any, depth: int = 0) -> Any:
        node = api.get(value[0]) if is_link(value) else None
        if node is None or depth > 50:
            return value
        inputs = node.get("inputs", {})
        if node["class_type"] == "ComfySwitchNode":
            chosen = settled(inputs.get("switch"), depth + 1)
            branch = inputs.get("on_true" if chosen else "on_false") if isinstance(chosen, bool) else None
            return value if branch is None else settled(branch, depth + 1)
        return settled(inputs["value"], depth + 1) if node["class_type"] == "PrimitiveBoolean" else value

    gone = {id for id, node in api.items() if node["class_type"] in ("ComfySwitchNode", "PrimitiveBoolean")}
    out = {id: {**node, "inputs": {k: settled(v) for k, v in node.get("inputs", {}).items()}} for id, node in api.items()}
    used = {v[0] for id, node in out.items() if id not in gone for v in node["inputs"].values() if is_link(v)}
    return {id: node for id, node in out.items() if id not in gone - used}


def within(folder: Path, name: str) -> Path | None:
    """The file `name` of a folder, and of no other; a mark of ComfyUI's such as `boat.png [output]` is left out."""
    path = (folder / name.removesuffix(" [input]").removesuffix(" [output]")).resolve()
    return path if path.is_relative_to(folder.resolve()) else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _agree(steps: int, strength: float, done: int, denoise: float) -> bool:
    try:
        return last_steps(steps, strength) == (done, denoise)
    except CannotExpress:
        return False


def meaning(name: Any, spacing: Any, steps: int, said: Mapping[str, str], trained: Any) -> tuple[str, str] | None:
    """(sampler, spacing) as a recipe names them, where the hints, or ComfyUI's own names, come to what the node says.

    `spacing` is a scheduler's name, or ("listed", text of the noise levels, steps that run).
    """
    sampler, hinted = said.get("sampler", name), said.get("spacing", spacing)
    if sampler not in SAMPLERS or hinted not in SPACINGS:
        return None
    try:
        found = comfy_names(sampler, hinted, steps)
        if isinstance(spacing, tuple):
            same = found == (name, None) and sigma_text(sampler, hinted, trained, steps, spacing[2]) == spacing[1]
        else:
            same = found == (name, spacing)
    except ImportError:  # without torch the hint is taken at its word
        same = True
    except CannotExpress:
        same = False
    return (sampler, hinted) if same else None


_SCALERS = ("ImageScale", "ImageScaleBy", "LatentUpscale", "LatentUpscaleBy")
