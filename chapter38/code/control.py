"""ControlNets: found by name, several at once, each from `start` to `end` of the steps at its own strength."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from chapter38.code import models
from chapter38.code.parts import Parts
from chapter38.errors import AdapterError, ModelError, nearest
from chapter38.recipe import Control, Recipe

HINT_CHANNELS = (16, 32, 96, 256)  # ComfyUI's hint block is fixed to these
Speak = Callable[[int, int, torch.Tensor, torch.Tensor, Any], dict[str, Any]]  # denoise.Hook
_SHAPE = ("block_out_channels", "cross_attention_dim", "in_channels")


def fresh(unet: Any) -> Any:
    """A ControlNet that changes nothing yet: the U-Net's encoder copied, joined through convolutions that start at zero.

    It comes on the U-Net's device and in its precision.

    (Zhang et al. 2023, arXiv:2302.05543, section 3.1.)
    """
    from diffusers import ControlNetModel

    made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_CHANNELS)
    return torch.nn.Module.to(made, unet.device, unet.dtype)  # Diffusers' own `to` warns of layers that it has not got


def hook(parts: Parts, recipe: Recipe, *others: Recipe) -> Speak:
    """What the recipe's ControlNets add at each step: `denoise` hands it to the denoiser. Nothing where there are none.

    A control speaks at step i of n where start <= i / n and (i + 1) / n <= end, as in Diffusers' pipelines. Several are
    summed in order. At strength 0 it is not run at all. `others` share the pass; their controls differ in the map only.
    """
    speakers = [
        (control, net(parts, control.kind), torch.cat([_hint(r.control[place], r) for r in (recipe, *others)]))
        for place, control in enumerate(recipe.control)
        if control.strength
    ]

    def speak(index: int, steps: int, x: torch.Tensor, t: torch.Tensor, told: Any) -> dict[str, Any]:
        total: tuple[list[torch.Tensor], torch.Tensor] | None = None
        for control, network, hint in speakers:
            if control.start <= index / steps and (index + 1) / steps <= control.end:
                seen = hint.to(x.device, x.dtype).repeat(len(x) // len(hint), 1, 1, 1)
                down, middle = network(x, t, told.embeddings, seen, control.strength, **told.extra, return_dict=False)
                total = (
                    (list(down), middle)
                    if total is None
                    else ([a + b for a, b in zip(total[0], down, strict=True)], total[1] + middle)
                )
        if total is None:
            return {}
        return {"down_block_additional_residuals": tuple(total[0]), "mid_block_additional_residual": total[1]}

    return speak


def net(parts: Parts, kind: str) -> Any:
    """The ControlNet called `kind`: one put into `parts.controls`, one that ships with the model, a folder, or a Hub id.

    Raises AdapterError for a name that is none of these, and for a ControlNet of another base (with both shapes).
    """
    if kind not in parts.controls:
        network = models.load_controlnet(_where(parts, kind), parts.device, parts.dtype)
        parts.controls[kind] = _fitting(parts, kind, network)
    return parts.controls[kind]


def available(model: str = "postcards") -> list[str]:
    """The ControlNets that ship with a model, by kind."""
    return sorted(path.name.removeprefix("controlnet-") for path in _shelf(model).glob("controlnet-*") if path.is_dir())


def files(parts: Parts, recipe: Recipe) -> dict[str, str]:
    """File -> SHA-256 of the ControlNets that a recipe uses, for a receipt; none for those that were never in a file."""
    found: dict[str, str] = {}
    for kind in dict.fromkeys(control.kind for control in recipe.control if control.strength):
        try:
            folder = Path(_where(parts, kind))
        except AdapterError:
            continue
        if folder.is_dir():
            found |= {f"{folder.name}/{file}": digest for file, digest in models.checksums(folder).items()}
    return found


def _where(parts: Parts, kind: str) -> str:
    shipped = _shelf(parts.name) / f"controlnet-{kind}"
    listed = models.registry().get(parts.name, {}).get("controls", {})
    if shipped.is_dir():
        return str(shipped)
    if kind in listed:
        return str(listed[kind])
    if (Path(kind) / "config.json").is_file() or kind.count("/") == 1:
        return kind
    raise AdapterError(
        f"unknown control {kind!r}; {nearest(kind, [*available(parts.name), *listed] or ['(none for ' + parts.name + ')'])}; "
        "a folder or a Hub id works too"
    )


def _fitting(parts: Parts, kind: str, network: Any) -> Any:
    theirs, ours = ({key: _plain(config.get(key)) for key in _SHAPE} for config in (network.config, parts.denoiser.config))
    if theirs != ours:
        raise AdapterError(f"{kind}: made for another base: it has {theirs}, {parts.name} has {ours}")
    return network


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _hint(control: Control, recipe: Recipe) -> torch.Tensor:
    """The hint map (1, 3, H, W) in 0 … 1, enlarged by nearest neighbour for a second, larger pass, as ComfyUI does.

    Raises AdapterError where its proportions are not the picture's.
    """
    image: Image.Image = control.image.image
    if image.width * recipe.height == image.height * recipe.width:
        image = image.convert("RGB").resize((recipe.width, recipe.height), Image.Resampling.NEAREST)
    else:
        raise AdapterError(
            f"{control.kind}: the hint map is {image.width}x{image.height}; the picture is {recipe.width}x{recipe.height}"
        )
    return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255).permute(2, 0, 1)[None]


def _shelf(model: str) -> Path:
    try:
        return Path(models.where(model))
    except ModelError:
        return Path(model)
