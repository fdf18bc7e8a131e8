"""fal: run at the model's path; the same under /queue/ with submit, status, result and cancel."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from chapter38.call.server.studio import Job, Refused, Studio, pixels, recipe_of, uri
from chapter38.call.server.wire import ask_key, body_of, drawn, take

NAME = "fal"


def shape(refused: Refused) -> dict[str, Any]:
    return {"detail": [{"type": refused.kind, "msg": refused.message}]}


def router(studio: Studio) -> APIRouter:
    routes = APIRouter()

    async def submit(app: str, request: Request) -> Job:
        ask_key(request, "authorization", "Key ")
        body = await body_of(request)
        fields = dict(body)
        own = take(fields, "image_size", "image_url", "mask_url", "strength", "num_images", "sync_mode")
        if own.get("num_images", 1) != 1:
            raise Refused(422, "invalid_request", "num_images: this server draws one picture a request")
        size = own.get("image_size") or {}
        if not isinstance(size, dict):
            raise Refused(422, "invalid_request", "image_size: expected width and height")
        extra = {"strength": own.get("strength"), "width": size.get("width"), "height": size.get("height")}
        extra |= {key: pixels(own[f"{key}_url"]) for key in ("image", "mask") if f"{key}_url" in own}
        return studio.submit(NAME, app, body, recipe_of(fields, extra))

    @routes.post("/queue/fal-ai/{app:path}")
    async def enqueue(app: str, request: Request) -> dict[str, Any]:
        job = await submit(f"fal-ai/{app}", request)
        here = f"{request.base_url!s}queue/fal-ai/{app.split('/')[0]}/requests/{job.entry.id}"
        return {
            "request_id": job.entry.id, "response_url": here, "status_url": here + "/status",
            "cancel_url": here + "/cancel", "queue_position": 0,
        }  # fmt: skip

    @routes.get("/queue/fal-ai/{app}/requests/{name}/status")
    async def status(app: str, name: str, request: Request) -> dict[str, Any]:
        ask_key(request, "authorization", "Key ")
        future = studio.job(NAME, name).future
        if future.done():
            return {"status": "COMPLETED", "logs": []}
        if future.running():
            return {"status": "IN_PROGRESS", "logs": []}
        return {"status": "IN_QUEUE", "queue_position": 0}

    @routes.get("/queue/fal-ai/{app}/requests/{name}")
    async def result(app: str, name: str, request: Request) -> JSONResponse:
        ask_key(request, "authorization", "Key ")
        return await answer(studio.job(NAME, name), request)

    @routes.put("/queue/fal-ai/{app}/requests/{name}/cancel")
    async def cancel(app: str, name: str, request: Request) -> JSONResponse:
        ask_key(request, "authorization", "Key ")
        if studio.job(NAME, name).future.cancel():
            return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)
        return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)

    @routes.get("/files/{name}.png")
    async def file(name: str) -> Response:
        return Response(await drawn(studio.job(NAME, name)), media_type="image/png")

    @routes.post("/fal-ai/{app:path}")
    async def run(app: str, request: Request) -> JSONResponse:
        return await answer(await submit(f"fal-ai/{app}", request), request)

    return routes


async def answer(job: Job, request: Request) -> JSONResponse:
    """The pictures by their address; as data: URIs where the caller set sync_mode, as fal does."""
    if job.future.cancelled():
        raise Refused(422, "canceled", "the request was canceled")
    png, recipe = await drawn(job), job.entry.recipe
    address = uri(png) if job.entry.body.get("sync_mode") else f"{request.base_url}files/{job.entry.id}.png"
    image = {"url": address, "width": recipe.width, "height": recipe.height, "content_type": "image/png"}
    reply = {"images": [image], "seed": recipe.seed, "prompt": recipe.prompt, "request_id": job.entry.id}
    return JSONResponse(reply, headers={"x-fal-request-id": job.entry.id})
