# %% [markdown]
# # Solutions of 38.1a, From one line to five parts

# %%
import torch

from chapter38.check.lesson_1a import check_fade, check_loop, check_passes

# %% [markdown]
# ## Exercise 1

# %%
at_four, at_one = 40, 20  # two halves a step; at guidance 1 the half without a prompt cancels, so it is not asked for

# %%
assert check_passes(at_four, at_one)

# %% [markdown]
# ## Exercise 2


# %%
def fade(pipeline, index, timestep, callback_kwargs):
    if index + 1 >= pipeline.num_timesteps // 2:  # called at the end of a step: what is set here acts in the next one
        pipeline._guidance_scale = 2.0
    return callback_kwargs


# %%
assert check_fade(fade)

# %% [markdown]
# ## Exercise 3


# %%
def my_loop(parts, words, silence, noise, scales):
    scheduler = parts.scheduler
    latents = noise * scheduler.init_noise_sigma
    for t, g in zip(scheduler.timesteps, scales, strict=True):
        x = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        without, with_prompt = parts.denoiser(x, t, encoder_hidden_states=torch.cat([silence, words]))[0].chunk(2)
        latents = scheduler.step(without + g * (with_prompt - without), t, latents)[0]
    return latents


# %%
assert check_loop(my_loop)
