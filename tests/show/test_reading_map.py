"""The reading map: complete, consistent, looked up; the same in its file, its table, its figures and its exports."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pybtex.database import parse_string
from pydantic import ValidationError

from chapter38.errors import Chapter38Error
from chapter38.show import reading_map as module
from chapter38.show.figures import Shown
from chapter38.show.reading_map import BookChapter, Entry, ReadingMap, bibtex, csl, reading_map
from chapter38.show.reading_views import builds_on, reading_order, reading_table, timeline
from tools.browser import HOW, find

ROOT = Path(__file__).parents[2]
MAP = reading_map()
IDS = [entry.id for entry in MAP.entries]
LESSONS = {lesson["name"] for lesson in json.loads((ROOT / "book" / "lessons.json").read_text(encoding="utf-8"))}
# The chapter's bibliography, by the identifiers that it prints, or by the id of what has none.
BIBLIOGRAPHY = {
    "2112.10752", "2006.11239", "2106.09685", "2302.05543", "2212.09748", "2210.02747", "2310.04378", "2210.08402",
    "1706.08500", "prince2023", "murphy2023", "diffusers", "peft", "accelerate", "wolf2020transformers", "comfyui",
    "sgm", "replicate",
}  # fmt: skip
CSL_TYPES = {
    "paper-conference", "article-journal", "article", "book", "software", "webpage", "dataset", "report", "standard",
}  # fmt: skip


def identifiers(entry: Entry) -> list[str]:
    return [name for name in (entry.arxiv, entry.doi, entry.url) if name]


def test_it_spans_part_four_and_this_chapter() -> None:
    assert len(MAP.entries) >= 70
    assert {chapter: len(MAP.choose(chapter=chapter)) >= 5 for chapter in range(30, 39)} == dict.fromkeys(
        range(30, 39), True
    )
    assert {entry.kind for entry in MAP.entries} >= {"paper", "text", "book", "library", "benchmark", "dataset"}


def test_every_work_of_the_bibliography_is_there_with_what_is_measured_again() -> None:
    works = [entry for entry in MAP.entries if entry.bibliography]
    assert {entry.arxiv or entry.id for entry in works} == BIBLIOGRAPHY
    assert [entry.id for entry in works if not (entry.measures and entry.lessons)] == []


def test_no_two_entries_are_one_work() -> None:
    names = [name for entry in MAP.entries for name in identifiers(entry)]
    titles = [(entry.kind, entry.title.lower(), entry.authors[0]) for entry in MAP.entries]
    assert len(set(names)) == len(names)
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("entry", MAP.entries, ids=IDS)
def test_each_entry_says_why_in_sentences_of_its_own(entry: Entry) -> None:
    assert 40 <= len(entry.why) <= 400
    assert entry.why.endswith(".")
    assert [other.id for other in MAP.entries if other.why == entry.why] == [entry.id]
    assert set(entry.lessons) <= LESSONS, (
        f"lessons that book/lessons.json does not name: {set(entry.lessons) - LESSONS}"
    )
    assert entry.date is None or 1900 < entry.date < 2100


def test_a_preprint_is_not_dated_after_its_publication() -> None:
    assert [e.id for e in MAP.entries if e.arxiv and e.year and e.date and e.date >= e.year + 1] == []


@pytest.mark.parametrize(("book", "chapters"), [("prince2023", 21), ("murphy2023", 36)])
def test_both_textbooks_are_mapped_chapter_by_chapter(book: str, chapters: int) -> None:
    rows = MAP.books[book]
    assert [row.chapter for row in rows] == list(range(1, chapters + 1))
    assert {name for row in rows for name in row.lessons} <= LESSONS
    assert all(isinstance(row, BookChapter) and row.gives for row in rows)


def small(**changes: Any) -> dict[str, Any]:
    """A map of two works as its file would hold it; `changes` go into the second."""
    base: dict[str, Any] = {
        "kind": "paper", "chapter": 33, "title": "T", "authors": ["A, B"], "year": 2020, "seen": "s", "open": True,
        "minutes": 10, "why": "Because.",
    }  # fmt: skip
    second = {**base, "id": "b", "arxiv": "2006.11240", "before": ["a"], **changes}
    entries = [{**base, "id": "a", "arxiv": "2006.11239"}, {k: v for k, v in second.items() if v is not None}]
    return {"looked_up": "2026-11-24", "sources": {"s": "somewhere"}, "entries": entries, "books": {}, "models": {}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "a", "before": []}, "more than once: ['a']"),
        ({"before": ["zz"]}, "no entry has: ['zz']"),
        ({"before": ["b"]}, "circle"),
        ({"arxiv": None}, "needs an arXiv id, a DOI or an address"),
        ({"seen": "t"}, "unknown source 't'"),
        ({"arxiv": "20061.1"}, "arxiv"),
        ({"doi": "11.1/x"}, "doi"),
        ({"url": "http://x.org"}, "url"),
        ({"chapter": 29}, "chapter"),
        ({"kind": "song"}, "kind"),
        ({"typo": 1}, "typo"),
        ({"authors": []}, "authors"),
    ],
)
def test_a_broken_map_is_refused_and_told_why(changes: dict[str, Any], says: str) -> None:
    ReadingMap.model_validate(small())
    with pytest.raises(ValidationError, match=re.escape(says)):
        ReadingMap.model_validate(small(**changes))


def test_the_file_holds_nothing_that_the_model_forgets() -> None:
    raw = yaml.safe_load((ROOT / "book" / "reading-map.yml").read_text(encoding="utf-8"))
    for given_, entry in zip(raw["entries"], MAP.entries, strict=True):
        kept = entry.model_dump(mode="json", exclude_unset=True)
        assert {**given_, "why": given_["why"].strip()} == {**kept, "why": kept["why"].strip()}


def test_a_missing_file_is_one_plain_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PLACES", (tmp_path / "none.yml",))
    reading_map.cache_clear()
    try:
        with pytest.raises(Chapter38Error, match=r"reading-map\.yml"):
            reading_map()
    finally:
        reading_map.cache_clear()


@given(st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True))
@settings(max_examples=40, deadline=None)
def test_a_reading_path_is_whole_and_in_order(goals: list[str]) -> None:
    seen: list[str] = []
    for entry in MAP.path(*goals):
        assert set(entry.before) <= set(seen)
        seen.append(entry.id)
    assert set(goals) <= set(seen)
    needed = {name for entry in MAP.path(*goals) for name in entry.before} | set(goals)
    assert set(seen) == needed


@given(
    st.none() | st.integers(30, 38), st.none() | st.sampled_from(["paper", "text", "library"]),
    st.none() | st.sampled_from(["38_1b_scheduler_swaps", "38_4b"]), st.none() | st.booleans(), st.none() | st.just(60),
    st.sampled_from(["", "karras", "Diffusion"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_choosing_by_many_conditions_is_choosing_by_each(
    chapter: int | None, kind: str | None, lesson: str | None, open: bool | None, minutes: int | None, words: str
) -> None:
    single = [
        MAP.choose(chapter=chapter), MAP.choose(kind=kind), MAP.choose(lesson=lesson), MAP.choose(open=open),
        MAP.choose(minutes=minutes), MAP.choose(words=words),
    ]  # fmt: skip
    both = MAP.choose(chapter=chapter, kind=kind, lesson=lesson, open=open, minutes=minutes, words=words)
    assert {entry.id for entry in both} == set.intersection(*({entry.id for entry in found} for found in single))


def test_words_find_an_author_and_a_sampler() -> None:
    assert "karras2022edm" in {entry.id for entry in MAP.choose(words="KARRAS")}
    assert MAP.choose(words="no such words anywhere") == []


@pytest.mark.parametrize("ask", [lambda: MAP["ho2021ddpm"], lambda: MAP.for_model("sd16"), lambda: MAP.path("nobody")])
def test_an_unknown_name_is_answered_with_the_nearest(ask: Any) -> None:
    with pytest.raises(Chapter38Error, match=r"did you mean|expected one of"):
        ask()


def test_every_model_has_a_path_that_ends_with_its_own_papers() -> None:
    for model, names in MAP.models.items():
        assert set(names) <= {entry.id for entry in MAP.for_model(model)}


def test_bibtex_reads_back_as_the_same_works() -> None:
    database = parse_string(bibtex(MAP.entries), "bibtex")
    assert list(database.entries) == IDS
    for entry in MAP.entries:
        read = database.entries[entry.id]
        assert read.fields["title"].strip("{}").replace("\\", "") == entry.title
        assert read.fields.get("year") == (str(entry.year) if entry.year else None)
        assert read.fields.get("eprint") == entry.arxiv
        people = read.persons["author"]
        assert len(people) == len(entry.authors)
        families = [" ".join([*person.prelast_names, *person.last_names, *person.lineage_names]) for person in people]
        expected = [name.split(", ")[0] if ", " in name else name for name in entry.authors]
        assert [family.strip("{}").replace("\\", "") for family in families] == expected


def test_csl_json_holds_what_citation_software_needs() -> None:
    items = json.loads(json.dumps(csl(MAP.entries)))
    assert [item["id"] for item in items] == IDS
    for item, entry in zip(items, MAP.entries, strict=True):
        assert item["URL"] == entry.link
        assert item["title"] == entry.title
        names = [name.get("literal") or f"{name['family']}, {name['given']}" for name in item["author"]]
        assert [*names, *(["others"] if item.get("note") else [])] == list(entry.authors)
        assert item["type"] in CSL_TYPES


class Page(HTMLParser):
    """What a browser would load, link and list of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_table_is_whole_and_loads_nothing() -> None:
    table = reading_table(MAP.entries, "All of it")
    page = Page(table.html)
    rows = [attrs for attrs in page.all("tr") if attrs.get("id")]
    assert len(rows) == len(MAP.entries)
    assert all(not attrs.get("src") for _, attrs in page.tags)
    assert not page.all("link")
    assert "http" not in table.html.split("<script>")[1]
    ids = {str(attrs["id"]) for _, attrs in page.tags if attrs.get("id")}
    inside = [str(a["href"])[1:] for a in page.all("a") if str(a["href"]).startswith("#")]
    assert set(inside) <= ids
    assert all(str(a["href"]).startswith(("https://", "#")) for a in page.all("a"))
    for entry in MAP.entries:
        assert f"{entry.title} (" in table.text


def test_a_table_of_a_choice_has_no_link_into_what_it_leaves_out() -> None:
    page = Page(reading_table(MAP.choose(chapter=35), "Chapter 35", id="some").html)
    ids = {str(attrs["id"]) for _, attrs in page.tags if attrs.get("id")}
    assert {str(a["href"])[1:] for a in page.all("a") if str(a["href"]).startswith("#")} <= ids


@pytest.mark.browser
def test_the_filters_leave_what_choose_would() -> None:
    path = find()
    if path is None:
        pytest.skip(HOW)
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'chapter38[dev]'")
    html = f"<!doctype html><title>t</title>{reading_table(MAP.entries, 'All').html}"
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(html)
        shown = lambda: {  # noqa: E731
            row.removeprefix("reading-map-")
            for row in page.eval_on_selector_all("tbody tr", "rows => rows.filter(r => !r.hidden).map(r => r.id)")
        }
        page.select_option("[data-filter=chapter]", "37")
        page.select_option("[data-filter=open]", "yes")
        page.select_option("[data-filter=lesson]", "38_4b_is_it_better")
        expected = {entry.id for entry in MAP.choose(chapter=37, open=True, lesson="38_4b_is_it_better")}
        assert shown() == expected
        assert page.inner_text("output") == f"{len(expected)} of {len(MAP.entries)} works"
        page.fill("input[type=search]", "LAION")
        assert shown()
        assert shown() < expected
        browser.close()


def png(shown: Shown) -> bytes:
    found = re.search(r"base64,([^\"]+)", shown.html)
    assert found
    return base64.b64decode(found[1])


@pytest.mark.parametrize("draw", [lambda: timeline(MAP), lambda: builds_on(MAP, "luo2023lcm", "esser2024sd3")])
def test_figures_are_opaque_described_and_the_same_each_time(draw: Any) -> None:
    first, second = draw(), draw()
    assert png(first) == png(second)
    picture = Image.open(io.BytesIO(png(first))).convert("RGBA")
    assert picture.getchannel("A").getextrema() == (255, 255)
    assert len(picture.convert("RGB").getcolors(1 << 22) or []) > 20
    assert len(first.text) > 80


def test_the_graph_names_every_work_that_its_goal_rests_on() -> None:
    text = builds_on(MAP, "luo2023lcm").text
    assert all(entry.label in text for entry in MAP.path("luo2023lcm"))


def test_a_reading_order_counts_hours_without_the_books() -> None:
    entries = [MAP["prince2023"], MAP["ho2022cfg"], MAP["ho2020ddpm"]]
    minutes = MAP["ho2022cfg"].minutes + MAP["ho2020ddpm"].minutes
    shown = reading_order(entries, "Guidance")
    assert f"2 works, {minutes / 60:.0f} hours, and the book beside them" in shown.text
    assert shown.html.count("<li>") == 3
