"""Tiny adapters with random weights: what a LoRA and a ControlNet do is compared, not whether they draw well."""

from pathlib import Path

import numpy as np

LORAS, CONTROLS = ("style-a", "style-b"), ("edges-a", "edges-b")


def build(folder: Path) -> Path:
    """Two LoRAs and two ControlNets for postcards, the same on every machine."""
    for number, name in enumerate(LORAS):
        lora(folder / name, number)
    for number, name in enumerate(CONTROLS):
        _controlnet(folder / name, number)
    return folder


def lora(folder: Path, seed: int) -> None:
    """On every attention and on two convolutions of the U-Net, and on the text encoder, with an alpha of its own."""
    from chapter38.code import lorafile, shapes
    from chapter38.code.lorafile import Low
    from chapter38.code.weightfile import Tensor

    made, rank, rng = {}, 4, np.random.default_rng(seed)
    for place, module in shapes.base("postcards").modules.items():
        component, name = place
        if not ("to_" in name or "resnets.0.conv1" in name or "_proj" in name):
            continue
        out, inputs, *kernel = module.shape
        down = rng.normal(0, 0.3, (rank, inputs, *kernel)).astype(np.float32)
        up = rng.normal(0, 0.03, (out, rank, *[1] * len(kernel))).astype(np.float32)
        made[place] = Low(Tensor.of(down), Tensor.of(up), 2.0)
    folder.mkdir(parents=True)
    lorafile.save(made, folder / "pytorch_lora_weights.safetensors", "peft", shapes.base("postcards"))


def _controlnet(folder: Path, seed: int) -> None:
    """The U-Net's encoder with its zero convolutions filled with small random numbers."""
    import torch

    from chapter38.code import load
    from chapter38.code.control import fresh

    net = fresh(load("postcards").denoiser)
    torch.manual_seed(seed)
    for name, parameter in net.named_parameters():
        if "controlnet_" in name and "conv_in" not in name and name.endswith("weight"):
            torch.nn.init.normal_(parameter, 0, 0.02)
    net.save_pretrained(folder)


