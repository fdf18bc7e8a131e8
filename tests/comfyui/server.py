"""A ComfyUI to test against: one that runs already (COMFYUI=http://…), or one that is started from a checkout (a path)."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chapter38.canvas.client import Server
from chapter38.canvas.install import install, write_lora, write_part
from chapter38.errors import ProviderError

START_SECONDS = 180


@contextmanager
def running(where: str, zoo: Path, data: Path) -> Iterator[Server]:
    """A server that has the pack, postcards, and the tiny adapters of `zoo`. A checkout's own folders are left alone."""
    if where.startswith(("http://", "https://")):
        yield Server(where)
        return
    checkout = Path(where).resolve()
    if not (checkout / "main.py").is_file():
        raise FileNotFoundError(f"COMFYUI={where}: expected an address, or a ComfyUI checkout (a folder with main.py)")
    provide(data, zoo)
    port = _free_port()
    with (data / "server.log").open("w") as log:
        process = subprocess.Popen(_command(checkout, data, port), cwd=checkout, stdout=log, stderr=log)
    try:
        yield _up(Server(f"http://127.0.0.1:{port}"), process, data / "server.log")
    finally:
        process.terminate()
        process.wait(30)


def provide(data: Path, zoo: Path) -> None:
    """A base directory with everything that the tests draw with."""
    for folder in ("custom_nodes", "models/loras", "models/controlnet", "models/diffusers", "input", "output"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    list(install(data))
    for path in zoo.glob("*/pytorch_lora_weights.safetensors"):
        write_lora(path, data / "models" / "loras" / f"{path.parent.name}.safetensors")
    for path in zoo.glob("*/config.json"):
        write_part(path.parent, data / "models" / "controlnet" / f"{path.parent.name}.safetensors")
    world = Path(__file__).parents[2] / "chapter38" / "postcards" / "weights"
    shutil.copytree(world, data / "models" / "diffusers" / "postcards", dirs_exist_ok=True)


def _command(checkout: Path, data: Path, port: int) -> list[str]:
    """ComfyUI on the CPU, with the checkout's own Python where it has one; a page stands in for the front end."""
    page = data / "web"
    page.mkdir(exist_ok=True)
    (page / "index.html").write_text("<!doctype html><title>no front end</title>", "utf-8")
    own = [checkout / folder / "bin" / "python" for folder in (".venv", "venv")]
    python = os.environ.get("COMFYUI_PYTHON") or next((str(path) for path in own if path.exists()), sys.executable)
    return [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(data),
            "--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--front-end-root", str(page),
            "--preview-method", "latent2rgb"]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _up(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> Server:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            server.version()
        except ProviderError:
            time.sleep(0.5)
        else:
            return server
    raise ProviderError(f"ComfyUI did not start; its last words:\n{log.read_text('utf-8', 'replace')[-2000:]}")
