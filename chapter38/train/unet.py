"""The denoiser and its text encoder, trained together on cached latents: v-prediction, plain loss, high noises drawn more often.

The place of an object is decided at the highest noise, and weights that favour low noises (min-SNR) starve it:
hence weight 1 and timesteps drawn as u**0.6 · 1000, stratified over the batch (POWER below).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from chapter38.postcards.dataset import training_scenes
from chapter38.train.loop import Report, generator, train
from chapter38.train.muon import Muon
from chapter38.train.vae import stack

BATCH, CAPTIONS, UNSAID = 64, 6, 0.1
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def fresh(tokenizer: CLIPTokenizer) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The shapes that ComfyUI's own classes hold: widths in multiples of 32, one head count, CLIP's activation."""
    attention = ("", "CrossAttn", "CrossAttn")
    unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=tuple(f"{a}DownBlock2D" for a in attention),
        up_block_types=tuple(f"{a}UpBlock2D" for a in reversed(attention)),
        block_out_channels=(64, 96, 160),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=32,
    )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, hidden_act="quick_gelu", projection_dim=128, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return unet, CLIPTextModel(config)


@dataclass
class Latents:
    """`x`: (N, 4, 16, 16) normalised to mean 0, standard deviation 1 a channel by `mean`, `std` (4,); `ids`: (N, 6, 32)."""

    x: Tensor
    ids: Tensor
    mean: Tensor
    std: Tensor


def cache(vae: AutoencoderKL, tokenizer: CLIPTokenizer, seed: int, count: int, file: Path) -> Latents:
    """Render, encode (posterior mean) and caption `count` scenes once; later runs read `file`."""
    if not file.exists():
        rng, scenes = random.Random(seed), training_scenes(seed)
        vae = vae.eval().to(memory_format=torch.channels_last)
        latents, captions = [], []
        for _ in range(0, count, 32):
            batch = [next(scenes) for _ in range(32)]
            with torch.no_grad():
                latents.append(vae.encode(stack(batch)).latent_dist.mean)
            captions += [s.varied_caption(rng) for s in batch for _ in range(CAPTIONS)]
        x, ids = torch.cat(latents), tokens(tokenizer, captions).view(-1, CAPTIONS, tokenizer.model_max_length)
        std, mean = torch.std_mean(x, (0, 2, 3))
        file.parent.mkdir(parents=True, exist_ok=True)
        x = (x - mean.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1)
        torch.save({"x": x, "ids": ids, "mean": mean, "std": std}, file)
    return Latents(**torch.load(file, weights_only=True))


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(len(texts), 32) token ids, padded."""
    return torch.tensor(tokenizer(texts, padding="max_length", truncation=True).input_ids)


def noisy(x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(noised latents, v target) at timesteps t; v = α·ε − σ·x0 (Salimans & Ho 2022, arXiv:2202.00512)."""
    kept = DDPMScheduler(**BETAS).alphas_cumprod[t].view(-1, 1, 1, 1)
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    return alpha * x + sigma * noise, alpha * noise - sigma * x


def timesteps(count: int, power: float, chance: torch.Generator) -> Tensor:
    """(count,) timesteps u**power · 1000, one u from each of `count` equal strata."""
    u = (torch.randperm(count, generator=chance) + torch.rand(count, generator=chance)) / count
    return (u**power * 1000).long().clamp(0, 999)


def train_unet(
    folder: Path,
    data: Latents,
    tokenizer: CLIPTokenizer,
    steps: int = 6_500,
    start: Path | None = None,
    peak: float = 2e-3,
    power: float = 0.6,
    seed: int = 5,
) -> Iterator[tuple[Report, nn.ModuleDict]]:
    """Yields (report, averaged {"unet", "text_encoder"}); the rate is flat for 40 % of the run, then falls linearly."""
    torch.manual_seed(seed)
    unet, text = fresh(tokenizer)
    if start:
        unet = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        text = CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)
    model = nn.ModuleDict({"unet": unet.to(memory_format=torch.channels_last), "text_encoder": text}).train()
    silence = tokens(tokenizer, [""])

    def loss_at(step: int) -> Tensor:
        chance = generator(seed, step)
        which = torch.randint(0, len(data.x), (BATCH,), generator=chance)
        ids = data.ids[which, torch.randint(0, CAPTIONS, (BATCH,), generator=chance)]
        ids = torch.where(torch.rand(BATCH, 1, generator=chance) < UNSAID, silence, ids)
        t = timesteps(BATCH, power, chance)
        noise = torch.randn(data.x[which].shape, generator=chance)
        x, target = noisy(data.x[which], t, noise)
        words = model["text_encoder"](ids).last_hidden_state
        v = model["unet"](x.contiguous(memory_format=torch.channels_last), t, words).sample
        return (v - target).square().mean()

    def rate(share: float) -> float:
        return peak * min(1.0, (share * steps + 1) / 100) * min(1.0, max(0.01, (1 - share) / 0.6))

    optimizer = Muon(model.named_parameters(), peak, by_adam=("embedding", "conv_in", "conv_out"), decay=0.01)
    yield from train(model, optimizer, loss_at, rate, steps, folder)  # type: ignore[misc]


def fold(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> AutoencoderKL:
    """The same autoencoder with the latents' statistics inside: scaling_factor then gives unit variance a channel."""
    spread = std * vae.config["scaling_factor"]
    with torch.no_grad():
        weight, bias = vae.quant_conv.weight, vae.quant_conv.bias
        weight[:4] /= spread.view(4, 1, 1, 1)
        bias[:4] = (bias[:4] - mean) / spread
        bias[4:] -= 2 * spread.log()
        weight, bias = vae.post_quant_conv.weight, vae.post_quant_conv.bias
        bias += weight[:, :, 0, 0] @ mean
        weight *= spread.view(1, 4, 1, 1)
    return vae
