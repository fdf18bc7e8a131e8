"""LoRA files: three spellings there and back by arithmetic, and everything that cannot be used refused with the reason."""

import dataclasses
import json
from pathlib import Path

import adapting
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chapter38.code import lorafile, shapes
from chapter38.code.lorafile import METADATA_KEY, Low, convert, load, save
from chapter38.code.weightfile import Tensor, read_header, write
from chapter38.errors import AdapterError

POSTCARDS = shapes.base("postcards")
SPELLINGS = st.sampled_from(lorafile.SPELLINGS)


def test_the_modules_of_known_bases_are_those_of_the_real_classes() -> None:
    from diffusers import UNet2DConditionModel

    attended = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    real = {
        "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
        "sd21": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
        "sdxl": {
            "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
            "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
            "addition_embed_type": "text_time", "up_block_types": attended,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    }  # fmt: skip
    for name, config in real.items():
        with torch.device("meta"):
            unet = UNet2DConditionModel(**config)
        kinds = (torch.nn.Linear, torch.nn.Conv2d)
        theirs = {key: tuple(m.weight.shape) for key, m in unet.named_modules() if isinstance(m, kinds)}
        assert {m.name: m.shape for m in shapes.base(name).modules.values() if m.component == "unet"} == theirs
    parts = adapting.parts()
    for component, model in (("unet", parts.denoiser), ("text_encoder", parts.pipeline.text_encoder)):
        for (where, module), row in adapting.base(parts).modules.items():
            if where == component:
                prefix = "text_model." if hasattr(model, "text_model") else ""
                assert tuple(model.get_submodule(prefix + module).weight.shape) == row.shape


@given(st.integers(0, 10_000), SPELLINGS, SPELLINGS)
@settings(max_examples=25, deadline=None)
def test_there_and_back_without_loss(tmp_path_factory: pytest.TempPathFactory, seed: int, one: str, other: str) -> None:
    folder = tmp_path_factory.mktemp("c")
    lora = adapting.random_lora(POSTCARDS, seed, every=1 + seed % 5, ranks=(1, 2, 4))
    first = save(lora, folder / "a", one, POSTCARDS)
    there = convert(first, folder / "b", other, POSTCARDS)
    back = convert(there, folder / "c", one, POSTCARDS)
    assert back.read_bytes() == first.read_bytes()
    read = load(there, POSTCARDS)
    assert read.keys() == lora.keys()
    for place, low in read.items():  # by the arithmetic: alpha / rank · B·A
        mine = lora[place]
        a, b = (t.numpy().reshape(len(t.numpy()), -1) for t in (mine.down, mine.up))
        np.testing.assert_array_equal(low.delta().reshape(len(b), -1), np.float32(mine.alpha / mine.rank) * (b @ a))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_a_and_b_keep_their_bytes_in_any_precision(tmp_path: Path, dtype: str) -> None:
    place, module = next(iter(POSTCARDS.modules.items()))
    width = 4 if dtype == "F32" else 2

    def raw(*shape: int) -> Tensor:
        values = np.random.default_rng(1).integers(0, 60, int(np.prod(shape)) * width, np.uint8)
        return Tensor(dtype, shape, values.tobytes())

    low = Low(raw(2, *module.shape[1:]), raw(module.shape[0], 2), 1.5)
    for spelling in lorafile.SPELLINGS:
        assert load(save({place: low}, tmp_path / "x", spelling, POSTCARDS), POSTCARDS)[place] == low


def test_kohya_s_original_block_names_are_read(tmp_path: Path) -> None:
    lora = adapting.random_lora(POSTCARDS, every=3)
    tensors = {}
    for (component, name), low in lora.items():
        if component == "unet":
            stem = "lora_unet_" + POSTCARDS.modules[component, name].original.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": low.down, f"{stem}.lora_up.weight": low.up}
            tensors[f"{stem}.alpha"] = Tensor("F16", (), np.float16(low.alpha).tobytes())
    read = load(write(tmp_path / "k.safetensors", tensors, {}), POSTCARDS)
    assert read == {place: low for place, low in lora.items() if place[0] == "unet"}


@pytest.mark.parametrize(
    ("metadata", "alpha"),
    [
        ({}, 4.0),  # none: the rank, a scale of 1
        ({"unet.lora_alpha": 2}, 2.0),
        ({"lora_alpha": 3}, 3.0),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"conv_in": 8}}, 8.0),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"in": 8}}, 2.0),
        ({"unet.lora_alpha": 2, "unet.use_rslora": True}, 4.0),  # 2 / √4 = 4 / 4
    ],
)
def test_peft_s_alpha_comes_from_its_metadata(tmp_path: Path, metadata: dict[str, object], alpha: float) -> None:
    module = POSTCARDS.modules["unet", "conv_in"]
    tensors = {
        "unet.conv_in.lora_A.weight": Tensor.of(np.ones((4, *module.shape[1:]))),
        "unet.conv_in.lora_B.weight": Tensor.of(np.ones((module.shape[0], 4, 1, 1))),
    }
    path = write(tmp_path / "p.safetensors", tensors, {METADATA_KEY: json.dumps(metadata)})
    assert load(path, POSTCARDS)["unet", "conv_in"].alpha == alpha


@pytest.mark.parametrize(
    "metadata",
    [
        {"lora_alpha": []},
        {"alpha_pattern": {"(a+)+$": 1}},
        {"alpha_pattern": 3},
        {"alpha_pattern": {f"m{i}": 1 for i in range(5_001)}},
    ],
)
def test_hostile_metadata_is_refused_at_once(metadata: dict[str, object]) -> None:
    with pytest.raises(AdapterError, match="metadata cannot be read"):
        lorafile.alpha_of(metadata, POSTCARDS.modules["unet", "conv_in"], 4)


@pytest.mark.parametrize(
    ("pattern", "fits"), [("conv1", True), (r"^mid_block\.resnets\.0\.conv1", True), (".*conv1$", True), ("onv1", False)]
)
def test_names_in_patterns_mean_what_peft_means(pattern: str, fits: bool) -> None:
    from peft.utils.other import get_pattern_key

    name = "mid_block.resnets.0.conv1"
    module = POSTCARDS.modules["unet", name]
    assert (lorafile.alpha_of({"alpha_pattern": {pattern: 9}}, module, 4) == 9) is fits
    assert (get_pattern_key([pattern], name) == pattern) is fits


PLACE = ("unet", "conv_in")


def spoiled(folder: Path, **change: object) -> Path:
    low = dataclasses.replace(adapting.random_lora(POSTCARDS)[PLACE], **change)  # type: ignore[arg-type]
    return save({PLACE: low}, folder / "spoiled.safetensors", "kohya", POSTCARDS)


def filled(shape: tuple[int, ...], value: float = 1.0) -> Tensor:
    return Tensor.of(np.full(shape, value))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"down": filled((2, 4, 3, 3), float("nan"))}, "NaN or infinite"),
        ({"up": filled((64, 2, 1, 1), float("inf"))}, "NaN or infinite"),
        ({"alpha": float("nan")}, "NaN or infinite"),
        ({"down": filled((0, 4, 3, 3)), "up": filled((64, 0, 1, 1))}, "the rank is zero"),
        ({"up": filled((64, 3, 1, 1))}, "do not multiply"),
        ({"down": filled((2, 8, 3, 3))}, r"another base.*\(64, 8, 3, 3\).*\(64, 4, 3, 3\)"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        load(spoiled(tmp_path, **change), POSTCARDS)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("lora_unet_conv_in.hada_w1_a", "LoHa"),
        ("lora_unet_conv_in.lokr_w1", "LoKr"),
        ("lora_unet_conv_in.lora_mid.weight", "Tucker"),
        ("lora_unet_conv_in.dora_scale", "DoRA"),
        ("lora_unet_conv_out.lora_down.weight", "half of one"),
        ("transformer.blocks.0.lora_A.weight", "half of one"),
        ("conv_in.weight", "no LoRA"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, key: str, says: str) -> None:
    header = read_header(spoiled(tmp_path))
    tensors = {name: header.read(name) for name in header.tensors} | {key: filled((1, 1))}
    with pytest.raises(AdapterError, match=says):
        load(write(tmp_path / "x.safetensors", tensors, {}), POSTCARDS)


def test_a_name_that_the_base_does_not_have_is_refused(tmp_path: Path) -> None:
    tensors = {f"unet.attic.lora_{half}.weight": filled((1, 1)) for half in "AB"}
    with pytest.raises(AdapterError, match=r"unet\.attic is no module of postcards"):
        load(write(tmp_path / "x.safetensors", tensors, {}), POSTCARDS)
