"""The client against a recorded conversation without any network: what a reader without a ComfyUI sees."""

import pytest

from chapter38 import Recipe
from chapter38.canvas import Graph, export, read
from chapter38.canvas.client import Event
from chapter38.canvas.compare import differences
from chapter38.canvas.recorded import Recorded
from chapter38.errors import GraphError

SMALL = Recipe(prompt="a red boat", seed=1, steps=4, width=64, height=64)


def test_a_recorded_server_tells_its_steps_and_its_picture_holds_the_recorded_workflow() -> None:
    server, seen = Recorded("drawn"), list[Event]()
    picture = server.run(export(SMALL), recipe=SMALL, watch=seen.append)
    assert [(event.done, event.of) for event in seen if event.kind == "progress"][-1] == (4, 4)
    assert sum(event.kind == "preview" for event in seen) == 4 and seen[-1].kind == "done"
    assert picture.receipt and picture.receipt.lock.versions["comfyui"] == server.comfyui
    recorded, misfits = read(Graph.from_json(picture.chunks["prompt"]))
    assert [field for field, _, _ in differences(SMALL, recorded)] == ["seed"] and not misfits


@pytest.mark.parametrize(("conversation", "says"), [
    ("refused", "the server has no 'boats.safetensors'"), ("failed", "failed: RuntimeError"), ("interrupted", "interrupted in"),
])  # fmt: skip
def test_a_recorded_refusal_is_told_in_our_words(conversation: str, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        Recorded(conversation).run(export(SMALL))
