"""Every error the package raises on purpose: one tree, each message says what was expected, what came, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class Chapter38Error(Exception):
    """The root of the tree; catch this to catch all of ours."""


class RecipeError(Chapter38Error, ValueError):
    """A recipe says something that makes no sense."""


class MetadataError(Chapter38Error, ValueError):
    """A picture's metadata is absent, broken, or too large to read safely."""


class ModelError(Chapter38Error):
    """A model cannot be loaded: unknown, absent, corrupt, gated, or too large for this machine."""


class AdapterError(ModelError):
    """A LoRA or ControlNet cannot be used: wrong base, wrong format, broken file."""


class GraphError(Chapter38Error, ValueError):
    """A workflow cannot be parsed or run; the message names the node."""


class ProviderError(Chapter38Error):
    """A hosted model refused, failed, or could not be reached."""


class MissingExtra(Chapter38Error, ImportError):
    """A part of the package needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional part: pip install 'chapter38[{extra}]'")


class CannotExpress(Chapter38Error):
    """A rung cannot honour a field of the recipe.

    Attributes: field (the recipe's field), rung ("code", "canvas", "call" or a provider), why (one sentence).
    """

    def __init__(self, field: str, rung: str, why: str) -> None:
        self.field, self.rung, self.why = field, rung, why
        super().__init__(f"{rung} cannot express {field}: {why}")


def nearest(word: str, known: Iterable[str]) -> str:
    """The tail of an error message: the closest known word, or the list of them.

    >>> nearest("eular", ["euler", "heun"])
    "did you mean 'euler'?"
    """
    known = list(known)
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "expected one of: " + ", ".join(known)
