"""Picture: what is saved comes back equal, byte for byte the same, or not at all."""

import contextlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chapter38.errors import MetadataError
from chapter38.picture import CHUNK, Lock, Meter, Picture, Price, Receipt, parse_chunk
from chapter38.recipe import Recipe

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def picture(words="a boat", **chunks):
    image = Image.linear_gradient("L").resize((16, 8)).convert("RGB")
    price = Price(usd="0.0031", as_of="2026-11-24", source="a list")
    lock = Lock(rung="code", model="postcards", weights={"unet": "0" * 64}, notes=("one",), price=price)
    return Picture(image, Recipe(prompt=words, seed=2**63), Receipt(lock, Meter(seconds={"load": 1.0})), chunks)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@given(prompt=texts, workflow=texts.filter(bool))
def test_saved_and_opened_is_equal(tmp_path_factory, suffix, prompt, workflow):
    path = tmp_path_factory.mktemp("p") / f"boat{suffix}"
    one = picture(prompt, prompt=json.dumps({"1": workflow}), workflow=json.dumps({"nodes": workflow}, ensure_ascii=False))
    one.save(path)
    assert Picture.open(path) == one
    first = path.read_bytes()
    assert one.save(path).read_bytes() == first
    assert b"trainedAlgorithmicMedia" in first


def test_the_meter_is_beside_and_not_inside(tmp_path):
    one = picture()
    one.save(tmp_path / "a.png", sidecar=True)
    other = Picture(one.image, one.recipe, Receipt(one.receipt.lock, Meter(seconds={"load": 9.0})))
    assert other == one and other.save(tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert json.loads((tmp_path / "a.png.meter.json").read_text())["seconds"] == {"load": 1.0}


def test_it_shows_itself():
    html = picture("a <b> & c")._repr_html_()
    assert "a &lt;b&gt; &amp; c" in html and "data:image/png;base64," in html and "$0.0031" in html


@pytest.mark.parametrize("name", ["boat.jpg", "boat", "boat.gif"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(MetadataError, match=r"\.png or \.webp"):
        picture().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "boat.png"
    picture("old").save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        picture("new").save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["boat.png"]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(IsADirectoryError):
        (tmp_path / "boat.png").mkdir()
        picture().save(tmp_path / "boat.png")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        picture().save(tmp_path / "nowhere" / "boat.png")
    with pytest.raises(MetadataError, match="no place for the chunks"):
        picture(other="x").save(tmp_path / "boat.webp")


def test_what_is_not_ours_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "plain.png").read_bytes()[:30])
    for name, says in (("plain.png", "holds no Chapter 38 recipe"), ("broken.png", "not a readable"), (".", "folder"),
                       ("gone.png", "no such file")):  # fmt: skip
        with pytest.raises(MetadataError, match=says):
            Picture.open(tmp_path / name)


@settings(max_examples=40)
@given(
    st.one_of(
        texts, st.recursive(st.none() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)).map(json.dumps)
    )
)
def test_any_chunk_is_read_or_refused(text):
    with contextlib.suppress(MetadataError):
        parse_chunk(text)


def test_only_our_chunk_is_ours(tmp_path):
    picture(prompt="{}").save(tmp_path / "a.png")
    assert set(Image.open(tmp_path / "a.png").text) == {CHUNK, "prompt", "XML:com.adobe.xmp"}
