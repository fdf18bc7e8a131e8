"""The judge, on renders it has never seen."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from chapter38.postcards import VOCABULARY, Scene, judge, judging_scenes

SCENES = [*judging_scenes(901, 300), *judging_scenes(902, 60, held_out=True)]


@pytest.fixture(scope="module")
def renders() -> list[Image.Image]:
    return [scene.picture() for scene in SCENES]


@pytest.fixture(scope="module")
def right(renders: list[Image.Image]) -> dict[str, np.ndarray]:
    return judge.agreement(renders, SCENES)


@pytest.mark.parametrize("name", ["object", "colour", "sky", "ground", "place"])
def test_it_reads_renders(right: dict[str, np.ndarray], name: str) -> None:
    assert right[name].mean() >= 0.99


def test_it_reads_blurred_and_noisy_renders_and_knows_how_sure_it_is(renders: list[Image.Image]) -> None:
    rng = np.random.default_rng(0)
    spoiled = []
    for image in renders:
        pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1.2)), float) + rng.normal(0, 10, (128, 128, 3))
        spoiled.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    agreement = judge.agreement(spoiled, SCENES)
    sure = [judge.adherence(image, scene) for image, scene in zip(spoiled, SCENES, strict=True)]
    for name in ("object", "colour", "sky", "ground", "place"):
        assert agreement[name].mean() >= 0.97
        claimed = np.mean([s[name] for s in sure])
        assert abs(claimed - agreement[name].mean()) < 0.05


def test_adherence_falls_when_the_scene_says_something_else(renders: list[Image.Image]) -> None:
    scene, image = SCENES[0], renders[0]
    other = next(o for o in VOCABULARY["object"] if o != scene.object)
    assert judge.adherence(image, scene)["object"] > 0.9 > 0.1 > judge.adherence(image, scene.but(object=other))["object"]


def test_it_takes_pictures_of_any_size_and_mode() -> None:
    scene = Scene("balloon", "blue", size="big")
    large = scene.picture().resize((512, 512), Image.Resampling.LANCZOS).convert("RGBA")
    assert judge.adherence(large, scene)["object"] > 0.9
    assert judge.features([large, large]).shape == (2, judge.FEATURES)


def test_probabilities_sum_to_one(renders: list[Image.Image]) -> None:
    for attribute in judge.read(renders[:1])[0].values():
        assert sum(attribute.values()) == pytest.approx(1, abs=1e-5)
