"""Spacings: pure functions from (what a model was trained on, number of steps) to the noise levels to stop at."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

RHO = 7.0  # Karras et al. 2022, eq. 5
BETA = 0.6  # both shape parameters of the beta spacing, arXiv:2407.12173


@dataclass(frozen=True)
class Trained:
    """The noise levels that a model was trained on.

    sigmas   (T,) ascending: noise over signal; for flow matching the share of noise, 0 … 1
    logs     (T,) their natural logarithms, rounded once from float64
    shift    flow matching: how far the levels lean towards noise; 1 is none
    flow     whether it was trained by flow matching
    """

    sigmas: torch.Tensor
    logs: torch.Tensor
    shift: float = 1.0
    flow: bool = False

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Noise level at fractional timesteps 0 … T-1 (flow: 0 … T): linear in log sigma between trained levels."""
        if self.flow:
            return shifted(t / len(self.sigmas), self.shift)
        t = t.float().clamp(0, len(self.sigmas) - 1)
        low, high, part = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - part) * self.logs[low] + part * self.logs[high]).exp()

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """What the denoiser is told at a noise level: the nearest trained timestep in log sigma (flow: sigma * T)."""
        if self.flow:
            return sigma * len(self.sigmas)
        return (sigma.log()[None] - self.logs[:, None]).abs().argmin(0)


def shifted(t: Any, shift: float) -> Any:
    """Lean flow-matching times 0 … 1 towards noise (Esser et al. 2024, eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


def trained(config: Mapping[str, Any], shift: float | None = None) -> Trained:
    """What a scheduler's config says about the training. Needs `num_train_timesteps`, and a beta schedule or a shift."""
    count = config.get("num_train_timesteps", 1000)
    if "beta_schedule" not in config:
        lean = config.get("shift", 1.0) if shift is None else shift
        sigmas = shifted(torch.arange(1, count + 1) / count, lean)
        return Trained(sigmas, sigmas.log(), lean, flow=True)
    bars = torch.cumprod(1 - _betas(config, count), 0)
    exact = ((1 - bars) / bars) ** 0.5
    return Trained(exact.float(), exact.log().float())


def _betas(config: Mapping[str, Any], count: int) -> torch.Tensor:
    start, end, kind = config["beta_start"], config["beta_end"], config["beta_schedule"]
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    if kind == "linear":
        return torch.linspace(start, end, count, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=count, beta_schedule=kind).betas.double()


def sigmas(spacing: str, schedule: Trained, steps: int) -> torch.Tensor:
    """The noise levels of a spacing, descending, ending in 0: (steps + 1,); `ddim_uniform` and `beta` may differ.

    >>> from chapter38.code.spacings import sigmas, trained
    >>> len(sigmas("karras", trained({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}), 10))
    11
    """
    return torch.cat([SPACINGS[spacing](schedule, steps).float(), torch.zeros(1)])


def _at(schedule: Trained, t: Any) -> torch.Tensor:
    """Diffusers' reading of a timestep: linear in sigma between trained levels (flow: shifted, 1-based)."""
    if schedule.flow:
        return shifted(torch.as_tensor(t, dtype=torch.float32) / len(schedule.sigmas), schedule.shift)  # type: ignore[no-any-return]
    return torch.from_numpy(np.interp(t, np.arange(len(schedule.sigmas)), schedule.sigmas.numpy()))


def _leading(schedule: Trained, steps: int) -> torch.Tensor:
    jump = len(schedule.sigmas) // steps
    return _at(schedule, (np.arange(steps) * jump)[::-1] + 1)


def _linspace(schedule: Trained, steps: int) -> torch.Tensor:
    count = len(schedule.sigmas)
    if schedule.flow:  # Diffusers walks between the shifted ends, then shifts once more
        first, last = (schedule.sigmas[[-1, 0]].double() * count).tolist()
        return _at(schedule, np.linspace(first, last, steps))
    return _at(schedule, np.linspace(0, count - 1, steps)[::-1])


def _trailing(schedule: Trained, steps: int) -> torch.Tensor:
    count = len(schedule.sigmas)
    if schedule.flow:
        return _at(schedule, np.linspace(count, count / steps, steps))
    return _at(schedule, np.round(np.arange(count, 0, -count / steps)) - 1)


def _karras(schedule: Trained, steps: int) -> torch.Tensor:
    low, high = schedule.sigmas[0] ** (1 / RHO), schedule.sigmas[-1] ** (1 / RHO)
    return (high + torch.linspace(0, 1, steps) * (low - high)) ** RHO


def _exponential(schedule: Trained, steps: int) -> torch.Tensor:
    low, high = math.log(float(schedule.sigmas[0])), math.log(float(schedule.sigmas[-1]))
    return torch.linspace(high, low, steps).exp()


def _normal(schedule: Trained, steps: int) -> torch.Tensor:
    ends = schedule.timestep(schedule.sigmas[[-1, 0]])
    return schedule.sigma(torch.linspace(float(ends[0]), float(ends[1]), steps))


def _sgm_uniform(schedule: Trained, steps: int) -> torch.Tensor:
    return _normal(schedule, steps + 1)[:-1]


def _simple(schedule: Trained, steps: int) -> torch.Tensor:
    count = len(schedule.sigmas)
    return schedule.sigmas[[count - 1 - int(i * (count / steps)) for i in range(steps)]]


def _ddim_uniform(schedule: Trained, steps: int) -> torch.Tensor:
    return schedule.sigmas[1 :: max(len(schedule.sigmas) // steps, 1)].flip(0)


def _beta(schedule: Trained, steps: int) -> torch.Tensor:
    from scipy.stats import beta

    quantiles = beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), BETA, BETA)
    t = np.rint(quantiles * (len(schedule.sigmas) - 1)).astype(int)
    return schedule.sigmas[t[np.append(True, t[1:] != t[:-1])]]


def _linear_quadratic(schedule: Trained, steps: int) -> torch.Tensor:
    """Half of the steps within the first 2.5 % of the way, evenly; the rest speeds up quadratically (Mochi 1)."""
    high, small = float(schedule.sigmas[-1]), 0.025
    if steps == 1:
        return torch.tensor([high])
    half, rest = steps // 2, steps - steps // 2
    even = np.arange(half) * small / half
    slope = small / half  # the quadratic part starts where and as steep as the even part ends, and ends at 1
    i = np.arange(rest)
    bend = (1 - small - slope * rest) / rest**2
    return torch.from_numpy((1 - np.concatenate([even, small + slope * i + bend * i**2])) * high)


SPACINGS: dict[str, Callable[[Trained, int], torch.Tensor]] = {
    "leading": _leading, "linspace": _linspace, "trailing": _trailing, "karras": _karras, "exponential": _exponential,
    "normal": _normal, "simple": _simple, "sgm_uniform": _sgm_uniform, "ddim_uniform": _ddim_uniform, "beta": _beta,
    "linear_quadratic": _linear_quadratic,
}  # fmt: skip
