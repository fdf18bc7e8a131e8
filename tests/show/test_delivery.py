"""A delivered folder can be held to account: written whole, the same twice, and every way of spoiling it is found."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from chapter38 import Picture, Receipt, Recipe
from chapter38.errors import MetadataError
from chapter38.picture import Lock
from chapter38.show.delivery import deliver, problems


def picture(seed: int, **fields: object) -> Picture:
    recipe = Recipe(prompt=f"a <red> boat & {seed}", seed=seed, **fields)
    return Picture(Image.new("RGB", (16, 16), (seed, 0, 0)), recipe, Receipt(Lock(rung="code", model="postcards")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hint = Image.new("L", (128, 128), 255)
    three = {
        "First boat": picture(1),
        "Zwei/..": picture(2, control=[{"kind": "edges", "image": hint}]),
        "No graph": picture(3, steps=30),
    }
    deliver(three, tmp_path, "Three <boats>", "One & all")
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_there_and_nothing_stands_against_it(folder: Path) -> None:
    assert problems(folder) == []
    hints = {name for name in names(folder) if len(Path(name).stem) == 64}
    assert len(hints) == 1 and all(name.startswith("workflows/") for name in hints)
    assert names(folder) - hints == {
        "index.html", "receipts.jsonl", "pictures/01-first-boat.png", "pictures/02-zwei.png", "pictures/03-no-graph.png",
        "workflows/01-first-boat.json", "workflows/02-zwei.json",
    }  # fmt: skip


def test_what_has_no_workflow_says_why(folder: Path) -> None:
    row = json.loads((folder / "receipts.jsonl").read_text("utf-8").splitlines()[2])
    assert "workflow" not in row and "ddim" in row["no_workflow"]
    assert "no workflow: " in (folder / "index.html").read_text("utf-8")


def test_words_are_escaped(folder: Path) -> None:
    page = (folder / "index.html").read_text("utf-8")
    assert 'alt="a &lt;red&gt; boat &amp; 1"' in page and "<h1>Three &lt;boats&gt;</h1><p>One &amp; all</p>" in page


def test_words_may_say_what_the_prompt_does_not(tmp_path: Path) -> None:
    page = deliver(
        {"The mayor's": picture(1), "Other": picture(2)}, tmp_path, "Two", words={"The mayor's": "a boat in four inks"}
    )
    text = page.read_text("utf-8")
    assert 'src="pictures/01-the-mayors.png" alt="a boat in four inks"' in text and 'alt="a &lt;red&gt; boat &amp; 2"' in text
    assert problems(tmp_path) == []


def test_the_same_pictures_give_the_same_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pictures = {"First boat": picture(1), "Other": picture(2)}
    folders = [tmp_path_factory.mktemp("delivered") for _ in range(2)]
    for each in folders:
        deliver(pictures, each, "Two boats")
    one, two = ({name: (each / name).read_bytes() for name in names(each)} for each in folders)
    assert one == two


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return spoil


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a picture saved anew": (lambda f: Image.open(f / "pictures/01-first-boat.png").save(f / "pictures/01-first-boat.png"), "not the file"),
    "a picture missing": (lambda f: (f / "pictures/02-zwei.png").unlink(), "02-zwei"),
    "a picture more": (lambda f: picture(9).save(f / "pictures/09-extra.png"), "has no receipt"),
    "another workflow": (edit("workflows/01-first-boat.json", "boat & 1", "boat & 7"), "another recipe"),
    "the hint map gone": (lambda f: next(p for p in (f / "workflows").glob("*.png")).unlink(), "02-zwei"),
    "a receipt with another seed": (edit("receipts.jsonl", '"seed": 1,', '"seed": 5,'), "not the one on its receipt"),
    "a script from elsewhere": (edit("index.html", "</main>", '<script src="https://example.org/x.js"></script></main>'), "another machine"),
    "a style from elsewhere": (edit("index.html", "figure{margin:0}", "figure{background:url(//example.org/x.png)}"), "another machine"),
    "a picture without words": (edit("index.html", 'alt="a &lt;red&gt; boat &amp; 1"', 'alt=""'), "no words for"),
    "a picture not shown": (edit("index.html", "pictures/02-zwei.png", "pictures/01-first-boat.png"), "does not show"),
    "no page": (lambda f: (f / "index.html").unlink(), "can be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILED)
def test_every_spoiling_is_found(folder: Path, what: str) -> None:
    spoil, words = SPOILED[what]
    spoil(folder)
    found = problems(folder)
    assert found and words in "; ".join(found), found


def test_a_picture_without_recipe_is_not_delivered(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="no recipe"):
        deliver({"x": Picture(Image.new("RGB", (8, 8)))}, tmp_path, "t")
