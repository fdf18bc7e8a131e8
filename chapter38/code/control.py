"""ControlNets: loaded by name or folder, several at once, each from `start` to `end` of the steps at its strength."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from chapter38.code import models
from chapter38.code.parts import Parts, pixels
from chapter38.errors import AdapterError, nearest
from chapter38.recipe import Control, Recipe

HINT_CHANNELS = (16, 32, 96, 256)  # ComfyUI's hint block is fixed to these


def fresh(unet: Any) -> Any:
    """A ControlNet that changes nothing yet: the U-Net's encoder copied, joined through convolutions that start at zero.

    (Zhang et al. 2023, arXiv:2302.05543, section 3.1.)
    """
    from diffusers import ControlNetModel

    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_CHANNELS)
