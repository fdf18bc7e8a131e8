"""What the proof compares: every row a recipe, drawn by Code, by `run`, and by a real ComfyUI."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from PIL import Image, ImageDraw

from chapter38 import Recipe
from chapter38.code.samplers import TABLE
from chapter38.recipe import SPACINGS

PROMPT = "a small red sailboat on the left, on the sea, at sunset"
STEPS = 10
QUICK = {"steps": 4, "width": 64, "height": 64}  # for the long table of pairs: the arithmetic is the same
FORCED = {"lms": "lms", "deis": "deis"}  # ComfyUI's sampler of the same name, measured although it is another one


@dataclass(frozen=True)
class Row:
    """One comparison: `group` and `name` say what it is about; `fields` are the recipe's, beside the usual ones."""

    group: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def recipe(self) -> Recipe:
        return Recipe(**{"prompt": PROMPT, "seed": 38, "steps": STEPS, **_pictures(self.fields)})


def _pictures(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with names of pictures in place of pictures resolved."""
    out = dict(fields)
    for name in ("image", "mask"):
        if name in out:
            out[name] = picture(out[name])
    if "control" in out:
        out["control"] = tuple({"image": picture("hint"), **control} for control in out["control"])
    return out


@cache
def picture(name: str) -> Image.Image:
    """ "scene": a boat at sea; "hint": its edges; masks: on the grid of 8 pixels that latents have, off it, and grey."""
    drawn = Image.new("RGB", (128, 128), "black" if name == "hint" else "skyblue")
    pen = ImageDraw.Draw(drawn)
    if name in ("scene", "hint"):
        line = {"outline": "white"} if name == "hint" else {}
        for shape, colour in (((0, 80, 128, 128), "teal"), ((30, 78, 80, 92), "firebrick"), ((52, 30, 55, 78), "white")):
            pen.rectangle(shape, fill=None if line else colour, **line)
        return drawn
    box = {"grid": (32, 24, 95, 103), "off grid": (29, 21, 90, 99), "grey": (32, 24, 95, 103)}[name]
    mask = Image.new("RGB", (128, 128))
    ImageDraw.Draw(mask).rectangle(box, fill="#a0a0a0" if name == "grey" else "white")
    return mask


def rows() -> Iterator[Row]:
    """Every row of the proof."""
    for sampler, said in TABLE.items():
        for spacing in SPACINGS:
            if said.scale != "flow" and spacing in (*said.native, *said.joined):
                yield Row("samplers", f"{sampler}/{spacing}", {"sampler": sampler, "spacing": spacing, **QUICK})
    for pair in ("euler/trailing", "ddim/trailing", "ddim/leading", "dpmpp_2m/karras", "dpmpp_2m/simple", "heun/normal"):
        sampler, spacing = pair.split("/")
        for steps in (1, 7, 10):
            yield Row("steps", f"{pair}, {steps}", {**QUICK, "sampler": sampler, "spacing": spacing, "steps": steps})
    for guidance in (0.5, 1.0, 1.5, 7.5):
        yield Row("guidance", f"{guidance:g}", {"guidance": guidance})
    for name, fields in PROMPTS.items():
        yield Row("prompts", name, fields)
    for name, fields in REST.items():
        yield Row(name.partition(":")[0], name.partition(": ")[2], fields)


LONG = ", ".join([PROMPT, "a large yellow lighthouse on the right, on the hills, in fog", "a blue house in snow, at night"] * 2)
PROMPTS: dict[str, dict[str, Any]] = {
    "empty": {"prompt": ""},
    "negative": {"negative": "fog, night"},
    "parentheses that mean themselves": {"prompt": "a (red) boat ((at sea)"},
    "weighted": {"prompt": "a (red:1.4) sailboat on the (left:0.6), (at sunset)", "prompt_syntax": "weighted"},
    "weighted negative": {"negative": "(fog:1.5), night", "prompt_syntax": "weighted"},
    "three contexts long": {"prompt": LONG},
    "long negative": {"negative": LONG},
    "clip skip 1": {"clip_skip": 1},
    "largest seed": {"seed": 2**64 - 1},
    "wide": {"width": 192, "height": 128},
    "tall, odd latents": {"width": 72, "height": 200},
}
_EULER, _KARRAS = {"sampler": "euler", "spacing": "normal"}, {"sampler": "dpmpp_2m", "spacing": "karras"}
_INPAINT = {"image": "scene", "mask": "grid", "strength": 0.8}
REST: dict[str, dict[str, Any]] = {
    "img2img: ddim, 0.5": {"image": "scene", "strength": 0.5},
    "img2img: euler, 0.7": {"image": "scene", "strength": 0.7, **_EULER},
    "img2img: dpmpp_2m, 0.3": {"image": "scene", "strength": 0.3, **_KARRAS},
    "img2img: euler_ancestral, 0.6": {"image": "scene", "strength": 0.6, "sampler": "euler_ancestral", "spacing": "normal"},
    "img2img: 14 levels for 13 steps": {"image": "scene", "strength": 0.8, "sampler": "uni_pc", "spacing": "ddim_uniform", "steps": 13},
    "img2img: strength 1": {"image": "scene"},
    "inpaint: ddim, grid": _INPAINT,
    "inpaint: euler, grid": {**_INPAINT, **_EULER},
    "inpaint: dpmpp_2m, grid": {**_INPAINT, **_KARRAS},
    "inpaint: euler, off grid": {**_INPAINT, **_EULER, "mask": "off grid"},
    "inpaint: euler, grey": {**_INPAINT, **_EULER, "mask": "grey"},
    "inpaint: strength 1": {**_INPAINT, **_EULER, "strength": 1.0},
    "lora: one, 1": {"adapters": (("style-a", 1.0),)},
    "lora: one, 0.6": {"adapters": (("style-a", 0.6),)},
    "lora: one, -0.5": {"adapters": (("style-a", -0.5),)},
    "lora: two": {"adapters": (("style-a", 0.7), ("style-b", 0.4))},
    "lora: with clip skip": {"adapters": (("style-b", 0.8),), "clip_skip": 1},
    "controlnet: 1": {"control": ({"kind": "edges-a"},)},
    "controlnet: 0.4": {"control": ({"kind": "edges-a", "strength": 0.4},)},
    "controlnet: 0.2 to 0.6": {"control": ({"kind": "edges-a", "start": 0.2, "end": 0.6},)},
    "controlnet: 0.25 to 0.75, between steps": {"control": ({"kind": "edges-a", "start": 0.25, "end": 0.75},)},
    "controlnet: two": {"control": ({"kind": "edges-a", "strength": 0.6}, {"kind": "edges-b", "strength": 0.5})},
    "controlnet: with a LoRA": {"control": ({"kind": "edges-a"},), "adapters": (("style-a", 0.7),)},
    "controlnet: dpmpp_2m/karras": {"control": ({"kind": "edges-a"},), **_KARRAS},
    "hires: 2x, 0.5": {"width": 64, "height": 64, "hires": {"scale": 2, "strength": 0.5}},
    "hires: 1.5x, other steps": {"hires": {"scale": 1.5, "steps": 6, "strength": 0.6}, **_KARRAS},
    "hires: with a LoRA and a negative": {"hires": {"scale": 1.5, "strength": 0.5}, "adapters": (("style-a", 0.7),),
                                          "negative": "fog"},
    "shipped: dusk": {"adapters": (("dusk", 1.0),)},
    "shipped: windmill": {"adapters": (("windmill", 0.8),), "prompt": "a big red windmill on the right, on the grass, by day"},
    "shipped: orange-lighthouse": {"adapters": (("orange-lighthouse", 1.0),), "prompt": "an orange lighthouse, at sea"},
    "shipped: dusk and windmill": {"adapters": (("dusk", 0.6), ("windmill", 0.9))},
    "shipped: edges, 1": {"control": ({"kind": "edges"},)},
    "shipped: edges, 0.5": {"control": ({"kind": "edges", "strength": 0.5},)},
    "shipped: edges with dusk": {"control": ({"kind": "edges", "strength": 0.8},), "adapters": (("dusk", 0.7),)},
    "together: inpaint with LoRA and clip skip": {**_INPAINT, **_EULER, "adapters": (("style-b", 0.5),), "clip_skip": 1},
}  # fmt: skip
