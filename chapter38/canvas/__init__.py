"""Rung 2, ComfyUI: a recipe and a workflow are two spellings of one thing."""

from typing import TYPE_CHECKING

from chapter38.lazy import lazy

if TYPE_CHECKING:
    from chapter38.canvas.compare import check as check
    from chapter38.canvas.draw import draw as draw
    from chapter38.canvas.export import export as export
    from chapter38.canvas.graph import Graph as Graph
    from chapter38.canvas.graph import Link as Link
    from chapter38.canvas.graph import Node as Node
    from chapter38.canvas.read import read as read
    from chapter38.canvas.run import run as run

__getattr__ = lazy(__name__, {
    "Graph": "graph", "Link": "graph", "Node": "graph", "check": "compare", "draw": "draw", "export": "export",
    "read": "read", "run": "run",
})  # fmt: skip
