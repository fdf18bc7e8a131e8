"""Checks of lesson 38.1a: how often the denoiser runs, a callback that fades the guidance, the loop by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from chapter38.check.verdict import Verdict, exercise
from chapter38.code import load, samplers
from chapter38.code.parts import Parts
from chapter38.recipe import Recipe

RECIPE = Recipe(prompt="a big blue house on the grass by day", seed=7, steps=4)
SCALES = (6.0, 4.0, 2.5, 1.5)


@exercise
def check_passes(at_four: int, at_one: int) -> Verdict:
    """How many latents pass through the denoiser in 20 steps at guidance 4 and at guidance 1."""
    if (at_four, at_one) == (40, 20):
        return Verdict(True, "guidance doubles the work, and Diffusers skips the second half where it would cancel.")
    if not all(isinstance(answer, (int, float)) for answer in (at_four, at_one)):
        return Verdict(False, f"expected two whole numbers, got {at_four!r} and {at_one!r}.")
    if at_four == 20:
        return Verdict(False, "at guidance 4 the loop needs two predictions a step; count both halves of the batch.")
    if at_four == 40 and at_one == 40:
        return Verdict(False, "the first is right. Put g = 1 into the formula: what is left of the second prediction?")
    if at_one == 0:
        return Verdict(False, "at guidance 1 the prompt still has to be heard, so the denoiser is still asked.")
    return Verdict(False, "count one step first: how many predictions does the guidance formula mix? Then multiply.")


@exercise
def check_fade(fade: Callable[..., Any]) -> Verdict:
    """A callback after which the first half of the steps ran at the guidance asked for and the second half at 2."""
    kit, n = _kit(), RECIPE.steps
    drawn = _pipeline(kit, fade)
    if isinstance(drawn, Verdict):
        return drawn
    runs = (_walk(kit, [RECIPE.guidance] * first + [2.0] * (n - first)) for first in range(n + 1))
    found = next((first for first, run in enumerate(runs) if torch.allclose(drawn, run, atol=1e-4)), None)
    if found == n // 2:
        return Verdict(True, f"{found} steps at {RECIPE.guidance:g}, {n - found} at 2: it acts on the next step.")
    if found == n:
        return Verdict(False, f"nothing changed: each of the {n} steps of this check ran at the scale that was asked for.")
    if found is not None:
        return Verdict(
            False, f"of {n} steps the first {found} ran at the scale that was asked for, and {n // 2} should have. "
            "A callback is called at the end of a step, so what it sets acts in the following one.",
        )  # fmt: skip
    return Verdict(False, "the second half did not run at 2, or something beside the guidance was changed.")


def _pipeline(kit: "_Kit", fade: Callable[..., Any]) -> "torch.Tensor | Verdict":
    pipeline = kit.parts.put_together()
    pipeline.set_progress_bar_config(disable=True)
    try:
        return pipeline(  # type: ignore[no-any-return]
            RECIPE.prompt, num_inference_steps=RECIPE.steps, guidance_scale=RECIPE.guidance, latents=kit.noise,
            output_type="latent", callback_on_step_end=fade,
        ).images  # fmt: skip
    except AttributeError as error:
        if "'NoneType'" in str(error):
            return Verdict(False, "the pipeline takes back what your callback returns, and it returned None.")
        if "setter" in str(error):
            return Verdict(False, "pipeline.guidance_scale is read-only; the task names the attribute it reads from.")
        raise


@exercise
def check_loop(my_loop: Callable[..., Any]) -> Verdict:
    """The sampling loop with a guidance for every step, on a scheduler that scales its input and its first noise."""
    kit = _kit("euler")
    kit.parts.scheduler.set_timesteps(RECIPE.steps)
    with torch.no_grad():
        mine = my_loop(kit.parts, kit.words, kit.silence, kit.noise, SCALES)
    if not isinstance(mine, torch.Tensor) or mine.shape != kit.noise.shape:
        came = tuple(mine.shape) if isinstance(mine, torch.Tensor) else type(mine).__name__
        return Verdict(False, f"expected the final latents, shape {tuple(kit.noise.shape)}; got {came}.")
    right = _walk(kit, SCALES)
    if torch.allclose(mine, right, atol=1e-3):
        return Verdict(True, "your loop gives the latents of the reference, step for step, at another scale in each.")
    for mistake, why in _MISTAKES.items():
        if torch.allclose(mine, _walk(kit, SCALES, mistake), atol=1e-3):
            return Verdict(False, why)
    return Verdict(False, f"the latents differ from the reference by up to {float((mine - right).abs().max()):.2g}.")


_MISTAKES = {
    "raw input": "so it comes out when the denoiser sees the latents as they are; this scheduler scales them first.",
    "raw noise": "so it comes out when the loop starts from noise of unit variance; this scheduler starts elsewhere.",
    "raw": "so it comes out when the scheduler is not asked for the scale of its first noise, nor for that of its input.",
    "swapped": "so it comes out when the halves are taken for each other: which of the two heard the prompt?",
    "constant": "so it comes out when the first scale is used in every step.",
    "unguided": "so it comes out when only the prediction with the prompt is used; the scales did nothing.",
}


@dataclass(frozen=True)
class _Kit:
    parts: Parts
    words: torch.Tensor
    silence: torch.Tensor
    noise: torch.Tensor


@cache
def _kit(sampler: str = "") -> _Kit:
    """Postcards on the CPU, with its own scheduler or Diffusers' Euler."""
    parts = load("postcards", device="cpu", dtype=torch.float32)
    if sampler == "euler":
        parts.pipeline.scheduler = samplers.scheduler("euler", "trailing", parts.scheduler.config, RECIPE.steps)
    silence, words = parts.encode([RECIPE]).embeddings.chunk(2)
    generator = torch.Generator().manual_seed(RECIPE.seed)
    return _Kit(parts, words, silence, torch.randn((1, 4, 8, 8), generator=generator))


@torch.no_grad()
def _walk(kit: _Kit, scales: Sequence[float], mistake: str = "") -> torch.Tensor:
    """The reference, or what comes out with one of the mistakes."""
    solver = kit.parts.scheduler
    solver.set_timesteps(len(scales))
    latents = kit.noise * (1 if mistake in ("raw noise", "raw") else solver.init_noise_sigma)
    halves = torch.cat([kit.words, kit.silence] if mistake == "swapped" else [kit.silence, kit.words])
    for t, own in zip(solver.timesteps, scales, strict=True):
        x = solver.scale_model_input(torch.cat([latents] * 2), t)
        x = torch.cat([latents] * 2) if mistake in ("raw input", "raw") else x
        without, given = kit.parts.denoiser(x, t, encoder_hidden_states=halves)[0].chunk(2)
        scale = {"unguided": 1.0, "constant": scales[0]}.get(mistake, own)
        latents = solver.step(without + scale * (given - without), t, latents)[0]
    return latents
