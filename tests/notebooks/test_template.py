"""Every lesson keeps the template: what opens it, the walk, the prediction, the exercises with folded solutions, the end."""

import ast
import re
from pathlib import Path

import jupytext
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("38_*.py"))
LESSON = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
LONGEST = 15  # lines of a cell; what is longer belongs in the package
INSTALL = "[notebooks]"


def cells(path: Path, kind: str) -> list[NotebookNode]:
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == kind]


def text(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def code(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "code"))


def section(path: Path, heading: str) -> str:
    """The text under the first `##` or `###` heading that begins with `heading`, up to the next of its rank."""
    found = re.search(rf"^(##+) {heading}[^\n]*\n(.*?)(?=^##? |\Z)", text(path), re.MULTILINE | re.DOTALL)
    assert found, f"{path.stem} has no section '{heading}'"
    return found[2]


@LESSON
def test_title_and_routes(path: Path) -> None:
    first = cells(path, "markdown")[0].source
    assert re.match(r"# 38\.\d\w? · ", first), "the title is '# 38.1a · …'"
    assert re.search(r"\*\*Routes?:\*\*.*everything", first), "the routes are marked under the title"


@LESSON
def test_objectives(path: Path) -> None:
    assert 2 <= len(re.findall(r"^- ", section(path, "What you will be able to do"), re.MULTILINE)) <= 4


@LESSON
def test_two_questions_with_a_way_into_the_refresher(path: Path) -> None:
    before = section(path, "Before you start")
    questions, answers = before.split("<details>")[0], before.split("<details>")[1]
    assert len(re.findall(r"^\d\. ", questions, re.MULTILINE)) == 2
    assert "refresher.md#" in answers


@LESSON
def test_cost_table(path: Path) -> None:
    cost = section(path, "What it costs")
    assert cost.count("\n|") >= 4 and all(word in cost for word in ("time", "memory", "download"))


@LESSON
def test_walk_from_the_naive_way_to_the_proof_in_order(path: Path) -> None:
    steps = ("The naive way", "What goes wrong", "The library's way", "Proof")
    places = [text(path).find(f"\n## {step}") for step in steps]
    assert -1 not in places and places == sorted(places), dict(zip(steps, places, strict=True))


@LESSON
def test_a_prediction_is_made_one_cell_before_it_is_measured(path: Path) -> None:
    sources = [cell.source for cell in cells(path, "code")]
    made = [i for i, source in enumerate(sources) if re.match(r"my_prediction = \.\.\.", source)]
    assert made, "a cell `my_prediction = ...  # what is asked`"
    assert all("guess(my_prediction" in sources[i + 1] for i in made), "the next cell holds it against the measurement"


@LESSON
@pytest.mark.parametrize("heading", ["A misconception: ", "What scales, what does not", "Where next"])
def test_has_section(path: Path, heading: str) -> None:
    assert section(path, heading).strip()


@LESSON
def test_says_what_was_run_on_real_models(path: Path) -> None:
    scales = section(path, "What scales, what does not")
    assert "**On real models**" in scales and re.search(r"not yet run|\d{4}-\d\d-\d\d", scales)


@LESSON
def test_exercises_have_checks_and_folded_solutions(path: Path) -> None:
    exercises = re.findall(r"^### Exercise \d+ \((\w+)\)", text(path), re.MULTILINE)
    assert len(exercises) >= 3 and set(exercises) <= {"predict", "change", "build"}
    assert len(re.findall(r"^check_\w+\(", code(path), re.MULTILINE)) >= len(exercises)
    assert text(path).count("<summary>Solution</summary>") == len(exercises)
    assert not re.findall(r"^check_\w+\((?!.*\b\w+\b)", code(path), re.MULTILINE)


@LESSON
def test_folded_solutions_are_those_that_are_tested(path: Path) -> None:
    solved = (ROOT / "notebooks/solutions" / path.name).read_text("utf-8")
    folded = re.findall(r"<summary>Solution</summary>\n\n```python\n(.*?)\n```", text(path), re.DOTALL)
    assert folded
    for solution in folded:
        assert solution in solved, f"not in notebooks/solutions/{path.name}:\n{solution}"


@LESSON
def test_three_lines_to_remember(path: Path) -> None:
    assert len(re.findall(r"^\d\. ", section(path, "Three lines to remember"), re.MULTILINE)) == 3


@LESSON
def test_instructors_note_is_folded_and_last(path: Path) -> None:
    assert "<details><summary>For instructors</summary>" in cells(path, "markdown")[-1].source


@LESSON
def test_first_cell_installs_and_says_so(path: Path) -> None:
    first = cells(path, "code")[0].source
    assert INSTALL in first and "find_spec" in first, "the first cell installs on Colab and does nothing elsewhere"
    assert "--upgrade" not in first and "==" not in first, "it may not replace what Colab ships"


@LESSON
def test_one_idea_a_cell(path: Path) -> None:
    long = {cell.source[:60]: len(cell.source.splitlines()) for cell in cells(path, "code")}
    assert not {start: lines for start, lines in long.items() if lines > LONGEST}


@LESSON
def test_claims_are_asserted(path: Path) -> None:
    asserts = [node for node in ast.walk(ast.parse(code(path))) if isinstance(node, ast.Assert)]
    assert len(asserts) >= 4


@LESSON
def test_links_lead_somewhere(path: Path) -> None:
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text(path)):
        target = path.parent / file
        assert target.exists() or target.with_suffix(".py").exists(), f"{file} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{file} has no heading for #{anchor}"


@LESSON
def test_writes_as_the_course_writes(path: Path) -> None:
    prose = re.sub(r"`[^`]*`", "", text(path)).lower()
    assert not re.findall(r"\b(?:simply|obviously|powerful|amazing|seamless\w*)\b", prose)
