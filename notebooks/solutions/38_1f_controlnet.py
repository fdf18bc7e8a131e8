# %% [markdown]
# # Solutions of 38.1f, Steering with a hint map

# %%
from chapter38.check.lesson_1f import check_asked, check_faded, check_sum
from chapter38.measure.pixels import edges
from chapter38.postcards import Scene
from chapter38.recipe import Control

hint = edges(Scene("house", "red", place="right", background="mountains", seed=4).picture())


def steered(strength=1.0, hint=hint, **more):
    return Control(kind="edges", image=hint, strength=strength, **more)


# %% [markdown]
# ## Exercise 1

# %%
asked = {"20 steps, 0 to 0.5": 10, "20 steps, 0.25 to 1": 15, "3 steps, 0 to 0.5": 1, "4 steps, 0.9 to 1": 0}

# %%
assert check_asked(asked)

# %% [markdown]
# ## Exercise 2

# %%
faded = [steered(0.5, end=2 / 3), steered(0.5, end=1 / 3)]

# %%
assert check_faded(faded)

# %% [markdown]
# ## Exercise 3


# %%
def my_sum(unet, x, t, words, controls):
    down, middle = None, None
    for net, hint, strength in controls:
        more, last = net(x, t, words, hint, strength, return_dict=False)
        down = list(more) if down is None else [a + b for a, b in zip(down, more)]
        middle = last if middle is None else middle + last
    return unet(x, t, words, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample


# %%
assert check_sum(my_sum)
