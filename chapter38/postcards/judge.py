"""The judge: a small convolutional net that reads a Scene back out of a picture, with calibrated probabilities."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from chapter38.postcards.scene import VOCABULARY, Scene

SIDE, FEATURES = 64, 192
ATTRIBUTES = ("object", "colour", "sky", "ground", "place", "size")  # what "all six right" means


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Judge(nn.Module):
    """(N, 3, 64, 64) in −1 … 1 -> attribute: (N, number of values) logits, divided by a fitted temperature."""

    temperature: Tensor

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            _block(3, w, 2), _block(w, 2 * w, 2), _block(2 * w, 3 * w, 1), _block(3 * w, 4 * w, 2), _block(4 * w, 4 * w, 1),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * w, FEATURES), nn.ReLU(), nn.Dropout(0.1),
        )  # fmt: skip
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, len(values)) for name, values in VOCABULARY.items()})
        self.register_buffer("temperature", torch.ones(len(VOCABULARY)))

    def features(self, x: Tensor) -> Tensor:
        """(N, 192): what the heads read; Fréchet distances are taken here."""
        return self.body(x)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.features(x)
        return {name: head(h) / self.temperature[i] for i, (name, head) in enumerate(self.heads.items())}


def prepare(images: Sequence[Image.Image]) -> Tensor:
    """Pictures of any size -> (N, 3, 64, 64) in −1 … 1."""
    sized = [i.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for i in images]
    x = torch.from_numpy(np.stack([np.asarray(i) for i in sized])).permute(0, 3, 1, 2)
    return x.float().div(127.5).sub(1)


@cache
def load(path: Path = Path(__file__).parent / "weights" / "judge.safetensors") -> Judge:
    """The shipped judge, in float32, ready to read."""
    judge = Judge()
    judge.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()})
    return judge.eval()


@torch.no_grad()
def read(images: Sequence[Image.Image], by: Judge | None = None) -> list[dict[str, dict[str, float]]]:
    """What each picture shows, as the shipped judge or `by` sees it: attribute -> value -> probability."""
    logits = {name: F.softmax(out, -1) for name, out in (by or load())(prepare(images)).items()}
    return [
        {name: dict(zip(VOCABULARY[name], p[i].tolist(), strict=True)) for name, p in logits.items()}
        for i in range(len(images))
    ]


@torch.no_grad()
def features(images: Sequence[Image.Image], by: Judge | None = None) -> np.ndarray:
    """(N, 192) float64: the judge's features of each picture."""
    parts = [(by or load()).features(prepare(images[i : i + 64])) for i in range(0, len(images), 64)]
    return torch.cat(parts).double().numpy()


def adherence(image: Image.Image, scene: Scene) -> dict[str, float]:
    """Attribute -> probability that the picture shows what the scene says."""
    seen = read([image])[0]
    return {name: seen[name].get(getattr(scene, name), 0.0) for name in VOCABULARY}


def agreement(
    images: Sequence[Image.Image], scenes: Sequence[Scene], by: Judge | None = None
) -> dict[str, np.ndarray]:
    """Attribute -> (N,) bools: does the judge's best guess say what the scene says? "all" holds all of ATTRIBUTES."""
    seen = [r for i in range(0, len(images), 64) for r in read(images[i : i + 64], by)]
    best = [{name: max(p, key=p.__getitem__) for name, p in r.items()} for r in seen]
    right = {
        name: np.array([b[name] == getattr(s, name) for b, s in zip(best, scenes, strict=True)]) for name in VOCABULARY
    }
    return {**right, "all": np.all([right[name] for name in ATTRIBUTES], axis=0)}
