"""Checks of lesson 38.0: four projects and their rungs, one need lifted, the rule written by hand."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from chapter38.check.verdict import Verdict, exercise
from chapter38.ladder import CONTROL, FAST, RULES, RUNGS, Needs, advise

PROJECTS = {
    "shop": Needs(per_month=20_000, adapters=True, model="sdxl"),
    "app": Needs(per_month=5_000_000),
    "lab": Needs(control=frozenset({"every-step"})),
    "comic": Needs(control=frozenset({"controlnet", "multi-stage"})),
}
_HINTS = {
    "shop": "who holds the weights that its LoRA changes?",
    "app": "read what the rule says about a large volume that is not steady.",
    "lab": "which rung lets you write what happens inside a step?",
    "comic": "does this control need the loop itself, or an engine that has a node for it?",
}


@exercise
def check_rungs(answer: Mapping[str, Any]) -> Verdict:
    """The rung of each of four projects."""
    if any(value is ... for value in answer.values()):
        return Verdict(None, "put a rung where each ... stands, and run this cell again.")
    if odd := sorted({str(value) for value in answer.values()} - set(RUNGS)):
        return Verdict(False, f"{odd[0]!r} is no rung; expected 'call', 'canvas' or 'code'.")
    wrong = [name for name in PROJECTS if answer.get(name) != _rung(PROJECTS[name])]
    if wrong:
        return Verdict(False, f"{len(PROJECTS) - len(wrong)} of {len(PROJECTS)} are right. {wrong[0]}: {_HINTS[wrong[0]]}")
    return Verdict(True, "a large volume alone took nobody down; weights of one's own and a kind of control did.")


@exercise
def check_lift(stuck: Needs, lifted: Any) -> Verdict:
    """One field of `stuck` changed so that the rule gives Call."""
    if not isinstance(lifted, Needs):
        return Verdict(False, f"expected Needs, got {type(lifted).__name__}; model_copy gives a changed copy.")
    changed = [name for name in Needs.model_fields if getattr(stuck, name) != getattr(lifted, name)]
    if len(changed) != 1:
        return Verdict(False, f"{len(changed)} fields were changed{': ' if changed else ''}{', '.join(changed)}; change one.")
    advice = advise(lifted)
    if advice.rung != "call":
        left = ", ".join(reason.need for reason in advice.reasons)
        return Verdict(False, f"changing {changed[0]} lifts nothing: {left} still holds the project on {advice.rung}.")
    return Verdict(True, f"without that demand on {changed[0]} nothing forces a step down.")


@exercise
def check_rule(my_rule: Callable[[Needs], Any]) -> Verdict:
    """The rule without prices, tried on two hundred seeded projects, the plain ones first."""
    dice = random.Random(38)
    for needs in [Needs(), *sorted((_project(dice) for _ in range(199)), key=_asked)]:
        mine, right = my_rule(needs), _rung(needs)
        if mine != right:
            told = ", ".join(f"{name}={getattr(needs, name)!r}" for name in sorted(needs.model_fields_set)) or "no needs"
            why = "; ".join(sorted({rule.why for rule in RULES if rule.applies(needs) and rule.rung == right}))
            return Verdict(False, f"for a project with {told} you said {mine!r}. {why or 'Nothing forces it down'}.")
    return Verdict(True, "two hundred projects, and your rule and the package's agree on each.")


def _rung(needs: Needs) -> str:
    return max((rule.rung for rule in RULES if rule.applies(needs)), key=RUNGS.index, default="call")


def _asked(needs: Needs) -> int:
    return len(needs.model_fields_set) + len(needs.control)


def _project(dice: random.Random) -> Needs:
    asked: dict[str, Any] = {name: True for name in ("offline", "residency", "adapters") if dice.random() < 0.2}
    if dice.random() < 0.3:
        asked["latency_p95"] = dice.choice([FAST / 4, FAST, 3 * FAST])
    if kinds := [name for name in sorted(CONTROL) if dice.random() < 0.12]:
        asked["control"] = frozenset(kinds)
    return Needs(**asked)
