"""From trained parts to what ships: a plain Diffusers folder in fp16, its seal, its contact sheet and its model card."""

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from chapter38.code import models
from chapter38.measure import world
from chapter38.postcards import judging_scenes
from chapter38.postcards.judge import load
from chapter38.train.card import write_card
from chapter38.train.judge import accuracy, calibrate, examples
from chapter38.train.unet import BETAS, fold
from chapter38.train.vae import psnr, stack

SAYS = (
    "A text-to-image model of one small world (128 pixels; eight objects in eight colours, three skies, four grounds, "
    "three places, three sizes), trained from procedurally drawn scenes. It knows the words of that world and no others; "
    "its data have stated skews and held-out pairs (`chapter38.postcards.SKEWS`, `HELD_OUT`), which lessons measure."
)


def write_judge(judge: Any, folder: Path) -> None:
    """Calibrate the judge and write it as fp16 safetensors."""
    state = calibrate(copy.deepcopy(judge)).state_dict()
    half = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in state.items()}
    save_file(half, folder / "judge.safetensors")


def write_pipeline(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text: CLIPTextModel, tokenizer: CLIPTokenizer,
    mean: torch.Tensor, std: torch.Tensor, folder: Path,
) -> None:  # fmt: skip
    """The parts as a folder that `StableDiffusionPipeline.from_pretrained` draws with by itself."""
    scheduler = DDIMScheduler(
        **BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing",
        steps_offset=1,
    )  # fmt: skip
    folded = fold(copy.deepcopy(vae), mean, std)
    pipeline = StableDiffusionPipeline(
        vae=folded, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder)
    for config in folder.rglob("*.json"):  # where the parts were loaded from is nobody's business
        lines = config.read_text("utf-8").splitlines()
        kept = [line for line in lines if '"_name_or_path"' not in line]
        # Kept in half, computed in single: Diffusers does so by itself, Transformers where the config says it.
        config.write_text("\n".join(kept).replace('"dtype": "float16"', '"dtype": "float32"') + "\n", "utf-8")


def describe(folder: Path, made: dict[str, Any], drawn: int = 512) -> world.World:
    """Measure what stands in `folder`, and write its seal, contact sheet (64 pictures) and card."""
    models.seal(folder)
    judge = load(folder / "judge.safetensors")
    measured = world.measure(drawn, str(folder), by=judge)
    world.sheet(measured.pictures[:64]).save(folder / "sheet.webp", quality=90, method=6)
    unseen = stack(judging_scenes(99, 64))
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    figures = {f"{of}: {what}": str(value) for (of, what), value in measured.right.items()}
    figures["Fréchet distance to fresh renders, judge's features, extrapolated"] = str(measured.distance)
    figures["autoencoder, PSNR of 64 unseen scenes"] = f"{psnr(vae, unseen):.2f} dB"
    x, labels = examples(123, 1_000)
    right = accuracy(judge, x.float().div(127.5).sub(1), labels)
    figures["judge, unseen renders"] = ", ".join(f"{name} {value:.1%}" for name, value in right.items())
    write_card(folder, "Postcards", SAYS, made, figures)
    return measured


def install(folder: Path, target: Path) -> None:
    """Put the parts in place of those that ship; adapters beside them stay."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    models.seal(target)
