"""What the tests of adapters share: a tiny model taken apart, and random LoRAs for it."""

from pathlib import Path

import numpy as np
import tiny
import torch

from chapter38.code import adapters, lorafile
from chapter38.code.denoise import walk
from chapter38.code.lorafile import Lora, Low
from chapter38.code.parts import Parts
from chapter38.code.shapes import Base
from chapter38.code.weightfile import Tensor
from chapter38.recipe import Recipe

RECIPE = Recipe(prompt="a red boat", negative="a cat", seed=3, steps=3, width=64, height=64)


def parts() -> Parts:
    return Parts(tiny.sd(), "tiny")


def base(of: Parts | None = None) -> Base:
    return adapters.base_of(of or parts())


def random_lora(on: Base, seed: int = 0, every: int = 1, ranks: tuple[int, ...] = (2,), size: float = 0.3) -> Lora:
    """A LoRA with entries of about `size` on every `every`-th module; ranks and alphas drawn from a few."""
    rng, lora = np.random.default_rng(seed), {}
    for place, module in list(on.modules.items())[seed % every :: every]:
        rank = int(rng.choice(ranks))
        down, up = (rank, *module.shape[1:]), (module.shape[0], rank, *(1 for _ in module.shape[2:]))
        alpha = float(rng.choice([0.5, 1, 2, 3]))
        lora[place] = Low(Tensor.of(size * rng.normal(size=down)), Tensor.of(size * rng.normal(size=up)), alpha)
    return lora


def lora_file(folder: Path, on: Base, seed: int = 0, spelling: str = "peft", **options: object) -> str:
    return str(lorafile.save(random_lora(on, seed, **options), folder / f"{spelling}{seed}.safetensors", spelling, on))  # type: ignore[arg-type]


def latents(of: Parts, *loras: tuple[str, float], recipe: Recipe = RECIPE) -> torch.Tensor:
    """(1, 4, 8, 8): the last latents of a recipe with these LoRAs."""
    return list(walk(of, [recipe.but(adapters=loras)]))[-1].latent
