"""The pages of the site that data makes: lessons, claims, real models, how the world was trained, the public names.

Each function returns the page as Markdown, or "" where its data is not there.
"""

import ast
import html
import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import yaml
from mdit_py_plugins.anchors.index import slugify

from tools.notebooks import ROOT, SOURCES

ROOMS = ("chapter38", *(f"chapter38.{room}" for room in ("postcards", "code", "measure", "canvas", "call", "ladder")))
UNITS = {"x": "×", "/s": "a second"}
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
    facts = ["tier", "memory_gb", "parameters", "licence", "commercial", "gated"]
    rows = []
    for name, row in registry.items():
        defaults = row.get("defaults", {})
        usual = ", ".join(str(defaults[key]) for key in ("sampler", "spacing", "steps", "guidance") if key in defaults)
        hub = f"`{row['hub']}`" if row.get("hub") else "bundled"
        size = round(row["parameters"] / 10**6) if row.get("parameters") else None
        row = {**row, "parameters": size}
        rows.append([f"`{name}`", *(cell(row.get(key)) for key in facts), usual, hub, f"`{row['pipeline']}`"])
    units = {"memory_gb": "memory, GB", "parameters": "parameters, millions"}
    head = ["name", *(units.get(fact, fact) for fact in facts), "defaults", "where", "pipeline"]
    return (
        "# Real models\n\nEverything that draws with *postcards* draws with these: change `model=` in a recipe. The "
        "table is the registry itself, `chapter38/models.json`; add a row and it is here. What nobody has run on a "
        "given card is marked *not yet run* in the lesson that uses it.\n\n" + table(head, rows) + "\n\n"
        "A model that does not fit, is not downloaded, or asks you to accept a licence first prints one explanation. "
        "`chapter38 doctor` says what this machine can run.\n" + on_a_gpu()
    )


def on_a_gpu() -> str:
    """What `make bench-gpu` measured last: seconds and memory of a picture, the model in its full size."""
    told = json.loads((ROOT / "book/bench-gpu.json").read_text("utf-8"))
    rows = [
        [f"`{row['model']}`", f"{row['size']}, {row['steps']} steps, {row['dtype']}",
         f"{row['seconds']} ({row['low']} to {row['high']})", str(row["peak_gib"])]
        for row in told["rows"]
    ]  # fmt: skip
    versions = ", ".join(f"{name} {told['versions'][name]}" for name in ("torch", "diffusers"))
    return (
        f"\n## On a GPU\n\nSeconds and memory of one picture by `draw`, words to pixels, on one {told['gpu']} "
        f"({told['date']}, {versions}). The weights are {told['weights']}: speed and memory are the real model's, the pictures "
        "are not. Seconds: the median, with the shortest and the longest. `make bench-gpu` measures your card.\n\n"
        + table(["model", "picture", "seconds", "most memory, GiB"], rows)
        + "\n"
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


def claims() -> str:
    """Every assertion of every lesson under the section that makes the claim, and what each work's measurement is."""
    parts = [
        "# What is measured\n\nGenerated from the lessons' own assertions. Each line below runs every time a lesson is "
        "executed; where one does not hold, the lesson fails and is not shown. A claim of a paper that the measurement "
        "does not support is told in the lesson as it came out.\n\n## Works and their measurements\n\n" + measured_works()
    ]
    for lesson in sorted(SOURCES.glob("38_*.py")):
        rows = [
            [f"[{section}](../notebooks/{lesson.stem}.ipynb#{slugify(section)})", lines] for section, lines in asserted(lesson)
        ]
        parts.append(f"## {title(lesson)}\n\n" + table(["where", "asserted"], rows))
    return "\n\n".join(parts) + "\n"


def measured_works() -> str:
    """The works of the chapter's bibliography: what is measured again of each, and in which of the lessons that are there."""
    entries = yaml.safe_load((ROOT / "book/reading-map.yml").read_text("utf-8"))["entries"]
    there = {lesson.stem: title(lesson) for lesson in SOURCES.glob("38_*.py")}
    rows = []
    for entry in entries:
        if entry.get("measures"):
            links = [f"[{there[name]}](../notebooks/{name}.ipynb)" for name in entry.get("lessons", ()) if name in there]
            rows.append([entry["title"], entry["measures"], ", ".join(links) or "not yet measured: its lesson is not there yet"])
    return table(["work", "measured again", "in"], rows)


def asserted(lesson: Path) -> Iterator[tuple[str, str]]:
    """(heading, its assertions as code) for each section of a lesson that asserts."""
    section, found = title(lesson), list[str]()
    for cell in jupytext.read(lesson).cells:
        if cell.cell_type == "code":
            found += [code(node.test) for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
        for heading in re.findall(r"^##+ (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else ():
            if found:
                yield section, "<br>".join(found)
            section, found = heading.strip(), []
    if found:
        yield section, "<br>".join(found)


def code(node: ast.expr) -> str:
    """An expression as inline code in a table."""
    return f"<code>{html.escape(ast.unparse(node))}</code>".replace("|", "&#124;")


def proofs() -> str:
    """The last runs of `make bench` and `make test-comfyui`."""
    parts = [
        "# Same picture, and how fast\n\nTwo results that are too long for a lesson: their last run, with date and versions, as "
        "it was written down by the command that anyone can repeat."
    ]
    for file, told in (("bench.json", benches), ("comfyui-proof.json", comfyui)):
        path = ROOT / "book" / file
        parts += [told(json.loads(path.read_text("utf-8")))] if path.exists() else []
    return "\n\n".join(parts) + "\n"


def ran(found: dict[str, Any]) -> str:
    return f"{found['date']}, " + ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def figure(value: float) -> str:
    """Three figures; from a hundred on, whole numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def benches(found: dict[str, Any]) -> str:
    """Ratios measured side by side, with the smallest and the largest of the rounds."""
    machine = found["hardware"]
    rows = [
        [row["says"], f"{figure(row['value'])} {UNITS.get(row['unit'], row['unit'])}",
         f"{figure(row['low'])} to {figure(row['high'])}",
         str(row["rounds"]), row["date"]]
        for row in found["rows"]
    ]  # fmt: skip
    return (
        f"## Speed (`make bench`)\n\n{machine['cores']} cores of {machine['cpu']}, {machine['threads']} thread a process, "
        f"{machine['memory_gib']} GiB; {ran(found)}. Seconds belong to this machine; ratios mostly carry to others.\n\n"
        + table(["what", "median", "of the rounds", "rounds", "date"], rows)
    )


def comfyui(found: dict[str, Any]) -> str:
    """Each row of the proof: same to 1/255, or refused with the reason and what the nearest workflow draws instead."""
    same = [row for row in found["table"] if row["refused"] is None]
    groups = {group: [row for row in same if row["group"] == group] for group in dict.fromkeys(row["group"] for row in same)}
    proved = [[group, str(len(rows)), str(max(row["code_server"] for row in rows)), str(max(row["run_server"] for row in rows))]
              for group, rows in groups.items()]  # fmt: skip
    other = [[f"{row['group']}: {row['name']}", plain(row["refused"]), "no such thing there" if row["code_server"] is None
              else str(row["code_server"])] for row in found["table"] if row["refused"]]  # fmt: skip
    return (
        f"## The same picture from a real ComfyUI (`make test-comfyui`)\n\nComfyUI {found['comfyui']}; {ran(found)}. "
        "Every recipe is drawn by the code rung, by `canvas.run` without ComfyUI, and by the server; "
        f"{len(same)} of {len(found['table'])} can be said on the canvas, "
        f"and no value of any pixel of theirs differs by more than {found['largest']}/255: ComfyUI cuts "
        "off where Diffusers rounds.\n\n"
        + table(["recipes", "rows", "code and server, 1/255", "run and server, 1/255"], proved)
        + "\n\n### What the canvas cannot say\n\nThese are refused before anything runs. The last column is what the "
        "nearest workflow would have drawn instead: the largest difference of any value.\n\n"
        + table(["recipe", "why not", "difference, 1/255"], other)
    )
