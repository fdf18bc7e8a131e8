"""The five SDKs: what each puts on the wire for a recipe (`*_body`), and one call made with it (`*_send`).

A body is exactly the JSON that the SDK sends (OpenAI's edit: the form fields); a test holds the two together.
Every SDK's own retries are off, so that one call is one POST.
"""

import base64
import io
import math
import time
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from chapter38.errors import MissingExtra
from chapter38.recipe import Pixels, Recipe

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back: the picture's bytes, the provider's id of the request, and the tokens it counted."""

    image: bytes
    request_id: str | None = None
    tokens: dict[str, int] = field(default_factory=dict)


def data_uri(pixels: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(pixels.png).decode()


def from_uri(uri: str) -> bytes:
    """The bytes of a data: URI; ValueError for any other address."""
    head, _, data = uri.partition(";base64,")
    if not head.startswith("data:image/"):
        raise ValueError(f"expected a data:image URI, got {uri[:40]!r}")
    return base64.b64decode(data)


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise MissingExtra(f"calling through {name}", "call") from None


def diffusion_fields(recipe: Recipe) -> Body:
    """The parameters that open-weight providers share, under the names that Diffusers gave them."""
    fields: Body = {
        "width": recipe.width, "height": recipe.height, "num_inference_steps": recipe.steps,
        "guidance_scale": recipe.guidance, "seed": recipe.seed,
    }  # fmt: skip
    if recipe.negative:
        fields["negative_prompt"] = recipe.negative
    return fields


def scheduler(recipe: Recipe) -> str | None:
    """The sampler and spacing as one word, where they are not the model's own."""
    plain = Recipe(prompt="", model=recipe.model)
    same = (recipe.sampler, recipe.spacing) == (plain.sampler, plain.spacing)
    return None if same else f"{recipe.sampler}/{recipe.spacing}"


def openai_body(recipe: Recipe, model: str) -> Body:
    body: Body = {"model": model, "prompt": recipe.prompt, "n": 1, "size": f"{recipe.width}x{recipe.height}"}
    if pictures := [*([recipe.image] if recipe.image else []), *recipe.references]:
        body["image"] = [picture.png for picture in pictures]
        if recipe.mask:
            body["mask"] = _transparent(recipe.mask)
    return body


def openai_send(body: Body, model: str, key: str, address: str, timeout: float) -> Reply:
    client = _import("openai").OpenAI(api_key=key, base_url=address, max_retries=0, timeout=timeout)
    with client:
        if "image" in body:
            files = [("image.png", png, "image/png") for png in body["image"]]
            mask = {"mask": ("mask.png", body["mask"], "image/png")} if "mask" in body else {}
            raw = client.images.with_raw_response.edit(**{**body, "image": files, **mask})
        else:
            raw = client.images.with_raw_response.generate(**body)
        reply = raw.parse()
    usage = reply.usage
    tokens = {
        "text_in": usage.input_tokens_details.text_tokens, "image_in": usage.input_tokens_details.image_tokens,
        "image_out": usage.output_tokens,
    } if usage else {}  # fmt: skip
    return Reply(base64.b64decode(reply.data[0].b64_json), raw.headers.get("x-request-id"), tokens)


def _transparent(mask: Pixels) -> bytes:
    """Our mask (white may change) as OpenAI's: a PNG whose transparent part may change."""
    alpha = mask.image.convert("L").point(lambda value: 255 - value)
    picture = Image.merge("RGBA", [*Image.new("RGB", alpha.size).split(), alpha])
    picture.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def replicate_body(recipe: Recipe, model: str) -> Body:
    fields = {"prompt": recipe.prompt, **diffusion_fields(recipe)}
    if name := scheduler(recipe):
        fields["scheduler"] = name
    if recipe.image:
        fields |= {"image": data_uri(recipe.image), "prompt_strength": recipe.strength}
    if recipe.mask:
        fields["mask"] = data_uri(recipe.mask)
    return {"input": fields}


def replicate_send(body: Body, model: str, key: str, address: str, timeout: float) -> Reply:
    replicate = _import("replicate")
    client = replicate.Client(api_token=key, base_url=address, timeout=timeout)
    prediction = client.models.predictions.create(model=model, wait=True, **body)
    end = time.monotonic() + timeout
    while prediction.status in ("starting", "processing"):  # the SDK's run() takes "processing" for an end
        if time.monotonic() > end:
            raise TimeoutError(f"still {prediction.status} after {timeout:g} s, prediction {prediction.id}")
        time.sleep(0.25)
        prediction.reload()
    if prediction.status != "succeeded" or not prediction.output:
        raise replicate.exceptions.ModelError(prediction)
    output = prediction.output[0] if isinstance(prediction.output, list) else prediction.output
    image = from_uri(output) if output.startswith("data:") else replicate.helpers.FileOutput(output, client).read()
    return Reply(image, prediction.id)


def huggingface_body(recipe: Recipe, model: str) -> Body:
    name = scheduler(recipe)
    return {"inputs": recipe.prompt, "parameters": diffusion_fields(recipe) | ({"scheduler": name} if name else {})}


def huggingface_send(body: Body, model: str, key: str, address: str, timeout: float) -> Reply:
    client = _import("huggingface_hub").InferenceClient(model=f"{address}/models/{model}", token=key, timeout=timeout)
    image = client.text_to_image(body["inputs"], **body["parameters"])
    image.save(buffer := io.BytesIO(), "PNG")
    return Reply(buffer.getvalue())


def fal_body(recipe: Recipe, model: str) -> Body:
    fields = diffusion_fields(recipe)
    size = {"width": fields.pop("width"), "height": fields.pop("height")}
    body = {"prompt": recipe.prompt, **fields, "image_size": size, "num_images": 1, "sync_mode": True}
    if name := scheduler(recipe):
        body["scheduler"] = name
    if recipe.image:
        body |= {"image_url": data_uri(recipe.image), "strength": recipe.strength}
    if recipe.mask:
        body["mask_url"] = data_uri(recipe.mask)
    return body


def fal_send(body: Body, model: str, key: str, address: str, timeout: float) -> Reply:
    fal_client, httpx = _import("fal_client"), _import("httpx")

    class Once(httpx.HTTPTransport):  # type: ignore[name-defined,misc]
        """To `address`, and at most once: what the SDK would try up to ten times is raised as an error it lets pass."""

        def handle_request(self, request: Any) -> Any:
            request.url = httpx.URL(address + request.url.path, query=request.url.query)
            request.headers["host"] = request.url.netloc.decode()
            try:
                response = super().handle_request(request)
            except httpx.TransportError as error:
                raise ConnectionError(f"{type(error).__name__}: {error}") from None
            if response.status_code in (408, 409, 429, 502, 503, 504):
                raise RetriedStatus(response.status_code, response.read().decode("utf-8", "replace"))
            return response

    client = fal_client.SyncClient(key=key, default_timeout=timeout)
    with httpx.Client(transport=Once(), headers={"Authorization": f"Key {key}"}, timeout=timeout) as http:
        client.__dict__["_client"] = http  # where the SDK keeps the one that it would build
        reply = client.run(model, body, timeout=timeout)
    return Reply(from_uri(reply["images"][0]["url"]), reply.get("request_id"))


class RetriedStatus(Exception):
    """An HTTP status that an SDK would have answered by sending again."""

    def __init__(self, status_code: int, body: str) -> None:
        self.status_code = status_code
        super().__init__(body)


def google_body(recipe: Recipe, model: str) -> Body:
    pictures = [*([recipe.image] if recipe.image else []), *recipe.references]
    inline = [{"inlineData": {"data": base64.b64encode(p.png).decode(), "mimeType": "image/png"}} for p in pictures]
    divisor = math.gcd(recipe.width, recipe.height)
    ratio = f"{recipe.width // divisor}:{recipe.height // divisor}"
    config = {"seed": recipe.seed, "responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": ratio}}
    return {"contents": [{"parts": [{"text": recipe.prompt}, *inline], "role": "user"}], "generationConfig": config}


def google_send(body: Body, model: str, key: str, address: str, timeout: float) -> Reply:
    genai = _import("google.genai")
    options = genai.types.HttpOptions(base_url=address, timeout=int(timeout * 1000))
    client = genai.Client(api_key=key, http_options=options)
    try:
        reply = client.models.generate_content(model=model, contents=body["contents"], config=body["generationConfig"])
    finally:
        client.close()
    parts = reply.candidates[0].content.parts if reply.candidates and reply.candidates[0].content else []
    images = [part.inline_data.data for part in parts or [] if part.inline_data]
    if not images:
        reason = reply.candidates[0].finish_reason if reply.candidates else "the prompt was blocked"
        raise ValueError(f"no picture in the reply: {reason}")
    usage = reply.usage_metadata
    tokens = {"text_in": usage.prompt_token_count or 0, "image_out": usage.candidates_token_count or 0} if usage else {}
    return Reply(images[0], reply.response_id, tokens)
