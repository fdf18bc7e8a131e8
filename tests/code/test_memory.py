"""Memory: what weights take, what offloading changes and what it does not."""

import pytest
import tiny
import torch

from chapter38.code import memory
from chapter38.code.denoise import denoise
from chapter38.code.parts import Parts
from chapter38.errors import ModelError
from chapter38.recipe import Recipe

RECIPE = Recipe(prompt="a red boat", steps=2, width=64, height=64)


def test_weights_are_counted_as_loaded():
    parts = Parts(tiny.sd())
    full = memory.weight_bytes(parts)
    parameters = sum(p.numel() for p in parts.denoiser.parameters())
    assert full["unet"] == memory.estimate(parameters, "float32")
    parts.pipeline.to(torch.float16)
    assert memory.weight_bytes(parts) == {name: size // 2 for name, size in full.items()}


def test_offloading_changes_no_pixel():
    plain = list(denoise(Parts(tiny.sd()), RECIPE))[-1].latent
    parts = Parts(tiny.sd())
    memory.offload(parts, onload="cpu")
    assert torch.equal(list(denoise(parts, RECIPE))[-1].latent, plain)


def test_what_cannot_fit_is_refused_with_both_sizes():
    memory.require("tiny", 1, "cpu")
    with pytest.raises(ModelError, match=r"big: its weights take 1048576\.0 GiB, this machine's CPU has"):
        memory.require("big", 2**50, "cpu")


def test_peak_is_at_least_what_is_held():
    block = torch.ones(2**22)
    assert memory.peak("cpu") > block.numel() * 4
    assert 0 < memory.free("cpu")


def test_a_half_precision_vae_that_overflows_decodes_in_float32():
    parts = Parts(tiny.sdxl().to(torch.float16))
    assert parts.to_pixels(torch.randn(1, 4, 8, 8).half()).dtype == torch.float32
