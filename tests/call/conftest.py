"""The loopback server in a thread, on a free port, with made-up keys in the environment."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from chapter38.call.guard import KEYS

FAKE = {name: f"fake-{name.lower()}-3141592653" for name in KEYS}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in FAKE.items():
        monkeypatch.setenv(name, value)
    return FAKE


@pytest.fixture(autouse=True)
def loopback_is_not_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` sets HF_HUB_OFFLINE, under which this SDK refuses even an address on this machine."""
    hub = pytest.importorskip("huggingface_hub.constants", reason="the SDKs are in chapter38[call]")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, object]]:
    """(address, studio) of a running loopback server."""
    pytest.importorskip("fastapi", reason="the loopback server needs chapter38[call]")
    import uvicorn

    from chapter38.call.server import create_app

    app = create_app()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}", app.state.studio
    running.should_exit = True
    thread.join(10)
