"""The committed .ipynb of each lesson is its source, executed from clean: complete, quiet, and free of live state.

nbval runs them (`make test-notebooks`); it passes a notebook that was never executed, so these tests come first.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools.notebooks import lessons, read

LESSONS = pytest.mark.parametrize("source", lessons(), ids=lambda path: path.stem)
MIB = 2**20


def committed(source: Path) -> NotebookNode:
    path = source.with_suffix(".ipynb")
    assert path.exists(), f"{path.name} is missing: run `make notebooks NAMES={source.stem}` and commit it"
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


@LESSONS
def test_is_its_source(source: Path) -> None:
    fresh, stored = read(source), committed(source)
    keep = ("id", "cell_type", "source")
    assert [[cell[key] for key in keep] for cell in stored.cells] == [[cell[key] for key in keep] for cell in fresh.cells], (
        f"{source.stem} drifted from its source: run `make notebooks NAMES={source.stem}`"
    )


@LESSONS
def test_was_executed_from_clean_in_order(source: Path) -> None:
    counts = [cell.execution_count for cell in code_cells(committed(source))]
    assert counts == list(range(1, len(counts) + 1))


@LESSONS
def test_has_outputs_and_pictures(source: Path) -> None:
    cells = code_cells(committed(source))
    kinds = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) / 4
    assert {"image/png", "image/svg+xml", "text/html"} & kinds, "a lesson that shows nothing"


@LESSONS
def test_says_nothing_on_stderr_and_raises_nothing(source: Path) -> None:
    for cell in code_cells(committed(source)):
        noisy = [output for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"]
        assert not noisy, f"{cell.source[:80]!r} printed: {json.dumps(noisy)[:400]}"


@LESSONS
def test_holds_no_live_state_and_no_machine(source: Path) -> None:
    text = source.with_suffix(".ipynb").read_text("utf-8")
    assert "application/vnd.jupyter.widget" not in text, "widgets die on a static page; the runner drops their views"
    assert not re.search(r"/(?:work|root|home/\w+|tmp)/\w", text), "a path of one machine"


@LESSONS
def test_page_stays_light(source: Path) -> None:
    assert source.with_suffix(".ipynb").stat().st_size < 2.5 * MIB


@LESSONS
def test_every_picture_has_alt_text_of_its_own(source: Path) -> None:
    """A picture output says in words what it shows: `metadata["image/png"]["alt"]`, or an <img alt> in its HTML."""
    for cell in code_cells(committed(source)):
        for output in cell.outputs:
            data = output.get("data", {})
            for image in re.findall(r"<img\b[^>]*>", "".join(data.get("text/html", ""))):
                assert re.search(r'alt="[^"]+', image), f"no alt text: {image[:80]}"
