# %% [markdown]
# # Solutions of 38.0, The ladder

# %%
from chapter38.check.lesson_0 import check_lift, check_rule, check_rungs
from chapter38.ladder import Needs

# %% [markdown]
# ## Exercise 1

# %%
rungs = {"shop": "canvas", "app": "call", "lab": "code", "comic": "canvas"}

# %%
assert check_rungs(rungs)

# %% [markdown]
# ## Exercise 2

# %%
stuck = Needs(per_month=900, latency_p95=1.0, budget="100")
lifted = stuck.model_copy(update={"latency_p95": 5.0})  # whoever asked for one second has to agree to five

# %%
assert check_lift(stuck, lifted)

# %% [markdown]
# ## Exercise 3

# %%
from chapter38.ladder import CONTROL


def my_rule(needs):
    rungs = [CONTROL[name] for name in needs.control]
    if needs.offline or needs.residency or needs.adapters:
        rungs.append("canvas")
    if needs.latency_p95 is not None and needs.latency_p95 < 2:
        rungs.append("canvas")
    return max(rungs, key=["call", "canvas", "code"].index, default="call")


# %%
assert check_rule(my_rule)
