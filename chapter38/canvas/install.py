"""`chapter38 comfyui install`: put the pack and the postcards models where a ComfyUI finds them.

ComfyUI wants one file a model, a LoRA in kohya's names, and guesses an architecture from large shapes. So each file
here carries what it is in its safetensors header, which the pack reads.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chapter38.errors import ModelError

KEY = "postcards"  # the header's entry; `pack/files.py` reads the same
PACK = Path(__file__).with_name("pack")
PARTS = ("unet", "vae", "text_encoder")
LORA = "pytorch_lora_weights.safetensors"
Tensors = dict[str, np.ndarray[Any, Any]]


def install(into: Path, world: Path | None = None) -> Iterator[Path]:
    """Write pack and models into a ComfyUI folder (or its --base-directory); yield every path as it is written.

    `world` is the folder of the postcards weights. Raises ModelError where `into` is no such folder.
    """
    into = Path(into)
    if not into.is_dir() or not any((into / name).is_dir() for name in ("custom_nodes", "models")):
        raise ModelError(f"{into}: expected a ComfyUI folder, one that holds custom_nodes/ or models/")
    world = world or Path(__file__).parents[1] / "postcards" / "weights"
    pack = into / "custom_nodes" / "chapter38_postcards"
    shutil.copytree(PACK, pack, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    yield pack
    for folder, name, write in _models(world):
        target = into / "models" / folder / f"{name}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target)
        yield target


def _models(world: Path) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """(folder in models/, name, what writes the file), of everything in the zoo that ComfyUI has a loader for."""
    yield "checkpoints", "postcards", lambda target: write_checkpoint(world, target)
    for path in sorted(world.glob("vae-*/config.json")):
        yield "vae", path.parent.name, lambda target, path=path: write_part(path.parent, target)  # type: ignore[misc]
    for path in sorted(world.glob("controlnet-*/config.json")):
        kind = path.parent.name.removeprefix("controlnet-")
        yield "controlnet", kind, lambda target, path=path: write_part(path.parent, target)  # type: ignore[misc]
    for path in sorted(world.rglob(LORA)):
        yield "loras", path.parent.name, lambda target, path=path: write_lora(path, target)  # type: ignore[misc]


def write_checkpoint(folder: Path, target: Path) -> None:
    """A Diffusers folder as one file, configurations and tokenizer in its header."""
    configs = {name: _json(folder / name / "config.json") for name in PARTS}
    configs["scheduler"] = _json(folder / "scheduler" / "scheduler_config.json")
    tokenizer = {path.name: path.read_text("utf-8") for path in sorted((folder / "tokenizer").iterdir())}
    tensors = {f"{part}.{name}": value for part in PARTS for name, value in _tensors(folder / part).items()}
    _save(tensors, target, {"configs": configs, "tokenizer": tokenizer})


def write_part(folder: Path, target: Path) -> None:
    """A VAE or ControlNet as one file with its configuration in the header."""
    _save(_tensors(folder), target, {"config": _json(folder / "config.json")})


def write_lora(source: Path, target: Path, base: str = "postcards") -> None:
    """A LoRA of `base`, whatever its spelling, in the names that ComfyUI reads."""
    from chapter38.code import lorafile, shapes

    lorafile.convert(source, target, "kohya", shapes.base(base))


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _tensors(folder: Path) -> Tensors:
    from safetensors.numpy import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: holds no .safetensors; the postcards weights are not where they should be")
    return dict(load_file(files[0]))


def _save(tensors: Tensors, target: Path, told: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(contiguous, target, metadata={"format": "pt", KEY: json.dumps(told, sort_keys=True)})
