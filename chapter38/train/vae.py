"""The autoencoder: 128 px <-> 16×16×4 latents, trained on crops around the object, then on whole pictures.

L1 + L2 + ½ gradient loss + 1e-4 KL. A share of the pictures is stylised or shows an object that the
denoiser never meets, so that adapters trained later can reach them.
"""

import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from chapter38.postcards.dataset import judging_scenes, training_scenes
from chapter38.postcards.drawing import PLACE_X, STYLES, stylise
from chapter38.postcards.scene import NEW_OBJECTS, Scene
from chapter38.train.loop import Report, generator, train, warm_up_then_cosine
from chapter38.train.muon import Muon

CROP, BATCH, PICTURES = 64, 8, 6000


def fresh() -> AutoencoderKL:
    widths = (16, 32, 64, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
        scaling_factor=0.18215,
    )


def pictures(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """((count, 128, 128, 3) uint8 pictures, (count, 2) centres of their objects in pixels)."""
    rng, scenes = random.Random(seed), training_scenes(seed)
    images, centres = np.empty((count, 128, 128, 3), np.uint8), np.empty((count, 2), int)
    for i in range(count):
        scene, kind = next(scenes), rng.random()
        if kind < 0.08:
            scene = scene.but(object=rng.choice(NEW_OBJECTS))
        image = scene.picture()
        images[i] = np.asarray(stylise(image, rng.choice(list(STYLES))) if kind > 0.86 else image)
        centres[i] = PLACE_X[scene.place], 45 if scene.object in ("balloon", "rocket") else 78
    return images, centres


def stack(scenes: Iterable[Scene]) -> Tensor:
    """Scenes drawn, as `to_tensor` gives them."""
    return to_tensor(np.stack([np.asarray(scene.picture()) for scene in scenes]))


def to_tensor(images: np.ndarray) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float32 in −1 … 1."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return x.contiguous(memory_format=torch.channels_last)


def crops(images: np.ndarray, centres: np.ndarray, chance: torch.Generator) -> Tensor:
    """A batch of crops, two thirds of them around the object."""
    r = lambda low, high, n: torch.randint(low, high, (n,), generator=chance).numpy()  # noqa: E731
    index = r(0, len(images), BATCH)
    near = centres[index] - CROP // 2 + np.stack([r(-26, 27, BATCH), r(-26, 27, BATCH)], 1)
    anywhere = np.stack([r(0, 65, BATCH), r(0, 65, BATCH)], 1)
    corners = np.where((r(0, 3, BATCH) > 0)[:, None], near, anywhere).clip(0, 128 - CROP)
    return to_tensor(np.stack([images[i, y : y + CROP, x : x + CROP] for i, (x, y) in zip(index, corners, strict=True)]))


def loss(vae: AutoencoderKL, x: Tensor, chance: torch.Generator, decoder_only: bool = False) -> Tensor:
    """The decoder alone is trained on the latents that a denoiser learns from, and for PSNR: ten times the L2 weight."""
    posterior = vae.encode(x).latent_dist
    latents = posterior.mode() if decoder_only else posterior.sample(generator=chance)
    error = vae.decode(latents).sample - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return error.abs().mean() + (10 if decoder_only else 1) * (error**2).mean() + 0.5 * edges + 1e-4 * kl


def psnr(vae: AutoencoderKL, x: Tensor) -> float:
    """Of the reconstruction from the posterior's mode, decibels at a peak-to-peak range of 2."""
    with torch.no_grad():
        y = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample.clamp(-1, 1) for part in x.split(16)])
    return 10 * math.log10(4 / F.mse_loss(y, x).item())


def train_vae(
    folder: Path,
    steps: int = 30_000,
    start: Path | None = None,
    peak: float = 3e-3,
    whole: float = 0.3,
    seed: int = 11,
    decoder_only: bool = False,
) -> Iterator[tuple[Report, AutoencoderKL, float]]:
    """Yields (report, averaged autoencoder, PSNR on 64 unseen scenes in dB); the last `whole` share on whole pictures.

    `decoder_only` leaves the encoder, and so every latent that a denoiser was trained on, as it is.
    """
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(start, torch_dtype=torch.float32) if start else fresh()
    vae.to(memory_format=torch.channels_last).train()
    vae.encoder.requires_grad_(not decoder_only)
    vae.quant_conv.requires_grad_(not decoder_only)
    images, centres = pictures(seed, PICTURES)
    unseen = stack(judging_scenes(99, 64))

    def loss_at(step: int) -> Tensor:
        chance = generator(seed, step)
        if step < steps * (1 - whole):
            return loss(vae, crops(images, centres, chance), chance, decoder_only)
        some = torch.randint(0, len(images), (BATCH // 4,), generator=chance).numpy()
        return loss(vae, to_tensor(images[some]), chance, decoder_only)

    optimizer = Muon(vae.named_parameters(), peak, by_adam=("conv_in", "conv_out", "quant_conv"))
    for report, averaged in train(vae, optimizer, loss_at, warm_up_then_cosine(peak), steps, folder, every=500):
        yield report, averaged, psnr(averaged, unseen)
