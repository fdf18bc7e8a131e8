"""A real ComfyUI over HTTP and its websocket: queue a graph, watch it, fetch what it drew. Thin on purpose.

    server = Server("http://127.0.0.1:8188")
    for event in server.events(graph): event.kind, event.node, event.done, event.of, event.preview
    picture = server.run(graph)

Every prompt has an id made here. A request whose answer was lost is looked up by it and never queued twice.
"""

import io
import json
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from chapter38.canvas.complaints import in_our_words
from chapter38.canvas.graph import Graph
from chapter38.errors import GraphError, ProviderError
from chapter38.picture import Lock, Meter, Picture, Receipt
from chapter38.recipe import Pixels, Recipe

QUIET = 5.0  # seconds without a message after which the server is asked whether it is still at work
RETRIES = 5
END = ("execution_success", "execution_error", "execution_interrupted")


@dataclass(frozen=True)
class Event:
    """One thing that happened to our prompt.

    kind     queued, started, cached, node, progress, preview, output, done
    node     the title of the node it is about, "" where it is about none
    done     steps taken, `of` steps in all (progress); prompts before ours (queued)
    preview  the picture so far (preview)
    """

    kind: str
    node: str = ""
    done: int = 0
    of: int = 0
    preview: Image.Image | None = None


class Server:
    """A running ComfyUI. `timeout`: seconds that one prompt may take, waiting in the queue included.

    Raises GraphError where the server refuses a graph or a node fails, ProviderError where it cannot be reached, takes
    too long or has lost the prompt.
    """

    def __init__(self, address: str = "http://127.0.0.1:8188", *, timeout: float = 600.0) -> None:
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ProviderError(f"{address!r}: expected the address of a ComfyUI, like http://127.0.0.1:8188")
        self.address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.timeout = timeout
        self.client_id = uuid.uuid4().hex
        self.http = httpx.Client(base_url=self.address, timeout=httpx.Timeout(30.0, connect=5.0))

    # --- what there is ----------------------------------------------------------------------------------------

    def version(self) -> str:
        return str(self._json("GET", "/system_stats")["system"]["comfyui_version"])

    def choices(self, node: str, field: str) -> list[str]:
        """What a node lets one choose from: `choices("CheckpointLoaderSimple", "ckpt_name")` are the models there."""
        inputs = self._json("GET", f"/object_info/{node}").get(node, {}).get("input", {})
        spec = {**inputs.get("optional", {}), **inputs.get("required", {})}.get(field, [[]])
        return list(spec[0] if isinstance(spec[0], list) else spec[1].get("options", []))

    def queue(self) -> dict[str, list[str]]:
        """Ids of the prompts that are {"running": […], "pending": […]}."""
        queue = self._json("GET", "/queue")
        return {name: [item[1] for item in queue[f"queue_{name}"]] for name in ("running", "pending")}

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """What the server remembers of a finished prompt; None while it is not finished."""
        entry = self._json("GET", f"/history/{prompt_id}").get(prompt_id)
        return entry if entry and entry.get("status", {}).get("status_str") else None

    # --- what one asks of it ----------------------------------------------------------------------------------

    def upload(self, name: str, picture: Pixels) -> str:
        """Put a picture into the server's input folder, over one of the same name; the name to write into LoadImage."""
        files = {"image": (name, picture.png, "image/png")}
        answer = self._json("POST", "/upload/image", files=files, data={"overwrite": "true", "type": "input"})
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else str(answer["name"])

    def interrupt(self, prompt_id: str) -> None:
        """Stop a prompt: taken out of the queue, or interrupted where it runs. Others are left alone."""
        self._json("POST", "/queue", json={"delete": [prompt_id]})
        if prompt_id in self.queue()["running"]:
            self._json("POST", "/interrupt", json={"prompt_id": prompt_id})

    def run(self, graph: Graph, *, recipe: Recipe | None = None, watch: Callable[[Event], None] | None = None) -> Picture:
        """Run a graph; its first saved picture. `watch` is called with every Event (`bar` makes one)."""
        return self.run_all(graph, recipe=recipe, watch=watch)[0]

    def run_all(
        self, graph: Graph, *, recipe: Recipe | None = None, watch: Callable[[Event], None] | None = None
    ) -> list[Picture]:
        """Run a graph; all pictures that it saved, in the order of its nodes."""
        began, prompt_id = time.perf_counter(), str(uuid.uuid4())
        for event in self.events(graph, prompt_id):
            if watch:
                watch(event)
        meter = Meter(seconds={"total": time.perf_counter() - began}, request_id=prompt_id)
        return self.pictures(prompt_id, recipe, meter)

    def draw(self, recipe: Recipe, *, watch: Callable[[Event], None] | None = None) -> Picture:
        """Export a recipe and run it."""
        from chapter38.canvas.export import export

        return self.run(export(recipe), recipe=recipe, watch=watch)

    def events(self, graph: Graph, prompt_id: str | None = None) -> Iterator[Event]:
        """Queue a graph, after the pictures that it carries, and yield what happens until it is finished.

        Leaving the loop early interrupts the prompt, as Ctrl-C does. A dropped connection is taken up again.
        """
        prompt_id = prompt_id or str(uuid.uuid4())
        titles = {str(node.id): node.label for node in graph.nodes}
        finished = False
        try:
            for event in self._watched(graph, prompt_id, titles):
                finished = event.kind == "done"
                yield event
        except GraphError:
            finished = True
            raise
        finally:
            if not finished:
                self._let_go(prompt_id)

    def pictures(self, prompt_id: str, recipe: Recipe | None = None, meter: Meter | None = None) -> list[Picture]:
        """The pictures that a finished prompt saved. Raises GraphError where it saved none."""
        entry = self.history(prompt_id) or {}
        saved = [image for output in entry.get("outputs", {}).values() for image in output.get("images", [])]
        saved = [image for image in saved if image.get("type") == "output"] or saved
        if not saved:
            raise GraphError("the workflow ran, but saved no picture; it needs a SaveImage or PreviewImage node")
        model = recipe.model if recipe else "workflow"
        lock = Lock(rung="canvas", model=model, versions={"comfyui": self.version()})
        receipt = Receipt(lock, meter or Meter(request_id=prompt_id))
        return [self._picture(image, recipe, receipt) for image in saved]

    # --- how ----------------------------------------------------------------------------------------------------

    def _watched(self, graph: Graph, prompt_id: str, titles: dict[str, str]) -> Iterator[Event]:
        deadline, lost = time.monotonic() + self.timeout, 0
        while True:
            try:
                with self._connect() as socket:
                    if not lost:
                        for name, picture in graph.pictures.items():
                            self.upload(name, picture)
                        self._submit(graph, prompt_id)
                        yield Event("queued", done=len(self.queue()["pending"]))
                    yield from self._messages(socket, prompt_id, titles, deadline)
                break
            except (WebSocketException, OSError) as error:
                if time.monotonic() > deadline:
                    raise ProviderError(f"{self.address}: not finished after {self.timeout:g} s; interrupted") from None
                lost += 1
                if lost > RETRIES:
                    raise ProviderError(f"{self.address}: the connection was lost {lost} times ({error})") from None
                if self._over(prompt_id):
                    break
        self._check(self.history(prompt_id), titles)
        yield Event("done")

    def _messages(
        self, socket: ClientConnection, prompt_id: str, titles: dict[str, str], deadline: float
    ) -> Iterator[Event]:
        """Events of our prompt until it has ended. Raises what the connection raises, TimeoutError at the deadline."""
        node = ""
        while True:
            try:
                message = socket.recv(timeout=min(QUIET, deadline - time.monotonic()))
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
                if self._over(prompt_id):
                    return
                continue
            if isinstance(message, bytes):
                if preview := _preview(message):
                    yield Event("preview", node, preview=preview)
                continue
            value = json.loads(message)
            kind, data = value.get("type"), value.get("data") or {}
            if data.get("prompt_id") != prompt_id:
                continue
            if kind in END or (kind == "executing" and data.get("node") is None):
                if kind != "execution_success":  # the history is written after this one, before `executing null`
                    return
            elif kind == "execution_start":
                yield Event("started")
            elif kind == "execution_cached":
                yield from (Event("cached", titles.get(str(id), str(id))) for id in data.get("nodes", []))
            elif kind == "executing":
                node = titles.get(str(data["node"]), str(data["node"]))
                yield Event("node", node)
            elif kind == "progress":
                yield Event("progress", node, int(data["value"]), int(data["max"]))
            elif kind == "executed":
                yield Event("output", titles.get(str(data["node"]), str(data["node"])))

    def _submit(self, graph: Graph, prompt_id: str) -> None:
        """Queue a graph once: where the answer is lost, look for the id before asking again."""
        body = {"prompt": graph.api(), "client_id": self.client_id, "prompt_id": prompt_id,
                "extra_data": {"extra_pnginfo": {"workflow": graph.ui()}}}  # fmt: skip
        for attempt in range(RETRIES):
            try:
                answer = self.http.post("/prompt", json=body)
            except httpx.ConnectError:
                raise ProviderError(f"{self.address}: nothing answers there; is ComfyUI running?") from None
            except httpx.TransportError:
                time.sleep(0.2 * 2**attempt)
                if self._known(prompt_id):
                    return
                continue
            if answer.status_code == 200:
                return
            raise GraphError(in_our_words(_body(answer), graph))
        raise ProviderError(f"{self.address}: the request was lost {RETRIES} times; nothing was queued")

    def _known(self, prompt_id: str) -> bool:
        queue = self.queue()
        return prompt_id in queue["running"] + queue["pending"] or self.history(prompt_id) is not None

    def _over(self, prompt_id: str) -> bool:
        """Whether the prompt has ended. Raises ProviderError where the server no longer knows it."""
        if self.history(prompt_id):
            return True
        if not self._known(prompt_id):
            raise ProviderError(f"{self.address}: the server no longer knows the prompt; was it restarted?")
        return False

    def _check(self, entry: dict[str, Any] | None, titles: dict[str, str]) -> None:
        """Raise GraphError in the server's words where the prompt ended badly."""
        if entry is None:
            raise ProviderError(f"{self.address}: the prompt ended, but the server has no history of it")
        for kind, data in entry["status"].get("messages", []):
            node = titles.get(str(data.get("node_id")), str(data.get("node_type")))
            if kind == "execution_interrupted":
                raise GraphError(f"interrupted in node {data.get('node_id')} ({node})")
            if kind == "execution_error":
                said = " ".join(str(data.get("exception_message")).split())
                raise GraphError(f"node {data.get('node_id')} ({node}) failed: {data.get('exception_type')}: {said}")

    def _let_go(self, prompt_id: str) -> None:
        try:
            self.interrupt(prompt_id)
        except ProviderError:
            pass  # the first trouble is the one to tell

    def _picture(self, image: dict[str, str], recipe: Recipe | None, receipt: Receipt) -> Picture:
        where = {key: image[key] for key in ("filename", "subfolder", "type")}
        with Image.open(io.BytesIO(self._get("GET", "/view", params=where).content)) as opened:
            opened.load()
            texts = {key: value for key, value in getattr(opened, "text", {}).items() if key in ("prompt", "workflow")}
            return Picture(opened.convert("RGB"), recipe, receipt, texts)

    @contextmanager
    def _connect(self) -> Iterator[ClientConnection]:
        address = f"ws{self.address.removeprefix('http')}/ws?clientId={self.client_id}"
        with ExitStack() as stack:
            try:
                socket = stack.enter_context(connect(address, open_timeout=30, max_size=64 * 2**20))
            except (OSError, WebSocketException) as error:
                raise ProviderError(f"{self.address}: no ComfyUI answers there ({error})") from None
            yield socket

    def _json(self, method: str, route: str, **options: Any) -> Any:
        return _body(self._get(method, route, **options))

    def _get(self, method: str, route: str, **options: Any) -> httpx.Response:
        try:
            answer = self.http.request(method, route, **options)
        except httpx.HTTPError as error:
            raise ProviderError(f"{self.address}{route}: {error or type(error).__name__}") from None
        if answer.status_code >= 400:
            raise ProviderError(f"{self.address}{route}: HTTP {answer.status_code} {answer.text[:200]}")
        return answer


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else {}
    except ValueError:
        raise ProviderError(f"{answer.url}: expected JSON, got {answer.text[:80]!r}; is this a ComfyUI?") from None


def _preview(message: bytes) -> Image.Image | None:
    """The picture in a binary message: kind 1 is a picture, kind 4 the same with JSON before it."""
    if len(message) < 8:
        return None
    kind, second = struct.unpack(">II", message[:8])
    at = 8 if kind == 1 else 8 + second if kind == 4 else len(message)
    try:
        image = Image.open(io.BytesIO(message[at:]), formats=("JPEG", "PNG"))
        image.load()
    except (OSError, ValueError):
        return None
    return image


def bar() -> Callable[[Event], None]:
    """A watcher that shows the current node's progress on stderr."""
    from tqdm import tqdm

    line: tqdm[Any] = tqdm(total=0, bar_format="{desc}: {n_fmt}/{total_fmt} |{bar:20}| {elapsed}", leave=True)

    def watch(event: Event) -> None:
        if event.kind == "progress":
            line.total, line.n = event.of, event.done
        if event.node:
            line.set_description_str(event.node, refresh=False)
        line.refresh()
        if event.kind == "done":
            line.close()

    return watch

