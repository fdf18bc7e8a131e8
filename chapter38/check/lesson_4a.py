"""Checks of lesson 38.4a: the most needed works, a weekend's reading, an order in which nothing comes too early."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import networkx as nx

from chapter38.check.verdict import Verdict, exercise
from chapter38.show.reading_map import reading_map

GOALS = ("hu2022lora", "heusel2017")
MINUTES, STEPS = 480, 300_000
# Small lists that a wrong order gets wrong: written backwards, a diamond, two islands, one work that needs many.
TRIES: tuple[Mapping[str, Sequence[str]], ...] = (
    {"c": ["b"], "b": ["a"], "a": []},
    {"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": []},
    {"a": [], "z": [], "y": ["z"], "b": ["a"]},
    {"e": ["a", "b", "c", "d"], "a": [], "c": ["b"], "b": ["d"], "d": ["a"]},
)
CIRCLE = {"a": ["c"], "b": ["a"], "c": ["b"], "free": []}


@exercise
def check_foundation(named_most: str, rested_on_most: str) -> Verdict:
    """The works, books aside, that most others name directly and that most others rest on at any distance."""
    works = reading_map()
    graph = works.graph()
    papers = [entry.id for entry in works.entries if entry.kind != "book"]
    near = {name: graph.out_degree(name) for name in papers}
    far = {name: len(nx.descendants(graph, name)) for name in papers}
    for answer in (named_most, rested_on_most):
        if answer not in papers:
            return Verdict(False, f"{answer!r} is no id of a work, books aside; an id is a key such as 'ho2020ddpm'.")
    if near[named_most] < max(near.values()):
        return Verdict(False, f"{near[named_most]} works name {named_most}; {max(near.values())} name another.")
    if far[rested_on_most] < max(far.values()):
        direct = near[rested_on_most] == max(near.values())
        hint = "yours is the most direct one" if direct else "follow the arrows further"
        count = f"{far[rested_on_most]} works rest on {rested_on_most}, and {max(far.values())} on another"
        return Verdict(False, f"the first is right. {count}; {hint}.")
    return Verdict(True, "what is named most is where the chapter begins; what most rest on is where its ideas do.")


@exercise
def check_weekend(weekend: Sequence[str]) -> Verdict:
    """An order of ids that reaches both goals in eight hours, nothing before what it needs, books taken as read."""
    works = reading_map()
    if isinstance(weekend, str) or not all(isinstance(name, str) for name in weekend):
        return Verdict(False, "expected a list of ids, such as ['vaswani2017', ...].")
    known = {entry.id: entry for entry in works.entries}
    read = {name for name, entry in known.items() if entry.kind == "book"}
    minutes = 0
    for name in weekend:
        if name not in known:
            return Verdict(False, f"{name!r} is no id of the map.")
        missing = [known[needed].label for needed in known[name].before if needed not in read]
        if missing:
            return Verdict(False, f"{known[name].label} comes before something that it builds on: {missing[0]}.")
        minutes += 0 if name in read else known[name].minutes
        read.add(name)
    absent = [known[goal].label for goal in GOALS if goal not in read]
    if absent:
        return Verdict(False, f"the list does not reach {' or '.join(absent)}.")
    if minutes > MINUTES:
        return Verdict(False, f"{minutes} minutes are more than eight hours ({MINUTES}); what do the goals not need?")
    return Verdict(True, f"{len(weekend)} works in {minutes} minutes, each resting on what you have read by then.")


@exercise
def check_order(my_order: Callable[[dict[str, Sequence[str]]], Any]) -> Verdict:
    """A topological order of any list, and an error for a circle."""
    cases = [*TRIES, {entry.id: entry.before for entry in reading_map().entries}]
    for case in cases:
        given = {name: tuple(needs) for name, needs in case.items()}
        order = _patiently(my_order, dict(given))
        if not isinstance(order, list | tuple) or sorted(map(str, order)) != sorted(given):
            return Verdict(False, f"expected every id once in a list; for {_short(given)} came {_short(order)}.")
        place = {name: i for i, name in enumerate(order)}
        early = next(((name, need) for name in order for need in given[name] if place[need] > place[name]), None)
        if early:
            return Verdict(False, f"for {_short(given)} you put {early[0]!r} before {early[1]!r}, which it needs.")
    try:
        order = _patiently(my_order, {name: tuple(needs) for name, needs in CIRCLE.items()})
    except ValueError:
        return Verdict(True, f"right on {len(cases)} lists, this map among them, and a circle is refused.")
    except (RecursionError, TimeoutError):
        return Verdict(False, "on a circle it goes on for ever; notice when nothing more becomes readable.")
    return Verdict(False, f"{_short(CIRCLE)} runs in a circle; expected a ValueError, came {_short(order)}.")


def _patiently(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's answer, or TimeoutError after STEPS lines of it, so that an endless loop ends."""
    left = STEPS

    def watch(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TimeoutError(f"no answer after {STEPS} lines; does it end?")
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        return function(*arguments)
    finally:
        sys.settrace(before)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 90 else f"{text[:87]}..."
