"""draw(recipe) -> Picture: the Code rung's front door, around the loop by hand."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from importlib import metadata
from itertools import pairwise
from time import perf_counter
from typing import Any

from PIL import Image

from chapter38.code import adapters, control, memory, models
from chapter38.code import parts as taken
from chapter38.code.denoise import Step, walk
from chapter38.code.families import FAMILIES
from chapter38.code.parts import Parts
from chapter38.code.quick import quick
from chapter38.code.whole import draw_whole
from chapter38.errors import CannotExpress, RecipeError
from chapter38.picture import Lock, Meter, Picture, Receipt
from chapter38.recipe import Pixels, Recipe

LIBRARIES = ("torch", "diffusers", "transformers", "peft")
Watch = Callable[[Step], Any]


def draw(recipe: Recipe, *, parts: Parts | None = None, watch: Watch | None = None, best_effort: bool = False) -> Picture:
    """Draw one recipe with Diffusers on this machine.

    parts        a loaded model to use; None: the recipe's, kept for the next call
    watch        called with every Step
    best_effort  leave out a field that cannot be honoured, and record it on the receipt, instead of raising
                 CannotExpress
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"draw takes one Recipe, such as Recipe(prompt='a boat'), not {recipe!r:.40}; for several, draw_many")
    given, dropped = recipe, {}
    while True:
        try:
            picture = draw_many([given], parts=parts, watch=watch)[0]
            break
        except CannotExpress as error:
            if not best_effort or error.field in dropped or error.field not in Recipe.model_fields:
                raise
            dropped[error.field] = error.why
            given = _without(given, error.field)
    if not dropped or picture.receipt is None:
        return picture
    lock = picture.receipt.lock.model_copy(update={"not_honoured": dropped})
    return Picture(picture.image, recipe, Receipt(lock, picture.receipt.meter))


def draw_many(recipes: list[Recipe], *, parts: Parts | None = None, watch: Watch | None = None) -> list[Picture]:
    """Draw recipes in their order; those that differ in words, seed and pictures only share a pass.

    A picture that shared a pass may differ from its lone drawing by 1/255; to the bit, draw them one by one.
    """
    groups: dict[str, list[int]] = {}
    for place, recipe in enumerate(recipes):
        groups.setdefault(pass_key(recipe), []).append(place)
    drawn: dict[int, Picture] = {}
    for places in groups.values():
        drawn.update(zip(places, _pass([recipes[i] for i in places], parts, watch), strict=True))
    return [drawn[i] for i in range(len(recipes))]


def pass_key(recipe: Recipe) -> str:
    """Equal for recipes that can share a forward pass."""
    same: dict[str, Any] = {"prompt": "", "negative": "", "seed": 0}
    blank = Pixels(Image.new("L", (1, 1)))
    if recipe.image is not None:  # which picture is free; that there is one, is not
        same |= {"image": blank, "mask": blank if recipe.mask is not None else None}
    same["control"] = [control.model_copy(update={"image": blank}) for control in recipe.control]
    return recipe.but(**same).key


def versions() -> dict[str, str]:
    """Library -> version, of the libraries that decide pixels."""
    from chapter38 import __version__

    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"chapter38": __version__, **found, "python": sys.version.split()[0]}


def lock(parts: Parts, recipe: Recipe) -> Lock:
    """The deterministic half of the receipt for a recipe drawn with these parts."""
    weights = parts.weights | adapters.files(parts) | control.files(parts, recipe)
    return Lock(
        rung="code", model=recipe.model, revision=parts.revision, weights=weights, versions=versions(),
        notes=_notes(recipe),
    )  # fmt: skip


def _pass(recipes: list[Recipe], parts: Parts | None, watch: Watch | None) -> list[Picture]:
    clock = [perf_counter()]
    parts = parts or _loaded(recipes[0].model, recipes[0].vae)
    clock.append(perf_counter())
    walking = 0.0
    if type(parts.pipeline).__name__ in FAMILIES:
        step = None
        # One picture alone is computed as the pipeline computes it, to the bit; those that share a pass, as fast as may be.
        with quick() if len(recipes) > 1 else nullcontext():
            for step in walk(parts, recipes):
                walking += step.seconds
                if watch:
                    watch(step)
        assert step is not None
        clock.append(perf_counter())
        drawn = [image for latent in step.latent.split(1) for image in taken.images(parts.to_pixels(latent))]  # memory of one
    else:
        drawn = [draw_whole(parts, recipe) for recipe in recipes]
        clock.append(perf_counter())
    clock.append(perf_counter())
    seconds = dict(zip(("load", "denoise", "decode"), (b - a for a, b in pairwise(clock)), strict=True))
    if walking:
        seconds |= {"encode": seconds["denoise"] - walking, "denoise": walking}
    meter = Meter(seconds=seconds, peak_bytes=memory.peak(parts.device), device=str(parts.device))
    return [Picture(image, r, Receipt(lock(parts, r), meter)) for image, r in zip(drawn, recipes, strict=True)]


@lru_cache(maxsize=1)
def _loaded(model: str, vae: str | None) -> Parts:
    return models.load(model, vae=vae)


def _without(recipe: Recipe, field: str) -> Recipe:
    """The recipe with a field at its model's own default."""
    fields = {name: getattr(recipe, name) for name in Recipe.model_fields if name != field}
    if field == "image":
        fields |= {"mask": None, "strength": 1.0}
    return Recipe(**fields)


def _notes(recipe: Recipe) -> tuple[str, ...]:
    if recipe.model != "postcards":
        return ()
    from chapter38.postcards.scene import Scene

    unknown = Scene.parse(recipe.prompt).unknown
    words = [f"{word} (did you mean {near}?)" if near else word for word, near in unknown.items()]
    return (f"words this model never learned: {', '.join(words)}",) if words else ()
