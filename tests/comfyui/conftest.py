"""One ComfyUI for all tests marked comfyui, and a folder where the tiny adapters lie under their plain names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chapter38.canvas.client import Server
from tests.comfyui import server as servers
from tests.comfyui import zoo


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    where = os.environ.get("CHAPTER38_COMFYUI")
    if not where:
        pytest.skip("no ComfyUI: `make test-comfyui COMFYUI=path-or-address` runs these")
    with servers.running(where, folder, tmp_path_factory.mktemp("comfyui")) as running:
        yield running


@pytest.fixture
def in_zoo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are found by their plain name, here in the working directory and there in the server's folders."""
    monkeypatch.chdir(folder)
