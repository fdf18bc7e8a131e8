"""The doctor: what a weight file is, which base it was made for, and which keys will not load, held against Diffusers itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import adapting
import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from chapter38.cli import app
from chapter38.code import lorafile, shapes
from chapter38.code.examine import describe, diffusers, examine
from chapter38.code.lorafile import Lora, lookup
from chapter38.code.shapes import Base
from chapter38.code.weightfile import Tensor, read_header, write
from chapter38.errors import AdapterError

POSTCARDS = shapes.base("postcards")


def empty(shape: tuple[int, ...], dtype: str = "F16") -> Tensor:
    return Tensor(dtype, shape, b"\0" * (int(np.prod(shape)) * {"F16": 2, "F8_E4M3": 1, "F32": 4}[dtype]))


def lora(folder: Path, base: Base, stem: Callable[[shapes.Module], str], down: str, up: str, only: str = "") -> Path:
    """A rank-4 LoRA of zeros on the modules whose name holds `only`."""
    tensors = {}
    for module in base.modules.values():
        if only in module.name and (module.component == "unet" or not only):
            tensors[stem(module) + down] = empty((4, *module.shape[1:]))
            tensors[stem(module) + up] = empty((module.shape[0], 4, *(1 for _ in module.shape[2:])))
    return write(folder / "lora.safetensors", tensors, {})


def flat(module: shapes.Module) -> str:
    return "lora_unet_" + module.name.replace(".", "_")


def original(module: shapes.Module) -> str:
    return "lora_unet_" + module.original.replace(".", "_")


KOHYA = (".lora_down.weight", ".lora_up.weight")
PEFT = (".lora_A.weight", ".lora_B.weight")


@pytest.mark.parametrize("name", ["postcards", "sd15", "sd21", "sdxl"])
def test_the_base_is_told_by_shapes(tmp_path: Path, name: str) -> None:
    path = lora(tmp_path, shapes.base(name), original if name == "sdxl" else flat, *KOHYA, only="attn2.to_k")
    report = examine(path)
    assert (report.base, report.kind, report.spelling, report.ranks.keys()) == (name, "LoRA", "kohya", {4})


def test_bases_that_a_file_cannot_tell_apart_are_both_named(tmp_path: Path) -> None:
    assert examine(lora(tmp_path, shapes.base("sd15"), flat, *KOHYA, only="attn1")).base == "sd15 or sd21"


@pytest.mark.parametrize(
    ("stem", "base"),
    [
        ("transformer.single_transformer_blocks.0.attn.to_q", "FLUX.1 or another of its shape"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "FLUX.1 or another of its shape"),
        ("transformer.transformer_blocks.3.attn.add_q_proj", "SD3 or another joint transformer"),
        ("diffusion_model.blocks.7.cross_attn.k", "Wan or another video transformer"),
    ],
)
def test_transformers_are_told_by_names(tmp_path: Path, stem: str, base: str) -> None:
    tensors = {stem + half: empty((4, 4)) for half in PEFT}
    assert examine(write(tmp_path / "x.safetensors", tensors, {})).base == base


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".dora_scale", "DoRA"), (".lora_magnitude_vector", "DoRA"), (".hada_w1_a", "LoHa"), (".lokr_w1", "LoKr")],
)
def test_kinds(tmp_path: Path, suffix: str, kind: str) -> None:
    tensors = {f"lora_unet_conv_in{end}": empty((4, 4)) for end in (*KOHYA, suffix)}
    report = examine(write(tmp_path / "x.safetensors", tensors, {}))
    assert report.kind == kind


@pytest.mark.parametrize(
    ("key", "shape", "kind", "base"),
    [
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (320, 768), "checkpoint", "sd15"),
        ("model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", (640, 2048), "checkpoint", "sdxl"),
        ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", (640, 1024), "U-Net (Diffusers", "sd21"),
        ("controlnet_cond_embedding.conv_in.weight", (16, 3, 3, 3), "ControlNet (Diffusers", None),
        ("decoder.up_blocks.0.resnets.0.conv1.weight", (8, 8), "autoencoder", None),
        ("text_model.encoder.layers.0.mlp.fc1.weight", (8, 8), "CLIP text encoder", None),
        ("double_blocks.0.img_attn.qkv.weight", (8, 8), "transformer of FLUX's shape", None),
        ("something.weight", (1,), "unknown", None),
    ],
)
def test_other_weight_files(tmp_path: Path, key: str, shape: tuple[int, ...], kind: str, base: str | None) -> None:
    report = examine(write(tmp_path / "x.safetensors", {key: empty(shape)}, {}))
    assert report.kind.startswith(kind) and report.base == base and report.will_not_load == {}


def test_fp8(tmp_path: Path) -> None:
    tensors = {"double_blocks.0.a.weight": empty((8, 8), "F8_E4M3"), "double_blocks.0.a.scale_weight": empty((1,), "F32")}
    report = examine(write(tmp_path / "x.safetensors", tensors, {}))
    assert report.precisions == {"F8_E4M3": 1, "F32": 1} and "fp8, with scales" in report.notes[0]


def test_the_shipped_model_s_own_files() -> None:
    from chapter38.postcards import WEIGHTS

    report = examine(WEIGHTS / "unet" / "diffusion_pytorch_model.safetensors")
    assert (report.kind, report.base) == ("U-Net (Diffusers layout)", "postcards")


SPELLED: dict[str, Callable[[Lora, Base, Path], Path]] = {
    name: lambda lows, base, path, name=name: lorafile.save(lows, path, name, base)  # type: ignore[misc]
    for name in lorafile.SPELLINGS
}


def spelled(stem: Callable[[shapes.Module], str | None], ends: tuple[str, str]) -> Callable[[Lora, Base, Path], Path]:
    def make(lows: Lora, base: Base, path: Path) -> Path:
        tensors = {}
        for place, low in lows.items():
            if name := stem(base.modules[place]):
                tensors |= {name + ends[0]: low.down, name + ends[1]: low.up}
        return write(path, tensors, {})

    return make


SPELLED["original blocks"] = spelled(lambda m: original(m) if m.component == "unet" else None, KOHYA)
SPELLED["PEFT itself"] = spelled(lambda m: f"base_model.model.{m.name}" if m.component == "unet" else None, PEFT)
SPELLED["Diffusers before PEFT"] = spelled(
    lambda m: f"unet.{m.name}" if m.component == "unet" else None, (".lora.down.weight", ".lora.up.weight")
)


@pytest.mark.parametrize("name", SPELLED)
def test_what_diffusers_will_not_load_is_what_it_does_not_load(tmp_path: Path, name: str) -> None:
    from peft.tuners.lora import LoraLayer

    parts = adapting.parts()
    base = adapting.base(parts)
    lows = adapting.random_lora(base)
    header = read_header(SPELLED[name](lows, base, tmp_path / "x.safetensors"))
    found: dict[str, dict[str, str]] = {}
    for key in header.tensors:
        stem, suffix = lorafile.split(key)
        found.setdefault(stem, {})[lorafile.SUFFIXES[suffix][0] if suffix else "whole"] = key
    loss = diffusers(header, found, base)
    lost = {key for keys in loss.keys.values() for key in keys}
    if loss.verdict.startswith("refuses"):
        with pytest.raises(ValueError, match="lora"):
            parts.pipeline.load_lora_weights(header.path)
        return
    parts.pipeline.load_lora_weights(header.path, adapter_name="x")
    arrived = set()
    for component, model in (("unet", parts.pipeline.unet), ("text_encoder", parts.pipeline.text_encoder)):
        for module, layer in model.named_modules():
            if isinstance(layer, LoraLayer) and "x" in layer.lora_A:
                low, values = lows[component, module.removeprefix("text_model.")], layer.lora_A["x"].weight.detach().numpy()
                if np.array_equal(values, low.down.numpy()):
                    arrived.add((component, module.removeprefix("text_model.")))
    table = lookup(base)
    assert arrived == {(table[s].component, table[s].name) for s, keys in found.items() if not lost & set(keys.values())}


def test_comfyui_skips_peft_s_attention_keys_and_no_others(tmp_path: Path) -> None:
    path = lorafile.save(adapting.random_lora(POSTCARDS), tmp_path / "x.safetensors", "peft", POSTCARDS)
    skipped = [key for keys in examine(path).will_not_load["comfyui"].keys.values() for key in keys]
    assert skipped and all(key.startswith("unet.") and ".to_" in key for key in skipped)
    assert len(skipped) == len([key for key in read_header(path).tensors if key.startswith("unet.") and ".to_" in key])
    for spelling in ("kohya", "comfyui"):
        other = lorafile.convert(path, tmp_path / "y.safetensors", spelling, POSTCARDS)
        assert examine(other).will_not_load["comfyui"].verdict == "loads all of it"


def test_the_remedy_for_keys_that_comfyui_skips_is_a_command_that_mends_them(tmp_path: Path) -> None:
    path = lorafile.save(adapting.random_lora(POSTCARDS), tmp_path / "x.safetensors", "peft", POSTCARDS)
    run = lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    lines = run("inspect", path).stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("comfyui with"))
    assert lines[at + 2].startswith("    remedy: chapter38 convert ") and str(path) in lines[at + 2]
    words = lines[at + 2].partition("chapter38 ")[2].replace("for_comfyui", f"{tmp_path}/for_comfyui").split()
    assert run(*words).exit_code == 0
    mended = run("inspect", tmp_path / "for_comfyui.safetensors").stdout
    assert "comfyui with postcards: loads all of it" in mended and "remedy" not in mended


def test_held_against_another_model_every_clash_is_named(tmp_path: Path) -> None:
    path = lora(tmp_path, shapes.base("sd15"), flat, *KOHYA)
    report = examine(path, "sd21")
    assert report.against == "sd21" and any("another shape" in why for why in report.will_not_load["diffusers"].keys)
    with pytest.raises(AdapterError, match="'sd51' are not known"):
        examine(path, "sd51")


def test_of_a_transformers_lora_it_says_that_the_verdict_is_unknown(tmp_path: Path) -> None:
    stem = "transformer.single_transformer_blocks.0.attn.to_q"
    tensors = {f"{stem}.lora_A.weight": empty((4, 3072)), f"{stem}.lora_B.weight": empty((3072, 4))}
    report = examine(write(tmp_path / "x.safetensors", tensors, {}))
    assert report.will_not_load == {} and "which keys load is unknown: of the bases, only postcards, " in "\n".join(describe(report))


def test_notes_and_lines_for_a_person(tmp_path: Path) -> None:
    tensors = {
        f"lora_unet_conv_in{end}": shape for end, shape in zip(KOHYA, (empty((0, 4, 3, 3)), empty((64, 0, 1, 1))), strict=True)
    }
    tensors["lora_unet_conv_out.lora_down.weight"] = empty((4, 64, 3, 3))
    report = examine(write(tmp_path / "x.safetensors", tensors, {"ss_base_model_version": "sd_v1"}))
    lines = "\n".join(describe(report))
    for says in ("rank zero", "only one half", "trainer says: base sd_v1", "no alpha is stored", "one half is missing"):
        assert says in lines
    assert json.loads(json.dumps(report.json()))["file"] == "x.safetensors"


def test_it_runs_without_torch(tmp_path: Path) -> None:
    path = lorafile.save(adapting.random_lora(POSTCARDS, every=9), tmp_path / "x.safetensors", "peft", POSTCARDS)
    code = (
        f"import sys; sys.modules['torch'] = None; from chapter38.code.examine import examine; print(examine({str(path)!r}).base)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "postcards"


def test_a_tiny_model_is_no_known_base(tmp_path: Path) -> None:
    base = Base.of("tiny", {"unet": tiny.unet().config})
    assert examine(lora(tmp_path, base, flat, *KOHYA, only="attn2")).base == "a U-Net of a shape that is not known here"
