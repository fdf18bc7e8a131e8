"""What differs between model families: how words become conditioning, and how the denoiser is called."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from chapter38.code import prompts
from chapter38.recipe import Recipe

if TYPE_CHECKING:
    from chapter38.code.parts import Parts


@dataclass
class Conditioning:
    """What the denoiser is told beside the latents, for a batch of B pictures.

    embeddings   (B or 2B, tokens, width); with guidance the negatives stand first
    guided       whether there are two halves
    extra        further keyword arguments of the denoiser
    """

    embeddings: torch.Tensor
    guided: bool
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One kind of model. `predict` maps (parts, model input, t, conditioning, hook's extras) to the prediction.

    flow   whether it was trained by flow matching (straight paths, sigma in 0 … 1) and not on a noise schedule
    """

    encode: Callable[["Parts", list[Recipe]], Conditioning]
    predict: Callable[["Parts", torch.Tensor, torch.Tensor, Conditioning, dict[str, Any]], torch.Tensor]
    flow: bool = False


def guided(recipe: Recipe) -> bool:
    """Whether a negative pass runs: as in Diffusers, only above 1."""
    return recipe.guidance > 1


def _encode_sd(parts: "Parts", recipes: list[Recipe]) -> Conditioning:
    (tokenizer, encoder), first = parts.encoders[0], recipes[0]
    say = lambda text: prompts.encode(tokenizer, encoder, text, first.prompt_syntax, first.clip_skip)[0]  # noqa: E731
    told = [say(r.prompt) for r in recipes]
    if guided(first):
        told = [say(r.negative) for r in recipes] + told
    return Conditioning(torch.cat(prompts.even(told)).to(parts.dtype), guided(first))


def _predict_unet(
    parts: "Parts", x: torch.Tensor, t: torch.Tensor, told: Conditioning, extra: dict[str, Any]
) -> torch.Tensor:
    out = parts.denoiser(x, t, encoder_hidden_states=told.embeddings, **told.extra, **extra, return_dict=False)
    return out[0]  # type: ignore[no-any-return]


FAMILIES = {"StableDiffusionPipeline": Family(_encode_sd, _predict_unet)}
