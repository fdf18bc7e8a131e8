"""The checks of 38.5 reject typical wrong answers, each with a reason that fits."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scipy.stats import binom

from chapter38 import Picture, Recipe
from chapter38.check import lesson_5 as check
from chapter38.measure.estimate import share
from chapter38.show.delivery import deliver

RIGHT = {name: word for name, (word, _) in check.REPAIRS.items()}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"court": "generative"}, "who will look"),
        ({"unknown": "generative"}, "who will look"),
        ({"boat": "classical"}, "get a boat from"),
        ({"sky": "generative"}, "beside the damage"),
        ({"sky": "neither"}, "beside the damage"),
        ({"sky": "inpainting"}, "expected one of"),
    ],
)
def test_repair(changes: dict[str, str], hint: str) -> None:
    verdict = check.check_repair({**RIGHT, **changes})
    assert not verdict and hint in verdict.why, verdict


def test_repair_is_open_while_one_is_missing_and_right_when_right() -> None:
    assert check.check_repair({**RIGHT, "boat": ...}).right is None
    assert check.check_repair(RIGHT)


def ends(right: int, of: int) -> tuple[float, float]:
    measured = share([True] * right + [False] * (of - right))
    return measured.low, measured.high


INTERVALS = {
    "after choosing": (ends(12, 12), "for any model"),
    "no interval": ((7 / 12, 7 / 12), "expected (low, high)"),
    "in percent": ((32, 81), "expected (low, high)"),
    "the wrong way round": (ends(7, 12)[::-1], "expected (low, high)"),
    "too sure": ((0.55, 0.62), "too sure"),
    "the wrong ones": (ends(5, 12), "which did you count"),
    "the last draws but one": (ends(1, 12), "patience"),
    "one number": (0.58, "raised"),
}


@pytest.mark.parametrize("name", INTERVALS)
def test_honest(name: str) -> None:
    answer, hint = INTERVALS[name]
    verdict = check.check_honest(answer)
    assert not verdict and hint in verdict.why, verdict


def test_honest_accepts_the_first_draws_all_draws_and_other_methods() -> None:
    assert check.check_honest(ends(7, 12)) and check.check_honest(ends(12, 20))
    exact = (0.277, 0.848)  # Clopper and Pearson's interval of 7 in 12
    assert check.check_honest(exact)


def draws(budget: str, usd: str) -> int:
    return int(Decimal(budget) / Decimal(usd))


CHANCES: dict[str, tuple[Any, str]] = {
    "no second draw": (lambda b, u, p, m: p**m if draws(b, u) >= m else 0.0, "at the first draw"),
    "at least one": (lambda b, u, p, m: 1 - (1 - p) ** draws(b, u) if draws(b, u) >= m else 0.0, "one right draw"),
    "a share for each": (lambda b, u, p, m: (1 - (1 - p) ** (draws(b, u) // m)) ** m, "same number of draws"),
    "floats": (
        lambda b, u, p, m: binom.sf(m - 1, int(float(b) / float(u)), p) if float(b) >= float(u) else 0.0,
        "one draw too few",
    ),
    "more than needed": (lambda b, u, p, m: binom.sf(m, draws(b, u), p), "how many of them must be right"),
    "as if the money never ended": (lambda b, u, p, m: 1.0, ""),
    "a number of draws": (lambda b, u, p, m: draws(b, u), "between 0 and 1"),
    "nothing": (lambda b, u, p, m: None, "raised"),
}


@pytest.mark.parametrize("name", CHANCES)
def test_budget(name: str) -> None:
    answer, hint = CHANCES[name]
    verdict = check.check_budget(answer)
    assert not verdict and hint in verdict.why, verdict


def test_budget_accepts_another_right_answer() -> None:
    def chance(budget: str, usd: str, right: float, motifs: int) -> float:
        open_motifs = {motifs: 1.0}
        for _ in range(draws(budget, usd)):
            after: dict[int, float] = {}
            for left, p in open_motifs.items():
                if left:
                    after[left - 1] = after.get(left - 1, 0) + p * right
                after[left] = after.get(left, 0) + p * ((1 - right) if left else 1)
            open_motifs = after
        return open_motifs.get(0, 0.0)

    assert check.check_budget(chance)


def folder(at: Path, prompts: list[str], adapters: list[list[str]]) -> Path:
    pictures = {
        f"card {i}": Picture(Image.new("RGB", (8, 8), (i, 0, 0)), Recipe(prompt=prompt, seed=i, adapters=look))
        for i, (prompt, look) in enumerate(zip(prompts, adapters, strict=True))
    }
    deliver(pictures, at, "Cards")
    return at


THREE = ["a red boat, at sunset", "a tree", "a windmill, in the snow"]


def test_delivery(tmp_path: Path) -> None:
    assert check.check_delivery(folder(tmp_path, THREE, [["dusk"]] * 3))


DELIVERIES = {
    "two motifs": (THREE[:2], [["dusk"]] * 2, "at least three"),
    "one motif three times": ([THREE[0]] * 3, [["dusk"]] * 3, "at least three"),
    "two looks": (THREE, [["dusk"], ["dusk"], []], "different looks"),
    "a dragon": ([*THREE[:2], "a green dragon"], [["dusk"]] * 3, "dragon"),
}


@pytest.mark.parametrize("name", DELIVERIES)
def test_delivery_rejects(name: str, tmp_path: Path) -> None:
    prompts, adapters, hint = DELIVERIES[name]
    verdict = check.check_delivery(folder(tmp_path, prompts, adapters))
    assert not verdict and hint in verdict.why, verdict


def test_delivery_rejects_what_does_not_hold_together(tmp_path: Path) -> None:
    whole = folder(tmp_path, THREE, [["dusk"]] * 3)
    next((whole / "pictures").iterdir()).unlink()
    verdict = check.check_delivery(whole)
    assert not verdict and "stand against it" in verdict.why
    assert "expected a folder" in check.check_delivery(tmp_path / "nowhere").why
    assert "expected a folder" in check.check_delivery({"a": 1}).why
