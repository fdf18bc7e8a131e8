"""The loopback beside a notebook: reachable inside its block, gone after it, with keys that were never there."""

import os

import httpx
import pytest

from chapter38.call.guard import KEYS
from chapter38.call.server import loopback


def test_it_answers_inside_the_block_and_leaves_no_key_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = sorted(KEYS)
    monkeypatch.delenv(first, raising=False)
    monkeypatch.setenv(second, "a-key-of-the-reader")
    with loopback() as address:
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{address}/ledger").json() == []
        assert os.environ[first] and os.environ[second] == "a-key-of-the-reader"
    assert first not in os.environ and os.environ[second] == "a-key-of-the-reader"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/ledger")
