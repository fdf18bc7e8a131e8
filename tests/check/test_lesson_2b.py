"""The checks of 38.2b reject typical wrong answers, each with a reason that fits."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chapter38 import Recipe
from chapter38.canvas import Graph, export
from chapter38.check import lesson_2b as check

RIGHT = {"steps": 7.0, "cfg": "euler", "start_at_step": 10_000}
GRAPH = export(Recipe(prompt="a red boat", seed=38))
SAMPLER = next(node.id for node in GRAPH.nodes if node.type == "KSampler")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ({"steps": 30, "cfg": 7.0, "start_at_step": 0}, "what was meant"),
        ({"steps": 38, "cfg": 30, "start_at_step": "karras"}, "the other way"),
        ({**RIGHT, "cfg": 7.0}, "not right for cfg"),
        ({"steps": 7.0}, "not right for cfg, start_at_step"),
    ],
)
def test_shifted(answer: dict[str, Any], hint: str) -> None:
    verdict = check.check_shifted(answer)
    assert verdict.right is False and hint in verdict.why, verdict


def test_shifted_accepts_what_the_editor_reads_and_leaves_open_what_is_open() -> None:
    assert check.check_shifted(RIGHT)
    assert check.check_shifted({**RIGHT, "steps": ...}).right is None


def _retitled() -> Graph:
    nodes = [replace(node, title="My sampler") if node.id == SAMPLER else node for node in GRAPH.nodes]
    return replace(GRAPH, nodes=nodes).set(SAMPLER, seed=39, steps=40)


EDITS = {
    "nothing": (GRAPH, "expected seed 39, steps 40"),
    "the seed alone": (GRAPH.set(SAMPLER, seed=39), "expected steps 40"),
    "other steps": (GRAPH.set(SAMPLER, seed=39, steps=30), "expected steps 40"),
    "a new title": (_retitled(), "the title is part"),
    "the guidance too": (GRAPH.set(SAMPLER, seed=39, steps=40, cfg=5.0), "guidance"),
    "a dict": (GRAPH.api(), "expected a Graph"),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit(name: str) -> None:
    edited, hint = EDITS[name]
    verdict = check.check_edit(GRAPH, edited)
    assert verdict.right is False and hint in verdict.why, verdict


def test_edit_accepts_another_way_to_it() -> None:
    api = GRAPH.api()
    api[str(SAMPLER)]["inputs"].update(seed=39, steps=40)
    assert check.check_edit(GRAPH, Graph.from_api(api))


def _says(api: check.Api, id: str, slots: bool = True) -> Any:
    node = api[id]
    told = {
        name: [_says(api, v[0], slots), v[1] if slots else 0] if isinstance(v, list) else v for name, v in node["inputs"].items()
    }
    return [node["class_type"], told]


def _each(api: check.Api, slots: bool = True, ends: bool = True) -> list[str]:
    ids = [id for id, node in api.items() if not ends or node["class_type"] == "SaveImage"]
    return sorted(json.dumps(_says(api, id, slots), sort_keys=True) for id in ids)


def _flat(api: check.Api) -> list[str]:
    """Classes and values, links left out."""
    rows = [(n["class_type"], [v for v in n["inputs"].values() if not isinstance(v, list)]) for n in api.values()]
    return sorted(map(str, rows))


SAME = {
    "the JSON": (lambda a, b: a == b, "ids are names"),
    "the text": (lambda a, b: json.dumps(a) == json.dumps(b), "ids are names"),
    "always": (lambda a, b: True, "another seed"),
    "never": (lambda a, b: False, "its own copy"),
    "values without links": (lambda a, b: _flat(a) == _flat(b), "changed places"),
    "links without their output": (lambda a, b: _each(a, slots=False) == _each(b, slots=False), "another output"),
    "nodes that nobody needs": (lambda a, b: _each(a, ends=False) == _each(b, ends=False), "feeds nothing"),
    "titles": (lambda a, b: [n.get("_meta") for n in a.values()] == [n.get("_meta") for n in b.values()], "another seed"),
    "no function": ("same", "raised"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_same(name: str) -> None:
    answer, hint = SAME[name]
    verdict = check.check_same(answer)
    assert verdict.right is False and hint in verdict.why, verdict


def test_same_accepts_another_right_answer() -> None:
    assert check.check_same(lambda a, b: set(_each(a)) == set(_each(b)))
