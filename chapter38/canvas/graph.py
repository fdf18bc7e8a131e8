"""Graph: nodes and links of a ComfyUI workflow. API JSON and UI JSON are two spellings of it; both go in and out.

What this module does not understand it keeps, and writes back unchanged. `flatten.py` turns the editor's spelling
into what a server executes; `layout.py` gives a graph that came without positions a readable place on the canvas.
"""

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from chapter38.canvas import nodes as facts
from chapter38.errors import GraphError
from chapter38.recipe import Pixels

Id = int | str
Json = Any
Slot = dict[str, Any]
T = TypeVar("T")
ALWAYS, MUTED, BYPASSED = 0, 2, 4
INTO, OUT_OF = -10, -20  # the two ends of a subgraph: what its links come from, and what they go to
_NODE = ("id", "type", "title", "mode", "inputs", "outputs", "widgets_values")
_LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


@dataclass(frozen=True)
class Link:
    """From an output slot to an input slot. `kept`: its JSON object, or what a list had beyond six entries."""

    id: int
    origin: Id
    origin_slot: int
    target: Id
    target_slot: int
    type: Json
    kept: Json = ()


@dataclass(frozen=True)
class Node:
    """One node: `widgets` name -> value in the editor's order (the position stands in for a name nobody knows).

    `inputs`, `outputs` are the slots as the editor spells them; `kept` is the rest of its UI JSON, `api` of its
    API JSON (None where it came from the editor).
    """

    id: Id
    type: str
    title: str = ""
    mode: int = ALWAYS
    widgets: dict[str | int, Json] = field(default_factory=dict)
    inputs: list[Slot] = field(default_factory=list)
    outputs: list[Slot] = field(default_factory=list)
    kept: dict[str, Json] = field(default_factory=dict)
    api: dict[str, Json] | None = field(default=None, compare=False)

    @property
    def kind(self) -> facts.Kind | None:
        return facts.kind(self.type)

    @property
    def label(self) -> str:
        """The title if it has one, else the class's own, else the class."""
        return self.title or (self.kind.title if self.kind else self.type)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height on the canvas."""
        pos, size = (_pair(self.kept.get(key), default) for key, default in (("pos", 0), ("size", 100)))
        return (*pos, *size)


def read_json(text: str | bytes, odd: list[str]) -> Json:
    """JSON in which NaN, Infinity and what no float holds (1e999) are null; `odd` gets each as it was written."""

    def number(digits: str) -> float | None:
        if not math.isfinite(value := float(digits)):
            odd.append(digits)
            return None
        return value

    return json.loads(text, parse_constant=odd.append, parse_float=number)


@dataclass(frozen=True)
class Graph:
    """Nodes, links, groups, and the definitions of subgraphs; `kept` is everything else that the file said.

    `pictures`: what its LoadImage nodes load, by file name, where whoever made the graph had them at hand.

    >>> g = Graph.from_api({"4": {"class_type": "LoadImage", "inputs": {"image": "boat.png"}}})
    >>> Graph.from_api(g.api()) == g == Graph.from_ui(g.ui())
    True
    """

    nodes: list[Node]
    links: list[Link] = field(default_factory=list)
    groups: list[Json] = field(default_factory=list)
    subgraphs: dict[str, "Graph"] = field(default_factory=dict)
    kept: dict[str, Json] = field(default_factory=dict)
    pictures: dict[str, Pixels] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Graph":
        """Read either spelling (a POSTed `{"prompt": …}` too). NaN and 1e999 become null. Raises GraphError on anything else."""
        try:
            value = read_json(text, [])
        except (ValueError, RecursionError) as error:
            raise GraphError(f"not JSON: {error}") from None
        return cls.parse(value)

    @classmethod
    def parse(cls, value: Json) -> "Graph":
        """Either spelling, as JSON values."""
        if isinstance(value, dict) and isinstance(value.get("nodes"), list):
            return cls.from_ui(value)
        if isinstance(value, dict) and isinstance(value.get("prompt"), dict) and "class_type" not in value["prompt"]:
            return cls.from_api(value["prompt"])
        return cls.from_api(value)

    @classmethod
    def from_api(cls, value: Json, *, placed: bool = True) -> "Graph":
        """From `{"5": {"class_type", "inputs"}}`, which a server executes. Positions are worked out where `placed`."""
        from chapter38.canvas.layout import place

        graph = guarded(lambda: _from_api(copy.deepcopy(value)))
        return place(graph) if placed else graph

    @classmethod
    def from_ui(cls, value: Json) -> "Graph":
        """From what the editor saves, schema 0.4 or 1, with its subgraphs."""
        return guarded(lambda: _from_ui(copy.deepcopy(value), "workflow"))

    def api(self) -> dict[str, Json]:
        """API JSON: subgraphs flattened (ids like "12:7"), reroutes, primitives, muted and bypassed nodes resolved."""
        from chapter38.canvas.flatten import flatten

        return guarded(lambda: flatten(self))

    def ui(self) -> dict[str, Json]:
        """UI JSON, as the editor saves it."""
        fields = {"nodes": [_node_out(node) for node in self.nodes], "groups": copy.deepcopy(self.groups),
                  "links": [_link_out(link) for link in self.links]}  # fmt: skip
        out = {**copy.deepcopy(self.kept), **{key: value for key, value in fields.items() if value or key == "nodes"}}
        if self.subgraphs:
            out["definitions"]["subgraphs"] = [sub.ui() for sub in self.subgraphs.values()]
        return out

    def node(self, id: Id) -> Node:
        """The node with this id. Raises GraphError where there is none."""
        for node in self.nodes:
            if str(node.id) == str(id):
                return node
        raise GraphError(f"no node {id!r}; expected one of {', '.join(str(node.id) for node in self.nodes)}")

    def set(self, id: Id, **values: Json) -> "Graph":
        """The same graph with some widgets of one node changed: `g.set(3, seed=39)`."""
        node = self.node(id)
        if unknown := set(values) - set(node.widgets):
            raise GraphError(f"node {id} ({node.label}) has no widget {sorted(unknown)}; it has {list(node.widgets)}")
        widgets: dict[str | int, Json] = {**node.widgets, **dict(values.items())}
        new = replace(node, widgets=widgets)
        return replace(self, nodes=[new if other is node else other for other in self.nodes])

    def _repr_svg_(self) -> str:
        from chapter38.canvas.draw import svg

        return svg(self)


def guarded(read: Callable[[], T]) -> T:
    """Whatever a hostile file provokes while it is read leaves as a GraphError."""
    try:
        return read()
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, GraphError):
            raise
        raise GraphError(f"not a workflow: {type(error).__name__}: {error}") from None


def _must(value: Json, type_: type[T], where: str) -> T:
    if not isinstance(value, type_):
        raise GraphError(f"{where}: expected {type_.__name__}, got {value!r:.60}")
    return value


def _pair(value: Json, default: float) -> tuple[float, float]:
    """A position or size as the editor has spelled it over the years: a list, or an object with keys "0" and "1"."""
    if isinstance(value, Mapping):
        value = [value.get("0"), value.get("1")]
    good = isinstance(value, (list, tuple)) and len(value) >= 2 and all(isinstance(v, (int, float)) for v in value[:2])
    return (float(value[0]), float(value[1])) if good else (float(default), float(default))


# --- the editor's spelling --------------------------------------------------------------------------------------


def _from_ui(raw: Json, where: str) -> Graph:
    raw = _must(raw, dict, where)
    definitions = _must(raw.get("definitions") or {}, dict, f"{where}: definitions")
    subgraphs = {}
    for sub in _must(definitions.get("subgraphs") or [], list, f"{where}: subgraphs"):
        name = str(_must(sub, dict, f"{where}: a subgraph")["id"])
        subgraphs[name] = _from_ui(sub, f"subgraph {sub.get('name', name)}")
    nodes = [_node_in(node, where) for node in _must(raw.get("nodes"), list, f"{where}: nodes")]
    links = [_link_in(link, where) for link in _must(raw.get("links") or [], list, f"{where}: links")]
    if len({str(node.id) for node in nodes}) != len(nodes):
        raise GraphError(f"{where}: two nodes have the same id")
    kept = _rest(raw, ("nodes", "links", "groups"))
    if subgraphs:
        kept["definitions"] = _rest(definitions, ("subgraphs",))
    return Graph(nodes, links, _must(raw.get("groups") or [], list, f"{where}: groups"), subgraphs, kept)


def _rest(raw: dict[str, Json], modelled: tuple[str, ...]) -> dict[str, Json]:
    """What is left beside the modelled fields; of those only the empty ones, to be written back as they were."""
    always = ("id", "type", "nodes")
    return {key: value for key, value in raw.items() if key not in modelled or not (value or key in always)}


def _node_in(raw: Json, where: str) -> Node:
    raw = _must(raw, dict, f"{where}: a node")
    id, type = raw.get("id"), _must(raw.get("type"), str, f"{where}: type of node {raw.get('id')!r}")
    if isinstance(id, bool) or not isinstance(id, (int, str)):
        raise GraphError(f"{where}: a node's id is a number or text, got {id!r:.60}")
    inputs, outputs = (
        [_must(s, dict, f"{where}: slot of node {id}") for s in raw.get(k) or []] for k in ("inputs", "outputs")
    )
    title = _must(raw.get("title") or "", str, f"title of node {id}")
    mode = _must(raw.get("mode") or ALWAYS, int, f"mode of node {id}")
    widgets, kept = _widgets_in(raw, type, inputs), _rest(raw, _NODE)
    if isinstance(raw.get("widgets_values"), dict):
        kept["widgets_values"] = {}
    if _named(raw):
        kept["widgets_values_named"] = True
    return Node(id, type, title, mode, widgets, inputs, outputs, kept)


def _named(raw: dict[str, Json]) -> bool:
    """Whether the file itself says, and says right, what each of `widgets_values` is called."""
    named, values = raw.get("widgets_values_named"), raw.get("widgets_values")
    return isinstance(named, dict) and isinstance(values, list) and list(named.values()) == values


def _widgets_in(raw: dict[str, Json], type: str, inputs: list[Slot]) -> dict[str | int, Json]:
    """Names for `widgets_values`: the file's own where it gives them, else the facts', else the slots', else none."""
    values = raw.get("widgets_values")
    if isinstance(values, dict):
        return dict(values)
    if not isinstance(values, list):
        return {}
    if _named(raw):
        return dict(raw["widgets_values_named"])
    names = widget_names(type, raw, inputs)
    if facts.CONTROL in names and len(values) < len(names):
        at = names.index(facts.CONTROL)
        if at < len(values) and values[at] not in ("fixed", "randomize", "increment", "decrement"):
            names.pop(at)  # an older or hand-written file that leaves it out
    out: dict[str | int, Json] = {}
    for position, value in enumerate(values):
        name = names[position] if position < len(names) else position
        out[position if name in out else name] = value
    return out


def widget_names(type: str, raw: dict[str, Json], inputs: list[Slot]) -> list[str]:
    """The editor's order of a node's widgets, as far as it is known."""
    if known := facts.kind(type):
        return list(known.widgets)
    proxies = raw.get("properties", {}).get("proxyWidgets") if isinstance(raw.get("properties"), dict) else None
    if isinstance(proxies, list) and all(isinstance(p, list) and len(p) >= 2 for p in proxies):
        return [str(p[1]) if str(p[0]) == "-1" else f"{p[0]}.{p[1]}" for p in proxies]
    return [str(slot["widget"].get("name")) for slot in inputs if isinstance(slot.get("widget"), dict)]


def _node_out(node: Node) -> dict[str, Json]:
    values = dict(node.widgets)
    dressed = isinstance(node.kept.get("widgets_values"), dict)
    out = {**node.kept, "id": node.id, "type": node.type}
    fields = {"title": node.title, "mode": node.mode, "inputs": node.inputs, "outputs": node.outputs,
              "widgets_values": values if dressed else list(values.values())}  # fmt: skip
    out.update({key: value for key, value in fields.items() if value})
    if node.kept.get("widgets_values_named") is True:
        out["widgets_values_named"] = values
    return copy.deepcopy(out)


def _link_in(raw: Json, where: str) -> Link:
    if isinstance(raw, dict):
        id, origin, origin_slot, target, target_slot = (raw[key] for key in _LINK[:5])
        type, kept = raw.get("type"), {k: raw[k] for k in raw if k not in _LINK}
    else:
        raw = [*_must(raw, list, f"{where}: a link"), *[None] * (6 - len(raw))]
        id, origin, origin_slot, target, target_slot, type, *kept = raw
    link = Link(id, origin, origin_slot, target, target_slot, type, kept if isinstance(kept, dict) else tuple(kept))
    for value in (link.id, link.origin_slot, link.target_slot):
        if isinstance(value, bool) or not isinstance(value, int):
            raise GraphError(f"{where}: a link's id and slots are whole numbers, got {raw!r:.80}")
    if not (isinstance(link.origin, (int, str)) and isinstance(link.target, (int, str))):
        raise GraphError(f"{where}: a link joins two nodes, got {raw!r:.80}")
    return link


def _link_out(link: Link) -> Json:
    values = [link.id, link.origin, link.origin_slot, link.target, link.target_slot, link.type]
    if isinstance(link.kept, dict):
        return {**dict(zip(_LINK, values, strict=True)), **copy.deepcopy(link.kept)}
    return [*values, *link.kept]


# --- the server's spelling --------------------------------------------------------------------------------------


def is_link(value: Json) -> bool:
    """Whether an input's value in API JSON is a link: ["node", slot]."""
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
        and isinstance(value[1], int) and not isinstance(value[1], bool)
    )  # fmt: skip


def _from_api(raw: Json) -> Graph:
    raw = _must(raw, dict, "workflow")
    for id, node in raw.items():
        if not (isinstance(node, dict) and isinstance(node.get("class_type"), str)):
            raise GraphError(f'node {id!r}: expected {{"class_type": …, "inputs": …}}, got {node!r:.60}')
        _must(node.get("inputs", {}), dict, f"node {id}: inputs")
    made = {id: _node_from_api(id, node) for id, node in raw.items()}
    links: list[Link] = []
    for node in made.values():
        for at, slot in enumerate(node.inputs):
            if is_link(slot["link"]):
                origin, origin_slot = slot["link"]
                source = made.get(origin)
                type = _output_type(source, origin_slot) if source else "*"
                links.append(Link(len(links) + 1, _id(origin), origin_slot, node.id, at, type))
                slot["link"] = len(links)
                _plug(source, origin_slot, len(links))
    numbers = [node.id for node in made.values() if isinstance(node.id, int)]
    kept = {"revision": 0, "last_node_id": max(numbers, default=0), "last_link_id": len(links),
            "config": {}, "extra": {}, "version": 0.4, **({} if links else {"links": []})}  # fmt: skip
    return Graph([_trim(node) for node in made.values()], links, [], {}, kept)


def _trim(node: Node) -> Node:
    """Forget that a field was empty once it is not, so that a graph equals itself read back from the editor's JSON."""
    full: dict[str, Json] = {"inputs": node.inputs, "outputs": node.outputs, "widgets_values": node.widgets}
    return replace(node, kept={key: value for key, value in node.kept.items() if not full.get(key)})


def _id(text: str) -> Id:
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text


def _node_from_api(id: str, raw: dict[str, Json]) -> Node:
    given, known = dict(raw.get("inputs", {})), facts.kind(raw["class_type"])
    widgets: dict[str | int, Json] = {}
    inputs: list[Slot] = []
    for spec in known.inputs if known else ():
        value = given.get(spec.name, spec.default)
        if is_link(value) or not spec.is_widget:
            inputs.append(_slot(spec.name, spec.type, value, spec.is_widget))
        if spec.is_widget:
            widgets[spec.name] = spec.default if is_link(value) else value
            widgets.update({facts.CONTROL: facts.UI_ONLY[facts.CONTROL]} if spec.control else {})
    widgets.update({"upload": facts.UI_ONLY["upload"]} if known and "upload" in known.widgets else {})
    for name, value in given.items():
        if not is_link(value):
            widgets[name] = value
        elif not (known and known.input(name)):
            inputs.append(_slot(name, "*", value, False))
    outputs: list[Slot] = [{"name": n, "type": t, "links": []} for n, t in known.outputs] if known else []
    title = raw["_meta"].get("title") if isinstance(raw.get("_meta"), dict) else None
    kept: dict[str, Json] = {
        "flags": {},
        "properties": {"Node name for S&R": raw["class_type"]},
        **{key: [] for key in _NODE[4:]},
    }
    if list(widgets) != (list(known.widgets) if known else []):
        kept["widgets_values_named"] = True
    api = {**raw, "inputs": list(given)}
    return Node(_id(id), raw["class_type"], title if isinstance(title, str) else "", ALWAYS,
                widgets, inputs, outputs, {**kept, "mode": ALWAYS}, api)  # fmt: skip


def _slot(name: str, type: str, value: Json, is_widget: bool) -> Slot:
    slot: Slot = {"name": name, "type": type, "link": value if is_link(value) else None}
    return {**slot, "widget": {"name": name}} if is_widget else slot


def _output_type(node: Node, slot: int) -> str:
    return str(node.outputs[slot]["type"]) if 0 <= slot < len(node.outputs) else "*"


def _plug(node: Node | None, slot: int, link: int) -> None:
    """Note a link in the output slot that it leaves; an unknown class shows the slots that are used."""
    if node is None or not 0 <= slot < 256:
        return
    while node.kind is None and len(node.outputs) <= slot:
        node.outputs.append({"name": str(len(node.outputs)), "type": "*", "links": []})
    if slot < len(node.outputs):
        node.outputs[slot]["links"].append(link)
