# %% [markdown]
# # Solutions of 38.3b, The bill before it comes

# %%
from chapter38.check.lesson_3b import check_calls, check_tiered, check_utilisation

# %% [markdown]
# ## Exercise 1

# %%
calls = 300 * 3 / 0.9  # 900 must be delivered, and nine calls in ten deliver one

# %%
assert check_calls(calls)

# %% [markdown]
# ## Exercise 2

# %%
share = 0.74 / 3600 * 2.6 / 0.003  # what the seconds cost, as a share of what the picture may cost

# %%
assert check_utilisation(share)

# %% [markdown]
# ## Exercise 3


# %%
def tiered(n):
    first, second, third = min(n, 10_000), min(max(n - 10_000, 0), 40_000), max(n - 50_000, 0)
    return 0.01 * (first + 0.9 * second + 0.7 * third)


# %%
assert check_tiered(tiered)
