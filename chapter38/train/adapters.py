"""What stands beside the base model: the LoRAs and the ControlNet, made and measured on the weights that ship."""

from pathlib import Path

from rich.progress import track

from chapter38.code.models import load, load_controlnet
from chapter38.postcards import WEIGHTS
from chapter38.train import controlnet, lora


def make_loras(names: list[str] | None = None) -> None:
    """Train, measure and write the LoRAs called `names` (all: about five minutes each on one core)."""
    for name in names or lora.KINDS:
        lora.make_lora(name)


def make_controlnet(runs: Path, steps: int = 3_000, scenes: int = 6_000, start: Path | None = None) -> None:
    """Train the edges ControlNet (about an hour on one core; resumes), measure it and write it with its card.

    `start`: a folder with a ControlNet to go on from, instead of a fresh one.
    """
    parts = load("postcards")
    begun = load_controlnet(str(start), parts.device, parts.dtype) if start else None
    trained = controlnet.train_controlnet(parts, runs / "controlnet", steps, scenes, start=begun)
    report, net = list(track(trained, "controlnet", total=steps // 50))[-1]
    made = {"steps": report.step, "scenes": scenes, "started from": "an earlier one" if start else "the U-Net's encoder"}
    controlnet.write(parts, net, WEIGHTS / "controlnet-edges", made)


def make_all(runs: Path) -> None:
    """Every adapter that ships."""
    make_loras()
    make_controlnet(runs)
