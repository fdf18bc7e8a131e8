"""Studio: the one place of the server that draws. A bounded queue, one drawing at a time, a ledger of what it cost."""

import base64
import io
import math
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from PIL import Image

from chapter38.call.cost import Usage, price
from chapter38.call.providers import PROVIDERS
from chapter38.errors import Chapter38Error
from chapter38.recipe import Pixels, Recipe

WIRE = {  # the parameters' names at the open-weight providers -> the recipe's fields
    "prompt": "prompt", "negative_prompt": "negative", "seed": "seed", "num_inference_steps": "steps",
    "guidance_scale": "guidance", "width": "width", "height": "height",
}  # fmt: skip
MEDIUM_TOKENS = 1056  # of a 1024x1024 picture of medium quality (OpenAI's image-generation guide); here by area
KEPT = 256  # jobs and ledger entries kept in memory


class Refused(Exception):
    """A request that is answered with an error; `kind` is one word, each protocol puts it in its own shape."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        self.status, self.kind, self.message = status, kind, message
        super().__init__(message)


@dataclass(frozen=True)
class Limits:
    """What one request may ask: characters, pixels a side, steps, bytes of body; and how many may wait."""

    prompt: int = 4000
    side: int = 512
    steps: int = 100
    body: int = 8 * 2**20
    queue: int = 8


DEFAULT = Limits()


@dataclass
class Entry:
    """One line of the ledger. `body` is what the SDK sent (never a header); `usd` is None where no price is known."""

    id: str
    provider: str
    model: str
    body: Any
    recipe: Recipe
    status: str = "starting"
    seconds: float | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    usd: Decimal | None = None

    def public(self) -> dict[str, Any]:
        """The entry without what was asked for."""
        usd = None if self.usd is None else str(self.usd)
        return {
            "id": self.id, "provider": self.provider, "model": self.model, "status": self.status,
            "seconds": self.seconds, "tokens": self.tokens, "usd": usd,
        }  # fmt: skip


@dataclass
class Job:
    """A drawing that was accepted: its ledger entry and the future of its PNG."""

    entry: Entry
    future: "Future[bytes]"


class Studio:
    """Accepts recipes, draws them one after another with postcards, bills each delivered picture."""

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.limits = limits
        self.ledger: list[Entry] = []
        self.jobs: dict[str, Job] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="studio")
        self._lock = threading.Lock()
        self._waiting = 0

    def submit(self, provider: str, model: str, body: Any, recipe: Recipe) -> Job:
        """Queue a drawing. Raises Refused(429) where the queue is full, Refused(422) past a limit."""
        self._check(recipe)
        with self._lock:
            if self._waiting >= self.limits.queue:
                raise Refused(429, "rate_limit_exceeded", f"{self._waiting} drawings wait already; try again later")
            self._waiting += 1
            entry = Entry(uuid.uuid4().hex, provider, model, body, recipe)
            job = Job(entry, self._pool.submit(self._draw, entry))
            self.ledger.append(entry)
            self.jobs[entry.id] = job
            del self.ledger[:-KEPT]
            while len(self.jobs) > KEPT:
                del self.jobs[next(iter(self.jobs))]
        job.future.add_done_callback(lambda done: self._done(entry, done))
        return job

    def job(self, provider: str, name: str) -> Job:
        """A job by its id. Raises Refused(404)."""
        if (job := self.jobs.get(name)) is None or job.entry.provider != provider:
            raise Refused(404, "not_found", "no such request, or its result is gone")
        return job

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _check(self, recipe: Recipe) -> None:
        words = len(recipe.prompt) + len(recipe.negative)
        over = {
            f"prompt longer than {self.limits.prompt} characters": words > self.limits.prompt,
            f"more than {self.limits.side} pixels a side": max(recipe.width, recipe.height) > self.limits.side,
            f"more than {self.limits.steps} steps": recipe.steps > self.limits.steps,
        }
        if passed := [name for name, is_over in over.items() if is_over]:
            raise Refused(422, "invalid_request", "; ".join(passed))

    def _draw(self, entry: Entry) -> bytes:
        from chapter38 import code

        entry.status = "processing"
        start = time.monotonic()
        try:
            picture = code.draw(entry.recipe)
        except Chapter38Error as error:
            raise Refused(422, "invalid_request", str(error)) from None
        buffer = io.BytesIO()
        picture.image.save(buffer, "PNG")
        entry.seconds = time.monotonic() - start
        entry.tokens = tokens(entry.provider, entry.recipe)
        entry.usd = bill(entry)
        return buffer.getvalue()

    def _done(self, entry: Entry, future: "Future[bytes]") -> None:
        with self._lock:
            self._waiting -= 1
        entry.status = "canceled" if future.cancelled() else "failed" if future.exception() else "succeeded"


def tokens(provider: str, recipe: Recipe) -> dict[str, int]:
    """Stand-in counts for the two providers that bill by tokens: words of the prompt, and the picture's tokens."""
    words = max(1, len(recipe.prompt.split()))
    area = recipe.width * recipe.height / 1024**2
    per_picture = {"openai": math.ceil(MEDIUM_TOKENS * area), "google": _google_tokens()}.get(provider)
    return {"text_in": words, "image_in": 0, "image_out": per_picture} if per_picture else {}


def _google_tokens() -> int:
    """The tokens that Google's published price of a picture amounts to at its published price of a token."""
    by_image = price("gemini-2.5-flash-image", provider="google").usd or Decimal(0)
    million = Usage(image_out=Decimal(10**6))
    by_token = price("gemini-2.5-flash-image", provider="google", usage=million).usd or Decimal(1)
    return round(by_image / by_token * 10**6)


def bill(entry: Entry) -> Decimal | None:
    """What the provider would charge for this entry, by its own meter; None where no price is published."""
    names = dict(PROVIDERS[entry.provider].models.values())
    usage = Usage.of(entry.recipe, **{name: count for name, count in entry.tokens.items() if count})
    return price(entry.recipe, model=names.get(entry.model, entry.model), provider=entry.provider, usage=usage).usd


def recipe_of(fields: dict[str, Any], extra: dict[str, Any]) -> Recipe:
    """A postcards recipe from the wire's fields; `extra` holds what a protocol spells its own way.

    Raises Refused(422) for a field that nothing here understands and for a value that makes no sense.
    """
    values = dict(extra)
    for name, value in fields.items():
        if name == "scheduler":
            values["sampler"], _, values["spacing"] = str(value).partition("/")
        elif name in WIRE:
            values[WIRE[name]] = value
        else:
            raise Refused(422, "invalid_request", f"{name}: this model has no such input")
    try:
        return Recipe(**{name: value for name, value in values.items() if value is not None})
    except Chapter38Error as error:
        raise Refused(422, "invalid_request", str(error)) from None


def pixels(source: Any) -> Pixels:
    """A picture from a data: URI or bytes; an address or a path is refused, so that nothing is fetched or opened."""
    try:
        if isinstance(source, str):
            head, found, data = source.partition(";base64,")
            if not head.startswith("data:image/") or not found:
                raise ValueError("expected a data:image URI")
            source = base64.b64decode(data, validate=True)
        with Image.open(io.BytesIO(source)) as image:
            if max(image.size) > 4096:
                raise ValueError("more than 4096 pixels a side")
        return Pixels(bytes(source))
    except (TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
        raise Refused(422, "invalid_request", f"a picture that cannot be read: {error}") from None


def uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
