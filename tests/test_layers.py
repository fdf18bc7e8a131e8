"""The house keeps its order: arrows point up, the front door is light, and no machine leaves its traces."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tools.install_torch import has_gpu

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "chapter38"
# A room may use what stands before it, never what stands after it.
ROOMS = ("lazy", "errors", "recipe", "picture", "postcards", "code", "measure", "canvas", "call", "ladder", "show", "check", "train", "cli_canvas", "cli_call", "cli")
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str | None:
    """`chapter38.code.parts` -> `code`; the package itself has none."""
    return module.split(".")[1] if module.startswith("chapter38.") else None


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_typing_only(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test)


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and is_typing_only(child):
            continue
        yield child
        yield from walk(child)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of what a module imports, at its top or inside its functions."""
    package = name(path) if path.name == "__init__.py" else name(path).rpartition(".")[0]
    for node in walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            module = ".".join(filter(None, [base if node.level else "", node.module or ""]))
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_arrows_point_up(path: Path) -> None:
    here = room(name(path))
    if here is None:
        return
    assert here in ROOMS, f"{name(path)} stands in no room of {ROOMS}"
    wrong = {f"line {line}: {here} -> {there}" for line, module in imports(path)
             if (there := room(module)) in ROOMS and ROOMS.index(there) > ROOMS.index(here)}  # fmt: skip
    assert not wrong, "\n".join(sorted(wrong))


def test_nothing_imports_the_training() -> None:
    users = {name(path) for path in MODULES for _, module in imports(path) if room(module) == "train"}
    assert {user for user in users if room(user) not in ("train", "cli_canvas", "cli_call", "cli")} == set()


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_front_door_imports_no_torch() -> None:
    loaded = python("import chapter38, sys; print(*sorted({m.partition('.')[0] for m in sys.modules}))").split()
    assert not {"torch", "diffusers", "transformers", "numpy", "pydantic"} & set(loaded)


LIGHT = {
    "inspect": "inspect {picture} --json",
    "diff": "diff {picture} {other}",
    "price": "price --model flux-schnell --per-month 1000 --json",
}


@pytest.mark.parametrize("command", LIGHT)
def test_the_light_commands_run_where_torch_is_not_installed(command: str, tmp_path: Path) -> None:
    picture, other = (saved(tmp_path / f"{seed}.png", seed) for seed in (38, 39))
    words = LIGHT[command].format(picture=picture, other=other).split()
    assert python(
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'diffusers', 'transformers')))\n"
        f"from chapter38.cli import main; sys.argv = {['chapter38', *words]!r}\n"
        "try: main()\n"
        "except SystemExit as end: sys.exit(end.code not in (None, 0, 1))"  # 1: the two differ, as diff says it
    )


def saved(path: Path, seed: int) -> Path:
    """A picture that carries a recipe, saved without drawing anything."""
    python(
        "from PIL import Image; from chapter38 import Picture, Recipe; "
        f"Picture(Image.new('RGB', (128, 128)), Recipe(prompt='a boat', seed={seed})).save({str(path)!r})"
    )
    return path


def test_the_front_door_opens_fast() -> None:
    code = "import time; t = time.process_time(); import chapter38; chapter38.Chapter38Error; print(time.process_time() - t)"
    assert min(float(python(code)) for _ in range(3)) < 0.2


@pytest.fixture(scope="module")
def project() -> dict:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def requirements(project: dict, *extras: str) -> dict[str, str]:
    """name -> range of the core and some extras, extras of extras included."""
    table = project["project"]
    lines = list(table["dependencies"])
    for extra in extras:
        lines += table["optional-dependencies"][extra]
    found: dict[str, str] = {}
    for line in lines:
        if own := re.fullmatch(r"chapter38\[(.+)\]", line):
            found |= requirements(project, *own.group(1).split(","))
        else:
            package, spec = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line).groups()
            found[re.sub(r"[-_.]+", "-", package).lower()] = spec
    return found


def test_conda_and_pip_agree(project: dict) -> None:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    conda = dict(re.fullmatch(r"([a-z0-9_.-]+)\s*(.*)", line).groups() for line in dependencies if isinstance(line, str))
    pip = next(line["pip"] for line in dependencies if isinstance(line, dict))
    assert f"python{conda.pop('python')}" == f"python{project['project']['requires-python']}"
    assert conda.pop("pip", None) is not None
    there = {RENAMED.get(key, key): value for key, value in conda.items()}
    there |= {re.match(r"[a-z0-9-]+", line).group(): line[re.match(r"[a-z0-9-]+", line).end():] for line in pip if line != "-e ."}  # fmt: skip
    assert there == requirements(project, "lab", "book")


RENAMED = {"pytorch": "torch", "huggingface_hub": "huggingface-hub"}


def test_every_requirement_has_a_tested_version(project: dict) -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines if "==" in line}
    assert set(requirements(project, "dev")) - pinned == set()


def test_the_environment_holds_no_cuda_packages_without_a_gpu() -> None:
    if has_gpu():
        pytest.skip("this machine has an NVIDIA GPU: CUDA packages are wanted here")
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert sorted(package for package in installed if package.startswith(("nvidia-", "cuda-"))) == []


TRACES = {
    "a folder of one machine": r"(?<![\w.])/(?:work|root|home/\w+)/[\w.]",
    "an address of a package index": r"pypi\.org/simple|files\.pythonhosted|download\.pytorch|registry\.npmjs|deb\.debian",
    "something like a secret": r"\b(?:sk-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}|hf_[A-Za-z]{30,}|AIza[\w-]{30,})",
}


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout; clone the repository to check its files")
    return [ROOT / os.fsdecode(path) for path in done.stdout.split(b"\0") if path]


@pytest.mark.parametrize("what", TRACES)
def test_no_file_carries_traces_of_a_machine(what: str) -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or not path.is_file() or path.suffix in (".safetensors", ".png", ".webp", ".jpg"):
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="ignore").splitlines(), 1):
            if re.search(TRACES[what], line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert not found, f"{what}: {found[:10]}"


def row_of(path: Path) -> str:
    """The row of ROADMAP's table that a module counts in."""
    inside = path.relative_to(ROOT / "chapter38").parts
    if len(inside) == 1:
        return "package itself, `cli*`"
    whole = "/".join(inside[:-1])
    maintainers = "`train/`, `call/server/`, `canvas/pack/`"
    return maintainers if f"`{whole}/`" in maintainers else f"`{inside[0]}/`"


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    text = path.read_text("utf-8")
    told = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            told |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(i not in told and bool(line.strip()) and line.strip()[0] != "#" for i, line in enumerate(text.splitlines(), 1))


def test_every_room_keeps_to_its_size() -> None:
    table = re.findall(r"^\| (.+?) \| ([\d,]+) \|", (ROOT / "ROADMAP.md").read_text("utf-8"), re.MULTILINE)
    ceilings = {name: int(most.replace(",", "")) for name, most in table}
    held = Counter[str]()
    for path in (ROOT / "chapter38").rglob("*.py"):
        held[row_of(path)] += lines_of_code(path)
    assert held.keys() == ceilings.keys()
    assert not {name: lines for name, lines in held.items() if lines > ceilings[name]}
