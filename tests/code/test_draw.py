"""draw and draw_many: the same recipe gives the same bytes; many share passes; receipts tell the truth."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

import chapter38
from chapter38.code import denoise, draw, draw_many, load
from chapter38.code.draw import pass_key
from chapter38.errors import CannotExpress, RecipeError
from chapter38.picture import Picture
from chapter38.postcards import WEIGHTS
from chapter38.recipe import Recipe

BASE = Recipe(prompt="a small red sailboat on the left, on the sea, at sunset", seed=38, steps=2)


@pytest.fixture(scope="module")
def parts():
    return load("postcards")


def test_the_same_recipe_gives_the_same_bytes(parts, tmp_path):
    one, two = draw(BASE, parts=parts), draw(BASE)
    assert one == two
    assert one.save(tmp_path / "a.png").read_bytes() == two.save(tmp_path / "b.png").read_bytes()
    assert Picture.open(tmp_path / "a.png") == one


def test_the_shipped_folder_draws_the_same_by_itself():
    """As a reader loads any folder: no precision named, nothing of this package in the way."""
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(BASE.prompt, num_inference_steps=2, guidance_scale=4.0, generator=torch.Generator().manual_seed(38))
    assert theirs.images[0].tobytes() == draw(BASE).image.tobytes()


def test_many_in_one_pass_are_the_same_pictures(parts):
    recipes = [BASE, BASE.but(seed=39), BASE.but(steps=3), BASE.but(prompt="a cat in the snow")]
    together = draw_many(recipes, parts=parts)
    for recipe, picture in zip(recipes, together, strict=True):
        assert picture.recipe == recipe
        alone = draw(recipe, parts=parts)
        a, b = (torch.tensor(list(p.image.tobytes())).int() for p in (picture, alone))
        assert (a - b).abs().max() <= 1  # batches add up in another order


def test_what_may_share_a_pass():
    grey = BASE.but(seed=1, prompt="x", negative="y")
    assert pass_key(BASE) == pass_key(grey)
    for change in ({"steps": 5}, {"guidance": 2.0}, {"sampler": "euler"}, {"width": 64}, {"hires": {"scale": 2}}):
        assert pass_key(BASE) != pass_key(BASE.but(**change))


def test_the_lock_names_weights_versions_and_unknown_words(parts):
    lock = draw(BASE.but(prompt="a red dragon and a sailbot"), parts=parts).receipt.lock
    assert lock.rung == "code" and lock.model == "postcards"
    assert lock.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]  # which may add the build: 2.11.0+cu130
    assert all(len(digest) == 64 for digest in lock.weights.values()) and len(lock.weights) == 3
    assert "dragon" in lock.notes[0] and "did you mean sailboat" in lock.notes[0]
    assert draw(BASE, parts=parts).receipt.lock.notes == ()


def test_the_meter_adds_up_and_stays_outside(parts):
    picture = draw(BASE, parts=parts)
    seconds = picture.receipt.meter.seconds
    assert set(seconds) == {"load", "encode", "denoise", "decode"} and all(s >= 0 for s in seconds.values())
    assert "seconds" not in picture.chunk()


def test_watching(parts):
    seen = []
    draw(BASE, parts=parts, watch=seen.append)
    assert [step.index for step in seen] == [0, 1]
    assert [s.t for s in denoise(parts, BASE)] == [s.t for s in seen]


def test_best_effort_notes_what_it_leaves_out(parts):
    wrong = BASE.but(shift=3.0, sampler="flow_euler")
    with pytest.raises(CannotExpress):
        draw(wrong, parts=parts)
    picture = draw(wrong, parts=parts, best_effort=True)
    assert set(picture.receipt.lock.not_honoured) == {"shift", "sampler"}
    assert picture.recipe == wrong
    assert picture.image.tobytes() == draw(BASE, parts=parts).image.tobytes()


def test_the_top_level_names_a_rung(parts):
    assert chapter38.draw(BASE).image.tobytes() == draw(BASE, parts=parts).image.tobytes()
    with pytest.raises(RecipeError, match="did you mean 'code'"):
        chapter38.draw(BASE, rung="cod")


@pytest.mark.parametrize("wrong", ["a boat", [BASE], {"prompt": "a boat"}])
def test_what_is_no_recipe_is_told_so(wrong):
    with pytest.raises(RecipeError, match="draw takes one Recipe.*for several, draw_many"):
        draw(wrong)
