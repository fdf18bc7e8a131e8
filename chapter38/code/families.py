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


def _same(latents: torch.Tensor) -> torch.Tensor:
    return latents


@dataclass(frozen=True)
class Family:
    """One kind of model.

    encode   (parts, recipes) -> what the denoiser is told
    predict  (parts, model input, t, what it is told, a hook's extras) -> its prediction
    pack     latents (B, C, H/8, W/8) -> as the denoiser takes them; `unpack` (parts, latents, recipe) is the way back
    channels the latents' channels
    mu       logarithm of the shift of the noise levels for a picture's size, or None
    """

    encode: Callable[["Parts", list[Recipe]], Conditioning]
    predict: Callable[["Parts", torch.Tensor, torch.Tensor, Conditioning, dict[str, Any]], torch.Tensor]
    pack: Callable[[torch.Tensor], torch.Tensor] = _same
    unpack: Callable[["Parts", torch.Tensor, Recipe], torch.Tensor] = lambda parts, latents, recipe: latents
    channels: Callable[["Parts"], int] = lambda parts: int(parts.vae.config.latent_channels)
    mu: Callable[["Parts", Recipe], float | None] = lambda parts, recipe: None


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
