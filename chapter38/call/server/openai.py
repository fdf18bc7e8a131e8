"""OpenAI images: POST /v1/images/generations (JSON) and /v1/images/edits (multipart). No seed, no steps."""

import base64
import secrets
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from PIL import ImageChops
from starlette.datastructures import UploadFile

from chapter38.call.server.studio import Job, Refused, Studio, pixels, recipe_of
from chapter38.call.server.wire import ask_key, body_of, drawn, take
from chapter38.recipe import Pixels

NAME = "openai"


def shape(refused: Refused) -> dict[str, Any]:
    kind = "invalid_request_error" if refused.status < 500 else "server_error"
    return {"error": {"message": refused.message, "type": kind, "code": refused.kind, "param": None}}


def router(studio: Studio) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/images/generations")
    async def generate(request: Request) -> JSONResponse:
        ask_key(request, "authorization", "Bearer ")
        body = await body_of(request)
        return await answer(studio.submit(NAME, *_recipe(dict(body), body, {})))

    @routes.post("/v1/images/edits")
    async def edit(request: Request) -> JSONResponse:
        ask_key(request, "authorization", "Bearer ")
        form = await request.form(max_files=18, max_fields=20)
        files = [(name, await part.read()) for name, part in form.multi_items() if isinstance(part, UploadFile)]
        fields: dict[str, Any] = {name: part for name, part in form.multi_items() if not isinstance(part, UploadFile)}
        pictures = [pixels(data) for name, data in files if name in ("image", "image[]")]
        if not pictures:
            raise Refused(400, "missing_image", "image: expected one picture or more")
        masks = [data for name, data in files if name == "mask"]
        extra: dict[str, Any] = {"image": pictures[0], "references": tuple(pictures[1:])}
        if masks:
            alpha = pixels(masks[0]).image.convert("RGBA").getchannel("A")
            extra["mask"] = Pixels(ImageChops.invert(alpha))
        return await answer(studio.submit(NAME, *_recipe(dict(fields), fields, extra)))

    return routes


def _recipe(fields: dict[str, Any], body: dict[str, Any], extra: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    """(model, body, recipe). The seed is drawn anew for each request: the protocol has no place for one."""
    known = take(fields, "model", "n", "size", "quality", "response_format", "output_format", "background", "user")
    if str(known.get("n", 1)) != "1":
        raise Refused(400, "invalid_value", "n: this server draws one picture a request")
    size = str(known.get("size", "auto"))
    if size != "auto":
        width, _, height = size.partition("x")
        extra |= {"width": width, "height": height}
    return str(known.get("model", "gpt-image-2")), body, recipe_of(fields, {"seed": secrets.randbelow(2**31), **extra})


async def answer(job: Job) -> JSONResponse:
    png = await drawn(job)
    counted = job.entry.tokens
    usage = {
        "input_tokens": counted["text_in"] + counted["image_in"], "output_tokens": counted["image_out"],
        "total_tokens": sum(counted.values()),
        "input_tokens_details": {"text_tokens": counted["text_in"], "image_tokens": counted["image_in"]},
    }  # fmt: skip
    reply = {"created": int(time.time()), "data": [{"b64_json": base64.b64encode(png).decode()}], "usage": usage}
    return JSONResponse(reply, headers={"x-request-id": job.entry.id})
