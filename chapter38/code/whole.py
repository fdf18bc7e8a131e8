"""Models without a loop by hand here: the recipe goes through their own pipeline, and nothing is dropped silently."""

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from chapter38.code import models
from chapter38.errors import CannotExpress
from chapter38.recipe import Recipe

if TYPE_CHECKING:
    from chapter38.code.parts import Parts

_BY_HAND = ("image", "mask", "hires", "adapters", "control", "clip_skip", "shift")  # fields that need our own loop


def draw_whole(parts: "Parts", recipe: Recipe) -> Image.Image:
    """One picture by the model's own pipeline and sampler. Raises CannotExpress for what that call cannot say."""
    row = models.registry().get(recipe.model, {})
    _check(recipe, row, type(parts.pipeline).__name__)
    call: dict[str, Any] = {
        "prompt": recipe.prompt, "num_inference_steps": recipe.steps, "width": recipe.width, "height": recipe.height,
        "generator": torch.Generator().manual_seed(recipe.seed), "output_type": "pil",
        row.get("guidance", "guidance_scale"): recipe.guidance - row.get("guidance_less", 0),
    }  # fmt: skip
    if row.get("negative", True) and recipe.guidance > 1:
        call["negative_prompt"] = recipe.negative
    if recipe.references:
        call["image"] = [reference.image.convert("RGB") for reference in recipe.references]
    with torch.no_grad():
        return parts.pipeline(**call).images[0]  # type: ignore[no-any-return]


def _check(recipe: Recipe, row: dict[str, Any], kind: str) -> None:
    for field in _BY_HAND:
        if getattr(recipe, field) != Recipe.model_fields[field].get_default():
            raise CannotExpress(field, "code", f"{kind} is drawn by its own pipeline here, which is not told of it")
    own = row.get("defaults", {"sampler": "flow_euler", "spacing": "trailing"})
    for field in ("sampler", "spacing"):
        if getattr(recipe, field) != own[field]:
            raise CannotExpress(field, "code", f"{kind} brings its own ({own[field]})")
    if recipe.prompt_syntax != "plain":
        raise CannotExpress("prompt_syntax", "code", f"{kind} reads prompts as they are")
    if recipe.negative and not row.get("negative", True):
        raise CannotExpress("negative", "code", f"{kind} takes no negative prompt")
    if recipe.references and not row.get("edits"):
        raise CannotExpress("references", "code", f"{recipe.model} does not edit by reference pictures")
