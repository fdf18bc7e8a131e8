"""The FastAPI app: five protocols with their real paths on one port; what comes in is bounded; loopback only."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from chapter38.call.server import fal, google, huggingface, openai, replicate
from chapter38.call.server.studio import DEFAULT, Limits, Refused, Studio
from chapter38.errors import ProviderError

PROTOCOLS = (openai, replicate, huggingface, fal, google)
Message = MutableMapping[str, Any]


def create_app(limits: Limits = DEFAULT, *, any_host: bool = False) -> FastAPI:
    """The server as an app; `app.state.studio` holds its ledger. `any_host`: answer to other names than loopback's."""
    studio = Studio(limits)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        studio.close()

    app = FastAPI(title="Chapter 38 loopback", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    app.state.studio = studio
    shapes = {protocol.NAME: protocol.shape for protocol in PROTOCOLS}
    for protocol in PROTOCOLS:
        app.include_router(protocol.router(studio), dependencies=[Depends(_speaks(protocol.NAME))])

    @app.get("/ledger")
    def ledger() -> list[dict[str, Any]]:
        """What was drawn and what it would have cost: newest last; neither prompts nor headers."""
        return [entry.public() for entry in studio.ledger]

    @app.exception_handler(Refused)
    def refuse(request: Request, refused: Refused) -> JSONResponse:
        return JSONResponse(shapes[request.state.protocol](refused), refused.status)

    app.add_middleware(BodyLimit, limit=limits.body)
    if not any_host:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    return app


def _speaks(name: str) -> Callable[[Request], None]:
    """A dependency that notes which protocol a request speaks, for the shape of an error."""

    def note(request: Request) -> None:
        request.state.protocol = name

    return note


class BodyLimit:
    """Answers 413 to a body above the limit, whether or not it says its length."""

    def __init__(self, app: Callable[..., Awaitable[None]], limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise HTTPException(413, f"the body is above {self.limit} bytes")
            return message

        stated = dict(scope.get("headers") or []).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self.limit:
            await JSONResponse({"detail": f"the body is above {self.limit} bytes"}, 413)(scope, receive, send)
        else:
            await self.app(scope, counted, send)


def serve(port: int = 8038, host: str = "127.0.0.1", *, allow_remote: bool = False) -> None:
    """Run the server until interrupted. Raises ProviderError for an address other than loopback, unless allowed."""
    if not allow_remote and not _is_loopback(host):
        raise ProviderError(f"{host} is reached by other machines, and any key opens this server; see --allow-remote")
    import uvicorn

    app = create_app(any_host=allow_remote)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)
    asyncio.run(uvicorn.Server(config).serve())


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
