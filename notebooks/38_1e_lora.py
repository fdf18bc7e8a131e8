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
# # 38.1e · A style of your own: LoRA
#
# **Routes:** ★ core · everything. **Section:** 38.1, the Code rung.
#
# In this lesson you teach the model a style from thirty pictures, in about a minute, and change none of its weights. What
# you keep is a small file, a [LoRA](../book/glossary.md#lora). You check by hand what it does, weigh it, add a second one,
# merge it, take it off without a trace, and find out why such a file sometimes does nothing at all.
#
# ## What you will be able to do
#
# - train a LoRA on pictures of your own, and say which share of the weights that is;
# - compute by hand what a LoRA does to a layer, and prove that the library does the same;
# - weigh, stack, merge and remove LoRAs, and say which of these cost time;
# - tell from a file whether it will load, in which program, and convert it if not.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. A matrix of 160 × 160 is written as a product of one of 160 × 4 and one of 4 × 160. How many numbers do the two have,
#    and what can the product not be?
# 2. You add a correction to a weight and subtract it again. Is the weight what it was?
#
# <details><summary>Answers</summary>
#
# 1. 1,280 instead of 25,600. The product has rank 4 at most: it can move its input in four directions only. See
#    [Fine-tuning and low rank](../book/refresher.md#fine-tuning-and-low-rank).
# 2. In real numbers yes; in floating point not always, because each of the two operations rounds. You will count it below.
#
# </details>
#
# If the first surprised you, read [Fine-tuning and low rank](../book/refresher.md#fine-tuning-and-low-rank) first. You also
# need the five parts of [38.1a](38_1a_pipeline_to_parts.ipynb).
#
# ## What it costs
#
# | | postcards, laptop CPU | Stable Diffusion 1.5, GPU with 16 GB |
# |---|---|---|
# | switch | none | `show.profile("sd15")` in the second cell |
# | time | about two minutes on two cores, half of it training | not yet run |
# | memory | about 1 GB | not yet run |
# | download | none | about 2.8 GB (half precision) |

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
from chapter38 import Recipe, show
from chapter38.code import adapters, draw, draw_many

here = show.profile("postcards")  # on a GPU: "sd15"
parts = here.load()
unet = parts.denoiser
print(here)

# %% [markdown]
# ## The naive way: ask for the style in words
#
# You want your postcards in chalk: four tones, from a dark board to a cream light. So you say so.

# %%
asked = (
    "a big yellow house on the right, on the grass, by day", "a small red sailboat on the left, on the sea, at sunset",
    "a green tree in the middle, in the snow, by day", "a big white lighthouse on the left, on the sea, at night",
)  # fmt: skip
recipes = [Recipe(prompt=text, seed=38 + i, model=here.model) for i, text in enumerate(asked)]


def drawn(*loras, also="", of=recipes):
    each = [r.but(prompt=r.prompt + also, adapters=loras) for r in of]
    return [picture.image for picture in draw_many(each, parts=parts)]


base, in_words = drawn(), drawn(also=", in chalk")

# %% [markdown]
# ## What goes wrong: it has no word for it
#
# The renderer of the postcards' world can say what you meant: `stylise` re-draws a picture in four inks. Hold the answer
# against it.

# %%
from chapter38.postcards import Scene
from chapter38.postcards.drawing import stylise

meant = [stylise(Scene.parse(text).scene.picture(), "chalk") for text in asked]
show.pictures(
    [*base, *in_words, *meant],
    [*["the model"] * 4, *["... 'in chalk'"] * 4, *["what you meant"] * 4],
    alt="Three rows of four postcards: a house, a sailboat, a tree, a lighthouse. Upper row in full colours; middle row, asked "
    "for in chalk, still in full colours; lower row in dark green, grey green and cream.",
    caption="Asked for in words, the style does not come; the lower row shows what was meant.",
    columns=4,
)

# %% [markdown]
# Nothing failed; the word reached a network that never saw what it stands for. To the eye it is clear. For a number, take
# the mean distance of a picture's colours from the four inks, in levels of 255.

# %%
import numpy as np

from chapter38.measure.renders import to_inks

off = {name: to_inks(images, "chalk").mean() for name, images in (("base", base), ("in words", in_words), ("meant", meant))}
print({name: f"{value:.1f}" for name, value in off.items()})
if here.name != "real":
    assert off["in words"] > 10 * off["meant"]

# %% [markdown]
# A model that knows the word would do better, and still not draw in *your* hand. The other naive way is to go on with the
# training: all weights, on your pictures. It works, and costs twice. AdamW keeps four numbers for every weight it trains
# (weight, gradient, two moments). And what you get is a second model, as large as the first, which has begun to forget
# what your thirty pictures do not show.

# %%
numbers = sum(p.numel() for p in unet.parameters())
print(f"U-Net: {numbers:,} weights; to train them all, {16 * numbers / 2**20:.0f} MiB of numbers are kept in float32")
print(f"ten styles: {10 * 2 * numbers / 2**20:.0f} MiB of files in float16")

# %% [markdown]
# ## The library's way: leave the weights, learn a correction
#
# LoRA (Hu et al. 2021, [arXiv:2106.09685](https://arxiv.org/abs/2106.09685)) keeps a weight matrix $W$ as it is and learns
# a correction of low rank beside it:
#
# $$W' = W + \frac{\alpha}{r}\,B A, \qquad A: r \times \text{inputs}, \quad B: \text{outputs} \times r$$
#
# $A$ starts at random, $B$ at zero: before the first step nothing has changed. The [rank](../book/glossary.md#rank) $r$
# says how much the correction can say, [alpha](../book/glossary.md#alpha-lora) how loudly.
#
# ### Thirty pictures, and captions that do not name the style
#
# The captions say *what* a picture shows, never *how*. What they leave unsaid is what the LoRA has to explain, and so it
# learns to do it always.

# %%
import random

from chapter38.postcards.dataset import sample

rng = random.Random(38)
scenes = [sample(rng) for _ in range(30)]
size = (recipes[0].width, recipes[0].height)
pictures = [stylise(scene.picture(), "chalk").resize(size) for scene in scenes]
captions = [[scene.varied_caption(rng) for _ in range(4)] for scene in scenes]  # four ways to say each
print(*captions[0], sep="\n")

# %%
show.pictures(
    pictures[:10],
    [f"a {scene.object}" for scene in scenes[:10]],
    alt="Ten of the thirty training pictures: houses, cats, trees and other things in four chalk tones.",
    caption="Ten of the thirty pictures.",
    side=112,
)

# %% [markdown]
# ### The training, while you watch
#
# `train_lora` is a generator: it yields after every step, and what happens between the steps is yours. Here the sheet below
# the cell is drawn anew at a few of them. PEFT puts $A$ and $B$ beside the layers that you name, here attention and the
# convolutions of the ResNet blocks.

# %%
from dataclasses import replace

from chapter38.code.tuning import Plan, train_lora

plan = Plan(rank=8, alpha=16, steps=180, batch=16, rate=3e-3)
if here.name == "real":
    plan = replace(plan, steps=400, batch=2, rate=2e-4)
print(plan)

# %%
from IPython.display import display, update_display
from PIL import Image

looks = [plan.steps * i // 5 for i in (0, 1, 2, 3, 5)]
seen = {step: [Image.new("RGB", size, "white")] * 4 for step in looks}


def sheet():
    return show.pictures(
        [seen[step][i] for i in range(4) for step in looks], [f"step {step}" for _ in range(4) for step in looks],
        alt="Four rows, one for each prompt; from left to right the same picture at five moments of the training, which "
        "turns from full colours into chalk.",
        caption="The colours go first; what the picture shows stays.",
        side=104,
    )  # fmt: skip


# %%
seen[0] = base
display(sheet(), display_id="sheet")
losses = []
for trained in train_lora(parts, pictures, captions, plan, name="chalk"):
    losses.append(trained.loss)
    if trained.step in looks:
        seen[trained.step] = drawn(("chalk", 1.0))
        update_display(sheet(), display_id="sheet")

# %% [markdown]
# The loss says less than the sheet: each step meets other pictures at other noise levels, so it jumps. Take a mean over
# twenty steps to see where it goes.

# %% tags=["nbval-ignore-output"]
edges = range(0, plan.steps + 1, 20)
means = [np.mean(losses[i : i + 20]) for i in edges[:-1]]
fig, ax = show.axes("step", "mean squared error of the prediction", "The loss falls, behind its noise")
ax.plot(range(1, plan.steps + 1), losses, color="#56B4E9", linewidth=0.8, label="one step")
ax.stairs(means, edges, baseline=None, color="#0072B2", linewidth=2, label="mean of twenty")
ax.set_ylim(0)
ax.legend(frameon=False)
assert means[-1] < means[0]
show.figure(fig, alt=f"A jumping line of losses and its means over twenty steps, which fall from {means[0]:.2f} to {means[-1]:.2f}.")

# %% [markdown]
# ### What was trained, as a share
#
# Count the numbers that learned, against all of the U-Net's.

# %%
learned = sum(p.numel() for name, p in unet.named_parameters() if ".lora_" in name)
print(f"{learned:,} of {numbers:,} weights: {learned / numbers:.1%}")
print(f"kept while training: {16 * learned / 2**20:.1f} MiB instead of {16 * numbers / 2**20:.0f}")

# %% [markdown]
# Hu et al. report ten thousand times fewer trained parameters than GPT-3 has. Why not here? Look at the formula: a square
# layer of width $w$ has $w^2$ numbers, its LoRA $2rw$. The share is $2r/w$: it falls as models grow wide. The shapes of the
# large models are known, so you can count without loading one.

# %%
from math import prod

from chapter38.code import shapes


def counted(model, rank=plan.rank):
    modules = [m for (part, _), m in shapes.base(model).modules.items() if part == "unet"]
    chosen = [m.shape for m in modules if m.name.endswith(plan.targets)]
    return sum(rank * (s[0] + prod(s[1:])) for s in chosen), sum(prod(m.shape) for m in modules)


shares = {model: counted(model) for model in ("postcards", "sd15", "sdxl")}
rows = [{"U-Net": m, "LoRA": f"{a / 1e6:.2f} M", "layers": f"{b / 1e6:.0f} M", "share": f"{a / b:.2%}"} for m, (a, b) in shares.items()]
show.table(rows, "The same plan at rank 8: the wider the model, the smaller the share.")

# %%
portion = {model: small / whole for model, (small, whole) in shares.items()}
assert portion["postcards"] > 3 * portion["sd15"] and portion["sd15"] > portion["sdxl"]
if here.model in shares:
    assert shares[here.model][0] == learned

# %% [markdown]
# ### Did it learn the style, and what did that cost?
#
# Two questions, two measurements, on scenes that were not among the thirty. How near are the colours to the four inks? And
# is it still the right object? The judge of the other lessons cannot say, it reads colours that chalk does not have. So
# each picture is compared with fresh renders of its scene with all objects, *in chalk*, and counts as what the nearest
# shows.

# %% tags=["nbval-ignore-output"]
from chapter38.measure.estimate import bootstrap, share
from chapter38.measure.renders import nearest_object
from chapter38.postcards import judging_scenes

unseen = judging_scenes(seed=380, count=16)
told = [Recipe(prompt=s.caption(), seed=i, model=here.model, adapters=[("chalk", 1.0)]) for i, s in enumerate(unseen)]
styled = [picture.image for picture in draw_many(told, parts=parts)]
renders = [stylise(s.picture(), "chalk") for s in unseen]
inks = {name: bootstrap(to_inks(images, "chalk")) for name, images in (("LoRA", styled), ("renders", renders))}
right = share([nearest_object(image, s, style="chalk") == s.object for image, s in zip(styled, unseen)])
print(f"distance from the inks: LoRA {inks['LoRA']}; renders {inks['renders']}; base {off['base']:.1f}")
print(f"the right object: {right}")

# %%
if here.name != "real":
    assert inks["LoRA"].high < off["base"] / 2
    assert right.value > 0.5  # of nine objects, chance finds one in nine

# %% [markdown]
# ## Proof: by hand, the same picture
#
# Save it and take it off. The file holds $A$ and $B$ of each layer in half precision, and alpha in its metadata.

# %%
path = adapters.save(parts, "chalk", "chalk")
adapters.discard(parts, "chalk")
print(f"{path.as_posix()}: {path.stat().st_size / 1024:.0f} KiB; the U-Net's file would have {2 * numbers / 1024:.0f}")

# %% [markdown]
# Now do without PEFT. Load a second copy of the base, read the file, and *write $W + \frac{\alpha}{r}BA$ into the weights*.
# Six lines. A convolution's $A$ has a window; flat, it is a matrix like any other.

# %%
import torch
from safetensors.torch import load_file


# %%
@torch.no_grad()
def add_by_hand(model, file, weight=1.0, alpha=plan.alpha):
    tensors = {key: tensor.float().flatten(1) for key, tensor in load_file(file).items()}
    weights = dict(model.denoiser.named_parameters())
    for key in tensors:
        if key.endswith(".lora_A.weight"):
            A, B = tensors[key], tensors[key.replace("lora_A", "lora_B")]
            W = weights[key.removeprefix("unet.").replace("lora_A.", "")]
            W += (weight * alpha / len(A) * (B @ A)).view_as(W).to(W)


by_hand = here.load()
add_by_hand(by_hand, path)

# %% [markdown]
# And a third way, to be sure: Diffusers' own loader, in a pipeline that this course has not touched.

# %%
from diffusers.utils import logging

logging.set_verbosity_error()  # it warns that the file holds nothing for the text encoder, which is so
theirs = here.load().put_together()
theirs.set_progress_bar_config(disable=True)


def plainly():
    return theirs(
        recipe.prompt, num_inference_steps=recipe.steps, guidance_scale=recipe.guidance, width=size[0], height=size[1],
        generator=torch.Generator().manual_seed(recipe.seed),
    ).images[0]  # fmt: skip


# %%
from chapter38.measure.pixels import largest_difference

recipe = recipes[1]
with_lora = recipe.but(adapters=[(str(path), 1.0)])
one, two = draw(with_lora, parts=parts).image, draw(recipe, parts=by_hand).image

theirs.load_lora_weights(path.parent, weight_name=path.name)
three = plainly()

# %%
show.pictures(
    [one, two, three],
    ["beside the weights (PEFT)", "written into them, by hand", "Diffusers' load_lora_weights"],
    alt="Three equal postcards in chalk: a small sailboat on the sea.",
    caption="A LoRA is this sum, and nothing else.",
    columns=3,
    side=160,
)

# %% tags=["nbval-ignore-output"]
rounding = 2 + here.tolerance  # two orders of the same sums, over twenty steps
print(f"PEFT against the arithmetic: {largest_difference(one, two)}/255; against Diffusers: {largest_difference(one, three)}/255")
assert largest_difference(one, two) <= rounding and largest_difference(one, three) <= rounding

# %% [markdown]
# The two orders of adding differ in the last bits: $Wx + sB(Ax)$ is rounded elsewhere than $(W + sBA)x$. That is the only
# difference there is.
#
# ## Rank against quality
#
# What does more rank buy? Hu et al. (Section 7.2) were surprised themselves: on their tasks a rank of 1 did about as well as
# 64, at least where several matrices of the attention were adapted. They add that they do not expect it of every task.
#
# ### Predict
#
# The same thirty pictures, the same plan, ranks from 1 to 32. Quality is the *error on unseen chalk pictures*: the mean squared
# error of the denoiser's prediction, on the same noise for all. The base has an error, the best of the ranks the smallest. Rank
# 1 trains a thirty-second of what rank 32 trains. Of the improvement that the best brings, how many per cent does it reach?

# %%
my_prediction = ...  # per cent of the improvement that the best rank brings

# %% tags=["nbval-ignore-output"]
from chapter38.check import guess

sweep = show.sweep("38_1e")
ranks = sweep["ranks"]
left = {row["rank"]: row["error"][0] for row in ranks}  # share of the base's error that is left
best = min(left, key=left.get)
reached = 100 * (1 - left[1]) / (1 - left[best])
guess(my_prediction, reached, "per cent", "a style is a few directions in each layer, and there are many layers.", within=0.1)

# %%
fig, ax = show.axes("rank", "error left (share of the base's)", "Rank 1 already takes away most of the error")
x = [row["rank"] for row in ranks]
value, low, high = np.array([row["error"] for row in ranks]).T
ax.errorbar(x, value, [value - low, high - value], marker="o", color="#0072B2", capsize=3)
ax.set_xscale("log", base=2)
ax.set_xticks(x, x)
ax.axhline(1, color="#666666", linestyle="--", linewidth=1)
ax.annotate("no LoRA", (x[-1], 1), ha="right", va="bottom", color="#444444")
ax.set_ylim(0, 1.1)
said = "; ".join(f"rank {rank} {error:.2f}" for rank, error in left.items())
show.figure(
    fig,
    alt=f"Error on unseen pictures against rank, with intervals: {said}; without a LoRA 1.",
    caption="95 % intervals; where none is seen, it is smaller than the marker.",
)

# %%
rows = [
    {"rank": row["rank"], "trained": f"{row['trained']:,}", "error left": "{:.3f} [{:.3f}, {:.3f}]".format(*row["error"]),
     "distance from the inks": "{:.1f} [{:.1f}, {:.1f}]".format(*row["inks"]),
     "right object": "{:.0%} [{:.0%}, {:.0%}]".format(*row["object"])}
    for row in ranks
]  # fmt: skip
show.table(rows, f"{sweep['pictures']} unseen scenes, 95 % intervals; measured {sweep['date']} with {sweep['weights']}.")

# %%
colours = {row["rank"]: row["inks"][0] for row in ranks}
print(f"least error: rank {best}; nearest to the inks: rank {min(colours, key=colours.get)}; rank 1 reaches {reached:.0f} %")
assert reached > 80 and best < max(left)
assert colours[1] > colours[max(left)]

# %% [markdown]
# Three things came out, and only the first is the paper's. Measured by the error, rank 1 does most of the work. The largest rank
# is not the best on pictures that it never saw. And measured by the colours of what is drawn, rank still helps: the inks are hit
# more closely. So "how much rank?" has no answer before you say what for.
#
# Mind what this does not show. Each rank was trained once, with one plan for all: the intervals cover the noise of the
# measuring, not the luck of a training, and another rate may suit another rank. An object that the model never saw may need more
# rank than a style that recolours everything.
#
# ## How much of it: the weight
#
# A LoRA is a sum, so it can be added by halves. The [recipe](../book/glossary.md#recipe) has a weight for each adapter. From
# here on the folder's name is enough.

# %%
amounts = [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
weighed = [drawn(("chalk", w), of=recipes[:2]) for w in amounts]
show.pictures(
    [pair[i] for i in range(2) for pair in weighed],
    [f"weight {w:g}" for _ in range(2) for w in amounts],
    alt="Two prompts at seven weights from 0 to 1.5: from full colours to chalk at 1; above, colours that are neither.",
    caption="At 0 the base, at 1 what was trained, above 1 more than anybody trained.",
    columns=7,
    side=104,
)

# %%
show.slider(
    [pair[1] for pair in weighed],
    [f"weight {w:g}" for w in amounts],
    alt="A postcard of a sailboat at seven weights of the LoRA, from full colours at 0 to chalk at 1 and past it at 1.5.",
    name="weight of the LoRA",
)

# %% tags=["nbval-ignore-output"]
nearness = {w: to_inks(pair, "chalk").mean() for w, pair in zip(amounts, weighed)}
fig, ax = show.axes("weight", "distance from the inks (levels of 255)", "The style does not come in proportion to the weight")
ax.plot(list(nearness), list(nearness.values()), marker="o", color="#0072B2")
ax.set_ylim(0)
said = ", ".join(f"{value:.0f} at {w:g}" for w, value in nearness.items())
show.figure(fig, alt=f"Distance of the colours from the four inks against the LoRA's weight: {said}.")

# %% tags=["nbval-ignore-output"]
for with_none, without in zip(weighed[0], drawn(of=recipes[:2])):
    assert largest_difference(with_none, without) <= here.tolerance  # at 0 it is the base, bit for bit
assert nearness[0] > nearness[0.5] > nearness[1.0]
quarters = -np.diff([nearness[w] for w in amounts[:5]])
print("nearer to the inks with each quarter of the weight:", np.round(quarters))
assert quarters.max() > 1.5 * quarters.min()

# %% [markdown]
# The correction grows in proportion, the picture does not: between them lies a network that is no straight line, twenty times
# in a row. Weights above 1 and below 0 are allowed, and are guesses; nobody trained them.
#
# ## Two at once: the sum of two corrections
#
# In 38.1a you asked for a dragon, and the model had never seen one. The same holds for a windmill, and for that one a LoRA
# ships with the course: a *subject* beside your *style*.

# %%
print("ships with the course:", ", ".join(adapters.available()))
hub = "artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5/PixelArtRedmond15V-PixelArt-PIXARFK.safetensors"
subject = "windmill" if here.name != "real" else hub
mill = Recipe(prompt="a big red windmill in the middle, on the grass, by day", seed=4, model=here.model)
both = [("chalk", 1.0), (subject, 1.0)]
four = [draw(mill.but(adapters=loras), parts=parts).image for loras in ([], both[1:], both[:1], both)]
show.pictures(
    four,
    ["the base", "windmill", "chalk", "both"],
    alt="The same prompt for a windmill four times: the base draws something that is none, the subject LoRA draws a windmill, "
    "the style LoRA draws the base's thing in chalk, both together draw a windmill in chalk.",
    caption="A subject and a style, each from its own file, in one picture.",
    columns=4,
    side=160,
)

# %% [markdown]
# Each of the two has its price. Whoever shipped the windmill has measured it, and the figures stand on its card.

# %%
from chapter38.code.examine import describe, examine

card = examine(adapters.find(subject))
for what, value in card.figures.items():
    print(f"{what}: {value}")
if here.name != "real":
    other = {name: float(card.figures[f"other scenes, all six right, {name}"].split()[0]) for name in ("base", "with the LoRA")}
    assert other["with the LoRA"] < other["base"]

# %% [markdown]
# It draws windmills, and most other scenes stay as they were asked for, though not all. The first one that was trained for this
# course had thirty pictures of windmills and nothing else; of the other scenes it left 39 % right (its card of 2026-11-24). For
# what is always so is what a LoRA learns: "draw a windmill, whatever is asked". So ten of the thirty now show other things, as
# DreamBooth mixes pictures of the whole class into its training ([arXiv:2208.12242](https://arxiv.org/abs/2208.12242)), and it
# learns at half the rate.
#
# Now the sum. Two LoRAs beside one weight are $W + s_1 B_1 A_1 + s_2 B_2 A_2$. Your lines can say that too: write both into one base.

# %% tags=["nbval-ignore-output"]
if here.name != "real":  # the Hub's file is spelled otherwise than the lines above read; more on that below
    stacked = here.load()
    add_by_hand(stacked, path)
    add_by_hand(stacked, adapters.find(subject), alpha=float(*card.alphas))
    by_sum = draw(mill, parts=stacked).image
    print(f"two LoRAs through PEFT against the sum by hand: {largest_difference(four[3], by_sum)}/255")
    assert largest_difference(four[3], by_sum) <= rounding

# %% [markdown]
# ## A misconception: the order of LoRAs matters
#
# In ComfyUI the LoRAs hang in a chain, one loader behind the other, and it looks as if each worked on the result of the one
# before. What kills it is the formula: a sum has no order.

# %% tags=["nbval-ignore-output"]
turned = draw(mill.but(adapters=both[::-1]), parts=parts).image
print(f"chalk, windmill against windmill, chalk: {largest_difference(four[3], turned)}/255")
assert largest_difference(four[3], turned) <= rounding

# %% [markdown]
# What does matter is that both push on the same layers. Where their corrections point against each other, each spoils the
# other, in either order. Lower weights help; order does not.
#
# ## Merging: it costs nothing at run time
#
# Beside the weights, every adapted layer computes twice: $Wx$, and $B(Ax)$. Added *into* the weights it does not. The paper's
# claim is "no additional inference latency". Count operations first; they do not depend on the machine.

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

words = parts.encode([recipe]).embeddings
noisy = torch.zeros(2, 4, size[1] // 8, size[0] // 8, dtype=parts.dtype, device=parts.device)


@torch.no_grad()
def operations():
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the one attention that it counts
        unet(noisy, 500, encoder_hidden_states=words)
    return counter.get_total_flops()


# %% tags=["nbval-ignore-output"]
puts = {"none": adapters.detach, "beside": lambda p: adapters.attach(p, ["chalk"]), "merged": lambda p: adapters.merge(p, ["chalk"])}
cost = {}
for name, put in puts.items():
    put(parts)
    cost[name] = operations()
merged = draw(recipe.but(adapters=["chalk"]), parts=parts).image  # the same LoRA as is merged: it stays merged
print("operations of a step, against none:", {name: f"{value / cost['none']:.3f}" for name, value in cost.items()})
print(f"merged against beside: {largest_difference(merged, one)}/255")

# %%
assert cost["beside"] > cost["merged"] == cost["none"]
assert largest_difference(merged, one) <= rounding

# %% [markdown]
# Merged, it is the base's own network with other numbers in it. And the clock? Seconds belong to a machine, so they were
# taken once, in turns: a picture with none, one beside, one merged, and again. A ratio of neighbours leaves out what else the
# machine was doing.

# %%
timed = sweep["seconds"]
rows = [{"LoRA": name, "time against none": "{:.2f} [{:.2f} to {:.2f}]".format(*timed[name])} for name in ("beside", "merged")]
show.table(rows, f"Median of {timed['rounds']} pairs, smallest and largest; {sweep['machine']}, measured {sweep['date']}.")

# %%
assert timed["beside"][1] > 1  # beside costs something in every pair
assert timed["merged"][1] < 1 < timed["merged"][2]  # merged, one is within the spread
if here.timing:
    from time import perf_counter

    for name, put in puts.items():
        put(parts)
        began = perf_counter()
        operations()
        print(f"here and now, one step, {name}: {1000 * (perf_counter() - began):.0f} ms")

# %% [markdown]
# The claim holds: 1 lies within the spread of the merged pairs. What merging takes from you is the dial: the weight is baked in,
# and so is the choice of LoRAs.
#
# ### Taking it off again
#
# Subtract what you added, says arithmetic. Floating point says otherwise. Try it on one layer.

# %% tags=["nbval-ignore-output"]
adapters.detach(parts)
W = unet.mid_block.resnets[0].conv1.weight.detach()
delta = torch.randn(W.shape, generator=torch.Generator().manual_seed(0)).to(W) * W.std()
back = (W + delta) - delta
print(f"{(back != W).float().mean():.0%} of the weights differ after adding and subtracting, by at most {(back - W).abs().max():.0e}")
assert not torch.equal(back, W)

# %% [markdown]
# Small, but every swap leaves more of it. So `adapters.merge` keeps the weights that it overwrites, and `detach` gives them
# back. Take a fingerprint of all weights before and after.

# %% tags=["nbval-ignore-output"]
import hashlib


def fingerprint():
    return hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in unet.parameters())).hexdigest()[:12]


before = fingerprint()
adapters.merge(parts, [("chalk", 0.7), (subject, -0.3)])
between = fingerprint()
adapters.detach(parts)
print("base", before, "· merged", between, "· detached", fingerprint())
assert before == fingerprint() != between

# %% [markdown]
# Beware of one order of calls in Diffusers: `fuse_lora()`, then `unload_lora_weights()`. The second takes the LoRA's matrices
# away; what the first has written into the weights stays. Ask the plain pipeline, from which everything was "unloaded".

# %% tags=["nbval-ignore-output"]
theirs.fuse_lora()
theirs.unload_lora_weights()
still = plainly()
print("adapters that Diffusers knows of:", theirs.get_active_adapters())
print(f"distance from the inks: base {to_inks([base[1]], 'chalk')[0]:.0f}, after fuse and unload {to_inks([still], 'chalk')[0]:.0f}")
assert largest_difference(still, base[1]) > 20

# %% [markdown]
# ## The formats in the wild
#
# Same A and B, written down in three ways. Diffusers keeps PEFT's names and puts alpha into the file's metadata. The trainers of
# the kohya family join a module's name with underscores and give alpha a tensor of its own. ComfyUI's way names the layers
# as the original Stable Diffusion code did.

# %%
from chapter38.code import lorafile
from chapter38.code.weightfile import read_header

modules = adapters.base_of(parts)
lora = lorafile.load(path, modules)
files = {name: lorafile.save(lora, f"chalk-{name}.safetensors", name, modules) for name in lorafile.SPELLINGS}
keys = {name: next(key for key in read_header(file).tensors if "to_q" in key and "alpha" not in key) for name, file in files.items()}
show.table([{"spelling": name, "one factor of one layer": key} for name, key in keys.items()], "One matrix, three names.")

# %% [markdown]
# `lorafile.convert` goes from any to any. Nothing is lost on the way: A, B and alpha come back bit for bit.

# %%
for start in files:
    for target in files:
        there = lorafile.convert(files[start], "there.safetensors", target, modules)
        assert lorafile.load(lorafile.convert(there, "back.safetensors", start, modules), modules) == lora
print(f"{len(files)} spellings, there and back {len(files) ** 2} times: {len(lora)} modules equal, alpha included")

# %% [markdown]
# ## Why does this LoRA not load?
#
# It is the question that users ask most, and most programs answer it with silence. The package reads the file's *header* and
# says what each program will leave out. On the command line: `chapter38 inspect FILE.safetensors`.

# %%
print(*describe(examine(path)), sep="\n")

# %%
reports = {name: examine(file) for name, file in files.items()}
rows = [{"spelling": name, **{program: loss.verdict for program, loss in r.will_not_load.items()}} for name, r in reports.items()]
show.table(rows, "The same LoRA: which program takes which spelling.")

# %% [markdown]
# **Reason 1: a spelling that the program does not look for.** Diffusers refuses ComfyUI's spelling with an error. ComfyUI does
# something worse to PEFT's: it takes the keys that it happens to know, here those of the convolutions, and passes over the
# attention with a line in its log. Draw what is left.

# %%
deaf = {lorafile.split(key)[0] for keys in reports["peft"].will_not_load["comfyui"].keys.values() for key in keys}
heard = {place: low for place, low in lora.items() if f"unet.{place[1]}" not in deaf}
partly = lorafile.save(heard, "heard.safetensors", "kohya", modules)
print(f"ComfyUI would take {len(heard)} of {len(lora)} modules from the file that Diffusers saved")
maimed = drawn((str(partly), 1.0), of=recipes[:2])
whole = drawn(("chalk", 1.0), of=recipes[:2])

# %% [markdown]
# **Reason 2: alpha got lost.** Somebody copies the tensors and forgets the metadata. The file loads, without a warning. But
# without an alpha every program takes the rank for it, and ours was not the rank.

# %%
from safetensors.torch import save_file

save_file(load_file(path), "copied.safetensors")
faded = drawn(("copied.safetensors", 1.0), of=recipes[:2])
halved = drawn(("chalk", plan.rank / plan.alpha), of=recipes[:2])
show.pictures(
    [image for pair in zip(whole, maimed, faded, halved) for image in pair],
    ["the LoRA", "what ComfyUI takes of it", "alpha lost", f"weight {plan.rank / plan.alpha:g}"] * 2,
    alt="Two prompts, four times each: in chalk; with the convolutions' share of the LoRA, off in colour; with alpha lost, half "
    "in chalk; and equal to that, the whole LoRA at half weight.",
    caption="Three files that 'load'. The last two columns are equal: a lost alpha is a weight that nobody chose.",
    columns=4,
    side=144,
)

# %%
assert largest_difference(faded[0], halved[0]) <= rounding
assert to_inks(faded, "chalk").mean() > to_inks(whole, "chalk").mean() < to_inks(maimed, "chalk").mean()
print("alpha in the copy:", examine("copied.safetensors").alphas or "not stored", "· in the file:", examine(path).alphas)

# %% [markdown]
# **Reason 3: it was made for another base.** A LoRA is a difference, and a difference means nothing without what it was taken
# from. Here is one with the shapes of Stable Diffusion 1.5.

# %%
from chapter38.code.lorafile import Low
from chapter38.code.weightfile import Tensor
from chapter38.errors import AdapterError

other = shapes.base("sd15" if here.model != "sd15" else "sdxl")
common = [place for place in modules.modules if place in other.modules and place[1].endswith("to_q")]
blank = {p: Low(Tensor.of(np.ones((4, other.modules[p].shape[1]))), Tensor.of(np.zeros((other.modules[p].shape[0], 4))), 4) for p in common}
stranger = lorafile.save(blank, "stranger.safetensors", "kohya", other)
try:
    adapters.attach(parts, [str(stranger)])
except AdapterError as error:
    print(error)

# %%
report = examine(stranger, here.model)
print("made for", report.base)
for program, loss in report.will_not_load.items():
    print(f"{program:9} with {report.against}: {loss.verdict}: {next(iter(loss.keys))}")
assert "sd15" in report.base or here.name == "real"

# %% [markdown]
# Shapes catch the coarse mismatch only. Two models of one shape, such as Stable Diffusion 1.5 and its many fine-tunes, take each
# other's LoRAs. Most work there, because the fine-tune is still near its base. Nothing in the file tells you how near.

# %% [markdown]
# ## On a real model
#
# With `show.profile("sd15")` the cells above train Stable Diffusion 1.5 on your thirty pictures. This one takes a LoRA from the
# Hub, looks at its header first, and draws with it. (Its card names the words that wake it, and a licence; read both.)

# %%
if here.name == "real":
    print(*describe(examine(adapters.find(hub), here.model))[:6], sep="\n")
    wild = recipe.but(prompt="a lighthouse, Pixel Art, PixArFK")
    each = [draw(wild.but(adapters=[(hub, w)]), parts=parts).image for w in (0, 0.5, 1)]
    display(show.pictures(each, ["weight 0", "0.5", "1"], alt="A lighthouse at three weights of a LoRA from the Hub.", side=256))
else:
    print("not a real model: nothing was downloaded")

# %% [markdown]
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | SD 1.5, SDXL | the sum; weights; two at once; merging; all three reasons not to load | the share: a few tenths of a per cent at rank 8 here, because their layers are wide |
# | SD 1.5, SDXL | thirty pictures are enough for a style | minutes on a GPU instead of a minute on a CPU; and whoever trains the text encoder too has to convert its names as well |
# | half precision | the pictures, to a few 255ths | merged and unmerged differ more: the sum is rounded to half precision once more |
# | FLUX, SD 3.5, video | low rank beside the attention of a transformer | the names: `lora_transformer_…`, `transformer.…`; this package reads their headers, and draws with LoRAs on U-Nets only |
# | LoHa, LoKr, DoRA | a file of corrections (the first two: [arXiv:2309.14859](https://arxiv.org/abs/2309.14859)) | they are no plain B·A; `chapter38 inspect` names them, and a loader has to know them |
#
# **On real models** (GPU, date, revision): `train_lora` on SD 1.5 in its full size, with random weights, in float16 stayed
# finite, lowered its loss and took less than 14 GiB, a T4's memory, on an H100 (2026-11-26). A LoRA from the Hub on the trained
# SD 1.5, and the thirty pictures on a T4: *not yet run*.

# %% [markdown]
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# Two layers of a U-Net, and a LoRA of rank 4 on each. How many numbers are trained on the linear layer (160 outputs, 96 inputs),
# how many on the convolution (160 outputs, 320 inputs, a window of 3 × 3)? On paper first.

# %%
from chapter38.check.lesson_1e import check_bake, check_counts, check_sum

counts = {"linear": ..., "conv": ...}

check_counts(counts)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# counts = {"linear": 4 * (160 + 96), "conv": 4 * (160 + 320 * 9)}  # A carries the window, B is 1 x 1
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# A colleague's tool has no field for a weight, and your LoRA is right at 0.6. Write `my_bake(lora, weight)`: a LoRA that does at
# weight 1 what the given one does at `weight`. `lora` is what `lorafile.load` gives: a dict from a module's place to a `Low`
# with `down` (A), `up` (B) and `alpha`. A `Low` is frozen; `dataclasses.replace` makes a changed copy.

# %%
my_bake = ...  # def my_bake(lora, weight): ...

check_bake(my_bake)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_bake(lora, weight):  # the correction is alpha / rank * B @ A: scale one of its factors, and only one
#     return {place: replace(low, alpha=low.alpha * weight) for place, low in lora.items()}
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Two LoRAs in one file. Write `my_sum(A1, B1, s1, A2, B2, s2)`: the factors `(A, B)` of one LoRA whose correction `B @ A` is
# `s1 * B1 @ A1 + s2 * B2 @ A2`, with as small a rank as you can promise. All are NumPy arrays, A of shape (rank, inputs), B of
# shape (outputs, rank).

# %%
my_sum = ...  # def my_sum(A1, B1, s1, A2, B2, s2): ...

check_sum(my_sum)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_sum(A1, B1, s1, A2, B2, s2):  # side by side: the inner size is r1 + r2, and no term crosses
#     return np.concatenate([A1, A2]), np.concatenate([s1 * B1, s2 * B2], axis=1)
# ```
#
# </details>

# %% [markdown]
# ## Three lines to remember
#
# 1. A LoRA is a sum: $W + s\,\frac{\alpha}{r}BA$. Weight, order, stacking and merging all follow from that.
# 2. The captions say what a picture shows; what they leave unsaid is what the LoRA learns.
# 3. "It loads" is no proof. Look at the header: which base, which spelling, which alpha.
#
# ## Where next
#
# - [38.1f](38_1f_controlnet.ipynb): steer the layout with a ControlNet, and combine it with your LoRA.
#   [38.2b](38_2b_workflow_export.ipynb): the same recipe as a workflow.
# - [38.1b](38_1b_scheduler_swaps.ipynb), if you came here first: what a swap can change that needs no training.
# - Before you train on somebody's pictures or face: [responsible use](../book/responsible-use.md).
# - The words of this lesson: [adapter](../book/glossary.md#adapter), [LoRA](../book/glossary.md#lora),
#   [rank](../book/glossary.md#rank), [alpha](../book/glossary.md#alpha-lora), [merge](../book/glossary.md#merge),
#   [fine-tuning](../book/glossary.md#fine-tuning), [safetensors](../book/glossary.md#safetensors).
#
# <details><summary>For instructors</summary>
#
# **Time:** 60 minutes with exercises, 35 without; two minutes of it the machine's. **Say first:** draw a large square and two
# thin strips beside it, and let the class count. **Where it sticks:** that the captions must *not* name the style; that alpha
# and weight are one factor; that "loads without an error" says nothing. **To discuss:** thirty pictures by a living artist
# are enough. What would you ask, and whom? **To grade:** exercises 2 and 3 through `check_bake` and `check_sum`; both return
# an object that is true when the answer is right. Ask for the loss curve and say why it proves little.
#
# </details>
