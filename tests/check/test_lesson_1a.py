"""The checks of 38.1a reject typical wrong answers, each with a reason that fits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from chapter38.check import lesson_1a as check


@pytest.mark.parametrize(
    ("four", "one", "hint"),
    [
        (20, 20, "two predictions"),
        (40, 40, "g = 1"),
        (40, 0, "still"),
        (80, 40, "count one step"),
        (21, 20, "count one"),
        ("40", 20, "whole numbers"),
    ],
)
def test_passes(four: int, one: int, hint: str) -> None:
    verdict = check.check_passes(four, one)
    assert not verdict and hint in verdict.why


def _setter(pipeline: Any, index: int, t: Any, kwargs: Any) -> Any:
    pipeline.guidance_scale = 2.0
    return kwargs


def _fading(when: Callable[[int, int], bool], back: bool = True) -> Callable[..., Any]:
    def fade(pipeline: Any, index: int, t: Any, kwargs: Any) -> Any:
        if when(index, pipeline.num_timesteps):
            pipeline._guidance_scale = 2.0
        return kwargs if back else None

    return fade


FADES = {
    "one step late": (_fading(lambda i, n: i >= n // 2), "first 3"),
    "from the start": (_fading(lambda i, n: True), "first 1"),
    "never": (_fading(lambda i, n: False), "nothing changed"),
    "returns nothing": (_fading(lambda i, n: True, back=False), "returned None"),
    "sets the property": (_setter, "read-only"),
    "no function": (2.0, "raised"),
}


@pytest.mark.parametrize("name", FADES)
def test_fade(name: str) -> None:
    answer, hint = FADES[name]
    verdict = check.check_fade(answer)
    assert not verdict and hint in verdict.why, verdict


def _loop(*, scaled: bool = True, started: bool = True, order: int = 1, constant: bool = False) -> Callable[..., Any]:
    def my_loop(parts: Any, words: Any, silence: Any, noise: Any, scales: Any) -> Any:
        solver = parts.scheduler
        x = noise * (solver.init_noise_sigma if started else 1)
        for t, g in zip(solver.timesteps, scales, strict=True):
            both = torch.cat([x, x])
            both = solver.scale_model_input(both, t) if scaled else both
            halves = torch.cat([silence, words][::order])
            without, given = parts.denoiser(both, t, encoder_hidden_states=halves)[0].chunk(2)
            x = solver.step(without + (scales[0] if constant else g) * (given - without), t, x)[0]
        return x

    return my_loop


LOOPS = {
    "input not scaled": (_loop(scaled=False), "scales them first"),
    "noise not scaled": (_loop(started=False), "unit variance"),
    "neither scaled": (_loop(scaled=False, started=False), "nor for that of its input"),
    "halves swapped": (_loop(order=-1), "which of the two"),
    "one scale": (_loop(constant=True), "first scale"),
    "the noise comes back": (lambda parts, words, silence, noise, scales: noise, "differ from the reference"),
    "a picture comes back": (lambda parts, words, silence, noise, scales: None, "expected the final latents"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loop(name: str) -> None:
    answer, hint = LOOPS[name]
    verdict = check.check_loop(answer)
    assert not verdict and hint in verdict.why, verdict


def test_a_right_loop_in_another_shape_is_right() -> None:
    assert check.check_loop(_loop())
