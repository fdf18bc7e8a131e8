"""Google GenAI: POST /v1beta/models/{model}:generateContent; a seed and a shape, but neither steps nor size."""

import base64
import binascii
import secrets
from typing import Any

from fastapi import APIRouter, Request

from chapter38.call.server.studio import Refused, Studio, pixels, recipe_of
from chapter38.call.server.wire import ask_key, body_of, drawn

NAME = "google"


def shape(refused: Refused) -> dict[str, Any]:
    return {"error": {"code": refused.status, "message": refused.message, "status": refused.kind.upper()}}


def router(studio: Studio) -> APIRouter:
    routes = APIRouter()

    @routes.post("/{version}/models/{model}:generateContent")
    async def generate(version: str, model: str, request: Request) -> dict[str, Any]:
        ask_key(request, "x-goog-api-key")
        body = await body_of(request)
        job = studio.submit(NAME, model, body, recipe_of({}, _fields(body)))
        data = base64.b64encode(await drawn(job)).decode()
        content = {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}
        counted = job.entry.tokens
        return {
            "candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "responseId": job.entry.id,
            "modelVersion": model,
            "usageMetadata": {"promptTokenCount": counted["text_in"], "candidatesTokenCount": counted["image_out"],
                              "totalTokenCount": sum(counted.values())},
        }  # fmt: skip

    return routes


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    """The recipe's fields in a generateContent body: text parts joined, inline pictures in order, seed, 1:1."""
    try:
        parts = [part for content in body["contents"] for part in content["parts"]]
        config = body.get("generationConfig") or {}
        texts = [part["text"] for part in parts if "text" in part]
        inline = [base64.b64decode(part["inlineData"]["data"]) for part in parts if "inlineData" in part]
        ratio = (config.get("imageConfig") or {}).get("aspectRatio", "1:1")
        seed = config.get("seed", secrets.randbelow(2**31))
    except (KeyError, TypeError, AttributeError, binascii.Error):
        raise Refused(400, "invalid_argument", "contents: expected a list of contents with parts") from None
    if ratio != "1:1":
        raise Refused(400, "invalid_argument", f"aspectRatio {ratio}: postcards are square")
    pictures = [pixels(data) for data in inline]
    first, rest = next(iter(pictures), None), tuple(pictures[1:])
    return {"prompt": "\n".join(texts), "seed": seed, "image": first, "references": rest}
