"""Pictures held against renders: distance from a style's inks, and the object that is shown in it."""

import numpy as np
import pytest

from chapter38.measure.renders import nearest_object, to_inks
from chapter38.postcards import judging_scenes
from chapter38.postcards.drawing import STYLES, stylise

SCENES = judging_scenes(seed=77, count=6)


@pytest.mark.parametrize("style", STYLES)
def test_renders_in_a_style_are_near_its_inks_and_others_far(style: str) -> None:
    plain = [scene.picture() for scene in SCENES]
    inside = to_inks([stylise(picture, style) for picture in plain], style)
    assert inside.shape == (len(SCENES),) and inside.max() < 4 < 20 < to_inks(plain, style).min()


def test_half_way_into_the_style_is_half_way_there() -> None:
    from PIL import Image

    plain = SCENES[0].picture()
    way = [Image.blend(plain, stylise(plain, "chalk"), share) for share in (0.0, 0.5, 1.0)]
    assert np.all(np.diff(to_inks(way, "chalk")) < 0)


@pytest.mark.parametrize("style", [None, "chalk"])
def test_the_object_is_recognised_in_its_style(style: str | None) -> None:
    pictures = [stylise(s.picture(), style) if style else s.picture() for s in SCENES]
    seen = [nearest_object(picture, scene, 2, style) == scene.object for picture, scene in zip(pictures, SCENES, strict=True)]
    assert np.mean(seen) > 0.8
    wrong = [
        nearest_object(p, s.but(object="cat" if s.object != "cat" else "car"), 2, style)
        for p, s in zip(pictures, SCENES, strict=True)
    ]
    assert np.mean([name == s.object for name, s in zip(wrong, SCENES, strict=True)]) > 0.8
