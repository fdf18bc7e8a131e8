"""ComfyUI's core nodes for local pictures, each as one small function over the Code rung.

Pictures are (B, H, W, 3) floats in 0 … 1, masks (B, H, W), latents (B, C, H/8, W/8) of unit variance. The models
stay with the Code rung: what travels along MODEL, CLIP and VAE links is which one, and what was done to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from chapter38.canvas.read import meaning
from chapter38.canvas.spelling import hints, model_files, model_of, trained_as
from chapter38.code import adapters, control, models, prompts, samplers, spacings, start
from chapter38.code.denoise import loop
from chapter38.code.families import Conditioning
from chapter38.code.parts import Parts
from chapter38.errors import GraphError
from chapter38.recipe import Control, Pixels, Recipe

if TYPE_CHECKING:
    from chapter38.canvas.run import Context

Tensor = torch.Tensor
Out = tuple[Any, ...]
FUNCTIONS: dict[str, Callable[..., Out]] = {}
LoraWeights = tuple[tuple[str, float], ...]


def node(*types: str) -> Callable[[Callable[..., Out]], Callable[..., Out]]:
    """Register a function as what these classes of node do; it takes the node's inputs by name."""

    def put(function: Callable[..., Out]) -> Callable[..., Out]:
        FUNCTIONS.update(dict.fromkeys(types, function))
        return function

    return put


@dataclass(frozen=True)
class Model:
    """A MODEL link: which, with which LoRAs on it, shifted how far."""

    name: str
    loras: LoraWeights = ()
    shift: float | None = None


@dataclass(frozen=True)
class Clip:
    """A CLIP link: whose text encoder, with which LoRAs on it, stopped how many layers early."""

    name: str
    loras: LoraWeights = ()
    skip: int = 0


@dataclass(frozen=True)
class Vae:
    """A VAE link: whose, or which other one instead."""

    name: str
    other: str | None = None


@dataclass(frozen=True)
class Told:
    """A CONDITIONING link: words and who reads them, or embeddings (1, tokens, width) that were worked on; ControlNets."""

    text: str | None
    clip: Clip
    embeddings: Tensor | None = None
    controls: tuple[tuple[str, Tensor, float, float, float], ...] = ()
    guidance: float | None = None


@dataclass(frozen=True)
class Latent:
    """A LATENT link: samples, whether they are only an empty canvas, and a mask (1 where they may change)."""

    samples: Tensor
    empty: bool = False
    mask: Tensor | None = None


@dataclass(frozen=True)
class Guider:
    model: Model
    positive: Told
    negative: Told | None
    cfg: float


@dataclass(frozen=True)
class Sigmas:
    """A SIGMAS link: ComfyUI's scheduler and counts, or a list of noise levels."""

    scheduler: str | None = None
    steps: int = 0
    denoise: float = 1.0
    listed: str = ""


@cache
def parts(name: str, vae: str | None = None) -> Parts:
    return models.load(name, vae=vae)


# --- loaders ----------------------------------------------------------------------------------------------------


@node("CheckpointLoaderSimple")
def load_checkpoint(ctx: "Context", ckpt_name: str) -> Out:
    name = ctx.model(model_of({"ckpt_name": ckpt_name}) or ckpt_name)
    return Model(name), Clip(name), Vae(name)


@node("DiffusersLoader")
def load_folder(ctx: "Context", model_path: str) -> Out:
    return load_checkpoint(ctx, f"{model_path}.safetensors")


@node("UNETLoader")
def load_unet(ctx: "Context", unet_name: str, weight_dtype: str = "default") -> Out:
    return (Model(ctx.model(model_of({"unet_name": unet_name}) or unet_name)),)


@node("CLIPLoader", "DualCLIPLoader")
def load_clip(ctx: "Context", **names: str) -> Out:
    return (Clip(ctx.base()),)


@node("VAELoader")
def load_vae(ctx: "Context", vae_name: str) -> Out:
    base = ctx.base()
    own = vae_name == model_files(base)[1].get("vae_name")
    return (Vae(base, None if own else ctx.file("vae_name", vae_name)),)


@node("LoraLoader")
def load_lora(ctx: "Context", model: Model, clip: Clip, lora_name: str, strength_model: float, strength_clip: float) -> Out:
    name = ctx.file("lora_name", lora_name)
    return (replace(model, loras=(*model.loras, (name, strength_model))),
            replace(clip, loras=(*clip.loras, (name, strength_clip))))  # fmt: skip


@node("LoraLoaderModelOnly")
def load_lora_model(ctx: "Context", model: Model, lora_name: str, strength_model: float) -> Out:
    return (replace(model, loras=(*model.loras, (ctx.file("lora_name", lora_name), strength_model))),)


@node("ControlNetLoader")
def load_controlnet(ctx: "Context", control_net_name: str) -> Out:
    return (ctx.file("control_net_name", control_net_name),)


@node("CLIPSetLastLayer")
def stop_at(ctx: "Context", clip: Clip, stop_at_clip_layer: int) -> Out:
    usual = model_files(clip.name)[0].layers or 1
    return (replace(clip, skip=max(-stop_at_clip_layer - usual, 0)),)


@node("ModelSamplingSD3", "ModelSamplingAuraFlow")
def shift(ctx: "Context", model: Model, shift: float) -> Out:
    return (replace(model, shift=shift),)


@node("ModelSamplingFlux")
def shift_by_size(ctx: "Context", model: Model, max_shift: float, base_shift: float, width: int, height: int) -> Out:
    slope = (max_shift - base_shift) / (4096 - 256)
    return (replace(model, shift=float(np.exp(base_shift + (width * height / 256 - 256) * slope))),)


# --- words ------------------------------------------------------------------------------------------------------


@node("CLIPTextEncode")
def encode_text(ctx: "Context", text: str, clip: Clip) -> Out:
    return (Told(text, clip),)


@node("FluxGuidance")
def tell_guidance(ctx: "Context", conditioning: Told, guidance: float) -> Out:
    return (replace(conditioning, guidance=guidance),)


@node("ConditioningZeroOut")
def zero_out(ctx: "Context", conditioning: Told) -> Out:
    return (_worked(conditioning, torch.zeros_like(embedded(conditioning))) if _is_sd(conditioning) else conditioning,)


@node("ConditioningConcat")
def concat(ctx: "Context", conditioning_to: Told, conditioning_from: Told) -> Out:
    return (_worked(conditioning_to, torch.cat([embedded(conditioning_to), embedded(conditioning_from)], 1)),)


@node("ConditioningAverage")
def average(ctx: "Context", conditioning_to: Told, conditioning_from: Told, conditioning_to_strength: float) -> Out:
    to, other = embedded(conditioning_to), embedded(conditioning_from)[:, : embedded(conditioning_to).shape[1]]
    other = functional.pad(other, (0, 0, 0, to.shape[1] - other.shape[1]))
    return (_worked(conditioning_to, to * conditioning_to_strength + other * (1.0 - conditioning_to_strength)),)


@node("ControlNetApplyAdvanced")
def apply_controlnet(
    ctx: "Context", positive: Told, negative: Told, control_net: str, image: Tensor, strength: float,
    start_percent: float, end_percent: float, vae: Vae | None = None,
) -> Out:  # fmt: skip
    new = (control_net, image, strength, start_percent, end_percent)
    return tuple(replace(told, controls=(*told.controls, new)) for told in (positive, negative))


def _is_sd(told: Told) -> bool:
    return model_files(told.clip.name)[0].layers == 1


def _worked(told: Told, embeddings: Tensor) -> Told:
    return replace(told, text=None, embeddings=embeddings)


@torch.no_grad()
def embedded(told: Told) -> Tensor:
    """Embeddings (1, tokens, width) of a conditioning of Stable Diffusion's shape."""
    if told.embeddings is not None:
        return told.embeddings
    if not _is_sd(told) or told.text is None:
        raise GraphError(f"{told.clip.name}: only Stable Diffusion 1.5's conditioning can be averaged or joined here")
    model = parts(told.clip.name)
    adapters.attach(model, told.clip.loras)
    tokenizer, encoder = model.encoders[0]
    return prompts.encode(tokenizer, encoder, told.text, "weighted", told.clip.skip)[0].to(model.dtype)


# --- pictures and latents ---------------------------------------------------------------------------------------


@node("EmptyLatentImage", "EmptySD3LatentImage")
def empty(ctx: "Context", width: int, height: int, batch_size: int = 1) -> Out:
    channels = 4 if ctx.type == "EmptyLatentImage" else 16
    return (Latent(torch.zeros(batch_size, channels, height // 8, width // 8), empty=True),)


@node("LoadImage")
def load_image(ctx: "Context", image: str, upload: str = "") -> Out:
    picture = ctx.picture(image)
    alpha = picture.getchannel("A") if "A" in picture.getbands() else None
    mask = 1 - _floats(alpha) if alpha else torch.zeros(64, 64)
    return _floats(picture.convert("RGB"))[None], mask[None]


@node("LoadImageMask")
def load_mask(ctx: "Context", image: str, channel: str, upload: str = "") -> Out:
    picture = ctx.picture(image).convert("RGBA")
    mask = _floats(picture.getchannel(channel[0].upper()))
    return ((1 - mask if channel == "alpha" else mask)[None],)


def _floats(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype="float32") / 255)


@node("VAEDecode")
@torch.no_grad()
def decode(ctx: "Context", samples: Latent, vae: Vae) -> Out:
    pixels = parts(vae.name, vae.other).to_pixels(samples.samples)
    return ((pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu(),)


@node("VAEEncode")
def encode(ctx: "Context", pixels: Tensor, vae: Vae) -> Out:
    height, width = (side // 8 * 8 for side in pixels.shape[1:3])
    return (Latent(parts(vae.name, vae.other).to_latents(2.0 * pixels[:, :height, :width, :3].permute(0, 3, 1, 2) - 1.0)),)


@node("SetLatentNoiseMask")
def set_mask(ctx: "Context", samples: Latent, mask: Tensor) -> Out:
    return (replace(samples, mask=mask),)


@node("ImageScale")
def scale(ctx: "Context", image: Tensor, upscale_method: str, width: int, height: int, crop: str) -> Out:
    return (resized(image.permute(0, 3, 1, 2), upscale_method, width, height, crop).permute(0, 2, 3, 1),)


@node("ImageScaleBy")
def scale_by(ctx: "Context", image: Tensor, upscale_method: str, scale_by: float) -> Out:
    height, width = (round(side * scale_by) for side in image.shape[1:3])
    return scale(ctx, image, upscale_method, width, height, "disabled")


@node("LatentUpscale")
def upscale_latent(ctx: "Context", samples: Latent, upscale_method: str, width: int, height: int, crop: str) -> Out:
    return (replace(samples, samples=resized(samples.samples, upscale_method, width // 8, height // 8, crop)),)


@node("LatentUpscaleBy")
def upscale_latent_by(ctx: "Context", samples: Latent, upscale_method: str, scale_by: float) -> Out:
    height, width = (round(side * scale_by) for side in samples.samples.shape[2:])
    return (replace(samples, samples=resized(samples.samples, upscale_method, width, height, "disabled")),)


def resized(values: Tensor, method: str, width: int, height: int, crop: str) -> Tensor:
    """(B, C, H, W) at another size, by one of ComfyUI's methods; 0 keeps the proportions of the other side."""
    h, w = values.shape[2:]
    width, height = width or max(1, round(w * height / h)), height or max(1, round(h * width / w))
    if crop == "center":
        x, y = (round((w - h * width / height) / 2), 0) if w / h > width / height else (0, round((h - w * height / width) / 2))
        values = values[:, :, y : h - y, x : w - x]
    if method == "lanczos":
        pictures = [Image.fromarray((v.permute(1, 2, 0) * 255).clamp(0, 255).numpy().astype("uint8")) for v in values]
        return torch.stack([_floats(p.resize((width, height), Image.Resampling.LANCZOS)).permute(2, 0, 1) for p in pictures])
    if method == "bislerp":
        raise GraphError("bislerp is not done here; expected nearest-exact, bilinear, area or bicubic")
    return functional.interpolate(values, size=(height, width), mode=method)


@node("ImageInvert")
def invert(ctx: "Context", image: Tensor) -> Out:
    return (1.0 - image,)


@node("ImageBatch")
def batch(ctx: "Context", image1: Tensor, image2: Tensor) -> Out:
    if image1.shape[1:] != image2.shape[1:]:
        size = image1.shape[2], image1.shape[1]
        image2 = resized(image2.permute(0, 3, 1, 2), "bilinear", *size, "center").permute(0, 2, 3, 1)
    return (torch.cat([image1, image2]),)


@node("ImageToMask")
def to_mask(ctx: "Context", image: Tensor, channel: str) -> Out:
    at = ["red", "green", "blue", "alpha"].index(channel)
    return (image[..., at] if at < image.shape[-1] else torch.ones(image.shape[:3]),)


@node("MaskToImage")
def from_mask(ctx: "Context", mask: Tensor) -> Out:
    return (mask[..., None].expand(*mask.shape, 3),)


@node("RepeatLatentBatch")
def repeat(ctx: "Context", samples: Latent, amount: int) -> Out:
    return (replace(samples, samples=samples.samples.repeat(amount, 1, 1, 1)),)


@node("LatentFromBatch")
def pick(ctx: "Context", samples: Latent, batch_index: int, length: int) -> Out:
    first = min(batch_index % len(samples.samples) if batch_index < 0 else batch_index, len(samples.samples) - 1)
    return (replace(samples, samples=samples.samples[first : first + length]),)


@node("PreviewImage", "SaveImage")
def save(ctx: "Context", images: Tensor, filename_prefix: str = "") -> Out:
    ctx.save(images, filename_prefix)
    return ()


@node("PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveStringMultiline", "PrimitiveBoolean")
def primitive(ctx: "Context", value: Any) -> Out:
    return (value,)


# --- sampling ---------------------------------------------------------------------------------------------------


@node("KSampler")
def ksampler(
    ctx: "Context", model: Model, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, positive: Told,
    negative: Told, latent_image: Latent, denoise: float,
) -> Out:  # fmt: skip
    sigmas = Sigmas(scheduler, steps, denoise)
    return (_sample(ctx, Guider(model, positive, negative, cfg), seed, sampler_name, sigmas, latent_image),)


@node("KSamplerAdvanced")
def ksampler_advanced(
    ctx: "Context", model: Model, add_noise: str, noise_seed: int, steps: int, cfg: float, sampler_name: str,
    scheduler: str, positive: Told, negative: Told, latent_image: Latent, start_at_step: int, end_at_step: int,
    return_with_leftover_noise: str,
) -> Out:  # fmt: skip
    if add_noise != "enable" or end_at_step < steps or start_at_step >= steps:
        raise GraphError(f"{ctx.where}: only a run to the last step, from its own noise, is done here")
    done = steps - start_at_step
    sigmas = Sigmas(scheduler, done, done / steps)
    return (_sample(ctx, Guider(model, positive, negative, cfg), noise_seed, sampler_name, sigmas, latent_image),)


@node("KSamplerSelect")
def select_sampler(ctx: "Context", sampler_name: str) -> Out:
    return (sampler_name,)


@node("RandomNoise")
def random_noise(ctx: "Context", noise_seed: int) -> Out:
    return (noise_seed,)


@node("BasicScheduler")
def basic_scheduler(ctx: "Context", model: Model, scheduler: str, steps: int, denoise: float) -> Out:
    return (Sigmas(scheduler, steps, denoise),)


@node("ManualSigmas")
def manual_sigmas(ctx: "Context", sigmas: str) -> Out:
    return (Sigmas(None, sigmas.count(","), 1.0, sigmas),)


@node("CFGGuider")
def cfg_guider(ctx: "Context", model: Model, positive: Told, negative: Told, cfg: float) -> Out:
    return (Guider(model, positive, negative, cfg),)


@node("BasicGuider")
def basic_guider(ctx: "Context", model: Model, conditioning: Told) -> Out:
    return (Guider(model, conditioning, None, 1.0),)


@node("SamplerCustom")
def sampler_custom(
    ctx: "Context", model: Model, add_noise: bool, noise_seed: int, cfg: float, positive: Told, negative: Told,
    sampler: str, sigmas: Sigmas, latent_image: Latent,
) -> Out:  # fmt: skip
    if not add_noise:
        raise GraphError(f"{ctx.where}: sampling without noise of its own is not done here")
    made = _sample(ctx, Guider(model, positive, negative, cfg), noise_seed, sampler, sigmas, latent_image)
    return made, made


@node("SamplerCustomAdvanced")
def sampler_custom_advanced(
    ctx: "Context", noise: int, guider: Guider, sampler: str, sigmas: Sigmas, latent_image: Latent
) -> Out:
    made = _sample(ctx, guider, noise, sampler, sigmas, latent_image)
    return made, made


@torch.no_grad()
def _sample(ctx: "Context", guider: Guider, seed: int, sampler: str, sigmas: Sigmas, latent: Latent) -> Latent:
    """The Code rung's own loop, given what the links brought."""
    model = parts(guider.model.name)
    width, height = latent.samples.shape[3] * model.factor, latent.samples.shape[2] * model.factor
    solver, steps, done = _solver(ctx, guider.model, model, sampler, sigmas, width, height)
    own = guider.positive.guidance
    recipe = Recipe(prompt=guider.positive.text or "", negative=(guider.negative and guider.negative.text) or "",
                    prompt_syntax="weighted", guidance=guider.cfg if own is None else own, width=width, height=height,
                    model=guider.model.name, clip_skip=guider.positive.clip.skip)  # fmt: skip
    count = len(latent.samples)
    shape = (count, *latent.samples.shape[1:])
    noise = model.family.pack(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(model.device, model.dtype))
    begun = start.Start(noise)
    if not latent.empty or done < steps:
        begun.image = model.family.pack(latent.samples.to(noise))
    if latent.mask is not None:
        size = latent.samples.shape[2:]
        begun.mask = functional.interpolate(latent.mask[:, None], size=size, mode="bilinear").to(noise)
    told = _told(model, guider, recipe, count)
    adapters.attach(model, guider.model.loras)
    recipe = recipe.model_copy(update={"steps": steps, "strength": min(1.0, (done + 0.5) / steps)})
    speak = _speak(model, guider.positive, recipe, solver, begun)
    step = None
    for step in loop(model, told, solver, begun, speak, recipe, [seed]):
        ctx.step(step)
    if step is None:
        raise GraphError(f"{ctx.where}: there is no step to run")
    return Latent(step.latent)


def _solver(
    ctx: "Context", model: Model, loaded: Parts, name: str, sigmas: Sigmas, width: int, height: int
) -> tuple[Any, int, int]:
    """(scheduler, length of its list, steps that run of it)."""
    config, family = loaded.scheduler.config, model_files(model.name)[0]
    said, done = hints(ctx.title), sigmas.steps
    steps = int(done / sigmas.denoise) if sigmas.denoise > 0 else done
    spacing: Any = sigmas.scheduler
    if sigmas.listed:
        steps, spacing = int(said.get("steps", done)), ("listed", sigmas.listed, done)
    flow = "beta_schedule" not in config
    said = {"sampler": f"flow_{name}", **said} if flow and name in ("euler", "heun") else said
    trained = trained_as(family, model.shift, width, height)
    pair = meaning(name, spacing, steps, said, trained) or (said.get("sampler", name) if flow else name, spacing)
    if sigmas.listed and not isinstance(pair[1], str):
        if pair[0] not in samplers.TABLE:
            raise GraphError(f"{ctx.where}: no sampler {name!r} here")
        levels = torch.tensor([float(value) for value in sigmas.listed.split(",")])
        return samplers.following(pair[0], config, levels, spacings.trained(config, model.shift)), done, done
    if pair[0] not in samplers.TABLE or pair[1] not in spacings.SPACINGS:
        raise GraphError(f"{ctx.where}: no {name} with {sigmas.scheduler} here")
    recipe = Recipe(prompt="", width=width, height=height, model=model.name)
    mu = loaded.family.mu(loaded, recipe) if model.shift is None else None
    return samplers.scheduler(pair[0], pair[1], config, steps, model.shift, mu), steps, done


def _told(model: Parts, guider: Guider, recipe: Recipe, count: int) -> Conditioning:
    positive, negative = guider.positive, guider.negative
    adapters.attach(model, positive.clip.loras)
    pure = positive.embeddings is None and (negative is None or negative.embeddings is None)
    same = negative is None or negative.clip == positive.clip
    if (pure and same) or model_files(guider.model.name)[0].layers != 1:
        return model.encode([recipe] * count)
    guided = recipe.guidance > 1 and negative is not None
    rows = [embedded(negative)] * count * guided + [embedded(positive)] * count if negative else [embedded(positive)] * count
    return Conditioning(torch.cat(prompts.even(rows)).to(model.dtype), guided)


def _speak(model: Parts, told: Told, recipe: Recipe, solver: Any, begun: start.Start) -> Any:
    """The ControlNets of a conditioning; ComfyUI's percents of timesteps become fractions of these steps."""
    if not told.controls:
        return control.hook(model, recipe)
    times = [float(t) for t in begun.lay(solver, recipe)[0]]
    found = []
    for kind, image, strength, first, last in told.controls:
        on = [
            i for i, t in enumerate(times) if (1 - last) * 999 <= t <= (1 - first) * 999 or (first == 0 and t > 999 * (1 - last))
        ]
        if on and strength:
            picture = Image.fromarray((image[0] * 255).round().numpy().astype("uint8"))
            found.append(Control(kind=kind, image=Pixels(picture), strength=strength, start=on[0] / len(times),
                                 end=(on[-1] + 1) / len(times)))  # fmt: skip
    return control.hook(model, recipe.model_copy(update={"control": tuple(found)}))
