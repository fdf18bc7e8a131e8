"""The judge, trained on renders that are blurred, noisy, brightened and shifted, then calibrated on unseen ones."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from chapter38.postcards import judge
from chapter38.postcards.dataset import sample
from chapter38.postcards.scene import VOCABULARY
from chapter38.train.loop import Report, generator, train

BATCH = 128
Labels = dict[str, Tensor]


def examples(seed: int, count: int) -> tuple[Tensor, Labels]:
    """((count, 3, 64, 64) uint8, attribute -> (count,) class), held-out pairs included: the judge must know them all."""
    rng = random.Random(seed)
    scenes = [sample(rng, held_out=rng.random() < 0.13) for _ in range(count)]
    small = [s.picture().resize((judge.SIDE, judge.SIDE), Image.Resampling.BOX) for s in scenes]
    x = torch.from_numpy(np.stack([np.asarray(i) for i in small])).permute(0, 3, 1, 2)
    return x, {k: torch.tensor([v.index(getattr(s, k)) for s in scenes]) for k, v in VOCABULARY.items()}


def spoil(x: Tensor, chance: torch.Generator) -> Tensor:
    """Noise, blur, and another brightness and contrast, each for its own share of the batch."""
    r = lambda: torch.rand(len(x), 1, 1, 1, generator=chance)  # noqa: E731
    x = torch.where(r() < 0.4, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)
    x = torch.where(r() < 0.15, F.avg_pool2d(x, 5, 1, 2, count_include_pad=False), x)
    x = x + torch.where(r() < 0.6, r() * 0.15, 0.0) * torch.randn(x.shape, generator=chance)
    return x * (0.9 + 0.18 * r()) + (r() - 0.5) * 0.12


def loss(model: judge.Judge, x: Tensor, labels: Labels) -> Tensor:
    return torch.stack([F.cross_entropy(out, labels[name]) for name, out in model(x).items()]).sum()


def accuracy(model: judge.Judge, x: Tensor, labels: Labels) -> dict[str, float]:
    with torch.no_grad():
        out = model(x)
    return {name: (out[name].argmax(1) == labels[name]).float().mean().item() for name in VOCABULARY}


def train_judge(
    folder: Path, steps: int = 2_500, seed: int = 77, count: int = 24_000
) -> Iterator[tuple[Report, judge.Judge, dict[str, float]]]:
    """Yields (report, averaged judge, accuracy on 1,000 unseen renders)."""
    torch.manual_seed(seed)
    x, labels = examples(seed, count)
    unseen, truth = examples(seed + 1, 1_000)
    model = judge.Judge().train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)

    def loss_at(step: int) -> Tensor:
        chance = generator(seed, step)
        which = torch.randint(0, count, (BATCH,), generator=chance)
        spoiled = spoil(x[which].float().div(127.5).sub(1), chance)
        batch = spoiled.contiguous(memory_format=torch.channels_last)
        return loss(model, batch, {name: y[which] for name, y in labels.items()})

    rate = lambda share: 2e-3 * (1 - share) + 1e-5  # noqa: E731
    for report, averaged in train(model, optimizer, loss_at, rate, steps, folder, every=250, clip=10.0):
        assert isinstance(averaged, judge.Judge)
        yield report, averaged, accuracy(averaged, unseen.float().div(127.5).sub(1), truth)


def _temperature(logits: Tensor, y: Tensor) -> float:
    """The divisor of the logits under which they predict y best."""
    log_t = nn.Parameter(torch.zeros(()))
    search = torch.optim.LBFGS([log_t], max_iter=50)

    def closure() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(logits / log_t.exp(), y)
        value.backward()
        return value

    search.step(closure)
    return float(log_t.detach().exp().clamp(0.5, 5))


def calibrate(model: judge.Judge, seed: int = 79) -> judge.Judge:
    """Fit one temperature a head on unseen renders, half of them spoiled (Guo et al. 2017, arXiv:1706.04599)."""
    x, labels = examples(seed, 2_000)
    clean = x.float().div(127.5).sub(1)
    spoiled = spoil(clean, generator(seed, 0))
    with torch.no_grad():
        model.temperature.fill_(1)
        out = model(torch.cat([clean[::2], spoiled[1::2]]))
    for i, (name, logits) in enumerate(out.items()):
        y = torch.cat([labels[name][::2], labels[name][1::2]])
        model.temperature[i] = _temperature(logits, y)
    return model
