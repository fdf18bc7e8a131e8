"""The makers of the weights: resumable, deterministic, and the algebra they rest on."""

import itertools
import random
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTokenizer

from chapter38.postcards import WEIGHTS, training_scenes
from chapter38.train import loop, muon, unet, vae


def _run(folder: Path, upto: int | None = None) -> nn.Module:
    """A small regression of 60 steps, broken off after `upto` reports and gone on with."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = muon.Muon(model.named_parameters(), 0.02)

    def loss_at(step: int) -> torch.Tensor:
        x = torch.randn(16, 4, generator=loop.generator(1, step))
        return (model(x) - x[:, :1] * x[:, 1:2]).square().mean()

    runs = loop.train(model, optimizer, loss_at, loop.warm_up_then_cosine(0.02), 60, folder, every=10)
    reports = list(itertools.islice(runs, upto))
    assert upto or reports[-1][0].loss < reports[0][0].loss
    return reports[-1][1]


def test_a_run_that_was_killed_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole").state_dict()
    _run(tmp_path / "broken", upto=2)
    continued = _run(tmp_path / "broken").state_dict()
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
    assert len((tmp_path / "broken" / "log.jsonl").read_text().splitlines()) == 6


def test_the_rate_warms_up_and_falls_to_its_last_value() -> None:
    rate = loop.warm_up_then_cosine(1.0, warm=0.1, last=0.05)
    assert rate(0.0) < 0.02 and rate(0.1) == pytest.approx(1) and rate(1.0) == pytest.approx(0.05)


@pytest.mark.parametrize("shape", [(1, 8, 20), (2, 20, 8), (1, 16, 16)])
def test_orthogonalise_draws_singular_values_towards_one(shape: tuple[int, ...]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before, after = torch.linalg.svdvals(g), torch.linalg.svdvals(muon.orthogonalise(g))
    assert before.max() / before.min() > 2
    assert after.min() > 0.3 and after.max() < 1.3


def test_v_target_gives_the_clean_latents_back() -> None:
    chance = torch.Generator().manual_seed(0)
    x, noise = torch.randn(8, 4, 2, 2, generator=chance), torch.randn(8, 4, 2, 2, generator=chance)
    t = unet.timesteps(8, 0.6, chance)
    noised, v = unet.noisy(x, t, noise)
    kept = unet.DDPMScheduler(**unet.BETAS).alphas_cumprod[t].view(-1, 1, 1, 1)
    assert torch.allclose(kept.sqrt() * noised - (1 - kept).sqrt() * v, x, atol=1e-5)


def test_timesteps_are_stratified_and_lean_to_the_high_noises() -> None:
    plain, high = (unet.timesteps(64, power, torch.Generator().manual_seed(0)) for power in (1.0, 0.6))
    middles = (torch.arange(64) + 0.5) / 64 * 1000
    assert (plain.sort().values - middles).abs().max() <= 500 / 64 + 1  # one in each of 64 equal strata
    assert high.min() >= 0 and high.max() < 1000
    assert high.float().mean() > plain.float().mean() + 50


@torch.no_grad()
def test_folding_the_statistics_keeps_the_pictures_and_normalises_the_latents() -> None:
    torch.manual_seed(0)
    tiny = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=16, mid_block_add_attention=False).eval()
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    latents = tiny.encode(x).latent_dist
    pictures, mean, deviation = tiny.decode(latents.mean).sample, latents.mean, latents.std
    std, middle = torch.std_mean(mean, (0, 2, 3))
    folded = unet.fold(tiny, middle, std)
    posterior = folded.encode(x).latent_dist
    unit = posterior.mean * folded.config["scaling_factor"]
    assert torch.allclose(unit, (mean - middle.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1), atol=1e-4)
    assert torch.allclose(posterior.std * folded.config["scaling_factor"] * std.view(1, 4, 1, 1), deviation, rtol=1e-3)
    assert torch.allclose(folded.decode(posterior.mean).sample, pictures, atol=1e-4)


def test_every_caption_fits_the_context() -> None:
    words = CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer")
    rng, scenes = random.Random(0), training_scenes(0)
    captions = [next(scenes).varied_caption(rng) for _ in range(500)]
    ids = words(captions).input_ids
    assert max(map(len, ids)) <= words.model_max_length
    assert unet.tokens(words, captions).shape == (500, words.model_max_length)


def test_crops_lie_inside_the_pictures_and_show_the_object_more_often_than_chance() -> None:
    images, centres = vae.pictures(3, 40)
    marked = images * 0
    for image, (x, y) in zip(marked, centres, strict=True):
        image[y, x] = 255
    shown = torch.cat([vae.crops(marked, centres, loop.generator(0, step)) for step in range(60)])
    assert shown.shape == (60 * vae.BATCH, 3, vae.CROP, vae.CROP)
    assert (shown.amax((1, 2, 3)) > 0).float().mean() > 0.6
