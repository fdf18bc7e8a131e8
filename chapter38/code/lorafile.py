"""LoRA files in every spelling: read into one form, checked against a base, written in another, bit for bit.

A LoRA adds alpha / rank · B·A to a weight W (Hu et al. 2022, arXiv:2106.09685, section 4.1). What differs in the wild is
how A ("down"), B ("up") and alpha are named, and where alpha is kept.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chapter38.code.shapes import Base, Module
from chapter38.code.weightfile import Header, Tensor, read_header, write
from chapter38.errors import AdapterError, nearest

METADATA_KEY = "lora_adapter_metadata"  # where Diffusers keeps PEFT's config, alpha among it
SUFFIXES = {  # ending of a key -> (what it holds, who writes it so)
    ".lora_A.weight": ("down", "peft"), ".lora_B.weight": ("up", "peft"),
    ".lora_A.default.weight": ("down", "peft"), ".lora_B.default.weight": ("up", "peft"),
    ".lora_down.weight": ("down", "kohya"), ".lora_up.weight": ("up", "kohya"), ".lora_mid.weight": ("mid", "kohya"),
    ".lora.down.weight": ("down", "diffusers"), ".lora.up.weight": ("up", "diffusers"),
    "_lora.down.weight": ("down", "diffusers"), "_lora.up.weight": ("up", "diffusers"),
    ".lora_linear_layer.down.weight": ("down", "diffusers"), ".lora_linear_layer.up.weight": ("up", "diffusers"),
    ".alpha": ("alpha", "kohya"), ".dora_scale": ("dora", "kohya"),
    ".lora_magnitude_vector": ("dora", "peft"), ".lora_magnitude_vector.weight": ("dora", "peft"),
    **{f".{part}": (part, "lycoris") for part in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
        "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    )},
}  # fmt: skip
KINDS = {  # what a part gives away, beyond a plain LoRA
    "dora": "DoRA", "mid": "LoCon with a Tucker core", "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr", "lokr_w1_a": "LoKr", "lokr_w2": "LoKr",
}  # fmt: skip
MAX_PATTERNS = 5_000
SPELLINGS = ("peft", "kohya", "comfyui")
_TEXT = {"text_encoder": ("lora_te", "lora_te1"), "text_encoder_2": ("lora_te2",)}
_CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
_LONGEST_FIRST = sorted(SUFFIXES, key=len, reverse=True)


@dataclass(frozen=True)
class Low:
    """A LoRA on one module. down (rank, in, …), up (out, rank, …), `alpha` the effective one: scale is alpha / rank."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self) -> np.ndarray:
        """alpha / rank · B·A, float32, in the shape of the weight it is added to."""
        down, up = self.down.numpy(), self.up.numpy()
        product = up.reshape(up.shape[0], -1).astype(np.float32) @ down.reshape(self.rank, -1).astype(np.float32)
        return (self.alpha / self.rank * product).reshape(up.shape[0], *down.shape[1:])


Lora = dict[tuple[str, str], Low]  # (component, Diffusers' name of the module) -> its Low


def split(key: str) -> tuple[str, str | None]:
    """(the module's part of a key, its ending from SUFFIXES or None)."""
    for suffix in _LONGEST_FIRST:
        if key.endswith(suffix):
            return key[: -len(suffix)], suffix
    return key, None


def names(module: Module) -> Iterable[str]:
    """Every spelling of a module's name that adapter files use."""
    component, name, original = module.component, module.name, module.original
    flat, old = name.replace(".", "_"), original.replace(".", "_")
    if component == "unet":
        processor = name.replace(".to_", ".processor.to_").removesuffix(".0") if ".to_" in name else name
        yield from (f"unet.{name}", f"unet.{processor}", processor, f"base_model.model.{name}")
        yield from (f"lora_unet_{flat}", f"lora_unet_{old}", f"lycoris_{flat}", f"diffusion_model.{original}")
    else:
        yield from (f"{component}.{name}", f"{component}.text_model.{name}")
        yield from (f"{prefix}_text_model_{flat}" for prefix in _TEXT[component])
        yield f"text_encoders.{_CLIP[component]}.transformer.text_model.{name}"


def lookup(base: Base) -> dict[str, Module]:
    """Every spelling -> the module of the base."""
    return {spelling: module for module in base.modules.values() for spelling in names(module)}


def load(path: "os.PathLike[str] | str", base: Base) -> Lora:
    """Read a LoRA made for `base`, whatever its spelling.

    Raises AdapterError on a pickle, a broken file, NaN or infinite values, rank zero, halves without their other half,
    DoRA, LoHa and LoKr, and on a LoRA made for another base (with both shapes).
    """
    header = read_header(path)
    where, table = Path(path).name, lookup(base)
    found: dict[str, dict[str, str]] = {}
    for key in header.tensors:
        stem, suffix = split(key)
        part = SUFFIXES[suffix][0] if suffix else "unknown"
        found.setdefault(stem, {})[part] = key
    _refuse(where, header, found, table, base)
    config = config_of(header)
    lora: Lora = {}
    for stem, keys in found.items():
        module = table[stem]
        down, up = header.read(keys["down"]), header.read(keys["up"])
        alpha = scalar(header, keys["alpha"]) if "alpha" in keys else alpha_of(config, module, down.shape[0])
        lora[module.component, module.name] = Low(down, up, alpha)
    _finite(where, lora)
    return lora


def save(lora: Lora, path: "os.PathLike[str] | str", spelling: str, base: Base) -> Path:
    """Write a LoRA as "peft" (what Diffusers saves), "kohya" or "comfyui"; A and B keep their bytes, alpha its value."""
    if spelling not in SPELLINGS:
        raise AdapterError(f"unknown spelling {spelling!r}; {nearest(spelling, SPELLINGS)}")
    tensors: dict[str, Tensor] = {}
    for place, low in lora.items():
        stem = _stem(base.modules[place], spelling)
        if spelling == "peft":
            tensors |= {f"{stem}.lora_A.weight": low.down, f"{stem}.lora_B.weight": low.up}
        else:
            tensors |= {f"{stem}.lora_down.weight": low.down, f"{stem}.lora_up.weight": low.up}
            tensors[f"{stem}.alpha"] = Tensor.of(np.array(low.alpha))
    metadata = {"format": "pt"} | ({METADATA_KEY: json.dumps(_config(lora), sort_keys=True)} if spelling == "peft" else {})
    return write(path, tensors, metadata)


def convert(source: "os.PathLike[str] | str", target: "os.PathLike[str] | str", spelling: str, base: Base) -> Path:
    """Read a LoRA in any spelling and write it in another."""
    return save(load(source, base), target, spelling, base)


def _stem(module: Module, spelling: str) -> str:
    if module.component != "unet":
        return {
            "peft": f"{module.component}.text_model.{module.name}",
            "kohya": f"{_TEXT[module.component][0]}_text_model_{module.name.replace('.', '_')}",
            "comfyui": f"text_encoders.{_CLIP[module.component]}.transformer.text_model.{module.name}",
        }[spelling]
    return {
        "peft": f"unet.{module.name}",
        "kohya": f"lora_unet_{module.name.replace('.', '_')}",
        "comfyui": f"diffusion_model.{module.original}",
    }[spelling]


def _config(lora: Lora) -> dict[str, Any]:
    """PEFT's config of each component, with the commonest rank and alpha, and patterns where a module has others."""
    config: dict[str, Any] = {}
    for component in dict.fromkeys(component for component, _ in lora):
        config |= {f"{component}.{key}": value for key, value in peft_config(lora, component).items()}
    return config


def peft_config(lora: Lora, component: str) -> dict[str, Any]:
    """Arguments of `peft.LoraConfig` for one component of a LoRA."""
    lows = {name: low for (where, name), low in lora.items() if where == component}
    ranks, alphas = {n: low.rank for n, low in lows.items()}, {n: low.alpha for n, low in lows.items()}
    rank, alpha = _usual(ranks.values()), _usual(alphas.values())
    return {
        "r": rank, "lora_alpha": alpha, "target_modules": sorted(lows),
        "rank_pattern": {f"^{re.escape(n)}": r for n, r in sorted(ranks.items()) if r != rank},
        "alpha_pattern": {f"^{re.escape(n)}": a for n, a in sorted(alphas.items()) if a != alpha},
    }  # fmt: skip


def _usual(values: Iterable[Any]) -> Any:
    """The commonest value; of two as common, the smaller."""
    return min(Counter(values).items(), key=lambda item: (-item[1], item[0]))[0]


def config_of(header: Header) -> dict[str, Any]:
    """PEFT's config from a file's metadata, {} where there is none. Raises AdapterError where it is no JSON object."""
    try:
        config = json.loads(header.metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise AdapterError(f"{header.path.name}: its metadata {METADATA_KEY} is no JSON object, so alpha is unknown")
    return config


def alpha_of(config: dict[str, Any], module: Module, rank: int) -> float:
    """The effective alpha of a PEFT file: from its metadata, by name where one fits; the rank where there is none.

    PEFT allows regular expressions as names; those that say more than a name are refused, since a file's author could
    choose one that never ends. Raises AdapterError on these, and on what is no number.
    """

    def get(key: str, default: Any) -> Any:
        return config.get(f"{module.component}.{key}", config.get(key, default))

    try:
        named = dict(get("alpha_pattern", None) or {})
        if len(named) > MAX_PATTERNS:
            raise ValueError(f"{len(named)} patterns of alpha; at most {MAX_PATTERNS} are read")
        fitting = [float(value) for pattern, value in named.items() if _means(pattern, module.name)]
        alpha = fitting[0] if fitting else float(get("lora_alpha", rank))
    except (TypeError, ValueError) as error:
        raise AdapterError(f"the adapter's metadata cannot be read: {str(error)[:120]}") from None
    return alpha * math.sqrt(rank) if get("use_rslora", False) else alpha  # rank-stabilised: alpha / √rank


def _means(pattern: str, name: str) -> bool:
    """Whether a name in PEFT's sense, such as `^unet\\.conv_in`, `conv_in` or `.*conv_in`, is this module's."""
    plain = pattern.removeprefix("^").removeprefix(".*").removesuffix("$").replace("\\", "")
    if not re.fullmatch(r"[\w.-]{1,300}", plain):
        raise ValueError(f"{pattern[:60]!r} says more than a name")
    return name == plain or (not pattern.startswith("^") and name.endswith(f".{plain.removeprefix('.')}"))


def scalar(header: Header, key: str) -> float:
    """The one number that a tensor such as an alpha holds. Raises AdapterError where it holds more, or fewer."""
    if math.prod(header.tensors[key].shape) != 1:
        raise AdapterError(f"{header.path.name}: {key[:90]} should hold one number; its shape is {header.tensors[key].shape}")
    return float(header.read(key).numpy().reshape(())[()])


def _refuse(
    where: str, header: Header, found: dict[str, dict[str, str]], table: dict[str, Module], base: Base
) -> None:  # fmt: skip
    """Everything that can be told without reading a tensor."""
    if header.kind != "safetensors" or not found:
        raise AdapterError(f"{where}: expected a LoRA in a safetensors file, found {header.kind} with {len(found)} modules")
    for stem, keys in found.items():
        if odd := [part for part in keys if part in KINDS]:
            raise AdapterError(
                f"{where}: is a {KINDS[odd[0]]} ({keys[odd[0]][:90]}), not a plain LoRA; ComfyUI loads most of these"
            )
        if not {"down", "up"} <= set(keys):
            raise AdapterError(
                f"{where}: {next(iter(keys.values()))[:90]}: no LoRA, or half of one; expected A and B of a module"
            )
        _fits(where, stem, header.tensors[keys["down"]].shape, header.tensors[keys["up"]].shape, table, base)


def _fits(where: str, stem: str, down: tuple[int, ...], up: tuple[int, ...], table: dict[str, Module], base: Base) -> None:
    if stem not in table:
        raise AdapterError(f"{where}: {stem[:90]} is no module of {base.name}; `chapter38 inspect` says what it was made for")
    if len(down) not in (2, 4) or len(down) != len(up) or 0 in down or 0 in up or up[1] != down[0]:
        raise AdapterError(f"{where}: {stem[:90]}: A {down} and B {up} do not multiply, or the rank is zero")
    made = (up[0], *down[1:])
    if made != table[stem].shape:
        raise AdapterError(
            f"{where}: made for another base: {stem[:90]} changes a weight of shape {made}, "
            f"in {base.name} it has {table[stem].shape}"
        )


def _finite(where: str, lora: Lora) -> None:
    for (_, name), low in lora.items():
        if not all(np.isfinite(t.numpy()).all() for t in (low.down, low.up)) or not math.isfinite(low.alpha):
            raise AdapterError(f"{where}: {name}: holds NaN or infinite values; the training that made it diverged")
