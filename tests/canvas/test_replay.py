"""The client against recorded conversations with a real ComfyUI (tests/comfyui/record.py), played back on a loopback.

Faults are put in between: a socket that drops, an answer that is lost, a server that falls silent or forgets.
"""

import asyncio
import base64
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

from chapter38 import Recipe
from chapter38.canvas import client, export
from chapter38.canvas.client import Server
from chapter38.errors import GraphError, ProviderError

FOLDER = Path(client.__file__).with_name("conversations")
SMALL = Recipe(prompt="a red boat", seed=1, steps=4, width=64, height=64)


class Playback:
    """One recorded conversation as a server. The id that the client makes takes the place of the recorded one.

    drops: after how many websocket messages the connection breaks, once; silent: no websocket message at all;
    forgets: the prompt is in no queue and no history; endless: it never ends.
    """

    def __init__(self, name: str, drops: int = 0, silent: bool = False, forgets: bool = False, endless: bool = False) -> None:
        heard = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["heard"]
        self.http = [item for item in heard if "http" in item]
        self.socket = [item for item in heard if "ws" in item]
        self.drops, self.silent, self.forgets, self.endless = drops, silent, forgets, endless
        asked = next(item for item in self.http if item["path"] == "/prompt")
        self.old = json.loads(asked["text"]).get("prompt_id", "none")
        self.new, self.prompts, self.interrupts, self.sent = "", 0, 0, 0
        self.app = FastAPI()
        self.app.add_api_websocket_route("/ws", self.talk)
        self.app.add_api_route("/{path:path}", self.answer, methods=["GET", "POST"])

    async def answer(self, request: Request, path: str) -> Response:
        path = "/" + path
        if path == "/prompt":
            self.new = (await request.json())["prompt_id"]
            self.prompts += 1
        if path == "/interrupt" or (path == "/queue" and request.method == "POST"):
            self.interrupts += 1
            return Response("{}", media_type="application/json")
        if path.startswith("/history"):
            return self.remembered()
        if path == "/queue":
            over = self.forgets or (self.finished and not self.endless)
            running = [] if over else [[0, self.new]]
            return Response(json.dumps({"queue_running": running, "queue_pending": []}), media_type="application/json")
        item = next(i for i in self.http if i["path"] == path and i["http"] == request.method)
        body = item["text"].replace(self.old, self.new).encode() if "text" in item else base64.b64decode(item["base64"])
        return Response(body, item["status"], media_type=item["type"])

    def remembered(self) -> Response:
        """The recorded history, from the moment at which all messages have been sent."""
        items = [i for i in self.http if i["path"].startswith("/history") and i["text"] != "{}"]
        told = items[-1]["text"].replace(self.old, self.new) if items and self.finished and not (self.forgets or self.endless) else "{}"
        return Response(told, media_type="application/json")

    @property
    def finished(self) -> bool:
        return self.sent == len(self.socket) or self.silent

    async def talk(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while not self.prompts:
                await asyncio.sleep(0.005)
            while self.sent < len(self.socket) and not self.silent:
                item = self.socket[self.sent]
                self.sent += 1
                if "text" in item:
                    await socket.send_text(item["text"].replace(self.old, self.new))
                else:
                    await socket.send_bytes(base64.b64decode(item["base64"]))
                if self.sent == self.drops:
                    await socket.close(1011)
                    return
            await socket.receive_text()
        except WebSocketDisconnect:
            pass


@contextmanager
def playing(playback: Playback):
    server = uvicorn.Server(uvicorn.Config(playback.app, port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Server(f"127.0.0.1:{port}", timeout=30)
    finally:
        server.should_exit = True
        thread.join(5)


def test_a_drawn_picture_comes_with_progress_previews_and_its_workflow():
    playback, seen = Playback("drawn"), []
    with playing(playback) as server:
        picture = server.run(export(SMALL), recipe=SMALL, watch=seen.append)
    kinds = [event.kind for event in seen]
    assert kinds[0] == "queued" and kinds[-1] == "done" and {"started", "node", "progress", "preview"} <= set(kinds)
    steps = [(event.done, event.of) for event in seen if event.kind == "progress"]
    assert steps[-1] == (4, 4) and steps == sorted(steps)
    assert all(event.node.startswith("KSampler") for event in seen if event.kind == "progress")
    assert picture.image.size == (64, 64) and picture.recipe == SMALL and picture.receipt.lock.rung == "canvas"
    assert picture.receipt.lock.versions["comfyui"] == server_version("drawn") and set(picture.chunks) == {"prompt", "workflow"}
    assert next(event for event in seen if event.kind == "preview").preview.size[0] > 0


def server_version(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["comfyui"]


def test_what_is_cached_is_said_and_still_gives_the_picture():
    seen = []
    with playing(Playback("cached")) as server:
        picture = server.run(export(SMALL), watch=seen.append)
    assert picture.image.size == (64, 64) and sum(event.kind == "cached" for event in seen) >= 5
    assert not any(event.kind == "progress" for event in seen)


def test_a_refused_workflow_is_told_in_words_with_titles():
    with playing(Playback("refused")) as server, pytest.raises(GraphError) as told:
        server.run(export(SMALL))
    assert "(Load Checkpoint): ckpt_name: the server has no 'boats.safetensors'; did you mean 'postcards" in str(told.value)
    assert "steps: 0 is too small; min is 1" in str(told.value)


def test_a_node_that_fails_is_named():
    with playing(Playback("failed")) as server, pytest.raises(GraphError, match=r"node 3 \(.*\) failed: RuntimeError"):
        server.run(export(SMALL))


def test_an_interrupted_prompt_says_where():
    with playing(Playback("interrupted")) as server, pytest.raises(GraphError, match="interrupted in node"):
        server.run(export(SMALL))


@pytest.mark.parametrize("drops", [1, 4, 9])
def test_a_dropped_socket_is_survived_without_running_twice(drops):
    playback, seen = Playback("drawn", drops=drops), []
    with playing(playback) as server:
        picture = server.run(export(SMALL), watch=seen.append)
    assert picture.image.size == (64, 64) and playback.prompts == 1 and seen[-1].kind == "done"


def test_a_lost_answer_is_looked_up_and_not_queued_twice():
    playback = Playback("drawn")
    real, calls = client.httpx.Client.post, []

    with playing(playback) as server:

        def lossy(self, *args, **options):
            answer = real(self, *args, **options)
            calls.append(answer.status_code)
            if len(calls) == 1:
                raise client.httpx.ReadError("the answer is lost")
            return answer

        server.http.post = lossy.__get__(server.http)
        picture = server.run(export(SMALL))
    assert picture.image.size == (64, 64) and playback.prompts == 1 == len(calls)


def test_a_silent_socket_is_not_waited_for_longer_than_the_prompt_takes(monkeypatch):
    monkeypatch.setattr(client, "QUIET", 0.05)
    with playing(Playback("drawn", silent=True)) as server:
        assert server.run(export(SMALL)).image.size == (64, 64)


def test_a_prompt_that_the_server_forgot_is_an_error(monkeypatch):
    monkeypatch.setattr(client, "QUIET", 0.05)
    with playing(Playback("drawn", silent=True, forgets=True)) as server, pytest.raises(ProviderError, match="no longer knows"):
        server.run(export(SMALL))


def test_too_long_is_an_error_and_takes_the_prompt_out(monkeypatch):
    monkeypatch.setattr(client, "QUIET", 0.02)
    playback = Playback("drawn", silent=True, endless=True)
    with playing(playback) as server, pytest.raises(ProviderError, match=r"not finished after 0\.5 s"):
        server.timeout = 0.5
        server.run(export(SMALL))
    assert playback.interrupts


def test_leaving_the_loop_early_interrupts():
    playback = Playback("drawn")
    with playing(playback) as server:
        for event in server.events(export(SMALL)):
            if event.kind == "progress":
                break
    assert playback.interrupts


def test_nobody_there_is_said():
    with pytest.raises(ProviderError, match="no ComfyUI answers"):
        Server("127.0.0.1:9").run(export(SMALL))
    with pytest.raises(ProviderError, match="expected the address"):
        Server("ftp://x")
