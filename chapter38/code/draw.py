"""draw(recipe) -> Picture: the Code rung's front door, around the loop by hand."""

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from time import perf_counter
from typing import Any

import torch

from chapter38.code import models, parts as taken
from chapter38.code.denoise import Step, walk
from chapter38.code.parts import Parts
from chapter38.picture import Lock, Meter, Picture, Receipt
from chapter38.recipe import Recipe

LIBRARIES = ("chapter38", "torch", "diffusers", "transformers")
Watch = Callable[[Step], Any]


def draw(recipe: Recipe, *, parts: Parts | None = None, watch: Watch | None = None) -> Picture:
    """Draw one recipe. `parts`: a loaded model to use; `watch` is called with every Step."""
    return draw_many([recipe], parts=parts, watch=watch)[0]


def draw_many(recipes: list[Recipe], *, parts: Parts | None = None, watch: Watch | None = None) -> list[Picture]:
    """Draw recipes in their order; those that differ only in prompt, negative and seed share forward passes."""
    groups: dict[str, list[int]] = {}
    for place, recipe in enumerate(recipes):
        groups.setdefault(pass_key(recipe), []).append(place)
    drawn: dict[int, Picture] = {}
    for places in groups.values():
        drawn.update(zip(places, _pass([recipes[i] for i in places], parts, watch), strict=True))
    return [drawn[i] for i in range(len(recipes))]


def pass_key(recipe: Recipe) -> str:
    """Equal for recipes that can share a forward pass."""
    return recipe.but(prompt="", negative="", seed=0).key


def _pass(recipes: list[Recipe], parts: Parts | None, watch: Watch | None) -> list[Picture]:
    clock = [perf_counter()]
    parts = parts or _loaded(recipes[0].model, recipes[0].vae)
    clock.append(perf_counter())
    step = None
    for step in walk(parts, recipes):
        if watch:
            watch(step)
    assert step is not None
    clock.append(perf_counter())
    pictures = taken.images(parts.to_pixels(step.latent))
    clock.append(perf_counter())
    seconds = dict(zip(("load", "denoise", "decode"), (b - a for a, b in zip(clock, clock[1:], strict=False)), strict=True))
    meter = Meter(seconds=seconds, device=str(parts.device))
    return [
        Picture(image, recipe, Receipt(_lock(parts, recipe), meter))
        for image, recipe in zip(pictures, recipes, strict=True)
    ]


@lru_cache(maxsize=1)
def _loaded(model: str, vae: str | None) -> Parts:
    return models.load(model, vae=vae)


def versions() -> dict[str, str]:
    """Library -> version, of the libraries that decide pixels."""
    from chapter38 import __version__

    return {name: __version__ if name == "chapter38" else metadata.version(name) for name in LIBRARIES} | {
        "python": sys.version.split()[0]
    }


def _lock(parts: Parts, recipe: Recipe) -> Lock:
    return Lock(
        rung="code", model=recipe.model, revision=parts.revision, weights=parts.weights, versions=versions(),
        notes=_notes(recipe),
    )  # fmt: skip


def _notes(recipe: Recipe) -> tuple[str, ...]:
    if recipe.model != "postcards":
        return ()
    from chapter38.postcards.scene import Scene

    unknown = Scene.parse(recipe.prompt).unknown
    words = [f"{word} (did you mean {near}?)" if near else word for word, near in unknown.items()]
    return (f"postcards never learned: {', '.join(words)}",) if words else ()
