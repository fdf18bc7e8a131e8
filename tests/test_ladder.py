"""The rule: highest rung that meets the needs, each step down named; twelve worked cases; monotone in the needs."""

from datetime import date
from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chapter38.errors import RecipeError
from chapter38.ladder import CONTROL, RULES, RUNGS, Needs, advise, cases, licences

ON = date(2026, 11, 24)
CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_worked_case(case):
    advice = advise(Needs(**case["needs"]), ON)
    assert advice.rung == case["rung"]
    assert [reason.need for reason in advice.reasons] == case["because"]
    assert all(reason.why and reason.lift for reason in advice.reasons)
    if case["name"] == "viral app":  # the discomfort that the case speaks of is so
        assert advice.costs["call"].usd.mid > advice.costs["canvas"].usd.mid
    else:
        assert bool(advice.conflicts) == bool(case["uncomfortable"])


def test_there_are_twelve_cases_and_some_are_uncomfortable():
    assert len({case["name"] for case in CASES}) == 12
    assert {case["rung"] for case in CASES} == set(RUNGS)
    assert sum(bool(case["uncomfortable"]) for case in CASES) >= 3


flags = st.fixed_dictionaries({
    "offline": st.booleans(), "residency": st.booleans(), "adapters": st.booleans(),
    "latency_p95": st.none() | st.floats(0.1, 30), "control": st.frozensets(st.sampled_from(sorted(CONTROL))),
})  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(flags, flags)
def test_more_needs_never_raise_the_rung(one, other):
    both = {
        "offline": one["offline"] or other["offline"], "residency": one["residency"] or other["residency"],
        "adapters": one["adapters"] or other["adapters"], "control": one["control"] | other["control"],
        "latency_p95": min((x for x in (one["latency_p95"], other["latency_p95"]) if x), default=None),
    }  # fmt: skip
    height = lambda needs: RUNGS.index(advise(Needs(**needs), ON).rung)  # noqa: E731
    assert height(both) >= max(height(one), height(other))
    assert height({}) == 0


@settings(max_examples=25, deadline=None)
@given(flags)
def test_lifting_every_reason_leads_back_to_call(needs):
    advice = advise(Needs(**needs), ON)
    lifted = dict(needs)
    for reason in advice.reasons:
        name, _, control = reason.need.partition(":")
        lifted[name] = lifted["control"] - {control} if control else None if name == "latency_p95" else False
    assert advise(Needs(**lifted), ON).rung == "call"
    assert bool(advice.reasons) == (advice.rung != "call")


def test_each_rule_fires_somewhere():
    trials = {"offline": {"offline": True}, "residency": {"residency": True}, "adapters": {"adapters": True},
              "latency_p95": {"latency_p95": 0.5}}  # fmt: skip
    for rule in RULES:
        name, _, control = rule.need.partition(":")
        needs = Needs(**({"control": {control}} if control else trials[name]))
        assert rule.need in [reason.need for reason in advise(needs, ON).reasons]


def test_volume_steps_down_only_above_the_whole_interval():
    top = advise(Needs(stable=True), ON).break_even.high
    above, below = int(top) + 1, int(top) - 1
    assert advise(Needs(stable=True, per_month=above), ON).rung == "canvas"
    assert advise(Needs(stable=True, per_month=below), ON).rung == "call"
    assert advise(Needs(stable=False, per_month=above), ON).rung == "call"


def test_licences_read_use_and_revenue():
    assert licences(True)["flux-dev"].startswith("no")
    assert licences(False)["flux-dev"].startswith("yes, not commercially")
    assert licences(True, D(999_999))["sd35-medium"].startswith("yes")
    assert licences(True, D(1_000_000))["sd35-medium"].startswith("no")
    assert licences(True)["sana-1600m"].startswith("unclear")
    conflict = advise(Needs(residency=True, model="no-such-model"), ON).conflicts
    assert any("licence of no-such-model" in line for line in conflict)


def test_unknown_money_is_said():
    advice = advise(Needs(model="z-image-turbo", budget=100), ON)
    assert advice.costs["call"].usd is None and any("cannot be checked" in line for line in advice.conflicts)


def test_a_typo_is_answered_with_the_nearest_word():
    with pytest.raises(RecipeError, match="did you mean 'controlnet'"):
        Needs(control={"controlnets"})
    with pytest.raises(RecipeError, match="did you mean 'residency'"):
        Needs(residensy=True)
