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
# # 38.1f · Steering with a hint map
#
# **Routes:** ★ core · everything. **Section:** 38.1, the Code rung.
#
# Words say what is in a picture; they do not say where its lines run. In this lesson a drawing of the lines takes over,
# through a second network that changes nothing at all until it has learned something. Then you compose it with what you
# already have.
#
# ## What you will be able to do
#
# - say why a fresh [ControlNet](../book/glossary.md#controlnet) changes no bit of a picture, and why it learns
#   nevertheless;
# - steer a picture by a map of edges, choose strength, start and end, and measure how well the map is followed;
# - compose a ControlNet with a LoRA, with a second map, and with a picture to start from;
# - say at which of its cables each of these joins a model, and why that makes a composition a graph.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. A layer computes $y = wx + b$, and $w$ and $b$ are both zero. Which of $\partial y/\partial w$,
#    $\partial y/\partial x$ and $\partial y/\partial b$ are zero too?
# 2. What do the bridges of a U-Net carry, and from where to where?
#
# <details><summary>Answers</summary>
#
# 1. Only $\partial y/\partial x = w$. The other two are $x$ and 1. Keep this in mind; the whole lesson stands on it. See
#    [Convolution](../book/refresher.md#convolution).
# 2. The features of each level of the way down, straight across to the same level of the way up. See
#    [U-Net](../book/refresher.md#u-net).
#
# </details>
#
# If either surprised you, read those two sections of the [refresher](../book/refresher.md) first. You also need the loop
# of [38.1a](38_1a_pipeline_to_parts.ipynb).
#
# ## What it costs
#
# | | postcards, laptop CPU | Stable Diffusion 1.5, GPU with 16 GB |
# |---|---|---|
# | switch | none | `show.profile("sd15")` in the second cell |
# | time | about a minute on two cores | not yet run |
# | memory | about 1 GB | not yet run |
# | download | none | about 2.8 GB (half precision), and a Canny ControlNet of 0.7 to 1.5 GB |

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
import numpy as np
import torch
from PIL import Image

from chapter38 import Recipe, show
from chapter38.code import draw_many

here = show.profile("postcards")  # on a GPU: "sd15"
parts = here.load()
EDGES = "edges" if here.name != "real" else "lllyasviel/control_v11p_sd15_canny"
STYLE = "dusk" if here.name != "real" else ""  # on sd15: a file or Hub id of a LoRA that was made for it
print(here)

# %% [markdown]
# ## The naive way: keep the seed, change the words
#
# You have a postcard that you like, and you want it three times more: the same house, the same ridge, the same empty
# third on the left, in other worlds. A seed is said to fix the picture. So you keep the seed and change the words.

# %%
from chapter38.measure.pixels import edges
from chapter38.postcards import Scene

yours = Scene("house", "red", sky="day", ground="grass", place="right", background="mountains", seed=4).picture()
hint = edges(yours)
worlds = ("a yellow house at night, in the snow", "a blue house at sunset, in the desert", "a pink house by day, on the sea")
recipe = Recipe(prompt=worlds[0], seed=3, steps=10, model=here.model)


def draw_all(recipes):
    return [picture.image for picture in draw_many(recipes, parts=parts)]


words_only = draw_all([recipe.but(prompt=prompt) for prompt in worlds])

# %% [markdown]
# ## What goes wrong: words and seed do not hold a layout

# %%
show.pictures(
    [yours, *words_only],
    ["yours", "night, snow", "sunset, desert", "day, sea"],
    alt="Four postcards. First yours: a red house on the right before a ridge of mountains. Then three houses drawn from "
    "words with one seed; their places, sizes and horizons differ from yours and from each other.",
    caption="One seed, three prompts: the worlds are as asked for, the layout is anybody's.",
    columns=4,
    side=160,
)

# %% [markdown]
# How far off is that? Take the lines of your picture: white where its lightness changes quickly, black elsewhere. Such a
# picture is a [hint map](../book/glossary.md#hint-map). Then take the lines of each drawing, and count. *Precision*: the
# share of its lines that lie on one of yours, within two pixels. *Recall*: the share of yours that it has. F1 is their
# harmonic mean, 1 for a perfect trace.

# %%
from chapter38.measure.pixels import edge_agreement


def agrees(image, hint):
    return edge_agreement(image, hint.resize(image.size, 0))  # a larger picture: the map is enlarged without blurring


# %%
by_words = [agrees(image, hint) for image in words_only]
show.pictures(
    [hint, *(edges(image) for image in words_only)],
    ["your lines", *(f"F1 {score:.2f}" for score in by_words)],
    alt="Four maps of white lines on black: of your picture, and of the three drawings, whose lines run elsewhere.",
    caption="The same four pictures as maps of their edges, with the agreement of each with yours.",
    columns=4,
    side=160,
)

# %%
print(f"agreement of words and seed with your lines: {np.mean(by_words):.2f} of 1")
assert np.mean(by_words) < 0.7

# %% [markdown]
# A seed fixes the noise that the loop starts from, and nothing else. What the denoiser makes of the noise, it decides by
# the words; other words, other layout. You could describe the ridge in more words. There are none for it, in this world or
# in any other.
#
# ## The library's way: a second network that reads the map
#
# ControlNet (Zhang et al. 2023, [arXiv:2302.05543](https://arxiv.org/abs/2302.05543)) leaves the denoiser as it is,
# copies its way down, lets the copy see the map too, and adds what the copy finds to the bridges of the original. Build a
# fresh one and look at its parts.

# %%
from chapter38.code import control

parts.denoiser.requires_grad_(False)  # the base is locked
fresh = control.fresh(parts.denoiser)
millions = lambda module: sum(p.numel() for p in module.parameters()) / 1e6  # noqa: E731
print(f"U-Net {millions(parts.denoiser):.1f} M weights, ControlNet {millions(fresh):.1f} M")

# %%
rows = [
    {"part": name, "weights": f"{millions(module):.2f} M", "all zero": "yes" if not any(p.any() for p in module.parameters()) else ""}
    for name, module in (
        ("the copy of the way down", torch.nn.ModuleList([fresh.conv_in, fresh.time_embedding, fresh.down_blocks, fresh.mid_block])),
        ("hint block: the map at full size to the latents' size", fresh.controlnet_cond_embedding),
        ("its last convolution", fresh.controlnet_cond_embedding.conv_out),
        (f"{len(fresh.controlnet_down_blocks)} joints to the bridges", fresh.controlnet_down_blocks),
        ("1 joint to the middle", fresh.controlnet_mid_block),
    )
]  # fmt: skip
show.table(rows, "A copy, a small block that reads the map, and joints; joints and the block's last layer are zero.")

# %% [markdown]
# The joints are [zero convolutions](../book/glossary.md#zero-convolution): 1×1, weights and bias all zero. One more zero
# layer stands behind the hint block. So the copy does not see the map yet, and what it says does not arrive.
#
# This is the paper's first claim, and it is a strong one: a fresh ControlNet does not *nearly* leave the picture alone.
# Put it into the loop, with your map, at full strength.

# %%
from chapter38.measure.pixels import largest_difference
from chapter38.recipe import Control

parts.controls["fresh"] = fresh.eval()
by_fresh = draw_all([recipe.but(control=[Control(kind="fresh", image=hint)])])[0]
base = draw_all([recipe])[0]
print(f"fresh ControlNet against none: largest difference {largest_difference(by_fresh, base)}/255")
assert largest_difference(by_fresh, base) == 0

# %% [markdown]
# Not one value differs: something plus zero is something, in any precision.
#
# ### But can a layer of zeros learn?
#
# A layer of zeros that gives zeros; surely its gradient is zero as well, and it stays so for ever? You answered this in
# the first question above. The gradient of $w$ is $x$ times what comes back from the loss. The copy says plenty, so $x$ is
# not zero; the loss is the base's own, so what comes back is not zero either. What *is* cut off is everything behind:
# $\partial y/\partial x = w = 0$.
#
# Measure it. Eight pictures, their maps, the loss of [38.1e](38_1e_lora.ipynb), one step of training after the other; before
# each step, the size of the gradient in four places.

# %%
from chapter38.code.tuning import denoising_loss, encode
from chapter38.postcards import judging_scenes

scenes = judging_scenes(seed=386, count=8)
shown = [scene.picture().resize((recipe.width, recipe.height)) for scene in scenes]
examples = encode(parts, shown, [scene.caption() for scene in scenes])
maps = torch.stack([torch.from_numpy(np.asarray(edges(picture)) / 255).float().expand(3, -1, -1) for picture in shown])
maps = maps.to(parts.device, parts.dtype)


def speak(noised, t, words):
    down, middle = fresh(noised, t, words, maps, return_dict=False)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


# %%
hints = fresh.controlnet_cond_embedding
places = {
    "joints": [fresh.controlnet_down_blocks, fresh.controlnet_mid_block],
    "copy": [fresh.conv_in, fresh.down_blocks, fresh.mid_block],
    "hint block, last layer": [hints.conv_out],
    "hint block, the rest": [hints.conv_in, hints.blocks],
}


def gradient(modules):
    return sum(float(p.grad.float().norm()) ** 2 for m in modules for p in m.parameters() if p.grad is not None) ** 0.5


# %% tags=["nbval-ignore-output"]
optimizer = torch.optim.AdamW(fresh.requires_grad_(True).parameters(), 1e-3, weight_decay=0)
measured = []
for step in range(3):
    random = torch.Generator().manual_seed(step)
    optimizer.zero_grad()
    loss = denoising_loss(parts.denoiser, parts.scheduler, examples.latents, examples.words[:, 0], random, 1.0, speak)
    loss.backward()
    measured.append({place: gradient(modules) for place, modules in places.items()})
    optimizer.step()
rows = [
    {"size of the gradient in": place, **{f"step {i + 1}": f"{m[place]:.2g}" for i, m in enumerate(measured)}} for place in places
]
show.table(rows, "The joints learn first; a step later the copy, and the layer that lets the map in; then the rest.")

# %%
first, second, third = ([m[place] > 0 for place in places] for m in measured)
assert first == [True, False, False, False]
assert second == [True, True, True, False]
assert third == [True, True, True, True]

# %% [markdown]
# So a zero layer is a door that opens from the outside. In the first step the joints alone have a gradient. Once they are
# not zero, it flows through them into the copy and to the second door, behind the hint block; and a step later to the rest.
# No layer starts with random numbers that the base would have to suffer first.
#
# And the base? It was locked. A ControlNet is a second file beside the first, and taking it out gives the base back:

# %% tags=["nbval-ignore-output"]
fresh.requires_grad_(False).eval()
trained_three = draw_all([recipe.but(control=[Control(kind="fresh", image=hint)])])[0]
after = draw_all([recipe])[0]
print(f"with the ControlNet of three steps: {largest_difference(trained_three, base)}/255 from the base")
print(f"without it again:                   {largest_difference(after, base)}/255")
assert largest_difference(trained_three, base) > 0 == largest_difference(after, base)

# %% [markdown]
# ### The trained one
#
# With postcards comes a ControlNet called `edges`, made in the same way by some thousand such steps; its card lies beside
# its weights. You need no training any more, only a recipe with a *control*: a kind, a map, a strength.


# %%
def steered(strength=1.0, hint=hint, **more):
    return Control(kind=EDGES, image=hint, strength=strength, **more)


by_map = draw_all([recipe.but(prompt=prompt, control=[steered()]) for prompt in worlds])
followed = [agrees(image, hint) for image in by_map]
show.pictures(
    [hint, *by_map],
    ["your map", *(f"{name}: F1 {score:.2f}" for name, score in zip(("night", "sunset", "day"), followed))],
    alt="Your map of lines, and three postcards that follow it: the house on the right and the ridge are where your picture "
    "has them, by night in snow, at sunset in the desert, by day on the sea.",
    caption="The same prompts and the same seed, with the map: three worlds, one layout.",
    columns=4,
    side=160,
)

# %%
print(f"agreement with your lines: words {np.mean(by_words):.2f}, with the map {np.mean(followed):.2f}")
if here.name != "real":
    assert np.mean(followed) > np.mean(by_words) + 0.15

# %% [markdown]
# ## Proof: Diffusers' own pipeline draws the same
#
# `draw` asks the ControlNet between two lines of the loop of 38.1a. Diffusers has a pipeline class for the same. Plug the
# same parts into it and hold both against each other.

# %%
from diffusers import StableDiffusionControlNetPipeline

from chapter38.code import samplers

theirs = StableDiffusionControlNetPipeline(
    **parts.pipeline.components, controlnet=control.net(parts, EDGES), requires_safety_checker=False
)
theirs.scheduler = samplers.scheduler(recipe.sampler, recipe.spacing, parts.scheduler.config, recipe.steps)
theirs.set_progress_bar_config(disable=True)
by_pipeline = theirs(
    recipe.prompt, image=hint.convert("RGB").resize((recipe.width, recipe.height), 0), num_inference_steps=recipe.steps,
    guidance_scale=recipe.guidance, controlnet_conditioning_scale=1.0,
    generator=torch.Generator().manual_seed(recipe.seed),
).images[0]  # fmt: skip

# %%
alone = draw_all([recipe.but(control=[steered()])])[0]
difference = largest_difference(alone, by_pipeline)
print(f"largest difference: {difference}/255, allowed: {here.tolerance}/255")
assert difference <= here.tolerance

# %% [markdown]
# ## How far does it follow?
#
# [Strength](../book/glossary.md#strength) is a factor: what leaves the joints is multiplied by it, at every place and every
# step alike. One picture says little, so take ten scenes; and prompts that name colour and object only, so that the words
# do not help. First the two ends.

# %%
many = judging_scenes(seed=3860, count=10)
many_maps = [edges(scene.picture()) for scene in many]
plain_words = [f"a {scene.colour} {scene.object}" for scene in many]


def steer_many(**how):
    """The ten, each from its own noise, with its own map."""
    each = enumerate(zip(plain_words, many_maps))
    return draw_all([recipe.but(prompt=said, seed=i, guidance=3, control=[steered(hint=m, **how)]) for i, (said, m) in each])


def agreement(images):
    return np.array([agrees(image, m) for image, m in zip(images, many_maps)])


# %%
drawn = {strength: steer_many(strength=strength) for strength in (0.0, 1.0)}
for strength, images in drawn.items():
    print(f"strength {strength:g}: agreement {agreement(images).mean():.2f}")

# %% [markdown]
# ### Predict
#
# At half the strength, what is the agreement? Write a number before you go on.

# %%
my_prediction = ...  # a number from 0 to 1: the mean agreement (F1) of the ten at strength 0.5

# %%
from chapter38.check import guess

drawn |= {strength: steer_many(strength=strength) for strength in (0.25, 0.5, 1.5)}
scores = {strength: agreement(drawn[strength]) for strength in sorted(drawn)}
why = "the voice is halved, and the picture does not obey in proportion to the voice."
guess(my_prediction, float(scores[0.5].mean()), "(F1)", why, within=0.08)

# %%
from chapter38.measure.estimate import bootstrap

curve = {strength: bootstrap(values) for strength, values in scores.items()}
value, low, high = np.array([(e.value, e.low, e.high) for e in curve.values()]).T
fig, ax = show.axes("strength", "edge agreement (F1)", "Most of the obedience comes with the first half of the strength")
ax.errorbar(list(curve), value, [value - low, high - value], marker="o", color="#0072B2", capsize=3, label="measured, 95 %")
ax.plot([0, 1], [curve[0.0].value, curve[1.0].value], "--", color="#D55E00", label="if it obeyed in proportion")
ax.set_ylim(0, 1.02)
ax.legend(frameon=False, loc="lower right")
said = ", ".join(f"{e.value:.2f} at strength {s:g}" for s, e in curve.items())
show.figure(fig, alt=f"Edge agreement against strength, a curve that rises steeply and flattens: {said}.")

# %%
gained = (curve[0.5].value - curve[0.0].value) / (curve[1.0].value - curve[0.0].value)
print(f"half the strength brings {gained:.0%} of what full strength brings")
if here.name != "real":
    assert curve[0.0].value < curve[0.5].value < curve[1.0].value and gained > 0.55
    assert curve[0.0].high < curve[1.0].low

# %% [markdown]
# That is the paper's second claim as this course measures it: agreement rises with the strength, and the intervals of the
# two ends do not touch. Turn the strength yourself; each frame shows four of the ten.


# %%
def row(images):
    sheet = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    for i, image in enumerate(images):
        sheet.paste(image.convert("RGB"), (i * image.width, 0))
    return sheet


strip = (0, 1, 2, 3)
show.slider(
    [row([images[i] for i in strip]) for _, images in sorted(drawn.items())],
    [f"strength {strength:g}: agreement of the ten {scores[strength].mean():.2f}" for strength in scores],
    alt="Four scenes side by side; from strength 0 to 1.5 they take on the layout of their maps.",
    name="strength",
    side=512,
)

# %%
show.pictures(
    [many_maps[i] for i in strip],
    [f"{many[i].colour} {many[i].object}" for i in strip],
    alt="The four maps that belong to the scenes under the slider.",
    caption="The maps of the four.",
    columns=4,
    side=128,
)

# %% [markdown]
# ## When does it speak?
#
# A control also has a *start* and an *end*, as shares of the steps. It speaks at step $i$ of $n$ where
# $\text{start} \le i/n$ and $(i+1)/n \le \text{end}$, and outside it is not even asked. Half of the steps cost half. Which
# half would you give it?

# %%
windows = {"first half": {"end": 0.5}, "second half": {"start": 0.5}}
spoken = {"never": drawn[0.0], **{name: steer_many(**window) for name, window in windows.items()}, "always": drawn[1.0]}
timed = {name: agreement(images) for name, images in spoken.items()}
show.pictures(
    [many_maps[0], *(images[0] for images in spoken.values())],
    ["the map", *(f"{name}: {values.mean():.2f}" for name, values in timed.items())],
    alt="One map and four drawings: ControlNet never, in the first half of the steps, in the second half, and always. The first "
    "half alone gives nearly the layout of the map.",
    caption="When it speaks, and the mean agreement of ten scenes: the layout is decided early.",
    columns=5,
)

# %%
for name, values in timed.items():
    print(f"{name:12} {bootstrap(values)}")
if here.name != "real":
    assert timed["first half"].mean() > timed["second half"].mean() + 0.05

# %% [markdown]
# In the early steps there is mostly noise, and the denoiser decides where things stand; in the late ones it paints what
# stands there. A map that comes late finds the places taken. So *start* 0 with an early *end* keeps the layout and leaves
# the details to the words: a setting for maps that are only sketches.
#
# ## With a LoRA: two adapters, one grid
#
# A [LoRA](../book/glossary.md#lora) changes how the denoiser paints; a ControlNet tells it where. `dusk` is a style in four
# inks (lesson [38.1e](38_1e_lora.ipynb)). Does the one disturb the other? Vary both, strength along one side and weight along
# the other.

# %%
from itertools import product

strengths, weights = (0.0, 0.5, 1.0), (0.0, 0.5, 1.0)


def cell(strength, weight):
    both = {"control": [steered(strength)], "adapters": [(STYLE, weight)] if STYLE else []}
    return draw_all([recipe.but(prompt=prompt, **both) for prompt in worlds[:2]])


grid = {key: cell(*key) for key in product(strengths, weights)}

# %%
show.pictures(
    [images[0] for images in grid.values()],
    [f"map {s:g}, LoRA {w:g}" for s, w in grid],
    alt="Nine pictures of a house. From top to bottom the strength of the map grows, and the house and ridge take your "
    "layout; from left to right the weight of the LoRA grows, and the colours turn to four inks from violet to sand.",
    caption="Down: the layout becomes yours. Right: the colours become dusk.",
    columns=3,
    side=128,
)

# %%
from chapter38.measure.renders import to_inks

follows = {key: np.mean([agrees(image, hint) for image in images]) for key, images in grid.items()}
inks = {key: to_inks(images, "dusk").mean() for key, images in grid.items()}
head = "F1, distance to the inks"
rows = [{"map": s, **{f"LoRA {w:g}: {head}": f"{follows[s, w]:.2f}, {inks[s, w]:.0f}" for w in weights}} for s in strengths]
show.table(rows, "Two worlds a cell. F1 goes with the strength, the distance to the four inks (of 255) with the weight.")

# %%
if here.name != "real":
    assert all(follows[1.0, w] > follows[0.0, w] + 0.1 for w in weights)
    assert all(inks[s, 1.0] < inks[s, 0.0] - 10 for s in strengths)

# %% [markdown]
# Two knobs, and each moves its own number. They are not perfectly independent, and the table says by how much. That they
# compose at all is worth a thought: the LoRA was trained without a map, the ControlNet without the LoRA. The copy hears the
# *base's* features; as long as the styled denoiser means by its features what the base means, the joints fit.
#
# ## Two maps at once
#
# What several controls say is summed. Make two maps, one with a house on the right, one with mountains behind a tree on the
# left, and ask for a house. Do you expect the house *and* the mountains? Three ways to use both: add them; let them take turns,
# one in each half of the steps; or lay the second map over the first, white on white, and give one.

# %%
from PIL import ImageChops

with_house = Scene("house", "red", sky="day", ground="grass", place="right", seed=4)
with_ridge = Scene("tree", "green", sky="day", ground="grass", place="left", background="mountains", seed=21)
house, ridge = edges(with_house.picture()), edges(with_ridge.picture())
ways = {
    "first alone": [steered(hint=house)],
    "second alone": [steered(hint=ridge)],
    "added": [steered(hint=house), steered(hint=ridge)],
    "in turns": [steered(hint=house, end=0.5), steered(hint=ridge, start=0.5)],
    "one merged map": [steered(hint=ImageChops.lighter(house, ridge))],
}
asked_for = recipe.but(prompt="a red house by day, on the grass")
pairs = {name: draw_all([asked_for.but(seed=s, control=c) for s in (1, 2)]) for name, c in ways.items()}

# %%
show.pictures(
    [house, ridge, ImageChops.lighter(house, ridge), *(images[0] for images in pairs.values())],
    ["first map", "second map", "merged", *pairs],
    alt="Three maps: a house on the right, a tree on the left before mountains, and both laid over each other; and five "
    "drawings of a red house, with each map alone, with both added, with both in turns, and with the merged map.",
    caption="Added, one map can silence the other; merged, most of both is drawn.",
    columns=4,
)

# %%
from scipy.ndimage import maximum_filter


def recall(images, hint):
    """The share of the map's lines that the pictures have, within two pixels."""
    wide = [maximum_filter(np.asarray(edges(image)), 5) > 0 for image in images]
    lines = np.asarray(hint.resize(images[0].size, 0)) > 0
    return float(np.mean([(lines & found).sum() / lines.sum() for found in wide]))


has = {name: (recall(images, house), recall(images, ridge)) for name, images in pairs.items()}
rows = [{"control": name, "lines of the first": f"{a:.0%}", "lines of the second": f"{b:.0%}"} for name, (a, b) in has.items()]
show.table(rows, "The share of each map's lines that the picture has, in the mean of two seeds.")

# %%
print(f"the worse served of the two maps: added {min(has['added']):.0%}, merged {min(has['one merged map']):.0%}")
if here.name != "real":
    assert min(has["one merged map"]) > min(has["added"]) + 0.2

# %% [markdown]
# Adding is not laying over. A map speaks with its black, too: *no line here*. So each map denies what the other one draws, and
# one of them wins. Maps of one kind belong merged into one before a network reads them. A sum is for controls that do not
# contradict each other: of different kinds (edges and a depth map of the same layout), or at different times.
#
# ## With a picture to start from
#
# [img2img](../book/glossary.md#img2img) starts from a noised picture. It takes colours *and* layout from it, both the less,
# the more noise you add. With a map you can take the colours from one picture and the lines from another: run only
# the last half of the steps, which leaves the colours, and let the map decide what becomes of them.

# %%
colours = Scene("balloon", "purple", sky="sunset", ground="desert", place="left", detail="sun", seed=8).picture()
colours = colours.resize((recipe.width, recipe.height))
only_map = recipe.but(prompt="a purple house", control=[steered()])
start = recipe.but(prompt="a purple house", image=colours, strength=0.5)
mixed = {"start": draw_all([start])[0], "map": draw_all([only_map])[0], "both": draw_all([start.but(control=[steered()])])[0]}


def apart(image):
    """How far the mean colour is from the start picture's, in levels of 255."""
    return float(np.abs(np.asarray(image, float).mean((0, 1)) - np.asarray(colours, float).mean((0, 1))).mean())


# %%
show.pictures(
    [colours, hint, *mixed.values()],
    ["the start", "the map", *(f"{name}: F1 {agrees(i, hint):.2f}, colour {apart(i):.0f} off" for name, i in mixed.items())],
    alt="A start picture of a balloon at sunset over the desert, your map, and three drawings: from the start alone, which has its "
    "colours and not your lines; from the map alone, a purple house in other colours; from both, with the start's colours and "
    "your lines.",
    caption="Colours from one picture, lines from another.",
    columns=5,
    side=150,
)

# %%
if here.name != "real":
    assert agrees(mixed["both"], hint) > agrees(mixed["start"], hint) + 0.15
    assert apart(mixed["both"]) < apart(mixed["map"])

# %% [markdown]
# ## Why a composition becomes a graph
#
# Your last recipes had `adapters=`, `control=` and `image=`. One keyword each, and no word about *where* they join. Put all
# three into one recipe, export it as a workflow (lesson [38.2b](38_2b_workflow_export.ipynb)), and ask the graph.

# %%
from chapter38.canvas import export

both_adapters = {"adapters": [(STYLE, 0.5)], "control": [steered(0.8, end=0.5)]}
composed = start.but(**both_adapters if here.name != "real" else {})
graph = export(composed)
added = {"LoraLoader": "the LoRA", "ControlNetApplyAdvanced": "the map", "VAEEncode": "the start picture"}
named = {node.id: (node.label.split(" · ")[0], node.type) for node in graph.nodes}
cables = {}
for link in graph.links:
    if what := added.get(named[link.origin][1]):
        cables.setdefault((what, link.type), []).append(named[link.target][0])
rows = [
    {"you added": what, "on the cable": cable, "read by": ", ".join(dict.fromkeys(to))} for (what, cable), to in cables.items()
]
show.table(rows, "Three additions on three kinds of cable.")

# %%
from chapter38.canvas.draw import COLORS, describe

places = {
    "Load Checkpoint": (0, 2.1), "Load LoRA (Model and CLIP)": (1.2, 2.1), "Positive prompt": (2.6, 1.35),
    "Negative prompt": (2.2, 0.75), "Load ControlNet Model": (2.2, 0.1), "Hint map": (3.6, -0.2), "Apply ControlNet": (3.6, 1),
    "Image": (2.4, -1.2), "VAE Encode": (3.6, -1.2), "KSampler": (5, 1), "VAE Decode": (6, 1), "Save Image": (7, 1),
}  # fmt: skip
fig, ax = show.axes("", "", "Three additions on three cables", width=9, height=3.8)
boxes = {}
for id, (label, kind) in named.items():
    look = {"boxstyle": "round", "facecolor": "#fde3c8" if kind in added else "white", "edgecolor": "#555555"}
    at = places.get(label, (1.2, -0.4))
    boxes[id] = ax.text(*at, label.replace(" (", "\n("), ha="center", va="center", fontsize=8.5, bbox=look)

# %%
for link in graph.links:
    a, b = boxes[link.origin], boxes[link.target]
    ends = {"patchA": a.get_bbox_patch(), "patchB": b.get_bbox_patch()}
    arrow = {"arrowstyle": "-|>", "color": COLORS[link.type], "linewidth": 1.8, **ends}
    if link.type != "VAE":
        ax.annotate("", b.get_position(), a.get_position(), arrowprops=arrow)
for cable, at in {"MODEL": (3.3, 1.66), "CONDITIONING": (3.98, 0.75), "LATENT": (4.5, -0.2)}.items():
    ax.text(*at, cable, color=COLORS[cable], fontsize=8)
ax.set(xlim=(-0.6, 7.5), ylim=(-1.6, 2.5))
ax.axis("off")
show.figure(
    fig, alt=f"A graph from left to right. {describe(graph)}.", caption="What you added is coloured; the VAE's cable is left out."
)

# %% [markdown]
# The LoRA sits on the cable of the *model*, between the loader and everything that uses it. The map sits on the
# *conditioning*, between the prompts and the sampler. The start picture comes in as *latents*. Nothing of this is in a list of
# keywords, and neither is this: which of two maps comes first, whether the LoRA acts on both passes of a larger picture or on
# one, whether a map is made from your photograph or from the picture of the pass before. As long as there is one of each, a
# line of code says it all. As soon as their order matters, the order *is* the program, and a graph writes it down.
#
# Does the graph draw the same picture? And what runs again, if you turn one knob of it?

# %%
from chapter38.canvas.run import Runner

runner = Runner()
first_run = list(runner.run(graph))
by_graph, by_code = runner.picture.image, draw_all([composed])[0]
print(f"graph against code: largest difference {largest_difference(by_graph, by_code)}/255")
assert largest_difference(by_graph, by_code) <= here.tolerance

# %%
knob = next((node for node in graph.nodes if node.type == "ControlNetApplyAdvanced"), None)
again = list(runner.run(graph.set(knob.id, strength=0.4) if knob else graph))
titles = [ran.title.split(" · ")[0] for ran in again if not ran.cached]
print(f"{len(first_run)} nodes; after the strength was turned, {len(titles)} of them run again: {', '.join(titles)}")
assert len(titles) < len(first_run) / 2

# %% [markdown]
# That is the second reason for a graph: an engine can see what hangs on what. It keeps the loaded models, the encoded words
# and the encoded start picture, and draws again from the knob on.
#
# ## A misconception: strength 0.5 follows half of the lines
#
# The number looks like a share. It is none: it chooses no lines. What kills it is, first, what a ControlNet says at
# strength 0.5 and at 1, in one step of the loop:

# %%
x = torch.randn((1, 4, recipe.height // 8, recipe.width // 8), generator=torch.Generator().manual_seed(1))
x = x.to(parts.device, parts.dtype)
words = parts.encode([recipe.but(guidance=1)]).embeddings
net = control.net(parts, EDGES)
said = {}
with torch.no_grad():
    seen = torch.from_numpy(np.asarray(hint.resize((recipe.width, recipe.height), 0)) / 255).expand(1, 3, -1, -1).to(x)
    for strength in (0.5, 1.0):
        down, middle = net(x, 500, words, seen, strength, return_dict=False)
        said[strength] = [*down, middle]
same = all(torch.equal(half, 0.5 * full) for half, full in zip(said[0.5], said[1.0]))
print(f"{len(said[1.0])} tensors; at strength 0.5 each is exactly half of what it is at 1: {same}")
assert same

# %% [markdown]
# And second, what becomes of the lines. Here is the middle one of the ten scenes at strength 0.5: lines of the map that the
# picture has are blue, lines that it lacks are orange.

# %%
have = {s: [recall([image], m) for image, m in zip(drawn[s], many_maps)] for s in sorted(drawn)}
middle_one = int(np.argsort(have[0.5])[len(many) // 2])
picture, its_map = drawn[0.5][middle_one], many_maps[middle_one]
found = maximum_filter(np.asarray(edges(picture)), 5) > 0
lines = np.asarray(its_map.resize(picture.size, 0)) > 0
coloured = np.full((*lines.shape, 3), 255, np.uint8)
coloured[lines & found], coloured[lines & ~found] = (0, 114, 178), (213, 94, 0)

# %%
show.pictures(
    [its_map, picture, Image.fromarray(coloured)],
    ["the map", "strength 0.5", f"has {have[0.5][middle_one]:.0%} of the lines"],
    alt="A map, the picture drawn at strength 0.5, and the map's lines in blue where the picture has them, orange where not.",
    caption="Half the voice is no half of the lines. Over all ten: "
    + ", ".join(f"{np.mean(shares):.0%} at strength {s:g}" for s, shares in have.items()) + ".",
    columns=3,
    side=160,
)  # fmt: skip

# %%
if here.name != "real":
    assert np.mean(have[0.5]) > 0.6

# %% [markdown]
# Every line is called out, at half the volume, in every step; and a picture that gives way a little in each of ten steps
# ends up far along. Lines that the prompt wants anyway are there at strength 0 already. What strength sets is who wins where
# map and words *disagree*.
#
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | SD 1.5 | zero convolutions, strength, start and end, the sum of several; the same cells | its ControlNets have hundreds of millions of weights, and each is asked at every step in which it speaks |
# | kinds of map | edges, depth, pose, segments: all arrive as a picture | the detector that makes the map: a Canny ControlNet wants thin Canny lines, a depth map in its place draws nonsense without an error |
# | SDXL | the same shape, larger | a ControlNet fits one architecture: one for SD 1.5 is refused on SDXL |
# | SD 3.5, FLUX | the idea: a copy of some blocks, joined by zero layers | the classes; some are one network for many kinds of map |
# | half precision on a GPU | a fresh ControlNet still changes nothing: adding zero rounds nothing | the last bits of the CPU |
#
# **On real models** (GPU, date, revision): the grid above with SD 1.5, `lllyasviel/control_v11p_sd15_canny` and a LoRA of your
# choice in `STYLE`: *not yet run*. The cells are the same; set the profile in the second cell.

# %% [markdown]
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# A recipe has a control with a *start* and an *end*. At how many of its steps is the ControlNet asked? The rule stands
# above; mind what it does to a step that lies across a boundary.

# %%
from chapter38.check.lesson_1f import check_asked, check_faded, check_sum

asked = {"20 steps, 0 to 0.5": ..., "20 steps, 0.25 to 1": ..., "3 steps, 0 to 0.5": ..., "4 steps, 0.9 to 1": ...}

check_asked(asked)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# asked = {"20 steps, 0 to 0.5": 10, "20 steps, 0.25 to 1": 15, "3 steps, 0 to 0.5": 1, "4 steps, 0.9 to 1": 0}
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# A strength is a constant, but several controls are summed. Use that for a strength that fades: `faded` is a list of controls
# with one and the same map, so that in twelve steps the strengths add up to 1 in the first four, to ½ in the next four, and
# to nothing in the last four. `steered(strength, end=…)` makes one control.

# %%
faded = ...  # [steered(...), ...]

check_faded(faded)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# faded = [steered(0.5, end=2 / 3), steered(0.5, end=1 / 3)]
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Write what stands between the loop and the denoiser: `my_sum(unet, x, t, words, controls)` gives the denoiser's prediction
# with any number of controls, each a triple of network, map and strength. With no controls it is the base's. The check
# brings networks of its own.

# %%
my_sum = ...  # def my_sum(unet, x, t, words, controls): ...

check_sum(my_sum)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_sum(unet, x, t, words, controls):
#     down, middle = None, None
#     for net, hint, strength in controls:
#         more, last = net(x, t, words, hint, strength, return_dict=False)
#         down = list(more) if down is None else [a + b for a, b in zip(down, more)]
#         middle = last if middle is None else middle + last
#     return unet(x, t, words, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
# ```
#
# </details>

# %% [markdown]
# ## Three lines to remember
#
# 1. A ControlNet is a copy of the way down, joined by zeros: fresh it changes no bit, and the zeros have a gradient from the
#    first step on.
# 2. Strength scales what it says, at every place alike; start and end say when. The layout is decided early.
# 3. LoRA, map and start picture join a model on three different cables; as soon as their order matters, write a graph.
#
# ## Where next
#
# - [38.2b](38_2b_workflow_export.ipynb): the workflow that you exported, in both spellings.
# - The words of this lesson: [ControlNet](../book/glossary.md#controlnet),
#   [zero convolution](../book/glossary.md#zero-convolution), [hint map](../book/glossary.md#hint-map),
#   [strength](../book/glossary.md#strength), [img2img](../book/glossary.md#img2img), [LoRA](../book/glossary.md#lora).
# - In the [reading map](38_4a_reading_map.ipynb): T2I-Adapter, which is asked once and not at every step, and IP-Adapter,
#   which takes a picture for a prompt.
#
# <details><summary>For instructors</summary>
#
# **Time:** 50 minutes with exercises, 30 without. **Say first:** draw a U-Net, its copy beside it, and one door at every
# bridge; all doors are shut. Ask the class which of them can open first. **Where it sticks:** that zero weights have a
# gradient; that a seed holds no layout; that strength is no share. **To discuss:** a client sends a photograph that is not
# theirs and wants "only its composition". What does a map of its edges carry over, and whose is it? **To grade:** exercises
# 2 and 3; `check_faded` and `check_sum` return an object that is true when the answer is right.
#
# </details>
