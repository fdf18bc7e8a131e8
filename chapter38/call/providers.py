"""Provider: a row of data and an adapter. What a recipe becomes on the wire, what it cannot become, and the call."""

import io
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from chapter38.call import sdk
from chapter38.call.cost import Quote, Usage, price
from chapter38.call.guard import HIDDEN, CallFailed, Guard, Secret, redact
from chapter38.errors import CannotExpress, ProviderError, nearest
from chapter38.picture import Lock, Meter, Picture, Receipt
from chapter38.recipe import Recipe

ADDRESS = "CHAPTER38_CALL_ADDRESS"  # where all providers are looked for instead, for example the loopback server
DIFFUSION = frozenset({"prompt", "negative", "seed", "steps", "guidance", "sampler", "spacing", "width", "height"})
CLOSED = "the model is closed: the provider sets it"


@dataclass(frozen=True)
class Request:
    """What would go over the wire, secrets hidden and pictures cut short."""

    method: str
    url: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Provider:
    """One hosted API.

    name      as on the command line               package   the SDK on PyPI, real and unchanged
    key       its variable in the environment      url       the provider's real address
    prefix    what stands on the loopback between host and path
    path      of the POST; {model} is filled in    header    the name and form of the header that holds the key
    models    the recipe's model -> (the provider's id, our name in prices.csv); "postcards" stands for a real one
    carries   the recipe's fields that the protocol has a place for
    drops     what the real provider does not honour although the protocol carries it, as documented
    """

    name: str
    package: str
    key: Secret
    url: str
    prefix: str
    path: str
    header: tuple[str, str]
    models: dict[str, tuple[str, str]]
    carries: frozenset[str]
    drops: dict[str, str]
    body: Callable[[Recipe, str], dict[str, Any]]
    send: Callable[[dict[str, Any], str, str, str, float], sdk.Reply]

    def address(self, address: str | None = None) -> str:
        """The base URL that the SDK is given: of `address` (or CHAPTER38_CALL_ADDRESS), else the provider's own."""
        other = address or os.environ.get(ADDRESS)
        return other.rstrip("/") + self.prefix if other else self.url

    def unmet(self, recipe: Recipe) -> dict[str, str]:
        """Field -> why, for what this recipe asks and this protocol has no place for.

        A field left at the model's default asks for nothing, except the seed: without it no picture comes twice.
        """
        plain = Recipe(prompt="", model=recipe.model)
        asked = {name for name in Recipe.model_fields if getattr(recipe, name) != getattr(plain, name)} | {"seed"}
        return dict.fromkeys(sorted(asked - self.carries - {"model"}), f"{self.package} has no place for it")

    def model_id(self, recipe: Recipe) -> str:
        """The provider's own id of the recipe's model. Raises CannotExpress where it does not sell it."""
        if recipe.model not in self.models:
            raise CannotExpress("model", self.name, f"it is not sold there; {nearest(recipe.model, self.models)}")
        return self.models[recipe.model][0]

    def preview(self, recipe: Recipe, address: str | None = None) -> Request:
        """Method, URL, headers and body of the call, nothing sent."""
        model = self.model_id(recipe)
        body = self.body(recipe, model)
        path = "/images/edits" if self.name == "openai" and "image" in body else self.path.format(model=model)
        header, form = self.header
        shown = {header: form.format(HIDDEN)}
        return Request("POST", self.address(address) + path, shown, _shorten(body))

    def quote(self, recipe: Recipe, tokens: Mapping[str, int] = {}, as_of: date | None = None) -> Quote:
        """The price of this recipe here; with the tokens that a reply counted, what it really cost."""
        usage = Usage.of(recipe, **tokens)
        name = self.models.get(recipe.model, ("", recipe.model))[1]
        return price(recipe, model=name, provider=self.name, usage=usage, as_of=as_of)


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    if isinstance(value, bytes):
        return f"<PNG, {len(value)} bytes>"
    if isinstance(value, str) and value.startswith("data:"):
        return f"{value[:30]}… ({len(value)} characters)"
    return value


_FLUX = {name: (f"black-forest-labs/{name}", name) for name in ("flux-schnell", "flux-dev")}
PROVIDERS = {row.name: row for row in (
    Provider(
        "openai", "openai", Secret("OPENAI_API_KEY"), "https://api.openai.com/v1", "/v1", "/images/generations",
        ("Authorization", "Bearer {}"),
        {name: (name, name) for name in ("gpt-image-2.6-flare", "gpt-image-2", "gpt-image-1.5")}
        | {"postcards": ("gpt-image-2.6-flare", "gpt-image-2.6-flare")},
        frozenset({"prompt", "width", "height", "image", "mask", "references"}),
        {"width, height": "only the sizes it lists"}, sdk.openai_body, sdk.openai_send,
    ),
    Provider(
        "replicate", "replicate", Secret("REPLICATE_API_TOKEN"), "https://api.replicate.com", "",
        "/v1/models/{model}/predictions", ("Authorization", "Bearer {}"),
        _FLUX | {"postcards": ("black-forest-labs/flux-schnell", "flux-schnell")},
        DIFFUSION | {"image", "mask", "strength"},
        {"all": "each model declares its own inputs", "seed": "users report different pictures from one seed"
         " (replicate/replicate-python#334)"},
        sdk.replicate_body, sdk.replicate_send,
    ),
    Provider(
        "huggingface", "huggingface_hub", Secret("HF_TOKEN"), "https://router.huggingface.co/hf-inference",
        "/hf-inference", "/models/{model}", ("Authorization", "Bearer {}"),
        {"flux-schnell": ("black-forest-labs/FLUX.1-schnell", "flux-schnell"),
         "postcards": ("black-forest-labs/FLUX.1-schnell", "flux-schnell")},
        DIFFUSION, {"scheduler": "a model may ignore it"}, sdk.huggingface_body, sdk.huggingface_send,
    ),
    Provider(
        "fal", "fal-client", Secret("FAL_KEY"), "https://fal.run", "", "/{model}", ("Authorization", "Key {}"),
        {"flux-schnell": ("fal-ai/flux/schnell", "flux-schnell"), "flux-dev": ("fal-ai/flux/dev", "flux-dev"),
         "postcards": ("fal-ai/flux/schnell", "flux-schnell")},
        DIFFUSION | {"image", "mask", "strength"}, {"all": "each model declares its own inputs"},
        sdk.fal_body, sdk.fal_send,
    ),
    Provider(
        "google", "google-genai", Secret("GEMINI_API_KEY"), "https://generativelanguage.googleapis.com", "",
        "/v1beta/models/{model}:generateContent", ("x-goog-api-key", "{}"),
        {"gemini-2.5-flash-image": ("gemini-2.5-flash-image", "gemini-2.5-flash-image"),
         "postcards": ("gemini-2.5-flash-image", "gemini-2.5-flash-image")},
        frozenset({"prompt", "seed", "image", "references"}),
        {"seed": "best effort (GoogleCloudPlatform/vertex-ai-creative-studio#1599)"}, sdk.google_body, sdk.google_send,
    ),
)}  # fmt: skip


def draw(
    recipe: Recipe,
    provider: str = "replicate",
    *,
    address: str | None = None,
    guard: Guard | None = None,
    intent: str | None = None,
    best_effort: bool = False,
    expect: Mapping[str, int] = {},
    timeout: float = 120.0,
) -> Picture:
    """Draw a recipe at a hosted API, through its real SDK, with one POST and no retry.

    address       another host for the provider, for example "http://127.0.0.1:8038" (`chapter38 serve`)
    guard         a budget and a memory of intents; without one, every call is its own
    intent        what makes two calls the same one; the provider and the recipe where left out
    best_effort   record on the receipt what the provider cannot express, instead of raising
    expect        tokens to reckon with under a cap, for example {"image_out": 1056}: a reply tells them too late
    timeout       seconds

    Raises CannotExpress, CallFailed (status, and whether it may be billed), OverBudget, ProviderError, MissingExtra.
    """
    if provider not in PROVIDERS:
        raise ProviderError(f"unknown provider {provider!r}; {nearest(provider, PROVIDERS)}")
    row = PROVIDERS[provider]
    unmet = row.unmet(recipe)
    if unmet and not best_effort:
        field, why = next(iter(unmet.items()))
        raise CannotExpress(field, provider, f"{why}; best_effort=True draws without it and says so on the receipt")
    quote = row.quote(recipe, expect)
    intent = intent or f"{provider}:{row.address(address)}:{recipe.key}"
    return (guard or Guard()).call(intent, quote, lambda: _send(row, recipe, unmet, address, timeout))


def _send(row: Provider, recipe: Recipe, unmet: dict[str, str], address: str | None, timeout: float) -> Picture:
    model = row.model_id(recipe)
    body = row.body(recipe, model)
    key = row.key
    key.reveal()  # a missing key is told before the clock runs
    start = time.monotonic()
    failure, reply = None, None
    try:
        reply = row.send(body, model, key.reveal(), row.address(address), timeout)
        image = Image.open(io.BytesIO(reply.image))
        image.load()
    except ImportError:
        raise
    except Exception as error:  # whatever an SDK raises becomes one of ours, without its frames, which hold the key
        failure = _failed(row.name, error)
    if failure or reply is None:
        raise failure or ProviderError("no reply")
    seconds = time.monotonic() - start
    paid = row.quote(recipe, reply.tokens)
    left = sorted(DIFFUSION - row.carries - set(unmet))
    notes = [f"left to {row.name}: {', '.join(left)}"] if left else []
    host = urlsplit(row.address(address)).hostname or ""
    if host in ("127.0.0.1", "localhost", "::1"):
        notes.append("loopback: drawn by this package's own server; billed as the provider would, nobody paid")
    if paid.usd is None:
        notes.append(f"price unknown: {row.name} publishes no dated price of {row.models[recipe.model][1]}")
    lock = Lock(
        rung="call", model=f"{row.name}:{model}", versions={row.package: version(row.package)}, not_honoured=unmet,
        notes=tuple(notes), price=paid.price,
    )  # fmt: skip
    meter = Meter(seconds={"call": seconds}, request_id=reply.request_id, retries=0)
    return Picture(image.convert("RGB"), recipe, Receipt(lock, meter))


def _failed(name: str, error: Exception) -> CallFailed:
    """An SDK's error as ours: the status, what it said without secrets, and whether the work may be billed."""
    response = getattr(error, "response", None)
    candidates = (getattr(error, "status_code", None), getattr(response, "status_code", None),
                  getattr(error, "code", None), getattr(error, "status", None))  # fmt: skip
    status = next((value for value in candidates if isinstance(value, int)), None)
    billed = "no" if status and 400 <= status < 500 and status != 408 else "maybe"
    what = f"answered {status}" if status else f"brought no picture ({type(error).__name__})"
    tail = "not billed" if billed == "no" else "it may be billed all the same; it was sent once and is not sent again"
    return CallFailed(f"{name} {what}: {redact(str(error))[:500]} [{tail}]", status, billed)
