"""Tiny pipelines with random weights, of the same classes as the real models: what tests take in their place."""

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
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from chapter38.postcards import WEIGHTS

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def words() -> Any:
    """Postcards' tokenizer: a real CLIP tokenizer of 756 tokens and a context of 32."""
    return CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer")


def t5_words(length: int = 16) -> Any:
    """A tokenizer in T5's shape that knows a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "blue", "boat", "cat", "on", "the", "sea"])}
    made = Tokenizer(models.WordLevel(known, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length
    )


def vae(channels: int = 4, **config: Any) -> AutoencoderKL:
    blocks = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    return AutoencoderKL(down_block_types=down, up_block_types=up, latent_channels=channels, **blocks, **config).eval()


def text(kind: Any = CLIPTextModel, width: int = 32) -> Any:
    config = CLIPTextConfig(
        vocab_size=756, hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=32, projection_dim=width, bos_token_id=754, eos_token_id=755, pad_token_id=755,
    )  # fmt: skip
    return kind(config).eval()


def unet(cross: int = 32, **config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, cross_attention_dim=cross,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **config,
    ).eval()  # fmt: skip


def sd(seed: int = 0, **schedule: Any) -> StableDiffusionPipeline:
    torch.manual_seed(seed)
    return quiet(StableDiffusionPipeline(
        vae(), text(), words(), unet(), DDIMScheduler(**SCHEDULE, steps_offset=1, **schedule), None, None,
        requires_safety_checker=False,
    ))  # fmt: skip


def sdxl(seed: int = 0) -> StableDiffusionXLPipeline:
    torch.manual_seed(seed)
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 80,
    }
    return quiet(StableDiffusionXLPipeline(
        vae(force_upcast=True), text(), text(CLIPTextModelWithProjection), words(), words(), unet(64, **added),
        DDIMScheduler(**SCHEDULE, steps_offset=1), add_watermarker=False,
    ))  # fmt: skip


def sd3(seed: int = 0) -> StableDiffusion3Pipeline:
    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, out_channels=16,
        pos_embed_max_size=32,
    ).eval()  # fmt: skip
    t5 = T5EncoderModel(T5Config(vocab_size=11, d_model=64, d_kv=8, d_ff=64, num_layers=1, num_heads=4)).eval()
    return quiet(StableDiffusion3Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae(16, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text(CLIPTextModelWithProjection), words(), text(CLIPTextModelWithProjection), words(), t5, t5_words(),
    ))  # fmt: skip


def flux(seed: int = 0, guidance: bool = True) -> FluxPipeline:
    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
    ).eval()  # fmt: skip
    t5 = T5EncoderModel(T5Config(vocab_size=11, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)).eval()
    shifting = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15} if guidance else {"shift": 1.0}
    return quiet(FluxPipeline(
        FlowMatchEulerDiscreteScheduler(**shifting), vae(4, shift_factor=0.1, scaling_factor=0.4), text(), words(), t5,
        t5_words(), transformer,
    ))  # fmt: skip


def grey(size: int, value: int = 90) -> Any:
    """A plain picture with a lighter corner."""
    from PIL import Image

    picture = Image.new("RGB", (size, size), (value, value, value + 40))
    picture.paste((200, 30, 60), (0, 0, size // 2, size // 2))
    return picture


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
