"""The loopback server beside a notebook: in a thread, on a free port, with made-up keys, gone when the block ends."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from chapter38.call.guard import KEYS
from chapter38.call.server.app import create_app
from chapter38.errors import ProviderError


@contextmanager
def loopback(patience: float = 60.0) -> Iterator[str]:
    """`with loopback() as address: call.draw(recipe, "replicate", address=address)`: nothing leaves the machine.

    Keys that the environment lacks are made up for the time of the block. Raises ProviderError where the server does not
    come up within `patience` seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    made_up = {name: "made-up-for-the-loopback" for name in KEYS if name not in os.environ}
    os.environ.update(made_up)
    try:
        end = time.monotonic() + patience
        while not server.started:
            if time.monotonic() > end or not thread.is_alive():
                raise ProviderError(f"the loopback server did not start on port {port}")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        for name in made_up:
            os.environ.pop(name, None)
