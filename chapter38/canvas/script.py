"""A recipe as a script that needs neither us nor ComfyUI: plain Diffusers in Python, or curl at a ComfyUI server."""

import json
import shlex
from importlib.resources import files
from textwrap import dedent
from typing import Any

from chapter38.canvas.export import export, image_file, inputs_of
from chapter38.errors import CannotExpress
from chapter38.recipe import Recipe, models

RUNG = "python"
_KIND = {
    "StableDiffusionPipeline": "StableDiffusion{}Pipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXL{}Pipeline",
}


def python(recipe: Recipe) -> str:
    """A stand-alone script of plain Diffusers that draws the same picture (one context of prompt, no second pass).

    Its first argument is the file to write, its second the model's folder, if another than the recipe's. The recipe's
    pictures must lie beside it, under the names that `inputs_of` gives. Raises CannotExpress for what plain Diffusers
    has no equal for.
    """
    row = models().get(recipe.model, {"hub": recipe.model, "pipeline": "StableDiffusionPipeline"})
    if row["pipeline"] not in _KIND:
        raise CannotExpress("model", RUNG, f"scripts are written for {' and '.join(_KIND)}, not for a {row['pipeline']}")
    _refuse(recipe, row["pipeline"])
    kind = "Img2Img" if recipe.image else "ControlNet" if recipe.control else ""
    pipeline = _KIND[row["pipeline"]].format(kind)
    name, flags = _scheduler(recipe)
    names = sorted({name, pipeline, *(["ControlNetModel"] if recipe.control else []), *(["AutoencoderKL"] if recipe.vae else [])})
    blocks = [
        f'"""Draws {" ".join(recipe.prompt.split())[:80]!r} with Diffusers: python script.py [picture.png] [model folder]."""\n',
        "import sys",
        "from importlib.util import find_spec" if row.get("folder") else "",
        "\nimport torch",
        f"from diffusers import {', '.join(names)}",
        "from PIL import Image" if recipe.image or recipe.control else "",
        '\noutput = sys.argv[1] if len(sys.argv) > 1 else "picture.png"',
        _BUNDLED.format(name=recipe.model, folder=row["folder"]) if row.get("folder") else _MODEL.format(row["hub"]),
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        _dtype(row.get("dtype") or "float16"),
        *_parts(recipe),
        f"pipe = {pipeline}.from_pretrained(model, torch_dtype=dtype{_extra(recipe)}).to(device)",
        f"pipe.scheduler = {name}.from_config(pipe.scheduler.config{flags})",
        *_adapters(recipe),
        *_call(recipe),
        "image.save(output)\n",
    ]  # fmt: skip
    return "\n".join(block for block in blocks if block)


_MODEL = "model = sys.argv[2] if len(sys.argv) > 2 else {!r}"
_BUNDLED = """
# {name} comes with the package chapter38. This asks Python where that lies; nothing of it is imported.
package = find_spec("chapter38")
model = sys.argv[2] if len(sys.argv) > 2 else package and package.submodule_search_locations[0] + "/{folder}"
if not model:
    sys.exit("chapter38 is not installed here: give the folder of {name}' weights as the second argument")
"""


def _place(r: Recipe, name: str, shelf: str) -> str:
    """Python for where a LoRA or ControlNet lies: beside a bundled model, else a file, folder or Hub id as it is."""
    folder = models().get(r.model, {}).get("folder")
    bundled = folder and files("chapter38").joinpath(folder, shelf + name).is_dir()
    return f'f"{{model}}/{shelf}{name}"' if bundled else repr(name)


def _dtype(there: str) -> str:
    """The precision that `load` takes: the registry's on a GPU, float32 on the CPU."""
    return "dtype = torch.float32\n" if there == "float32" else f'dtype = torch.{there} if device == "cuda" else torch.float32\n'


def curl(recipe: Recipe, server: str = "http://127.0.0.1:8188") -> str:
    """Shell lines that upload the recipe's pictures and queue its workflow on a ComfyUI server."""
    files = dict.fromkeys(name for name, _ in inputs_of(recipe))
    lines = [f"curl -s -F image=@{name} -F overwrite=true {server}/upload/image" for name in files]
    body = json.dumps({"prompt": export(recipe).api()}, ensure_ascii=True)
    lines.append(f"curl -s -H 'Content-Type: application/json' {server}/prompt --data-binary {shlex.quote(body)}")
    return "\n".join(lines) + "\n"


def _refuse(r: Recipe, pipeline: str) -> None:
    refusals = [
        ("prompt_syntax", r.prompt_syntax == "weighted", "a pipeline gives words no weights"),
        ("mask", r.mask is not None, "the inpainting pipeline keeps the picture in another way; export a workflow"),
        ("hires", r.hires is not None, "a pipeline draws one pass; export a workflow"),
        ("references", bool(r.references), "instruction edits are not exported yet"),
        ("control", bool(r.control and r.image), "scripts take a ControlNet or a picture to start from, not both"),
        ("clip_skip", r.clip_skip > 0 and pipeline != "StableDiffusionPipeline", "written for one text encoder only"),
        ("shift", r.shift is not None, "this model was trained on a noise schedule"),
    ]
    for field, is_so, why in refusals:
        if is_so:
            raise CannotExpress(field, RUNG, why)


def _scheduler(r: Recipe) -> tuple[str, str]:
    """Diffusers' class, and the flags that make it walk the recipe's spacing."""
    from chapter38.code.samplers import TABLE

    row = TABLE[r.sampler]
    if r.spacing not in row.native or not hasattr(__import__("diffusers"), row.cls):
        fits = ", ".join(row.native) or "none"
        raise CannotExpress("spacing", RUNG, f"{r.sampler} has no flag for {r.spacing} in Diffusers; it has: {fits}")
    spacing = {"use_karras_sigmas": True} if r.spacing == "karras" else {"timestep_spacing": r.spacing}
    return row.cls, "".join(f", {key}={value!r}" for key, value in {**row.flags, **spacing}.items())


def _parts(r: Recipe) -> list[str]:
    lines = [f"vae = AutoencoderKL.from_pretrained({r.vae!r}, torch_dtype=dtype)"] if r.vae else []
    if r.control:
        kinds = ", ".join(_place(r, control.kind, "controlnet-") for control in r.control)
        lines.append(f"kinds = [{kinds}]  # folders or Hub ids of ControlNets")
        lines.append("controlnets = [ControlNetModel.from_pretrained(kind, torch_dtype=dtype) for kind in kinds]")
    return lines


def _extra(r: Recipe) -> str:
    return (", vae=vae" if r.vae else "") + (", controlnet=controlnets" if r.control else "")


def _adapters(r: Recipe) -> list[str]:
    """LoRAs by file, stacked in order, each at its weight."""
    places = [_place(r, adapter.name, "loras/") for adapter in r.adapters]
    lines = [f'pipe.load_lora_weights({file}, adapter_name="lora{i}")' for i, file in enumerate(places)]
    if r.adapters:
        names = [f"lora{i}" for i in range(len(r.adapters))]
        lines.append(f"pipe.set_adapters({names!r}, {[adapter.weight for adapter in r.adapters]!r})")
    return lines


_SKIP = '''
def embed(text):
    """The text encoder's states, {skip} layers before the last, through its final norm."""
    length = pipe.tokenizer.model_max_length
    ids = pipe.tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    states = pipe.text_encoder(ids.to(device), output_hidden_states=True).hidden_states
    norm = getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm
    return norm(states[-{layer}])


with torch.no_grad():
    words, without = embed({prompt!r}), embed({negative!r})
'''


def _call(r: Recipe) -> list[str]:
    """The noise of the seed, and the one call; step noise has a generator of its own, seeded one above."""
    said: dict[str, Any] = {"prompt": repr(r.prompt), "negative_prompt": repr(r.negative)}
    lines = []
    if r.clip_skip:
        lines += [_SKIP.format(skip=r.clip_skip, layer=r.clip_skip + 1, prompt=r.prompt, negative=r.negative)]
        said = {"prompt_embeds": "words", "negative_prompt_embeds": "without"}
    said |= {"num_inference_steps": r.steps, "guidance_scale": r.guidance}
    if r.image:
        lines += [dedent(f"""
            picture = Image.open({image_file(r.image)!r}).convert("RGB")
            with torch.no_grad():  # the middle of what the encoder says, not a sample of it
                start = pipe.vae.encode(pipe.image_processor.preprocess(picture).to(device, dtype)).latent_dist.mode()
        """).rstrip()]  # fmt: skip
        said |= {"image": "start * pipe.vae.config.scaling_factor", "strength": r.strength}
        said |= {"generator": f"torch.Generator().manual_seed({r.seed})"}
    else:
        lines.append(f"\nshape = (1, pipe.unet.config.in_channels, {r.height} // 8, {r.width} // 8)")
        lines.append(f"noise = torch.randn(shape, generator=torch.Generator().manual_seed({r.seed}))")
        said |= {"width": r.width, "height": r.height, "latents": "noise.to(device, dtype)"}
        said |= {"generator": f"torch.Generator().manual_seed({(r.seed + 1) % 2**64})"}
    if r.control:
        hints = ", ".join(f'Image.open({image_file(c.image)!r}).convert("RGB")' for c in r.control)
        said |= {"image": f"[{hints}]", "controlnet_conditioning_scale": [c.strength for c in r.control],
                 "control_guidance_start": [c.start for c in r.control],
                 "control_guidance_end": [c.end for c in r.control]}  # fmt: skip
    lines += ["image = pipe(", *(f"    {key}={value}," for key, value in said.items()), ").images[0]"]
    return lines
