"""The sampling loop by hand, as a generator: what a pipeline does between its first noise and its last latents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from time import perf_counter
from typing import Any

import torch

from chapter38.code import adapters, control, samplers, start
from chapter38.code.families import Conditioning
from chapter38.code.parts import Parts
from chapter38.errors import CannotExpress
from chapter38.recipe import Recipe

Hook = Callable[[int, int, torch.Tensor, torch.Tensor, Any], dict[str, Any]]
"""(step, steps, model input, t, Conditioning) -> more keyword arguments of the denoiser: where a ControlNet speaks."""


@dataclass(frozen=True)
class Step:
    """One step of the loop, for a batch of B pictures.

    index             0, 1, …
    t                 the timestep that the denoiser saw
    sigma             its noise level: noise over signal (flow matching: share of noise, 0 … 1)
    latent            (B, C, H/8, W/8) after the step, in the sampler's own scale; the last one is the result
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


def denoise(parts: Parts, recipe: Recipe) -> Iterator[Step]:
    """Draw one recipe step by step: `for step in denoise(load("postcards"), r): step.x0`.

    The last step's `latent` decodes to the picture: `parts.to_pixels(step.latent)`. A recipe with `hires` goes on with
    the steps of its second pass.
    """
    return walk(parts, [recipe])


@torch.no_grad()
def walk(parts: Parts, recipes: list[Recipe]) -> Iterator[Step]:
    """Draw several recipes in one pass; they may differ in prompt, negative, seed, image, mask and hint maps only."""
    step = None
    for step in _walk(parts, recipes, start.first(parts, recipes)):
        yield step
    if recipes[0].hires and step is not None:
        larger = [start.enlarged(recipe) for recipe in recipes]
        yield from _walk(parts, larger, start.again(parts, larger, step.latent))


def _walk(parts: Parts, recipes: list[Recipe], begun: start.Start) -> Iterator[Step]:
    first, family = recipes[0], parts.family
    _check(parts, first)
    adapters.attach(parts, first.adapters)
    speak = control.hook(parts, *recipes)
    told = parts.encode(recipes)
    solver = samplers.scheduler(
        first.sampler, first.spacing, parts.scheduler.config, first.steps, first.shift, family.mu(parts, first)
    )
    yield from loop(parts, told, solver, begun, speak, first, [recipe.seed for recipe in recipes])


def loop(
    parts: Parts, told: Conditioning, solver: Any, begun: start.Start, speak: Hook, recipe: Recipe, seeds: list[int]
) -> Iterator[Step]:
    """The loop itself, for whoever brings its own conditioning, scheduler and start.

    Of `recipe` it takes guidance, steps, strength and the picture's size; `seeds` are those of the step noise.
    """
    solver.timesteps = solver.timesteps.to(parts.device)
    times, latent = begun.lay(solver, recipe)
    options = _step_options(solver, [torch.Generator().manual_seed((seed + 1) % 2**64) for seed in seeds])
    scaled = getattr(solver, "scale_model_input", lambda sample, t: sample)

    def show(latents: torch.Tensor) -> torch.Tensor:
        return parts.family.unpack(parts, latents, recipe)

    for index, t in enumerate(times):
        began = perf_counter()
        doubled = torch.cat([latent] * 2) if told.guided else latent
        seen = scaled(doubled, t)
        prediction = parts.family.predict(parts, seen, t, told, speak(index, len(times), seen, t, told))
        without, given = prediction.chunk(2) if told.guided else (None, prediction)
        mixed = given if without is None else without + recipe.guidance * (given - without)
        sigma = samplers.sigma(solver, t)
        x0 = samplers.x0(solver, mixed, latent, sigma)
        latent = solver.step(mixed, t, latent, **options, return_dict=False)[0]
        latent = begun.keep(solver, latent, times[index + 1 :])
        seconds = perf_counter() - began
        yield Step(index, float(t), sigma, show(latent), show(x0), show(given), without, recipe.guidance, seconds)


def _check(parts: Parts, recipe: Recipe) -> None:
    """Refuse, before anything runs, what this loop has no meaning for."""
    if recipe.references:
        raise CannotExpress("references", "code", f"{parts.name} is no instruction-edit model; use image and strength")
    if recipe.shift is not None and "beta_schedule" in parts.scheduler.config:
        raise CannotExpress("shift", "code", f"{parts.name} was trained on a noise schedule; only flow matching shifts")
    layers = min((e.config.num_hidden_layers for _, e in parts.encoders), default=0)
    if recipe.clip_skip >= layers:
        raise CannotExpress("clip_skip", "code", f"{parts.name}'s text encoder has {layers} layers")


def _step_options(solver: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    """The step noise, where the sampler draws any: its own generator, seeded one above the picture's."""
    if "generator" not in signature(solver.step).parameters:
        return {}
    return {"generator": generators if len(generators) > 1 else generators[0]}
