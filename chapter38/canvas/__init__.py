"""Rung 2, ComfyUI: a recipe and a workflow are two spellings of one thing."""

from chapter38.canvas.graph import Graph, Link, Node

__all__ = ["Graph", "Link", "Node"]
