"""Execute the lessons: notebooks/38_*.py (the truth) -> notebooks/38_*.ipynb, byte-identical from run to run.

    python -m tools.notebooks                     every lesson
    python -m tools.notebooks 38_1a 38_1b         some, by the beginning of their names
    python -m tools.notebooks --into build/first  somewhere else; the committed files stay as they are

A lesson runs from clean in a fresh kernel of this Python, in an empty folder, one thread, without live timings.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
CELL_SECONDS = 300
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# What makes a run repeatable, set before the kernel starts.
STEADY = {
    "CHAPTER38_TIMING": "0",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "COLUMNS": "100",
}


def lessons(prefixes: list[str] | None = None) -> list[Path]:
    """The sources, in the order of the chapter; with prefixes, those whose names begin so."""
    found = sorted(SOURCES.glob("38_*.py"))
    if not prefixes:
        return found
    chosen = [path for path in found if path.stem.startswith(tuple(prefixes))]
    if not chosen:
        sys.exit(f"No lesson begins with {' or '.join(prefixes)}; there are: {', '.join(p.stem for p in found)}")
    return chosen


def read(source: Path) -> NotebookNode:
    """A lesson as an unexecuted notebook with ids and metadata that depend on its text alone."""
    notebook = jupytext.read(source)
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{source.stem}\0{cell.cell_type}\0{cell.source}".encode()).hexdigest()[:12]
        cell["id"] = digest if not seen[digest] else f"{digest}-{seen[digest]}"
        seen[digest] += 1
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run every cell in order in a fresh kernel; the outputs are put into the notebook.

    Raises: nbclient.exceptions.CellExecutionError, at the first cell that fails.
    """
    os.environ.update(STEADY)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else each kernel warns that loopback is not encrypted
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
    return tidy(notebook)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Drop what a static page cannot show or what differs from run to run: widget state, live views, timings."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", True) or "text" in output]
    return notebook


def write(notebook: NotebookNode, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.validate(notebook)
    target.write_text(nbformat.writes(notebook) + "\n", "utf-8", newline="\n")


def fingerprint(source: Path) -> str:
    """Changes when the lesson, the package under it, or the pinned versions change."""
    files = [source, ROOT / "constraints.txt", *sorted((ROOT / "chapter38").rglob("*"))]
    digest = hashlib.sha256(sys.version.encode())
    for path in files:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def run_all(sources: list[Path], into: Path) -> Iterator[tuple[Path, float]]:
    """Execute lessons one by one and write them; yields the file and the seconds that it took."""
    for source in sources:
        start = time.perf_counter()
        target = into / f"{source.stem}.ipynb"
        write(execute(read(source)), target)
        yield target, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of lesson names; all where none is given")
    parser.add_argument("--into", type=Path, default=SOURCES, help="folder to write to")
    arguments = parser.parse_args()
    total = 0.0
    for target, seconds in run_all(lessons(arguments.names), arguments.into):
        total += seconds
        print(f"{target.name}  {seconds:.0f} s", flush=True)
    print(f"executed in {total:.0f} s")


if __name__ == "__main__":
    main()
