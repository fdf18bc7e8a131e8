"""Verdict: right, wrong or open, and why; what every check of an exercise returns."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

_MARKS = {True: ("✓", "Right", "#00694a"), False: ("✗", "Not yet", "#a33b00"), None: ("○", "Open", "#444444")}


@dataclass(frozen=True)
class Verdict:
    """`right` is True, False, or None where there is no answer yet; `why` is for the reader."""

    right: bool | None
    why: str

    def __bool__(self) -> bool:
        return self.right is True

    def __str__(self) -> str:
        mark, word, _ = _MARKS[self.right]
        return f"{mark} {word}: {self.why}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        mark, word, colour = _MARKS[self.right]
        return (
            f'<p style="border-left:4px solid {colour};padding-left:.6em;margin:.3em 0" role="status">'
            f"<b>{mark} {word}.</b> {html.escape(self.why)}</p>"
        )


def exercise(check: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """A check that leaves `...` open and turns an error in the reader's own code into a verdict."""

    @wraps(check)
    def checked(*answers: Any) -> Verdict:
        if any(answer is ... for answer in answers):
            return Verdict(None, "put your answer where the ... stands, and run this cell again.")
        try:
            return check(*answers)
        except Exception as error:  # the reader's code may raise anything
            return Verdict(False, f"your answer raised {type(error).__name__}: {error}")

    return checked


def guess(mine: Any, measured: float, unit: str, why: str, within: float = 0.15) -> Verdict:
    """Hold a prediction against a measurement; `within` is the relative difference that still counts as right.

    >>> guess(2, 4.0, "times", "the error falls with the square of the step.")
    ✗ Not yet: you said 2 times, measured 4 times: the error falls with the square of the step.
    """
    shown = f"measured {measured:.4g} {unit}: {why}"
    if mine is ... or mine is None:
        return Verdict(None, f"no prediction was made. {shown[0].upper()}{shown[1:]}")
    if isinstance(mine, bool) or not isinstance(mine, (int, float)):
        return Verdict(False, f"a prediction is a number, not {mine!r}. {shown[0].upper()}{shown[1:]}")
    return Verdict(abs(mine - measured) <= within * abs(measured), f"you said {mine:.4g} {unit}, {shown}")
