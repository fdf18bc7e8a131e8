"""Checks of lesson 38.5: which repair, an honest interval, the chance of finishing within a budget, a delivery."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from scipy.stats import binom

from chapter38.check.verdict import Verdict, exercise
from chapter38.measure.estimate import share
from chapter38.postcards.scene import Scene
from chapter38.show.delivery import RECEIPTS, problems

REPAIRS = {
    "sky": ("classical", "all that the scratch hides stands beside it, and nothing needs to be invented"),
    "boat": ("generative", "nothing beside the hole says 'boat'; the caption does, and any boat will do"),
    "court": ("neither", "whatever fills it was not there; a court must see that something is missing"),
    "unknown": ("neither", "a fill would be an invention that the archive keeps as a fact"),
}
FIRST = (7, 12)  # right at the first draw, of the lesson's twelve
POOLED = (12, 20)  # right of all draws
CLOSE = 0.06  # other methods of making a 95 % interval differ by so much
JOBS: tuple[tuple[str, str, float, int], ...] = (
    ("1.50", "0.05", 0.7, 12),
    ("1", "0.05", 0.9, 12), ("0.70", "0.05", 0.8, 12), ("0.3", "0.1", 0.5, 2), ("0.60", "0.05", 0.97, 12),
    ("0.2", "0.05", 0.9, 5), ("2", "0.003", 0.05, 20), ("0.10", "0.10", 0.25, 1),
)  # fmt: skip
"""(budget, USD a draw, share right, motifs); floats lose a draw of 0.70 / 0.05 and of 0.3 / 0.1."""


@exercise
def check_repair(answer: Mapping[str, Any]) -> Verdict:
    """Which repair for which damage, and for which client."""
    if any(answer.get(name, ...) is ... for name in REPAIRS):
        return Verdict(None, "put a word where each ... stands, and run this cell again.")
    known = ("classical", "generative", "neither")
    if odd := [name for name in REPAIRS if answer[name] not in known]:
        return Verdict(False, f"{odd[0]}: expected one of {', '.join(known)}, got {answer[odd[0]]!r}.")
    wrong = [name for name in REPAIRS if answer[name] != REPAIRS[name][0]]
    if not wrong:
        return Verdict(True, f"{REPAIRS['sky'][1]}; {REPAIRS['boat'][1]}; {REPAIRS['court'][1]}.")
    if {"court", "unknown"} & set(wrong):
        name = next(name for name in ("court", "unknown") if name in wrong)
        return Verdict(False, f"{name}: ask who will look at it, and what they will take it for.")
    if wrong == ["boat"] and answer["boat"] == "classical":
        return Verdict(False, "boat: where would the film get a boat from?")
    return Verdict(False, f"{wrong[0]}: ask what the pixels beside the damage know, and what they do not.")


@exercise
def check_honest(answer: Any) -> Verdict:
    """The interval of the share that the model draws right, from verdicts among which somebody chose."""
    low, high = (float(end) for end in answer)
    if not 0 <= low < high <= 1:
        return Verdict(False, f"expected (low, high) between 0 and 1, got ({low:.3g}, {high:.3g}).")
    near = lambda of: abs(low - of.low) < CLOSE and abs(high - of.high) < CLOSE  # noqa: E731
    if near(share(_flags(*FIRST))):
        return Verdict(
            True, "the first draws, before anybody chose: seven of twelve. The interval is wide, and that is the finding."
        )
    if near(share(_flags(*POOLED))):
        return Verdict(True, "all draws count, the wrong ones too. (The first draws alone, 7 of 12, are as right, and wider.)")
    if near(share(_flags(12, 12))):
        return Verdict(False, "that is the share after choosing: drawn until right, it is 12 of 12 for any model.")
    if high - low < 0.2:
        return Verdict(False, f"a width of {high - low:.2f} is too sure for so few pictures; how many verdicts stand behind it?")
    if low < 0.58 < high:
        return Verdict(False, "it holds the right share, but has not the width that these verdicts give; which did you count?")
    return Verdict(False, "which verdicts are about the model, and which about the colleague's patience?")


@exercise
def check_budget(chance: Callable[..., Any]) -> Verdict:
    """The probability that all motifs come right within a budget, where every wrong one is drawn again."""
    for budget, usd, right, motifs in JOBS:
        said = float(chance(budget, usd, right, motifs))
        draws = int(Decimal(budget) / Decimal(usd))
        case = f"chance({budget!r}, {usd!r}, {right}, {motifs})"
        if abs(said - _finished(draws, right, motifs)) < 1e-6:
            continue
        if not 0 <= said <= 1:
            return Verdict(False, f"{case} gave {said:.4g}; a probability lies between 0 and 1.")
        if draws > motifs and abs(said - right**motifs) < 1e-6:
            return Verdict(False, f"{case} gave {said:.4f}: that is all right at the first draw, with money left to draw again.")
        if draws < motifs:
            return Verdict(False, f"{case} gave {said:.4f}; the budget pays {draws} draws for {motifs} motifs.")
        if abs(said - _finished(draws - 1, right, motifs)) < 1e-6:
            return Verdict(False, f"{case} gave {said:.4f}: one draw too few. How many pay {usd} out of {budget}, to the cent?")
        if draws // motifs and abs(said - (1 - (1 - right) ** (draws // motifs)) ** motifs) < 1e-6:
            return Verdict(False, f"{case} gave {said:.4f}: that gives every motif the same number of draws; here one that "
                           "is right leaves its share to the others.")  # fmt: skip
        if abs(said - (1 - (1 - right) ** draws)) < 1e-6:
            return Verdict(False, f"{case} gave {said:.4f}: that is the chance of one right draw; {motifs} are needed.")
        return Verdict(False, f"{case} gave {said:.4f}. {draws} draws are paid; how many of them must be right?")
    return Verdict(True, f"right on {len(JOBS)} jobs, among them one that no money can finish.")


@exercise
def check_delivery(folder: Any) -> Verdict:
    """A folder of at least three different pictures in one look that can be held to account."""
    if not isinstance(folder, (str, os.PathLike)) or not Path(folder).is_dir():
        return Verdict(False, f"expected a folder that deliver(...) has written, got {folder!r}.")
    if found := problems(Path(folder)):
        return Verdict(False, f"{len(found)} things stand against it; the first: {found[0]}")
    rows = [json.loads(line) for line in (Path(folder) / RECEIPTS).read_text("utf-8").splitlines()]
    recipes: Sequence[dict[str, Any]] = [row["recipe"] for row in rows]
    if len({recipe["prompt"] for recipe in recipes}) < 3:
        return Verdict(False, f"it holds {len(recipes)} pictures; a brief has at least three motifs.")
    looks = {json.dumps(recipe["adapters"]) for recipe in recipes}
    if len(looks) > 1:
        return Verdict(False, f"{len(looks)} different looks; the brief says one: compare the recipes' adapters.")
    strange = [word for recipe in recipes if recipe["model"] == "postcards" for word in _unknown(recipe["prompt"])]
    if strange:
        return Verdict(False, f"this world does not know {', '.join(strange)}; the model drew without hearing it.")
    return Verdict(
        True, f"{len(rows)} pictures in one look, and nothing against them. Now show it to somebody who was not there."
    )


def _unknown(prompt: str) -> list[str]:
    from chapter38.postcards.scene import NEW_OBJECTS

    return [word for word in Scene.parse(prompt).unknown if word not in NEW_OBJECTS]


def _finished(draws: int, right: float, motifs: int) -> float:
    """At least `motifs` right ones among so many draws."""
    return float(binom.sf(motifs - 1, draws, right)) if draws > 0 else 0.0


def _flags(right: int, of: int) -> list[bool]:
    return [True] * right + [False] * (of - right)
