# %% [markdown]
# # Solutions of 38.1b, Swapping the scheduler

# %%
from chapter38.check.lesson_1b import check_evaluations, check_fair, check_step
from chapter38.code import samplers
from chapter38.measure.exact import TRAINED as trained

# %% [markdown]
# ## Exercise 1

# %%
thirty = {"euler": 30, "heun": 59, "dpm_2": 59, "pndm": 31}  # two a step but for the last; pndm asks once more at the start

# %%
assert check_evaluations(thirty)

# %% [markdown]
# ## Exercise 2


# %%
def fair(sampler, budget):
    cost = lambda steps: len(samplers.scheduler(sampler, "trailing", trained, steps).timesteps)
    return max(steps for steps in range(1, budget + 1) if cost(steps) <= budget)


# %%
assert check_fair(fair)

# %% [markdown]
# ## Exercise 3


# %%
def my_step(denoised, x, sigma, sigma_next):
    slope = (x - denoised(x, sigma)) / sigma
    ahead = x + slope * (sigma_next - sigma)
    slope_ahead = (ahead - denoised(ahead, sigma_next)) / sigma_next
    return x + (slope + slope_ahead) / 2 * (sigma_next - sigma)


# %%
assert check_step(my_step)
