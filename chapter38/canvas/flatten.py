"""From the editor's graph to what a server executes, by the editor's own rules.

Muted nodes vanish with their links; a bypassed node hands through the input that fits; reroutes are followed,
primitives written inline; a subgraph's nodes get ids like "12:7".
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chapter38.canvas import nodes as facts
from chapter38.canvas.graph import BYPASSED, INTO, MUTED, OUT_OF, Graph, Link, Node
from chapter38.errors import GraphError

MAX_DEPTH = 64


@dataclass(frozen=True)
class Value:
    """A widget's value that reached an input from outside: from a primitive, or from a subgraph's face."""

    value: Any


Source = tuple[str, int] | Value | None


@dataclass
class Scope:
    """One graph as seen from the top: the workflow itself, or a subgraph in the place of its host node."""

    graph: Graph
    library: dict[str, Graph]
    prefix: str = ""
    outer: "Scope | None" = None
    host: Node | None = None
    links: dict[int, Link] = field(init=False)
    nodes: dict[str, Node] = field(init=False)

    def __post_init__(self) -> None:
        self.links = {link.id: link for link in self.graph.links}
        self.nodes = {str(node.id): node for node in self.graph.nodes}

    def inside(self, host: Node) -> "Scope":
        if self.prefix.count(":") >= MAX_DEPTH:
            raise GraphError(f"node {self.prefix}{host.id}: subgraphs nest deeper than {MAX_DEPTH}; one holds itself")
        return Scope(self.library[host.type], self.library, f"{self.prefix}{host.id}:", self, host)


def flatten(graph: Graph) -> dict[str, Any]:
    """API JSON of a graph: `{"5": {"inputs", "class_type", "_meta"}}`. Raises GraphError where links go in a circle."""
    library = dict(_definitions(graph, 0))
    out = {id: _spell(scope, node) for scope, id, node in _executed(Scope(graph, library))}
    for node in out.values():
        node["inputs"] = {
            name: value for name, value in node["inputs"].items()
            if not isinstance(value, _Wire) or value[0] in out or value.raw
        }  # fmt: skip
        node["inputs"] = {name: list(v) if isinstance(v, _Wire) else v for name, v in node["inputs"].items()}
    return out


class _Wire(list[Any]):
    """A link in API JSON; `raw` where it stood so in API JSON, broken or not."""

    raw = False


def _definitions(graph: Graph, depth: int) -> Iterator[tuple[str, Graph]]:
    for name, sub in graph.subgraphs.items():
        yield name, sub
        if depth < MAX_DEPTH:
            yield from _definitions(sub, depth + 1)


def _executed(scope: Scope) -> Iterator[tuple[Scope, str, Node]]:
    for node in scope.graph.nodes:
        if node.mode in (MUTED, BYPASSED) or node.type in facts.VIRTUAL:
            continue
        if node.type in scope.library:
            yield from _executed(scope.inside(node))
        else:
            yield scope, f"{scope.prefix}{node.id}", node


def _spell(scope: Scope, node: Node) -> dict[str, Any]:
    given = node.api["inputs"] if node.api else None
    inputs: dict[str, Any] = {}
    unnamed: list[Any] = []
    for name, value in node.widgets.items():
        if isinstance(name, int):
            unnamed.append(value)
        elif given is None and name not in facts.UI_ONLY:
            inputs[name] = {"__value__": value} if isinstance(value, list) else value
        elif given is not None and (name in given or _differs(node, name, value)):
            inputs[name] = value
    if given is None and node.kind and len(node.kind.widgets) > len(node.widgets):
        inputs = _defaults(node.kind) | inputs  # an older file, from before the node had them
    for at, slot in enumerate(node.inputs):
        source = _input(scope, node, at, str(slot.get("type", "*")), 0)
        if isinstance(source, Value):
            inputs[str(slot.get("name"))] = source.value
        elif source:
            wire = inputs[str(slot.get("name"))] = _Wire(source)
            wire.raw = given is not None
    if node.api:
        meta = node.api.get("_meta")
        said = {**(meta if isinstance(meta, dict) else {}), "title": node.title}
        return {**node.api, **({"_meta": said} if node.title else {}), "inputs": inputs}
    meta = {"title": node.label, **({"unnamed_widgets": unnamed} if unnamed else {})}
    return {"inputs": inputs, "class_type": node.type, "_meta": meta}


def _defaults(kind: facts.Kind) -> dict[str, Any]:
    grows = any(field.grows for field in kind.inputs)
    return {} if grows else {field.name: field.default for field in kind.inputs if field.is_widget and field.default is not None}


def _differs(node: Node, name: str, value: Any) -> bool:
    """Whether a widget that API JSON left out has been given another value since."""
    spec = node.kind.input(name) if node.kind else None
    return spec is not None and value != spec.default


def _input(scope: Scope, node: Node, at: int, type: str, depth: int) -> Source:
    """What feeds input slot `at` of a node, seen from the top; `type` is that of the slot at the end of the chain."""
    slot = node.inputs[at] if at < len(node.inputs) else {}
    link = scope.links.get(slot["link"]) if isinstance(slot.get("link"), int) else None
    return _output(scope, link, type, depth + 1) if link else None


def _output(scope: Scope, link: Link, type: str, depth: int) -> Source:
    if depth > 200:
        raise GraphError(f"link {link.id} into node {scope.prefix}{link.target}: its source leads in a circle")
    if str(link.origin) == str(INTO):
        return _outside(scope, link, type, depth)
    node, slot = scope.nodes.get(str(link.origin)), link.origin_slot
    if node is None or node.mode == MUTED or slot < 0:
        return None if node or scope.outer else (str(link.origin), slot)
    if node.mode == BYPASSED:
        at = _passes(node, slot, type)
        return None if at is None else _input(scope, node, at, type, depth)
    if node.type == "PrimitiveNode":
        return Value(next(iter(node.widgets.values()), None))
    if node.type in facts.VIRTUAL:
        return _input(scope, node, slot, type, depth)
    if node.type not in scope.library:
        return f"{scope.prefix}{node.id}", slot
    inner = scope.inside(node)
    ends = [end for end in inner.graph.links if str(end.target) == str(OUT_OF) and end.target_slot == slot]
    return _output(inner, ends[0], type, depth + 1) if ends else None


def _outside(scope: Scope, link: Link, type: str, depth: int) -> Source:
    """A link from the face of a subgraph: the host's own slot, matched by name, or the value that its widget holds."""
    ports = scope.graph.kept.get("inputs") or []
    if scope.outer is None or scope.host is None or not 0 <= link.origin_slot < len(ports):
        return None
    name = ports[link.origin_slot].get("name")
    for at, slot in enumerate(scope.host.inputs):
        if slot.get("name") == name and (source := _input(scope.outer, scope.host, at, type, depth)):
            return source
    value = scope.host.widgets.get(name)
    return Value(value) if value is not None else None


def _passes(node: Node, slot: int, wanted: str) -> int | None:
    """Which input a bypassed node hands to its output `slot`: the one beside it if it fits, else the first to fit."""
    types = [str(s.get("type", "*")) for s in node.inputs]
    given = str(node.outputs[slot].get("type", "*")) if slot < len(node.outputs) else "*"
    if wanted in ("", "*"):
        return slot if slot < len(types) else 0
    fits = [fit(type, given) and fit(type, wanted) for type in types]
    if slot < len(types) and fits[slot]:
        return slot
    if wanted in types:
        return types.index(wanted)
    return fits.index(True) if True in fits else None


def fit(a: str, b: str) -> bool:
    """Whether two slot types may be joined: equal, one of a comma-separated list, or a wildcard."""
    if {a, b} & {"", "*"}:
        return True
    return bool(set(a.lower().split(",")) & set(b.lower().split(",")))
