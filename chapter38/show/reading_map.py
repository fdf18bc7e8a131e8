"""The reading map as data: load and check it, choose from it, order it, and hand it to a reference manager."""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import networkx as nx
from pydantic import BaseModel, ConfigDict, Field, model_validator

from chapter38.errors import Chapter38Error, MissingExtra, nearest

Kind = Literal["paper", "book", "text", "report", "benchmark", "dataset", "library", "tool", "service", "standard"]
# In the wheel the file lies beside this module; in a clone it is the book's.
PLACES = (Path(__file__).with_name("reading-map.yml"), Path(__file__).parents[2] / "book" / "reading-map.yml")
# Kind -> (BibTeX type, CSL type) where no venue or journal decides.
TYPES = {
    "book": ("book", "book"), "report": ("techreport", "report"), "library": ("software", "software"),
    "tool": ("software", "software"), "dataset": ("misc", "dataset"), "text": ("misc", "webpage"),
    "service": ("online", "webpage"), "standard": ("online", "standard"),
}  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Frozen):
    """One work: how to cite it, where its identifier was seen, why to read it, what to read before.

    minutes   our estimate of one careful reading
    open      true, false, or None where nobody checked
    measures  what a lesson measures again, for the works of the chapter's bibliography
    since     year-month of the first public version, where known
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    kind: Kind
    chapter: int = Field(ge=30, le=38)
    title: str
    authors: tuple[str, ...] = Field(min_length=1)
    year: int | None = None
    venue: str | None = None
    journal: str | None = None
    publisher: str | None = None
    arxiv: str | None = Field(default=None, pattern=r"^\d{4}\.\d{4,5}$")
    doi: str | None = Field(default=None, pattern=r"^10\.\d{4,}/\S+$")
    url: str | None = Field(default=None, pattern=r"^https://\S+$")
    isbn: str | None = None
    since: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}$")
    seen: str
    open: bool | None
    bibliography: bool = False
    minutes: int = Field(gt=0)
    before: tuple[str, ...] = ()
    lessons: tuple[str, ...] = ()
    measures: str | None = None
    why: str

    @property
    def link(self) -> str:
        """The address to follow: arXiv where there is one (free to read), else the DOI, else the page."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else str(self.url)

    @property
    def label(self) -> str:
        """Short name for figures: "Ho 2020", and for software its own."""
        if self.kind in ("library", "tool", "service"):
            return self.title.split(":")[0]
        family = self.authors[0].split(",")[0]
        return f"{family} {self.year}" if self.year else family

    @property
    def date(self) -> float | None:
        """When it became public, in years: arXiv's month or `since` where known, else the middle of the year."""
        if self.arxiv:
            return 2000 + int(self.arxiv[:2]) + (int(self.arxiv[2:4]) - 0.5) / 12
        if self.since:
            return int(self.since[:4]) + (int(self.since[5:]) - 0.5) / 12
        return self.year + 0.5 if self.year else None


class BookChapter(_Frozen):
    """One chapter of a textbook: the lessons that it serves, and what it gives them."""

    chapter: int
    title: str
    lessons: tuple[str, ...]
    gives: str


class ReadingMap(_Frozen):
    """The whole map; construction fails on a doubled id, an unknown id or source, a missing identifier, a circle."""

    looked_up: Any
    sources: dict[str, str]
    entries: tuple[Entry, ...]
    books: dict[str, tuple[BookChapter, ...]]
    models: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [entry.id for entry in self.entries]
        if doubled := {name for name in ids if ids.count(name) > 1}:
            raise ValueError(f"ids must be unique; more than once: {sorted(doubled)}")
        named = {name for entry in self.entries for name in entry.before}
        named |= {*self.books} | {name for names in self.models.values() for name in names}
        if unknown := named - {*ids}:
            raise ValueError(f"ids that no entry has: {sorted(unknown)}")
        for entry in self.entries:
            if entry.seen not in self.sources:
                raise ValueError(f"{entry.id}: unknown source {entry.seen!r}; {nearest(entry.seen, self.sources)}")
            if not (entry.arxiv or entry.doi or entry.url):
                raise ValueError(f"{entry.id}: needs an arXiv id, a DOI or an address")
        if not nx.is_directed_acyclic_graph(self.graph()):
            raise ValueError(f"'before' runs in a circle: {nx.find_cycle(self.graph())}")
        return self

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.id == name:
                return entry
        known = (entry.id for entry in self.entries)
        raise Chapter38Error(f"no work {name!r} in the reading map; {nearest(name, known)}")

    def graph(self) -> "nx.DiGraph[str]":
        """What builds on what: an edge from a work to each that names it in `before`."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(entry.id for entry in self.entries)
        graph.add_edges_from((earlier, entry.id) for entry in self.entries for earlier in entry.before)
        return graph

    def path(self, *goals: str) -> list[Entry]:
        """Everything to read for `goals`, in an order in which nothing comes before what it builds on."""
        graph = self.graph()
        wanted = {self[goal].id for goal in goals}.union(*(nx.ancestors(graph, goal) for goal in goals))
        when = {entry.id: (entry.date or 9999.0, entry.id) for entry in self.entries}
        order = nx.lexicographical_topological_sort(graph.subgraph(wanted), key=when.__getitem__)
        return [self[name] for name in order]

    def choose(
        self, *, chapter: int | None = None, kind: str | None = None, lesson: str | None = None,
        open: bool | None = None, minutes: int | None = None, words: str = "",
    ) -> list[Entry]:  # fmt: skip
        """The entries that satisfy every condition given; `minutes` is the longest you have, `words` anywhere in it."""
        return [
            entry
            for entry in self.entries
            if (chapter is None or entry.chapter == chapter)
            and (kind is None or entry.kind == kind)
            and (lesson is None or any(name.startswith(lesson) for name in entry.lessons))
            and (open is None or entry.open is open)
            and (minutes is None or entry.minutes <= minutes)
            and words.lower() in " ".join([entry.id, entry.title, *entry.authors, entry.why]).lower()
        ]

    def for_model(self, model: str) -> list[Entry]:
        """What to read before you take `model` apart, first things first."""
        if model not in self.models:
            raise Chapter38Error(f"the reading map has no list for model {model!r}; {nearest(model, self.models)}")
        return self.path(*self.models[model])


@lru_cache(maxsize=1)
def reading_map() -> ReadingMap:
    """The map that comes with the course, checked."""
    try:
        import yaml
    except ModuleNotFoundError as missing:
        raise MissingExtra("the reading map", "notebooks") from missing
    found = next((place for place in PLACES if place.is_file()), None)
    if found is None:
        raise Chapter38Error("reading-map.yml is neither in the package nor in book/ beside it; install it again")
    return ReadingMap.model_validate(yaml.safe_load(found.read_text(encoding="utf-8")))


def bibtex(entries: Iterable[Entry]) -> str:
    """BibTeX (biblatex types, UTF-8), one entry a work; titles keep their capitals.

    >>> print(bibtex([reading_map()["ho2022cfg"]]).splitlines()[0])
    @inproceedings{ho2022cfg,
    """
    return "\n".join(_bib(entry) for entry in entries)


def csl(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """CSL-JSON items, as Zotero, Pandoc and citeproc read them; `json.dumps` them into a file."""
    return [_item(entry) for entry in entries]


def _type(entry: Entry) -> tuple[str, str]:
    if entry.journal:
        return "article", "article-journal"
    if entry.venue:
        return "inproceedings", "paper-conference"
    return TYPES["text"] if entry.kind == "text" and entry.url else TYPES.get(entry.kind, ("misc", "article"))


def _bib(entry: Entry) -> str:
    authors = [name if "," in name or name == "others" else f"{{{name}}}" for name in entry.authors]
    fields = {
        "title": f"{{{_escape(entry.title)}}}", "author": _escape(" and ".join(authors)), "year": entry.year,
        "booktitle": entry.venue and _escape(entry.venue), "journal": entry.journal and _escape(entry.journal),
        "publisher" if entry.kind == "book" else "institution": entry.publisher and _escape(entry.publisher),
        "eprint": entry.arxiv, "archiveprefix": entry.arxiv and "arXiv", "doi": entry.doi, "isbn": entry.isbn,
        "url": entry.link,
    }  # fmt: skip
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{_type(entry)[0]}{{{entry.id},\n{lines}}}\n"


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", text)


def _item(entry: Entry) -> dict[str, Any]:
    people = [
        {"family": name.split(", ")[0], "given": name.split(", ")[1]} if ", " in name else {"literal": name}
        for name in entry.authors
        if name != "others"
    ]
    item = {
        "id": entry.id, "type": _type(entry)[1], "title": entry.title, "author": people,
        "issued": {"date-parts": [[entry.year]]} if entry.year else None,
        "container-title": entry.venue or entry.journal,
        "publisher": entry.publisher, "DOI": entry.doi, "ISBN": entry.isbn, "URL": entry.link,
        "number": f"arXiv:{entry.arxiv}" if entry.arxiv else None,
        "note": "and others" if "others" in entry.authors else None,
    }  # fmt: skip
    return {name: value for name, value in item.items() if value}
