"""Real models in their full size, with random weights: they draw noise at the real model's speed and in its memory.

What a GPU without a network can prove: that the loop by hand runs the model as it is, and what a picture costs there.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from chapter38.postcards import WEIGHTS
from tests.code.tiny import quiet, t5_words

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


def schedule() -> DDIMScheduler:
    """Stable Diffusion's."""
    with torch.device("cpu"):
        return DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        )


def flow(**shift: Any) -> FlowMatchEulerDiscreteScheduler:
    with torch.device("cpu"):
        return FlowMatchEulerDiscreteScheduler(**shift)


def words() -> Any:
    """Postcards' tokenizer, padding to CLIP's 77 tokens."""
    return CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer", model_max_length=77)


def clip(kind: Any, shape: dict[str, int]) -> Any:
    return kind(CLIPTextConfig(**shape, vocab_size=49408, max_position_embeddings=77, projection_dim=shape["hidden_size"]))


def t5() -> Any:
    return T5EncoderModel(T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
    ))  # fmt: skip


def vae(channels: int = 4, **config: Any) -> AutoencoderKL:
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        latent_channels=channels, **config,
    )  # fmt: skip


def sixteen() -> AutoencoderKL:
    """The autoencoder of SD 3 and FLUX: 16 channels."""
    return vae(16, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False)


def sd15() -> Any:
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    return StableDiffusionPipeline(
        vae(), clip(CLIPTextModel, CLIP_L), words(), unet, schedule(), None, None, requires_safety_checker=False
    )


def sdxl() -> Any:
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae(scaling_factor=0.13025, force_upcast=True), clip(CLIPTextModel, CLIP_L), clip(CLIPTextModelWithProjection, CLIP_G),
        words(), words(), unet, schedule(), add_watermarker=False,
    )  # fmt: skip


def sd35_medium() -> Any:
    transformer = SD3Transformer2DModel(
        sample_size=128, num_layers=24, num_attention_heads=24, attention_head_dim=64, joint_attention_dim=4096,
        caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=384, qk_norm="rms_norm",
        dual_attention_layers=tuple(range(13)),
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer, flow(shift=3.0), sixteen(), clip(CLIPTextModelWithProjection, CLIP_L), words(),
        clip(CLIPTextModelWithProjection, CLIP_G), words(), t5(), t5_words(256),
    )  # fmt: skip


def flux(guidance: bool) -> Any:
    shifting = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15} if guidance else {"shift": 1.0}
    return FluxPipeline(
        flow(**shifting), sixteen(), clip(CLIPTextModel, CLIP_L), words(), t5(), t5_words(512),
        FluxTransformer2DModel(guidance_embeds=guidance),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd15": sd15,
    "sdxl": sdxl,
    "sd35-medium": sd35_medium,
    "flux-schnell": lambda: flux(False),
    "flux-dev": lambda: flux(True),
}


def build(name: str, device: str, dtype: torch.dtype) -> Any:
    """The pipeline of a model in BUILDERS, its random weights (PyTorch's own initialisation, seed 0) made on the device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            pipeline = BUILDERS[name]()
    finally:
        torch.set_default_dtype(before)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return quiet(pipeline)
