"""Hugging Face inference: POST /hf-inference/models/{model}, JSON in, the bytes of a PNG out."""

from typing import Any

from fastapi import APIRouter, Request, Response

from chapter38.call.server.studio import Refused, Studio, recipe_of
from chapter38.call.server.wire import ask_key, body_of, drawn

NAME = "huggingface"


def shape(refused: Refused) -> dict[str, Any]:
    return {"error": refused.message}


def router(studio: Studio) -> APIRouter:
    routes = APIRouter()

    @routes.post("/hf-inference/models/{model:path}")
    async def run(model: str, request: Request) -> Response:
        ask_key(request, "authorization", "Bearer ")
        body = await body_of(request)
        parameters = body.get("parameters") or {}
        if not isinstance(parameters, dict):
            raise Refused(400, "invalid_request", "parameters: expected an object")
        job = studio.submit(NAME, model, body, recipe_of(parameters, {"prompt": body.get("inputs")}))
        return Response(await drawn(job), media_type="image/png", headers={"x-request-id": job.entry.id})

    return routes
