"""Chapter 38: one Recipe climbs a three-rung ladder (Code, Canvas, Call) and leaves every rung as the same Picture."""

from typing import TYPE_CHECKING, Any, Literal

from chapter38.lazy import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chapter38.errors import CannotExpress, Chapter38Error
    from chapter38.ladder import Needs, advise
    from chapter38.picture import Picture, Receipt
    from chapter38.recipe import Recipe

__all__ = ["CannotExpress", "Chapter38Error", "Needs", "Picture", "Receipt", "Recipe", "__version__", "advise", "draw"]

__getattr__ = lazy(__name__, {
    "Recipe": "recipe", "Picture": "picture", "Receipt": "picture", "CannotExpress": "errors",
    "Chapter38Error": "errors", "Needs": "ladder", "advise": "ladder",
})  # fmt: skip


def draw(recipe: "Recipe", rung: Literal["code", "canvas", "call"] = "code", **options: Any) -> "Picture":
    """Draw a recipe on one rung of the ladder: the same recipe gives the same picture on each.

    The picture also carries the recipe as a ComfyUI workflow. `options` go to that rung's own `draw`.

    >>> draw(Recipe(prompt="a red boat")).save("boat.png")  # doctest: +SKIP
    """
    from importlib import import_module

    from chapter38.errors import RecipeError, nearest

    if rung not in ("code", "canvas", "call"):
        raise RecipeError(f"unknown rung {rung!r}; {nearest(rung, ('code', 'canvas', 'call'))}")
    from chapter38.canvas.metadata import with_workflow

    return with_workflow(import_module(f"chapter38.{rung}").draw(recipe, **options))
