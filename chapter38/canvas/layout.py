"""A readable place on the canvas for a graph that came without one: left to right, no overlaps, grouped, titled."""

from collections import defaultdict
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from chapter38.canvas.graph import Graph, Json, Node

GROUPS = ("Models", "Prompt", "Start", "Sampling", "Picture")
STARTS = {
    "model/loaders": 0, "model/patch": 0, "model/conditioning": 1, "model/latent": 2, "model/sampling": 3, "image": 4,
}  # fmt: skip
LATE = {"VAEDecode": 4}
COLORS = ("#3f789e", "#a1309b", "#8a6d1d", "#3f789e", "#88A88A")
WIDTH, GAP, PAD, TITLE = 290, 60, 30, 50


def place(graph: Graph) -> Graph:
    """The same graph with position, size and order of every node, and a titled group around each stage."""
    order = _sorted(graph)
    rank, column = _ranks(graph, order)
    stacks: dict[tuple[int, int], list[Node]] = defaultdict(list)
    for node in order:
        stacks[rank[str(node.id)], column[str(node.id)]].append(node)
    x = 0
    boxes: dict[int, tuple[int, int, int, int]] = {}
    placed: dict[str, tuple[list[int], list[int]]] = {}
    for (stage, _), nodes in sorted(stacks.items(), key=lambda item: item[0]):
        left, _, _, bottom = boxes.get(stage, (x, 0, 0, 0))
        y = 0
        for node in nodes:
            placed[str(node.id)] = [x, y], [WIDTH, height(node)]
            y += height(node) + GAP
        boxes[stage] = (left, 0, x + WIDTH, max(bottom, y - GAP))
        x += WIDTH + (GAP if (stage, column[str(nodes[0].id)] + 1) in stacks else GAP + 2 * PAD)
    at = {str(node.id): number for number, node in enumerate(order)}
    spots = [(node, *placed[str(node.id)], at[str(node.id)]) for node in graph.nodes]
    nodes = [replace(n, kept={**n.kept, "pos": pos, "size": size, "order": number}) for n, pos, size, number in spots]
    groups = [_group(number, stage, box) for number, (stage, box) in enumerate(sorted(boxes.items()), 1)]
    kept = {key: value for key, value in graph.kept.items() if key != "groups"} | ({} if groups else {"groups": []})
    return replace(graph, nodes=nodes, groups=groups, kept=kept)


def height(node: Node) -> int:
    """Pixels that a node needs: its slots, its widgets, room for long text or a picture."""
    lines = max(len(node.inputs), len(node.outputs)) + len(node.widgets)
    pictures = any(slot.get("type") == "IMAGE" for slot in _shown(node))
    return 40 + 24 * lines + 110 * ("text" in node.widgets) + 240 * pictures


def _shown(node: Node) -> list[Json]:
    """The slots of pictures that the editor previews inside the node."""
    return node.outputs if node.type == "LoadImage" else node.inputs if node.kind and node.kind.is_output else []


def _sorted(graph: Graph) -> list[Node]:
    by_id = {str(node.id): node for node in graph.nodes}
    before: dict[str, set[str]] = {id: set() for id in by_id}
    for link in graph.links:
        if str(link.origin) in by_id:
            before[str(link.target)].add(str(link.origin))
    try:
        return [by_id[id] for id in TopologicalSorter(before).static_order()]
    except CycleError:
        return graph.nodes  # drawn all the same; `compare.check` names the circle


def _ranks(graph: Graph, order: list[Node]) -> tuple[dict[str, int], dict[str, int]]:
    """(stage of each node, column within its stage); no link leads to an earlier stage, nor to an earlier column."""
    sources, users = defaultdict(list), defaultdict(list)
    for link in graph.links:
        sources[str(link.target)].append(str(link.origin))
        users[str(link.origin)].append(str(link.target))
    own = {str(node.id): _stage(node) for node in order}
    for node in reversed(order):  # a picture that is loaded stands where it is used
        if node.type.startswith("LoadImage") and users[str(node.id)]:
            own[str(node.id)] = min(own[user] for user in users[str(node.id)])
    rank: dict[str, int] = {}
    column: dict[str, int] = {}
    for node in order:
        known = [id for id in sources[str(node.id)] if id in rank]
        rank[str(node.id)] = stage = max([own[str(node.id)], *(rank[id] for id in known)])
        column[str(node.id)] = max((column[id] + 1 for id in known if rank[id] == stage), default=0)
    return rank, column


def _stage(node: Node) -> int:
    category = node.kind.category if node.kind else ""
    found = [stage for start, stage in STARTS.items() if category.startswith(start)]
    return LATE.get(node.type, found[0] if found else 2)


def _group(number: int, stage: int, box: tuple[int, int, int, int]) -> Json:
    left, top, right, bottom = box
    bounding = [left - PAD, top - PAD - TITLE, right - left + 2 * PAD, bottom - top + 2 * PAD + TITLE]
    look = {"color": COLORS[stage], "font_size": 24, "flags": {}}
    return {"id": number, "title": GROUPS[stage], "bounding": bounding, **look}
