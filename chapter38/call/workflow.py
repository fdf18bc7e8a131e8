"""What a workflow costs: the GPU seconds of its samplers on a rented card, and its partner nodes where priced."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from chapter38.call import cost
from chapter38.call.cost import Quote, Usage

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
FILES = (  # what a weight file is called -> the model's name in hardware.csv
    ("sd_?xl", "sdxl"), ("v1-5|sd_?1\\.?5", "sd15"), ("flux1?-schnell", "flux-schnell"), ("flux1?-dev", "flux-dev"),
)  # fmt: skip
# Class of a node -> (provider, model); None: one of its widgets names the model; (): no price is known.
PARTNERS: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("FluxProUltraImageNode", ("black-forest-labs", "flux-1.1-pro-ultra")),
    ("FluxKontextProImageNode", ("black-forest-labs", "flux-kontext-pro")),
    ("FluxKontextMaxImageNode", ("black-forest-labs", "flux-kontext-max")),
    ("FluxProExpandNode", ("black-forest-labs", "flux-pro-1.0-expand")),
    ("FluxProFillNode", ("black-forest-labs", "flux-pro-1.0-fill")),
    ("RecraftTextToImageNode", ("recraft", "recraftv3")),
    ("StabilityStableImageUltraNode", ("stability", "stable-image-ultra")),
    ("Gemini(Image|NanoBanana).*|OpenAIGPTImage.*", None),
    ("(Gemini|OpenAI|ByteDance|Kling|Grok|Luma|Runway|Recraft|Ideogram|Stability|Krea|FluxPro|FluxKontext(Pro|Max)|Moonvalley"
     "|MiniMax|Minimax|Pika|Pixverse|Rodin|Tripo|Veo|Vidu).*Node.*|.*Api", ()),
)  # fmt: skip
WIDGETS = (  # what such a widget says -> (provider, model)
    ("gemini-3-pro-image", ("google", "gemini-3-pro-image")),
    ("3\\.1 flash image", ("google", "gemini-3.1-flash-image")),
    ("gemini-2\\.5-flash-image", ("google", "gemini-2.5-flash-image")),
    ("gpt-image-1\\.5", ("openai", "gpt-image-1.5")),
)  # fmt: skip
Prompt = dict[str, dict[str, Any]]


def price_graph(graph: Any, *, gpu: str | None, as_of: date) -> Quote:
    """The price of running a workflow once: unknown where any part of it is unknown, with every unknown part named.

    Counted: samplers on `gpu`, and partner nodes at the provider's own list price (ComfyUI's credits may differ).
    """
    prompt: Prompt = graph.api()
    parts = [part for name, node in prompt.items() for part in _node(prompt, name, node, gpu, as_of)]
    lines = tuple(line for part in parts for line in part.lines)
    warnings = tuple(dict.fromkeys(note for part in parts for note in part.warnings))
    if not parts:
        warnings = ("unknown: neither a sampler nor a partner's node in it, and nothing else is timed here",)
    known = parts and all(part.usd is not None for part in parts)
    return Quote(sum((line.usd for line in lines), Decimal(0)) if known else None, lines, warnings, model="workflow")


def _node(prompt: Prompt, name: str, node: dict[str, Any], gpu: str | None, on: date) -> Iterator[Quote]:
    kind, inputs = node["class_type"], node["inputs"]
    if kind in SAMPLERS:
        yield _sampler(prompt, name, inputs, gpu, on)
        return
    sold = next((sold for pattern, sold in PARTNERS if re.fullmatch(pattern, kind)), ("local",))
    if sold is None:
        words = " ".join(value for value in inputs.values() if isinstance(value, str)).lower()
        sold = next((sold for pattern, sold in WIDGETS if re.search(pattern, words)), ())
    if not sold:
        yield Quote(None, warnings=(f"unknown: node {name} ({kind}) is a partner's, and no dated price is known",))
    elif len(sold) == 2:
        quality = next((v for v in inputs.values() if v in ("low", "medium", "high")), "")
        yield _named(name, cost.price(sold[1], provider=sold[0], variant=quality, as_of=on))


def _sampler(prompt: Prompt, name: str, inputs: dict[str, Any], gpu: str | None, on: date) -> Quote:
    """GPU seconds of one sampler. Its size and model are looked up along its links."""
    steps, pixels, model = _steps(prompt, name), _pixels(prompt, name), _model(prompt, name)
    if gpu is None or steps is None or pixels is None or model is None:
        found = {"a card (gpu=…)": gpu, "steps": steps, "pixels": pixels, "a model that was timed": model}
        lacks = ", ".join(what for what, value in found.items() if value is None)
        return Quote(None, warnings=(f"unknown: node {name} lacks {lacks}",))
    done = Decimal(steps) * Decimal(str(inputs.get("denoise", 1)))
    usage = Usage(step=done, megapixel=Decimal(pixels) / 10**6)
    return _named(name, cost.price(model, gpu=gpu, usage=usage, as_of=on))


def _named(name: str, quote: Quote) -> Quote:
    """The quote with its lines named after the node: a card's seconds, or what the partner sells."""
    sold = f"{quote.provider} {quote.model}"
    named = (line.what if line.what.startswith("GPU") else sold for line in quote.lines)
    lines = tuple(replace(line, what=f"node {name}: {what}") for line, what in zip(quote.lines, named, strict=True))
    return replace(quote, lines=lines)


def _upstream(prompt: Prompt, name: str, slots: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The inputs of a node and of those before it, following the first of these slots that is linked."""
    seen: set[str] = set()
    while name in prompt and name not in seen:
        seen.add(name)
        inputs = prompt[name]["inputs"]
        yield inputs
        name = next((str(inputs[slot][0]) for slot in slots if isinstance(inputs.get(slot), list)), "")


def _steps(prompt: Prompt, name: str) -> int | None:
    return next((i["steps"] for i in _upstream(prompt, name, ("sigmas",)) if isinstance(i.get("steps"), int)), None)


def _pixels(prompt: Prompt, name: str) -> int | None:
    scale = 1.0
    for inputs in _upstream(prompt, name, ("latent_image", "samples", "pixels", "image")):
        if isinstance(inputs.get("width"), int) and isinstance(inputs.get("height"), int):
            return int(inputs["width"] * inputs["height"] * int(inputs.get("batch_size", 1)) * scale)
        scale *= float(inputs.get("scale_by", 1)) ** 2
    return None


def _model(prompt: Prompt, name: str) -> str | None:
    for inputs in _upstream(prompt, name, ("model", "guider")):
        file = str(inputs.get("ckpt_name") or inputs.get("unet_name") or "").lower()
        if found := next((model for pattern, model in FILES if re.search(pattern, file)), None):
            return found
    return None
