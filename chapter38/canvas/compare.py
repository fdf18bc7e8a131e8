"""What is wrong with a workflow, in words, with the way to the node; and what differs in meaning between two."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from chapter38.canvas import nodes as facts
from chapter38.canvas.export import outside
from chapter38.canvas.flatten import fit
from chapter38.canvas.graph import Graph, is_link
from chapter38.errors import GraphError, nearest
from chapter38.recipe import Recipe


@dataclass(frozen=True)
class Problem:
    """`node` is the id in API JSON, `way` the titles that lead to it, `what` is wrong; `fatal`: a server refuses it."""

    node: str
    way: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"node {self.node} ({self.way}): {self.what}" if self.node else self.what


def check(graph: Graph, folder: Path | None = None) -> list[Problem]:
    """Everything that would stop a server: wrong types, missing links and values, ranges, circles, missing files.

    `folder`: a ComfyUI `models/` folder to look for the files in. Unknown classes are told, but are not fatal.
    """
    try:
        api = graph.api()
    except GraphError as error:
        return [Problem("", "", str(error))]
    found = [Problem(id, way(graph, id), *told) for id in api for told in _problems(api, id, folder)]
    if not any((kind := facts.kind(node["class_type"])) is None or kind.is_output for node in api.values()):
        found.append(Problem("", "", "nothing is saved or shown: add a SaveImage"))
    return [*found, *_circle(graph, api)]


def way(graph: Graph, id: str) -> str:
    """Titles from the top of the workflow down to a node: "Text to Image › KSampler"."""
    titles, scope = [], graph
    for part in id.split(":"):
        node = next((node for node in scope.nodes if str(node.id) == part), None)
        if node is None:
            return next((node.label for node in graph.nodes if str(node.id) == id), id)
        scope = graph.subgraphs.get(node.type, scope)
        titles.append(node.title or str(scope.kept.get("name") or node.label))
    return " › ".join(titles)


def _problems(api: dict[str, Any], id: str, folder: Path | None) -> Iterator[tuple[str] | tuple[str, bool]]:
    type, inputs = api[id]["class_type"], api[id].get("inputs", {})
    kind = facts.kind(type)
    if kind is None:
        yield f"{type} is not a node that this package knows; {nearest(type, facts.kinds())[:200]}", False
    for name, value in inputs.items():
        field = kind.input(name) if kind else None
        if is_link(value):
            yield from _link(api, name, value, field)
        elif field and field.type in facts.sockets() and not field.is_widget:
            yield (f"{name} needs a link to a {field.type}, not the value {value!r:.40}",)
        elif problem := outside(field, value):
            yield (problem,)
        elif folder and name in facts.FOLDERS and name != "image" and not (folder / facts.FOLDERS[name] / str(value)).exists():
            yield (f"{name}: no file {value!r} in {folder.name}/{facts.FOLDERS[name]}",)
    for field in kind.inputs if kind else ():
        if not field.required or field.name in inputs:
            continue
        if field.is_widget and field.options != ():
            yield (f"{field.name} has no value",)
        elif field.type in facts.sockets() - {"*"}:
            yield (f"{field.name} is not connected; it needs a {field.type}",)


def _link(api: dict[str, Any], name: str, value: Any, field: facts.Input | None) -> Iterator[tuple[str]]:
    origin = api.get(value[0])
    if origin is None:
        yield (f"{name} comes from node {value[0]}, which is not there",)
        return
    source = facts.kind(origin["class_type"])
    if source is None:
        return
    if not 0 <= value[1] < len(source.outputs):
        yield (f"{name} comes from output {value[1]} of node {value[0]}, which has {len(source.outputs)}",)
    elif field and not field.type.startswith("COMFY_"):
        given = source.outputs[value[1]][1]
        if not fit(given, field.type) and not given.startswith("COMFY_"):
            yield (f"{name} needs a {field.type}, and node {value[0]} ({source.title}) gives a {given}",)


def _circle(graph: Graph, api: dict[str, Any]) -> list[Problem]:
    before = {id: {v[0] for v in node.get("inputs", {}).values() if is_link(v)} for id, node in api.items()}
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        ring = " → ".join(f"{id} ({way(graph, id)})" for id in error.args[1])
        return [Problem(str(error.args[1][0]), way(graph, str(error.args[1][0])), f"the links lead in a circle: {ring}")]
    return []


def differences(a: Recipe, b: Recipe) -> list[tuple[str, Any, Any]]:
    """What differs in meaning between two recipes: (field, in a, in b), as JSON values; pictures by their SHA-256."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return value["sha256"] if set(value) == {"sha256", "png"} else {key: plain(v) for key, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    left, right = (plain(json.loads(recipe.json())) for recipe in (a, b))
    return [(field, left[field], right[field]) for field in left if left[field] != right[field]]
