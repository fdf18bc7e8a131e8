# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 38.4a · The reading map
#
# **Routes:** everything. **Section:** 38.4, what to read next.
#
# Part IV rests on a few hundred papers, and this chapter on a few dozen tools. You will not read them all. In this lesson
# you let a list of works, each with what to read before it, answer three questions: what next, in which order, and how
# long will it take?
#
# ## What you will be able to do
#
# - find the works for a question, a lesson or a model of your own, and the open ones first;
# - put any reading list into an order in which nothing comes before what it builds on, and say what that costs in hours;
# - tell the work where an idea was *named* from the work where you should *learn* it;
# - carry the citations into your own writing as BibTeX or CSL-JSON.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. Latent diffusion puts two older ideas together. Which two?
# 2. A paper reports a lower Fréchet distance than another. What else would you want to know?
#
# <details><summary>Answers</summary>
#
# 1. An autoencoder that compresses the picture, and a diffusion model that works on what it compresses to. See
#    [Latent diffusion](../book/refresher.md#latent-diffusion).
# 2. How many pictures went in, with which features, and whether the pictures follow the prompt; the distance sees neither
#    prompts nor single pictures. See [Judging a generator](../book/refresher.md#judging-a-generator).
#
# </details>
#
# If either surprised you, read those two sections of the [refresher](../book/refresher.md) first.
#
# ## What it costs
#
# | | laptop CPU | any GPU |
# |---|---|---|
# | time | seconds; an evening if you begin to read | the same |
# | memory | under 0.5 GB | the same |
# | download | none; the papers are a click away | the same |

# %%
# On Colab this installs the course and replaces nothing that Colab ships; elsewhere it does nothing.
import importlib.util
import subprocess
import sys
from pathlib import Path

wheel = next(Path().glob("chapter38-*.whl"), "chapter38-*.whl")  # upload the file that `make wheel` builds
if importlib.util.find_spec("chapter38") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"{wheel}[notebooks]"], check=True)

# %%
from collections import Counter

from IPython.display import display

from chapter38 import show
from chapter38.show.reading_map import reading_map

works = reading_map()
print(len(works.entries), "works:", dict(Counter(entry.kind for entry in works.entries)))

# %% [markdown]
# One entry is one work: a full citation, an identifier that was looked up (and where), whether you can read it for free,
# why *you* would read it, how long it takes, and what to read before it.

# %%
entry = works["ho2022cfg"]
print(entry.title, "·", entry.authors, "·", entry.link)
print("why:   ", entry.why)
print("before:", entry.before, "·", entry.minutes, "minutes · open:", entry.open)
print("seen:  ", works.sources[entry.seen])

# %% [markdown]
# ## The naive way: newest first
#
# The field moves fast, so you begin with what is new. That is an order: sort by date, start at the top.

# %%
dated = [entry for entry in works.entries if entry.date]
newest_first = sorted(dated, key=lambda entry: -entry.date)
for entry in newest_first[:5]:
    print(f"{entry.label:22} needs {', '.join(works[name].label for name in entry.before) or 'nothing'}")

# %% [markdown]
# ## What goes wrong: you meet the roof before the walls
#
# Count the works that you would open before something that they build on.


# %%
def too_early(order):
    place = {entry.id: i for i, entry in enumerate(order)}
    return [entry.id for entry in order if any(place.get(name, -1) > place[entry.id] for name in entry.before)]


building = sum(bool(entry.before) for entry in dated)
print(f"newest first: {len(too_early(newest_first))} of the {building} works that build on others come too early")
assert len(too_early(newest_first)) > 0.8 * building

# %% [markdown]
# Then turn the list round, oldest first. Surely nothing is built on what does not exist yet?

# %%
oldest_first = newest_first[::-1]
print(f"oldest first: {len(too_early(oldest_first))} come too early:", ", ".join(too_early(oldest_first)))
assert 0 < len(too_early(oldest_first)) < len(too_early(newest_first))

# %% [markdown]
# Far better, and still not right. A date says when a work came out, not when *you* should read it: a textbook of 2023 is
# the best beginning for a paper of 2014, and guidance was used in print before its own note appeared.
#
# ## The library's way: a graph
#
# "Read before" is an arrow, and arrows make a graph. An order that respects every arrow is a *topological order*, and
# `networkx` finds one. Ask for what you want to understand; you get everything it rests on, first things first.

# %%
from chapter38.show.reading_views import builds_on, reading_order, reading_table, timeline

goal = "luo2023lcm"  # latent consistency models: the four steps of lesson 38.1g
path = works.path(goal)
assert too_early(path) == []
builds_on(works, goal)

# %% [markdown]
# ## Proof: six lines by hand agree
#
# No magic is in it. By hand: before you write a work down, write down what it needs.


# %%
def by_hand(name, done):
    for earlier in works[name].before:
        by_hand(earlier, done)
    if name not in done:
        done.append(name)
    return done


mine = by_hand(goal, [])
assert set(mine) == {entry.id for entry in path}
assert too_early([works[name] for name in mine]) == []
print(f"{len(mine)} works, both ways the same ones; in the same order: {mine == [entry.id for entry in path]}")

# %% [markdown]
# The same works, and both orders are right. There are many right orders: where no arrow decides, the library takes the
# older work first, and your six lines follow the list.
#
# ### Predict
#
# How long is the way to latent consistency models, if you read with care and have read the textbook already? Write the
# hours before you go on.

# %%
my_prediction = ...  # hours

# %%
from chapter38.check import guess

hours = sum(entry.minutes for entry in path if entry.kind != "book") / 60
guess(my_prediction, hours, "hours", "a few pages of a paper stand on a staircase of others, and every step is a careful reading.", 0.25)

# %%
reading_order(path, f"The way to {works[goal].label}")

# %% [markdown]
# The minutes are our estimates for *careful* readings, and nobody reads all of it with equal care. So use the list the
# other way round: go down from the goal until you meet what you know, and begin there.
#
# ## The map as a table
#
# All of it, to filter by chapter, kind, lesson, open access or any word. The filters are a few lines of script over the
# table itself: they work on the site without a kernel, and nothing is loaded from elsewhere.

# %%
reading_table(works.entries, "Every work of the map; choose, or type a word such as karras")

# %% [markdown]
# The same choice in code, where you can go on computing with it:

# %%
tonight = works.choose(lesson="38_4b", open=True, minutes=45)
print(len(tonight), "open works of at most 45 minutes for lesson 38.4b:", ", ".join(entry.label for entry in tonight))
assert tonight and all(entry.open and entry.minutes <= 45 for entry in tonight)

# %% [markdown]
# ## When it all appeared
#
# Papers and tools on one line of time, a lane for each chapter. What do you expect: do the tools run behind the papers by
# years?

# %%
timeline(works)

# %% [markdown]
# They do not. Most of the tools appeared in the very years in which the papers did. Count the months from a paper to the
# first public version of a tool that packages it.

# %%
packages = {"kdiffusion": "karras2022edm", "diffusers": "rombach2022", "comfyui": "rombach2022", "peft": "hu2022lora"}
months = {tool: 12 * (works[tool].date - works[paper].date) for tool, paper in packages.items()}
for tool, paper in packages.items():
    print(f"{works[tool].label:12} {months[tool]:3.0f} months after {works[paper].label}")
assert all(-1 < gap < 24 for gap in months.values())

# %% [markdown]
# Months, not years. That is why a chapter on tools exists, and why every statement about a tool needs a date.

# %% [markdown]
# ## The works of this chapter, and what you measure again
#
# Every work of the chapter's bibliography makes a claim that some lesson holds against postcards.

# %%
bibliography = [entry for entry in works.entries if entry.bibliography]
show.table(
    [{"work": entry.label, "measured again as": entry.measures, "in": ", ".join(entry.lessons)} for entry in bibliography],
    f"{len(bibliography)} works, each with its measurement.",
)

# %%
builds_on(works, *(entry.id for entry in bibliography), title="The works of the bibliography")

# %% [markdown]
# ## Two textbooks, chapter by chapter
#
# If you prefer one voice to fifty, take a book. These are the chapters of Prince (2023) and Murphy (2023), what each gives
# you here, and for which lesson.

# %%
for book, chapters in works.books.items():
    rows = [{"ch.": c.chapter, "title": c.title, "gives you": c.gives, "lessons": ", ".join(c.lessons)} for c in chapters]
    serving = sum(bool(c.lessons) for c in chapters)
    display(show.table(rows, f"{works[book].title}: {serving} of {len(rows)} chapters serve a lesson."))

# %% [markdown]
# ## For your own model
#
# You work with a certain model and want to know what to read before you take it apart. Put its name here.

# %%
model = "sd15"  # or one of the names printed below
print("models with a list:", ", ".join(works.models))
reading_order(works.for_model(model), f"Before you take {model} apart")

# %% [markdown]
# ## A misconception: the original is the place to learn it
#
# "I want to understand flow matching, so I read *Flow Matching*." It sounds right: who knows it better than those who
# found it? But a paper is written for its reviewers, who knew all that came before. Compare the way to the paper with the
# way to a set of course notes on the same subject.

# %%
ways = {name: works.path(name) for name in ("lipman2023fm", "holderrieth2025")}
length = {name: sum(entry.minutes for entry in way if entry.kind != "book") / 60 for name, way in ways.items()}
for name, way in ways.items():
    print(f"{works[name].label:18} {len(way):2} works, {length[name]:4.1f} hours  ({works[name].kind})")
assert length["holderrieth2025"] < length["lipman2023fm"]

# %% [markdown]
# The notes are long, and the way to them is short. Learn from the text that was written to teach; then read the original
# for what no text keeps: what was tried, what failed, and what the authors did not claim.
#
# ## Take it with you
#
# The same entries as BibTeX (for LaTeX) and CSL-JSON (for Zotero, Pandoc, word processors). The cell writes two files
# beside the notebook.

# %%
import json
from pathlib import Path

from chapter38.show.reading_map import bibtex, csl

Path("reading-map.bib").write_text(bibtex(works.entries), encoding="utf-8")
Path("reading-map.csl.json").write_text(json.dumps(csl(works.entries), ensure_ascii=False, indent=1), encoding="utf-8")
print(bibtex([works["zhang2023controlnet"]]))
assert Path("reading-map.bib").read_text(encoding="utf-8").count("\n@") == len(works.entries) - 1

# %% [markdown]
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | to another field | the method: entries, arrows, a topological order, honest minutes | the entries |
# | to SDXL, SD 3.5, FLUX | the foundations: scores, autoencoders, attention, guidance | the details; newer models come with reports that leave out data and training |
# | to next year | identifiers, citations, and what builds on what | every sentence about a tool; look at its release notes first |
# | to your own reading | the order | the minutes: time three papers and scale ours by what you find |
#
# **On real models** (GPU, date, revision): no cell here draws, so there is nothing to run on one. The lists for SD 1.5,
# SDXL, SD 3.5 and FLUX are lists of papers; their identifiers were looked up on 2026-11-24.

# %% [markdown]
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# Books aside: which work do most others name directly in `before`? And on which do most rest directly *or through others*?
# Guess both ids from the table first, then compute them (`works.graph()` is a `networkx` graph).

# %%
from chapter38.check.lesson_4a import check_foundation, check_order, check_weekend

named_most, rested_on_most = ..., ...

check_foundation(named_most, rested_on_most)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import networkx as nx
#
# graph = works.graph()
# papers = [entry.id for entry in works.entries if entry.kind != "book"]
# named_most = max(papers, key=graph.out_degree)
# rested_on_most = max(papers, key=lambda name: len(nx.descendants(graph, name)))
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# You have a weekend: eight hours. You want to be able to argue about LoRA (`hu2022lora`) *and* about the Fréchet distance
# (`heusel2017`), and you have read Prince. Write the ids in the order in which you will read them. Anything else that
# fits is welcome.

# %%
weekend = ...  # a list of ids

check_weekend(weekend)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# weekend = [entry.id for entry in works.path("hu2022lora", "heusel2017") if entry.kind != "book"]
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Write `my_order(before)`: from a dict that maps each id to the ids to be read first, a list of all ids in which nothing
# comes before what it needs. No `networkx`. A list that nobody can order, because it runs in a circle, must raise
# `ValueError`, not hang.

# %%
my_order = ...  # def my_order(before): ...

check_order(my_order)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_order(before):
#     done = []
#     waiting = dict(before)
#     while waiting:
#         ready = [name for name, needs in waiting.items() if set(needs) <= set(done)]
#         if not ready:
#             raise ValueError(f"these wait for each other: {sorted(waiting)}")
#         done += ready
#         for name in ready:
#             del waiting[name]
#     return done
# ```
#
# </details>

# %% [markdown]
# ## Three lines to remember
#
# 1. Neither newest first nor oldest first is an order to read in; what builds on what is.
# 2. Go down from your goal until you meet what you know, and begin there.
# 3. Learn from a text that teaches, then read the original for what the text leaves out.
#
# ## Where next
#
# - [38.1b](38_1b_scheduler_swaps.ipynb): the works on samplers, as measurements. Lesson 38.4b does the same for evaluation.
# - The words of this lesson: [score](../book/glossary.md#score), [latents](../book/glossary.md#latents),
#   [consistency model](../book/glossary.md#consistency-model), [flow matching](../book/glossary.md#flow-matching).
#
# <details><summary>For instructors</summary>
#
# **Time:** 20 minutes, 35 with exercises. **Say first:** show the graph of one paper and ask who has read any box.
# **Where it sticks:** that several orders are right; that minutes are estimates. **To discuss:** what is missing from the
# map, and whose work? The list is English, recent and built around open weights; let groups add five entries each to
# `book/reading-map.yml`, with looked-up identifiers. **To grade:** exercises 2 and 3; both checks return an object that is
# true when the answer is right.
#
# </details>
