"""Put a torch that suits this machine into the running environment: never CUDA packages where there is no GPU.

`make` runs it before anything else is installed: python -m tools.install_torch

Where pip's own choice of torch brings no `nvidia-*` packages (macOS, Windows, or an index that serves CPU builds) pip
installs it. Otherwise, on a machine without an NVIDIA GPU, uv is asked for its `cpu` build, since uv knows where
PyTorch keeps those. `TORCH="torch==2.9.1"` in the environment overrides the version of constraints.txt.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"


def pinned(name: str = "torch", constraints: Path = CONSTRAINTS) -> str:
    """The requirement `name==version` as constraints.txt has it.

    >>> pinned().startswith("torch==")
    True
    """
    lines = constraints.read_text("utf-8").splitlines()
    return next((line for line in lines if line.startswith(f"{name}==")), name)


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    smi = shutil.which("nvidia-smi")
    return bool(smi) and subprocess.run([smi, "-L"], capture_output=True, check=False).returncode == 0


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def planned(requirement: str) -> list[str]:
    """The names of the packages that pip would install for a requirement; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "--quiet", "--dry-run", "--report", str(report), requirement)
        plan = json.loads(report.read_text("utf-8"))
    return [item["metadata"]["name"].lower() for item in plan["install"]]


def main() -> None:
    if importlib.util.find_spec("torch") is not None:
        return
    requirement = os.environ.get("TORCH") or pinned()
    cuda = [name for name in planned(requirement) if name.startswith(("nvidia-", "cuda-"))]
    if not cuda or has_gpu():
        pip("install", "--quiet", requirement)
        return
    print(f"No GPU here: taking torch's CPU build instead of {len(cuda)} CUDA packages", flush=True)
    pip("install", "--quiet", "uv")
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    done = subprocess.run([*uv, "--torch-backend", "cpu", requirement], check=False)
    if done.returncode != 0:
        sys.exit(
            "torch's CPU build could not be fetched. Install it by hand as pytorch.org's 'Get started' page says for "
            f"pip and CPU, with {sys.executable} -m pip, then run make again."
        )


if __name__ == "__main__":
    main()
