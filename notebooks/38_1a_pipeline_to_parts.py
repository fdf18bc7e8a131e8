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
# # 38.1a · From one line to five parts
#
# **Routes:** ★ core · 90 minutes · everything. **Section:** 38.1, the Code rung.
#
# One line of Diffusers draws a picture. In this lesson you take that line apart, put it together again with your own
# hands, and check that not a single bit of the picture changed.
#
# ## What you will be able to do
#
# - name the five parts of a latent diffusion pipeline, and say what goes into each and what comes out;
# - write the sampling loop yourself, with guidance as the one line of arithmetic that it is;
# - say what each part costs, and why the loop runs in [latents](../book/glossary.md#latents) and not in pixels;
# - choose between the pipeline, a callback, a community pipeline and the parts.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. A diffusion model is trained to undo noise. What does it see at its input, beside the noisy picture?
# 2. What does an autoencoder's encoder throw away, and what does it keep?
#
# <details><summary>Answers</summary>
#
# 1. How noisy the picture is (the timestep) and what the picture should show (the conditioning: here, a text). Without
#    the first it could not know how much to remove. See [Diffusion](../book/refresher.md#diffusion).
# 2. It keeps what the decoder needs to rebuild the picture, layout first; it throws away detail that costs many
#    numbers and changes little to the eye. See [Latent diffusion](../book/refresher.md#latent-diffusion).
#
# </details>
#
# If either surprised you, read those two sections of the [refresher](../book/refresher.md) first; ten minutes do.
#
# ## What it costs
#
# | | postcards, laptop CPU | Stable Diffusion 1.5, GPU with 8 GB |
# |---|---|---|
# | switch | none | `show.profile("sd15")` in the second cell |
# | time | under a minute on two cores | not yet run |
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
import torch

from chapter38 import Recipe, show

here = show.profile("postcards")  # on a GPU: "sd15", or any name of the registry that is shaped like it
parts = here.load()
print(here)

# %% [markdown]
# ## The naive way: one line
#
# A [recipe](../book/glossary.md#recipe) says what to draw. `parts.pipeline` is an unmodified
# `diffusers.StableDiffusionPipeline`; nothing of this course stands between you and it.

# %%
recipe = Recipe(prompt="a small red sailboat on the left, on the sea, at sunset", seed=38, model=here.model)
pipeline = parts.pipeline


def one_line(prompt, guidance=recipe.guidance, **more):
    return pipeline(
        prompt, num_inference_steps=recipe.steps, guidance_scale=guidance, width=recipe.width, height=recipe.height,
        generator=torch.Generator().manual_seed(recipe.seed), **more,
    ).images  # fmt: skip


picture = one_line(recipe.prompt)[0]
print(type(pipeline).__name__, picture.size)

# %% [markdown]
# ## What goes wrong: you cannot tell which part is to blame
#
# The same line, another prompt. This time you ask for a dragon.

# %%
dragon = one_line("a red dragon on the sea, at sunset")[0]
show.pictures(
    [picture, dragon],
    ["the sailboat", "the 'dragon'"],
    alt="Two postcards. Left: a small red sailboat on the sea at sunset. Right: the same sea with a red shape "
    "that is no dragon.",
    caption="One prompt is obeyed, the other is not, and the pipeline reports neither.",
    side=192,
)

# %% [markdown]
# Postcards never saw a dragon, so there is none. But the line raised nothing and warned of nothing. Did the tokenizer
# drop the word? Did the text encoder garble it? Did the denoiser ignore it? From outside you cannot know, and you
# cannot mend what you cannot see.
#
# ## The library's way: five parts
#
# A pipeline is a container. Look inside.

# %%
tokenizer, text_encoder, unet = pipeline.tokenizer, pipeline.text_encoder, pipeline.unet
scheduler, vae = pipeline.scheduler, pipeline.vae

# %%
turns = {
    "tokenizer": "text into numbers",
    "text_encoder": "numbers into vectors, one for each place",
    "unet": "noisy latents, time and vectors into a prediction: the denoiser",
    "scheduler": "a prediction into latents with a little less noise",
    "vae": "latents into pixels, and back",
}
rows = []
for name, turned in turns.items():
    part = pipeline.components[name]
    weights = sum(p.numel() for p in part.parameters()) / 1e6 if hasattr(part, "parameters") else 0
    rows.append({"part": name, "class": type(part).__name__, "weights": f"{weights:.2f} M", "turns": turned})
show.table(rows, "Three networks and two pieces of arithmetic; nearly all weights are in the denoiser.")

# %% [markdown]
# ### 1. The tokenizer: text to numbers
#
# It splits the prompt into pieces from a fixed list, frames them with a start and an end mark, and fills up to the
# encoder's [context](../book/glossary.md#context-of-a-text-encoder). What do you expect it does with a word that is
# not on the list?

# %%
ids = tokenizer(
    recipe.prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
).input_ids
print("ids:", tuple(ids.shape), ids[0, :8].tolist(), "...")
for word in ("sailboat", "dragon"):
    print(f"{word:9}", tokenizer.tokenize(word))

# %% [markdown]
# On postcards *sailboat* is one piece, and *dragon* falls into pieces, the last of which is the little word *on*. No
# error: any text can be spelled with small enough pieces. So the tokenizer did its work, and passed on nonsense. That
# is the first half of the answer.

# %%
if here.name != "real":
    assert len(tokenizer.tokenize("sailboat")) == 1 < len(tokenizer.tokenize("dragon"))

# %% [markdown]
# ### 2. The text encoder: numbers to vectors
#
# One vector for each place of the context. You need them twice: for the prompt, and for the empty text, which stands
# for "no prompt at all".


# %%
@torch.no_grad()
def say(text):
    ids = tokenizer(
        text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return text_encoder(ids.to(parts.device))[0]


words, silence = say(recipe.prompt), say("")
print("words  ", tuple(words.shape), "(pictures, places, width)")
print("silence", tuple(silence.shape))

# %% [markdown]
# ### 3. Noise: where the seed lives
#
# The picture starts as noise of the latents' shape: four channels, an eighth of the picture's width and height. The
# seed decides this tensor and nothing else.

# %%
shape = (1, unet.config.in_channels, recipe.height // 8, recipe.width // 8)
noise = torch.randn(shape, generator=torch.Generator().manual_seed(recipe.seed), dtype=parts.dtype).to(parts.device)
pixels = 3 * recipe.height * recipe.width
print("noise", tuple(noise.shape), f"= {noise.numel()} numbers")
print(f"the picture has {pixels}: {pixels // noise.numel()} times as many")

# %% [markdown]
# ### 4. The scheduler: how noisy, in how many steps
#
# It holds the training's [noise schedule](../book/glossary.md#noise-schedule) and picks the
# [timesteps](../book/glossary.md#timestep) at which the denoiser is asked. It has no weights: lesson 38.1b swaps it
# freely.

# %%
scheduler.set_timesteps(recipe.steps)
print("timesteps ", [int(t) for t in scheduler.timesteps])
print("predicts  ", scheduler.config.prediction_type)

# %% [markdown]
# ### 5. The denoiser: one prediction
#
# Ask it once, at the first timestep, with and without the prompt. What it predicts is a tensor of the latents' shape.
# Its meaning is a convention that the weights were trained with; postcards predict
# [v](../book/glossary.md#v-prediction), a mixture of noise and picture, and the scheduler's config says so.

# %%
t = scheduler.timesteps[0]
x = scheduler.scale_model_input(noise * scheduler.init_noise_sigma, t)
with torch.no_grad():
    with_prompt = unet(x, t, encoder_hidden_states=words)[0]
    without = unet(x, t, encoder_hidden_states=silence)[0]
difference = (with_prompt - without).norm() / without.norm()
print("prediction", tuple(with_prompt.shape), f"· the prompt changes it by {difference:.0%} of its size")

# %% [markdown]
# ### Guidance is arithmetic
#
# You have two predictions: what the denoiser says when it hears the prompt, and what it says when it hears nothing.
# [Classifier-free guidance](../book/glossary.md#classifier-free-guidance) walks from the second through the first, and
# past it:
#
# $$\text{guided} = \text{without} + g\,(\text{with} - \text{without})$$
#
# At $g = 0$ the prompt is not heard. At $g = 1$ it is heard as trained. Above 1 it is exaggerated. No network knows
# $g$.


# %%
def guided(with_prompt, without, g):
    return without + g * (with_prompt - without)


assert torch.equal(guided(with_prompt, without, 0.0), without)
assert torch.allclose(guided(with_prompt, without, 1.0), with_prompt, atol=1e-2 if parts.dtype == torch.float16 else 1e-5)

# %% [markdown]
# ### The loop by hand
#
# Now everything is on the table, and the loop is six lines. Both predictions come from one call: the two halves of a
# batch of two, the empty text first, as Diffusers does.


# %%
@torch.no_grad()
def loop(g, words=words):
    scheduler.set_timesteps(recipe.steps)
    latents = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        without, with_prompt = unet(x, t, encoder_hidden_states=torch.cat([silence, words]))[0].chunk(2)
        latents = scheduler.step(guided(with_prompt, without, g), t, latents)[0]
    return latents


latents = loop(recipe.guidance)
print("latents", tuple(latents.shape), f"standard deviation {latents.std():.1f}")

# %% [markdown]
# ### 6. The VAE: latents to pixels
#
# One number is easy to forget here: the [scaling factor](../book/glossary.md#scaling-factor), by which the latents
# were multiplied in training to have unit variance. Divide by it before you decode.


# %%
@torch.no_grad()
def decode(latents):
    x = vae.decode(latents / vae.config.scaling_factor)[0]
    return pipeline.image_processor.postprocess(x, output_type="pil")


by_hand = decode(latents)[0]
print("picture", by_hand.size)

# %% [markdown]
# ## Proof: bit for bit
#
# Is it the same picture? Not "looks the same": count the pixels that differ.

# %%
from chapter38.measure.pixels import largest_difference

difference = largest_difference(by_hand, picture)
print(f"largest difference: {difference}/255, allowed: {here.tolerance}/255")
assert difference <= here.tolerance

# %%
show.pictures(
    [picture, by_hand],
    ["one line", "five parts"],
    alt="Two equal postcards of a small red sailboat on the sea at sunset: left from the pipeline, right from "
    "the loop by hand.",
    caption="The pipeline is these parts and this loop; there is nothing else in it.",
    side=192,
)

# %% [markdown]
# And the dragon? The parts now answer. The tokenizer spelled it, the encoder turned the spelling into vectors, and the
# denoiser was never taught what such vectors look like. The fault lies in what the denoiser learned; neither a longer
# prompt nor more steps will mend it. (Training will: lesson 38.1e.)

# %% [markdown]
# ## What guidance does
#
# Since $g$ is a number in your loop, you can turn it. Before you run the cell: what do you expect at 0?

# %%
scales = (0.0, 1.0, recipe.guidance, 3 * recipe.guidance)
drawn = [decode(loop(g))[0] for g in scales]
show.pictures(
    drawn,
    [f"g = {g:g}" for g in scales],
    alt="The same noise at guidance 0, 1, the model's own scale and three times that: from a scene of the "
    "model's own choice to a strongly coloured sailboat.",
    caption="At 0 the denoiser draws what it likes; the model's own scale follows the prompt; three times as much "
    "overdoes it.",
    columns=4,
    side=160,
)

# %%
scales_between = [factor * recipe.guidance for factor in (0, 0.125, 0.25, 0.5, 0.75, 1, 1.5, 2, 3)]
show.slider(
    [decode(loop(g))[0] for g in scales_between],
    [f"guidance {g:g}" for g in scales_between],
    alt="The same noise from guidance 0 to three times the model's own: the sailboat appears, then its colours harden.",
    name="guidance",
)

# %% [markdown]
# At $g=0$ you see a scene that nobody asked for. Should something in it fit the prompt, then by luck: the prompt's term
# is multiplied by zero. Prove it: any other words give the same picture.

# %%
assert largest_difference(decode(loop(0.0, say("a green car in the snow")))[0], drawn[0]) <= here.tolerance

# %% [markdown]
# ## Latents are small pictures
#
# What does the denoiser work on? Look at the four channels of the result, beside the picture they decode to. Then ask
# how much of the picture's colour is there already: fit one linear map from four channels to red, green and blue.

# %%
import numpy as np
from PIL import Image

height, width = latents.shape[-2:]
flat = latents[0].float().cpu().numpy().reshape(4, -1).T
flat = np.column_stack([flat, np.ones(len(flat))])
colour = np.asarray(by_hand.resize((width, height), Image.Resampling.BOX)).reshape(-1, 3)
map_, *_ = np.linalg.lstsq(flat, colour, rcond=None)
explained = 1 - ((flat @ map_ - colour) ** 2).sum() / ((colour - colour.mean(0)) ** 2).sum()
print(f"a linear map of four channels explains {explained:.0%} of the colours of the small picture")
assert explained > 0.6

# %%
grey = [
    Image.fromarray(np.uint8(255 * (c - c.min()) / np.ptp(c))) for c in latents[0].float().cpu().numpy()
]
linear = Image.fromarray(np.uint8((flat @ map_).clip(0, 255)).reshape(height, width, 3))
show.pictures(
    [*grey, linear, by_hand],
    ["channel 0", "channel 1", "channel 2", "channel 3", "linear map", "decoded"],
    alt="Four grey 16 by 16 pictures in which horizon and boat can be made out, a coarse coloured picture "
    "from a linear map of them, and the decoded postcard.",
    caption="Latents keep the layout: place and colour are there before the decoder adds the detail.",
    columns=6,
)

# %% [markdown]
# So the VAE is no compressor of the zip kind. It is a way to see the picture coarsely, in four "colours", at an eighth
# of the size. What does that cost in quality? Encode a picture and decode it again, with no diffusion between.

# %%
from chapter38.code.parts import images, pixels as to_tensor
from chapter38.measure.pixels import psnr
from chapter38.postcards import Scene

original = Scene("house", "yellow", sky="day", ground="grass", size="big", seed=3).picture().resize(picture.size)
there = parts.to_latents(to_tensor([original], *original.size))
back = images(parts.to_pixels(there))[0]
print(f"{original.width}x{original.height} picture -> {tuple(there.shape)} -> picture: PSNR {psnr(original, back):.1f} dB")
assert psnr(original, back) > 25

# %% [markdown]
# ## The film strip
#
# The package keeps the loop of this lesson as a generator, `chapter38.code.denoise`: it yields every step, so that you
# can look without writing the loop again. Each step holds the noisy latents and [x0](../book/glossary.md#x0), the
# finished picture as the denoiser would guess it at that moment.

# %%
from chapter38.code import denoise

steps = list(denoise(parts, recipe))
assert largest_difference(decode(steps[-1].latent.to(parts.dtype))[0], picture) <= here.tolerance
guesses = [decode(step.x0.to(parts.dtype))[0] for step in steps]

# %%
chosen = [round(i * (len(steps) - 1) / 6) for i in range(7)]
noisy = [decode(steps[i].latent / steps[i].latent.std())[0] for i in chosen]
show.pictures(
    noisy + [guesses[i] for i in chosen],
    [f"step {i + 1}: latents" for i in chosen] + ["guess of the end" for _ in chosen],
    alt="Upper row: latents decoded at seven moments, from coloured noise to the postcard. Lower row: the "
    "denoiser's guess of the end at the same moments, a blurred postcard from the start that gains "
    "detail.",
    caption="The latents stay noisy almost to the end, while the guess shows sky and sea from the first steps.",
    columns=7,
    side=104,
)

# %%
show.slider(
    guesses,
    [f"step {step.index + 1} of {len(steps)}, timestep {step.t:.0f}" for step in steps],
    alt="The denoiser's guess of the finished postcard, step by step; the layout comes first, the detail last.",
    name="step",
)

# %% [markdown]
# How early is the picture decided? Hold each guess against the finished picture, in decibels of
# [PSNR](../book/refresher.md#judging-a-generator): 10 dB more means a tenth of the squared error.

# %%
close = [psnr(guess, picture) for guess in guesses[:-1]]
fig, ax = show.axes("step", "PSNR to the finished picture (dB)", "The guess comes closer to the end at almost every step")
ax.plot(range(1, len(steps)), close, marker="o", color="#0072B2")
ax.set_xticks(range(1, len(steps), 2))
assert close[-1] > close[len(close) // 2] > close[0]
show.figure(
    fig,
    alt=f"A rising line: the guess after one step has {close[0]:.0f} dB, after half of the steps "
    f"{close[len(close) // 2]:.0f} dB, before the last {close[-1]:.0f} dB.",
)

# %% [markdown]
# ## What each part costs
#
# Weights say what a part needs in memory; multiplications say what it needs in time. `torch` counts them for you (it
# counts a multiplication and an addition as two operations).

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def operations(call):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the one attention that it counts
        call()
    return counter.get_total_flops()


# %%
evaluations = 2 * len(scheduler.timesteps)
cost = {
    "text encoder": 2 * operations(lambda: say(recipe.prompt)),
    "denoiser": evaluations * operations(lambda: unet(noise, t, encoder_hidden_states=words)),
    "VAE decoder": operations(lambda: decode(latents)),
}
share = {part: value / sum(cost.values()) for part, value in cost.items()}
rows = [{"part": part, "operations": f"{cost[part] / 1e9:.2f} G", "share": f"{share[part]:.1%}"} for part in cost]
show.table(rows, f"One picture: {evaluations} evaluations of the denoiser take nearly all of the work.")

# %%
assert share["denoiser"] > 0.8

# %% [markdown]
# ### Predict
#
# Rombach et al. (2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752)) moved diffusion from pixels into latents.
# Measure what that buys here. Take the same U-Net, give it three colour channels instead of four latent ones, and let
# it work on the full picture: eight times as wide, eight times as high.
#
# By what factor do the operations of one step grow? Write a number before you go on.

# %%
my_prediction = ...  # a number: operations of a step in pixels, divided by those of a step in latents

# %%
from diffusers import UNet2DConditionModel

from chapter38.check import guess

with torch.device("meta"):  # shapes without numbers: operations can be counted, and no memory is taken
    in_pixels = UNet2DConditionModel.from_config({**unet.config, "in_channels": 3, "out_channels": 3}).eval()
    canvas = torch.zeros(1, 3, recipe.height, recipe.width)
much = operations(lambda: in_pixels(canvas, 500, encoder_hidden_states=words.float().to("meta")))
little = operations(lambda: unet(noise, t, encoder_hidden_states=words))
factor = much / little
why = "64 times as many places, and attention, which compares every place with every other, grows faster than that."
guess(my_prediction, factor, "times", why)

# %%
assert factor > 64
timed = show.sweep("38_1a")
print(f"operations: {factor:.0f} times as many in pixels")
print(f"seconds:    {timed['seconds']['step in pixels'] / timed['seconds']['step in latents']:.0f} times as long "
      f"(measured {timed['date']} on {timed['machine']}, one thread)")

# %% [markdown]
# The claim holds, in operations more than in seconds: the small tensors of a step in latents keep a processor less busy,
# so each of their operations takes longer. The reason is the one that the paper gives: the network spends its work where
# the layout is decided, and leaves the fine texture to a decoder that runs once.
#
# Two things this measurement does not say. It compares *steps*, not pictures: nobody trained the pixel model, and one
# that draws as well might need another shape. And the latents are paid for: the PSNR above is a ceiling that no denoiser
# of this VAE passes.

# %%
if here.timing:
    from time import perf_counter

    began = perf_counter()
    loop(recipe.guidance)
    middle = perf_counter()
    decode(latents)
    print(f"here and now: loop {middle - began:.2f} s, decoder {perf_counter() - middle:.2f} s")

# %% [markdown]
# ## A misconception: the pipeline is the model
#
# "I loaded the text-to-image model; for image-to-image I need to load another." It sounds right, because each has its
# own class and its own `from_pretrained`. What kills it: build a second pipeline from the first one's components, and
# count the new weights.

# %%
from diffusers import StableDiffusionImg2ImgPipeline

second = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
second.set_progress_bar_config(disable=True)
mine = {p.data_ptr() for p in pipeline.unet.parameters()}
new = [p for p in second.unet.parameters() if p.data_ptr() not in mine]
print(f"{len(mine)} weight tensors in the first U-Net, {len(new)} new ones in the second")
assert not new

# %% [markdown]
# A pipeline is a *loop with parts plugged in*. Image-to-image is another loop around the same parts: it starts from
# your picture's latents instead of pure noise.

# %%
redrawn = second(
    recipe.prompt.replace("red", "blue"), image=picture, strength=0.8, num_inference_steps=recipe.steps,
    guidance_scale=recipe.guidance, generator=torch.Generator().manual_seed(1),
).images[0]  # fmt: skip
show.pictures(
    [picture, redrawn],
    ["where it starts", "image to image, 'blue'"],
    alt="Left: the postcard with the red sailboat. Right: the same weights in another loop redrew it after "
    "the word red was changed to blue.",
    caption="Same weights, another loop.",
    side=192,
)

# %% [markdown]
# ## Which of the four?
#
# | you want | take | because |
# |---|---|---|
# | a picture, a batch, a seed, a size | the pipeline | its arguments reach that far, and it is tested for you |
# | to change something *between* steps: the guidance, the latents, stopping early | the pipeline with `callback_on_step_end` | your function is called after every step and hands back what it changed |
# | a published method that somebody has written down | a community pipeline (`custom_pipeline=`) | it is a whole loop written by others; it runs their code, so read it first, and pin its revision |
# | another loop, another denoiser, a part that no pipeline knows; or to understand | the parts | 20 lines of yours, and nothing hidden |
#
# The rule of the chapter in small: take the highest of these rungs that still gives you the control you need. A
# callback is enough more often than one thinks. Here it takes the latents out at every step, for which you wrote a
# loop above:

# %%
seen = []


def watch(pipeline, index, timestep, callback_kwargs):
    seen.append(callback_kwargs["latents"].clone())
    return callback_kwargs


again = one_line(recipe.prompt, callback_on_step_end=watch)[0]
assert len(seen) == len(steps) and largest_difference(again, picture) <= here.tolerance
print(len(seen), "steps seen; the picture is the same")

# %% [markdown]
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | SD 1.5 | all five parts, the loop, guidance; the same cells | 77 tokens of context instead of 32; the U-Net has 860 M weights; half precision rounds, so that another order of the same sums may differ by a few 255ths |
# | SDXL | the loop | two tokenizers and two text encoders; size and crop are told to the U-Net as extra conditioning; its first VAE overflows in half precision (38.1c) |
# | SD 3.5, FLUX | tokenizer, text encoder, denoiser, scheduler, VAE | the denoiser is a transformer, trained by flow matching (38.1h); FLUX was distilled to take $g$ as an *input*, so there is no second pass to mix |
# | every model | guidance costs a second evaluation | memory: at 1024 pixels the decoder, not the U-Net, may be what runs out; tiling helps (38.1c) |
#
# **On real models** (GPU, date, revision): on an H100 (2026-11-26, Diffusers 0.42.1, torch 2.11, float16) the loop by hand
# gave the pipeline's latents bit for bit, with SD 1.5 and with SDXL in their full size and random weights; 25 steps of SD 1.5
# took 0.8 s on one machine, 1.3 s on another, and 2.7 GiB (`make bench-gpu`). With the trained weights: *not yet run*. The
# cells are the same; the tolerance is the profile's.

# %% [markdown]
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# You draw with 20 steps. How many latents pass through the denoiser in all (a batch of two counts as two), at guidance
# 4 and at guidance 1? Watch what Diffusers does at 1.

# %%
from chapter38.check.lesson_1a import check_fade, check_loop, check_passes

at_four, at_one = ..., ...

check_passes(at_four, at_one)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# at_four, at_one = 40, 20  # two halves a step; at guidance 1 the half without a prompt cancels, so it is not asked for
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# Write a callback that draws the first half of the steps at the guidance that was asked for, and the second half at 2.
# The pipeline reads its scale from `pipeline._guidance_scale`; it knows how many steps there are
# (`pipeline.num_timesteps`). Mind *when* a callback is called.

# %%
fade = ...  # def fade(pipeline, index, timestep, callback_kwargs): ...

check_fade(fade)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fade(pipeline, index, timestep, callback_kwargs):
#     if index + 1 >= pipeline.num_timesteps // 2:  # called at the end of a step: what is set here acts in the next one
#         pipeline._guidance_scale = 2.0
#     return callback_kwargs
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Write the loop for any scheduler, with a guidance of its own for every step: `my_loop(parts, words, silence, noise,
# scales)` gives the final latents. `parts.scheduler` has its timesteps set, as many as there are scales. The check
# uses a scheduler that does not forgive what DDIM forgives.

# %%
my_loop = ...  # def my_loop(parts, words, silence, noise, scales): ...

check_loop(my_loop)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_loop(parts, words, silence, noise, scales):
#     scheduler = parts.scheduler
#     latents = noise * scheduler.init_noise_sigma
#     for t, g in zip(scheduler.timesteps, scales, strict=True):
#         x = scheduler.scale_model_input(torch.cat([latents, latents]), t)
#         without, with_prompt = parts.denoiser(x, t, encoder_hidden_states=torch.cat([silence, words]))[0].chunk(2)
#         latents = scheduler.step(without + g * (with_prompt - without), t, latents)[0]
#     return latents
# ```
#
# </details>

# %% [markdown]
# ## Three lines to remember
#
# 1. A pipeline is tokenizer, text encoder, denoiser, scheduler and VAE, and a loop of six lines; nothing else.
# 2. Guidance is `without + g * (with - without)`: arithmetic on two predictions, paid for with a second evaluation.
# 3. The denoiser is nearly all of the cost, and it is affordable because it works on latents.
#
# ## Where next
#
# - [38.1b](38_1b_scheduler_swaps.ipynb): swap the scheduler, the part without weights.
# - The words of this lesson: [denoiser](../book/glossary.md#denoiser), [scheduler](../book/glossary.md#scheduler),
#   [VAE](../book/glossary.md#vae), [U-Net](../book/glossary.md#u-net), [step](../book/glossary.md#step).
#
# <details><summary>For instructors</summary>
#
# **Time:** 45 minutes with exercises, 25 without. **Say first:** the picture of five boxes and one loop; let the class
# place each cell in it. **Where it sticks:** that guidance 1 is not "no prompt"; that the latents of a middle step are
# not a half-finished picture (the film strip's two rows); that the scaling factor is a convention. **To discuss:**
# whose fault is the dragon? Let three groups defend tokenizer, encoder and denoiser. **To grade:** exercises 2 and 3
# through `check_fade` and `check_loop`; both return an object that is true when the answer is right.
#
# </details>
