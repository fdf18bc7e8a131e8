"""Record conversations with a real ComfyUI: `python -m tests.comfyui.record --server http://127.0.0.1:8188`.

Each scenario is run through the client while everything that goes over the wire is written down in order, into
chapter38/canvas/conversations/. `make test` replays them; nothing in them is written by hand.
"""

import argparse
import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from chapter38 import Recipe
from chapter38.canvas import export
from chapter38.canvas.client import Server
from chapter38.canvas.graph import Graph
from chapter38.errors import GraphError

FOLDER = Path(__file__).parents[2] / "chapter38" / "canvas" / "conversations"
SMALL = Recipe(prompt="a red boat", seed=int(time.time()),  # new to the server
               steps=4, width=64, height=64)
KEPT = ("/prompt", "/queue", "/history", "/view", "/system_stats", "/interrupt", "/upload/image")

TRACES = re.compile(r'("traceback":) \[(?:[^\]"]|"(?:\\.|[^"\\])*")*\]')  # lines of the server's source, and its folders


class Recording(Server):
    """A client that keeps what it hears, in order."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.heard: list[dict[str, Any]] = []
        self.http.event_hooks["response"] = [self._http]

    def _http(self, answer: httpx.Response) -> None:
        answer.read()
        if not answer.request.url.path.startswith(KEPT):
            return
        body = answer.content
        if answer.request.url.path == "/system_stats":  # the rest tells of the machine
            body = json.dumps({"system": {"comfyui_version": answer.json()["system"]["comfyui_version"]}}).encode()
        self.heard.append({"http": answer.request.method, "path": answer.request.url.path, "status": answer.status_code,
                           "type": answer.headers.get("content-type", ""), **_body(body)})  # fmt: skip

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        with super()._connect() as socket:
            yield _Ears(socket, self.heard)


class _Ears:
    """A websocket whose messages are written down as they are read."""

    def __init__(self, socket: Any, heard: list[dict[str, Any]]) -> None:
        self.socket, self.heard = socket, heard

    def recv(self, timeout: float | None = None) -> Any:
        message = self.socket.recv(timeout=timeout)
        if isinstance(message, bytes) or json.loads(message).get("type") != "crystools.monitor":
            self.heard.append({"ws": True, **_body(message if isinstance(message, bytes) else message.encode())})
        return message


def _body(data: bytes) -> dict[str, str]:
    try:
        return {"text": TRACES.sub(r'\1 []', data.decode())}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def drawn(server: Server) -> None:
    server.run(export(SMALL))


def refused(server: Server) -> None:
    graph = export(SMALL).set(1, ckpt_name="boats.safetensors").set(5, steps=0)
    server.run(graph)


def failed(server: Server) -> None:
    """A node that fails while it runs: latents of sixteen channels in a VAE of four."""
    server.run(Graph.from_api({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "postcards.safetensors"}},
        "2": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}, "_meta": {"title": "To pixels"}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }))  # fmt: skip


def interrupted(server: Server) -> None:
    for event in server.events(export(SMALL.but(steps=200))):
        if event.kind == "progress" and event.done >= 2:
            server.interrupt(server.queue()["running"][0])


SCENARIOS = {"drawn": drawn, "cached": drawn, "refused": refused, "interrupted": interrupted, "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.comfyui.record", description=__doc__)
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    address = parser.parse_args().server
    FOLDER.mkdir(exist_ok=True)
    for name, scenario in SCENARIOS.items():
        server = Recording(address)
        ended = "well"
        try:
            scenario(server)
        except GraphError as error:
            ended = str(error)
        path = FOLDER / f"{name}.json"
        told = {"comfyui": server.version(), "ended": ended, "heard": server.heard[:-1]}
        path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"{path.name}: {len(server.heard)} messages, {path.stat().st_size // 1024} kB, ended {ended}")


if __name__ == "__main__":
    main()
