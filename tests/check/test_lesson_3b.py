"""The checks of 38.3b tell right from wrong, and each foreseen mistake by its own reason."""

import pytest

from chapter38.check.lesson_3b import check_calls, check_tiered, check_utilisation


def tiered(n):
    return 0.01 * (min(n, 10_000) + 0.9 * min(max(n - 10_000, 0), 40_000) + 0.7 * max(n - 50_000, 0))


def on_all(n):
    return 0.01 * n * (0.7 if n > 50_000 else 0.9 if n > 10_000 else 1)


def test_right_answers():
    assert check_calls(1000) and check_utilisation(0.178) and check_tiered(tiered)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (check_calls(900), "delivers nothing"), (check_calls(990), "Divide"), (check_calls(5), "first the pictures"),
        (check_utilisation(17.8), "per cent"), (check_utilisation(5.61), "upside down"),
        (check_utilisation(0.9), "whether the card draws"), (check_tiered(on_all), "on all pictures"),
        (check_tiered(lambda n: 0), "expected"), (check_tiered(lambda n: 1 / 0), "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_wrong_answers_are_told_why(verdict, says):
    assert verdict.right is False and says in verdict.why


def test_open_answers_stay_open():
    assert check_calls(...).right is None
