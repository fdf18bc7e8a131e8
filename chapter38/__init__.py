"""Chapter 38: one Recipe climbs a three-rung ladder (Code, Canvas, Call) and leaves every rung as the same Picture."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chapter38.errors import CannotExpress, Chapter38Error
    from chapter38.picture import Picture, Receipt
    from chapter38.recipe import Recipe

_HOME = {
    "Recipe": "recipe", "Picture": "picture", "Receipt": "picture", "CannotExpress": "errors", "Chapter38Error": "errors",
}  # fmt: skip
__all__ = ["CannotExpress", "Chapter38Error", "Picture", "Receipt", "Recipe", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'chapter38' has no attribute {name!r}")
    return getattr(import_module(f"chapter38.{_HOME[name]}"), name)
