"""What differs between model families: how words become conditioning, and how the denoiser is called."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from chapter38.code import prompts
from chapter38.errors import CannotExpress
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
    upcast   whether its pipeline heeds the VAE's `force_upcast`, which Diffusers sets for every VAE that does not say no
    """

    encode: Callable[["Parts", list[Recipe]], Conditioning]
    predict: Callable[["Parts", torch.Tensor, torch.Tensor, Conditioning, dict[str, Any]], torch.Tensor]
    pack: Callable[[torch.Tensor], torch.Tensor] = _same
    unpack: Callable[["Parts", torch.Tensor, Recipe], torch.Tensor] = lambda parts, latents, recipe: latents
    channels: Callable[["Parts"], int] = lambda parts: int(parts.vae.config.latent_channels)
    mu: Callable[["Parts", Recipe], float | None] = lambda parts, recipe: None
    upcast: bool = False


def guided(recipe: Recipe) -> bool:
    """Whether a negative pass runs: as in Diffusers, only above 1."""
    return recipe.guidance > 1


def _both(recipes: list[Recipe]) -> list[str]:
    """The texts of a batch in the denoiser's order: negatives first where guidance asks for them."""
    return [r.negative for r in recipes if guided(r)] + [r.prompt for r in recipes]


def _encode_sd(parts: "Parts", recipes: list[Recipe]) -> Conditioning:
    (tokenizer, encoder), first = parts.encoders[0], recipes[0]
    told = [prompts.encode(tokenizer, encoder, text, first.prompt_syntax, first.clip_skip)[0] for text in _both(recipes)]
    return Conditioning(torch.cat(prompts.even(told)).to(parts.dtype), guided(first))


def _encode_sdxl(parts: "Parts", recipes: list[Recipe]) -> Conditioning:
    """Two encoders' penultimate layers side by side; the second's pooled output and the picture's size beside them."""
    first = recipes[0]
    told: list[torch.Tensor] = []
    pooled: list[Any] = []
    for text in _both(recipes):
        said = [prompts.encode(t, e, text, first.prompt_syntax, first.clip_skip, True) for t, e in parts.encoders]
        told.append(torch.cat([hidden for hidden, _ in said], dim=-1))
        pooled.append(said[-1][1])
    size = torch.tensor([[first.height, first.width, 0, 0, first.height, first.width]], device=parts.device)
    added = {"text_embeds": torch.cat(pooled).to(parts.dtype), "time_ids": size.to(parts.dtype).repeat(len(told), 1)}
    return Conditioning(torch.cat(prompts.even(told)).to(parts.dtype), guided(first), {"added_cond_kwargs": added})


def _predict_unet(parts: "Parts", x: torch.Tensor, t: torch.Tensor, told: Conditioning, extra: dict[str, Any]) -> torch.Tensor:
    out = parts.denoiser(x, t, encoder_hidden_states=told.embeddings, **told.extra, **extra, return_dict=False)
    return out[0]  # type: ignore[no-any-return]


def _transform(parts: "Parts", x: torch.Tensor, t: torch.Tensor, told: Conditioning, extra: dict[str, Any]) -> torch.Tensor:
    named = {"hidden_states": x, "timestep": t, "encoder_hidden_states": told.embeddings, **told.extra, **extra}
    return parts.denoiser(**named, return_dict=False)[0]  # type: ignore[no-any-return]


def _plain_only(recipe: Recipe, kind: str) -> None:
    """Refuse what T5's prompts have no meaning for."""
    if recipe.prompt_syntax == "weighted":
        raise CannotExpress("prompt_syntax", "code", f"weights on words are not defined for {kind}'s T5 encoder")
    if recipe.clip_skip:
        raise CannotExpress("clip_skip", "code", f"{kind} was trained on the layers it reads")


def _encode_sd3(parts: "Parts", recipes: list[Recipe]) -> Conditioning:
    _plain_only(recipes[0], "Stable Diffusion 3")
    said = [parts.pipeline.encode_prompt(text, None, None, do_classifier_free_guidance=False) for text in _both(recipes)]
    pooled = torch.cat([one[2] for one in said]).to(parts.dtype)
    told = torch.cat([one[0] for one in said]).to(parts.dtype)
    return Conditioning(told, guided(recipes[0]), {"pooled_projections": pooled})


def _predict_sd3(parts: "Parts", x: torch.Tensor, t: torch.Tensor, told: Conditioning, extra: dict[str, Any]) -> torch.Tensor:
    return _transform(parts, x, t.expand(len(x)), told, extra)


def _encode_flux(parts: "Parts", recipes: list[Recipe]) -> Conditioning:
    """FLUX is told its guidance and runs once; the places of text and picture travel as ids."""
    first = recipes[0]
    _plain_only(first, "FLUX")
    if any(r.negative for r in recipes):
        raise CannotExpress("negative", "code", "FLUX has its guidance built in and takes no negative prompt")
    if first.width % (2 * parts.factor) or first.height % (2 * parts.factor):
        raise CannotExpress("width", "code", f"FLUX pairs its latents: sizes are multiples of {2 * parts.factor}")
    pipeline = parts.pipeline
    said = [pipeline.encode_prompt(r.prompt, None) for r in recipes]
    rows, columns = (size // parts.factor // 2 for size in (first.height, first.width))
    places = pipeline._prepare_latent_image_ids(len(recipes), rows, columns, parts.device, parts.dtype)
    extra = {
        "pooled_projections": torch.cat([one[1] for one in said]), "txt_ids": said[0][2], "img_ids": places,
    }  # fmt: skip
    if parts.denoiser.config.guidance_embeds:
        extra["guidance"] = torch.full([1], first.guidance, device=parts.device).expand(len(recipes))
    return Conditioning(torch.cat([one[0] for one in said]), False, extra)


def _predict_flux(parts: "Parts", x: torch.Tensor, t: torch.Tensor, told: Conditioning, extra: dict[str, Any]) -> torch.Tensor:
    return _transform(parts, x, t.expand(len(x)).to(x.dtype) / 1000, told, extra)


def _pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h/2 * w/2, 4C): each 2x2 of latents is one token of FLUX."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h // 2 * (w // 2), 4 * c)


def _unpack(parts: "Parts", tokens: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    h, w = recipe.height // parts.factor // 2, recipe.width // parts.factor // 2
    b, c = len(tokens), tokens.shape[-1] // 4
    return tokens.view(b, h, w, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, 2 * h, 2 * w)


def _mu(parts: "Parts", recipe: Recipe) -> float | None:
    """Larger pictures lean more towards noise: linear in the number of tokens (Esser et al. 2024, section 5.3.2)."""
    config = parts.scheduler.config
    if not config.get("use_dynamic_shifting"):
        return None
    if recipe.shift is not None:
        return math.log(recipe.shift)
    tokens = (recipe.height // parts.factor // 2) * (recipe.width // parts.factor // 2)
    least, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    slope = (config.get("max_shift", 1.15) - config.get("base_shift", 0.5)) / (most - least)
    return float(tokens * slope + (config.get("base_shift", 0.5) - slope * least))


FAMILIES = {
    "StableDiffusionPipeline": Family(_encode_sd, _predict_unet),
    "StableDiffusionXLPipeline": Family(_encode_sdxl, _predict_unet, upcast=True),
    "StableDiffusion3Pipeline": Family(_encode_sd3, _predict_sd3, mu=_mu),
    "FluxPipeline": Family(_encode_flux, _predict_flux, _pack, _unpack, mu=_mu),
}
