"""The wheel, tried as a practitioner gets it: light without torch, whole with it, and small."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 2**20


def run(*command: object, code: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == code, f"{' '.join(map(str, command))}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


def environment(folder: Path) -> Path:
    """A fresh environment; returns its folder of programs."""
    run(sys.executable, "-m", "venv", folder)
    return folder / ("Scripts" if os.name == "nt" else "bin")


@pytest.fixture(scope="session")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip install chapter38` and nothing else: no torch."""
    programs = environment(tmp_path_factory.mktemp("light"))
    run(programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    return programs


@pytest.fixture(scope="session")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel beside the libraries of this environment, so that torch is not installed twice."""
    programs = environment(tmp_path_factory.mktemp("whole"))
    run(programs / "python", "-m", "pip", "install", "-q", "--no-deps", wheel)
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here, there = (Path(run(python, "-c", find).stdout.strip()) for python in (sys.executable, programs / "python"))
    (there / "libraries.pth").write_text(str(here) + "\n", "utf-8")
    return programs


def test_holds_the_world_and_nothing_of_the_workshop(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size <= 65 * MEGABYTE
    for needed in ("models.json", "py.typed", "call/prices.csv", "postcards/weights/unet/diffusion_pytorch_model.safetensors"):
        assert f"chapter38/{needed}" in names
    assert not [name for name in names if name.startswith(("tests", "tools", "notebooks", "book")) or "__pycache__" in name]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_is_light(light: Path) -> None:
    rows = json.loads(run(light / "python", "-m", "pip", "list", "--format", "json").stdout)
    names = {row["name"].lower() for row in rows}
    assert not {"torch", "diffusers", "transformers", "matplotlib", "jupyterlab", "openai"} & names
    run(light / "python", "-m", "pip", "check")


def test_inspects_diffs_and_prices_without_torch(light: Path, whole: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        run(whole / "chapter38", "draw", "a red car", "--seed", seed, "-o", f"{seed}.png", cwd=tmp_path)
    assert "a red car" in run(light / "chapter38", "inspect", "1.png", "--json", cwd=tmp_path).stdout
    assert "seed" in run(light / "chapter38", "diff", "1.png", "2.png", code=1, cwd=tmp_path).stdout  # 1: they differ
    json.loads(run(light / "chapter38", "price", "--model", "flux-schnell", "--per-month", "1000", "--json").stdout)


def test_a_missing_part_is_named_in_one_line(light: Path, tmp_path: Path) -> None:
    done = run(light / "chapter38", "draw", "a red car", "-o", "car.png", code=2, cwd=tmp_path)
    assert "chapter38[code]" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "car.png").exists()


def test_draws_from_the_wheel(whole: Path, tmp_path: Path) -> None:
    where = run(whole / "python", "-c", "import chapter38; print(chapter38.__file__)", cwd=tmp_path).stdout
    assert str(ROOT / "chapter38") not in where
    run(whole / "chapter38", "draw", "a blue boat", "-o", "boat.png", cwd=tmp_path)
    assert (tmp_path / "boat.png").stat().st_size > 1000
