"""What a cell shows has words for who cannot see it, is opaque, the same from run to run, and needs no kernel."""

import base64
import io
import json
import re

import pytest
from PIL import Image

from chapter38 import show
from chapter38.errors import Chapter38Error
from chapter38.ladder import RULES
from chapter38.show.profile import TOLERANCE

RED, BLUE = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")


def images(html: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'base64,([^"]+)', html)]


def drawn() -> show.Shown:
    fig, ax = show.axes("steps", "error (units of the data)", "It falls")
    ax.plot([1, 2], [2, 1])
    return show.figure(fig, "a falling <line>", "Twice the steps, half the error.")


def test_a_figure_has_alt_text_a_size_and_an_opaque_ground() -> None:
    shown = drawn()
    assert 'alt="a falling &lt;line&gt;"' in shown.html and re.search(r'width="\d+" height="\d+"', shown.html)
    (image,) = images(shown.html)
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert "a falling <line>" in shown.text and "Twice the steps" in shown.text


def test_a_figure_is_the_same_from_run_to_run() -> None:
    assert drawn() == drawn()


def test_a_workflow_is_drawn_large_enough_to_read_and_told_in_words() -> None:
    from chapter38 import Recipe
    from chapter38.canvas import export

    shown = show.graph(export(Recipe(prompt="a boat")))
    view, width, height = re.search(r'viewBox="([^"]+)" width="(\d+)" height="(\d+)"', shown.html).groups()
    *_, wide, high = map(float, view.split())
    assert int(width) / wide >= 0.6 <= int(height) / high  # the letters, of 14 pixels on the canvas, stay above 8
    assert 'tabindex="0"' in shown.html and "overflow-x:auto" in shown.html
    assert shown.text.startswith("[graph: Load Checkpoint") and "KSampler" in shown.text


def test_a_grid_enlarges_small_pictures_without_blurring() -> None:
    (image,) = images(show.pictures([RED, BLUE], ["a", "b"], "red, blue", columns=2).html)
    colours = image.convert("RGB").getcolors(2**16)
    assert {colour for count, colour in colours if count > 1000} >= {(255, 0, 0), (0, 0, 255)}


def test_a_slider_moves_over_one_sprite_and_starts_at_the_end() -> None:
    shown = show.slider([RED, BLUE], ["step 1", 'step "2"'], "red to blue", "step", side=64)
    (sprite,) = images(shown.html)
    assert sprite.size == (32, 16)
    assert sprite.getpixel((0, 0)) == (255, 0, 0) and sprite.getpixel((31, 0)) == (0, 0, 255)
    assert 'aria-label="step"' in shown.html and 'max="1" value="1"' in shown.html and "<script" not in shown.html


def test_a_slider_wants_a_label_for_each_frame() -> None:
    with pytest.raises(ValueError, match="1 and 2"):
        show.slider([RED, BLUE], ["one"], "x", "y")


def test_a_table_escapes_its_cells_and_reads_as_text() -> None:
    shown = show.table([{"a": "<b>", "b": 1}, {"a": "x", "b": 22}], "two rows")
    assert "&lt;b&gt;" in shown.html and '<th scope="col"' in shown.html
    assert shown.text.splitlines() == ["two rows", "a    b", "<b>  1", "x    22"]


def test_the_ladder_says_in_words_what_it_draws() -> None:
    shown = show.ladder()
    assert 'role="img"' in shown.html and all(word in shown.text for word in ("Call", "Canvas", "Code", "only where a need"))
    heights = {name: int(y) for y, name in re.findall(r'y="(\d+)" fill="#1b1b1b" font-weight="700">(\w+)', shown.html)}
    assert heights["Call"] < heights["Canvas"] < heights["Code"], "Call stands at the top"


def test_the_explorer_holds_every_rule() -> None:
    shown = show.explorer()
    rules = json.loads(re.search(r'data-rules="(.*?)"', shown.html)[1].replace("&quot;", '"').replace("&#x27;", "'"))
    assert [rule[2] for rule in rules] == [rule.why for rule in RULES]
    assert shown.html.count("<input") == len(RULES) and "aria-live" in shown.html


@pytest.mark.parametrize(
    ("environment", "name"),
    [({}, None), ({"CHAPTER38_MODEL": "sd15"}, "real"), ({"CHAPTER38_PROFILE": "cuda"}, "cuda")],
)
def test_the_environment_wins_over_the_lesson(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str) -> None:
    for variable in ("CHAPTER38_MODEL", "CHAPTER38_PROFILE", "CHAPTER38_TIMING"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    here = show.profile("postcards")
    assert here.name == (name or here.name) and here.tolerance == TOLERANCE[here.name]
    assert here.model == environment.get("CHAPTER38_MODEL", "postcards")
    assert not here.timing, "seconds are printed only where a reader asks"


def test_an_unknown_profile_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAPTER38_PROFILE", "cdua")
    with pytest.raises(Chapter38Error, match="did you mean 'cuda'"):
        show.profile()


def test_a_sweep_has_a_date_and_says_of_which_weights() -> None:
    found = show.sweep("38_1a")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"]) and found["weights"] in ("these weights", "earlier weights")
    assert found["seconds"]["step in pixels"] > found["seconds"]["step in latents"] > 0


def test_a_lesson_without_a_sweep_says_who_makes_one() -> None:
    with pytest.raises(Chapter38Error, match=r"sweeps\.py"):
        show.sweep("38_9z")
