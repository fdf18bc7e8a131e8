"""The shipped weights do what their card says: fewer pictures than the card, with the binomial margin."""

import pytest

from chapter38.measure import world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured() -> world.World:
    return world.measure(128)


def test_the_shipped_weights_reach_their_targets(measured: world.World) -> None:
    assert not measured.short_of()


def test_what_is_measured_can_fall_short(measured: world.World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(world.TARGETS, ("seen", "object"), 1.01)
    assert any("seen, object" in line for line in measured.short_of())


def test_the_drawn_pictures_are_near_fresh_renders_and_far_from_noise(measured: world.World) -> None:
    import numpy as np
    from PIL import Image

    from chapter38.measure.distance import frechet
    from chapter38.postcards import judge, judging_scenes

    renders = judge.features([s.picture() for s in judging_scenes(8, 128)])
    drawn = judge.features(measured.pictures[:128])
    rng = np.random.default_rng(0)
    noise = judge.features([Image.fromarray(rng.integers(0, 255, (128, 128, 3), np.uint8)) for _ in range(128)])
    assert frechet(drawn, renders) < frechet(noise, renders) / 4


def test_a_contact_sheet_holds_every_picture_once(measured: world.World) -> None:
    page = world.sheet(measured.pictures[:9], columns=4)
    assert page.size == (4 * 132 + 4, 3 * 132 + 4)
    assert page.crop((4, 4, 132, 132)).tobytes() == measured.pictures[0].tobytes()
