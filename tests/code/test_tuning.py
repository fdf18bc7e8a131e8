"""Training a LoRA: it learns, it resumes to the very bytes of an unbroken run, and it leaves the base alone."""

import math
from dataclasses import replace
from pathlib import Path

import adapting
import pytest
import tiny
import torch
from PIL import Image

from chapter38.code import adapters, lorafile
from chapter38.code.draw import draw
from chapter38.code.parts import Parts
from chapter38.code.tuning import Plan, denoising_loss, embed, encode, train_lora
from chapter38.errors import AdapterError

PICTURES = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
CAPTIONS = [["a red boat", "a boat, red"], ["a blue boat", "a boat, blue"]]
PLAN = Plan(rank=2, steps=6, batch=4)


def learned(parts: Parts) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in parts.denoiser.named_parameters() if ".tuned." in name}


def run(parts: Parts, plan: Plan = PLAN, checkpoint: Path | None = None, stop: int | None = None) -> list[float]:
    losses = []
    for trained in train_lora(parts, PICTURES, CAPTIONS, plan, checkpoint=checkpoint, every=2):
        losses.append(trained.loss)
        if trained.step == stop:
            break
    return losses


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_it_learns(kind: str) -> None:
    parts = Parts(tiny.sd(prediction_type=kind), "tiny")
    losses = run(parts, replace(PLAN, steps=40, batch=8, rate=1e-2))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_first_step_starts_from_the_base_and_the_base_never_moves() -> None:
    parts = adapting.parts()
    before = {name: p.detach().clone() for name, p in parts.denoiser.named_parameters()}
    alone = adapting.latents(parts)
    run(parts, stop=3)
    after = {name.replace(".base_layer", ""): p for name, p in parts.denoiser.named_parameters() if ".lora_" not in name}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(alone, adapting.latents(parts))
    adapters.discard(parts, "tuned")
    assert torch.equal(alone, adapting.latents(parts)) and not hasattr(parts.denoiser, "peft_config")


@pytest.mark.parametrize("stop", [3, 4])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    unbroken, parts = adapting.parts(), adapting.parts()
    losses = run(unbroken)
    run(parts, checkpoint=tmp_path / "c.safetensors", stop=stop)
    again = adapting.parts()
    rest = run(again, checkpoint=tmp_path / "c.safetensors")
    assert rest == losses[stop // 2 * 2 :]
    mine, theirs = learned(again), learned(unbroken)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert run(adapting.parts(), checkpoint=tmp_path / "c.safetensors") == []


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    run(adapting.parts(), checkpoint=tmp_path / "c.safetensors", stop=2)
    with pytest.raises(AdapterError, match="another training"):
        run(adapting.parts(), replace(PLAN, rate=1e-4), tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"broken")
    with pytest.raises(AdapterError, match="not a readable checkpoint"):
        run(adapting.parts(), checkpoint=tmp_path / "c.safetensors")


def test_drawing_in_the_middle_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    quiet, watched = adapting.parts(), adapting.parts()
    run(quiet)
    recipe = adapting.RECIPE
    sheets = []
    for _ in train_lora(watched, PICTURES, CAPTIONS, PLAN):
        sheets.append(draw(recipe.but(adapters=[("tuned", 1.0)]), parts=watched).image.tobytes())
        draw(recipe, parts=watched)
    mine, theirs = learned(watched), learned(quiet)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    path = adapters.save(watched, "tuned", tmp_path, half=False)
    kept = draw(recipe.but(adapters=[(str(path), 1.0)]), parts=adapting.parts()).image.tobytes()
    assert sheets[0] != sheets[-1] and kept == sheets[-1]


def test_alpha_is_kept_in_the_file(tmp_path: Path) -> None:
    parts = adapting.parts()
    run(parts, replace(PLAN, alpha=1.0, steps=1))
    lora = lorafile.load(adapters.save(parts, "tuned", tmp_path), adapting.base(parts))
    assert {(low.rank, low.alpha) for low in lora.values()} == {(2, 1.0)}


def test_the_loss_is_the_error_of_the_scheduler_s_own_target() -> None:
    parts = Parts(tiny.sd(prediction_type="v_prediction"), "tiny")
    latents, words = torch.randn(3, 4, 8, 8), torch.randn(3, 32, 32)
    seen: dict[str, torch.Tensor] = {}

    class Told:
        def __call__(self, noised: torch.Tensor, t: torch.Tensor, words: torch.Tensor) -> object:
            seen.update(noised=noised, t=t)
            return type("Out", (), {"sample": torch.zeros_like(noised)})

    loss = denoising_loss(Told(), parts.scheduler, latents, words, torch.Generator().manual_seed(1))
    kept = parts.scheduler.alphas_cumprod[seen["t"]].view(-1, 1, 1, 1)
    noise = (seen["noised"] - kept.sqrt() * latents) / (1 - kept).sqrt()
    velocity = parts.scheduler.get_velocity(latents, noise, seen["t"])
    assert math.isclose(loss.item(), velocity.square().mean().item(), rel_tol=1e-4)


def test_words_are_the_pipeline_s_own() -> None:
    parts = adapting.parts()
    theirs = parts.pipeline.encode_prompt("a red boat", "cpu", 1, False)[0]
    assert torch.equal(embed(parts, ["a red boat"]), theirs)


@pytest.mark.parametrize(
    ("pictures", "captions"),
    [
        (PICTURES, CAPTIONS[:1]), ([], []), ([PICTURES[0], PICTURES[1].resize((32, 32))], CAPTIONS),
        (PICTURES, ["a", ["b", "c"]]), (PICTURES, [[], []]),
    ],
)  # fmt: skip
def test_examples_that_do_not_fit_are_refused(pictures: list[Image.Image], captions: list[list[str]]) -> None:
    with pytest.raises(AdapterError, match="pictures of one size"):
        encode(adapting.parts(), pictures, captions)


def test_names_ranks_and_shapes_that_cannot_be() -> None:
    parts = adapting.parts()
    for name in ("training", "a.b", ""):
        with pytest.raises(AdapterError, match="another use for that name"):
            list(train_lora(parts, PICTURES, CAPTIONS, PLAN, name=name))
    with pytest.raises(AdapterError, match="at least 1"):
        run(parts, replace(PLAN, rank=0))
    run(parts, replace(PLAN, steps=1))
    with pytest.raises(AdapterError, match="already attached"):
        run(parts)
    with pytest.raises(AdapterError, match="Stable Diffusion's shape"):
        embed(Parts(tiny.sdxl(), "sdxl"), ["a"])


def test_a_diverging_run_stops_and_says_so() -> None:
    with pytest.raises(AdapterError, match="lower rate"):
        run(adapting.parts(), replace(PLAN, steps=60, rate=1e30))
