"""Two pictures compared pixel by pixel: PSNR, largest difference, agreement of edges."""

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import maximum_filter

MAX_LEVEL = 255


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float64)


def largest_difference(a: Image.Image, b: Image.Image) -> int:
    """Over all pixels and channels, in 1/255. Raises ValueError where the sizes differ."""
    _same_size(a, b)
    return int(np.abs(_array(a) - _array(b)).max())


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio in decibels, at a peak of 255; infinite for equal pictures.

    >>> black, grey = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (51, 51, 51))
    >>> round(psnr(black, grey), 2)
    13.98
    """
    _same_size(a, b)
    error = float(((_array(a) - _array(b)) ** 2).mean())
    return float("inf") if error == 0 else 10 * np.log10(MAX_LEVEL**2 / error)


def edges(image: Image.Image, threshold: float = 9.0) -> Image.Image:
    """The picture's edges as a hint map: white where the blurred lightness changes by more than `threshold`/255 a pixel."""
    colour = _array(image)
    light = Image.fromarray(((colour.max(-1) + colour.mean(-1)) / 2).astype(np.uint8))
    blurred = np.asarray(light.filter(ImageFilter.GaussianBlur(0.8)), np.float64)
    down, across = np.gradient(blurred)
    return Image.fromarray(((np.hypot(down, across) > threshold) * 255).astype(np.uint8))


def edge_agreement(image: Image.Image, hint: Image.Image, tolerance: int = 2) -> float:
    """F1 of the picture's edges against a hint map, each edge pixel right within `tolerance` pixels: 0 … 1."""
    _same_size(image, hint)
    mine, theirs = np.asarray(edges(image)) > 0, np.asarray(hint.convert("L")) > 127
    wide = lambda mask: maximum_filter(mask, 2 * tolerance + 1)  # noqa: E731
    precision = (mine & wide(theirs)).sum() / max(1, mine.sum())
    recall = (theirs & wide(mine)).sum() / max(1, theirs.sum())
    return float(2 * precision * recall / max(1e-9, precision + recall))


def _same_size(a: Image.Image, b: Image.Image) -> None:
    if a.size != b.size:
        raise ValueError(f"expected two pictures of one size, got {a.size} and {b.size}")
