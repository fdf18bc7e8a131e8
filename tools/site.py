"""Build the site: executed lessons and the pages of book/ -> book/_build/html, warnings as errors.

    python -m tools.site               execute the lessons that changed, build (what `make book` does)
    python -m tools.site --committed   take the committed outputs instead of executing

Everything is laid out in book/_build/source as in the repository (book/, notebooks/), so that links are the same in
both; the tree outside book/_build stays as it is.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from chapter38 import show
from tools import pages
from tools.notebooks import ROOT, execute, fingerprint, lessons, read, write

BOOK = ROOT / "book"
BUILD = BOOK / "_build"
SOURCE = BUILD / "source"
HTML = BUILD / "html"
GENERATED = {
    "real-models": pages.real_models,
    "world": pages.world,
    "claims": pages.claims,
    "proofs": pages.proofs,
    "api": pages.api,
}
# Caption of a part -> what is in it, by name or beginning of a name, in this order.
PARTS = {
    "Begin": ["book/objectives", "book/refresher", "notebooks/38_0"],
    "Code": ["notebooks/38_1"],
    "Canvas": ["notebooks/38_2"],
    "Call": ["notebooks/38_3"],
    "Beyond": ["notebooks/38_4", "notebooks/38_5"],
    "Look up": ["book/glossary", "book/real-models", "book/world", "book/claims", "book/proofs", "book/api"],
    "About": ["book/responsible-use", "book/instructors", "book/"],
}


def settings() -> dict[str, Any]:
    """pyproject's [tool.chapter38]."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["tool"]["chapter38"]
    return table


def executed(lesson: Path) -> Path:
    """The executed notebook of a lesson, from book/_build/executed where nothing it rests on has changed."""
    target = BUILD / "executed" / f"{lesson.stem}.ipynb"
    key = target.with_suffix(".key")
    now = fingerprint(lesson)
    if not (target.exists() and key.exists() and key.read_text() == now):
        write(execute(read(lesson)), target)
        key.write_text(now)
    return target


def committed(lesson: Path) -> Path:
    """The executed notebook that stands beside a lesson's source."""
    target = lesson.with_suffix(".ipynb")
    if not target.exists():
        sys.exit(f"{target.name} is missing: run `make notebooks`")
    return target


def notebooks(take_committed: bool) -> list[Path]:
    if take_committed:
        return [committed(lesson) for lesson in lessons()]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(executed, lessons()))


def lay_out(executed_lessons: list[Path]) -> None:
    """Fill book/_build/source anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(BOOK, SOURCE / "book", ignore=shutil.ignore_patterns("_*", "*.json"))
    for folder in ("_static", "_ext"):
        shutil.copytree(BOOK / folder, SOURCE / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (SOURCE / "notebooks").mkdir()
    for notebook in executed_lessons:
        shutil.copy(notebook, SOURCE / "notebooks" / notebook.name)
    for name, page in GENERATED.items():
        if text := page():
            (SOURCE / "book" / f"{name}.md").write_text(text, "utf-8")
    home = (SOURCE / "book/index.md").read_text("utf-8")
    home = home.replace("<!-- lessons -->", pages.lessons_table()).replace("<!-- ladder -->", show.ladder().html)
    (SOURCE / "index.md").write_text(home, "utf-8")
    (SOURCE / "book/index.md").unlink()
    (SOURCE / "_config.yml").write_text(config(), "utf-8")
    (SOURCE / "_toc.yml").write_text(contents(), "utf-8")


def config() -> str:
    """book/_config.yml, with the repository's address and the Colab button where pyproject names one."""
    values = yaml.safe_load((BOOK / "_config.yml").read_text("utf-8"))
    if address := settings()["repository"]:
        values["repository"] = {"url": address, "path_to_book": "", "branch": "main"}
        values["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
        values["html"]["use_repository_button"] = True
    return yaml.safe_dump(values, sort_keys=False)


def contents() -> str:
    """The table of contents: every page that was laid out, once."""
    found = sorted(path.relative_to(SOURCE).with_suffix("").as_posix()
                   for folder in ("book", "notebooks") for path in (SOURCE / folder).glob("*.*")
                   if path.suffix in (".md", ".ipynb"))  # fmt: skip
    parts = []
    for caption, beginnings in PARTS.items():
        chosen = list(dict.fromkeys(page for start in beginnings for page in found if page.startswith(start)))
        found = [page for page in found if page not in chosen]
        if chosen:
            parts.append({"caption": caption, "chapters": [{"file": page} for page in chosen]})
    return yaml.safe_dump({"format": "jb-book", "root": "index", "parts": parts}, sort_keys=False)


def build() -> None:
    """Run Jupyter Book; a warning is an error. Exits with its code where it fails."""
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.rmtree(BUILD / "_build", ignore_errors=True)
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    options = ["--path-output", str(BUILD), "-W", "--keep-going", "-q"]
    done = subprocess.run([*jupyter_book, "build", str(SOURCE), *options], check=False, cwd=BUILD)
    if done.returncode != 0:
        sys.exit(done.returncode)
    (BUILD / "_build/html").rename(HTML)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--committed", action="store_true", help="do not execute: take the committed outputs")
    lay_out(notebooks(parser.parse_args().committed))
    build()
    print(f"the site is in {HTML.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    main()
