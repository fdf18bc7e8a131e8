"""A Sphinx extension: what the theme does not get right for a site that asks nobody else for anything."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def only_what_is_used(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Drop Thebe's scripts (live kernels are off, and they name an address outside), and MathJax where nothing is set in it."""
    with_maths = doctree is not None and any(doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block)))
    unused = ("thebe",) if with_maths else ("thebe", "mathjax")
    context["script_files"] = [file for file in context["script_files"] if not any(name in words(file) for name in unused)]


def words(file: Any) -> str:
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}".lower()


def name_empty_headers(app: Sphinx, doctree: Any, page: str) -> None:
    """A table's corner that shows nothing still says something to a screen reader."""
    for head in doctree.findall(nodes.thead):
        for cell in head.findall(nodes.entry):
            if not cell.astext().strip():
                cell += nodes.paragraph("", "", nodes.inline("", "row", classes=["visually-hidden"]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", name_empty_headers)
    app.connect("html-page-context", only_what_is_used, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
