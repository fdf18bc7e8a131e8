"""The starred lessons run with the versions that Colab ships, and installing the wheel there replaces none of them.

`pip-freeze.txt` is what a Colab runtime held on the day it names. Of it, what our dependencies reach is rebuilt in a
Python 3.13 environment under build/colab, then the wheel goes in with its `notebooks` extra, as a lesson's first cell
does it. Colab's own torch (2.11) has only a CUDA build of several GB: the pinned torch, as a CPU build, stands in for
it. Where no Python 3.13 or no CPU torch for it is to be had, this Python stands in, and a warning says so.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tools.install_torch import pinned

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FREEZE = Path(__file__).with_name("pip-freeze.txt")
TORCH = pinned()  # stands in for Colab's 2.11
NOT_OURS = ("nvidia-", "cuda-", "triton", "setuptools")  # come with the build of torch
RUNNER = ("ipykernel", "ipython", "jupytext", "nbclient", "nbformat", "pyyaml")
REACHED = ("aiofiles", "msgpack")  # what Colab ships and the wheel reaches through a package that Colab does not
STARRED = [entry["name"] for entry in json.loads((ROOT / "book/lessons.json").read_text("utf-8")) if "core" in entry["routes"]]
HOW = (
    "Colab runs Python 3.13 and none was found here. Install it (`pyenv install 3.13`, `uv python install 3.13`, "
    "`apt install python3.13-venv`, python.org) or name it: PYTHON313=/path/to/python3.13 make test-colab"
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def shipped() -> dict[str, str]:
    """name -> version, as Colab ships them; CUDA's own packages aside, which come with the build of torch."""
    lines = FREEZE.read_text("utf-8").splitlines()
    rows = {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    return {name: version for name, version in rows.items() if not name.startswith(NOT_OURS)}


def needed() -> set[str]:
    """The names that the wheel with its `notebooks` extra asks for directly."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["notebooks"], *extras["code"], *extras["call"]]
    return {canonical(re.match(r"[\w.-]+", line).group()) for line in lines if not line.startswith("chapter38")}


def python313() -> str | None:
    """A Python 3.13 that starts and can make environments."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python3.13"))
    check = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 13))"
    for candidate in (os.environ.get("PYTHON313"), "python3.13", *map(str, pyenv)):
        path = candidate and shutil.which(candidate)
        if path and subprocess.run([path, "-c", check], capture_output=True, cwd=Path.home()).returncode == 0:
            return path
    return None


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command[:8]))} …\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout


def installed(python: Path) -> dict[str, str]:
    rows = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    return {canonical(row["name"]): row["version"] for row in rows}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def colab() -> Path:
    """The interpreter of an environment that holds what Colab ships, as far as we reach it."""
    key = hashlib.sha256(FREEZE.read_bytes() + repr((TORCH, sorted(needed()), RUNNER, REACHED)).encode()).hexdigest()[:12]
    folder = ROOT / "build/colab" / key
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "ready").exists():
        return python
    shutil.rmtree(folder.parent, ignore_errors=True)
    constraints = folder.with_suffix(".txt")
    constraints.parent.mkdir(parents=True)
    there = shipped()
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in there.items()) + TORCH, "utf-8")
    environment = {**os.environ, "TORCH": TORCH, "PIP_CONSTRAINT": str(constraints), "UV_CONSTRAINT": str(constraints)}
    begin(folder, python, environment)
    ours = sorted({*needed(), *RUNNER, *REACHED} & set(there))
    run(python, "-m", "pip", "install", "-q", "--no-compile", TORCH, *ours, env=environment)
    (folder / "ready").touch()
    return python


def begin(folder: Path, python: Path, environment: dict[str, str]) -> None:
    """Make the environment with a CPU torch in it: in Python 3.13 as on Colab, or, where that cannot be, in this one."""
    interpreter = python313()
    if interpreter:
        run(interpreter, "-m", "venv", folder)
        command = [python, "-m", "tools.install_torch"]
        if subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode == 0:
            return
        shutil.rmtree(folder)
    why = f"no CPU build of {TORCH} for Python 3.13 can be fetched here" if interpreter else HOW
    warnings.warn(f"Colab's Python 3.13 is stood in for by {sys.version.split()[0]}: {why}", stacklevel=1)
    run(sys.executable, "-m", "venv", folder)
    run(python, "-m", "tools.install_torch", cwd=ROOT, env=environment)


@pytest.fixture(scope="session")
def lesson_ready(colab: Path, wheel: Path) -> tuple[Path, dict[str, str], dict[str, str]]:
    """(interpreter, versions before, versions after) the wheel went in as a lesson's first cell installs it."""
    run(colab, "-m", "pip", "uninstall", "-q", "-y", "chapter38")
    before = installed(colab)
    run(colab, "-m", "pip", "install", "-q", f"{wheel}[notebooks]")
    return colab, before, installed(colab)


def test_rebuilds_what_colab_ships(colab: Path) -> None:
    there, here = shipped(), installed(colab)
    differ = {name: (there[name], here[name]) for name in here.keys() & there.keys() if there[name] != here[name]}
    assert {name for name in differ if name not in ("pip", "setuptools")} == set(), differ
    assert {"diffusers", "transformers", "peft", "accelerate", "numpy", "pydantic"} <= here.keys()


def test_the_wheel_replaces_nothing(lesson_ready: tuple[Path, dict[str, str], dict[str, str]]) -> None:
    _, before, after = lesson_ready
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    assert changed == {}
    new = after.keys() - before.keys()
    assert "chapter38" in new
    assert not {name for name in new if name in shipped()}, "a package that Colab ships came in at another version"


def test_has_no_broken_requirements(lesson_ready: tuple[Path, dict[str, str], dict[str, str]]) -> None:
    run(lesson_ready[0], "-m", "pip", "check")


@pytest.fixture(scope="session")
def executed(lesson_ready: tuple[Path, dict[str, str], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future]:
    """The starred lessons on their way, two at a time: name -> the notebook that will have been written."""
    python, folder = lesson_ready[0], tmp_path_factory.mktemp("colab-lessons")
    where = run(python, "-c", "import chapter38; print(chapter38.__file__)", cwd=folder)
    assert "site-packages" in where, "the lessons must run from the wheel, not from the checkout"

    def execute(name: str) -> Path:
        run(python, "-m", "tools.notebooks", "--into", folder, name, cwd=ROOT)
        return folder / f"{name}.ipynb"

    pool = ThreadPoolExecutor(2)
    return {name: pool.submit(execute, name) for name in STARRED}


@pytest.mark.parametrize("name", STARRED)
def test_a_starred_lesson_runs(name: str, executed: dict[str, Future]) -> None:
    assert executed[name].result().exists()
