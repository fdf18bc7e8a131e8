"""ComfyUI's own classes at the widths of a tiny model: Diffusers' config and tensors in, its MODEL, CLIP, VAE out.

ComfyUI guesses an architecture from the shapes of the large models. Here the configuration is known, so that its
classes are built from it; four things that they hold fixed are bent: widths that are no multiple of the first, the
number of groups in a normalisation, the vocabulary's rows, and a VAE without attention in its middle.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.modules.diffusionmodules.model as vae_model
import comfy.model_base
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch

from . import files

Config = dict[str, Any]
Tensors = dict[str, Any]
PARTS = ("unet", "vae", "text_encoder")
HINT_WIDTHS = [16, 32, 96, 256]  # of a ControlNet's hint block: fixed in ComfyUI
BETA_NAMES = {"scaled_linear": "linear", "linear": "sqrt_linear"}  # Diffusers' name -> ComfyUI's


def checkpoint(path: str, told: Config) -> tuple[Any, Any, Any]:
    """Model, CLIP and VAE from one file whose header holds `configs` and `tokenizer` (file name -> text)."""
    tensors = files.tensors(path)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in told["tokenizer"].items():
            Path(folder, Path(name).name).write_text(text, "utf-8")
        return _all(told["configs"], {name: files.part(tensors, name) for name in PARTS}, folder)


def folder(path: Path) -> tuple[Any, Any, Any]:
    """Model, CLIP and VAE from a folder in Diffusers layout."""
    configs = {name: files.read_json(path / name / "config.json") for name in PARTS}
    configs["scheduler"] = files.read_json(path / "scheduler" / "scheduler_config.json")
    tensors = {name: files.tensors(next((path / name).glob("*.safetensors"))) for name in PARTS}
    return _all(configs, tensors, str(path / "tokenizer"))


def _all(configs: Config, tensors: dict[str, Tensors], tokenizer: str) -> tuple[Any, Any, Any]:
    scale = configs["vae"]["scaling_factor"]
    model = unet(configs["unet"], tensors["unet"], configs["scheduler"], scale)
    return model, clip(configs["text_encoder"], tensors["text_encoder"], tokenizer), vae(configs["vae"], tensors["vae"])


class Width(int):
    """A multiplier of the first width whose product is a given width, for ComfyUI multiplies integers only."""

    width: int

    def __new__(cls, width: int, first: int) -> "Width":
        self = super().__new__(cls, max(1, width // first))
        self.width = width
        return self

    def __mul__(self, other: Any) -> int:
        return self.width

    __rmul__ = __mul__

    def __deepcopy__(self, memo: Any) -> "Width":
        return self


def _widths(config: Config) -> list[Width]:
    return [Width(width, config["block_out_channels"][0]) for width in config["block_out_channels"]]


def _operations(config: Config) -> Any:
    """ComfyUI's layers, with the model's own number of groups where it writes 32 into every normalisation."""
    base, groups = comfy.ops.disable_weight_init, config.get("norm_num_groups", 32)

    class GroupNorm(base.GroupNorm):  # type: ignore[misc, name-defined]
        def __init__(self, num_groups: int = 32, num_channels: int | None = None, *args: Any, **options: Any) -> None:
            super().__init__(groups, num_channels, *args, **options)

    return base if groups == 32 else type(f"Groups{groups}", (base,), {"GroupNorm": GroupNorm})


@contextmanager
def _swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def unet_config(config: Config) -> Config:
    """Diffusers' configuration of a UNet2DConditionModel or ControlNetModel as arguments of ComfyUI's UNetModel."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    layers = [layers] * len(widths) if isinstance(layers, int) else list(layers)
    attention = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    each = list(zip(attention, layers, strict=True))
    return {
        "image_size": 32, "in_channels": config["in_channels"], "out_channels": config.get("out_channels", 4),
        "model_channels": widths[0], "channel_mult": _widths(config), "num_res_blocks": layers,
        "use_checkpoint": False, "legacy": False, "use_spatial_transformer": True, "adm_in_channels": None,
        "context_dim": config["cross_attention_dim"], "use_temporal_attention": False, "use_temporal_resblock": False,
        "use_linear_in_transformer": bool(config.get("use_linear_projection")), "transformer_depth_middle": 1,
        "transformer_depth": [a for a, n in each for _ in range(n)],
        "transformer_depth_output": [a for a, n in each for _ in range(n + 1)],
        **_heads(widths, config.get("num_attention_heads") or config["attention_head_dim"]),
    }  # fmt: skip


def _heads(widths: list[int], heads: int | list[int]) -> dict[str, int]:
    """One count of heads for all levels, or, from a count a level, the one width that all heads have."""
    if isinstance(heads, int):
        return {"num_heads": heads, "num_head_channels": -1}
    each = {width // count for width, count in zip(widths, heads, strict=True)}
    if len(each) != 1:
        raise ValueError(f"ComfyUI knows one width of a head for all levels, this model has {sorted(each)}")
    return {"num_heads": -1, "num_head_channels": each.pop()}


def unet(config: Config, tensors: Tensors, scheduler: Config, latent_scale: float) -> Any:
    """MODEL: the denoiser with its noise schedule and what it predicts."""
    epsilon, v = comfy.model_base.ModelType.EPS, comfy.model_base.ModelType.V_PREDICTION
    predicts = v if scheduler.get("prediction_type") == "v_prediction" else epsilon

    class Tiny(comfy.supported_models_base.BASE):  # type: ignore[misc, name-defined]
        unet_extra_config: Config = {}
        memory_usage_factor = 0.5
        supported_inference_dtypes = [torch.float32]

        def model_type(self, state_dict: Any, prefix: str = "") -> Any:
            return predicts

    tiny = Tiny(unet_config(config))
    tiny.sampling_settings = {
        "beta_schedule": BETA_NAMES[scheduler["beta_schedule"]], "linear_start": scheduler["beta_start"],
        "linear_end": scheduler["beta_end"], "timesteps": scheduler["num_train_timesteps"],
        "zsnr": bool(scheduler.get("rescale_betas_zero_snr")),
    }  # fmt: skip
    tiny.latent_format = comfy.latent_formats.SD15(latent_scale)
    tiny.custom_operations = _operations(config)
    tiny.set_inference_dtype(torch.float32, None)
    names = comfy.utils.unet_to_diffusers(tiny.unet_config)
    if unknown := set(tensors) - set(names):
        raise ValueError(f"ComfyUI's U-Net has no place for {sorted(unknown)[:5]}")
    renamed = {names[name]: tensor for name, tensor in tensors.items()}
    model = tiny.get_model(renamed, "", device=comfy.model_management.unet_offload_device())
    _complete("U-Net", *model.diffusion_model.load_state_dict(renamed, strict=False))
    return comfy.model_patcher.ModelPatcher(
        model, comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    )


def vae(config: Config, tensors: Tensors) -> Any:
    """VAE, whatever its widths and groups."""
    made = comfy.sd.VAE.__new__(comfy.sd.VAE)
    vae_into(made.__init__, made, tensors, config)
    return made


def vae_into(init: Callable[..., None], made: Any, tensors: Tensors, config: Config) -> None:
    """Call ComfyUI's constructor `init` on `made` with what the configuration says."""
    widths, z = config["block_out_channels"], config["latent_channels"]
    given = {**_still_middle(tensors, widths[-1]), **_still_ends(tensors, z), **tensors}
    built = {
        "double_z": True, "z_channels": z, "resolution": 256, "in_channels": config["in_channels"],
        "out_ch": config["out_channels"], "ch": widths[0], "ch_mult": _widths(config), "attn_resolutions": [],
        "num_res_blocks": config["layers_per_block"], "dropout": 0.0,
    }  # fmt: skip
    with _swapped(vae_model, "ops", _operations(config)):
        init(sd=given, config={"params": {"ddconfig": built, "embed_dim": z}}, dtype=torch.float32)
    made.upscale_ratio = made.downscale_ratio = 2 ** (len(widths) - 1)


def _still_middle(tensors: Tensors, width: int) -> Tensors:
    """ComfyUI always builds attention in the middle: where the model has none, weights with which it adds zero."""
    out: Tensors = {}
    for side in ("encoder", "decoder"):
        at = f"{side}.mid_block.attentions.0."
        if not any(name.startswith(at) for name in tensors):
            out |= {f"{at}group_norm.{name}": torch.zeros(width) for name in ("weight", "bias")}
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                out |= {f"{at}{layer}.weight": torch.zeros(width, width), f"{at}{layer}.bias": torch.zeros(width)}
    return out


def _still_ends(tensors: Tensors, z: int) -> Tensors:
    """And both 1×1 convolutions: the identity where the model has none."""
    out: Tensors = {}
    for name, width in (("quant_conv", 2 * z), ("post_quant_conv", z)):
        if f"{name}.weight" not in tensors:
            out |= {f"{name}.weight": torch.eye(width)[:, :, None, None], f"{name}.bias": torch.zeros(width)}
    return out


def clip(config: Config, tensors: Tensors, tokenizer: str) -> Any:
    """CLIP: the text encoder and its tokenizer, with the model's own vocabulary and length."""
    config = config.get("text_config", config)
    length, width = config["max_position_embeddings"], config["hidden_size"]
    if not any(name.startswith("text_model.") for name in tensors):
        tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}

    class Tokenizer(comfy.sd1_clip.SDTokenizer):  # type: ignore[misc, name-defined]
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None, **_: Any) -> None:
            super().__init__(
                tokenizer_path=tokenizer, max_length=length, embedding_directory=embedding_directory,
                embedding_size=width, tokenizer_data=tokenizer_data or {},
            )  # fmt: skip

    probe = Tokenizer()
    special = {"start": probe.start_token, "end": probe.end_token, "pad": probe.end_token}

    class Text(comfy.clip_model.CLIPTextModel):  # type: ignore[misc, name-defined]
        def __init__(self, config_dict: Config, dtype: Any, device: Any, operations: Any) -> None:
            super().__init__(config_dict, dtype, device, operations)  # makes 49408 rows whatever the config says
            rows = operations.Embedding(config["vocab_size"], width, dtype=dtype, device=device)
            self.text_model.embeddings.token_embedding = rows

    class Encoder(comfy.sd1_clip.SDClipModel):  # type: ignore[misc, name-defined]
        def __init__(self, device: str = "cpu", dtype: Any = None, model_options: Any = None) -> None:
            super().__init__(
                device=device, max_length=length, textmodel_json_config={**config, "eos_token_id": special["end"]},
                dtype=dtype, model_class=Text, special_tokens=special, return_projected_pooled=False,
                model_options=model_options or {},
            )  # fmt: skip

    class Target:
        params: Config = {}

        @staticmethod
        def clip(device: str = "cpu", dtype: Any = None, model_options: Any = None) -> Any:
            options = model_options or {}
            return comfy.sd1_clip.SD1ClipModel(device=device, dtype=dtype, model_options=options, clip_model=Encoder)

        @staticmethod
        def tokenizer(embedding_directory: Any = None, tokenizer_data: Any = None) -> Any:
            return comfy.sd1_clip.SD1Tokenizer(embedding_directory, tokenizer_data or {}, tokenizer=Tokenizer)

    embeddings = folder_paths.get_folder_paths("embeddings")
    made = comfy.sd.CLIP(Target, embedding_directory=embeddings, model_options={"dtype": torch.float32})
    missing, unknown = made.load_sd(tensors)
    _complete(
        "text encoder",
        [name for name in missing if name != "text_projection.weight"],
        [name for name in unknown if not name.endswith("position_ids")],
    )
    with torch.no_grad():
        made.cond_stage_model.clip_l.transformer.text_projection.weight.copy_(torch.eye(width))
    return made


def controlnet(tensors: Tensors, config: Config) -> Any:
    """CONTROL_NET, whatever its widths, heads and groups."""
    if list(config["conditioning_embedding_out_channels"]) != HINT_WIDTHS:
        raise ValueError(f"ComfyUI's hint block has the widths {HINT_WIDTHS}")
    options = {"custom_operations": _operations(config), "dtype": torch.float32}
    known = lambda tensors, dtype=None: unet_config(config)  # noqa: E731
    with _swapped(comfy.model_detection, "unet_config_from_diffusers_unet", known):
        return comfy.controlnet.load_controlnet_state_dict(tensors, model_options=options)


def _complete(what: str, missing: list[str], unknown: list[str]) -> None:
    if missing or unknown:
        raise ValueError(f"{what}: missing {missing[:5]}, left over {unknown[:5]}")
