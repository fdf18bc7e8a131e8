"""Samplers: a Diffusers class with flags, joined to any list of noise levels; with ComfyUI's names beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from chapter38.errors import CannotExpress
from chapter38.recipe import SPACINGS

if TYPE_CHECKING:  # the table is also read where torch is not installed
    import torch

    from chapter38.code.spacings import Trained

DIFFUSERS = ("leading", "linspace", "trailing")
WHOLE = (*DIFFUSERS, "simple", "ddim_uniform", "beta")  # every level is that of a whole timestep
_FLAGS: dict[str, dict[str, Any]] = {spacing: {"timestep_spacing": spacing} for spacing in DIFFUSERS} | {
    "karras": {"use_karras_sigmas": True}
}
_TRAINING = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
_OFFSET: dict[str, Any] = {"steps_offset": 1}  # what Stable Diffusion was trained with; pipelines insist on it


def _plain(solver: Any, found: torch.Tensor, schedule: Trained) -> None:
    solver.sigmas, solver.timesteps = found, schedule.timestep(found[:-1]).float()


def _solver(solver: Any, found: torch.Tensor, schedule: Trained) -> None:
    solver.sigmas, solver.timesteps = found, schedule.timestep(found[:-1])


def _short_of_zero(solver: Any, found: torch.Tensor, schedule: Trained) -> None:
    found[-1] = 0.001  # where the logarithm still exists; ComfyUI's uni_pc ends there too
    _solver(solver, found, schedule)


def _whole(solver: Any, found: torch.Tensor, schedule: Trained) -> None:
    solver.timesteps, solver.custom_timesteps = schedule.timestep(found[:-1]), True


def _twice(solver: Any, found: torch.Tensor, schedule: Trained) -> None:
    import torch

    t = schedule.timestep(found[:-1])
    solver.sigmas = torch.cat([found[:1], found[1:-1].repeat_interleave(2), found[-1:]])
    solver.timesteps = torch.cat([t[:1], t[1:].repeat_interleave(2)]).float()


def _halfway(solver: Any, found: torch.Tensor, schedule: Trained) -> None:
    import torch

    t, middle = schedule.timestep(found[:-1]), found.log().lerp(found.roll(1).log(), 0.5).exp()
    solver.sigmas = torch.cat([found[:1], found[1:].repeat_interleave(2), found[-1:]])
    solver.sigmas_interpol = torch.cat([middle[:1], middle[1:].repeat_interleave(2), middle[-1:]])
    inner = torch.stack((schedule.timestep(middle[1:-1]), t[1:]), -1).flatten()
    solver.timesteps = torch.cat([t[:1], inner]).float()


@dataclass(frozen=True)
class Sampler:
    """A row of the table.

    cls       a scheduler class, of Diffusers or of `solvers`
    flags     what it is made with, beside the training's schedule
    scale     "noise": it carries x0 + sigma * noise; "unit": unit variance; "flow": (1 - sigma) * x0 + sigma * noise
    lay       writes a list of noise levels into the class's own attributes
    native    spacings that the class has flags for: exactly Diffusers' own scheduler
    joined    spacings that it follows because we hand it the list
    follower  the row that walks the joined spacings in its place, where the class cannot leave its own list
    drops     ComfyUI asks for one level more and leaves out the last but one
    comfy     ComfyUI's sampler of the same arithmetic, or None; `differs` says why there is none
    """

    cls: str
    flags: dict[str, Any] = field(default_factory=dict)
    scale: str = "noise"
    lay: Callable[[Any, torch.Tensor, Trained], None] = _plain
    native: tuple[str, ...] = DIFFUSERS
    joined: tuple[str, ...] = SPACINGS
    follower: str | None = None
    drops: bool = False
    comfy: str | None = None
    differs: str | None = None


_DPM: dict[str, Any] = {"scale": "unit", "lay": _solver, "native": (*DIFFUSERS, "karras")}
TABLE: dict[str, Sampler] = {
    "euler": Sampler("EulerDiscreteScheduler", _OFFSET, comfy="euler"),
    "euler_ancestral": Sampler("EulerAncestralDiscreteScheduler", _OFFSET, comfy="euler_ancestral"),
    "heun": Sampler("HeunDiscreteScheduler", _OFFSET, lay=_twice, comfy="heun"),
    "ddim": Sampler(  # without step noise it is Euler in sigma space
        "DDIMScheduler", _OFFSET | {"clip_sample": False, "set_alpha_to_one": True}, "unit", follower="euler", comfy="euler"
    ),
    "ddpm": Sampler("DDPMScheduler", _OFFSET | {"clip_sample": False}, "unit", _whole, joined=WHOLE, comfy="ddpm"),
    "dpmpp_2m": Sampler("DPMSolverMultistepScheduler", _OFFSET, **_DPM, comfy="dpmpp_2m"),
    "dpmpp_2m_sde": Sampler(
        "BrownianSdeScheduler", _OFFSET | {"algorithm_type": "sde-dpmsolver++"}, **_DPM, comfy="dpmpp_2m_sde"
    ),
    "dpm_2": Sampler("KDPM2DiscreteScheduler", _OFFSET, lay=_halfway, drops=True, comfy="dpm_2"),
    "uni_pc": Sampler(
        "UniPCMultistepScheduler", _OFFSET | {"solver_order": 3, "solver_type": "bh1"}, "unit", _short_of_zero, native=(),
        drops=True, comfy="uni_pc",
    ),
    "lms": Sampler("LMSDiscreteScheduler", _OFFSET, differs="ComfyUI's lms takes its last step to the predicted x0"),
    "pndm": Sampler(
        "PNDMScheduler", _OFFSET | {"skip_prk_steps": True}, "unit", joined=(), differs="ComfyUI has no such sampler"
    ),
    "deis": Sampler("DEISMultistepScheduler", _OFFSET, "unit", _short_of_zero,
                    differs="ComfyUI's deis is of third order"),
    "lcm": Sampler(
        "LCMScheduler", {"clip_sample": False, "original_inference_steps": 1000}, "unit", _whole, native=(), joined=WHOLE,
        comfy="lcm",
    ),
    "er_sde": Sampler("ErSdeScheduler", _OFFSET, comfy="er_sde"),
    "res_multistep": Sampler("ResMultistepScheduler", _OFFSET, comfy="res_multistep"),
    "flow_euler": Sampler("FlowMatchEulerDiscreteScheduler", {}, "flow", native=("linspace", "trailing"), comfy="euler"),
    "flow_heun": Sampler("FlowMatchHeunDiscreteScheduler", {}, "flow", _twice, native=(), comfy="heun"),
}  # fmt: skip
_NEAREST = {"trailing": "simple", "leading": "ddim_uniform", "linspace": "normal"}  # ComfyUI's, of Diffusers' own spacings
_STARTS = "Diffusers scales the first noise, or rounds the levels, as ComfyUI does not; {} spacing is the nearest that both have"
_ALIGNED = "Diffusers' ddim steps off its own list unless the steps divide the trained timesteps"


def scheduler(
    sampler: str,
    spacing: str,
    config: Mapping[str, Any],
    steps: int,
    shift: float | None = None,
    mu: float | None = None,
) -> Any:
    """A scheduler for a model that was trained as `config` says (its own scheduler's config), its timesteps set.

    Works in a pipeline (`pipe.scheduler = …`; its `set_timesteps` keeps the list) and in the loop by hand. `shift`
    replaces a flow-matching model's own; `mu` is the logarithm of the shift of one that shifts by the picture's size.
    Raises CannotExpress for a pair that makes no sense.
    """
    from chapter38.code.spacings import trained

    row = _row(sampler, spacing, config)
    if spacing in row.native:
        return _native(row, spacing, config, steps, shift, mu)
    schedule = trained(config, math.exp(mu) if mu is not None else shift)
    return following(sampler, config, levels(sampler, spacing, schedule, steps), schedule)


def following(sampler: str, config: Mapping[str, Any], found: torch.Tensor, schedule: Trained) -> Any:
    """A scheduler that visits exactly these noise levels, descending to 0."""
    row = TABLE[TABLE[sampler].follower or sampler]
    made = _joined(_class(row.cls))(**_training(row, config), **row.flags)
    made.follow = row, found, schedule
    made.set_timesteps(len(found) - 1)
    return made


def levels(sampler: str, spacing: str, schedule: Trained, steps: int) -> torch.Tensor:
    """The noise levels that a sampler visits, descending to 0: the spacing's, less one where ComfyUI drops one."""
    import torch

    from chapter38.code.spacings import sigmas

    if not TABLE[sampler].drops or spacing in DIFFUSERS:
        return sigmas(spacing, schedule, steps)
    found = sigmas(spacing, schedule, steps + 1)
    return torch.cat([found[:-2], found[-1:]])


@dataclass(frozen=True)
class Twin:
    """ComfyUI's spelling of a pair. scheduler None: hand it the list (SamplerCustom with ManualSigmas).

    `why` says what stands against the same picture; None: the same to 1/255.
    """

    sampler: str | None
    scheduler: str | None
    why: str | None = None


def twin(sampler: str, spacing: str, steps: int, train_steps: int = 1000) -> Twin:
    """ComfyUI's names for a sampler and a spacing, and whether they draw the same picture."""
    row = TABLE[sampler]
    if spacing not in DIFFUSERS or row.scale == "flow":
        return Twin(row.comfy, None if spacing in DIFFUSERS else spacing, row.differs)
    same = row.scale == "unit" and spacing == "trailing"
    why = row.differs or (None if same else _STARTS.format(_NEAREST[spacing]))
    if sampler == "ddim":
        aligned = train_steps % steps == 0
        return Twin(row.comfy, _NEAREST[spacing] if aligned else None, why if aligned else _ALIGNED)
    return Twin(row.comfy, None, why)


def scale(solver: Any) -> str:
    """In which scale a scheduler of this table carries its sample: "noise", "unit" or "flow"."""
    return _scale_of(type(solver))  # type: ignore[arg-type]


@cache
def _scale_of(cls: type) -> str:
    names = {c.__name__ for c in cls.__mro__}
    return next((row.scale for row in TABLE.values() if row.cls in names), "unit")


def _row(sampler: str, spacing: str, config: Mapping[str, Any]) -> Sampler:
    row = TABLE[sampler]
    flow = "beta_schedule" not in config
    if flow != (row.scale == "flow"):
        kind = "by flow matching" if flow else "on a noise schedule"
        fits = ", ".join(name for name, other in TABLE.items() if (other.scale == "flow") == flow)
        raise CannotExpress("sampler", "code", f"this model was trained {kind}, which {sampler} is not for; try {fits}")
    if spacing not in (*row.native, *row.joined):
        fits = ", ".join(dict.fromkeys((*row.native, *row.joined)))
        raise CannotExpress("spacing", "code", f"{sampler} cannot follow {spacing}; it can follow {fits}")
    if config.get("rescale_betas_zero_snr"):
        raise CannotExpress(
            "model", "code", "it was trained to pure noise (zero terminal SNR), which no sampler here takes"
        )
    return row


def _class(name: str) -> Any:
    import diffusers

    from chapter38.code import solvers

    return getattr(solvers, name, None) or getattr(diffusers, name)


def _training(row: Sampler, config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _TRAINING if key in config and row.scale != "flow"}


def _native(
    row: Sampler, spacing: str, config: Mapping[str, Any], steps: int, shift: float | None, mu: float | None
) -> Any:
    """Diffusers' own scheduler, by flags alone."""
    if row.scale != "flow":
        made = _class(row.cls)(**_training(row, config), **row.flags, **_FLAGS[spacing])
        made.set_timesteps(steps)
        return made
    own = {"shift": shift, "use_dynamic_shifting": False} if shift is not None and mu is None else {}
    made = _class(row.cls).from_config(config, **own)
    trailing = {"sigmas": np.linspace(1.0, 1 / steps, steps)} if spacing == "trailing" else {}
    made.set_timesteps(steps, **trailing, mu=mu)
    return made


@cache
def _joined(cls: Any) -> Any:
    return type(f"Joined{cls.__name__}", (_Joined, cls), {})


class _Joined:
    """Makes a scheduler class follow `follow` = (row, noise levels, training), whatever steps it is asked for.

    The starting noise has unit variance where the first level is the last trained one: x = sqrt(1 + sigma²) * noise.
    """

    follow: tuple[Sampler, torch.Tensor, Trained] | None = None
    init_noise_sigma = property(lambda self: self._start, lambda self, value: None)
    _start: Any = 1.0

    def set_timesteps(
        self, num_inference_steps: Any = None, device: Any = None, *more: Any, sigmas: Any = None, mu: Any = None
    ) -> None:
        """Lay out the list. `num_inference_steps`, `sigmas` and `mu` are what pipelines pass; the list stays."""
        if self.follow is None:  # some classes call this while they are made
            return super().set_timesteps(num_inference_steps, device, *more)  # type: ignore[misc,no-any-return]
        row, found, schedule = self.follow
        super().set_timesteps(len(found) - 1, device=device)  # type: ignore[misc]
        row.lay(self, found.clone(), schedule)
        self._start = _first_scale(row, found[0], schedule)
        self.timesteps = self.timesteps.to(device)  # type: ignore[has-type]
        if hasattr(self, "set_begin_index"):
            self.set_begin_index(0)  # two levels may round to one timestep: count steps, and do not look them up
        return None


def _first_scale(row: Sampler, first: torch.Tensor, schedule: Trained) -> Any:
    import torch

    if schedule.flow:
        return 1.0
    top = torch.isclose(first, schedule.sigmas[-1], rtol=1e-5, atol=0)
    noise = (1 + first**2) ** 0.5 if top else first
    return noise if row.scale == "noise" else noise / (1 + first**2) ** 0.5


def sigma(solver: Any, t: torch.Tensor) -> float:
    """The noise level of the step that comes next: noise over signal (flow: share of noise)."""
    halfway = scale(solver) == "noise" and not getattr(solver, "state_in_first_order", True)
    levels = getattr(solver, "sigmas_interpol" if halfway and hasattr(solver, "sigmas_interpol") else "sigmas", None)  # type: Any
    if (levels is not None and scale(solver) != "unit") or hasattr(solver, "model_outputs"):
        place = solver.step_index
        if place is None:
            place = solver.begin_index or 0
        return float(levels[place])
    bar = float(solver.alphas_cumprod[int(t)])
    return float(((1 - bar) / bar) ** 0.5)


def x0(solver: Any, prediction: torch.Tensor, sample: torch.Tensor, sigma: float) -> torch.Tensor:
    """The finished latents that a prediction amounts to, unit variance.

    Noise prediction: Ho et al. 2020, eq. 15; v: Salimans & Ho 2022, appendix D; flow: Esser et al. 2024, eq. 8.
    """
    if scale(solver) == "flow":
        return sample - sigma * prediction
    signal = (1 + sigma**2) ** -0.5
    unit = sample * signal if scale(solver) == "noise" else sample
    if solver.config.prediction_type == "v_prediction":
        return signal * unit - sigma * signal * prediction
    return unit / signal - sigma * prediction
