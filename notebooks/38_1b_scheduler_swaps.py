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
# # 38.1b · Swapping the scheduler
#
# **Routes:** ★ core · everything. **Section:** 38.1, the Code rung.
#
# The scheduler is the part without weights. In this lesson you swap it for fourteen others, measure how wrong each one
# is against a solution known in closed form, and learn what such a swap can change and what it cannot.
#
# ## What you will be able to do
#
# - swap a scheduler without breaking what the weights were trained for;
# - tell a *sampler* (how to walk) from a *spacing* (where to stop), and count what each costs in evaluations;
# - measure the order of a solver, and read from it how many steps you need;
# - say why no sampler can make a model draw what it does not know.

# %% [markdown]
# ## Before you start
#
# Two questions. Answer them in your head, then unfold.
#
# 1. Your solver makes an error proportional to the step, $h$. You double the number of steps. What happens to the
#    error?
# 2. A denoiser at noise level $\sigma$ returns its best guess of the finished picture. In which direction does the
#    noisy picture have to move?
#
# <details><summary>Answers</summary>
#
# 1. It halves. For an error proportional to $h^2$ it falls to a quarter: that is what *second order* means. See
#    [Samplers and ODEs](../book/refresher.md#samplers-and-odes).
# 2. Towards the guess, from where it is: along $(x - \hat x_0)/\sigma$, downhill in $\sigma$. See
#    [Score](../book/refresher.md#score).
#
# </details>
#
# If either surprised you, read [Samplers and ODEs](../book/refresher.md#samplers-and-odes) first; ten minutes do. You
# also need the five parts of [38.1a](38_1a_pipeline_to_parts.ipynb).
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
import numpy as np
import torch

from chapter38 import Recipe, show
from chapter38.code import draw
from chapter38.measure.pixels import psnr

here = show.profile("postcards")  # on a GPU: "sd15", or any name of the registry that is shaped like it
parts = here.load()
pipeline = parts.pipeline
trained = dict(pipeline.scheduler.config)
recipe = Recipe(prompt="a big yellow house on the right, on the grass, by day", seed=11, model=here.model)
print(here)

# %% [markdown]
# ## The naive way: a scheduler from memory
#
# Somebody recommends "Euler". Diffusers has a class of that name, so you put one in.

# %%
from diffusers import EulerDiscreteScheduler


def one_line(**more):
    return pipeline(
        recipe.prompt, num_inference_steps=recipe.steps, guidance_scale=recipe.guidance, width=recipe.width,
        height=recipe.height, generator=torch.Generator().manual_seed(recipe.seed), **more,
    ).images[0]  # fmt: skip


expected = one_line()
pipeline.scheduler = EulerDiscreteScheduler()
naive = one_line()

# %% [markdown]
# ## What goes wrong: it forgets what the weights were trained for
#
# No error, no warning. Look.

# %%
pipeline.scheduler = EulerDiscreteScheduler.from_config(trained)
careful = one_line()
show.pictures(
    [expected, naive, careful],
    ["the model's own", "EulerDiscreteScheduler()", "from_config(trained)"],
    alt="Three pictures. Left and right: a yellow house by day. In the middle: blotches in burnt colours, far "
    "from both.",
    caption="A scheduler made from memory ruins the picture without a word; one made from the training's config "
    "draws the house.",
    columns=3,
    side=192,
)

# %%
fresh = EulerDiscreteScheduler().config
keys = ("prediction_type", "beta_schedule", "beta_start", "beta_end", "timestep_spacing")
show.table(
    [{"setting": key, "weights were trained with": trained[key], "from memory": fresh[key]} for key in keys],
    "The defaults of a class are nobody's training.",
)

# %% tags=["nbval-ignore-output"]
print(f"to the expected picture: from memory {psnr(naive, expected):.0f} dB, from the config {psnr(careful, expected):.0f} dB")
if here.name != "real":
    assert psnr(naive, expected) + 3 < psnr(careful, expected)

# %% [markdown]
# The scheduler turns a prediction into a step. It must know what was predicted (`prediction_type`: noise, or
# [v](../book/glossary.md#v-prediction)) and how much noise there is at each timestep (the betas). Both are facts about
# the *weights*. `from_config` carries them over.
#
# ## The library's way: two choices, not one
#
# "DPM++ 2M Karras" is two choices in one name. A [sampler](../book/glossary.md#sampler) says how to walk from one
# noise level to the next. A [spacing](../book/glossary.md#spacing) says at which levels to stop. The package keeps
# them apart: a spacing is a function from the trained schedule to a list of levels, a sampler is a Diffusers class
# with flags.

# %%
from chapter38.code import samplers

for spacing in ("leading", "trailing", "karras"):
    solver = samplers.scheduler("euler", spacing, trained, 6)
    print(f"{spacing:9}", " ".join(f"{float(sigma):6.2f}" for sigma in solver.sigmas))

# %% [markdown]
# Each row walks from much noise to none in six steps. *Leading* does not start at the top. *Karras* spends its steps
# at the small levels.
#
# ## Every sampler on one seed
#
# Before you look: you keep prompt, seed, steps and spacing, and change the sampler. Do you expect fifteen pictures, or
# one?

# %%
names = [name for name, row in samplers.TABLE.items() if row.scale != "flow"]
drawn = {name: draw(recipe.but(sampler=name, spacing="trailing"), parts=parts).image for name in names}
show.pictures(
    list(drawn.values()),
    names,
    alt="Fifteen postcards of a yellow house from one seed. Most are alike; those of the samplers that add "
    "noise at every step differ in layout and detail.",
    caption="Most samplers agree on the picture; those that add noise at every step go elsewhere.",
    columns=5,
)

# %% [markdown]
# Turn them over one by one, in the same place: what stays still is what the sampler cannot change.

# %%
order = sorted(names, key=lambda name: -psnr(drawn[name], drawn["dpmpp_2m"]))
show.slider(
    [drawn[name] for name in order],
    order,
    alt="The same postcard by every sampler, ordered from the nearest to the farthest from dpmpp_2m's.",
    name="sampler",
)

# %% [markdown]
# Two kinds. The [ODE](../book/refresher.md#samplers-and-odes) solvers follow one and the same curve from your noise to
# a picture, with more or less error. The others throw in fresh noise on the way ([ancestral
# sampling](../book/glossary.md#ancestral-sampling), as DDPM does), so they follow no curve. Say it in numbers: how
# close is each to an ODE solution with many steps?

# %%
noisy = {"euler_ancestral", "ddpm", "dpmpp_2m_sde", "lcm", "er_sde"}
reference = draw(recipe.but(sampler="dpmpp_2m", spacing="trailing", steps=60), parts=parts).image
close = {name: psnr(image, reference) for name, image in drawn.items()}
rows = [
    {"sampler": name, "kind": "adds noise" if name in noisy else "ODE", "PSNR to 60 steps": f"{close[name]:.1f} dB"}
    for name in sorted(close, key=close.__getitem__, reverse=True)
]
show.table(rows, "How close 20 steps of each come to 60 steps of a second-order ODE solver.")

# %%
on_curve = np.mean([close[name] for name in names if name not in noisy])
elsewhere = np.mean([close[name] for name in noisy])
print(f"mean PSNR: ODE solvers {on_curve:.1f} dB, with added noise {elsewhere:.1f} dB")
assert on_curve > elsewhere + 3

# %% [markdown]
# ## Proof: the loop by hand agrees with the pipeline, for every row
#
# In 38.1a you proved it for one scheduler. The claim is about all of them. Four steps each are enough: if one differs,
# it differs in the first.

# %%
from chapter38.code import denoise

small = recipe.but(steps=4)
noise = torch.randn((1, 4, recipe.height // 8, recipe.width // 8), generator=torch.Generator().manual_seed(recipe.seed))
worst = {}
for name in names:
    *_, last = denoise(parts, small.but(sampler=name, spacing="trailing"))
    pipeline.scheduler = samplers.scheduler(name, "trailing", trained, small.steps)
    theirs = pipeline(
        small.prompt, num_inference_steps=small.steps, guidance_scale=small.guidance, latents=noise.to(parts.dtype),
        generator=torch.Generator().manual_seed(small.seed + 1), output_type="latent",
    ).images  # fmt: skip
    worst[name] = float((last.latent - theirs).abs().max() / theirs.std())
print({name: value for name, value in worst.items() if value} or f"all {len(names)} samplers: equal bit for bit")
assert max(worst.values()) <= (0 if here.exact else 0.1)

# %% [markdown]
# ## How wrong is a sampler? Ask where the answer is known
#
# On postcards you compared a sampler with a sampler. For an *error* you need the truth. There is a world where it is
# known: let the data be one Gaussian on a line, with mean $\mu$ and standard deviation $s$. Noised by $\sigma$ it is a
# Gaussian again, of variance $s^2+\sigma^2$, so the ideal denoiser is a formula:
#
# $$\hat x_0(x,\sigma) = \frac{s^2 x + \sigma^2 \mu}{s^2+\sigma^2}$$
#
# and the curve that an ODE solver should follow is one as well (Karras et al. 2022,
# [arXiv:2206.00364](https://arxiv.org/abs/2206.00364); Murphy and Prince both derive it: see the
# [refresher](../book/refresher.md#score)):
#
# $$x(\sigma') = \mu + (x-\mu)\sqrt{\frac{s^2+\sigma'^2}{s^2+\sigma^2}}$$

# %%
mu, s = 0.5, 0.5


def denoised(x, sigma):
    return (s**2 * x + sigma**2 * mu) / (s**2 + sigma**2)


def exact_end(x, sigma, sigma_end):
    return mu + (x - mu) * np.sqrt((s**2 + sigma_end**2) / (s**2 + sigma**2))


# %%
def euler(x, sigmas):
    for now, after in zip(sigmas, sigmas[1:]):
        slope = (x - denoised(x, now)) / now
        x = x + slope * (after - now)
    return x


# %%
start = np.linspace(-15, 15, 9)
errors = []
for steps in (10, 20, 40, 80):
    sigmas = np.geomspace(14.6, 0.03, steps + 1)
    errors.append(np.abs(euler(start, sigmas) - exact_end(start, 14.6, 0.03)).max())
    print(f"{steps:3} steps: largest error {errors[-1]:.4f}")
falls = errors[-2] / errors[-1]
print(f"doubling the steps divides the error by {falls:.2f}")
assert 1.8 < falls < 2.3

# %% [markdown]
# That is Euler in four lines, and first order: twice the steps, half the error.
#
# ### Predict
#
# Heun's method looks at the slope at both ends of a step and takes the mean. It costs a second evaluation. You double
# its steps: by what factor does its error fall? Write a number before you go on.

# %%
my_prediction = ...  # a number: the error at 40 steps, divided by the error at 80 steps

# %%
from chapter38.check import guess
from chapter38.measure import exact

world = exact.Mixture(means=(mu,), spreads=(s,))
counts = (10, 20, 40, 80)
curves = {name: [exact.error(world, name, "karras", n) for n in counts] for name in ("euler", "heun", "dpmpp_2m")}
fell = curves["heun"][-2] / curves["heun"][-1]
guess(my_prediction, fell, "times", "second order means that the error falls with the square of the step.", within=0.2)

# %% [markdown]
# These are not sketches: `exact.error` runs the very Diffusers classes that drew the houses, with the formula in place
# of the U-Net. Draw error against what you *pay*, evaluations of the denoiser, and not against steps.

# %%
paid = {name: [len(samplers.scheduler(name, "karras", trained, n).timesteps) for n in counts] for name in curves}
orders = {name: exact.order(curves[name], counts) for name in curves}
fig, ax = show.axes(
    "evaluations of the denoiser", "root mean square error (units of the data)",
    "Second order pays twice a step and still wins; 2M gets it for one",
)  # fmt: skip
for (name, error), colour, marker in zip(curves.items(), ("#0072B2", "#D55E00", "#009E73"), "os^"):
    ax.loglog(paid[name], error, marker=marker, color=colour, label=f"{name}: order {orders[name]:.2f}")
ax.legend(frameon=False)
said = "; ".join(f"{name} falls with order {orders[name]:.1f}" for name in orders)
show.figure(fig, alt=f"Error against evaluations on two logarithmic axes, three falling lines: {said}.")

# %%
assert 0.8 < orders["euler"] < 1.3
assert 1.7 < orders["heun"] < 2.5 and 1.7 < orders["dpmpp_2m"] < 2.5
assert curves["dpmpp_2m"][1] < curves["euler"][3]
print(f"dpmpp_2m with {paid['dpmpp_2m'][1]} evaluations beats euler with {paid['euler'][3]}")

# %% [markdown]
# `dpmpp_2m` remembers the previous step's prediction and draws a line through both. The second slope comes free. That
# is why a multistep solver is the usual recommendation for 10 to 30 steps.
#
# ### And DDPM?
#
# Ho et al. (2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239)) sample with fresh noise in each of many steps.
# There is no curve to compare with, but there is a distribution: the ends should have standard deviation $s$. On a
# Gaussian every step is linear, so the spread can be computed without drawing a single sample.

# %%
bars = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def spread_of_ends(steps, ancestral):
    bar = np.append(bars[np.round(np.arange(1000, 0, -1000 / steps)).astype(int) - 1], 1.0)
    variance = bar[0] * s**2 + 1 - bar[0]
    for now, after in zip(bar, bar[1:]):
        gain = np.sqrt(now) * s**2 / (now * s**2 + 1 - now)  # of the ideal x0 on x
        added = (1 - after) / (1 - now) * (1 - now / after) if ancestral else 0.0
        keep = np.sqrt((1 - after - added) / (1 - now))
        variance = ((np.sqrt(after) - keep * np.sqrt(now)) * gain + keep) ** 2 * variance + added
    return np.sqrt(variance)


# %%
many = np.array([5, 10, 20, 50, 100, 200, 500, 1000])
wrong = {name: [abs(spread_of_ends(n, name == "ddpm") / s - 1) for n in many] for name in ("ddpm", "ddim")}
title = "With ideal predictions, added noise needs more steps for the same spread"
fig, ax = show.axes("steps", "relative error of the spread", title)
for (name, values), colour, marker in zip(wrong.items(), ("#D55E00", "#0072B2"), "so"):
    ax.loglog(many, values, marker=marker, color=colour, label=name)
ax.legend(frameon=False)
said = " and ".join(f"{name} {values[2]:.1%}" for name, values in wrong.items())
show.figure(fig, alt=f"Relative error of the spread against steps, two falling lines; at 20 steps {said}.")

# %%
assert wrong["ddpm"][2] > wrong["ddim"][2]
print(f"20 steps: ddpm is {wrong['ddpm'][2]:.1%} off, ddim {wrong['ddim'][2]:.1%}")

# %% [markdown]
# ## Quality per step
#
# The Gaussian world tells how well an equation is solved. Does it matter to the eye? Draw many postcards for each
# sampler and number of steps; let a judge that never saw the prompts read them
# ([adherence](../book/glossary.md#adherence): all six stated attributes right), and compare their distribution with
# freshly rendered scenes ([Fréchet distance](../book/glossary.md#frechet-distance), lower is better). It takes
# minutes, so it was done once, by `notebooks/sweeps.py`.

# %%
sweep = show.sweep("38_1b")
quality = {(row["sampler"], row["steps"]): row for row in sweep["rows"]}
kinds, counts = list(dict.fromkeys(k for k, _ in quality)), sorted({n for _, n in quality})
fig, ax = show.axes("steps", "all six attributes right (share)", "DDIM needs fewer steps than DDPM")
for name, colour, marker in zip(kinds, ("#D55E00", "#0072B2", "#009E73"), "so^"):
    measured = [n for n in counts if (name, n) in quality]
    value, low, high = np.array([quality[name, n]["adherence"] for n in measured]).T
    ax.errorbar(measured, value, [value - low, high - value], marker=marker, color=colour, capsize=3, label=name)
ax.legend(frameon=False, loc="lower right")
ax.set_ylim(0, 1.02)
said = "; ".join(f"{name} at {n} steps {row['adherence'][0]:.0%}" for (name, n), row in quality.items())
show.figure(fig, alt=f"Share of pictures with all attributes right: {said}.")

# %%
rows = [
    {"sampler": name, "steps": n, "all six right": "{:.0%} [{:.0%}, {:.0%}]".format(*row["adherence"]),
     "Fréchet distance": "{:.0f} [{:.0f}, {:.0f}]".format(*row["distance"])}
    for (name, n), row in quality.items()
]  # fmt: skip
show.table(rows, f"{sweep['rows'][0]['pictures']} pictures a row, 95 % intervals; measured {sweep['date']} with {sweep['weights']}.")

# %% [markdown]
# Read the intervals before the values: with so few pictures a row, differences of a few percent mean nothing. What
# stands out of them is one thing. With few steps, DDPM's added noise costs adherence, and DDIM, which is the same
# formula without the noise, reaches the same share in fewer steps.

# %%
few = counts[0]
print(f"{few} steps: " + ", ".join(f"{name} {quality[name, few]['adherence'][0]:.0%}" for name in kinds))
assert quality["ddim", few]["adherence"][0] > quality["ddpm", few]["adherence"][0]
overlap = quality["ddim", few]["distance"][2] > quality["ddpm", few]["distance"][1]
print("Fréchet distances of ddim and ddpm at", few, "steps:", "the intervals overlap" if overlap else "told apart")

# %% [markdown]
# So the measurement supports what the figure on the Gaussian says, for adherence; the Fréchet distance of so few
# pictures may not tell the samplers apart, and then says so. And a claim that it does *not* support: that the
# second-order solver is the best at every number of steps. Order is a promise about *many* steps. At the fewest, look
# at the table and not at the order.
#
# ## Three traps
#
# ### Trap 1: steps are not evaluations
#
# Twenty steps of one sampler may cost twice as much as twenty of another. Ask the scheduler.


# %%
def evaluations(sampler, steps):
    return len(samplers.scheduler(sampler, "trailing", trained, steps).timesteps)


print({name: evaluations(name, 20) for name in ("euler", "heun", "dpm_2", "pndm")})

# %% [markdown]
# A comparison "at 20 steps" between Euler and Heun gives Heun nearly twice the compute. Compare at equal evaluations,
# as the figure above does.
#
# ### Trap 2: the spacing decides whether the first step makes sense
#
# The loop starts from pure noise. With *leading* spacing and few steps, the first timestep is not the noisiest one:
# the denoiser is told that there is less noise than there is (Lin et al. 2023,
# [arXiv:2305.08891](https://arxiv.org/abs/2305.08891)).

# %%
few = {spacing: draw(recipe.but(spacing=spacing, steps=5), parts=parts).image for spacing in ("trailing", "leading")}
first = {spacing: int(samplers.scheduler("ddim", spacing, trained, 5).timesteps[0]) for spacing in few}
show.pictures(
    [reference, *few.values()],
    ["60 steps", *(f"5 steps, {spacing}: starts at {first[spacing]}" for spacing in few)],
    alt="A yellow house drawn with 60 steps, with 5 steps in trailing spacing, and with 5 steps in leading spacing.",
    caption=f"From timestep {first['trailing']} the noise is what the denoiser is told; from {first['leading']} it "
    f"is not.",
    columns=3,
    side=192,
)

# %%
for spacing, image in few.items():
    print(f"{spacing:9} starts at {first[spacing]}, {psnr(image, reference):.1f} dB to 60 steps")
assert first["trailing"] > 990 > 900 > first["leading"]

# %% [markdown]
# The mismatch is certain; its harm is not. On a scene of middling brightness you may see little of it, and the numbers
# above say how much. The paper's complaint is about pictures that should be very dark or very bright. Try it: change
# the recipe's prompt to a night scene and run from there.

# %% [markdown]
# ### Trap 3: `step` has a memory
#
# You want to peek at the next latents, and call `scheduler.step` once more. DDIM computes each step from its arguments
# alone. Others count their steps, and a multistep solver remembers past predictions: a look moves both.


# %%
@torch.no_grad()
def peeking(sampler, peek_at=None):
    told = parts.encode([recipe]).embeddings
    solver = samplers.scheduler(sampler, "trailing", trained, 10)
    x = (noise * solver.init_noise_sigma).to(parts.device, parts.dtype)
    for i, t in enumerate(solver.timesteps):
        both = solver.scale_model_input(torch.cat([x, x]), t)
        without, given = parts.denoiser(both, t, encoder_hidden_states=told)[0].chunk(2)
        v = without + recipe.guidance * (given - without)
        if i == peek_at:
            solver.step(v, t, x)  # "only a look"
        x = solver.step(v, t, x)[0]
    return x


# %%
changed = {}
for sampler in ("ddim", "pndm", "dpmpp_2m"):
    try:
        changed[sampler] = float((peeking(sampler, 4) - peeking(sampler)).abs().max())
        print(f"{sampler:9} one look changes the latents by up to {changed[sampler]:.2f}")
    except IndexError as error:
        print(f"{sampler:9} one look, and some steps later: IndexError: {error}")
assert changed["ddim"] == 0 < changed["pndm"]

# %% [markdown]
# Three answers to the same mistake: none, a silent one, and an error far from its cause. To look ahead without harm,
# copy the scheduler first (`copy.deepcopy`), or ask for the prediction only.

# %% [markdown]
# ## A misconception: a better sampler makes a better picture
#
# "With DPM++ my model finally draws dragons." What a sampler does is solve an equation, and the denoiser *is* the
# equation. Two good solvers with enough steps meet: in the same picture.

# %%
pairs = {}
for n in (6, 12, 48):
    each = [recipe.but(sampler=name, spacing="trailing", steps=n) for name in ("ddim", "dpmpp_2m")]
    pairs[n] = psnr(*(draw(r, parts=parts).image for r in each))
    print(f"{n:2} steps: ddim and dpmpp_2m agree to {pairs[n]:.1f} dB")
assert pairs[48] > pairs[6] + 3

# %% [markdown]
# More steps bring them to each other, not to some better picture behind. So a swap changes *how soon* you arrive and,
# with added noise, *at which* of the model's pictures. It cannot change what the model knows: dragons stay out of
# reach of all fifteen.
#
# ## What scales, what does not
#
# | | carries over | does not |
# |---|---|---|
# | SD 1.5, SDXL | the table of samplers and spacings; order; evaluations; all three traps | the number of steps that suffices: their pictures have more detail than postcards, and 20 to 30 steps are usual |
# | SD 1.5 | from_config | it predicts noise, not v; a solver is the same, the arithmetic to x0 is not |
# | a GPU | the pictures, to a few 255ths | the last bits of the CPU: sums are added up in another order, and in half precision they are rounded more |
# | SD 3.5, FLUX | sampler and spacing are still two choices | their schedule is a straight path with a *shift*, so only the flow samplers of the table fit (38.1h) |
# | distilled models | the loop | they want one to four steps of one certain sampler; more steps make them worse (38.1g) |
#
# **On real models** (GPU, date, revision): this lesson with profile cuda passed on an H100 (2026-11-26); six samplers on one
# seed with SD 1.5: *not yet run*.

# %% [markdown]
# ## Exercises
#
# Each check tells you whether you are right, and why. Put your answer where the `...` stands.
#
# ### Exercise 1 (predict)
#
# Trap 1 printed the evaluations of 20 steps. Say them for 30 steps, before you ask a scheduler.

# %%
from chapter38.check.lesson_1b import check_evaluations, check_fair, check_step

thirty = {"euler": ..., "heun": ..., "dpm_2": ..., "pndm": ...}

check_evaluations(thirty)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# thirty = {"euler": 30, "heun": 59, "dpm_2": 59, "pndm": 31}  # two a step but for the last; pndm asks once more at the start
# ```
#
# </details>
#
# ### Exercise 2 (change)
#
# Make a comparison fair: `fair(sampler, budget)` gives the largest number of steps that costs at most `budget`
# evaluations. It should be right for any row of the table; `samplers.scheduler(sampler, "trailing", trained, steps)`
# tells you what steps cost.

# %%
fair = ...  # def fair(sampler, budget): ...

check_fair(fair)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fair(sampler, budget):
#     cost = lambda steps: len(samplers.scheduler(sampler, "trailing", trained, steps).timesteps)
#     return max(steps for steps in range(1, budget + 1) if cost(steps) <= budget)
# ```
#
# </details>
#
# ### Exercise 3 (build)
#
# Write one step of a second-order solver: `my_step(denoised, x, sigma, sigma_next)` gives x at `sigma_next`, with at
# most two calls of `denoised(x, sigma)`. The check runs it on a Gaussian that is not the one above, and measures its
# order.

# %%
my_step = ...  # def my_step(denoised, x, sigma, sigma_next): ...

check_step(my_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_step(denoised, x, sigma, sigma_next):
#     slope = (x - denoised(x, sigma)) / sigma
#     ahead = x + slope * (sigma_next - sigma)
#     slope_ahead = (ahead - denoised(ahead, sigma_next)) / sigma_next
#     return x + (slope + slope_ahead) / 2 * (sigma_next - sigma)
# ```
#
# </details>

# %% [markdown]
# ## Three lines to remember
#
# 1. Make a scheduler from the training's config, never from memory: what was predicted is a fact about the weights.
# 2. Sampler and spacing are two choices; compare them at equal evaluations, not at equal steps.
# 3. A sampler decides how soon you arrive at the model's picture; it does not decide what the model knows.
#
# ## Where next
#
# - [38.1e](38_1e_lora.ipynb): teach the model what no sampler can. [38.1a](38_1a_pipeline_to_parts.ipynb), if you came here
#   first.
# - The words of this lesson: [order](../book/glossary.md#order-of-a-solver), [sigma](../book/glossary.md#sigma),
#   [Karras spacing](../book/glossary.md#karras-spacing), [trajectory](../book/glossary.md#trajectory).
#
# <details><summary>For instructors</summary>
#
# **Time:** 50 minutes with exercises, 30 without. **Say first:** "a denoiser defines a slope at every point; a sampler
# walks along it". Draw one curve and two polygons under it. **Where it sticks:** that stochastic samplers have no
# error *of a path*; that the best sampler at 5 steps need not be the best at 40. **To discuss:** a blog post compares
# eight samplers at 20 steps on one prompt and names a winner. What would you ask? (Evaluations, seeds, intervals,
# spacing.) **To grade:** `check_fair` and `check_step` return an object that is true when the answer is right.
#
# </details>
