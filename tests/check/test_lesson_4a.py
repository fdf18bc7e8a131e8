"""Lesson 38.4a's checks accept what is right, refuse typical mistakes, say why, and leave an open question open."""

from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx
import pytest

from chapter38.check.lesson_4a import check_foundation, check_order, check_weekend
from chapter38.show.reading_map import reading_map

MAP = reading_map()
GRAPH = MAP.graph()
PAPERS = [entry.id for entry in MAP.entries if entry.kind != "book"]
NAMED = max(PAPERS, key=lambda name: GRAPH.out_degree(name))
RESTED = max(PAPERS, key=lambda name: len(nx.descendants(GRAPH, name)))
WEEKEND = [entry.id for entry in MAP.path("hu2022lora", "heusel2017") if entry.kind != "book"]


def test_the_two_answers_differ_or_the_exercise_teaches_nothing() -> None:
    assert NAMED != RESTED
    assert check_foundation(NAMED, RESTED)


@pytest.mark.parametrize(
    ("named", "rested", "says"),
    [
        (RESTED, NAMED, "name another"),
        (NAMED, NAMED, "the most direct one"),
        (NAMED, "hu2022lora", "follow the arrows"),
        ("prince2023", RESTED, "books aside"),
        ("Rombach 2022", RESTED, "no id"),
    ],
)
def test_wrong_foundations(named: str, rested: str, says: str) -> None:
    verdict = check_foundation(named, rested)
    assert verdict.right is False
    assert says in verdict.why


def test_any_weekend_that_fits_is_right() -> None:
    assert check_weekend(WEEKEND)
    assert check_weekend(["prince2023", *WEEKEND])
    more = [*WEEKEND, "safetensors"]
    assert check_weekend(more)


@pytest.mark.parametrize(
    ("weekend", "says"),
    [
        (WEEKEND[::-1], "comes before something"),
        (["hu2022lora", "heusel2017"], "comes before something"),
        ([name for name in WEEKEND if name != "heusel2017"], "does not reach"),
        ([entry.id for entry in MAP.path("luo2023lcm", "heusel2017", "hu2022lora")], "more than eight hours"),
        ([*WEEKEND, "hu2021"], "no id"),
        ("hu2022lora", "a list of ids"),
        ([], "does not reach"),
    ],
)
def test_wrong_weekends(weekend: Sequence[str], says: str) -> None:
    verdict = check_weekend(weekend)
    assert verdict.right is False
    assert says in verdict.why


def solution(before: dict[str, Sequence[str]]) -> list[str]:
    done: list[str] = []
    waiting = dict(before)
    while waiting:
        ready = [name for name, needs in waiting.items() if set(needs) <= set(done)]
        if not ready:
            raise ValueError("a circle")
        done += ready
        for name in ready:
            del waiting[name]
    return done


def recursive(before: dict[str, Sequence[str]]) -> list[str]:
    done: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError("a circle")
        for earlier in before[name]:
            visit(earlier, (*above, name))
        if name not in done:
            done.append(name)

    for name in before:
        visit(name, ())
    return done


def endless(before: dict[str, Sequence[str]]) -> list[str]:
    done: list[str] = []
    while len(done) < len(before):
        done += [name for name in before if name not in done and set(before[name]) <= set(done)]
    return done


def one_level(before: dict[str, Sequence[str]]) -> list[str]:
    return sorted(before, key=lambda name: len(before[name]))


def silent(before: dict[str, Sequence[str]]) -> list[str]:
    try:
        return solution(before)
    except ValueError:
        return []


@pytest.mark.parametrize("right", [solution, recursive])
def test_right_orders(right: Callable[..., Any]) -> None:
    assert check_order(right)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (sorted, "before"),
        (one_level, "before"),
        (lambda before: solution(before)[::-1], "before"),
        (lambda before: solution(before)[:-1], "every id once"),
        (lambda before: None, "every id once"),
        (endless, "for ever"),
        (silent, "expected a ValueError"),
        (lambda before: before["nothing"], "KeyError"),
    ],
)
def test_wrong_orders(wrong: Callable[..., Any], says: str) -> None:
    verdict = check_order(wrong)
    assert verdict.right is False
    assert says in verdict.why


def test_an_answer_not_given_is_open() -> None:
    assert [check(*args).right for check, args in ((check_foundation, (..., "a")), (check_weekend, (...,)),
                                                  (check_order, (...,)))] == [None, None, None]  # fmt: skip
