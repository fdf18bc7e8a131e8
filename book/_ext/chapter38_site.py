"""A Sphinx extension: what the theme does not get right for a site that asks nobody else for anything."""

from typing import Any

from sphinx.application import Sphinx


def without_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Drop Thebe's scripts: live kernels are switched off, and they name an address outside the site."""
    context["script_files"] = [file for file in context["script_files"] if not is_thebe(file)]


def is_thebe(file: Any) -> bool:
    text = f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}"
    return "thebe" in text.lower()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
