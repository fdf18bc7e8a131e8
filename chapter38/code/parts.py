"""A pipeline taken apart: tokenizers, text encoders, denoiser, scheduler, VAE, and what one family does with them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from PIL import Image

from chapter38.code.families import FAMILIES, Conditioning, Family
from chapter38.errors import ModelError, nearest
from chapter38.recipe import Recipe


@dataclass
class Parts:
    """The components of one loaded model. They are the pipeline's own objects: change one and both change.

    name, revision   what was asked for; the Hub commit that came, or None
    weights          file -> SHA-256 of what was loaded
    attached         what `adapters.attach` last did to these parts, so that it knows what to undo
    controls         ControlNets loaded so far, by the name a recipe uses
    """

    pipeline: Any
    name: str = "unnamed"
    revision: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    attached: Any = None
    controls: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """How this kind of model encodes prompts and calls its denoiser. ModelError for a kind without a loop."""
        kind = type(self.pipeline).__name__
        if kind not in FAMILIES:
            raise ModelError(f"{self.name}: no loop by hand for a {kind}; {nearest(kind, FAMILIES)}")
        return FAMILIES[kind]

    @property
    def denoiser(self) -> Any:
        """The U-Net or transformer: (latents, t, conditioning) -> prediction of the same shape as the latents."""
        return getattr(self.pipeline, "unet", None) or self.pipeline.transformer

    @property
    def vae(self) -> Any:
        return self.pipeline.vae

    @property
    def scheduler(self) -> Any:
        """The scheduler that came with the weights; its config holds the trained schedule."""
        return self.pipeline.scheduler

    @property
    def encoders(self) -> list[tuple[Any, Any]]:
        """(tokenizer, text encoder) pairs, in order."""
        names = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"), ("tokenizer_3", "text_encoder_3")]
        pairs = [(getattr(self.pipeline, t, None), getattr(self.pipeline, e, None)) for t, e in names]
        return [pair for pair in pairs if pair[1] is not None]

    @property
    def device(self) -> torch.device:
        """Where the work is done; with offloading, not where the weights rest."""
        return self.pipeline._execution_device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's precision, which is the latents'."""
        return next(self.denoiser.parameters()).dtype

    @property
    def factor(self) -> int:
        """Pixels a latent spans in each direction: 8 for nearly all."""
        return int(self.pipeline.vae_scale_factor)

    def put_together(self) -> Any:
        """A fresh pipeline of the same class around the same components: `Parts(p).put_together()` draws as p does."""
        kind, parts = type(self.pipeline), self.pipeline.components
        settings = {k: v for k, v in self.pipeline.config.items() if k in signature(kind).parameters and k not in parts}
        return kind(**parts, **settings)

    @contextmanager
    def _vae_that_holds_out(self) -> Iterator[Any]:
        """The VAE, for the while in float32 where float16 overflows: as Diffusers, in the family that heeds `force_upcast`."""
        half = self.vae.dtype == torch.float16 and self.family.upcast and self.vae.config.get("force_upcast")
        if half:
            self.vae.float()
        try:
            yield self.vae
        finally:
            if half:
                self.vae.half()

    @torch.no_grad()
    def encode(self, recipes: list[Recipe]) -> Conditioning:
        """The prompts of a batch as the denoiser wants them; negatives first where guidance asks for them."""
        return self.family.encode(self, recipes)

    @torch.no_grad()
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] -> latents (B, C, H/8, W/8): the posterior's mode, as ComfyUI takes it."""
        with self._vae_that_holds_out() as vae:
            mode = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return ((mode - (getattr(vae.config, "shift_factor", None) or 0)) * vae.config.scaling_factor).to(self.dtype)

    @torch.no_grad()
    def to_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, H/8, W/8) -> pixels (B, 3, H, W), nominally in [-1, 1]."""
        with self._vae_that_holds_out() as vae:
            scaled = latents.to(vae.dtype) / vae.config.scaling_factor
            shift = getattr(vae.config, "shift_factor", None)
            return vae.decode(scaled + shift if shift else scaled, return_dict=False)[0]  # type: ignore[no-any-return]


def images(pixels: torch.Tensor) -> list[Image.Image]:
    """Pixels (B, 3, H, W) in [-1, 1] -> RGB pictures, rounded as Diffusers rounds."""
    unit = (pixels * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
    return [Image.fromarray(array) for array in (unit * 255).round().astype("uint8")]


def pixels(pictures: Iterable[Image.Image], width: int, height: int) -> torch.Tensor:
    """Pictures -> (B, 3, height, width) in [-1, 1]. Raises ModelError where one has another size."""
    import numpy as np

    rows = []
    for picture in pictures:
        if picture.size != (width, height):
            raise ModelError(f"the image is {picture.width}x{picture.height}; the recipe draws {width}x{height}")
        rows.append(torch.from_numpy(np.asarray(picture.convert("RGB"), dtype="float32") / 255))
    return 2.0 * torch.stack(rows).permute(0, 3, 1, 2) - 1.0
