"""The proof: Code, `run` and a real ComfyUI draw the same picture to 1/255, or the row says why not and by how much.

The last run is book/comfyui-proof.json, which the site shows. A limit holds for every row that is not refused; of a
refused one, the difference is measured all the same.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chapter38 import Picture, Recipe
from chapter38.canvas import export, run
from chapter38.canvas.client import Server
from chapter38.code import draw, samplers
from chapter38.code.draw import versions
from chapter38.errors import CannotExpress
from tests.comfyui.rows import FORCED, Row, rows

RESULT = Path(__file__).parents[2] / "book" / "comfyui-proof.json"
ROWS = list(rows())
pytestmark = pytest.mark.comfyui


def write_down(row: Row, measured: dict[str, Any], server: Server) -> None:
    """Put one row into the result; the rows that this run leaves out keep their lines, with their own dates."""
    before = json.loads(RESULT.read_text("utf-8"))["table"] if RESULT.exists() else []
    lines = {(line["group"], line["name"]): line for line in before}
    lines[row.group, row.name] = {"group": row.group, "name": row.name, **measured, "comfyui": server.version(),
                                  "date": datetime.now(UTC).date().isoformat()}  # fmt: skip
    known = [lines[row.group, row.name] for row in ROWS if (row.group, row.name) in lines]
    part = RESULT.with_suffix(".part")
    part.write_text(json.dumps(_report(known), indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.replace(RESULT)


def _report(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The table with a summary: versions, how many rows were measured of how many, how far apart the same pictures are."""
    same = [line for line in lines if line["refused"] is None]
    newest = max(lines, key=lambda line: str(line["date"]))
    return {
        "comfyui": newest["comfyui"], "date": newest["date"], "versions": versions(), "rows": len(ROWS),
        "unit": "1/255, largest difference of any channel of any pixel", "measured": len(lines), "same": len(same),
        "largest": max((line["code_server"] for line in same), default=None), "table": lines,
    }  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.group}: {row.name}")
def test_the_same_picture_on_every_rung(row: Row, server: Server, in_zoo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = row.recipe
    ours = draw(recipe)
    refused = _refusal(recipe)
    if refused:
        theirs = _drawn_anyway(server, recipe, monkeypatch)
        difference = None if theirs is None else largest(ours, theirs)
        write_down(row, {"refused": refused, "code_server": difference}, server)
        return
    graph = export(recipe)
    theirs, here = server.run(graph, recipe=recipe), run(graph)
    measured = {"refused": None, "code_server": largest(ours, theirs), "code_run": largest(ours, here),
                "run_server": largest(here, theirs), "touched": touched(ours, theirs)}  # fmt: skip
    write_down(row, measured, server)
    assert np.asarray(ours.image).std() > 5, "a flat picture proves nothing"
    assert measured["code_server"] <= 1 and measured["run_server"] <= 1, measured


def largest(a: Picture, b: Picture) -> int:
    return int(np.abs(_values(a) - _values(b)).max())


def touched(a: Picture, b: Picture) -> float:
    """Share of all values that differ at all: ComfyUI cuts off where Diffusers rounds."""
    return round(float((_values(a) != _values(b)).mean()), 3)


def _values(picture: Picture) -> np.ndarray[Any, Any]:
    return np.asarray(picture.image, np.int16)


def _refusal(recipe: Recipe) -> str | None:
    try:
        export(recipe)
    except CannotExpress as error:
        return str(error)
    return None


def _drawn_anyway(server: Server, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Picture | None:
    """What ComfyUI draws by the nearest names, for a recipe that is refused; None where it has no such thing at all."""
    twin = samplers.twin

    def nearest(sampler: str, spacing: str, steps: int, train_steps: int = 1000) -> samplers.Twin:
        found = twin(sampler, spacing, steps, train_steps)
        return samplers.Twin(found.sampler or FORCED.get(sampler), found.scheduler)

    monkeypatch.setattr(samplers, "twin", nearest)
    try:
        graph = export(recipe)
    except CannotExpress:
        return None
    return server.run(graph, recipe=recipe)
