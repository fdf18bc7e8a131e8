"""A recipe and its workflow are two spellings of one thing: what is exported reads back equal."""

import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from chapter38 import CannotExpress, Recipe
from chapter38.canvas import Graph, export, read
from chapter38.canvas.export import last_steps
from chapter38.canvas.nodes import kinds
from chapter38.canvas.spelling import escape, hint, hints, models, unescape
from chapter38.recipe import SAMPLERS, SPACINGS

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("()\\:{} a"), max_size=30)
NAME = st.from_regex(r"[a-z][a-z0-9_,= ·-]{0,8}[a-z](\.safetensors)?", fullmatch=True)
SIZE = st.sampled_from([64, 128, 192])
NUMBER = st.floats(0, 10, allow_nan=False) | st.integers(0, 10).map(float)


@st.composite
def recipes(draw):
    """Recipes over every field; `export` itself says which of them the canvas cannot express."""
    width, height = draw(SIZE), draw(SIZE)
    colour = draw(st.integers(0, 255))
    picture = Image.new("RGB", (width, height), (colour, 9, 9))
    model = draw(st.sampled_from(["postcards", "postcards", "postcards", "mine.safetensors", *models()]))
    fields = {
        "prompt": draw(TEXT),
        "negative": draw(st.just("") | TEXT),
        "model": model,
        "width": width,
        "height": height,
    }
    may = {
        "prompt_syntax": st.sampled_from(["plain", "weighted"]), "seed": st.integers(0, 2**64 - 1),
        "steps": st.integers(1, 60), "guidance": st.floats(1, 30), "sampler": st.sampled_from(SAMPLERS),
        "spacing": st.sampled_from(SPACINGS), "vae": NAME, "clip_skip": st.integers(0, 4),
        "adapters": st.lists(st.tuples(NAME, st.floats(-10, 10)), max_size=3),
        "control": st.lists(st.fixed_dictionaries({"kind": NAME, "image": st.just(picture), "strength": NUMBER,
                                                   "start": st.floats(0, 0.4), "end": st.floats(0.5, 1)}), max_size=2),
        "shift": st.floats(1, 20).map(lambda v: round(v, 3)) | st.sampled_from([3.0, 3.1]),
        "hires": st.fixed_dictionaries({"scale": st.floats(1.2, 3), "strength": st.floats(0.1, 1)},
                                       optional={"steps": st.integers(1, 60)}),
    }  # fmt: skip
    for name in draw(st.sets(st.sampled_from(sorted(may)), max_size=6)):
        fields[name] = draw(may[name])
    if draw(st.booleans()):
        fields |= {"image": picture, "strength": draw(st.floats(0.01, 0.99))}
        if draw(st.booleans()):
            fields["mask"] = Image.new("L", (width, height), 255)
    return Recipe(**fields)


@given(recipes())
@settings(max_examples=120, deadline=None)
def test_what_is_exported_reads_back_equal(recipe):
    try:
        graph = export(recipe)
    except CannotExpress as error:
        assume(error.field not in Recipe.model_fields)  # skip it; but the field must be one
        raise AssertionError(f"{error.field} is no field of a recipe") from None
    assert read(graph) == (recipe, [])


@given(recipes())
@settings(max_examples=25, deadline=None)
def test_an_exported_graph_survives_both_spellings(recipe):
    try:
        graph = export(recipe)
    except CannotExpress:
        assume(False)
    assert Graph.from_api(json.loads(json.dumps(graph.api()))) == graph
    assert Graph.from_ui(json.loads(json.dumps(graph.ui()))) == graph


@given(TEXT)
def test_escaping_a_plain_prompt_can_be_undone(text):
    assume("embedding:" not in text)
    assert unescape(escape(text, "plain")) == (text, "plain")


@given(st.dictionaries(st.from_regex("[a-z]+", fullmatch=True), st.text(min_size=1), min_size=1))
def test_hints_can_be_read_back(said):
    assert hints(hint("KSampler", **said)) == said


@given(st.integers(1, 200), st.floats(0.001, 1))
def test_comfyui_runs_the_steps_that_diffusers_runs(steps, strength):
    assume(int(steps * strength) >= 1)
    done, denoise = last_steps(steps, strength)
    assert int(done / denoise) == steps  # the length of ComfyUI's list, of which it takes the last `done`
    assert done == min(int(steps * strength), steps)


def test_a_hint_that_no_longer_fits_is_not_believed():
    graph = export(Recipe(prompt="a boat"))
    node = next(node for node in graph.nodes if node.type == "KSampler")
    recipe, misfits = read(graph.set(node.id, scheduler="karras"))
    assert (recipe.sampler, recipe.spacing, misfits) == ("euler", "karras", [])


@pytest.mark.parametrize(("field", "changes"), [
    ("sampler", {"sampler": "lms"}), ("sampler", {"sampler": "pndm"}), ("guidance", {"guidance": 0.5}),
    ("shift", {"shift": 3}), ("references", {"references": [Image.new("RGB", (8, 8))]}),
    ("model", {"model": "someone/else"}), ("adapters", {"adapters": ["/srv/x.safetensors"]}),
    ("control", {"control": [{"kind": "edges", "image": Image.new("RGB", (128, 128)), "strength": -1}]}),
    ("width", {"width": 8}), ("prompt", {"prompt": "embedding:bad"}), ("negative", {"model": "flux-dev", "negative": "x"}),
    ("strength", {"image": Image.new("RGB", (128, 128)), "strength": 0.01}),
    ("strength", {"image": Image.new("RGB", (128, 128))}),
    ("mask", {"image": Image.new("RGB", (128, 128)), "mask": Image.new("L", (128, 128), 7), "strength": 0.5}),
    ("control", {"control": [{"kind": "edges", "image": Image.new("RGB", (128, 128)), "start": 0.01, "end": 0.02}]}),
    ("image", {"image": Image.new("RGB", (64, 64)), "strength": 0.5}),
])  # fmt: skip
def test_what_comfyui_has_no_equal_for_is_said_before_anything_runs(field, changes):
    base = {
        "prompt": "a",
        "guidance": 4,
        "sampler": "ddim",
        "spacing": "trailing",
        "steps": 20,
        "width": 128,
        "height": 128,
    }
    with pytest.raises(CannotExpress) as caught:
        export(Recipe(**base | changes))
    assert caught.value.field == field and caught.value.rung == "canvas"


@pytest.mark.parametrize("model", list(models()))
def test_each_family_is_wired_from_known_nodes_within_their_ranges(model):
    flow = "flow_euler" if model not in ("postcards", "sd15", "sdxl") else "euler"
    row = {"sampler": flow, "spacing": "simple", "width": 512, "height": 512, "model": model, "prompt": "a"}
    graph = export(Recipe(**row))
    assert {node.type for node in graph.nodes} <= set(kinds())
    assert read(graph) == (Recipe(**row), [])


def test_a_layout_reads_from_left_to_right_without_overlaps():
    picture = Image.new("RGB", (128, 128))
    graph = export(Recipe(prompt="a", image=picture, mask=picture, strength=0.5, adapters=["x", "y"], hires={"scale": 2},
                          control=[{"kind": "edges", "image": picture}]))  # fmt: skip
    box = {node.id: node.box for node in graph.nodes}
    for link in graph.links:
        assert box[link.origin][0] + box[link.origin][2] <= box[link.target][0]
    boxes = list(box.values())
    for at, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[at + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    frames = [group["bounding"] for group in graph.groups]
    for x, y, w, h in boxes:
        assert sum(a <= x and b <= y and x + w <= a + c and y + h <= b + d for a, b, c, d in frames) == 1


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde"])
def test_a_list_of_levels_is_diffusers_own_to_the_last_bit(sampler):
    """The noise of a Brownian path goes with the root of a difference in time: rounding elsewhere would show in the picture."""
    from chapter38.code import load, samplers

    recipe = Recipe(prompt="a boat", sampler=sampler, spacing="trailing", steps=20)
    (listed,) = [node for node in export(recipe).nodes if node.type == "ManualSigmas"]
    ours = torch.tensor([float(value) for value in listed.widgets["sigmas"].split(",")])
    assert torch.equal(ours, samplers.scheduler(sampler, "trailing", load("postcards").scheduler.config, 20).sigmas)
