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
# # 38.3b · The bill before it comes
#
# **Routes:** ★ core · 90 minutes · everything. **Section:** 38.3, the Call rung.
#
# A hosted model costs nothing until you use it, and a rented card costs the same whether you use it or not. In this
# lesson you turn price lists into a month's bill, and find the volume at which renting begins to pay: not as one
# number, but with an honest interval around it.
#
# ## What you will be able to do
#
# - put prices by image, megapixel, token and second on one scale, each with its date and source;
# - write a month's bill that counts failed, refused and discarded pictures;
# - compute the break-even between calling and renting, and say which input moves it most;
# - say "unknown" where a price is unknown, instead of zero.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. Two pictures differ only in their number of steps, 25 and 50. By what factor do the GPU's seconds differ?
# 2. You measured something five times, and the five values spread. What does a 90 % interval claim?
#
# <details><summary>Answers</summary>
#
# 1. About two: the denoiser runs once (with guidance, twice) a step, and it does nearly all of the work. See
#    [Samplers and ODEs](../book/refresher.md#samplers-and-odes).
# 2. That the value lies inside it with a probability of 90 %, *if* the assumptions about the spread hold. It claims
#    nothing about the assumptions. See [Probability in one page](../book/refresher.md#probability-in-one-page).
#
# </details>
#
# ## What it costs
#
# | | laptop CPU | with your own measurements |
# |---|---|---|
# | switch | none | your seconds a picture, in exercise cells |
# | time | under a minute | the same |
# | memory | well below 1 GB; no torch | the same |
# | download | none | none |

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
from datetime import date
from decimal import Decimal

from chapter38 import show
from chapter38.call import Range, Rent, Traffic, Usage, break_even, month, price
from chapter38.show import bill

TODAY = date(2026, 11, 24)  # prices as of this day; put date.today() here to read them as of yours

# %% [markdown]
# ## The naive way: price times pictures
#
# A small shop wants 20,000 pictures a month. A provider's page says three tenths of a cent a picture.

# %%
pictures = 20_000
naive = pictures * Decimal("0.003")
print(f"USD {naive} a month")

# %% [markdown]
# Money is `Decimal` here, not `float`. Why that matters, in one line:

# %%
print(0.1 + 0.2 == 0.3, Decimal("0.1") + Decimal("0.2") == Decimal("0.3"))
assert 0.1 + 0.2 != 0.3

# %% [markdown]
# ## What goes wrong: three things at once
#
# **First, not everybody sells pictures.** Some sell megapixels, some tokens, some seconds. **Second, prices are dated.**
# A number without a day is a rumour. **Third, a call is not a picture you keep.** Look at the first two: what does the
# same open model cost, at whom, and how old is each price?

# %%
from chapter38.call.cost import quotes

offers = quotes("flux-schnell", Usage.square(1024), "", "1024x1024", TODAY)
rows = [
    {"provider": q.provider, "USD a picture": f"{q.usd:.5f}", "meter": q.lines[0].what, "as of": q.lines[0].as_of}
    | {"note": "stale" if q.warnings else ""}
    for q in offers
]
show.table(rows, "One model, six prices; the cheapest three were seen half a year ago or are counted in megapixels.")

# %%
spread = offers[-1].usd / offers[0].usd
print(f"the dearest costs {spread:.0f} times the cheapest")
assert spread >= 2 and any("stale" in w for q in offers for w in q.warnings)

# %% [markdown]
# A row older than 90 days carries a warning. It is still shown, because an old price is better than none as long as it
# says that it is old. Where a row came from is never far:

# %%
fal = price("flux-schnell", provider="fal", as_of=TODAY)
print(fal.price.usd, fal.price.as_of, fal.price.source, sep=" · ")

# %% [markdown]
# ### Unknown is not zero
#
# GPT Image 2 is sold by the token. How many tokens a picture takes, you learn from the reply. So before the call the
# price is *unknown*, and afterwards it is arithmetic. What do you expect a program should print in the first case?

# %%
before = price("gpt-image-2", provider="openai", as_of=TODAY)
after = price("gpt-image-2", provider="openai", usage=Usage(text_in=Decimal(24), image_out=Decimal(1056)), as_of=TODAY)
print("before the call:", before.usd)
print("after it:       ", after.usd, "USD for 24 tokens of text and 1056 of picture (numbers made up for the example)")
assert before.usd is None and after.usd == (24 * Decimal(5) + 1056 * Decimal(30)) / 10**6

# %% [markdown]
# `None` is contagious on purpose: a month that contains one unknown price is an unknown month.

# %%
assert month([("known", fal, 100), ("unknown", before, 1)]).usd is None

# %% [markdown]
# ## The library's way: a quote, then a month
#
# Now the third thing. Of 100 calls, some fail, some are refused by a filter, and of the pictures that do arrive you
# keep one in four. Who pays for the rest? Read your provider's page: [fal](https://docs.fal.ai/documentation/model-apis/pricing)
# bills successful outputs only; elsewhere a filter may stop a picture after the work was done and paid. The shares
# below are this lesson's assumption.

# %%
traffic = Traffic(failed="0.02", failed_billed=0, refused="0.03", refused_billed=1, kept="0.25")
plan = [("shop", price("flux-schnell", provider="replicate", as_of=TODAY), pictures)]
real = month(plan, traffic=traffic)
print(f"kept {pictures:,} · calls {traffic.calls(pictures):,.0f} · billed {traffic.billed(pictures):,.0f}")
print(f"USD {real.usd:.2f} instead of {naive}: {real.usd / naive:.2f} times as much")

# %% [markdown]
# Nearly all of that factor is `kept`. You pay for choosing.
#
# A plan may mix recipes, have a free quota, and reach volume tiers. Tiers are marginal, like tax brackets.

# %%
plan = [
    ("drafts", price("flux-schnell", provider="replicate", as_of=TODAY), 18_000),
    ("finals", price("flux-1.1-pro", provider="replicate", as_of=TODAY), 2_000),
]
tiers = ((0, "1"), (10_000, "0.9"))  # an invented discount: the tables hold no published one
mixed = month(plan, free=500, tiers=tiers)
rows = [{"line": label, "billed": f"{n:,.0f}", "USD": f"{usd:.2f}"} for label, n, usd in mixed.entries]
show.table(rows, f"A tenth of the pictures makes most of the bill: USD {mixed.usd:.2f} in all.")

# %%
assert mixed.entries[1][2] > mixed.entries[0][2]

# %% [markdown]
# ## Proof: the same by hand
#
# Three checks. The month above, with the factors written out. The prices that OpenAI prints beside its token counts,
# from tokens. And a resolution that is priced apart.

# %%
assert mixed.entries[0][2] == (9_500 + 8_000 * Decimal("0.9")) * Decimal("0.003")
assert mixed.entries[1][2] == 2_000 * Decimal("0.9") * Decimal("0.04")
printed = price("gpt-image-1.5", provider="openai", variant="low 1024x1024", as_of=TODAY)  # USD 0.009
tokens = price("gpt-image-1.5", provider="openai", usage=Usage(image_out=Decimal(272)), as_of=TODAY)  # low: 272 tokens
print(f"printed {printed.usd} · from tokens {tokens.usd} · note: {printed.warnings[0]}")
assert round(tokens.usd, 2) == round(printed.usd, 2)

# %% [markdown]
# The same to the cent. (The note is worth reading: that model has its last day within a week of this lesson's date.
# A price list is also a list of what will be gone.)
#
# ## Rent a card instead
#
# A rented card costs by the hour. What you need beside that is *seconds a picture*, and that number has a source too:
# somebody's measurement, on some card, with some software, at some date.

# %%
from chapter38.call.cost import seconds_on
from chapter38.call.prices import known_hardware

hour = Range.spread(known_hardware("usd_hour", TODAY, gpu="RTX 4090"))
seconds = seconds_on("flux-schnell", "RTX 4090", TODAY)
for what, value in (("USD an hour", hour), ("seconds a picture", seconds)):
    print(f"{what}: {value.low} to {value.high}, middle {value.mid}; {value.source[:86]}…")

# %% [markdown]
# The naive price of a rented picture is hour / 3600 × seconds. Take the dearer hour and the slower measurement:

# %%
card = Rent(gpu_hour=hour.high, seconds=seconds.high)
brochure = card.gpu_hour * card.seconds / 3600
print(f"USD {brochure:.6f} a picture, if the card never rests; {card.capacity:,.0f} pictures a month")

# %% [markdown]
# ### Predict
#
# That is less than a fifth of the API's 0.003. Your side project draws 10,000 pictures a month on this card, which is
# rented all month (730 hours).
#
# How many times the brochure's price does a picture then really cost? Write a number before you go on.

# %%
my_prediction = ...  # a number: USD a picture at 10,000 a month, divided by the price of a card that never rests

# %%
from chapter38.check import guess

ratio = float(card.per_picture(10_000) / brochure)
why = f"the card draws {10_000 / card.capacity:.1%} of the time that you pay for."
guess(my_prediction, ratio, "times", why)

# %%
assert ratio > 50
assert card.per_picture(10_000) > Decimal("0.003")  # dearer than the API, by far
print(f"USD {card.per_picture(10_000):.4f} a picture")

# %% [markdown]
# ## Where the curves cross
#
# Calling is a line through zero: price × pictures. Renting is a staircase: flat until one card is full, then the next.
# The [break-even](../book/glossary.md#break-even) is where they cross. Who keeps the card alive is part of the rent, so
# put a person in: four hours a month is this lesson's assumption.

# %%
found = break_even("0.003", hour.high, seconds.high, utilisation="0.5", ops_hours=4, ops_usd_hour=70)
assert abs(found.rent.month(found.pictures - 1) - Decimal("0.003") * found.pictures) < Decimal("0.01")
bill.crossing(found)

# %% [markdown]
# Both bills are the same at that point, to the cent; the assertion says so. Now turn one screw. How does
# [utilisation](../book/glossary.md#utilisation) move it? Drag the slider.

# %%
import io

from PIL import Image


def frame(share):
    one = break_even("0.003", hour.high, seconds.high, utilisation=share, ops_hours=4, ops_usd_hour=70)
    figure = bill.crossing_figure(one, f"Utilisation {float(share):.0%}", up_to=800_000, usd=3000)
    figure.savefig(buffer := io.BytesIO(), dpi=70)
    return Image.open(buffer), one.pictures


shares = [Decimal(n) / 100 for n in (5, 10, 15, 20, 30, 40, 60, 80, 100)]
frames, crossings = zip(*map(frame, shares), strict=True)

# %%
labels = [f"utilisation {float(u):.0%}: " + (f"pays from {c:,.0f} a month" if c else "never pays")
          for u, c in zip(shares, crossings, strict=True)]
show.slider(
    frames, labels, name="utilisation", side=440,
    alt="Bills against pictures a month at nine utilisations: the busier the card, the lower and flatter the staircase.",
)  # fmt: skip

# %%
print(*labels, sep="\n")
assert crossings[0] is None and crossings[-1] is not None
known = [c for c in crossings if c is not None]
assert known == sorted(known, reverse=True)

# %% [markdown]
# Below a certain share it never pays: then even a full month of the card draws fewer pictures than its rent would buy
# as calls. Above it, the crossing first falls and then stands still. Why does it stand still? One card is enough
# there, and a card that could draw more costs the same.
#
# ## How sure is it?
#
# Every input has a spread: the hour from the price lists, the seconds from the measurements, the rest from what you
# are willing to assume. Put all of it in, draw a few thousand combinations, and keep the middle 90 %.

# %%
sure = break_even(
    ("0.0014", "0.0027", "0.003"), hour, seconds,
    utilisation=("0.3", "0.5", "0.8"), ops_hours=(1, 4, 12), ops_usd_hour=(40, 70, 110),
)  # fmt: skip
print(f"break-even {sure.pictures:,.0f}, 90 % interval {sure.low:,.0f} to {sure.high:,.0f} pictures a month")
print(f"in {sure.never:.1%} of the draws renting never pays")
assert sure.low < sure.pictures < sure.high and sure.high > 2 * sure.low

# %% [markdown]
# A factor of three between the ends. "The break-even is at a quarter of a million" would have been a lie of
# precision. Which input should you find out more about? Move one at a time, the others at their middle:

# %%
bill.tornado(sure)

# %%
print("moves it most:", bill.WORDS[sure.bars[0].name], "· least:", bill.WORDS[sure.bars[-1].name])
assert sure.bars[0].swing > 2 * sure.bars[-1].swing

# %% [markdown]
# Seconds a picture, which benchmarks fight over, hardly count here: one card is not full at the break-even anyway. The
# person's hours and the price of the call decide. Now you know what to ask for first.
#
# `chapter38 price --model flux-schnell` draws the same curve with assumptions of its own, and prints them: the cheapest
# price that is not stale, and the hours, the wage and the load that `chapter38 advise` reckons with. Its break-even is
# therefore not this one. That is no contradiction: a break-even without its assumptions is not a number.
#
# ## A workflow has a price too
#
# A [workflow](../book/glossary.md#workflow) is priced node by node: samplers by their seconds, partner nodes by their
# list price. One unknown part makes the whole unknown, and the note names it.

# %%
from chapter38.canvas import Graph

prompt = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
    "3": {"class_type": "KSampler", "inputs": {"steps": 30, "denoise": 1.0, "model": ["1", 0], "latent_image": ["2", 0]}},
    "4": {"class_type": "FluxKontextProImageNode", "inputs": {"prompt": "the same boat, by night"}},
}
run = price(Graph.from_api(prompt), gpu="A10", as_of=TODAY)
for line in run.lines:
    print(f"{line.what:45} {line.usd:.5f}")
elsewhere = price(Graph.from_api(prompt), gpu="T4", as_of=TODAY)
print("on a T4:", elsewhere.usd, "·", next(w for w in elsewhere.warnings if "unknown" in w))

# %%
assert elsewhere.usd is None and run.usd == sum(line.usd for line in run.lines)

# %% [markdown]
# ## A misconception: renting is cheaper, because a second costs so little
#
# "The card draws a picture for a twentieth of a cent; the API wants six times that." Both numbers are right, and the
# conclusion is wrong below the break-even. What kills it: write the bill of a month with few pictures.

# %%
few = 5_000
print(f"call USD {few * Decimal('0.003'):.2f} · rent USD {card.month(few):.2f}")
assert card.month(few) > 30 * few * Decimal("0.003")

# %% [markdown]
# The price of a second is the wrong unit. You do not rent seconds; you rent a month.
#
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | another model | the arithmetic, the staircase, the interval | seconds a picture: a model of 12 billion parameters takes other cards than one of 1 billion |
# | another resolution | pixels scale the seconds roughly in proportion | memory, and attention's quadratic part: measure beyond 1024 pixels |
# | batches | the formula | seconds a picture fall with the batch until the card is full; the tables hold batch 1 |
# | another month | the method | every price: run `chapter38 price --as-of` with the day's date |
# | spot and preemptible cards | the hour's price | utilisation: what is interrupted is drawn again |
#
# **On real models**: the seconds here are published measurements with source and date, taken by others. Ours, on an H100
# (2026-11-26, `make bench-gpu`, run twice, on two machines): SDXL, 1024 pixels, 30 steps, words to pixels in 3.8 to 4.8 s,
# nothing compiled, against the 2.5 s published for the same card (2023, without TensorRT): the same picture, more than one
# and a half times the rent. SD 3.5 medium took 9.4 s on the first machine and 3.9 s on the second: a card's name is not yet
# its seconds. Put in yours: replace `seconds` by your own `(low, middle, high)`.
#
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# You need 300 pictures that somebody will use. One delivered picture in three is good enough. 5 % of the calls fail,
# another 5 % are refused. How many calls will you make, on average?

# %%
from chapter38.check.lesson_3b import check_calls, check_tiered, check_utilisation

calls = ...

check_calls(calls)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# calls = 300 * 3 / 0.9  # 900 must be delivered, and nine calls in ten deliver one
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# At what utilisation (a share from 0 to 1) does *one* card at 0.74 USD an hour and 2.6 s a picture come to exactly
# 0.003 USD a picture, nobody's hours counted?

# %%
share = ...

check_utilisation(share)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# share = 0.74 / 3600 * 2.6 / 0.003  # what the seconds cost, as a share of what the picture may cost
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Write `tiered(n)`: USD for n pictures at 0.01 each, 10 % less for those beyond the 10,000th, 30 % less for those
# beyond the 50,000th.

# %%
tiered = ...  # def tiered(n): ...

check_tiered(tiered)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def tiered(n):
#     first, second, third = min(n, 10_000), min(max(n - 10_000, 0), 40_000), max(n - 50_000, 0)
#     return 0.01 * (first + 0.9 * second + 0.7 * third)
# ```
#
# </details>
#
# ## Three lines to remember
#
# 1. A price is a number, a unit, a date and a source; where one is missing, the price is unknown, and unknown is not 0.
# 2. You pay for calls and use pictures: what you throw away is the largest line of many bills.
# 3. Utilisation decides whether renting can pay at all; where it does, people and the call's price move the break-even
#    more than seconds a picture do.
#
# ## Where next
#
# - [38.1a](38_1a_pipeline_to_parts.ipynb): where the seconds of a picture go.
# - [38.5](38_5_capstone.ipynb): a whole job, from spoiled scans to a priced delivery.
# - On the command line: `chapter38 price --model flux-schnell --per-month 100000` and `chapter38 advise`.
# - The words of this lesson: [price unit](../book/glossary.md#price-unit), [provider](../book/glossary.md#provider),
#   [break-even](../book/glossary.md#break-even), [utilisation](../book/glossary.md#utilisation),
#   [receipt](../book/glossary.md#receipt).
#
# <details><summary>For instructors</summary>
#
# **Time:** 40 minutes with exercises, 20 without. **Say first:** let the class write down, unprepared, at how many
# pictures a month they would rent a card; keep the numbers for the end. **Where it sticks:** that a refused call can
# be billed; that the crossing stands still above a certain utilisation; that the interval is about the inputs, not
# about the world. **To discuss:** the table's cheapest rows are also its oldest. Would you build on them? **To grade:**
# exercises 2 and 3 through `check_utilisation` and `check_tiered`.
#
# </details>
