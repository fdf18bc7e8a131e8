"""The edges ControlNet: the U-Net's encoder copied, taught to follow an edge map, with the U-Net itself frozen."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from chapter38.code import control
from chapter38.code.parts import Parts
from chapter38.code.tuning import denoising_loss, encode
from chapter38.measure.pixels import edges
from chapter38.postcards.dataset import training_scenes
from chapter38.train.card import sheet, write_card
from chapter38.train.loop import Report, generator, train

BATCH, CAPTIONS, UNSAID = 32, 2, 0.3  # much is left unsaid, so that the map decides the layout
HIGH_NOISE = 0.7
SAYS = (
    "Follows an edge map: white edges on black, as `chapter38.measure.edges` computes them. The map decides the layout, the "
    "prompt what fills it; at lower strength the map counts for less. Trained on the base's own scenes and on no others."
)


def train_controlnet(
    parts: Parts, folder: Path, steps: int = 3000, scenes: int = 6000, rate: float = 1e-3, seed: int = 9,
    start: nn.Module | None = None,
) -> Iterator[tuple[Report, nn.Module]]:  # fmt: skip
    """Yields (report, averaged ControlNet); resumes from `folder`. `start`: a ControlNet to go on from, else a fresh one."""
    rng, source = random.Random(seed), training_scenes(seed)
    shown = [next(source) for _ in range(scenes)]
    pictures = [scene.picture() for scene in shown]
    examples = encode(parts, pictures, [[s.varied_caption(rng) for _ in range(CAPTIONS)] for s in shown])
    hints = torch.from_numpy(np.stack([np.asarray(edges(p)) > 0 for p in pictures]))
    unet = parts.denoiser.requires_grad_(False).to(memory_format=torch.channels_last)
    net: Any = (start or control.fresh(unet)).train().requires_grad_(True)
    net = net.to(memory_format=torch.channels_last)

    def loss_at(step: int) -> torch.Tensor:
        chance = generator(seed, step)
        which, latents, words = examples.draw(BATCH, UNSAID, chance)
        hint = hints[which].float()[:, None].expand(-1, 3, -1, -1)

        def residuals(noised: torch.Tensor, t: torch.Tensor, words: torch.Tensor) -> dict[str, Any]:
            down, middle = net(noised, t, words, hint, return_dict=False)
            return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

        return denoising_loss(unet, parts.scheduler, latents, words, chance, HIGH_NOISE, residuals)

    def rate_at(share: float) -> float:
        return rate * min(1.0, (share * steps + 1) / 50, (1 - share) / 0.4 + 0.01)

    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01)
    yield from train(net, optimizer, loss_at, rate_at, steps, folder)


def measure(parts: Parts, net: nn.Module, file: Path, count: int = 64, seed: int = 4_000_000) -> dict[str, str]:
    """Edge agreement at strengths 1, ½ and 0 on unseen scenes whose prompts name the colour and the object only.

    Eight of them go to `file`: scenes, maps, and what was drawn.
    """
    from chapter38.code.draw import draw_many
    from chapter38.measure.estimate import bootstrap
    from chapter38.measure.pixels import edge_agreement
    from chapter38.postcards.dataset import judging_scenes
    from chapter38.recipe import Control, Pixels, Recipe

    scenes = judging_scenes(seed, count)
    hints = [edges(scene.picture()) for scene in scenes]
    parts.controls["edges"] = net.eval()
    found = {}
    for strength in (1.0, 0.5, 0.0):
        recipes = [
            Recipe(
                prompt=f"a {s.colour} {s.object}",
                seed=i,
                guidance=3,
                control=[Control(kind="edges", image=Pixels(h), strength=strength)],
            )
            for i, (s, h) in enumerate(zip(scenes, hints, strict=True))
        ]
        pictures = [picture.image for i in range(0, count, 16) for picture in draw_many(recipes[i : i + 16], parts=parts)]
        if strength == 1:
            sheet([[s.picture() for s in scenes[:8]], hints[:8], pictures[:8]], file)
        scores = np.array([edge_agreement(p, h) for p, h in zip(pictures, hints, strict=True)])
        found[f"edge agreement (F1, 2 px) at strength {strength:g}, {count} scenes"] = str(bootstrap(scores))
    return found


def write(parts: Parts, net: nn.Module, folder: Path, made: dict[str, Any]) -> None:
    """Measure the ControlNet, and write it in float16 with its card."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = measure(parts, net, folder / "sheet.webp")
    half: Any = copy.deepcopy(net).half()
    half.save_pretrained(folder)
    made = {
        **made,
        "batch": BATCH,
        "captions left out": UNSAID,
        "hint block": ", ".join(map(str, control.HINT_CHANNELS)),
    }
    write_card(folder, "Edges: a ControlNet for postcards", SAYS, made, figures)
