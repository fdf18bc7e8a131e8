"""What stands beside the base model: the LoRAs and the ControlNet, made and measured on the weights that ship."""

from pathlib import Path

from rich.progress import track

from chapter38.code.models import load
from chapter38.postcards import WEIGHTS
from chapter38.train import controlnet, lora


def make_loras(names: list[str] | None = None) -> None:
    """Train, measure and write the LoRAs called `names` (all: about five minutes each on one core)."""
    for name in names or lora.KINDS:
        lora.make_lora(name)


def make_controlnet(runs: Path, steps: int = 3_000) -> None:
    """Train the edges ControlNet (about an hour on one core; resumes), measure it and write it with its card."""
    parts = load("postcards")
    trained = controlnet.train_controlnet(parts, runs / "controlnet", steps)
    for report, net in track(trained, "controlnet", total=steps // 50):
        pass
    controlnet.write(parts, net, WEIGHTS / "controlnet-edges", {"steps": report.step})


def make_all(runs: Path) -> None:
    """Every adapter that ships."""
    make_loras()
    make_controlnet(runs)
