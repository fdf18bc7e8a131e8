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
# # 38.2b · A picture that is its own workflow
#
# **Routes:** ★ core · 90 minutes · everything. **Section:** 38.2, the Canvas rung.
#
# A recipe says what to draw; a ComfyUI workflow says how to wire it. In this lesson you turn one into the other and back,
# put the workflow into the picture itself, read pictures that other programs made, and compare two graphs by what they
# mean.
#
# ## What you will be able to do
#
# - export a recipe as a [workflow](../book/glossary.md#workflow) in both spellings, and say who reads which;
# - make a PNG that opens in ComfyUI as the workflow that drew it, and say what such a file gives away;
# - read the recipe out of a picture that somebody else made, with a list of what did not fit;
# - tell whether two workflows differ in meaning or only in spelling.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. The denoiser never sees your prompt as text. What does it see?
# 2. Two programs use the same sampler with the same number of steps, and draw different pictures. What else could differ?
#
# <details><summary>Answers</summary>
#
# 1. Vectors, one for each place of the text encoder's context: in ComfyUI a link of type `CONDITIONING`. See
#    [Embeddings and tokens](../book/refresher.md#embeddings-and-tokens).
# 2. The noise levels at which the steps are taken, and the noise at the start. See
#    [Samplers and ODEs](../book/refresher.md#samplers-and-odes).
#
# </details>
#
# If either surprised you, read those two sections of the [refresher](../book/refresher.md) first.
#
# ## What it costs
#
# | | postcards, laptop CPU | Stable Diffusion 1.5, GPU with 8 GB |
# |---|---|---|
# | switch | none | `show.profile("sd15")` in the second cell |
# | time | under a minute on two cores | not yet run |
# | memory | about 1 GB | not yet run |
# | download | none | about 2.8 GB (half precision) |
#
# No ComfyUI is needed. If one runs somewhere, put its address (such as `http://127.0.0.1:8188`) into the environment
# variable `CHAPTER38_COMFYUI_URL`, and the lesson talks to it too.

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
import os

from chapter38 import Recipe, draw, show

here = show.profile("postcards")  # on a GPU: "sd15"
address = os.environ.get("CHAPTER38_COMFYUI_URL")
recipe = Recipe(prompt="a small red sailboat on the left, on the sea, at sunset", seed=38, model=here.model)
print(here)
print(f"ComfyUI at {address}" if address else "no ComfyUI in CHAPTER38_COMFYUI_URL: a recorded one answers below")

# %% [markdown]
# ## The naive way: write the file yourself
#
# A workflow is JSON, and JSON is easy to write. The heart of a text-to-image workflow is one
# [node](../book/glossary.md#node), the `KSampler`. The editor keeps a node's settings as a bare list, `widgets_values`.
# You know the settings and their order from the node's face, so you write them down.

# %%
meant = {"seed": 38, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
by_hand = {"id": 5, "type": "KSampler", "widgets_values": list(meant.values())}
print(by_hand)

# %% [markdown]
# ## What goes wrong: the settings slip by one
#
# A list has no names, so the reader supplies them. The editor supplies one that you did not think of: behind a seed
# stands a little switch that says what becomes of the seed after each run. The server has never heard of it. Lay the
# editor's names over your values.

# %%
from chapter38.canvas.nodes import kind

names = kind("KSampler").widgets
rows = [{"the editor's name": n, "reads": v, "you meant": meant.get(n, "(nothing: only the editor has it)")}
        for n, v in zip(names, by_hand["widgets_values"])]  # fmt: skip
show.table(rows, "One value left out, and every later one arrives under another name.")

# %%
read_as = dict(zip(names, by_hand["widgets_values"]))
assert read_as["seed"] == meant["seed"]
assert read_as["steps"] == 4.0 and read_as["cfg"] == "euler"

# %% [markdown]
# Four steps instead of twenty, and a word for a guidance scale. The loud part is harmless: a word where a number belongs is
# noticed. The quiet part is not: four is a fine number of steps, and a reader of your file who sees only the blurred
# picture will blame the model.
#
# ## The library's way: a graph with two spellings
#
# `export` turns the recipe into a `Graph`: nodes with *named* settings, and typed [links](../book/glossary.md#link). Only
# when it is written down does it get a spelling. It knows the nodes from a real server's own description of them.

# %%
from chapter38.canvas import Graph, export, read

graph = export(recipe)
show.graph(graph)

# %% [markdown]
# Read it from left to right (it scrolls). One loader gives three things: the model, the text encoder and the VAE. Two texts
# become conditioning. Empty latents say how large the picture is. The sampler has all of it, and the decoder makes pixels.
#
# Now both spellings of the sampler. [API JSON](../book/glossary.md#api-json) is what a server executes: names and values,
# and a link is a pair of node and output. [UI JSON](../book/glossary.md#ui-json) is what the editor saves: places on the
# canvas, slots, and the bare list.

# %%
sampler = next(node for node in graph.nodes if node.type.startswith(("KSampler", "SamplerCustom")))
api, ui = graph.api(), graph.ui()
print("API:", api[str(sampler.id)]["inputs"])
print("UI: ", next(node for node in ui["nodes"] if node["id"] == sampler.id)["widgets_values"])

# %% [markdown]
# There it is, behind the seed: `fixed`, so that drawing again draws the same. (The other choices are `randomize`,
# `increment` and `decrement`.)
#
# | | API JSON | UI JSON |
# |---|---|---|
# | who reads it | the server, `POST /prompt` | the editor, by drag and drop |
# | settings | by name | a list, by place |
# | links | `["1", 0]` where they go in | a table of their own |
# | positions, groups, colours | none | all |
# | muted and bypassed nodes, notes | resolved, gone | kept |
#
# Two spellings of one thing: each reads back as the same graph, and the graph reads back as the same recipe.

# %%
back, misfits = read(graph)
assert Graph.from_api(api) == graph == Graph.from_ui(ui)
assert back == recipe and misfits == []
print("recipe -> graph -> two spellings -> graph -> recipe: equal")

# %% [markdown]
# How can `sampler=ddim` come back, when the node says `euler`? ComfyUI has another name for what this recipe does: without
# added noise, DDIM *is* Euler's method in another variable, and `simple` takes the noise levels that Diffusers calls
# `trailing`. So that nothing is lost, the node's title keeps our names, and they are believed only as long as they fit the
# settings.

# %%
print(f"title: {sampler.title}")
turned, _ = read(graph.set(sampler.id, scheduler="karras"))
print(f"after somebody turns the scheduler to karras: {turned.sampler} with {turned.spacing}")
assert turned.spacing == "karras" and (here.name == "real" or turned.sampler == "euler")

# %% [markdown]
# ### Predict
#
# Next you draw the recipe twice: with the loop of the Code rung, and by running the graph node by node, without ComfyUI.
# Each picture is a table of 128 × 128 × 3 = 49,152 numbers from 0 to 255. How many of them differ?

# %%
my_prediction = ...  # a number from 0 to 49152

# %%
import numpy as np

from chapter38.canvas import run
from chapter38.check import guess

by_code, by_graph = draw(recipe), run(graph)
differing = int((np.asarray(by_code.image) != np.asarray(by_graph.image)).sum())
guess(my_prediction, differing, "numbers", "the nodes call the same parts in the same order.")

# %% [markdown]
# ## Proof: they agree

# %%
from chapter38.measure.pixels import largest_difference

show.pictures(
    [by_code.image, by_graph.image],
    ["the loop (Code)", "the graph, node by node"],
    alt="Two equal postcards of a small red sailboat on the sea at sunset: left from the Code rung's loop, right from the "
    "exported workflow, run without ComfyUI.",
    caption="The workflow is the recipe: run it, and the same picture comes out.",
    side=192,
)

# %%
difference = largest_difference(by_code.image, by_graph.image)
print(f"largest difference: {difference}/255, allowed: {here.tolerance}/255")
assert difference <= here.tolerance

# %% [markdown]
# The runner even keeps what it made, as ComfyUI does. Run the graph again with another word in the negative prompt, and
# only what hangs on that word runs.

# %%
ran = []
negative = next(node for node in graph.nodes if node.title == "Negative prompt")
run(graph.set(negative.id, text="night"), progress=ran.append)
for node in sorted(ran, key=lambda node: int(node.node)):
    print("kept   " if node.cached else "ran    ", node.title)
assert {node.title for node in ran if node.cached} >= {"Load Checkpoint", "Positive prompt", "Empty Latent Image"}

# %% [markdown]
# ## A real ComfyUI answers
#
# Our runner agrees with our loop. But does a *real* server do as it is told? Queueing is one POST, and then the server
# talks over a websocket: which node it is in, which step, what the picture looks like so far. If you gave an address,
# this cell talks to that server and holds its picture against yours.

# %%
from chapter38.canvas.client import Server

if address:
    theirs = Server(address).run(graph, recipe=recipe)
    off = largest_difference(by_code.image, theirs.image)
    print(f"ComfyUI {theirs.receipt.lock.versions['comfyui']}: largest difference {off}/255")
    assert off <= max(1, here.tolerance)
else:
    print("no address given: nothing was queued")

# %% [markdown]
# One 255th is allowed because ComfyUI cuts the fraction off where Diffusers rounds. (For postcards the server needs the
# pack that `chapter38 comfyui install` copies.) `make test-comfyui` holds the samplers, spacings and adapters of this course
# to the same limit.
#
# Without a server you can still hear one. The package holds conversations with a real ComfyUI, recorded message by message.
# The client below is the same; only the other end of the line plays from a file. The recorded picture is small, in four
# steps.

# %%
from chapter38.canvas.recorded import Recorded

small = Recipe(prompt="a red boat", seed=1, steps=4, width=64, height=64)
server, events = Recorded("drawn"), []
theirs = server.run(export(small), watch=events.append)
print("ComfyUI", server.comfyui)
for event in events:
    if event.kind != "preview":
        print(f"{event.kind:9} {event.node}", f"{event.done}/{event.of}" if event.of else "")

# %%
previews = [event.preview for event in events if event.kind == "preview"]
show.pictures(
    [*previews, theirs.image],
    [*(f"preview {i}" for i in range(1, len(previews) + 1)), "the picture"],
    alt="Four blurred previews in false colours, and the finished picture of a red boat, as a real ComfyUI sent them.",
    caption="A real server's previews while it draws, and what it saved.",
    columns=5,
    side=120,
)

# %% [markdown]
# The shapes come early, and the colours of the previews are wrong: such a preview runs no decoder. It takes the four channels
# of the latents for colours by a fixed rule made for Stable Diffusion's VAE, and postcards have another.
#
# The picture that came back carries a workflow of its own. Is it the one that you queued? Do not compare the JSON by eye;
# ask for the difference in meaning.

# %%
from chapter38.canvas.compare import differences

recorded, _ = read(Graph.from_json(theirs.chunks["prompt"]))
for field, mine, its in differences(small, recorded):
    print(f"{field}: you asked for {mine}, the picture was drawn with {its}")
assert [field for field, _, _ in differences(small, recorded)] == ["seed"]

# %% [markdown]
# Caught: the recording was made with another seed, and a file cannot draw yours. Everything else is as you asked. This is
# what the workflow inside is good for: the picture can be held to account.
#
# A server also refuses. Recorded, too: a checkpoint that it has not got, and no steps at all.

# %%
from chapter38.errors import CannotExpress, GraphError

try:
    Recorded("refused").run(export(small))
except GraphError as error:
    print(str(error).replace("; node", "\nnode"))

# %% [markdown]
# ## The PNG that opens as its own workflow
#
# A PNG has room for text beside its pixels. ComfyUI writes both spellings there, `prompt` for the server's and `workflow`
# for the editor's; and when you drop the file on its canvas, the graph is back. `chapter38.draw` attaches the same two,
# and its own recipe with a [lock](../book/glossary.md#lock).

# %%
from chapter38.canvas.metadata import inspect, strip

by_code.save("sailboat.png")
said = inspect("sailboat.png")
print("texts beside the pixels:", ", ".join(said.texts))
assert said.recipe == recipe and Graph.parse(said.workflow) == graph

# %% [markdown]
# `inspect` found the recipe and the graph without looking at a pixel. What else does the file give away? Ask before you
# publish.

# %%
print("reveals:", *said.reveals, sep="\n  ")
dropped = strip("sailboat.png", "sailboat-bare.png")
bare = inspect("sailboat-bare.png")
print("stripped:", ", ".join(dropped), "· reveals now:", bare.reveals or "nothing")
assert bare.reveals == [] and bare.recipe is None

# %% [markdown]
# ## Reading pictures that others made
#
# Three programs, three dialects. You make one file of each on the spot: the text is what the program would write, the
# pixels do not matter.

# %%
from PIL import Image, PngImagePlugin


def foreign(name, **texts):
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(name, pnginfo=info)


parameters = """a harbour, (masts:1.2) <lora:oil-paint:0.7>
Negative prompt: fog
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 123, Size: 512x768, \
ControlNet 0: "Module: canny, Model: control_canny [d14c016b], Weight: 1", Model: harbours, Version: v1.10.1"""
foreign("a1111.png", parameters=parameters)

# %% [markdown]
# Look at that text again: a prompt with a LoRA spelled inside, and one line of fields. `Model:` stands in it twice. Which
# one is the model? A reader that searches for the word takes the ControlNet's.

# %%
import json
import re

print("searching for the word:", re.search(r"Model: ([^,]*)", parameters)[1])
found = inspect("a1111.png")
print("reading the format:    ", found.recipe.model)
assert found.recipe.model == "harbours" and found.recipe.adapters[0].name == "oil-paint"

# %% [markdown]
# The second file has ComfyUI's `prompt` alone, as a script that posts to the server leaves it; the third has `workflow`
# alone. Either is enough.

# %%
theirs = export(Recipe(prompt="a lighthouse", negative="fog", seed=9, sampler="euler", spacing="karras", steps=30))
foreign("comfyui-prompt.png", prompt=json.dumps(theirs.api()))
foreign("comfyui-workflow.png", workflow=json.dumps(theirs.ui()))
files = ("sailboat.png", "a1111.png", "comfyui-prompt.png", "comfyui-workflow.png", "sailboat-bare.png")
rows = []
for said in map(inspect, files):
    r = said.recipe
    drawn = (r.seed, r.steps, f"{r.sampler}/{r.spacing}") if r else "???"
    drawn = dict(zip(("seed", "steps", "sampler"), drawn, strict=True))
    rows.append({"file": said.file, "prompt": said.prompt or "?", **drawn, "warnings": len(said.warnings)})
show.table(rows, "Four dialects, one recipe each; the stripped file says nothing.")

# %%
for warning in found.warnings:
    print("a1111.png:", warning)
assert inspect("comfyui-prompt.png").recipe == inspect("comfyui-workflow.png").recipe
assert any("ControlNet" in warning for warning in found.warnings)

# %% [markdown]
# Read the warnings. The recipe of another program draws a *similar* picture, not the same one; and what had no place in a
# recipe is named instead of dropped.
#
# ## Comparing in meaning
#
# A colleague opens your workflow, moves nodes about, saves, and sends it back. What changed? Ask the text first, then the
# meaning.

# %%
moved = graph.set(sampler.id, seed=39).ui()
for node in moved["nodes"]:
    node["pos"] = [node["pos"][0] + 70, node["pos"][1] - 30]
lines = [json.dumps(spelled, indent=1).splitlines() for spelled in (ui, moved)]
print("lines of JSON that differ:", sum(a != b for a, b in zip(*lines)))
for field, mine, its in differences(recipe, read(Graph.from_ui(moved))[0]):
    print(f"differences in meaning:    {field}, {mine} against {its}")

# %%
assert differences(recipe, read(Graph.from_ui(moved))[0]) == [("seed", 38, 39)]

# %% [markdown]
# On the command line: `chapter38 diff mine.png theirs.json`, for pictures, recipes and workflows in any mixture.
#
# ## What does not fit
#
# Two spellings of one thing, but the languages are not of equal size. Outward: what ComfyUI has no equal for is refused
# *before* anything runs, with the field and the reason.

# %%
for change in ({"steps": 30}, {"sampler": "lms"}, {"prompt": "embedding:bad-hands"}, {"shift": 3.0}):
    try:
        export(recipe.but(**change))
    except CannotExpress as error:
        print(f"{error.field:8} {error.why}")

# %% [markdown]
# The first is worth a second look: 30 is not a strange number of steps. But Diffusers' DDIM with trailing spacing takes
# equal strides through the 1,000 timesteps of training, and 30 does not divide 1,000; it leaves its own list, and no
# ComfyUI scheduler follows it there. A nearby picture would have been easy to draw. A refusal is better than a nearby
# picture that claims to be the same.
#
# Inward: a workflow can say what no recipe has a word for. `read` gives you the recipe, and what is missing from it, with
# the node it stands in.

# %%
lora = export(recipe.but(model="postcards", adapters=["oil-paint"]))
loader = next(node for node in lora.nodes if node.type == "LoraLoader")
near, misfits = read(lora.set(loader.id, strength_clip=0.5))
print(near.adapters, *misfits, sep="\n")
assert len(misfits) == 1 and "text encoder" in misfits[0]

# %% [markdown]
# ## A misconception: the workflow is inside, so the picture can be made again
#
# It is the promise of every picture with a workflow in it, and it breaks twice. First, the text is beside the pixels, and
# whatever touches the file may drop it: a messenger, a web shop, a screenshot, one careless line.

# %%
Image.open("sailboat.png").save("forwarded.jpg", quality=95)
print("after one careless save:", inspect("forwarded.jpg").recipe)
assert inspect("forwarded.jpg").recipe is None

# %% [markdown]
# Second, the workflow names its model, and a name is not a model. Whoever has another file under that name draws another
# picture, and nothing in the workflow can tell. What can tell is the lock, which holds the SHA-256 of every weight file.

# %%
named = [value for node in api.values() for name, value in node["inputs"].items() if name == "ckpt_name"]
lock = inspect("sailboat.png").lock
print("the workflow says:", *named)
print("the lock says:    ", ", ".join(sorted(lock.weights)), "each with its SHA-256")
assert len(lock.weights) >= 3

# %% [markdown]
# So keep the original file, and keep the lock. A workflow is reproducible when its *inputs* are pinned too.
#
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | SD 1.5, SDXL | the same nodes; both spellings; the file inside the picture | half precision on a GPU: two engines differ by a few 255ths |
# | SD 3.5, FLUX, Qwen-Image, Z-Image | export and reading, each wired as its public workflows are | DDIM and Karras; they take flow-matching samplers and a shift |
# | foreign workflows | whatever leads from a loader to a sampler to a saved picture | custom nodes: named as unknown, kept, written back unchanged |
# | foreign pictures | prompt, seed, settings | the same pixels: other programs make noise and weigh words otherwise |
#
# **On real models** (GPU, date, revision): exporting SD 1.5, queueing it on a ComfyUI and comparing: *not yet run*.

# %% [markdown]
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# The same slip in another node. A script writes a `KSamplerAdvanced` with the values below, in the order of the node's
# inputs. Under the name `steps`, `cfg` and `start_at_step`, what does the editor read? Answer before you compute.

# %%
from chapter38.check.lesson_2b import NAIVE, check_edit, check_same, check_shifted

print(list(NAIVE.items()))
shifted = {"steps": ..., "cfg": ..., "start_at_step": ...}

check_shifted(shifted)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# shifted = {"steps": 7.0, "cfg": "euler", "start_at_step": 10_000}  # each gets the value of the place behind it
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# Change the *workflow*, not the recipe: the sailboat with seed 39 in 40 steps, and nothing else changed in meaning. (Why 40
# and not 30?)

# %%
edited = ...  # a Graph

check_edit(graph, edited)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# sampler = next(node for node in graph.nodes if node.type == "KSampler")
# edited = graph.set(sampler.id, seed=39, steps=40)
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Write `my_same(a, b)`: do two graphs in API JSON (dicts, as `graph.api()` gives them) save the same picture? Ids, order
# and titles do not count. Values and links do. A node that feeds nothing that is saved does not. Pictures are saved by
# nodes of class `SaveImage`; a link is a list, `["1", 0]`.

# %%
my_same = ...  # def my_same(a, b): ...

check_same(my_same)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def says(api, id):  # what a node makes, told without any node's name: each link is replaced by what stands behind it
#     node = api[id]
#     told = {name: [says(api, v[0]), v[1]] if isinstance(v, list) else v for name, v in node["inputs"].items()}
#     return [node["class_type"], told]
#
#
# def my_same(a, b):
#     saved = lambda api: sorted(json.dumps(says(api, id), sort_keys=True) for id in api if api[id]["class_type"] == "SaveImage")
#     return saved(a) == saved(b)
# ```
#
# </details>

# %% [markdown]
# ## Three lines to remember
#
# 1. A recipe and a workflow are two spellings of one thing; what does not fit is said, never dropped.
# 2. The editor reads a list by place, the server a dict by name; behind every seed the editor has one place more.
# 3. The workflow in a picture names its model; only a lock says which file that was.
#
# ## Where next
#
# - [38.3b](38_3b_cost_math.ipynb): what the rung above costs. [38.1b](38_1b_scheduler_swaps.ipynb): why `simple` and
#   `trailing` are one list, and 30 steps are another story.
# - The words of this lesson: [workflow](../book/glossary.md#workflow), [API JSON](../book/glossary.md#api-json),
#   [UI JSON](../book/glossary.md#ui-json), [node](../book/glossary.md#node), [link](../book/glossary.md#link),
#   [lock](../book/glossary.md#lock), [spacing](../book/glossary.md#spacing).
#
# <details><summary>For instructors</summary>
#
# **Time:** 25 minutes, 45 with exercises. **Say first:** drop `sailboat.png` on a ComfyUI canvas in front of the class.
# **Where it sticks:** that two spellings are one graph; that `euler` in the node is `ddim` in the recipe. **To discuss:**
# when is a workflow inside a published picture a service to others, and when a leak? **To grade:** exercises 2 and 3;
# both checks return an object that is true when the answer is right.
#
# </details>
