"""The pages of the site that data makes: lessons, real models, how the world was trained, the public names.

Each function returns the page as Markdown, or "" where its data is not there.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext

from tools.notebooks import ROOT, SOURCES

ROOMS = ("chapter38", *(f"chapter38.{room}" for room in ("postcards", "code", "measure", "canvas", "call", "ladder")))
ROUTES = {"90": "90 minutes", "core": "★ core"}


def title(lesson: Path) -> str:
    """The first heading of a lesson's source."""
    cells = jupytext.read(lesson).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else lesson.stem


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def lessons_table(link: str = "notebooks/{name}.ipynb") -> str:
    """The lessons that are there, in order, with the routes they belong to."""
    rows = []
    for entry in json.loads((ROOT / "book/lessons.json").read_text("utf-8")):
        source = SOURCES / f"{entry['name']}.py"
        if source.exists():
            routes = ", ".join(ROUTES[route] for route in entry["routes"]) or "everything"
            rows.append([f"[{title(source)}]({link.format(name=entry['name'])})", entry["leaves"], routes])
    return table(["lesson", "you leave with", "route"], rows)


def real_models() -> str:
    """Every row of the registry: what it is, what it asks for, on which machine it fits."""
    registry: dict[str, dict[str, Any]] = json.loads((ROOT / "chapter38/models.json").read_text("utf-8"))
    facts = [key for key in ("tier", "licence", "license", "gated", "gate", "parameters", "memory_gb", "download_gb", "revision")
             if any(key in row for row in registry.values())]  # fmt: skip
    rows = []
    for name, row in registry.items():
        defaults = row.get("defaults", {})
        usual = ", ".join(str(defaults[key]) for key in ("sampler", "spacing", "steps", "guidance") if key in defaults)
        hub = f"`{row['hub']}`" if row.get("hub") else "bundled"
        rows.append([f"`{name}`", hub, f"`{row['pipeline']}`", *(cell(row.get(key)) for key in facts), usual])
    head = ["name", "where", "pipeline", *(fact.replace("_", " ").replace(" gb", ", GB") for fact in facts), "defaults"]
    return (
        "# Real models\n\nEverything that draws with *postcards* draws with these: change `model=` in a recipe. The "
        "table is the registry itself, `chapter38/models.json`; add a row and it is here. What nobody has run on a "
        "given card is marked *not yet run* in the lesson that uses it.\n\n" + table(head, rows) + "\n\n"
        "A model that does not fit, is not downloaded, or asks you to accept a licence first prints one explanation. "
        "`chapter38 doctor` says what this machine can run.\n"
    )


def cell(value: object) -> str:
    """A fact as a reader writes it; an unknown is a dash, never a zero."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def world() -> str:
    """The model cards of the bundled weights, one after the other."""
    cards = sorted((ROOT / "chapter38/postcards/weights").rglob("README.md"))
    if not cards:
        return ""
    text = "\n\n".join(deeper(strip_front_matter(card.read_text("utf-8"))) for card in cards)
    return (
        "# How the world was trained\n\nThe weights that come with the course are trained, not random. These are "
        "their model cards, as they lie beside the weights. `make weights` trains everything again from nothing.\n\n"
        + text
        + "\n"
    )


def strip_front_matter(text: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()


def deeper(text: str) -> str:
    """Markdown with every heading one level down; what stands in code blocks stays."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else re.sub(r"^(#+) ", r"#\1 ", part, flags=re.MULTILINE) for part in parts)


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public names of a room and what they are."""
    names = getattr(module, "__all__", None) or getattr(module, "_home", {})
    for name in sorted(names, key=str.lower):
        if not name.startswith("__"):
            yield name, getattr(module, name)


def api() -> str:
    """Every public name with its signature and docstring, room by room."""
    pages = ["# Public names\n\nGenerated from the docstrings. Errors are one tree under `Chapter38Error`.\n"]
    for room in ROOMS:
        try:
            module = import_module(room)
        except ModuleNotFoundError:
            continue
        names = list(public(module))
        if names:
            first = (inspect.getdoc(module) or "").splitlines()[0]
            pages.append(f"## {room}\n\n{plain(first)}\n")
            pages += [describe(name, value) for name, value in names]
    return "\n".join(pages)


def describe(name: str, value: Any) -> str:
    doc = inspect.getdoc(value) or ""
    first, _, rest = doc.partition("\n\n")
    body = f"\n```text\n{rest.strip()}\n```\n" if rest.strip() else ""
    return f"### {name}\n\n```python\n{signature(name, value)}\n```\n\n{plain(first)}\n{body}"


def signature(name: str, value: Any) -> str:
    """`def name(...)` or `class Name(...)`; a pydantic model shows its fields."""
    fields = getattr(value, "model_fields", None)
    if fields:
        return f"class {name}: {', '.join(fields)}"
    kind: Callable[[str], str] = "class {}".format if inspect.isclass(value) else "def {}".format
    try:
        return kind(f"{name}{inspect.signature(value)}")
    except (TypeError, ValueError):
        return name


def plain(text: str) -> str:
    """A docstring's prose as Markdown: only backticks keep their meaning."""
    parts = re.split(r"(`+[^`]*`+)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_{}\[\]<>$#|~^])", r"\\\1", part) for part in parts)
