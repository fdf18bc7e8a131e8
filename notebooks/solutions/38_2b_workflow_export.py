# %% [markdown]
# # Solutions of 38.2b, A picture that is its own workflow

# %%
from chapter38 import Recipe
from chapter38.canvas import export
from chapter38.check.lesson_2b import check_edit, check_same, check_shifted

graph = export(Recipe(prompt="a small red sailboat on the left, on the sea, at sunset", seed=38))

# %% [markdown]
# ## Exercise 1

# %%
shifted = {"steps": 7.0, "cfg": "euler", "start_at_step": 10_000}  # each gets the value of the place behind it

# %%
assert check_shifted(shifted)

# %% [markdown]
# ## Exercise 2

# %%
sampler = next(node for node in graph.nodes if node.type == "KSampler")
edited = graph.set(sampler.id, seed=39, steps=40)

# %%
assert check_edit(graph, edited)

# %% [markdown]
# ## Exercise 3

# %%
import json


def says(api, id):  # what a node makes, told without any node's name: each link is replaced by what stands behind it
    node = api[id]
    told = {name: [says(api, v[0]), v[1]] if isinstance(v, list) else v for name, v in node["inputs"].items()}
    return [node["class_type"], told]


def my_same(a, b):
    saved = lambda api: sorted(json.dumps(says(api, id), sort_keys=True) for id in api if api[id]["class_type"] == "SaveImage")
    return saved(a) == saved(b)


# %%
assert check_same(my_same)
