"""The measurements that are too long for a lesson: each lesson's are written to chapter38/show/sweeps/, dated.

    python notebooks/sweeps.py            all
    python notebooks/sweeps.py 38_1b      some

Run it again when the bundled weights change: until then the lessons say that earlier weights were measured.
"""

import argparse
import json
import platform
import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from chapter38 import Recipe
from chapter38.code import adapters, draw, draw_many, load, tuning
from chapter38.code.models import sha256
from chapter38.measure.distance import frechet
from chapter38.measure.estimate import Estimate, bootstrap, share
from chapter38.measure.renders import nearest_object, to_inks
from chapter38.postcards import WEIGHTS, judge, judging_scenes
from chapter38.postcards.dataset import sample
from chapter38.postcards.drawing import stylise

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
COUNT = 128
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


RANKS = (1, 2, 8, 32)
STYLE, LEARNED, UNSEEN = "chalk", 30, 32


def ranks_and_merging() -> dict[str, Any]:
    """What a LoRA of each rank leaves of the base's error on unseen pictures in a style, and what one costs while drawing."""
    parts = load("postcards", device="cpu", dtype=torch.float32)
    rows, unseen = [], judging_scenes(seed=383, count=UNSEEN)
    shown = [stylise(scene.picture(), STYLE) for scene in unseen]
    examples = tuning.encode(parts, shown, [scene.caption() for scene in unseen])
    without = errors(parts, examples)
    for rank in RANKS:
        train(parts, rank)
        learned = sum(p.numel() for name, p in parts.denoiser.named_parameters() if ".lora_" in name)
        left = bootstrap(errors(parts, examples) / without)
        recipes = [Recipe(prompt=s.caption(), seed=i, adapters=["learning"]) for i, s in enumerate(unseen)]
        images = [p.image for p in draw_many(recipes, parts=parts)]
        right = share([nearest_object(image, s, 3, STYLE) == s.object for image, s in zip(images, unseen, strict=True)])
        inks = _three(bootstrap(to_inks(images, STYLE)))
        rows.append({"rank": rank, "trained": learned, "error": _three(left), "inks": inks, "object": _three(right)})
        print(rows[-1], flush=True)
        adapters.discard(parts, "learning")
    return {"pictures": UNSEEN, "ranks": rows, "seconds": merging(parts)}


def train(parts: Any, rank: int) -> None:
    """A LoRA of the lesson's plan, called "learning", on its thirty pictures; it stays attached."""
    rng = random.Random(38)
    scenes = [sample(rng) for _ in range(LEARNED)]
    captions = [[scene.varied_caption(rng) for _ in range(4)] for scene in scenes]
    plan = tuning.Plan(rank=rank, alpha=2 * rank, steps=180, batch=16, rate=3e-3)
    for _ in tuning.train_lora(parts, [stylise(s.picture(), STYLE) for s in scenes], captions, plan, name="learning"):
        pass
    adapters.wake(parts, "learning")


@torch.no_grad()
def errors(parts: Any, examples: Any, draws: int = 16) -> np.ndarray:
    """(draws,) the mean squared error of the prediction on all examples, each time with other noise; the same on every call."""
    latents, words = examples.latents, examples.words[:, 0]
    seeded = [torch.Generator().manual_seed(seed) for seed in range(draws)]
    return np.array([tuning.denoising_loss(parts.denoiser, parts.scheduler, latents, words, g).item() for g in seeded])


def merging(parts: Any, rounds: int = 15) -> dict[str, Any]:
    """Processor time of a picture with a LoRA beside the weights and merged into them, over one with none, in turns."""
    plain, recipe = Recipe(prompt="a red sailboat", seed=1), Recipe(prompt="a red sailboat", seed=1, adapters=["dusk"])
    ratios: dict[str, list[float]] = {"beside": [], "merged": []}
    for _ in range(rounds + 1):
        for name, put in (("beside", adapters.attach), ("merged", adapters.merge)):
            adapters.detach(parts)
            alone = processor(lambda: draw(plain, parts=parts))
            put(parts, ["dusk"])
            ratios[name].append(processor(lambda: draw(recipe, parts=parts)) / alone)
    last = {name: values[1:] for name, values in ratios.items()}  # the first of each warms up
    return {"rounds": rounds} | {n: [round(v, 4) for v in (statistics.median(x), min(x), max(x))] for n, x in last.items()}


def processor(call: Callable[[], Any]) -> float:
    began = process_time()
    call()
    return process_time() - began


LESSONS = {"38_1a": parts_and_pixels, "38_1b": quality, "38_1e": ranks_and_merging}


def weights() -> str:
    """The first half of the U-Net's SHA-256."""
    return sha256(WEIGHTS / "unet/diffusion_pytorch_model.safetensors")[:32]


def machine() -> str:
    import diffusers

    return f"{platform.machine()} CPU, torch {torch.__version__.split('+')[0]}, diffusers {diffusers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", default=list(LESSONS), help="such as 38_1a; all where none is given")
    torch.set_num_threads(1)
    TARGET.mkdir(exist_ok=True)
    for lesson in parser.parse_args().lessons:
        head = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "unet": weights()}
        text = json.dumps({**head, **LESSONS[lesson]()}, indent=1)
        (TARGET / f"{lesson}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
