"""A world whose score is known in closed form, so that a sampler's error is measured, not judged.

The data are a one-dimensional mixture of Gaussians (one component: a Gaussian). Noised by σ each component stays
Gaussian with variance s² + σ², so the ideal denoiser is a formula; and because the probability-flow ODE keeps the
order of points on a line, its solution is the quantile map F₀⁻¹(F_σ(x)): exact for any mixture
(Song et al. 2021, arXiv:2011.13456, sec. 4.3; Karras et al. 2022, arXiv:2206.00364, app. B.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from scipy.stats import norm

from chapter38.code import samplers

TRAINED = {  # Stable Diffusion's schedule
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "trained_betas": None, "prediction_type": "epsilon",
}  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """Data on a line: `means` and standard deviations `spreads` of components in equal shares."""

    means: tuple[float, ...] = (0.5,)
    spreads: tuple[float, ...] = (0.5,)

    def denoised(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """E[x0 | x] for x = x0 + σ·noise, any shape: the ideal prediction."""
        m, s2 = np.array(self.means), np.square(self.spreads)
        z = x[..., None]
        variance = s2 + sigma**2
        responsible = softmax(-0.5 * (z - m) ** 2 / variance - 0.5 * np.log(variance), axis=-1)
        return np.asarray((responsible * (s2 * z + sigma**2 * m) / variance).sum(-1))

    def distribution(self, x: np.ndarray, sigma: float) -> np.ndarray:
        """F_σ(x), the cumulative distribution of the noised data."""
        spread = np.sqrt(np.square(self.spreads) + sigma**2)
        return np.asarray(norm.cdf((x[..., None] - np.array(self.means)) / spread).mean(-1))

    def quantile(self, p: np.ndarray, sigma: float) -> np.ndarray:
        """F_σ⁻¹(p), by bisection to machine precision (a Gaussian: directly)."""
        if len(self.means) == 1:
            return self.means[0] + np.sqrt(self.spreads[0] ** 2 + sigma**2) * norm.ppf(p)
        reach = 10 * (max(np.abs(self.means)) + max(self.spreads) + sigma)
        low, high = np.full_like(p, -reach), np.full_like(p, reach)
        for _ in range(100):
            middle = (low + high) / 2
            below = self.distribution(middle, sigma) < p
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def solution(self, x: np.ndarray, sigma: float, end: float = 0.0) -> np.ndarray:
        """Where the probability-flow ODE carries x from noise level σ to noise level `end`."""
        return self.quantile(self.distribution(x, sigma), end)


def sample(world: Mixture, sampler: str, spacing: str, steps: int, count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(ends, exact ends) of `count` points, one at each noised quantile, walked by a sampler with the ideal denoiser.

    The walk ends at the schedule's last positive noise level: every sampler jumps from there to 0 in one
    first-order step, whose error no number of steps makes smaller.
    """
    solver = samplers.scheduler(sampler, spacing, TRAINED, steps)
    times, unit = solver.timesteps, samplers.scale(solver) == "unit"
    shrink = lambda sigma: (1 + sigma**2) ** -0.5 if unit else 1.0  # noqa: E731
    first = samplers.sigma(solver, times[0])
    start = world.quantile((np.arange(count) + 0.5) / count, first)
    latent = torch.from_numpy(start * shrink(first)).view(-1, 1, 1, 1)
    noise = {"generator": torch.Generator().manual_seed(38)} if "generator" in signature(solver.step).parameters else {}
    for t in times[:-1]:
        sigma = samplers.sigma(solver, t)
        x = latent.double() / shrink(sigma)
        epsilon = (x - torch.from_numpy(world.denoised(x.numpy(), sigma))) / sigma
        solver.scale_model_input(latent, t)  # some schedulers insist on having been asked
        latent = solver.step(epsilon, t, latent, **noise, return_dict=False)[0]
    last = samplers.sigma(solver, times[-1])
    return latent.double().flatten().numpy() / shrink(last), world.solution(start, first, last)


def error(world: Mixture, sampler: str, spacing: str, steps: int) -> float:
    """Root mean square distance of the sampler's ends from the exact ones, in units of the data."""
    ends, exact = sample(world, sampler, spacing, steps)
    return float(np.sqrt(np.mean((ends - exact) ** 2)))


def order(errors: Sequence[float], steps: Sequence[int]) -> float:
    """The order of convergence: minus the slope of log error over log steps.

    >>> round(order([1.0, 0.25, 0.0625], [10, 20, 40]), 6)
    2.0
    """
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def table(world: Mixture, rows: Sequence[tuple[str, str]], steps: Sequence[int]) -> list[dict[str, Any]]:
    """One row a (sampler, spacing): its errors at each number of steps, and the order they show."""
    return [
        {"sampler": sampler, "spacing": spacing, "errors": errors, "order": order(errors, steps)}
        for sampler, spacing in rows
        for errors in [[error(world, sampler, spacing, n) for n in steps]]
    ]
