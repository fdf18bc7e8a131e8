"""Workflows priced: samplers by their seconds, partner nodes by their list price, an unknown part makes it unknown."""

from datetime import date
from decimal import Decimal as D

import pytest

from chapter38.call import price
from chapter38.call.cost import seconds_on
from chapter38.call.prices import known_hardware
from chapter38.canvas import Graph

ON = date(2026, 11, 24)


def sdxl(**sampler):
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 1, "steps": 30, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["1", 0], "latent_image": ["2", 0], "positive": ["1", 1], "negative": ["1", 1], **sampler}},
    }  # fmt: skip


def quote(prompt, gpu="A10"):
    return price(Graph.from_api(prompt), gpu=gpu, as_of=ON)


def test_a_sampler_costs_its_seconds():
    seconds = seconds_on("sdxl", "A10", ON).mid
    hour = known_hardware("usd_hour", ON, gpu="A10")[0].value
    assert quote(sdxl()).usd == seconds * hour / 3600
    assert abs(quote(sdxl(steps=60)).usd - 2 * quote(sdxl()).usd) < D("1e-20")


def test_a_second_pass_counts_its_own_size_and_denoise():
    prompt = sdxl()
    prompt["4"] = {"class_type": "LatentUpscaleBy", "inputs": {
        "samples": ["3", 0], "upscale_method": "nearest-exact", "scale_by": 2.0}}  # fmt: skip
    prompt["5"] = {**prompt["3"], "inputs": {**prompt["3"]["inputs"], "latent_image": ["4", 0], "denoise": 0.5}}
    one, both = quote(sdxl()), quote(prompt)
    assert abs(both.usd - 3 * one.usd) < D("1e-20")  # 1 + four times the pixels at half the steps
    assert len(both.lines) == 2 and both.lines[1].what.startswith("node 5")


def test_partner_nodes_cost_their_list_price():
    prompt = sdxl()
    prompt["9"] = {"class_type": "FluxProUltraImageNode", "inputs": {"prompt": "a boat"}}
    assert quote(prompt).usd == quote(sdxl()).usd + D("0.06")
    gemini = {"1": {"class_type": "GeminiImageNode", "inputs": {"prompt": "x", "model": "gemini-2.5-flash-image"}}}
    assert quote(gemini, gpu=None).usd == D("0.039")


@pytest.mark.parametrize(
    ("prompt", "gpu", "says"),
    [
        (sdxl(), None, "a card"),
        (sdxl(latent_image=["7", 0]), "A10", "pixels"),
        (sdxl(model=["7", 0]), "A10", "a model that was timed"),
        (sdxl(), "T4", "no dated"),
        ({"1": {"class_type": "KlingTextToVideoNode", "inputs": {}}}, "A10", "partner"),
        ({"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}}}, "A10", "neither"),
    ],
    ids=["no card", "no size", "no model", "no rate", "partner", "nothing"],
)
def test_an_unknown_part_makes_the_whole_unknown(prompt, gpu, says):
    found = quote(prompt, gpu)
    assert found.usd is None and any(says in warning for warning in found.warnings)
