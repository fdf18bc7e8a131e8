"""The checks of 38.1e reject typical wrong answers, each with a reason that fits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chapter38.check import lesson_1e as check
from chapter38.code.lorafile import Lora, Low
from chapter38.code.weightfile import Tensor

RIGHT = {"linear": 4 * (160 + 96), "conv": 4 * (160 + 320 * 9)}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"linear": 160 * 96}, "the whole layer"),
        ({"conv": 160 * 320 * 9}, "the whole layer"),
        ({"linear": 4 * 160 * 96}, "added, not multiplied"),
        ({"conv": 4 * (160 + 320)}, "window of 3 × 3"),
        ({"conv": 4 * 9 * (160 + 320)}, "1 × 1"),
        ({"linear": 160 + 96}, "not right for linear"),
        ({"conv": None}, "not right for conv"),
    ],
)
def test_counts(changes: dict[str, Any], hint: str) -> None:
    verdict = check.check_counts({**RIGHT, **changes})
    assert verdict.right is False and hint in verdict.why, verdict


def test_counts_accepts_the_count_and_leaves_open_what_is_open() -> None:
    assert check.check_counts(RIGHT)
    assert check.check_counts({**RIGHT, "conv": ...}).right is None


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return Tensor.of(factor * tensor.numpy())


def _both(lora: Lora, weight: float) -> Lora:
    return {p: Low(_scaled(low.down, weight), _scaled(low.up, weight), low.alpha) for p, low in lora.items()}


def _only_up(lora: Lora, weight: float) -> Lora:
    return {p: replace(low, up=_scaled(low.up, weight)) for p, low in lora.items()}


def _effective(lora: Lora, weight: float) -> Lora:
    """Scale written into B, alpha set to the rank."""
    return {p: Low(low.down, _scaled(low.up, weight * low.alpha / low.rank), float(low.rank)) for p, low in lora.items()}


BAKES = {
    "both factors": (_both, "gone in twice"),
    "nothing": (lambda lora, weight: lora, "nothing has changed"),
    "alpha is the weight": (lambda lora, weight: {p: replace(low, alpha=weight) for p, low in lora.items()}, "times what it was"),
    "alpha forgotten": (
        lambda lora, weight: {p: replace(low, alpha=weight * low.rank) for p, low in lora.items()}, "times what it was"
    ),
    "one module": (lambda lora, weight: dict(list(_only_up(lora, weight).items())[:1]), "each has to be kept"),
    "a number": (lambda lora, weight: weight, "expected a dict of Low"),
    "added": (
        lambda lora, weight: {p: replace(low, up=Tensor.of(low.up.numpy() + weight)) for p, low in lora.items()}, "another one"
    ),
    "transposed": (
        lambda lora, weight: {p: Low(Tensor.of(low.up.numpy().T), Tensor.of(low.down.numpy().T), low.alpha) for p, low in lora.items()},
        "shape",
    ),
    "raises": (lambda lora, weight: lora["nowhere"], "raised KeyError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAKES)
def test_bake(name: str) -> None:
    answer, hint = BAKES[name]
    verdict = check.check_bake(answer)
    assert verdict.right is False and hint in verdict.why, verdict


@pytest.mark.parametrize("answer", [_only_up, _effective])
def test_bake_accepts_whichever_factor_takes_the_weight(answer: Any) -> None:
    assert check.check_bake(answer)


SUMS = {
    "of the factors": (lambda A1, B1, s1, A2, B2, s2: (A1 + A2, B1 + B2), "four terms"),
    "without the weights": (lambda A1, B1, s1, A2, B2, s2: (np.vstack([A1, A2]), np.hstack([B1, B2])), "plain sum"),
    "the weights twice": (
        lambda A1, B1, s1, A2, B2, s2: (np.vstack([s1 * A1, s2 * A2]), np.hstack([s1 * B1, s2 * B2])), "gone in twice"
    ),
    "only the first": (lambda A1, B1, s1, A2, B2, s2: (A1, s1 * B1), "missing"),
    "at full rank": (lambda A1, B1, s1, A2, B2, s2: (np.eye(14), s1 * B1 @ A1 + s2 * B2 @ A2), "its rank is 14"),
    "other way round": (lambda A1, B1, s1, A2, B2, s2: (np.hstack([B1, B2]), np.vstack([A1, A2])), "do not multiply"),
    "something else": (lambda A1, B1, s1, A2, B2, s2: (np.vstack([A2, A1]), np.hstack([s1 * B1, s2 * B2])), "not the weighted sum"),
    "nothing": (lambda *of: None, "raised"),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_sum(name: str) -> None:
    answer, hint = SUMS[name]
    verdict = check.check_sum(answer)
    assert verdict.right is False and hint in verdict.why, verdict


def test_sum_accepts_another_factoring() -> None:
    def by_svd(A1: Any, B1: Any, s1: float, A2: Any, B2: Any, s2: float) -> Any:
        u, s, v = np.linalg.svd(s1 * B1 @ A1 + s2 * B2 @ A2)
        rank = len(A1) + len(A2)
        return v[:rank], u[:, :rank] * s[:rank]

    assert check.check_sum(by_svd)
