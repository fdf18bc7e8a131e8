"""Where the loop starts: from noise, from a picture by strength, within a mask, or from a first pass enlarged."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from chapter38.code.parts import Parts, pixels
from chapter38.errors import RecipeError
from chapter38.recipe import Recipe


@dataclass
class Start:
    """What a walk begins with, for B pictures; all latents (B, C, H/8, W/8), unit variance.

    noise    the recipes' starting noise
    image    latents of the picture to start from, or None
    mask     (B, 1, H/8, W/8): 1 where the picture may change, or None
    """

    noise: torch.Tensor
    image: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    def lay(self, solver: Any, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
        """(timesteps to walk, first latents in the scheduler's scale); strength counts from the end of the list."""
        if self.image is None:
            return solver.timesteps, self.noise * getattr(solver, "init_noise_sigma", 1.0)
        steps, strength = recipe.steps, recipe.strength
        skipped = skipped_steps(solver, steps, strength) * solver.order
        times = solver.timesteps[skipped:]
        if not len(times):
            raise RecipeError(f"strength {strength:g} of {steps} steps leaves no step to draw; raise strength or steps")
        if hasattr(solver, "set_begin_index"):
            solver.set_begin_index(skipped)
        if self.mask is not None and strength == 1:
            return times, self.noise * getattr(solver, "init_noise_sigma", 1.0)
        return times, _noised(solver, self.image, self.noise, times[0])

    def keep(self, solver: Any, latent: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Outside the mask put back the picture, as noisy as the next step expects it."""
        if self.mask is None or self.image is None:
            return latent
        behind = self.image if not len(rest) else _noised(solver, self.image, self.noise, rest[0])
        return (1 - self.mask) * behind + self.mask * latent


def skipped_steps(solver: Any, steps: int, strength: float) -> int:
    """How many steps of a scheduler's list a strength leaves out: the last int(steps * strength) of them run.

    `steps` are those asked for: a spacing may list more or fewer, and ComfyUI, too, counts what was asked for.
    """
    if strength >= 1:
        return 0
    return max(0, int(solver.num_inference_steps) - int(steps * strength))


def noise(recipe: Recipe, parts: Parts) -> torch.Tensor:
    """The recipe's starting noise (1, C, H/8, W/8), drawn on the CPU: the same on every device."""
    shape = (1, parts.family.channels(parts), recipe.height // parts.factor, recipe.width // parts.factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(recipe.seed), dtype=torch.float32)


def first(parts: Parts, recipes: list[Recipe]) -> Start:
    """The start that the recipes ask for."""
    begun = Start(_noise(parts, recipes))
    if recipes[0].image is not None:
        begun.image = _packed(parts, parts.to_latents(_images(recipes)))
    if recipes[0].mask is not None and begun.image is not None:
        begun.image = begun.image.repeat(1, 1, 1, 1)  # plain strides, as the pipeline has: sums keep their order
        begun.mask = torch.cat([latent_mask(recipe, parts.factor) for recipe in recipes]).to(begun.noise)
    return begun


def enlarged(recipe: Recipe) -> Recipe:
    """The recipe of a hires second pass: a larger size (to the nearest multiple of 8), its own steps and strength.

    >>> enlarged(Recipe(prompt="", hires={"scale": 1.5})).width
    192
    """
    assert recipe.hires is not None
    scaled = lambda size: max(8, round(size * recipe.hires.scale / 8) * 8)  # noqa: E731
    steps = recipe.hires.steps or recipe.steps
    return recipe.model_copy(
        update={
            "width": scaled(recipe.width), "height": scaled(recipe.height), "steps": steps, "hires": None,
            "strength": recipe.hires.strength, "image": None, "mask": None,
        }
    )  # fmt: skip


def again(parts: Parts, recipes: list[Recipe], latent: torch.Tensor) -> Start:
    """The start of a hires second pass: decode, enlarge the pixels bicubically, encode, and add the same seed's noise.

    Exactly ComfyUI's VAEDecode, ImageScale (bicubic, crop disabled), VAEEncode, KSampler: pixels stay floats, are
    clamped to 0 … 1 before the enlargement and not after it.
    """
    unit = (parts.to_pixels(latent) / 2 + 0.5).clamp(0, 1)
    size = (recipes[0].height, recipes[0].width)
    wide = functional.interpolate(unit.float(), size=size, mode="bicubic") * 2 - 1
    return Start(_noise(parts, recipes), _packed(parts, parts.to_latents(wide)))


def latent_mask(recipe: Recipe, factor: int = 8) -> torch.Tensor:
    """The recipe's mask on the latents' grid (1, 1, H/8, W/8), hard: 1 where its pixel is white by more than half."""
    import numpy as np

    assert recipe.mask is not None
    picture = recipe.mask.image.convert("L")
    if picture.size != (recipe.width, recipe.height):
        raise RecipeError(f"mask: is {picture.width}x{picture.height}; expected the recipe's {recipe.width}x{recipe.height}")
    hard = torch.from_numpy((np.asarray(picture, dtype="float32") / 255 >= 0.5).astype("float32"))[None, None]
    return functional.interpolate(hard, size=(recipe.height // factor, recipe.width // factor))


def _images(recipes: list[Recipe]) -> torch.Tensor:
    return pixels([r.image.image for r in recipes if r.image], recipes[0].width, recipes[0].height)


def _noise(parts: Parts, recipes: list[Recipe]) -> torch.Tensor:
    drawn = torch.cat([noise(recipe, parts) for recipe in recipes])
    return _packed(parts, drawn.to(parts.device, parts.dtype))


def _packed(parts: Parts, latents: torch.Tensor) -> torch.Tensor:
    return parts.family.pack(latents)


def _noised(solver: Any, image: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    if hasattr(solver, "scale_noise"):
        return solver.scale_noise(image, t[None], noise)  # type: ignore[no-any-return]
    return solver.add_noise(image, noise, t[None])  # type: ignore[no-any-return]
