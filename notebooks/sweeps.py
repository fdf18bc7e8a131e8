"""The measurements that are too long for a lesson: each lesson's are written to chapter38/show/sweeps/, dated.

    python notebooks/sweeps.py            all
    python notebooks/sweeps.py 38_1b      some

Run it again when the bundled weights change: until then the lessons say that earlier weights were measured.
"""

import argparse
import hashlib
import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from chapter38 import Recipe
from chapter38.code import draw_many, load
from chapter38.measure.distance import frechet
from chapter38.measure.estimate import Estimate, bootstrap, share
from chapter38.postcards import WEIGHTS, judge, judging_scenes

TARGET = Path(__file__).resolve().parents[1] / "chapter38/show/sweeps"


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median of `repeats` runs after one that warms up."""
    taken = []
    for _ in range(repeats + 1):
        began = perf_counter()
        call()
        taken.append(perf_counter() - began)
    return round(statistics.median(taken[1:]), 5)


@torch.no_grad()
def parts_and_pixels() -> dict[str, Any]:
    """Seconds of every part of one picture, and of one denoising step in latents and in pixels."""
    from diffusers import UNet2DConditionModel

    parts = load("postcards", device="cpu", dtype=torch.float32)
    unet, words, latents = parts.denoiser, torch.zeros(1, 32, 128), torch.zeros(1, 4, 16, 16)
    in_pixels = UNet2DConditionModel.from_config({**unet.config, "in_channels": 3, "out_channels": 3}).eval()
    canvas, ids = torch.zeros(1, 3, 128, 128), torch.zeros(1, 32, dtype=torch.long)
    return {
        "threads": torch.get_num_threads(),
        "seconds": {
            "text encoder": median_seconds(lambda: parts.encoders[0][1](ids), 21),
            "step in latents": median_seconds(lambda: unet(latents, 500, words), 21),
            "step in pixels": median_seconds(lambda: in_pixels(canvas, 500, words), 5),
            "VAE decoder": median_seconds(lambda: parts.to_pixels(latents), 21),
        },
    }


SAMPLERS = (("ddpm", "trailing"), ("ddim", "trailing"), ("dpmpp_2m", "trailing"))
STEPS = (4, 8, 16)
COUNT = 48
DIRECTIONS = 16


def quality() -> dict[str, Any]:
    """Adherence (all six attributes right) and Fréchet distance to fresh renders, for each sampler and number of steps.

    The distance is taken in the renders' first principal directions: fewer than pictures, so that its bias is small.
    """
    scenes = judging_scenes(seed=381, count=COUNT)
    renders = judge.features([scene.picture() for scene in judging_scenes(seed=382, count=4 * COUNT)])
    _, _, directions = np.linalg.svd(renders - renders.mean(0), full_matrices=False)
    target = renders @ directions[:DIRECTIONS].T
    rows = []
    for (sampler, spacing), steps in product(SAMPLERS, STEPS):
        plan = {"sampler": sampler, "spacing": spacing, "steps": steps}
        recipes = [Recipe(prompt=scene.caption(), seed=i, **plan) for i, scene in enumerate(scenes)]
        images = [p.image for at in range(0, COUNT, 32) for p in draw_many(recipes[at : at + 32])]
        right = share(judge.agreement(images, scenes)["all"])
        seen = judge.features(images) @ directions[:DIRECTIONS].T
        distance = _centred(bootstrap(seen, lambda drawn: frechet(drawn, target), draws=200))
        rows.append({**plan, "pictures": COUNT, "adherence": _three(right), "distance": _three(distance)})
        print(rows[-1], flush=True)
    return {"rows": rows}


def _centred(estimate: Estimate) -> Estimate:
    """The bootstrap's width around the value: resampled pictures repeat, which shifts a distance, and not its spread."""
    half = (estimate.high - estimate.low) / 2
    return replace(estimate, low=max(0.0, estimate.value - half), high=estimate.value + half)


def _three(estimate: Estimate) -> list[float]:
    return [round(float(value), 4) for value in (estimate.value, estimate.low, estimate.high)]


LESSONS = {"38_1a": parts_and_pixels, "38_1b": quality}


def weights() -> str:
    """The first half of the U-Net's SHA-256."""
    return hashlib.sha256((WEIGHTS / "unet/diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()[:32]


def machine() -> str:
    import diffusers

    return f"{platform.machine()} CPU, torch {torch.__version__.split('+')[0]}, diffusers {diffusers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", default=list(LESSONS), help="38_1a, 38_1b; all where none is given")
    torch.set_num_threads(1)
    TARGET.mkdir(exist_ok=True)
    for lesson in parser.parse_args().lessons:
        head = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "unet": weights()}
        text = json.dumps({**head, **LESSONS[lesson]()}, indent=1)
        (TARGET / f"{lesson}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
