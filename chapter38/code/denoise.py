"""The sampling loop by hand, as a generator: what a pipeline does between its first noise and its last latents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from chapter38.code import adapters, control, samplers
from chapter38.code.parts import Parts
from chapter38.recipe import Recipe

Hook = Callable[[int, int, torch.Tensor, torch.Tensor, Any], dict[str, Any]]
"""(step, steps, model input, t, Conditioning) -> more keyword arguments of the denoiser: where a ControlNet speaks."""


@dataclass(frozen=True)
class Step:
    """One step of the loop, for a batch of B pictures.

    index             0, 1, …
    t                 the timestep that the denoiser saw
    sigma             its noise level: noise over signal (flow matching: share of noise, 0 … 1)
    latent            (B, C, H/8, W/8) after the step, in the scheduler's own scale; the last one is the result
    x0                (B, C, H/8, W/8) the finished latents as predicted at this step, unit variance
    with_prompt       the denoiser's raw prediction given the prompt
    without_prompt    the one given the negative prompt; None at guidance <= 1
    guidance          the scale that mixed the two: without + guidance * (with - without)
    seconds           what this step took
    """

    index: int
    t: float
    sigma: float
    latent: torch.Tensor
    x0: torch.Tensor
    with_prompt: torch.Tensor
    without_prompt: torch.Tensor | None
    guidance: float
    seconds: float


def noise(recipe: Recipe, parts: Parts) -> torch.Tensor:
    """The recipe's starting noise (1, C, H/8, W/8), drawn on the CPU: the same on every device."""
    shape = (1, parts.denoiser.config.in_channels, recipe.height // 8, recipe.width // 8)
    generator = torch.Generator().manual_seed(recipe.seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def denoise(parts: Parts, recipe: Recipe) -> Iterator[Step]:
    """Draw one recipe step by step: `for step in denoise(load("postcards"), r): step.x0`.

    The last step's `latent` decodes to the picture: `parts.to_pixels(step.latent)`.
    """
    return walk(parts, [recipe])


@torch.no_grad()
def walk(parts: Parts, recipes: list[Recipe]) -> Iterator[Step]:
    """Draw several recipes in one pass; they may differ in prompt, negative and seed only."""
    first = recipes[0]
    adapters.attach(parts, first.adapters)
    speak = control.hook(parts, first)
    told = parts.encode(recipes)
    solver = samplers.scheduler(first.sampler, first.spacing, parts.scheduler.config, first.steps)
    start = torch.cat([noise(recipe, parts) for recipe in recipes]).to(parts.device, parts.dtype)
    latent = start * solver.init_noise_sigma
    generators = [torch.Generator().manual_seed((recipe.seed + 1) % 2**64) for recipe in recipes]
    options = samplers.step_options(solver, generators)
    for index, t in enumerate(solver.timesteps):
        began = perf_counter()
        doubled = torch.cat([latent] * 2) if told.guided else latent
        seen = solver.scale_model_input(doubled, t)
        prediction = parts.family.predict(parts, seen, t, told, speak(index, len(solver.timesteps), seen, t, told))
        without, given = prediction.chunk(2) if told.guided else (None, prediction)
        mixed = given if without is None else without + first.guidance * (given - without)
        sigma = samplers.sigma(solver, index, t)
        x0 = samplers.x0(solver, mixed, latent, sigma)
        latent = solver.step(mixed, t, latent, **options, return_dict=False)[0]
        yield Step(index, float(t), sigma, latent, x0, given, without, first.guidance, perf_counter() - began)
