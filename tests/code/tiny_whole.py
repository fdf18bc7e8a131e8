"""Tiny pipelines, random weights, of families that are drawn by their own pipeline and not by our loop."""

import tiny
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def t5(width: int = 32) -> object:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=11, d_model=width, d_kv=8, d_ff=64, num_layers=1, num_heads=4)).eval()


def chroma() -> object:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    torch.manual_seed(0)
    transformer = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=[4, 4, 8], approximator_hidden_dim=32, approximator_layers=1,
        approximator_num_channels=16,
    ).eval()  # fmt: skip
    vae = tiny.vae(4, shift_factor=0.06, scaling_factor=1.5)
    return tiny.quiet(ChromaPipeline(FlowMatchEulerDiscreteScheduler(), vae, t5(), tiny.t5_words(), transformer))


def pixart() -> object:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=32, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
        in_channels=4, cross_attention_dim=24, out_channels=8, attention_bias=True, activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
    ).eval()  # fmt: skip
    solver = DPMSolverMultistepScheduler()
    return tiny.quiet(PixArtSigmaPipeline(tiny.t5_words(), t5(), tiny.vae(), transformer, solver))


def qwen_image() -> object:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=3,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    ).eval()  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    ).eval()  # fmt: skip
    text = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 32, "rope_theta": 1e6,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, hidden_size=16, vocab_size=32)
    encoder = Qwen2_5_VLForConditionalGeneration(config).eval()
    solver = FlowMatchEulerDiscreteScheduler()
    return tiny.quiet(QwenImagePipeline(solver, vae, encoder, tiny.t5_words(512), transformer))


def z_image() -> object:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    ).eval()  # fmt: skip
    with torch.no_grad():
        transformer.x_pad_token.fill_(1.0)
        transformer.cap_pad_token.fill_(1.0)
    config = Qwen3Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=32, max_position_embeddings=512,
    )  # fmt: skip
    words = tiny.t5_words(512)
    words.chat_template = CHAT
    vae = tiny.vae(16, shift_factor=0.1159, scaling_factor=0.3611)
    return tiny.quiet(ZImagePipeline(FlowMatchEulerDiscreteScheduler(), vae, Qwen3Model(config).eval(), words, transformer))
