"""Checks of lesson 38.2b: settings that slip, one edit of a workflow, two graphs that say the same."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chapter38.canvas import nodes as facts
from chapter38.canvas.compare import differences
from chapter38.canvas.export import export
from chapter38.canvas.graph import Graph, is_link
from chapter38.canvas.read import read
from chapter38.check.verdict import Verdict, exercise
from chapter38.recipe import Recipe

Api = dict[str, Any]
NAIVE = {
    "add_noise": "enable", "noise_seed": 38, "steps": 30, "cfg": 7.0, "sampler_name": "euler", "scheduler": "karras",
    "start_at_step": 0, "end_at_step": 10_000, "return_with_leftover_noise": "disable",
}  # fmt: skip
"""A KSamplerAdvanced as a script might write it: its inputs in order, without the widget that only the editor has."""
WANTED = {"seed": 39, "steps": 40}


@exercise
def check_shifted(answer: Mapping[str, Any]) -> Verdict:
    """What the editor reads as steps, cfg and start_at_step of NAIVE's values."""
    if any(value is ... for value in answer.values()):
        return Verdict(None, "put a value where each ... stands, and run this cell again.")
    kind = facts.kind("KSamplerAdvanced")
    assert kind is not None
    seen = dict(zip(kind.widgets, NAIVE.values(), strict=False))
    wrong = [name for name in ("steps", "cfg", "start_at_step") if answer.get(name) != seen[name]]
    if not wrong:
        return Verdict(True, "everything behind the seed has moved up by one place, into whatever name comes there.")
    if all(answer.get(name) == NAIVE[name] for name in ("steps", "cfg", "start_at_step")):
        return Verdict(False, "that is what was meant. The editor has one widget more than the script wrote; where?")
    names = list(NAIVE)
    if all(answer.get(name) == NAIVE[names[names.index(name) - 1]] for name in ("steps", "cfg", "start_at_step")):
        return Verdict(False, "the other way: a value is missing, so the later ones come too early.")
    return Verdict(False, f"not right for {', '.join(wrong)}; write the two lists side by side, names above values.")


@exercise
def check_edit(graph: Graph, edited: Any) -> Verdict:
    """The same workflow with WANTED's seed and steps, and nothing else changed in meaning."""
    if not isinstance(edited, Graph):
        return Verdict(False, f"expected a Graph, got {type(edited).__name__}; graph.set gives a changed copy.")
    (before, _), (after, misfits) = read(graph), read(edited)
    changed = {field: new for field, _, new in differences(before, after)}
    if changed == WANTED and not misfits:
        return Verdict(True, "two settings differ and nothing else: the diff of meaning says so.")
    if missing := [name for name, value in WANTED.items() if changed.get(name) != value]:
        return Verdict(False, f"expected {', '.join(f'{name} {WANTED[name]}' for name in missing)}; the diff gives {changed}.")
    if {"sampler", "spacing"} & set(changed):
        return Verdict(False, "seed and steps are right, but the sampler reads otherwise now: the title is part of the spelling.")
    return Verdict(False, f"seed and steps are right; this changed too: {sorted(set(changed) - set(WANTED)) or misfits}.")


@exercise
def check_same(my_same: Callable[[Api, Api], Any]) -> Verdict:
    """Whether two API graphs make the same pictures, tried on pairs that do and pairs that do not."""
    base = export(Recipe(prompt="a red boat", negative="fog", seed=7)).api()
    count = 0
    for other, same, why in _pairs(base):
        count += 1
        if bool(my_same(copy.deepcopy(base), other)) != same:
            return Verdict(False, f"you said they {'differ' if same else 'are the same'}, but {why}.")
    return Verdict(True, f"right on {count} pairs: names, order and titles do not count; values and links do.")


def _pairs(base: Api) -> Iterator[tuple[Api, bool, str]]:
    """(other graph, whether it is the same, what its difference is)."""
    yield copy.deepcopy(base), True, "it was one graph against its own copy"
    yield _edited(base, "KSampler", seed=8), False, "one has another seed"
    yield _renamed(base), True, "only the ids of the nodes differ, and ids are names"
    yield dict(reversed(copy.deepcopy(base).items())), True, "the nodes only stand in another order"
    untitled = {id: {key: value for key, value in node.items() if key != "_meta"} for id, node in base.items()}
    yield copy.deepcopy(untitled), True, "only the titles are gone, which no server looks at"
    sampler = next(node for node in base.values() if node["class_type"] == "KSampler")["inputs"]
    swapped = _edited(base, "KSampler", positive=sampler["negative"], negative=sampler["positive"])
    yield swapped, False, "the links of prompt and negative prompt have changed places"
    slot = _edited(base, "VAEDecode", vae=[next(iter(base)), 1])
    yield slot, False, "a link leaves another output of the same node"
    unused = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    yield {**copy.deepcopy(base), "99": unused}, True, "the node more in one of them feeds nothing that is saved"


def _edited(base: Api, type: str, **inputs: Any) -> Api:
    new = copy.deepcopy(base)
    next(node for node in new.values() if node["class_type"] == type)["inputs"].update(copy.deepcopy(inputs))
    return new


def _renamed(base: Api) -> Api:
    new = {f"n{int(id) * 7}": copy.deepcopy(node) for id, node in base.items()}
    for node in new.values():
        told = node["inputs"]
        node["inputs"] = {name: [f"n{int(v[0]) * 7}", v[1]] if is_link(v) else v for name, v in told.items()}
    return new
