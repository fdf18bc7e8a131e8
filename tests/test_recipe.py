"""Recipe: frozen, exact through JSON, messages that teach."""

import copy
import json
import pickle
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chapter38.errors import RecipeError
from chapter38.recipe import MAX_SEED, SAMPLERS, SPACINGS, Pixels, Recipe, models

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
weights = st.floats(-10, 10, allow_nan=False)
pictures = st.builds(
    lambda mode, size, seed: Image.frombytes(mode, (size, size), bytes(seed + i & 255 for i in range(size * size * len(mode)))),
    st.sampled_from(["L", "RGB", "RGBA"]), st.integers(1, 4), st.integers(0, 255),
)  # fmt: skip
controls = st.fixed_dictionaries(
    {"kind": st.sampled_from(["edges", "depth"]), "image": pictures, "strength": weights},
    optional={"start": st.floats(0, 0.4), "end": st.floats(0.5, 1)},
)
recipes = st.fixed_dictionaries(
    {"prompt": texts},
    optional={
        "negative": texts, "prompt_syntax": st.sampled_from(["plain", "weighted"]), "seed": st.integers(0, MAX_SEED),
        "steps": st.integers(1, 1000), "guidance": st.floats(0, 100), "sampler": st.sampled_from(SAMPLERS),
        "spacing": st.sampled_from(SPACINGS), "shift": st.floats(0.01, 100), "width": st.integers(1, 2048).map(lambda n: 8 * n),
        "model": st.sampled_from([*models(), "owner/name"]), "vae": st.sampled_from(["a/b", "folder"]),
        "hires": st.fixed_dictionaries({"scale": st.floats(1.01, 8), "strength": st.floats(0.01, 1)}),
        "adapters": st.lists(st.tuples(st.sampled_from(["dusk", "chalk"]), weights), max_size=3),
        "control": st.lists(controls, max_size=2), "references": st.lists(pictures, max_size=2),
        "clip_skip": st.integers(0, 11),
    },
).map(lambda fields: Recipe(**fields))  # fmt: skip


@given(recipes)
def test_json_and_back(recipe):
    again = Recipe.from_json(recipe.json())
    assert again == recipe and again.key == recipe.key and hash(again) == hash(recipe)
    assert Recipe.from_json(json.dumps(json.loads(recipe.json()), indent=3, sort_keys=True)) == recipe


@given(pictures, st.floats(0.01, 1))
def test_pictures_travel_inside(picture, strength):
    recipe = Recipe(prompt="", image=picture, mask=picture.convert("L"), strength=strength)
    again = Recipe.from_json(recipe.json())
    assert again.image.image.tobytes() == picture.tobytes() and again.image == Pixels(picture)
    assert recipe.but(image=Image.new("L", (9, 9))) != recipe


@given(st.integers(2**53, MAX_SEED))
def test_seeds_are_exact_beyond_floats(seed):
    assert Recipe.from_json(Recipe(prompt="", seed=seed).json()).seed == seed
    assert Recipe(prompt="", seed=str(seed)).seed == seed


def test_it_is_frozen_and_copies():
    recipe = Recipe(prompt="a boat", seed=1)
    with pytest.raises(Exception, match="frozen"):
        recipe.seed = 2
    assert recipe.but(seed=2).seed == 2 and recipe.seed == 1
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe


def test_each_model_brings_its_defaults():
    for name, row in models().items():
        recipe = Recipe(prompt="", model=name)
        assert {field: getattr(recipe, field) for field in row["defaults"]} == row["defaults"]
    assert Recipe(prompt="", model="sdxl", steps=7).steps == 7


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "prompt: Field required"),
        ({"sampler": "eular"}, "did you mean 'euler'"),
        ({"spacing": "karas"}, "did you mean 'karras'"),
        ({"width": 130}, "130 is not a multiple of 8; the nearest are 128 and 136"),
        ({"steps": 0}, "steps: .*greater than or equal to 1, got 0"),
        ({"steps": 2.5}, "expected a whole number, got 2.5"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"seed": True}, "whole number"),
        ({"guidance": float("nan")}, "guidance"),
        ({"stpes": 20}, "did you mean 'steps'"),
        ({"mask": Image.new("L", (8, 8))}, "mask needs image"),
        ({"strength": 0.5}, "strength needs image"),
        ({"prompt": "\ud800"}, "surrogate"),
        ({"image": "no/such/file.png"}, "not a readable picture"),
        ({"control": [{"kind": "edges", "image": Image.new("L", (8, 8)), "start": 0.5, "end": 0.2}]}, "smaller than end"),
        ({"prompt_syntax": "loud"}, "'plain' or 'weighted'"),
    ],
)
def test_what_makes_no_sense_is_explained(fields, says):
    with pytest.raises(RecipeError, match=says):
        Recipe(**({"prompt": ""} if fields else {}) | fields)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"prompt": 3}', '{"prompt": "", "image": {"sha256": "0", "png": "AA=="}}'])
def test_broken_json_is_a_recipe_error(text):
    with pytest.raises(RecipeError):
        Recipe.from_json(text)


def test_a_picture_that_was_tampered_with_is_refused():
    fields = json.loads(Recipe(prompt="", image=Image.new("RGB", (8, 8))).json())
    fields["image"]["png"] = json.loads(Recipe(prompt="", image=Image.new("RGB", (8, 8), "red")).json())["image"]["png"]
    with pytest.raises(RecipeError, match="SHA-256"):
        Recipe(**fields)


def test_the_schema_is_published():
    schema = Recipe.model_json_schema()
    assert set(schema["properties"]) == set(Recipe.model_fields) and schema["required"] == ["prompt"]


def test_the_published_schema_is_that_of_the_class() -> None:
    """Written by `json.dumps(Recipe.model_json_schema(), indent=1, ensure_ascii=False)`."""
    published = files("chapter38") / "recipe.schema.json"
    assert json.loads(published.read_text("utf-8")) == Recipe.model_json_schema()
