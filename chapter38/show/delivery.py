"""A finished piece of work as a folder: pictures, the workflow of each, their receipts, and one page that shows them."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chapter38.canvas.export import export, inputs_of
from chapter38.canvas.graph import Graph
from chapter38.canvas.metadata import with_workflow
from chapter38.canvas.read import read
from chapter38.code.models import sha256
from chapter38.errors import CannotExpress, Chapter38Error, MetadataError
from chapter38.picture import Picture, atomic

PAGE, RECEIPTS, PICTURES, WORKFLOWS = "index.html", "receipts.jsonl", "pictures", "workflows"
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:64rem;padding:1rem;color:#1b1b1b;background:#fff}"
    "ul{list-style:none;padding:0;display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr))}"
    "figure{margin:0}h2{font-size:1.1rem;margin:.5rem 0 0}"
    "img{width:100%;height:auto;background:#eee}figcaption p{margin:.25rem 0}a{color:#00558a}"
)


def deliver(
    pictures: Mapping[str, Picture], folder: Path, title: str, says: str = "", words: Mapping[str, str] | None = None
) -> Path:
    """Write named pictures into `folder` and return the page that shows them; the same pictures give the same bytes.

    `words` says what each picture shows, to who cannot see it: by name; the prompt where left out.

    pictures/01-name.png    each with its recipe, lock and workflow inside
    workflows/01-name.json  as ComfyUI's editor opens it, and beside it the pictures that it loads
    receipts.jsonl          one line a picture: name, file, SHA-256, words, recipe, lock; why there is no workflow, if so
    index.html              every picture with its words, one page that asks no other machine for anything

    Raises MetadataError for a picture without a recipe.
    """
    for name in (PICTURES, WORKFLOWS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = [_put(folder, number, name, picture) for number, (name, picture) in enumerate(pictures.items(), 1)]
    rows = [{**row, "words": (words or {}).get(row["name"]) or row["recipe"]["prompt"] or row["name"]} for row in rows]
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    atomic(folder / RECEIPTS, lambda file: file.write(lines.encode()))
    atomic(folder / PAGE, lambda file: file.write(_page(rows, title, says).encode()))
    return folder / PAGE


def problems(folder: Path) -> list[str]:
    """What stands against a delivered folder, in words; empty where all of it can be held to account.

    Every picture has its receipt, its bytes, and its own recipe inside; every workflow reads back as that recipe; the page
    says in words what each picture shows and asks no other machine for anything.
    """
    try:
        rows = [json.loads(line) for line in (folder / RECEIPTS).read_text("utf-8").splitlines()]
        page = (folder / PAGE).read_text("utf-8")
    except (OSError, ValueError) as error:
        return [f"no {RECEIPTS} and {PAGE} that can be read: {type(error).__name__}"]
    found = [problem for row in rows for problem in _against(folder, row)]
    listed, there = {row["file"] for row in rows}, {f"{PICTURES}/{path.name}" for path in (folder / PICTURES).glob("*")}
    found += [f"{file}: has no receipt" for file in sorted(there - listed)]
    shown = {source: alt for tag in re.findall(r"<img\b[^>]*>", page) for source, alt in [(_of(tag, "src"), _of(tag, "alt"))]}
    found += [f"{PAGE}: does not show {file}" for file in sorted(listed - set(shown))]
    found += [f"{PAGE}: no words for {source}" for source, alt in shown.items() if not alt.strip()]
    away = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?\s*((?:https?:)?//[^"')\s>]+)""", page)
    return found + [f"{PAGE}: asks another machine: {address}" for address in away]


def _put(folder: Path, number: int, name: str, picture: Picture) -> dict[str, Any]:
    """Write one picture and its workflow; its row of the receipts."""
    if picture.recipe is None:
        raise MetadataError(f"{name}: has no recipe; a delivered picture says how it was made")
    whole = with_workflow(picture)
    plain = re.sub(r"[^a-z0-9]+", "-", re.sub(r"['’]", "", name.lower())).strip("-")
    stem = f"{number:02}-{plain or 'picture'}"
    path = whole.save(folder / PICTURES / f"{stem}.png")
    lock = whole.receipt.lock.model_dump(mode="json") if whole.receipt else None
    row = {"name": name, "file": f"{PICTURES}/{path.name}", "sha256": sha256(path),
           "recipe": json.loads(picture.recipe.json()), "lock": lock, "size": whole.image.size}  # fmt: skip
    try:
        graph = export(picture.recipe)
    except CannotExpress as error:
        return {**row, "no_workflow": str(error)}
    text = json.dumps(graph.ui(), indent=1).encode()
    atomic(folder / WORKFLOWS / f"{stem}.json", lambda file: file.write(text))
    for file_name, pixels in inputs_of(picture.recipe):
        atomic(folder / WORKFLOWS / file_name, lambda file, png=pixels.png: file.write(png))
    return {**row, "workflow": f"{WORKFLOWS}/{stem}.json"}


def _against(folder: Path, row: dict[str, Any]) -> list[str]:
    """What stands against one picture."""
    path, found = folder / row["file"], []
    try:
        if sha256(path) != row["sha256"]:
            found.append(f"{row['file']}: is not the file that its receipt names")
        recipe = Picture.open(path).recipe
        if recipe is None or json.loads(recipe.json()) != row["recipe"]:
            found.append(f"{row['file']}: the recipe inside is not the one on its receipt")
        if "workflow" in row and recipe is not None:
            graph = Graph.from_json((folder / row["workflow"]).read_text("utf-8"))
            back, misfits = read(replace(graph, pictures={}), folder / WORKFLOWS)
            if back != recipe or misfits:
                found.append(f"{row['workflow']}: reads back as another recipe; {'; '.join(misfits)}")
    except (Chapter38Error, OSError, ValueError) as error:
        found.append(f"{row['file']}: {error}")
    return found


def _page(rows: list[dict[str, Any]], title: str, says: str) -> str:
    said = f"<p>{html.escape(says)}</p>" if says else ""
    shown = "\n".join(f"<li>{_figure(row)}</li>" for row in rows)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><header><h1>{html.escape(title)}</h1>{said}</header>\n<main><ul>\n{shown}\n</ul></main>\n"
        "<footer><p>These pictures were generated. Each file carries its recipe, and the list of the weights that drew it; "
        f'<a href="{RECEIPTS}">all receipts</a>.</p></footer></body></html>\n'
    )


def _figure(row: dict[str, Any]) -> str:
    recipe, (width, height) = row["recipe"], row["size"]
    words, name = html.escape(row["words"]), html.escape(row["name"])
    if "workflow" in row:
        way = f'<a href="{html.escape(row["workflow"])}" aria-label="workflow of {name}">workflow</a>'
    else:
        way = html.escape(f"no workflow: {row['no_workflow']}")
    return (
        f'<figure><img src="{html.escape(row["file"])}" alt="{words}" width="{width}" height="{height}">'
        f"<figcaption><h2>{name}</h2><p>{words}</p><p>seed {recipe['seed']}, {recipe['steps']} steps · {way}</p>"
        "</figcaption></figure>"
    )


def _of(tag: str, attribute: str) -> str:
    found = re.search(rf'\b{attribute}="([^"]*)"', tag)
    return html.unescape(found[1]) if found else ""
