"""Replicate predictions, the archetype of open-weight serving: create (and wait), poll, cancel."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from chapter38.call.server.studio import Job, Refused, Studio, pixels, recipe_of, uri
from chapter38.call.server.wire import ask_key, body_of, drawn, take

NAME = "replicate"


def shape(refused: Refused) -> dict[str, Any]:
    return {"title": refused.kind, "detail": refused.message, "status": refused.status}


def router(studio: Studio) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/models/{owner}/{name}/predictions")
    async def create(owner: str, name: str, request: Request) -> JSONResponse:
        ask_key(request, "authorization", "Bearer ")
        body = await body_of(request)
        if not isinstance(body.get("input"), dict):
            raise Refused(422, "invalid_request", "input: expected an object")
        fields = dict(body["input"])
        own = take(fields, "image", "mask", "prompt_strength")
        extra = {"strength": own.get("prompt_strength")}
        extra |= {key: pixels(own[key]) for key in ("image", "mask") if key in own}
        job = studio.submit(NAME, f"{owner}/{name}", body, recipe_of(fields, extra))
        if request.headers.get("prefer", "").startswith("wait"):
            await _settled(job)
        return JSONResponse(_prediction(job, request), 201)

    @routes.get("/v1/predictions/{name}")
    async def poll(name: str, request: Request) -> dict[str, Any]:
        ask_key(request, "authorization", "Bearer ")
        return _prediction(studio.job(NAME, name), request)

    @routes.post("/v1/predictions/{name}/cancel")
    async def cancel(name: str, request: Request) -> dict[str, Any]:
        ask_key(request, "authorization", "Bearer ")
        job = studio.job(NAME, name)
        job.future.cancel()
        return _prediction(job, request)

    return routes


async def _settled(job: Job) -> None:
    with suppress(Refused):  # a failed prediction is a reply, not an HTTP error
        await drawn(job)


def _prediction(job: Job, request: Request) -> dict[str, Any]:
    entry, base = job.entry, str(request.base_url).rstrip("/")
    done = job.future.done() and not job.future.cancelled()
    error = job.future.exception() if done else None
    status = "canceled" if job.future.cancelled() else "failed" if error else "succeeded" if done else "starting"
    here = f"{base}/v1/predictions/{entry.id}"
    return {
        "id": entry.id, "model": entry.model, "version": "postcards", "input": entry.body["input"], "status": status,
        "output": [uri(job.future.result())] if status == "succeeded" else None, "error": str(error) if error else None,
        "logs": "", "metrics": {"predict_time": entry.seconds} if entry.seconds else {},
        "created_at": datetime.now(UTC).isoformat(), "urls": {"get": here, "cancel": here + "/cancel"},
    }  # fmt: skip
