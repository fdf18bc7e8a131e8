"""Checks of lesson 38.1b: what steps cost, a fair comparison, a step of second order."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from chapter38.check.verdict import Verdict, exercise
from chapter38.code import samplers
from chapter38.measure.exact import TRAINED, Mixture, order

WORLD = Mixture(means=(-0.7,), spreads=(0.3,))
COUNTS = (16, 32, 64, 128)
HIGH, LOW = 10.0, 0.05


@exercise
def check_evaluations(answer: Mapping[str, Any]) -> Verdict:
    """Evaluations of the denoiser in 30 steps, for each sampler named."""
    if any(value is ... for value in answer.values()):
        return Verdict(None, "put a number where each ... stands, and run this cell again.")
    asked = ("euler", "heun", "dpm_2", "pndm")
    if missing := [name for name in asked if name not in answer]:
        return Verdict(False, f"there is no number for {', '.join(missing)} yet.")
    wrong = {name: answer[name] for name in asked if answer[name] != _evaluations(name, 30)}
    if not wrong:
        return Verdict(True, "two evaluations a step where the slope is taken twice, but for the last; pndm warms up once.")
    if set(answer.values()) == {30}:
        return Verdict(False, "that counts steps. Some samplers ask the denoiser more than once in a step.")
    if {wrong.get("heun"), wrong.get("dpm_2")} & {60}:
        return Verdict(False, "nearly: the last step ends at noise level 0, and there is no slope to be had there.")
    if wrong.get("pndm") == 30:
        return Verdict(False, "pndm keeps four slopes in memory; look in trap 1 at what its start costs.")
    return Verdict(False, f"not right for {', '.join(wrong)}; hold trap 1's numbers for 20 steps against 20.")


@exercise
def check_fair(fair: Callable[[str, int], int]) -> Verdict:
    """The largest number of steps that costs at most a budget of evaluations."""
    over, under = [], []
    for name in ("euler", "heun", "dpm_2", "pndm", "dpmpp_2m"):
        for budget in (10, 25, 40):
            steps = fair(name, budget)
            if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
                return Verdict(False, f"fair({name!r}, {budget}) gave {steps!r}; expected a whole number of steps, at least 1.")
            if _evaluations(name, int(steps)) > budget:
                over.append((name, budget, steps, _evaluations(name, int(steps))))
            elif _evaluations(name, int(steps) + 1) <= budget:
                under.append((name, budget, steps))
    if over:
        name, budget, steps, cost = over[0]
        return Verdict(False, f"{steps} steps of {name} cost {cost} evaluations, more than the budget of {budget}.")
    if under:
        name, budget, steps = under[0]
        return Verdict(False, f"{steps} steps of {name} keep within {budget} evaluations, but one step more would too.")
    return Verdict(True, "every sampler spends its budget to the last step that fits.")


@exercise
def check_step(my_step: Callable[..., Any]) -> Verdict:
    """One step of a second-order solver with at most two evaluations; its order is measured."""
    calls = 0

    def denoised(x: np.ndarray, sigma: float) -> np.ndarray:
        nonlocal calls
        calls += 1
        return WORLD.denoised(np.asarray(x), sigma)

    start = WORLD.quantile((np.arange(16) + 0.5) / 16, HIGH)
    errors, steps = [], 0
    for count in COUNTS:
        x, sigmas = start, np.geomspace(HIGH, LOW, count + 1)
        for now, after in pairwise(sigmas):
            x = my_step(denoised, x, float(now), float(after))
            steps += 1
        errors.append(float(np.sqrt(np.mean((np.asarray(x) - WORLD.solution(start, HIGH, LOW)) ** 2))))
    if not np.isfinite(errors).all() or errors[-1] > 0.3 * WORLD.spreads[0]:
        return Verdict(False, f"the walk does not end at the data (error {errors[-1]:.2g}): which way does the slope point?")
    measured = order(errors, COUNTS)
    if measured < 1.6:
        return Verdict(False, f"it arrives, with order {measured:.2f}: the error does not fall with the square of the step. "
                       "Are both slopes used, each at its own place and its own noise level?")  # fmt: skip
    if calls > 2 * steps:
        return Verdict(False, f"order {measured:.2f}, but with {calls / steps:.3g} evaluations a step; two are allowed.")
    return Verdict(True, f"measured order {measured:.2f} with {calls / steps:.3g} evaluations a step.")


@cache
def _evaluations(sampler: str, steps: int) -> int:
    return len(samplers.scheduler(sampler, "trailing", TRAINED, steps).timesteps)
