"""The doctor for weight files: what a file is, which base it was made for, and which of its keys will not load where.

From the header alone (and the few bytes of each alpha); no torch, and a 100-GB file costs what its header costs.
"""

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chapter38.code import lorafile, shapes
from chapter38.code.lorafile import KINDS, METADATA_KEY, SUFFIXES, split
from chapter38.code.weightfile import Header, Slot, read_header
from chapter38.errors import AdapterError
from chapter38.recipe import models

MAX_CARD = 2**20
MAX_ALPHAS = 20_000  # scalars read beside the header
Parts = dict[str, dict[str, str]]  # stem -> part -> key

# A key that only one kind of file holds -> what it is. The first that fits wins.
FILES: tuple[tuple[str, str], ...] = (
    (r"^model\.diffusion_model\.", "checkpoint, single file (original layout)"),
    (r"^control_model\.|^controlnet_blocks\.", "ControlNet (original layout)"),
    (r"^controlnet_cond_embedding\.", "ControlNet (Diffusers layout)"),
    (r"^(down_blocks|up_blocks)\..*\.(attentions|resnets)\..*", "U-Net (Diffusers layout)"),
    (r"^(diffusion_model\.)?(input_blocks|output_blocks)\.", "U-Net (original layout)"),
    (
        r"^(model\.diffusion_model\.|diffusion_model\.)?double_blocks\.|^single_transformer_blocks\.",
        "transformer of FLUX's shape",
    ),
    (r"^(model\.diffusion_model\.|diffusion_model\.)?joint_blocks\.", "transformer of SD3's shape"),
    (r"^transformer_blocks\.", "transformer (Diffusers layout)"),
    (r"^(decoder|encoder)\.(up|down|mid|conv_in)", "autoencoder"),
    (r"^(text_model\.)?encoder\.layers\.|^text_model\.", "CLIP text encoder"),
    (r"^encoder\.block\.", "T5 text encoder"),
    (r"^blk\.", "language model"),
)
# Names that give a LoRA's base away where it is no U-Net of a known shape.
TRANSFORMERS: tuple[tuple[str, str], ...] = (
    (r"(down|up|input|output|mid|middle)[._]blocks?[._]", "a U-Net of a shape that is not known here"),
    (r"single_transformer_blocks|double_blocks|single_blocks", "FLUX.1 or another of its shape"),
    (
        r"joint_blocks|transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj(?!.*img_mlp)",
        "SD3 or another joint transformer",
    ),
    (r"cross_attn|self_attn.*blocks|blocks[._]\d+[._](self|cross)_attn", "Wan or another video transformer"),
    (r"transformer_blocks|transformer\.", "a transformer"),
)
MISSPELT = "the name is spelled in a way that it does not look for"
SINGLE = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"


@dataclass
class Loss:
    """What one program would not load of a file: `verdict` in a sentence, and the keys with the reason for each kind."""

    verdict: str
    keys: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Report:
    """What `examine` found. `will_not_load` maps program ("diffusers", "comfyui") -> what it leaves out of this file."""

    file: str
    bytes: int
    kind: str
    spelling: str | None
    base: str | None
    against: str | None
    tensors: int
    parameters: int
    precisions: dict[str, int]
    ranks: dict[int, int] = field(default_factory=dict)
    alphas: dict[str, int] = field(default_factory=dict)
    trains: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    will_not_load: dict[str, Loss] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)


def examine(path: "os.PathLike[str] | str", model: str | None = None) -> Report:
    """Say what a weight file is. `model` (a name or a folder) is what it is held against; None: the base it was made for.

    Raises AdapterError on a pickle, a broken file, or an unknown model.
    """
    header = read_header(path)
    found: Parts = {}
    for key in header.tensors:
        stem, suffix = split(key)
        found.setdefault(stem, {})[SUFFIXES[suffix][0] if suffix else "whole"] = key
    adapters = {stem: parts for stem, parts in found.items() if set(parts) - {"whole", "alpha"}}
    report = _adapter(header, found, model) if adapters and header.kind == "safetensors" else _weights(header)
    report.figures = card(header.path.parent).get("figures", {})
    return report


def card(folder: Path) -> dict[str, Any]:
    """The card that stands beside shipped weights (title, date, figures, …), or {} where there is none."""
    try:
        found = json.loads((folder / "card.json").read_bytes()[:MAX_CARD])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def shipped(model: str = "postcards") -> list[dict[str, Any]]:
    """The cards of the adapters that ship with a model: LoRAs and ControlNets."""
    shelf = Path(__file__).parent.parent / models().get(model, {}).get("folder", "nowhere")
    cards = sorted([*shelf.glob("loras/*/card.json"), *shelf.glob("controlnet-*/card.json")])
    return [{"name": path.parent.name, **card(path.parent)} for path in cards]


def _weights(header: Header) -> Report:
    keys = header.tensors
    kind = next((what for pattern, what in FILES if any(re.search(pattern, k) for k in keys)), "unknown")
    report = _report(header, f"{header.kind}: {kind}" if header.kind == "gguf" else kind, None)
    report.base = header.metadata.get("general.architecture") or _base_of_weights(keys)
    return report


def _base_of_weights(keys: dict[str, Slot]) -> str | None:
    """By the width of the text that the cross-attention reads."""
    looked = ["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", *(SINGLE.format(i) for i in (1, 4))]
    widths = [keys[k].shape[1] for k in looked if k in keys and len(keys[k].shape) > 1]
    rows = {shapes.base(name).modules["unet", looked[0][:-7]].shape[1]: name for name in shapes.bases()}
    return rows.get(widths[0]) if widths else None


def _adapter(header: Header, found: Parts, model: str | None) -> Report:
    kinds = {KINDS[part] for parts in found.values() for part in parts if part in KINDS}
    report = _report(header, ", ".join(sorted(kinds)) or "LoRA", _spelling(found))
    made_for = _made_for(header.tensors, found)
    report.base = " or ".join(made_for) or _transformer(found)
    for stem, parts in found.items():
        if "down" in parts and "up" in parts:
            rank = (header.tensors[parts["down"]].shape or (0,))[0]
            report.ranks[rank] = report.ranks.get(rank, 0) + 1
            report.trains[_place(stem)] = report.trains.get(_place(stem), 0) + 1
    try:
        report.alphas = _alphas(header, found, lorafile.config_of(header), made_for)
    except AdapterError as error:
        report.notes.append(f"alpha is unknown: {error}")
    report.notes += _notes(header, found, report)
    if model or made_for:
        base = shapes.base(model or made_for[0])
        report.against = base.name
        report.will_not_load = {"diffusers": diffusers(header, found, base), "comfyui": comfyui(header, found, base)}
    else:
        report.notes.append(f"which keys load is unknown: of the bases, only {', '.join(shapes.bases())} are known to the layer")
    return report


def _report(header: Header, kind: str, spelling: str | None) -> Report:
    slots = header.tensors.values()
    count = sum(_count(slot.shape) for slot in slots)
    precisions = dict(Counter(slot.dtype for slot in slots).most_common())
    report = Report(header.path.name, header.size, kind, spelling, None, None, len(header.tensors), count, precisions)
    report.metadata = {key: value[:500] for key, value in header.metadata.items() if key != METADATA_KEY}
    if any(name.startswith("F8") for name in precisions):
        scaled = any(key.endswith((".scale_weight", ".weight_scale")) or key == "scaled_fp8" for key in header.tensors)
        report.notes.append("fp8, with scales beside the weights" if scaled else "fp8 without scales: cast before it is used")
    return report


def _spelling(found: Parts) -> str:
    """By the prefix of most keys."""
    rows = (
        (r"^lora_(unet|te\d?|transformer)_", "kohya"),
        (r"^(diffusion_model|text_encoders)\.", "comfyui"),
        (r"^lycoris_", "LyCORIS"),
        (r"^base_model\.model\.", "peft, saved by PEFT itself"),
        (r"^(unet|transformer|text_encoder(_2)?)\.", "diffusers"),
    )
    votes = Counter(next((name for pattern, name in rows if re.match(pattern, stem)), "unknown") for stem in found)
    name = votes.most_common(1)[0][0]
    endings = {suffix for parts in found.values() for key in parts.values() if (suffix := split(key)[1])}
    old = not any("lora_A" in ending for ending in endings)
    return {"diffusers": "diffusers, before PEFT" if old else "peft, as Diffusers saves it"}.get(name, name)


def _made_for(tensors: dict[str, Slot], found: Parts) -> list[str]:
    """The known bases that hold every module of this file with its shape; several where the file cannot tell them apart."""
    fits = []
    for name in shapes.bases():
        table = lorafile.lookup(shapes.base(name))
        sized = [(stem, parts) for stem, parts in found.items() if stem in table and {"down", "up"} <= set(parts)]
        if sized and all(_shape(tensors, parts) == table[stem].shape for stem, parts in sized):
            fits.append((len(sized), name))
    most = max((count for count, _ in fits), default=0)
    return [name for count, name in fits if count == most]


def _shape(tensors: dict[str, Slot], parts: dict[str, str]) -> tuple[int, ...]:
    down, up = tensors[parts["down"]].shape, tensors[parts["up"]].shape
    return (*up[:1], *down[1:])


def _transformer(found: Parts) -> str | None:
    text = " ".join(found)
    return next((name for pattern, name in TRANSFORMERS if re.search(pattern, text)), None)


def _alphas(header: Header, found: Parts, config: dict[str, Any], made_for: list[str]) -> dict[str, int]:
    """alpha -> on how many modules: from tensors of its own, else from PEFT's config."""
    if keys := [parts["alpha"] for parts in found.values() if "alpha" in parts]:
        return _tallied(f"{lorafile.scalar(header, key):g}" for key in keys[:MAX_ALPHAS])
    if not config or not made_for:
        return {}
    table = lorafile.lookup(shapes.base(made_for[0]))
    ranks = {table[s]: header.tensors[p["down"]].shape[0] for s, p in found.items() if s in table and "down" in p}
    return _tallied(f"{lorafile.alpha_of(config, module, rank):g}" for module, rank in ranks.items())


def _tallied(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _notes(header: Header, found: Parts, report: Report) -> Iterable[str]:
    if not report.alphas:
        yield "no alpha is stored: both programs then take the rank, a scale of 1"
    halves = [next(iter(parts.values())) for parts in found.values() if ("down" in parts) != ("up" in parts)]
    if halves:
        yield f"{len(halves)} modules have only one half, such as {halves[0][:90]}"
    if 0 in report.ranks:
        yield f"{report.ranks[0]} modules have rank zero: the file is broken"
    if "ss_base_model_version" in header.metadata:
        yield f"its trainer says: base {header.metadata['ss_base_model_version'][:60]}"


def diffusers(header: Header, found: Parts, base: shapes.Base) -> Loss:
    """What `StableDiffusionPipeline.load_lora_weights` (Diffusers 0.42) leaves out or refuses."""
    keys = list(header.tensors)
    flat = all(re.match(r"lora_(te\d?|unet)_", key) for key in keys)
    odd = [key for key in keys if (split(key)[1] or "")[1:5] in ("hada", "lokr") or split(key)[1] == ".lora_mid.weight"]
    if flat and odd:
        return Loss("refuses the whole file: LoHa, LoKr and Tucker cores are unknown to it", {"not A and B": odd})
    if not flat and (strange := [key for key in keys if "lora" not in key]):
        return Loss("refuses the whole file: every key must hold 'lora'", {"not named lora": strange})
    original = base.name == "sdxl"

    def reads(stem: str, module: shapes.Module) -> bool:
        if flat:
            return _flat_name(stem, module, original)
        return stem.startswith(f"{module.component}.") and not stem.startswith("unet.base_model")

    return _losses(header, found, base, reads, {".dora_scale"}, "fails with an error")


def _flat_name(stem: str, module: shapes.Module, original: bool) -> bool:
    """Diffusers guesses dots from underscores, and the original block names only where the pipeline hands it the config."""
    if module.component != "unet":
        return True
    if module.name.startswith("add_embedding") or (not original and re.search(r"(input|output)_blocks|middle_block", stem)):
        return module.name == "conv_in"
    return True


def comfyui(header: Header, found: Parts, base: shapes.Base) -> Loss:
    """What ComfyUI (0.33, `comfy/lora.py`) skips with no more than a line in its log."""

    def reads(stem: str, module: shapes.Module) -> bool:
        if module.component == "unet":
            plain = f"unet.{module.name}"
            return not stem.startswith("base_model.") and (stem != plain or ".to_" not in plain)
        return "text_model" in stem

    return _losses(
        header, found, base, reads, {".lora_magnitude_vector", ".lora_magnitude_vector.weight"}, "skips with an error in its log"
    )


def _losses(
    header: Header, found: Parts, base: shapes.Base, reads: Callable[[str, shapes.Module], bool], unknown: set[str], clash: str
) -> Loss:  # fmt: skip
    table = lorafile.lookup(base)
    lost: dict[str, list[str]] = {}

    def lose(why: str, keys: list[str]) -> None:
        if keys:
            lost.setdefault(why, []).extend(keys)

    for stem, parts in found.items():
        keys = list(parts.values())
        if stem not in table:
            lose(f"no module of {base.name} has this name", keys)
        elif not reads(stem, table[stem]):
            lose(MISSPELT, keys)
        elif {"down", "up"} <= set(parts) and _shape(header.tensors, parts) != table[stem].shape:
            lose(f"another shape than in {base.name}: {clash}", keys)
        elif ("down" in parts) != ("up" in parts):
            lose("one half is missing", keys)
        else:
            lose("not read: magnitudes of DoRA", [key for key in keys if split(key)[1] in unknown])
    count = sum(map(len, lost.values()))
    total = len(header.tensors)
    return Loss("loads all of it" if not count else f"leaves out {'all' if count == total else count} of {total} keys", lost)


def _place(stem: str) -> str:
    """Which part of the model a module belongs to, in words."""
    if re.match(r"(lora_te|text_encoder)", stem):
        return "text encoder"
    if re.search(r"attn|attention", stem):
        return "attention"
    if re.search(r"resnets|in_layers|out_layers|conv", stem):
        return "convolutions"
    return "feed-forward" if re.search(r"[._]ff[._]|mlp", stem) else "other"


def _tally(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{key} (x{count})" if count > 1 else str(key) for key, count in counts.items())


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def describe(report: Report, path: Path | None = None) -> list[str]:
    """The report as lines for a person; with the file's path also the command that respells what ComfyUI does not look for."""
    made = [report.kind + (f", spelled as {report.spelling}" if report.spelling else "")]
    made += [f"made for {report.base}" if report.base else "its base cannot be told from its names and shapes"]
    made += [f"{report.tensors} tensors, {report.parameters:,} parameters, {_tally(report.precisions)}, {report.bytes:,} bytes"]
    made += [f"rank {_tally(report.ranks)}; alpha {_tally(report.alphas) or 'not stored'}"] if report.ranks else []
    made += [f"changes {_tally(report.trains)}"] if report.trains else []
    made += [f"note: {note}" for note in report.notes]
    for program, loss in report.will_not_load.items():
        made.append(f"{program} with {report.against}: {loss.verdict}")
        made += [f"    {len(keys)} keys: {why}; such as {keys[0][:100]}" for why, keys in loss.keys.items()]
        if path and program == "comfyui" and MISSPELT in loss.keys:
            model = "" if str(report.against) in str(report.base) else f" --model {report.against}"
            made.append(f"    remedy: chapter38 convert {shlex.quote(str(path))} -o for_comfyui.safetensors{model}")
    made += [f"measured: {what}: {value}" for what, value in report.figures.items()]
    return made + [f"metadata {key}: {value[:100]}" for key, value in report.metadata.items()]
