# %% [markdown]
# # Solutions of 38.5, Twelve postcards for Tidewick

# %%
import tempfile
from pathlib import Path

from chapter38 import Recipe, draw
from chapter38.check.lesson_5 import check_budget, check_delivery, check_honest, check_repair
from chapter38.measure.estimate import share
from chapter38.show.delivery import deliver

drawn_verdicts = [
    [True], [False, True], [True], [True], [False, False, True], [True],
    [True], [False, True], [True], [False, False, False, True], [True], [False, True],
]  # fmt: skip

# %% [markdown]
# ## Exercise 1

# %%
repairs = {"sky": "classical", "boat": "generative", "court": "neither", "unknown": "neither"}

# %%
assert check_repair(repairs)

# %% [markdown]
# ## Exercise 2

# %%
of_the_model = share([seen[0] for seen in drawn_verdicts])  # before anybody chose
interval = (of_the_model.low, of_the_model.high)

# %%
assert check_honest(interval)

# %% [markdown]
# ## Exercise 3

# %%
from decimal import Decimal

from scipy.stats import binom


def chance(budget, usd, right, motifs):
    draws = int(Decimal(budget) / Decimal(usd))  # float division would lose a draw now and then
    return float(binom.sf(motifs - 1, draws, right))  # at least `motifs` right ones among all draws


# %%
assert check_budget(chance)

# %% [markdown]
# ## Exercise 4

# %%
my_brief = {
    "Quay": "a red boat, on the sea, at sunset",
    "Hill": "a big tree, on the grass, by day",
    "Ice": "a cat, in the snow, at night",
}
mine = {name: draw(Recipe(prompt=words, seed=7 + i, adapters=["dusk"])) for i, (name, words) in enumerate(my_brief.items())}
my_folder = Path(tempfile.mkdtemp())
deliver(mine, my_folder, "Three from the coast")

# %%
assert check_delivery(my_folder)
