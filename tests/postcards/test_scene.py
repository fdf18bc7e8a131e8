"""Scene <-> caption <-> picture."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chapter38.postcards import HELD_OUT, SKEWS, VOCABULARY, Scene, SceneError, number_of_scenes, training_scenes
from chapter38.postcards.dataset import judging_scenes, sample
from chapter38.postcards.drawing import STYLES, stylise
from chapter38.postcards.scene import DETAILS


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    values = {name: draw(st.sampled_from(known)) for name, known in VOCABULARY.items() if name != "detail"}
    return Scene(**values, detail=draw(st.sampled_from(DETAILS[values["sky"]])), seed=draw(st.integers(0, 2**31)))


@given(scenes())
def test_plain_caption_reads_back_whole(scene: Scene) -> None:
    parsed = Scene.parse(scene.caption())
    assert parsed.scene == scene.but(seed=0)
    assert not parsed.unknown


@given(scenes(), st.randoms(use_true_random=False))
def test_whatever_a_varied_caption_states_is_true(scene: Scene, rng: random.Random) -> None:
    parsed = Scene.parse(scene.varied_caption(rng))
    assert not parsed.unknown
    assert {name: getattr(parsed.scene, name) for name in parsed.stated} == {
        name: getattr(scene, name) for name in parsed.stated
    }


@given(st.text(max_size=80))
def test_parse_takes_any_text(text: str) -> None:
    Scene.parse(text)


def test_parse_reads_any_order_and_bare_words() -> None:
    scene = Scene.parse("sunset, ocean, boat left, tiny, red, mountains").scene
    assert scene == Scene("sailboat", "red", "sunset", "sea", "left", "small", background="mountains")


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a purple dragon in the snow", {"dragon": None}),
        ("a red sailbot", {"sailbot": "sailboat"}),
        ("a moon by day", {"moon": None}),
    ],
)
def test_parse_names_what_it_does_not_know(text: str, unknown: dict[str, str | None]) -> None:
    assert Scene.parse(text).unknown == unknown


def test_a_detail_alone_fixes_the_sky() -> None:
    assert Scene.parse("a house with stars").scene.sky == "night"


@pytest.mark.parametrize(("field", "value", "hint"), [("object", "sailbot", "sailboat"), ("colour", "rad", "red")])
def test_an_unknown_value_is_named_with_the_nearest(field: str, value: str, hint: str) -> None:
    with pytest.raises(SceneError, match=f"{value}.*{hint}"):
        Scene(**{field: value})


def test_a_moon_by_day_is_refused() -> None:
    with pytest.raises(SceneError, match="no moon in the sky of a day"):
        Scene(sky="day", detail="moon")


def test_the_same_scene_is_the_same_picture_and_another_seed_another() -> None:
    scene = Scene(sky="night", detail="stars")
    assert scene.picture().size == (128, 128)
    assert scene.picture().tobytes() == scene.picture().tobytes()
    assert scene.picture().tobytes() != scene.but(seed=1).picture().tobytes()


@pytest.mark.parametrize("name", [n for n in VOCABULARY if n != "detail"])
def test_every_value_changes_the_picture(name: str) -> None:
    pictures = {Scene(**{name: value}).picture().tobytes() for value in VOCABULARY[name]}
    assert len(pictures) == len(VOCABULARY[name])


def test_a_style_holds_only_its_inks_and_mixes_of_neighbours() -> None:
    page = np.asarray(stylise(Scene().picture(), "print"), int).reshape(-1, 3)
    inks = np.array(STYLES["print"], float)
    off = np.min([_off_line(page, a, b) for a, b in itertools.pairwise(inks)], axis=0)
    assert off.max() <= 1.0


def _off_line(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest channel difference of each point from the segment a–b."""
    share = np.clip(((points - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)[:, None]
    return np.abs(points - (a + share * (b - a))).max(1)


@pytest.mark.parametrize("skew", SKEWS, ids=lambda s: f"{s.given[1]}->{s.then[1]}")
def test_training_scenes_have_the_stated_skews(skew) -> None:  # type: ignore[no-untyped-def]
    endless = training_scenes(3)
    some = [next(endless) for _ in range(8000)]
    given = [s for s in some if getattr(s, skew.given[0]) == skew.given[1]]
    shown = sum(getattr(s, skew.then[0]) == skew.then[1] for s in given) / len(given)
    assert abs(shown - skew.share) < 4 * (0.25 / len(given)) ** 0.5 + 0.02  # held-out pairs shift it a little


def test_held_out_pairs_are_never_trained_on_and_always_in_their_own_set() -> None:
    endless = training_scenes(4)
    assert not any((s.object, s.colour) in HELD_OUT for s in (next(endless) for _ in range(5000)))
    assert all((s.object, s.colour) in HELD_OUT for s in judging_scenes(1, 200, held_out=True))
    assert len(HELD_OUT) == len(VOCABULARY["object"])


def test_scenes_are_seeded() -> None:
    assert judging_scenes(5, 20) == judging_scenes(5, 20) != judging_scenes(6, 20)
    assert sample(random.Random(1)) == sample(random.Random(1))


def test_the_number_of_scenes_counts_the_vocabulary() -> None:
    others = [len(VOCABULARY[n]) for n in VOCABULARY if n not in ("sky", "detail")]
    assert number_of_scenes() == sum(map(len, DETAILS.values())) * int(np.prod(others))
