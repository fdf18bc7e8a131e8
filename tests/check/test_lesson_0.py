"""The checks of 38.0 reject typical wrong answers, each with a reason that fits."""

from typing import Any

import pytest

from chapter38.check import lesson_0 as check
from chapter38.ladder import CONTROL, Needs, advise

RIGHT = {"shop": "canvas", "app": "call", "lab": "code", "comic": "canvas"}
STUCK = Needs(per_month=900, latency_p95=1.0, budget="100")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [({"shop": "call"}, "LoRA"), ({"app": "canvas"}, "not steady"), ({"lab": "canvas"}, "inside a step"),
     ({"comic": "code"}, "engine"), ({"lab": "Code"}, "no rung")],
)  # fmt: skip
def test_rungs(changes: dict[str, str], hint: str) -> None:
    verdict = check.check_rungs({**RIGHT, **changes})
    assert not verdict and hint in verdict.why


def test_the_projects_are_judged_as_advise_judges_them() -> None:
    assert {name: advise(needs).rung for name, needs in check.PROJECTS.items()} == RIGHT


@pytest.mark.parametrize(
    ("lifted", "hint"),
    [
        (STUCK.model_copy(update={"budget": None}), "latency_p95 still holds"),
        (STUCK.model_copy(update={"latency_p95": 1.5}), "lifts nothing"),
        (STUCK.model_copy(update={"latency_p95": None, "per_month": 10}), "2 fields"),
        (STUCK, "0 fields"),
        ({"latency_p95": None}, "expected Needs"),
    ],
)
def test_lift(lifted: Any, hint: str) -> None:
    verdict = check.check_lift(STUCK, lifted)
    assert not verdict and hint in verdict.why


def test_lift_accepts_no_demand_at_all() -> None:
    assert check.check_lift(STUCK, STUCK.model_copy(update={"latency_p95": None}))


def _rule(needs: Needs, limit: float = 2.0, forget: str = "") -> str:
    rungs = [CONTROL[name] for name in needs.control]
    rungs += ["canvas" for name in ("offline", "residency", "adapters") if getattr(needs, name) and name != forget]
    if needs.latency_p95 is not None and needs.latency_p95 < limit:
        rungs.append("canvas")
    return max(rungs, key=["call", "canvas", "code"].index, default="call")


RULES = {
    "always call": (lambda needs: "call", "you said 'call'"),
    "always code": (lambda needs: "code", "Nothing forces it down"),
    "residency forgotten": (lambda needs: _rule(needs, forget="residency"), "residency=True"),
    "two seconds count as fast": (lambda needs: _rule(needs, limit=2.01), "latency_p95=2.0"),
    "the highest instead of the lowest": (
        lambda needs: min((CONTROL[name] for name in needs.control), key=["call", "canvas", "code"].index, default="call"),
        "you said",
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    answer, hint = RULES[name]
    verdict = check.check_rule(answer)
    assert not verdict and hint in verdict.why, verdict


def test_rule_accepts_another_right_answer() -> None:
    assert check.check_rule(_rule)
