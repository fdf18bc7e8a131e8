"""The linear and convolutional modules of a Stable-Diffusion-shaped model, by name and shape, without loading anything.

Every module has two names in the wild: Diffusers' (down_blocks.0.resnets.0.conv1) and the original one (input_blocks.1.0.
in_layers.2), which ComfyUI and kohya's SDXL trainer use.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chapter38.errors import AdapterError, nearest
from chapter38.recipe import models

Row = tuple[str, str, tuple[int, ...]]  # Diffusers' name, the original name, shape of the weight
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_SD = {
    "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "cross_attention_dim": 768,
    "down_block_types": ("CrossAttn", "CrossAttn", "CrossAttn", ""),
}  # fmt: skip
_SDXL = {
    "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "cross_attention_dim": 2048, "use_linear_projection": True,
    "down_block_types": ("", "CrossAttn", "CrossAttn"), "transformer_layers_per_block": (1, 2, 10),
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
KNOWN: dict[str, dict[str, dict[str, Any]]] = {  # what the Hub's own config.json files say of these models
    "sd15": {"unet": _SD, "text_encoder": CLIP_L},
    "sd21": {
        "unet": {**_SD, "cross_attention_dim": 1024, "use_linear_projection": True},
        "text_encoder": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23},
    },
    "sdxl": {
        "unet": _SDXL, "text_encoder": CLIP_L,
        "text_encoder_2": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Module:
    """One module of a base: component ("unet", "text_encoder", …), its two names, the shape of its weight."""

    component: str
    name: str
    original: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Base:
    """A model that adapters are made for: `modules` by (component, Diffusers' name)."""

    name: str
    modules: dict[tuple[str, str], Module]

    @classmethod
    def of(cls, name: str, configs: Mapping[str, Mapping[str, Any]]) -> "Base":
        """From the configs of its components, as Diffusers and Transformers write them."""
        rows = {c: unet_rows(config) if c == "unet" else text_rows(config) for c, config in configs.items()}
        modules = [Module(c, *row) for c, found in rows.items() for row in found]
        return cls(name, {(m.component, m.name): m for m in modules})


def base(name: str) -> Base:
    """The base called `name`: postcards, sd15, sd21, sdxl, or a Diffusers folder. Raises AdapterError for another."""
    folder = Path(__file__).parent.parent / models().get(name, {}).get("folder", "") if name in models() else Path(name)
    if (folder / "unet" / "config.json").is_file():
        return _folder(name, folder)
    if name not in KNOWN:
        raise AdapterError(f"the modules of {name!r} are not known; {nearest(name, [*bases()])}, or a folder in Diffusers layout")
    return Base.of(name, KNOWN[name])


def bases() -> tuple[str, ...]:
    """The names that `base` knows without a download."""
    return ("postcards", *KNOWN)


@cache
def _folder(name: str, folder: Path) -> Base:
    files = {part: folder / part / "config.json" for part in ("unet", "text_encoder", "text_encoder_2")}
    return Base.of(name, {part: json.loads(file.read_text("utf-8")) for part, file in files.items() if file.is_file()})


def unet_rows(config: Mapping[str, Any]) -> Iterator[Row]:
    """Every linear and convolutional module of a UNet2DConditionModel with this config."""
    widths = list(config["block_out_channels"])
    levels, first = len(widths), widths[0]
    layers = _each(config.get("layers_per_block") or 2, levels)
    depths = _each(config.get("transformer_layers_per_block") or 1, levels)
    context = config["cross_attention_dim"]
    crossed = ["CrossAttn" in kind for kind in config["down_block_types"]]
    linear, time = bool(config.get("use_linear_projection")), 4 * first

    def attend(name: str, old: str, width: int, depth: int) -> Iterator[Row]:
        return _attention(name, old, width, depth, context, linear)

    yield "time_embedding.linear_1", "time_embed.0", (time, first)
    yield "time_embedding.linear_2", "time_embed.2", (time, time)
    if pooled := config.get("projection_class_embeddings_input_dim"):
        yield "add_embedding.linear_1", "label_emb.0.0", (time, pooled)
        yield "add_embedding.linear_2", "label_emb.0.2", (time, time)
    yield "conv_in", "input_blocks.0.0", (first, config.get("in_channels", 4), 3, 3)

    skips, at, width = [first], 1, first
    for level in range(levels):
        for layer in range(layers[level]):
            block, old = f"down_blocks.{level}", f"input_blocks.{at}"
            yield from _resnet(f"{block}.resnets.{layer}", f"{old}.0", width, widths[level], time)
            width = widths[level]
            if crossed[level]:
                yield from attend(f"{block}.attentions.{layer}", f"{old}.1", width, depths[level])
            skips, at = [*skips, width], at + 1
        if level < levels - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{at}.0.op", (width, width, 3, 3)
            skips, at = [*skips, width], at + 1

    yield from _resnet("mid_block.resnets.0", "middle_block.0", width, width, time)
    yield from attend("mid_block.attentions.0", "middle_block.1", width, depths[-1])
    yield from _resnet("mid_block.resnets.1", "middle_block.2", width, width, time)

    at = 0
    for up, level in enumerate(reversed(range(levels))):
        for layer in range(layers[level] + 1):
            name, old = f"up_blocks.{up}", f"output_blocks.{at}"
            yield from _resnet(f"{name}.resnets.{layer}", f"{old}.0", width + skips.pop(), widths[level], time)
            width = widths[level]
            if crossed[level]:
                yield from attend(f"{name}.attentions.{layer}", f"{old}.1", width, depths[level])
            if layer == layers[level] and level > 0:
                yield f"{name}.upsamplers.0.conv", f"{old}.{1 + crossed[level]}.conv", (width, width, 3, 3)
            at += 1
    yield "conv_out", "out.2", (config.get("out_channels", 4), first, 3, 3)


def text_rows(config: Mapping[str, Any]) -> Iterator[Row]:
    """The linear modules of a CLIP text encoder's layers; both programs use Transformers' names, without `text_model.`."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {f"self_attn.{p}_proj": (width, width) for p in ("q", "k", "v", "out")}
    shapes |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for layer in range(config["num_hidden_layers"]):
        for part, shape in shapes.items():
            yield f"encoder.layers.{layer}.{part}", f"encoder.layers.{layer}.{part}", shape


def _resnet(name: str, old: str, inputs: int, outputs: int, time: int) -> Iterator[Row]:
    yield f"{name}.conv1", f"{old}.in_layers.2", (outputs, inputs, 3, 3)
    yield f"{name}.time_emb_proj", f"{old}.emb_layers.1", (outputs, time)
    yield f"{name}.conv2", f"{old}.out_layers.3", (outputs, outputs, 3, 3)
    if inputs != outputs:
        yield f"{name}.conv_shortcut", f"{old}.skip_connection", (outputs, inputs, 1, 1)


def _attention(name: str, old: str, width: int, depth: int, context: int, linear: bool) -> Iterator[Row]:
    through = (width, width) if linear else (width, width, 1, 1)
    yield f"{name}.proj_in", f"{old}.proj_in", through
    for k in range(depth):
        for part, shape in _block(width, context):
            yield f"{name}.transformer_blocks.{k}.{part}", f"{old}.transformer_blocks.{k}.{part}", shape
    yield f"{name}.proj_out", f"{old}.proj_out", through


def _block(width: int, context: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for attention, seen in (("attn1", width), ("attn2", context)):
        yield f"{attention}.to_q", (width, width)
        yield f"{attention}.to_k", (width, seen)
        yield f"{attention}.to_v", (width, seen)
        yield f"{attention}.to_out.0", (width, width)
    yield "ff.net.0.proj", (8 * width, width)
    yield "ff.net.2", (width, 4 * width)


def _each(value: Any, count: int) -> list[int]:
    return [value] * count if isinstance(value, int) else list(value)
