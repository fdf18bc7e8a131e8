"""A Sphinx extension: what the theme does not get right for a site that asks nobody else for anything."""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from docutils import nodes
from PIL import Image
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


def say_sizes(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a picture from Markdown its size in pixels, so that what stands below does not jump when it comes."""
    sources = {name: Path(app.srcdir, file) for file, name in app.builder.images.items()}

    def sized(tag: re.Match[str]) -> str:
        source = sources.get(unquote(PurePosixPath(tag["src"]).name))
        if source is None or " width=" in tag[0]:
            return tag[0]
        with Image.open(source) as image:
            return f'<img width="{image.width}" height="{image.height}"{tag[0].removeprefix("<img")}'

    if "body" in context:
        context["body"] = re.sub(r'<img [^>]*?src="(?P<src>[^"]+)"[^>]*>', sized, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", name_empty_headers)
    app.connect("html-page-context", only_what_is_used, priority=900)
    app.connect("html-page-context", say_sizes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
