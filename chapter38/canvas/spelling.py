"""How a recipe's words are spelled in ComfyUI: files, model families, prompts; and the hints that let it be read back.

A hint stands in a node's title, after a middle dot: `KSampler · sampler=ddim, spacing=trailing`. It is only believed
where it fits what the node says, so editing the node is always safe.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, unquote

from chapter38.errors import CannotExpress, nearest

RUNG = "canvas"
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Family:
    """How one kind of model is wired.

    loader     nodes that give MODEL, CLIP, VAE, with the inputs that no recipe decides
    latent     the node of an empty start, whose sizes go by `grid` pixels
    negative   "text": its own prompt; "zero": the prompt zeroed out; the guidance then stays at 1
    guidance   "cfg"; "embedded": told to the model by FluxGuidance; None: the model takes none
    shift      the node that shifts the timesteps, and the value that its public workflows give it, if they do
    lora       the loader of its LoRAs
    layers     which layer of the text encoder is the usual one, counted from the end; None: not for it
    control    whether ControlNets are for it, and whether they need the VAE
    lean       the shift that ComfyUI gives it where no node says another one
    """

    loader: Mapping[str, Mapping[str, str]]
    latent: str = "EmptyLatentImage"
    grid: int = 8
    negative: str = "text"
    guidance: str | None = "cfg"
    shift: tuple[str, float | None] | None = None
    lora: str = "LoraLoader"
    layers: int | None = None
    control: str | None = "plain"
    lean: float = 1.0


_ONE_FILE: dict[str, dict[str, str]] = {"CheckpointLoaderSimple": {}}
_FLUX = {
    "UNETLoader": {"weight_dtype": "default"},
    "DualCLIPLoader": {"type": "flux", "device": "default"},
    "VAELoader": {},
}


def _three(clip: str) -> dict[str, dict[str, str]]:
    return {
        "UNETLoader": {"weight_dtype": "default"},
        "CLIPLoader": {"type": clip, "device": "default"},
        "VAELoader": {},
    }


_SD3: dict[str, Any] = {"latent": "EmptySD3LatentImage", "grid": 16, "control": "with vae"}
_AURA: dict[str, Any] = {**_SD3, "lora": "LoraLoaderModelOnly"}
FAMILIES: dict[str, Family] = {
    "sd": Family(_ONE_FILE, layers=1),
    "sdxl": Family(_ONE_FILE, layers=2),
    "sd3": Family(_ONE_FILE, shift=("ModelSamplingSD3", None), lean=3.0, **_SD3),
    "flux-dev": Family(_FLUX, negative="zero", guidance="embedded", shift=("ModelSamplingFlux", None), **_SD3),
    "flux-schnell": Family(_FLUX, negative="zero", guidance=None, shift=("ModelSamplingFlux", None), **_SD3),
    "qwen-image": Family(_three("qwen_image"), shift=("ModelSamplingAuraFlow", 3.1), **_AURA),
    "z-image": Family(_three("lumina2"), shift=("ModelSamplingAuraFlow", 3.0), **{**_AURA, "control": None}),
    "z-image-turbo": Family(
        _three("lumina2"), negative="zero", guidance=None, shift=("ModelSamplingAuraFlow", 3.0), **{**_AURA, "control": None}
    ),
}  # fmt: skip


FLUX_SHIFT = (0.5, 1.15)
"""base_shift and max_shift of FLUX.1 dev: the logarithm of its shift at 256 and at 4096 tokens, linear between."""


def trained_as(family: Family, shift: float | None, width: int, height: int) -> tuple[dict[str, Any], float | None]:
    """What `code.spacings.trained` is to be told of a model: a scheduler's config, and the shift that holds."""
    if family.shift is None:
        return SCALED_LINEAR, None
    if shift is None and family.guidance == "embedded":
        low, high = FLUX_SHIFT
        shift = math.exp(low + (width * height / 256 - 256) * (high - low) / (4096 - 256))
    return {"num_train_timesteps": 1000}, shift or family.shift[1] or family.lean


SCALED_LINEAR = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}
"""The noise schedule of Stable Diffusion 1.5, SDXL and postcards: see each one's scheduler_config.json."""


@cache
def models() -> dict[str, dict[str, Any]]:
    """models.json: our name of a model -> its family, ComfyUI's files by input, and where they can be downloaded."""
    return json.loads((files("chapter38.canvas") / "models.json").read_text("utf-8"))


@cache
def urls() -> dict[str, str]:
    """File name -> where it can be downloaded."""
    return {url.rsplit("/", 1)[1]: url for row in models().values() for url in row.get("urls", ())}


def model_files(model: str) -> tuple[Family, dict[str, str]]:
    """Family and files of a model: of the table, or one checkpoint file of Stable Diffusion's shape.

    Raises CannotExpress for a model whose ComfyUI files nobody has written down.
    """
    if model in models():
        row = models()[model]
        return FAMILIES[row["family"]], row["files"]
    if model.endswith(WEIGHTS):
        return FAMILIES["sd"], {"ckpt_name": plain_path("model", model)}
    like = PurePath(model).name + WEIGHTS[0]
    own = f"or a checkpoint file that your ComfyUI has, such as {like!r} (`chapter38 export --model`)"
    raise CannotExpress("model", RUNG, f"no ComfyUI file is known for {model!r}; {nearest(model, models())}, {own}")


def model_of(found: Mapping[str, str]) -> str | None:
    """Which model of the table these files are; a checkpoint that is none keeps its own name."""
    for name, row in models().items():
        if all(found.get(key) == file for key, file in row["files"].items() if key in ("ckpt_name", "unet_name")):
            return name
    return found.get("ckpt_name") or found.get("unet_name")


def file_of(field: str, name: str) -> str:
    """The file of a LoRA, ControlNet or VAE: its own name, or with `.safetensors` behind it."""
    return plain_path(field, name if name.endswith(WEIGHTS) else f"{name}.safetensors")


def name_of(file: str, said: Mapping[str, str]) -> str:
    """The inverse of `file_of`, with the hint where two names give one file."""
    hinted = said.get("name", "")
    if hinted and (hinted if hinted.endswith(WEIGHTS) else f"{hinted}.safetensors") == file:
        return hinted
    return file.removesuffix(".safetensors") or file


def plain_path(field: str, path: str) -> str:
    """A path inside the server's model folder. Raises CannotExpress for one that only this machine has."""
    if re.match(r"[/\\~]|[A-Za-z]:", path) or ".." in re.split(r"[/\\]", path):
        raise CannotExpress(field, RUNG, f"{path} is a path of this machine; put the file in the server's model folder")
    return path


def larger(side: int, scale: float) -> int:
    """A side of the second pass: to the nearest multiple of 8, as the Code rung enlarges it."""
    return max(8, round(side * scale / 8) * 8)


def escape(text: str, syntax: str) -> str:
    r"""A prompt as ComfyUI wants it: in plain syntax parentheses mean themselves, so they become `\(` and `\)`."""
    if re.search(r"embedding:\S", text):
        raise CannotExpress("prompt", RUNG, "ComfyUI reads `embedding:` as the name of a file, in any syntax")
    return re.sub(r"([()])", r"\\\1", text) if syntax == "plain" else text


def unescape(text: str) -> tuple[str, str]:
    """(prompt, syntax) of a text in ComfyUI: plain where every parenthesis is escaped."""
    if re.search(r"(?<!\\)[()]", text):
        return text, "weighted"
    return re.sub(r"\\([()])", r"\1", text), "plain"


def hint(title: str, **said: Any) -> str:
    """A title with what cannot be seen from the node: `hint("KSampler", spacing="trailing")`."""
    words = ", ".join(f"{key}={quote(str(value), safe='/ ._-')}" for key, value in said.items())
    return f"{title} · {words}" if words else title


def hints(title: str) -> dict[str, str]:
    """What `hint` wrote; of any other title nothing."""
    pairs = (pair.partition("=") for pair in title.rpartition(" · ")[2].split(", "))
    return {key: unquote(value) for key, equals, value in pairs if equals}
