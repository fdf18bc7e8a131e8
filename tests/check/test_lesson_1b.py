"""The checks of 38.1b reject typical wrong answers, each with a reason that fits."""

from typing import Any

import pytest

from chapter38.check import lesson_1b as check
from chapter38.check.lesson_1b import _evaluations

RIGHT = {"euler": 30, "heun": 59, "dpm_2": 59, "pndm": 31}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        (dict.fromkeys(RIGHT, 30), "counts steps"),
        ({"heun": 60, "dpm_2": 60}, "last step"),
        ({"pndm": 30}, "four slopes"),
        ({"euler": 29}, "euler"),
    ],
)
def test_evaluations(changes: dict[str, int], hint: str) -> None:
    verdict = check.check_evaluations({**RIGHT, **changes})
    assert not verdict and hint in verdict.why


def test_evaluations_stay_open_while_one_is_missing() -> None:
    assert check.check_evaluations({**RIGHT, "heun": ...}).right is None


def test_a_part_of_the_evaluations_is_not_the_answer() -> None:
    verdict = check.check_evaluations({"euler": 30, "pndm": 31})
    assert not verdict and "no number for heun, dpm_2" in verdict.why


FAIR = {
    "the budget is no number of steps": (lambda sampler, budget: budget, "more than the budget"),
    "half for all": (lambda sampler, budget: budget // 2, "one step more"),
    "no whole number": (lambda sampler, budget: budget / 2, "whole number"),
    "none": (lambda sampler, budget: 0, "at least 1"),
    "one too many": (lambda sampler, budget: (budget + 3) // 2 if sampler in ("heun", "dpm_2") else budget, "more than"),
}


@pytest.mark.parametrize("name", FAIR)
def test_fair(name: str) -> None:
    answer, hint = FAIR[name]
    verdict = check.check_fair(answer)
    assert not verdict and hint in verdict.why, verdict


def test_fair_accepts_another_right_answer() -> None:
    def fair(sampler: str, budget: int) -> int:
        steps = 1
        while _evaluations(sampler, steps + 1) <= budget:
            steps += 1
        return steps

    assert check.check_fair(fair)


def _euler(denoised: Any, x: Any, now: float, after: float) -> Any:
    return x + (x - denoised(x, now)) / now * (after - now)


def _uphill(denoised: Any, x: Any, now: float, after: float) -> Any:
    return x - (x - denoised(x, now)) / now * (after - now)


def _one_level(denoised: Any, x: Any, now: float, after: float) -> Any:
    slope = (x - denoised(x, now)) / now
    ahead = x + slope * (after - now)
    return x + (slope + (ahead - denoised(ahead, now)) / now) / 2 * (after - now)


def _three_calls(denoised: Any, x: Any, now: float, after: float) -> Any:
    denoised(x, now)
    return _midpoint(denoised, x, now, after)


def _midpoint(denoised: Any, x: Any, now: float, after: float) -> Any:
    middle = (now * after) ** 0.5
    half = _euler(denoised, x, now, middle)
    return x + (half - denoised(half, middle)) / middle * (after - now)


STEPS = {
    "first order": (_euler, "square of the step"),
    "wrong way": (_uphill, "slope point"),
    "one noise level for both slopes": (_one_level, "own noise level"),
    "three evaluations": (_three_calls, "two are allowed"),
    "stands still": (lambda denoised, x, now, after: x, "does not end at the data"),
    "returns nothing": (lambda denoised, x, now, after: None, "raised"),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    answer, hint = STEPS[name]
    verdict = check.check_step(answer)
    assert not verdict and hint in verdict.why, verdict


def test_step_accepts_another_second_order_method() -> None:
    assert check.check_step(_midpoint)
