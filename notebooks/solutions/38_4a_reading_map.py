# %% [markdown]
# # Solutions of 38.4a, The reading map

# %%
from chapter38.check.lesson_4a import check_foundation, check_order, check_weekend
from chapter38.show.reading_map import reading_map

works = reading_map()

# %% [markdown]
# ## Exercise 1

# %%
import networkx as nx

graph = works.graph()
papers = [entry.id for entry in works.entries if entry.kind != "book"]
named_most = max(papers, key=graph.out_degree)
rested_on_most = max(papers, key=lambda name: len(nx.descendants(graph, name)))

# %%
assert check_foundation(named_most, rested_on_most)

# %% [markdown]
# ## Exercise 2

# %%
weekend = [entry.id for entry in works.path("hu2022lora", "heusel2017") if entry.kind != "book"]

# %%
assert check_weekend(weekend)

# %% [markdown]
# ## Exercise 3


# %%
def my_order(before):
    done = []
    waiting = dict(before)
    while waiting:
        ready = [name for name, needs in waiting.items() if set(needs) <= set(done)]
        if not ready:
            raise ValueError(f"these wait for each other: {sorted(waiting)}")
        done += ready
        for name in ready:
            del waiting[name]
    return done


# %%
assert check_order(my_order)
