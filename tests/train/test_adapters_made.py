"""The makers of the adapters: each runs on a tiny base, leaves weights that load and a card, and its measures can tell."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "code"))
import tiny

from chapter38.code import adapters, lorafile
from chapter38.code.parts import Parts
from chapter38.postcards import judging_scenes
from chapter38.postcards.drawing import stylise
from chapter38.train import card, controlnet, lora


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "SCENES", 3)
    monkeypatch.setattr(lora, "JUDGED", 2)
    monkeypatch.setattr(controlnet, "BATCH", 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", lora.KINDS)
def test_a_lora_is_made_measured_and_loads(name: str, tmp_path: Path) -> None:
    parts = Parts(tiny.sd(), "tiny")
    plan = replace(lora.KINDS[name].plan, steps=2, batch=2)
    path = lora.make_lora(name, tmp_path, parts, plan)
    told = json.loads((tmp_path / "card.json").read_text())
    assert told["sha256"] == {path.name: card.sha256(path)} and len(told["figures"]) >= 4
    assert lorafile.load(path, adapters.base_of(parts)) and not list(tmp_path.glob("checkpoint*"))
    assert told["title"] in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_a_controlnet_is_made_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    def made(folder: Path, stop: int) -> dict[str, torch.Tensor]:
        parts = Parts(tiny.sd(), "tiny")
        before = [p.clone() for p in parts.denoiser.parameters()]
        for _, net in controlnet.train_controlnet(parts, folder, steps=stop, scenes=3):  # noqa: B007
            pass
        assert all(torch.equal(a, b) for a, b in zip(before, parts.denoiser.parameters(), strict=True))
        return dict(net.named_parameters())

    once = made(tmp_path / "a", 2)
    assert any(weight.any() for name, weight in once.items() if name.startswith("controlnet_mid_block"))
    again = made(tmp_path / "b", 2)
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_the_measure_of_style_tells_the_style() -> None:
    plain = [scene.picture() for scene in judging_scenes(3, 6)]
    styled = [stylise(picture, "dusk") for picture in plain]
    assert lora.to_inks(styled, "dusk").max() < 4 < 20 < lora.to_inks(plain, "dusk").min()


def test_the_measure_of_the_subject_tells_the_windmill() -> None:
    scenes = judging_scenes(4, 12)
    guesses = [lora.nearest_object(scene.picture(), scene) == scene.object for scene in scenes]
    mills = [scene.but(object="windmill") for scene in scenes]
    guesses += [lora.nearest_object(mill.picture(), mill) == "windmill" for mill in mills]
    assert np.mean(guesses) > 0.9


def test_a_third_of_the_subject_s_scenes_show_other_objects() -> None:
    shown = [scene.object for scene in lora.windmills(random.Random(1), 30)]
    assert shown.count("windmill") == 20 and len(set(shown)) > 4


def test_the_scenes_of_the_repair() -> None:
    scenes = lora.orange_lighthouses(random.Random(1), 30)
    pairs = [(scene.object, scene.colour) for scene in scenes]
    assert 20 <= pairs.count(("lighthouse", "orange")) < 25 and len(set(pairs)) > 5
