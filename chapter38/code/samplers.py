"""Samplers and spacings: a spacing says at which noise levels to stop, a sampler how to walk between them."""

from typing import Any

from chapter38.errors import CannotExpress

_COMMON = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
}
FLAGS: dict[str, dict[str, Any]] = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"timestep_spacing": "leading", "use_karras_sigmas": True},
}


def scheduler(sampler: str, spacing: str, trained: dict[str, Any], steps: int) -> Any:
    """A Diffusers scheduler for a model trained as `trained` (a scheduler's config), its timesteps set."""
    import diffusers

    if sampler not in CLASSES or spacing not in FLAGS:
        raise CannotExpress("sampler", "code", f"no {sampler} with {spacing} spacing here yet")
    name, flags = CLASSES[sampler]
    common = {key: trained[key] for key in _COMMON if key in trained}
    made = getattr(diffusers, name)(**common, **flags, **FLAGS[spacing])
    made.set_timesteps(steps)
    return made


def step_options(solver: Any, generators: list[Any]) -> dict[str, Any]:
    """What `solver.step` takes beside prediction, t and sample: the step noise, where there is any."""
    from inspect import signature

    takes = signature(solver.step).parameters
    return {"generator": generators if len(generators) > 1 else generators[0]} if "generator" in takes else {}


def sigma(solver: Any, index: int, t: Any) -> float:
    """Noise over signal at this step."""
    if hasattr(solver, "sigmas") and len(getattr(solver, "sigmas")) > index:
        return float(solver.sigmas[index])
    alpha = float(solver.alphas_cumprod[int(t)])
    return float(((1 - alpha) / alpha) ** 0.5)


def x0(solver: Any, prediction: Any, sample: Any, sigma: float) -> Any:
    """The finished latents that a prediction amounts to (Karras et al. 2022, eq. 7; Salimans & Ho 2022, app. D)."""
    signal = 1 / (1 + sigma**2) ** 0.5
    unit = sample * signal if _scaled(solver) else sample  # variance-exploding samplers carry x / signal
    kind = solver.config.prediction_type
    if kind == "epsilon":
        return (unit - sigma * signal * prediction) / signal
    if kind == "v_prediction":
        return signal * unit - sigma * signal * prediction
    return prediction


def _scaled(solver: Any) -> bool:
    return float(solver.init_noise_sigma) != 1.0
