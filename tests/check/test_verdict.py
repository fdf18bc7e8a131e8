"""What every check answers with: right, wrong or open, and why; and every solution is accepted by its check."""

import runpy
from pathlib import Path

import pytest

from chapter38.check import Verdict, exercise, guess

SOLUTIONS = sorted((Path(__file__).parents[2] / "notebooks/solutions").glob("38_*.py"))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_solution_passes_its_checks(path: Path) -> None:
    before = path.read_text("utf-8").count("\nassert check_")
    assert before >= 3, "a lesson has at least three exercises, and the solution of each is checked"
    runpy.run_path(str(path))


def test_an_open_answer_is_neither_right_nor_wrong() -> None:
    verdict = exercise(lambda answer: Verdict(True, "never reached"))(...)
    assert verdict.right is None and not verdict


def test_an_error_in_the_readers_code_is_a_verdict() -> None:
    verdict = exercise(lambda answer: Verdict(answer() > 0, "x"))(lambda: 1 / 0)
    assert verdict.right is False and "ZeroDivisionError" in verdict.why


@pytest.mark.parametrize(
    ("mine", "right"), [(60, True), (64, True), (48, False), (..., None), (None, None), ("64", False), (True, False)]
)
def test_a_guess_is_held_against_the_measurement(mine: object, right: bool | None) -> None:
    verdict = guess(mine, 64.0, "times", "there are 64 times as many places.")
    assert verdict.right is right and "64 times" in verdict.why


def test_a_verdict_shows_itself_and_escapes_what_it_quotes() -> None:
    shown = Verdict(False, "got <class 'str'>")._repr_html_()
    assert "Not yet" in shown and "<class" not in shown
