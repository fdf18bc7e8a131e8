"""Train a LoRA on a handful of pictures: a generator that yields every step, so that a caller draws, logs or stops."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from chapter38.code import adapters
from chapter38.code.parts import Parts, pixels
from chapter38.errors import AdapterError

TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "conv1",
    "conv2",
)  # attention, and the two convolutions of a ResNet block


@dataclass(frozen=True)
class Plan:
    """How to train: the LoRA's rank and alpha (None: the rank), where it sits, and AdamW's steps.

    `high_noise` < 1 draws more of the high noise levels (u**high_noise): layout is decided there. `empty` is the share of
    captions left out, which keeps classifier-free guidance working.
    """

    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = TARGETS
    steps: int = 400
    batch: int = 32
    rate: float = 2e-3
    high_noise: float = 0.8
    empty: float = 0.1
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Ten steps of warm-up, level, and a linear fall over the last 40 %."""
        return self.rate * min(1.0, (step + 1) / 10, (1 - step / self.steps) / 0.4)


@dataclass(frozen=True)
class Trained:
    """One training step: its number (from 1), of how many, and the loss (mean squared error of the prediction)."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Examples:
    """Pictures and captions as the U-Net sees them, encoded once.

    latents (N, 4, H/8, W/8), unit variance · words (N, K, tokens, width), K captions a picture · empty (tokens, width)
    """

    latents: torch.Tensor
    words: torch.Tensor
    empty: torch.Tensor

    def draw(self, size: int, empty: float, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(indices, latents, words) of `size` examples drawn with replacement."""
        i = torch.randint(len(self.latents), (size,), generator=random)
        words = self.words[i, torch.randint(self.words.shape[1], (size,), generator=random)]
        silent = (torch.rand(size, generator=random) < empty)[:, None, None].to(words.device)
        return i, self.latents[i], torch.where(silent, self.empty, words)


def train_lora(
    parts: Parts,
    pictures: Sequence[Image.Image],
    captions: Sequence[str | Sequence[str]],
    plan: Plan = Plan(),
    *,
    name: str = "tuned",
    checkpoint: "os.PathLike[str] | str | None" = None,
    every: int = 50,
) -> Iterator[Trained]:
    """Train a LoRA called `name` on the U-Net of `parts`, yielding after every step; it stays attached.

    Draw with it at any time, `Recipe(..., adapters=[(name, 1)])` and `parts=parts`; keep it with `adapters.save`.

    pictures: RGB, one size, sides multiples of 8; captions: one a picture, or several to choose from (as many for each).
    With `checkpoint` (a .safetensors path) the state is written every `every` steps, and a run that finds the file goes on
    where it stopped: the result is the one an unbroken run gives. Raises AdapterError where pictures and captions do not
    fit together, the name is taken, the checkpoint is of another training, or the loss is no longer finite.

    >>> for trained in train_lora(load("postcards"), pictures, captions): ...  # doctest: +SKIP
    """
    unet, examples = parts.denoiser, encode(parts, pictures, captions)
    weights = attach(unet, plan, name)
    optimizer = torch.optim.AdamW(weights.values(), plan.rate, weight_decay=0.0)
    saved = Checkpoint(Path(checkpoint), _fingerprint(plan, pictures, captions)) if checkpoint else None
    for step in range(saved.load(weights, optimizer) if saved else 0, plan.steps):
        adapters.wake(parts, name)
        random = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        _, latents, words = examples.draw(plan.batch, plan.empty, random)
        with channels_last(unet):
            loss = denoising_loss(unet, parts.scheduler, latents, words, random, plan.high_noise)
            descend(optimizer, plan.rate_at(step), loss)
        if saved and ((step + 1) % every == 0 or step + 1 == plan.steps):
            saved.save(weights, optimizer, step + 1)
        yield Trained(step + 1, plan.steps, loss.item())


@contextmanager
def channels_last(unet: Any) -> Iterator[None]:
    """Convolutions in the layout that trains twice as fast; drawing keeps the other, whose rounding the base's pictures have."""
    unet.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        unet.to(memory_format=torch.contiguous_format)


def descend(optimizer: torch.optim.Optimizer, rate: float, loss: torch.Tensor) -> None:
    """One step of gradient descent at `rate`, gradients clipped to norm 1. Raises AdapterError where the loss is not finite."""
    if not math.isfinite(loss.item()):
        raise AdapterError(f"the loss became {loss.item()}: train with a lower rate than {rate:g}, or in float32 or bfloat16")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


def denoising_loss(
    unet: Any,
    scheduler: Any,
    latents: torch.Tensor,
    words: torch.Tensor,
    random: torch.Generator,
    high_noise: float = 1.0,
    residuals: Callable[..., dict[str, Any]] = lambda noised, t, words: {},
) -> torch.Tensor:
    """Mean squared error of the U-Net's prediction on freshly noised latents (Ho et al. 2020, eq. 14).

    latents (B, 4, h, w); words (B, tokens, width). Noise levels are stratified over the batch. What `residuals(noised, t,
    words)` returns is handed to the U-Net: a ControlNet's contribution.
    """
    size, count = len(latents), scheduler.config.num_train_timesteps
    u = (torch.randperm(size, generator=random) + torch.rand(size, generator=random)) / size
    t = (u**high_noise * count).long().clamp(0, count - 1)
    noise = torch.randn(latents.shape, generator=random).to(latents)
    kept = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1).to(latents)
    signal, sigma = kept.sqrt(), (1 - kept).sqrt()
    noised = (signal * latents + sigma * noise).contiguous(memory_format=torch.channels_last)
    t = t.to(latents.device)
    target = {"epsilon": noise, "v_prediction": signal * noise - sigma * latents}[scheduler.config.prediction_type]
    with torch.autocast(latents.device.type, latents.dtype, enabled=latents.dtype != torch.float32):
        predicted = unet(noised, t, words, **residuals(noised, t, words)).sample
    return F.mse_loss(predicted.float(), target.float())


@torch.no_grad()
def encode(parts: Parts, pictures: Sequence[Image.Image], captions: Sequence[str | Sequence[str]]) -> Examples:
    """Latents (the mode, not a sample) and text embeddings of the examples. Raises AdapterError where they do not fit."""
    said = [[c] if isinstance(c, str) else list(c) for c in captions]
    sizes, counts = {p.size for p in pictures}, {len(c) for c in said}
    if len(pictures) != len(said) or len(sizes) != 1 or len(counts) != 1 or 0 in counts:
        raise AdapterError(
            f"expected pictures of one size, each with the same number of captions; got {len(pictures)} pictures in "
            f"{len(sizes)} sizes, and {len(said)} captions with {sorted(counts)} alternatives"
        )
    size = pictures[0].size
    latents = torch.cat([parts.to_latents(pixels(pictures[i : i + 8], *size)) for i in range(0, len(pictures), 8)])
    words = embed(parts, [line for lines in said for line in lines])
    return Examples(latents, words.view(len(said), -1, *words.shape[1:]), embed(parts, [""])[0])


@torch.no_grad()
def embed(parts: Parts, captions: Sequence[str]) -> torch.Tensor:
    """Text embeddings (N, tokens, width) of captions, cut at the encoder's context."""
    if type(parts.pipeline).__name__ != "StableDiffusionPipeline":
        raise AdapterError(f"{parts.name}: expected a model of Stable Diffusion's shape, such as postcards or sd15")
    tokenizer, encoder = parts.encoders[0]
    length = tokenizer.model_max_length
    ids = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return torch.cat([encoder(chunk.to(parts.device))[0] for chunk in ids.split(64)]).to(parts.dtype)


def attach(unet: Any, plan: Plan, name: str) -> dict[str, torch.nn.Parameter]:
    """Add a fresh LoRA to the U-Net (B = 0: it changes nothing yet), freeze the rest; returns its float32 weights by name."""
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    if name in getattr(unet, "peft_config", {}):
        raise AdapterError(f"an adapter called {name!r} is already attached; unload it, or train under another name")
    if "." in name or not name or hasattr(torch.nn.ModuleDict(), name):
        raise AdapterError(f"an adapter cannot be called {name!r}: PyTorch has another use for that name")
    if plan.rank < 1 or plan.steps < 1 or plan.batch < 1:
        raise AdapterError(f"rank, steps and batch are at least 1; got {plan.rank}, {plan.steps}, {plan.batch}")
    alpha = plan.rank if plan.alpha is None else plan.alpha
    unet.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        config = LoraConfig(r=plan.rank, lora_alpha=alpha, target_modules=list(plan.targets))  # type: ignore[arg-type]
        unet.add_adapter(config, name)
    cast_training_params(unet, torch.float32)
    return {key: weight for key, weight in unet.named_parameters() if weight.requires_grad}


@dataclass
class Checkpoint:
    """Weights and AdamW's moments in one safetensors file, written whole or not at all; no pickle."""

    path: Path
    fingerprint: str
    moments: tuple[str, ...] = field(default=("exp_avg", "exp_avg_sq"))

    def save(self, weights: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
        tensors = {f"weight/{name}": weight.detach().contiguous() for name, weight in weights.items()}
        for moment in self.moments:
            tensors |= {f"{moment}/{name}": optimizer.state[weight][moment].contiguous() for name, weight in weights.items()}
        beside = self.path.with_name(self.path.name + ".part")
        save_file(tensors, beside, {"step": str(step), "fingerprint": self.fingerprint})
        beside.replace(self.path)

    def load(self, weights: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
        """Restore in place; returns the steps already done, 0 where there is no file. Raises AdapterError on another's."""
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, "pt") as file:
                if (file.metadata() or {}).get("fingerprint") != self.fingerprint:
                    raise AdapterError(f"{self.path}: is the checkpoint of another training (plan or examples differ); remove it")
                step = int(file.metadata()["step"])
                for name, weight in weights.items():
                    weight.data.copy_(file.get_tensor(f"weight/{name}"))
                    moments = {moment: file.get_tensor(f"{moment}/{name}").to(weight) for moment in self.moments}
                    optimizer.state[weight] = {"step": torch.tensor(float(step)), **moments}
        except (SafetensorError, OSError) as error:
            raise AdapterError(f"{self.path}: not a readable checkpoint ({error}); remove it to begin anew") from None
        return step


def _fingerprint(plan: Plan, pictures: Sequence[Image.Image], captions: Sequence[str | Sequence[str]]) -> str:
    """Names a training: its plan and its examples."""
    digest = hashlib.sha256(json.dumps([asdict(plan), list(captions)], sort_keys=True).encode())
    for picture in pictures:
        digest.update(picture.convert("RGB").tobytes())
    return digest.hexdigest()
