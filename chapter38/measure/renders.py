"""Pictures held against renders: how far they are from a style's inks, and which object they show in it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from chapter38.postcards.drawing import STYLES, stylise
from chapter38.postcards.scene import NEW_OBJECTS, VOCABULARY, Scene


def to_inks(images: Sequence[Image.Image], style: str) -> np.ndarray:
    """(N,) the mean distance, in levels of 255, of a picture's pixels from the line through the style's inks: 0 is pure style."""
    inks = np.array(STYLES[style], float)
    steps = np.linspace(0, 1, 9)[:, None]
    line = np.concatenate([a * (1 - steps) + b * steps for a, b in pairwise(inks)])
    flat = [_small(image, 64).reshape(-1, 1, 3) for image in images]
    return np.array([np.sqrt(((f - line) ** 2).sum(-1)).min(1).mean() for f in flat])


def nearest_object(image: Image.Image, scene: Scene, seeds: int = 6, style: str | None = None) -> str:
    """Which object a picture shows, by the nearest of fresh renders of the same scene with each object, in `style` or plain."""
    mine = _small(image, 32)
    renders = {
        name: [_render(scene.but(object=name, seed=1_000 + k), style) for k in range(seeds)]
        for name in (*VOCABULARY["object"], *NEW_OBJECTS)
    }
    return min(renders, key=lambda name: min(((mine - render) ** 2).mean() for render in renders[name]))


def _render(scene: Scene, style: str | None) -> np.ndarray:
    picture = scene.picture()
    return _small(stylise(picture, style) if style else picture, 32)


def _small(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX), float)
