"""The client and the pack against a real ComfyUI: every loader, what is cached, what is refused, what is stopped."""

import time

import numpy as np
import pytest

from chapter38 import Recipe
from chapter38.canvas import export
from chapter38.canvas.client import Server
from chapter38.canvas.graph import Graph
from chapter38.errors import GraphError

pytestmark = pytest.mark.comfyui
SMALL = Recipe(prompt="a red boat at sea", seed=1, steps=4, width=64, height=64)


def loaded_by(loader: str, **inputs: str) -> Graph:
    """The small recipe's graph with another loader in front."""
    api = export(SMALL).api()
    first = next(id for id, node in api.items() if node["class_type"] == "CheckpointLoaderSimple")
    api[first] = {"class_type": loader, "inputs": inputs}
    return Graph.from_api(api)


def test_the_folder_loader_and_the_one_file_loader_give_the_same_picture(server: Server) -> None:
    if "postcards" not in server.choices("DiffusersLoader", "model_path"):
        pytest.skip("this server has no models/diffusers/postcards; a checkout (COMFYUI=path) is given one")
    one, other = server.run(export(SMALL)), server.run(loaded_by("DiffusersLoader", model_path="postcards"))
    assert np.array_equal(np.asarray(one.image), np.asarray(other.image))


def test_the_same_graph_again_is_cached_and_a_new_seed_keeps_loader_and_texts(server: Server) -> None:
    server.run(export(SMALL))
    again, anew = [], []
    server.run(export(SMALL), watch=again.append)
    server.run(export(SMALL.but(seed=2)), watch=anew.append)
    assert not [event for event in again if event.kind == "progress"]
    assert {event.node for event in anew if event.kind == "cached"} >= {"Load Checkpoint", "Positive prompt"}
    assert [event.done for event in anew if event.kind == "progress"] == [1, 2, 3, 4]


def test_leaving_early_stops_the_server(server: Server) -> None:
    for event in server.events(export(SMALL.but(steps=1000, seed=3))):
        if event.kind == "progress":
            break
    for _ in range(100):
        if server.queue() == {"running": [], "pending": []}:
            return
        time.sleep(0.1)
    pytest.fail("the prompt is still running")


def test_refusals_name_node_and_remedy(server: Server) -> None:
    with pytest.raises(GraphError, match=r"Load Checkpoint.*no 'boats.safetensors'"):
        server.run(loaded_by("CheckpointLoaderSimple", ckpt_name="boats.safetensors"))
    with pytest.raises(GraphError, match="no node class NoSuchNode"):
        server.run(loaded_by("NoSuchNode"))
