"""Lets ComfyUI's own loaders read postcards models: no nodes of its own, workflows hold core nodes only.

Copied into `custom_nodes/` by `chapter38 comfyui install`. A file that carries its configuration in its safetensors
header (key "postcards") is built from it; every other file takes ComfyUI's own way. Tried with 0.3.64 and 0.33.0.

    CheckpointLoaderSimple   one file: U-Net, text encoder, VAE, tokenizer
    DiffusersLoader          a folder in Diffusers layout
    VAELoader                one file
    ControlNetLoader         one file
    LoraLoader               needs nothing: the LoRAs are written in the keys that ComfyUI reads
"""

from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.diffusers_load
import comfy.sd

from . import files, models

NODE_CLASS_MAPPINGS: dict[str, type] = {}
STOCK_WIDTHS = (768, 1024, 1280, 2048)  # context widths of the models that ComfyUI knows by itself

_checkpoint = comfy.sd.load_checkpoint_guess_config
_folder = comfy.diffusers_load.load_diffusers
_controlnet = comfy.controlnet.load_controlnet
_vae = comfy.sd.VAE.__init__


def checkpoint(ckpt_path: str, *args: Any, **options: Any) -> Any:
    """What CheckpointLoaderSimple calls: (model, clip, vae, clip vision)."""
    ours = files.header(ckpt_path)
    return (*models.checkpoint(ckpt_path, ours), None) if ours else _checkpoint(ckpt_path, *args, **options)


def folder(model_path: str, *args: Any, **options: Any) -> Any:
    """What DiffusersLoader calls: (model, clip, vae)."""
    config = Path(model_path, "unet", "config.json")
    ours = config.is_file() and files.read_json(config)["cross_attention_dim"] not in STOCK_WIDTHS
    return models.folder(Path(model_path)) if ours else _folder(model_path, *args, **options)


def controlnet(ckpt_path: str, *args: Any, **options: Any) -> Any:
    """What ControlNetLoader calls."""
    ours = files.header(ckpt_path)
    return models.controlnet(files.tensors(ckpt_path), ours["config"]) if ours else _controlnet(ckpt_path, *args, **options)


def vae(self: Any, sd: Any = None, device: Any = None, config: Any = None, dtype: Any = None, metadata: Any = None) -> None:
    """What VAELoader calls: the constructor of ComfyUI's VAE."""
    if ours := files.marked(metadata):
        models.vae_into(lambda **built: _vae(self, device=device, **built), self, sd, ours["config"])
    else:
        _vae(self, sd=sd, device=device, config=config, dtype=dtype, metadata=metadata)


comfy.sd.load_checkpoint_guess_config = checkpoint
comfy.diffusers_load.load_diffusers = folder
comfy.controlnet.load_controlnet = controlnet
comfy.sd.VAE.__init__ = vae
