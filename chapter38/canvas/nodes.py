"""Facts of ComfyUI's nodes: inputs, types, ranges, the order of widgets. They come from a real server's /object_info.

Refresh them with `python -m chapter38.canvas.nodes refresh --server http://127.0.0.1:8188`.
"""

import argparse
import json
import urllib.request
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

VIRTUAL = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}  # in the editor only; a server never sees them
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
CONTROL = "control_after_generate"
UI_ONLY = {CONTROL: "fixed", "upload": "image"}  # widgets that the editor adds, with the value an export gives them
FOLDERS = {
    "ckpt_name": "checkpoints", "model_path": "diffusers", "vae_name": "vae", "lora_name": "loras",
    "control_net_name": "controlnet", "unet_name": "diffusion_models", "clip_name": "text_encoders",
    "clip_name1": "text_encoders", "clip_name2": "text_encoders", "clip_name3": "text_encoders",
    "model_name": "upscale_models", "image": "input",
}  # fmt: skip
"""Inputs whose list of values is a folder of the server's, so no fact of the node."""


@dataclass(frozen=True)
class Input:
    """One input of a node: `options` where it is a list to choose from; None where it has no default or bounds."""

    name: str
    type: str
    required: bool = True
    default: Any = None
    least: float | None = None
    most: float | None = None
    options: tuple[Any, ...] | None = None
    control: bool = False
    upload: bool = False
    grows: bool = False

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGETS


@dataclass(frozen=True)
class Kind:
    """What is known of one class of node."""

    type: str
    title: str
    category: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]
    is_output: bool = False

    @property
    def widgets(self) -> tuple[str, ...]:
        """Names of `widgets_values` in the editor's order, with the widgets that only the editor has.

        They end at an input that `grows` more of them, depending on its value.
        """
        names: list[str] = []
        for field in self.inputs:
            if field.is_widget:
                names += [field.name, *([CONTROL] if field.control else [])]
            if field.grows:
                return tuple(names)
        return tuple(names + ["upload"] * any(field.upload for field in self.inputs))

    def input(self, name: str) -> Input | None:
        return next((field for field in self.inputs if field.name == name), None)


@cache
def kinds() -> dict[str, Kind]:
    """Every class of node that `nodes.json` knows, by its type."""
    rows = json.loads((files("chapter38.canvas") / "nodes.json").read_text("utf-8"))["nodes"]
    return {name: _kind(name, row) for name, row in rows.items()}


@cache
def sockets() -> frozenset[str]:
    """Every type that some node gives, and a link can carry."""
    return frozenset(type for row in kinds().values() for _, type in row.outputs if not type.startswith("COMFY_"))


def kind(type: str) -> Kind | None:
    """The facts of one class of node; None where it is unknown, which is no error."""
    return kinds().get(type)


def _kind(name: str, row: dict[str, Any]) -> Kind:
    inputs = tuple(
        Input(field, type, **{**options, **({"options": tuple(options["options"])} if "options" in options else {})})
        for field, type, options in row["inputs"]
    )
    outputs = tuple((str(label), str(type)) for label, type in row["outputs"])
    return Kind(name, row["title"], row["category"], inputs, outputs, row.get("is_output", False))


def distil(info: dict[str, Any]) -> dict[str, Any]:
    """One class of a server's /object_info as a row of nodes.json. Lists of files stay out: they are the server's."""
    inputs = []
    for section in ("required", "optional"):
        names = info.get("input_order", {}).get(section) or info["input"].get(section, {})
        inputs += [_distil_input(name, info["input"][section][name], section == "required") for name in names]
    labels = info.get("output_name") or info["output"]
    outputs = [[label, t if isinstance(t, str) else "COMBO"] for label, t in zip(labels, info["output"], strict=True)]
    row = {"title": info.get("display_name") or info["name"], "category": info["category"], "inputs": inputs}
    return {**row, "outputs": outputs, **({"is_output": True} if info.get("output_node") else {})}


def _distil_input(name: str, spec: list[Any], required: bool) -> list[Any]:
    type, told = spec[0], spec[1] if len(spec) > 1 else {}
    keep: dict[str, Any] = {} if required else {"required": False}
    choices = type if isinstance(type, list) else told.get("options")
    if choices is not None:
        grown = any(isinstance(choice, dict) for choice in choices)  # a choice that brings widgets of its own
        choices = [choice["key"] if isinstance(choice, dict) else choice for choice in choices]
        keep.update({} if name in FOLDERS else {"options": choices, **({"grows": True} if grown else {})})
        type = "COMBO"
    names = {"default": "default", "min": "least", "max": "most", CONTROL: "control", "image_upload": "upload"}
    keep.update({ours: told[theirs] for theirs, ours in names.items() if told.get(theirs) is not None})
    keep.pop("default", None) if name in FOLDERS else None
    return [name, type, keep]


def refresh(server: str, path: Path) -> int:
    """Rewrite nodes.json from a running server; its own nodes only, none that calls a paid API. Returns their count."""

    def get(route: str) -> Any:
        with urllib.request.urlopen(server.rstrip("/") + route, timeout=60) as answer:
            return json.load(answer)

    version = get("/system_stats")["system"]["comfyui_version"]
    return write(get("/object_info"), version, path)


def write(info: dict[str, Any], version: str, path: Path) -> int:
    """Write the rows of an /object_info answer, one line a node."""
    core = {
        name: distil(row) for name, row in sorted(info.items())
        if not row.get("api_node") and str(row.get("python_module", "nodes")).split(".")[0] in ("nodes", "comfy_extras")
    }  # fmt: skip
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in core.items())
    path.write_text(f'{{"source": "/object_info of ComfyUI {version}", "nodes": {{\n{lines}\n}}}}\n', "utf-8")
    return len(core)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chapter38.canvas.nodes", description=__doc__)
    parser.add_argument("do", choices=["refresh"])
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="address of a running ComfyUI")
    here = Path(__file__).with_name("nodes.json")
    print(f"{refresh(parser.parse_args().server, here)} nodes written to {here.name}")


if __name__ == "__main__":
    main()
