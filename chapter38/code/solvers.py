"""Samplers that Diffusers lacks or draws other noise for, in Diffusers' shape: drop them into any pipeline."""

import warnings
from typing import Any

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor

POINTS = 200  # of the integrals in ER-SDE, as in the method's own code


class _Remembering(EulerDiscreteScheduler):
    """A multistep method in sigma space: x = x0 + sigma * noise. Subclasses say how x goes on from the x0 so far.

    `seen` holds (sigma, x0) of the steps so far, newest last.
    """

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.seen: list[tuple[float, torch.Tensor]] = []

    def step(  # type: ignore[override]
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """One step of Diffusers' protocol, float32 inside."""
        dtype, (_, x0) = model_output.dtype, super().step(model_output, timestep, sample, return_dict=False)
        now, then = (float(self.sigmas[self.step_index - 1 + i]) for i in (0, 1))
        self.seen = [*self.seen[-2:], (now, x0)]
        noise = lambda: randn_tensor(x0.shape, generator=generator, device=x0.device, dtype=torch.float32)  # noqa: E731
        after = (self.onward(sample.float(), then, noise) if then else x0).to(dtype)
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteSchedulerOutput

        return EulerDiscreteSchedulerOutput(after, x0) if return_dict else (after, x0)

    def onward(self, x: torch.Tensor, then: float, noise: Any) -> torch.Tensor:
        raise NotImplementedError


class ResMultistepScheduler(_Remembering):
    """The refined exponential solver as a second-order multistep (Zhang et al. 2023, arXiv:2308.02157, order conditions).

    In time -log(sigma) the drift is linear but for x0, which is taken as the line through its last two values; the
    integrals of that line against the exponential are the phi functions.
    """

    def onward(self, x: torch.Tensor, then: float, noise: Any) -> torch.Tensor:
        now, x0 = self.seen[-1]
        h = _log(now) - _log(then)
        phi1 = -torch.expm1(-h) / h
        if len(self.seen) == 1:
            return (-h).exp() * x + h * phi1 * x0
        before, old = self.seen[-2]
        ratio = -(_log(before) - _log(now)) / h  # where, in units of h, the older x0 stands
        phi2 = (phi1 - 1) / -h
        return (-h).exp() * x + h * ((phi1 - phi2 / ratio) * x0 + phi2 / ratio * old)


class ErSdeScheduler(_Remembering):
    """ER-SDE-Solver-3 (Cui et al. 2023, arXiv:2309.06169): a reverse SDE whose noise scale is chosen, third order in x0.

    With noise scale f(s) = s (exp(s^0.3) + 10): x goes on as r x + (1 - r) x0, r = f(then) / f(now), corrected by the
    first and second differences of x0 against integrals of 1 / f, plus noise of variance then² - (r now)².
    """

    def onward(self, x: torch.Tensor, then: float, noise: Any) -> torch.Tensor:
        now, x0 = self.seen[-1]
        s, t = torch.tensor(now), torch.tensor(then)
        r = _scale(t) / _scale(s)
        after = r * x + (1 - r) * x0
        points = t + torch.arange(POINTS) * (s - t) / POINTS
        width = (s - t) / POINTS
        if len(self.seen) > 1:
            before, old = self.seen[-2]
            slope = (x0 - old) / (now - before)
            after = after + (t - s + (width / _scale(points)).sum() * _scale(t)) * slope
        if len(self.seen) > 2:
            earlier, oldest = self.seen[-3]
            bend = (slope - (old - oldest) / (before - earlier)) / ((now - earlier) / 2)
            after = after + ((t - s) ** 2 / 2 + (width * (points - s) / _scale(points)).sum() * _scale(t)) * bend
        return after + noise() * (t**2 - s**2 * r**2).clamp(min=0).sqrt()


class BrownianSdeScheduler(DPMSolverMultistepScheduler):
    """SDE-DPM-Solver++ whose noise is one Brownian path, so that more steps refine the picture and do not change it.

    The path's seed is one less than the step generator's, the picture's own: as ComfyUI has it.
    """

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.paths: list[Any] = []

    def step(  # type: ignore[override]
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """One step; the generators only lend their seeds."""
        if self.step_index is None:
            self._init_step_index(timestep)
        now, then = self.sigmas[self.step_index], self.sigmas[self.step_index + 1]
        if not self.paths:
            self.paths = self._grow(generator, sample)
        noise = torch.zeros_like(sample) if then == 0 else self._between(now, then).to(sample)
        return super().step(model_output, timestep, sample, variance_noise=noise, return_dict=return_dict)

    def _grow(self, generator: Any, sample: torch.Tensor) -> list[Any]:
        from torchsde import BrownianTree

        ends = self.sigmas[self.sigmas > 0].min(), self.sigmas[self.step_index]
        many = generator if isinstance(generator, list) else [generator]
        shape = sample.shape[1:] if isinstance(generator, list) else sample.shape
        return [BrownianTree(ends[0], torch.zeros(shape), ends[1], entropy=(g.initial_seed() - 1) % 2**64) for g in many]

    def _between(self, now: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Should have")  # the path's ends, rounded by torchsde
            steps = [path(then, now) for path in self.paths]
        return -(torch.stack(steps) if len(steps) > 1 else steps[0]) / (now - then).sqrt()


def _log(value: float) -> torch.Tensor:
    return torch.tensor(value).log()


def _scale(s: torch.Tensor) -> torch.Tensor:
    return s * ((s**0.3).exp() + 10)
