"""Rung 1, Code: Diffusers taken apart. You own the weights and assemble the parts."""

from typing import TYPE_CHECKING

from chapter38.lazy import lazy

if TYPE_CHECKING:
    from chapter38.code.denoise import Step as Step
    from chapter38.code.denoise import denoise as denoise
    from chapter38.code.draw import draw as draw
    from chapter38.code.draw import draw_many as draw_many
    from chapter38.code.models import load as load
    from chapter38.code.models import registry as registry
    from chapter38.code.models import seal as seal
    from chapter38.code.parts import Parts as Parts
    from chapter38.code.tuning import train_lora as train_lora

__getattr__ = lazy(__name__, {
    "Parts": "parts", "Step": "denoise", "denoise": "denoise", "draw": "draw", "draw_many": "draw", "load": "models",
    "registry": "models", "seal": "models", "train_lora": "tuning",
})  # fmt: skip
