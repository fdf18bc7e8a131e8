"""What the five protocols share: reading a JSON body, asking for a key, waiting for a drawing."""

import asyncio
import json
from typing import Any

from fastapi import Request

from chapter38.call.server.studio import Job, Refused


async def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON object. Raises Refused(400)."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_request", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request", "the body is not a JSON object")
    return body


def ask_key(request: Request, header: str, scheme: str = "") -> None:
    """Any key will do, but there must be one; it is looked at here and kept nowhere. Raises Refused(401)."""
    value = request.headers.get(header, "")
    if not value.startswith(scheme) or not value.removeprefix(scheme).strip():
        raise Refused(401, "unauthorized", f"no key: expected the header {header}")


async def drawn(job: Job) -> bytes:
    """The PNG of a job, waited for. Raises Refused."""
    return await asyncio.wrap_future(job.future)


def take(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """The named fields, taken out of the body: what stays behind is this model's own."""
    return {name: body.pop(name) for name in names if name in body}
