"""A recorded conversation with a real ComfyUI in the server's place: the client runs against it, offline.

`tests/comfyui/record.py` wrote the files in `conversations/`; nothing in them is written by hand.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import httpx

from chapter38.canvas.client import Server


class Recorded(Server):
    """Answers with what was heard, whatever graph is queued: its picture is that of the recording.

    `conversation`: drawn, cached, refused, failed or interrupted. `comfyui`: the version that spoke.

    >>> Recorded("drawn").version() == Recorded("drawn").comfyui
    True
    """

    def __init__(self, conversation: str) -> None:
        super().__init__("http://recorded")
        path = files("chapter38.canvas") / "conversations" / f"{conversation}.json"
        told = json.loads(path.read_text("utf-8"))
        self.comfyui: str = told["comfyui"]
        self.said = [item for item in told["heard"] if "http" in item]
        self.sent = (item for item in told["heard"] if "ws" in item)
        first = next(item for item in self.said if item["path"] == "/prompt")
        self.old = self.new = str(json.loads(first["text"]).get("prompt_id", ""))
        self.http = httpx.Client(base_url=self.address, transport=httpx.MockTransport(self._answer))

    def recv(self, timeout: float | None = None) -> str | bytes:
        """The next message of the websocket. Raises TimeoutError after the last one."""
        for item in self.sent:
            return self._body(item)
        raise TimeoutError

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        yield self

    def _answer(self, request: httpx.Request) -> httpx.Response:
        """The last recorded answer to the same question; the prompt goes by the id that the client has given it now."""
        if request.url.path == "/prompt":
            self.new = str(json.loads(request.content)["prompt_id"])
        path = request.url.path.replace(self.new, self.old) if self.old else request.url.path
        item = next(item for item in reversed(self.said) if (item["http"], item["path"]) == (request.method, path))
        body = self._body(item)
        content = body.encode() if isinstance(body, str) else body
        return httpx.Response(item["status"], content=content, headers={"content-type": item["type"]})

    def _body(self, item: dict[str, Any]) -> str | bytes:
        if "base64" in item:
            return base64.b64decode(item["base64"])
        text = str(item["text"])
        return text.replace(self.old, self.new) if self.old else text
