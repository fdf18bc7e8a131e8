"""Files that describe themselves: configuration and tokenizer as JSON in a safetensors header, under one key."""

import json
from pathlib import Path
from typing import Any

KEY = "postcards"
MAX_HEADER = 64 * 2**20


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def header(path: str | Path) -> Any:
    """What the file says of itself under KEY; None where it is not one of ours."""
    if Path(path).suffix != ".safetensors":
        return None
    with Path(path).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return marked(json.loads(file.read(size)).get("__metadata__")) if size <= MAX_HEADER else None


def marked(metadata: dict[str, str] | None) -> Any:
    """The entry of KEY in a safetensors metadata table, parsed; None where there is none."""
    return json.loads(metadata[KEY]) if metadata and KEY in metadata else None


def tensors(path: str | Path) -> dict[str, Any]:
    """The file's tensors by name."""
    import comfy.utils

    return dict(comfy.utils.load_torch_file(str(path), safe_load=True))


def part(all_tensors: dict[str, Any], name: str) -> dict[str, Any]:
    """The tensors of one part, without its prefix: part({"unet.a": t}, "unet") == {"a": t}."""
    return {key[len(name) + 1 :]: value for key, value in all_tensors.items() if key.startswith(name + ".")}
