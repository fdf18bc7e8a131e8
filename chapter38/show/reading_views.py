"""The reading map to look at: a table that filters itself in the browser, a timeline, a graph of what builds on it."""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

import networkx as nx

from chapter38.show.figures import COLOURS, MARKERS, Shown, axes, figure
from chapter38.show.reading_map import Entry, ReadingMap

CHAPTERS = {
    30: "probability", 31: "autoencoders", 32: "GANs", 33: "diffusion", 34: "text to image", 35: "control, editing",
    36: "video, 3D", 37: "evaluation, data", 38: "tools",
}  # fmt: skip
# What the legend tells apart: name -> kinds.
GROUPS = {
    "papers": ("paper", "report"), "texts": ("book", "text", "standard"),
    "data and benchmarks": ("benchmark", "dataset"), "tools": ("library", "tool", "service"),
}  # fmt: skip
OPEN = {True: "yes", False: "no", None: "not checked"}
FIRST_YEAR, TOOLS_YEAR = 2013, 2021  # where the timeline begins; the year from which it counts tools
# Bent a little, so that two arrows through one place stay apart.
ARROW = {
    "arrowstyle": "->", "color": "#777777", "linewidth": 0.8, "shrinkA": 16, "shrinkB": 16,
    "connectionstyle": "arc3,rad=0.07",
}  # fmt: skip

# One listener over the controls: a row shows when every filter agrees; the count is read out by screen readers.
_SCRIPT = """
(function () {
  var box = document.getElementById(%s), rows = box.querySelectorAll("tbody tr"), count = box.querySelector("output");
  var filters = box.querySelectorAll("[data-filter]"), words = box.querySelector("input[type=search]");
  function show() {
    var shown = 0, sought = words.value.toLowerCase();
    rows.forEach(function (row) {
      var fits = row.textContent.toLowerCase().indexOf(sought) >= 0;
      filters.forEach(function (filter) {
        var values = row.getAttribute("data-" + filter.dataset.filter).split(" ");
        fits = fits && (filter.value === "" || values.indexOf(filter.value) >= 0);
      });
      row.hidden = !fits;
      shown += fits;
    });
    count.textContent = shown + " of " + rows.length + " works";
  }
  box.addEventListener("input", show);
  box.addEventListener("change", show);
})();
"""


def reading_table(entries: Sequence[Entry], caption: str, *, id: str = "reading-map") -> Shown:
    """The entries as a table with filters for chapter, kind, lesson, open access and free words; a plain table without
    scripts. It loads nothing from elsewhere; `id` must differ where one page holds two."""
    filters: list[tuple[str, str, dict[str, str]]] = [
        ("Chapter", "chapter", {str(n): f"{n} {CHAPTERS[n]}" for n in sorted({e.chapter for e in entries})}),
        ("Kind", "kind", {kind: kind for kind in sorted({e.kind for e in entries})}),
        ("Lesson", "lesson", {name: name for name in sorted({name for e in entries for name in e.lessons})}),
        ("Open access", "open", {OPEN[value].replace(" ", "-"): OPEN[value] for value in (True, False, None)}),
    ]
    controls = "".join(_select(*filter) for filter in filters)
    present = {entry.id: entry.label for entry in entries}
    body = "".join(_row(entry, present, id) for entry in entries)
    head = "".join(
        f'<th scope="col" style="text-align:left">{name}</th>'
        for name in ("Ch.", "Work", "Why you would read it", "Before it", "Minutes", "Open", "Lessons")
    )
    page = (
        f'<div id="{id}"><p>{controls}<label>Words <input type="search"></label> '
        f'<output aria-live="polite">{len(entries)} of {len(entries)} works</output></p>'
        f'<div style="overflow-x:auto" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f'<table style="min-width:56rem"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"</div></div><script>{_SCRIPT % json.dumps(id)}</script>"
    )
    text = "\n".join([caption, *(f"{e.chapter}  {e.label}: {e.title} ({e.minutes} min, {e.link})" for e in entries)])
    return Shown(page, text)


def reading_order(entries: Iterable[Entry], title: str) -> Shown:
    """A numbered list, first things first, with the minutes of each and the hours of all but books."""
    entries = list(entries)
    papers = [entry for entry in entries if entry.kind != "book"]
    head = f"{title}: {len(papers)} works, {sum(entry.minutes for entry in papers) / 60:.0f} hours"
    if len(papers) < len(entries):
        head += ", and the book beside them" if len(entries) == len(papers) + 1 else ", and the books beside them"
    about = [f"({entry.label}, {entry.minutes} min)" for entry in entries]
    items = "".join(
        f'<li><a href="{entry.link}">{html.escape(entry.title)}</a> {html.escape(words)}</li>'
        for entry, words in zip(entries, about, strict=True)
    )
    lines = [f"{i}. {entry.title} {words}" for i, (entry, words) in enumerate(zip(entries, about, strict=True), 1)]
    return Shown(f"<p>{html.escape(head)}</p><ol>{items}</ol>", "\n".join([head, *lines]))


def timeline(map: ReadingMap) -> Shown:
    """Every dated work since FIRST_YEAR in a lane for its chapter; the works of the bibliography carry their names."""
    dated = [(entry, entry.date) for entry in map.entries if entry.date and entry.date >= FIRST_YEAR]
    dated.sort(key=lambda pair: pair[1])
    lanes = {chapter: -i for i, chapter in enumerate(CHAPTERS)}
    spots = {entry.id: (date, lanes[entry.chapter] + _jitter(entry.id)) for entry, date in dated}
    tools = [date for entry, date in dated if _group(entry) == "tools"]
    late = sum(date >= TOOLS_YEAR for date in tools)
    finding = f"The tools come with the wave of papers, not before it: {late} of {len(tools)} since {TOOLS_YEAR}"
    fig, ax = axes("first made public (year)", "", finding, width=9.5, height=6.4)
    for (name, kinds), colour, marker in zip(GROUPS.items(), COLOURS, MARKERS, strict=False):
        x, y = zip(*(spots[entry.id] for entry, _ in dated if entry.kind in kinds), strict=True)
        ax.scatter(x, y, s=26, color=colour, marker=marker, label=name, alpha=0.85)
    for i, entry in enumerate(entry for entry, _ in dated if entry.bibliography):
        ax.annotate(entry.label, spots[entry.id], (4, (4, -9)[i % 2]), textcoords="offset points", fontsize=7)
    ax.set_yticks(list(lanes.values()), [f"{chapter} {name}" for chapter, name in CHAPTERS.items()])
    ax.legend(loc="lower left", fontsize=8, framealpha=1)
    spans = "; ".join(f"{name} {_span(date for e, date in dated if e.chapter == n)}" for n, name in CHAPTERS.items())
    alt = f"Timeline of {len(dated)} works in a lane for each chapter, first to last: {spans}. {finding}."
    left = len(map.entries) - len(dated)
    return figure(fig, alt, f"{left} works are not drawn: older than {FIRST_YEAR}, or without a confirmed date.")


def builds_on(map: ReadingMap, *goals: str, title: str = "") -> Shown:
    """The works that `goals` rest on, first things on the left: an arrow from a work to what builds on it."""
    chain = map.path(*goals)
    graph = map.graph().subgraph(entry.id for entry in chain)
    layers = [sorted(layer, key=lambda name: (-map[name].chapter, name)) for layer in nx.topological_generations(graph)]
    spots = {name: (x, (i + 0.5) / len(layer)) for x, layer in enumerate(layers) for i, name in enumerate(layer)}
    verb = "rests" if len(goals) == 1 else "rest"
    title = f"{title or ', '.join(map[goal].label for goal in goals)} {verb} on {len(chain) - len(goals)} works"
    tallest = max(len(layer) for layer in layers)
    fig, ax = axes("", "", title, width=max(6.4, 1.75 * len(layers)), height=max(2.8, 0.62 * tallest + 0.8))
    for earlier, later in graph.edges:
        ax.annotate("", spots[later], spots[earlier], arrowprops=ARROW)
    for name, (x, y) in spots.items():
        colour = COLOURS[list(GROUPS).index(_group(map[name]))]
        box: dict[str, Any] = {"boxstyle": "round", "facecolor": "white", "edgecolor": colour, "linewidth": 1.4}
        ax.text(x, y, "\n".join(map[name].label.rsplit(" ", 1)), ha="center", va="center", fontsize=7.5, bbox=box)
    ax.set(xlim=(-0.6, len(layers) - 0.4), ylim=(0, 1))
    ax.axis("off")
    words = "; then ".join(", ".join(map[name].label for name in layer) for layer in layers)
    alt = f"Graph in {len(layers)} layers, each resting on those before: {words}."
    return figure(fig, alt, "Read from left to right.")


def _span(dates: Iterable[float]) -> str:
    years = sorted(int(date) for date in dates)
    return f"{years[0]} to {years[-1]}"


def _group(entry: Entry) -> str:
    return next(name for name, kinds in GROUPS.items() if entry.kind in kinds)


def _jitter(name: str) -> float:
    """A fixed offset within a lane, so that works of one month do not hide each other."""
    return (sum(map(ord, name)) % 13 - 6) / 18


def _select(label: str, name: str, options: dict[str, str]) -> str:
    choices = "".join(f'<option value="{value}">{html.escape(text)}</option>' for value, text in options.items())
    return f'<label>{label} <select data-filter="{name}"><option value="">all</option>{choices}</select></label> '


def _row(entry: Entry, present: dict[str, str], id: str) -> str:
    before = ", ".join(
        f'<a href="#{id}-{name}">{html.escape(present[name])}</a>' if name in present else name for name in entry.before
    )
    preprint = f"arXiv:{entry.arxiv}" if entry.arxiv else entry.kind
    place = entry.venue or entry.journal or entry.publisher or preprint
    authors = entry.authors[0].split(",")[0] + (" et al." if len(entry.authors) > 1 else "")
    year = f", {entry.year}" if entry.year and str(entry.year) not in place else ""
    measures = f"<br><em>Measured again:</em> {html.escape(entry.measures)}" if entry.measures else ""
    cells = (
        str(entry.chapter),
        f'<a href="{entry.link}">{html.escape(entry.title)}</a><br>{html.escape(f"{authors}, {place}{year}")}',
        html.escape(entry.why) + measures, before, str(entry.minutes), OPEN[entry.open], "<br>".join(entry.lessons),
    )  # fmt: skip
    data = f'data-chapter="{entry.chapter}" data-kind="{entry.kind}" data-lesson="{" ".join(entry.lessons)}"'
    return (
        f'<tr id="{id}-{entry.id}" {data} data-open="{OPEN[entry.open].replace(" ", "-")}">'
        + "".join(f'<td style="text-align:left;vertical-align:top">{cell}</td>' for cell in cells)
        + "</tr>"
    )
