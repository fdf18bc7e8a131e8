"""A workflow as a picture: a plain SVG, with words for those who do not see it. And `draw`: the Canvas rung's front door."""

from html import escape
from typing import Any

from chapter38.canvas.graph import Graph, Node
from chapter38.canvas.layout import place
from chapter38.picture import Picture
from chapter38.recipe import Recipe

TITLE, LINE, PAD = 28, 18, 40
COLORS = {
    "MODEL": "#5b3fa0", "CLIP": "#8a6100", "VAE": "#b3261e", "CONDITIONING": "#a34700", "LATENT": "#a01b73",
    "IMAGE": "#1f5fbf", "MASK": "#2b7a2b", "CONTROL_NET": "#00695c",
}  # fmt: skip
_STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1b1b1b}.t{font-weight:600}.w{fill:#444}.g{font-size:16px;fill:#333}"
    ".n{fill:#fff;stroke:#555}.h{fill:#e8e8ee;stroke:#555}.f{fill:#f6f6f4;stroke:#c9c9c4}.l{fill:none;stroke-width:2}"
)


def draw(recipe: Recipe) -> Picture:
    """Draw one recipe on the Canvas rung: exported as a workflow, and the workflow run. The same picture as on Code."""
    from chapter38.canvas.export import export
    from chapter38.canvas.run import run

    return run(export(recipe))


def svg(graph: Graph, scale: float | None = None) -> str:
    """A graph as SVG: titles, slots, links coloured and dashed by type, widget values; `title` and `desc` say it in words.

    scale: pixels of the picture to one of ComfyUI's canvas; None: as wide as the place it stands in.
    """
    graph = graph if any("pos" in node.kept for node in graph.nodes) else place(graph)
    boxes = {str(node.id): _box(node) for node in graph.nodes}
    frames = [tuple(map(float, group["bounding"])) for group in graph.groups if _four(group)]
    left, top, right, bottom = _bounds([*boxes.values(), *frames])
    parts = [f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="#fff"/>']
    for group in filter(_four, graph.groups):
        x, y, w, h = group["bounding"]
        parts.append(f'<rect class="f" x="{x}" y="{y}" width="{w}" height="{h}" rx="8"/>')
        parts.append(_text(x + 12, y + 26, str(group.get("title", "")), "g"))
    parts += [line for link in graph.links if (line := _link(graph, link, boxes))]
    parts += [_node(node, boxes[str(node.id)]) for node in graph.nodes]
    wide = f'width="{(right - left) * scale:.0f}" height="{(bottom - top) * scale:.0f}"' if scale else 'width="100%"'
    size = f'viewBox="{left} {top} {right - left} {bottom - top}" {wide}'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="wt wd" {size}>'
    words = f'<title id="wt">{escape(_title(graph))}</title><desc id="wd">{escape(describe(graph))}</desc>'
    return f"{head}{words}<style>{_STYLE}</style>{''.join(parts)}</svg>"


def describe(graph: Graph) -> str:
    """The graph in words: each node, and what feeds it."""
    labels = {str(node.id): node.label for node in graph.nodes}
    feeds: dict[str, list[str]] = {id: [] for id in labels}
    for link in graph.links:
        if str(link.target) in feeds and str(link.origin) in labels:
            feeds[str(link.target)].append(f"{link.type} from {labels[str(link.origin)]}")
    return "; ".join(f"{labels[id]}: {', '.join(told) or 'no inputs'}" for id, told in feeds.items())


def _title(graph: Graph) -> str:
    return f"Workflow of {len(graph.nodes)} nodes and {len(graph.links)} links"


def _box(node: Node) -> tuple[float, float, float, float]:
    x, y, width, _ = node.box
    return x, y, max(width, 160), TITLE + LINE * (max(len(node.inputs), len(node.outputs)) + len(_values(node))) + 10


def _values(node: Node) -> list[str]:
    return [f"{name}: {' '.join(str(value).split())}" for name, value in node.widgets.items() if name != "upload"]


def _node(node: Node, box: tuple[float, float, float, float]) -> str:
    x, y, width, height = box
    faded = ' opacity="0.45"' if node.mode else ""
    parts = [f'<rect class="n" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>',
             f'<rect class="h" x="{x}" y="{y}" width="{width}" height="{TITLE}" rx="6"/>',
             _text(x + 10, y + 19, node.label, "t", width - 20)]  # fmt: skip
    for at, slot in enumerate(node.inputs):
        parts.append(_dot(x, _y(box, at), slot) + _text(x + 10, _y(box, at) + 4, str(slot.get("name")), "", width / 2))
    for at, slot in enumerate(node.outputs):
        parts.append(_dot(x + width, _y(box, at), slot))
        parts.append(_text(x + width - 10, _y(box, at) + 4, str(slot.get("name")), "", width / 2, end=True))
    rows = max(len(node.inputs), len(node.outputs))
    parts += [_text(x + 10, _y(box, rows + at) + 4, value, "w", width - 20) for at, value in enumerate(_values(node))]
    return f"<g{faded}>{''.join(parts)}</g>"


def _link(graph: Graph, link: Any, boxes: dict[str, tuple[float, float, float, float]]) -> str:
    if str(link.origin) not in boxes or str(link.target) not in boxes:
        return ""
    a, b = boxes[str(link.origin)], boxes[str(link.target)]
    x1, y1, x2, y2 = a[0] + a[2], _y(a, link.origin_slot), b[0], _y(b, link.target_slot)
    bend = max(abs(x2 - x1) / 2, 30)
    kind = str(link.type)
    dash = "" if kind in ("IMAGE", "LATENT") else ' stroke-dasharray="7 3"' if kind == "CONDITIONING" else ""
    path = f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    return f'<path class="l" stroke="{COLORS.get(kind, "#666")}"{dash} d="{path}"><title>{escape(kind)}</title></path>'


def _y(box: tuple[float, float, float, float], row: int) -> float:
    return box[1] + TITLE + LINE * row + 14


def _dot(x: float, y: float, slot: dict[str, Any]) -> str:
    return f'<circle cx="{x}" cy="{y}" r="4" fill="{COLORS.get(str(slot.get("type")), "#666")}"/>'


def _text(x: float, y: float, text: str, kind: str, width: float = 1e9, end: bool = False) -> str:
    letter = 8.2 if kind == "t" else 7.5  # pixels, on the average
    shown = text if len(text) * letter <= width else text[: max(int(width / letter) - 1, 1)] + "…"
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{anchor}>{escape(shown)}</text>'


def _four(group: Any) -> bool:
    box = group.get("bounding") if isinstance(group, dict) else None
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) for v in box)


def _bounds(boxes: list[tuple[float, ...]]) -> tuple[float, float, float, float]:
    if not boxes:
        return 0, 0, 100, 100
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    return left - PAD, top - PAD, right + PAD, bottom + PAD
