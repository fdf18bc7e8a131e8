"""On an NVIDIA GPU: postcards as on the CPU, and real models in their full size (random weights) through the same code.

`make test-gpu` runs them; elsewhere they are left out, but for the counts that need no memory.
"""

import json
import subprocess
import sys
from importlib.resources import files

import pytest
import torch
from PIL import Image

from chapter38.code import denoise, draw, draw_many, load, samplers
from chapter38.code.memory import GIB
from chapter38.code.parts import Parts
from chapter38.code.start import noise
from chapter38.code.tuning import Plan, denoising_loss, encode, train_lora
from chapter38.measure.pixels import edges, largest_difference
from chapter38.postcards import WEIGHTS
from chapter38.recipe import Control, Pixels, Recipe
from chapter38.show.profile import TOLERANCE
from tests.bench.full_size import BUILDERS, build

MODELS = json.loads((files("chapter38") / "models.json").read_text("utf-8"))
HOUSE = "a small yellow house on snow at night"


@pytest.mark.parametrize("name", BUILDERS)
def test_a_full_size_model_has_the_denoiser_that_the_registry_counts(name):
    pipeline = build(name, "meta", torch.bfloat16)
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    assert sum(p.numel() for p in denoiser.parameters()) == pytest.approx(MODELS[name]["parameters"], rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "changes",
    [{}, {"sampler": "euler_ancestral", "spacing": "karras"}, {"adapters": [("dusk", 1.0)]}, {"clip_skip": 1}],
    ids=["default", "step noise", "LoRA", "clip skip"],
)
def test_postcards_in_float32_is_the_cpus_picture(changes):
    recipe = Recipe(prompt=HOUSE, seed=38, **changes)
    on_gpu, on_cpu = (draw(recipe, parts=load("postcards", device=d, dtype=torch.float32)) for d in ("cuda", "cpu"))
    assert largest_difference(on_gpu.image, on_cpu.image) <= TOLERANCE["cuda"]
    assert on_gpu.receipt.meter.device.startswith("cuda")


@pytest.mark.gpu
def test_a_controlnet_steers_there_too():
    parts = load("postcards", device="cuda", dtype=torch.float32)
    hint = edges(draw(Recipe(prompt=HOUSE, seed=38), parts=parts).image)
    recipe = Recipe(prompt="a postcard", seed=7, control=[Control(kind="edges", image=Pixels(hint))])
    on_cpu = draw(recipe, parts=load("postcards", device="cpu"))
    assert largest_difference(draw(recipe, parts=parts).image, on_cpu.image) <= TOLERANCE["cuda"]


@pytest.mark.gpu
def test_a_batch_draws_what_each_recipe_draws_alone():
    parts = load("postcards", device="cuda", dtype=torch.float32)
    recipes = [Recipe(prompt=HOUSE, seed=seed) for seed in range(8)]
    together = draw_many(recipes, parts=parts)
    assert max(largest_difference(p.image, draw(r, parts=parts).image) for p, r in zip(together, recipes, strict=True)) <= TOLERANCE["cuda"]


@pytest.mark.gpu
def test_half_precision_draws_the_same_scene():
    from chapter38.postcards import judge
    from chapter38.postcards.scene import Scene

    parts = load("postcards", device="cuda", dtype=torch.float16)
    picture = draw(Recipe(prompt=HOUSE, seed=38), parts=parts)
    said = Scene.parse(HOUSE)
    read = judge.adherence(picture.image, said.scene)
    assert min(read[attribute] for attribute in said.stated) > 0.5


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_loop_by_hand_is_the_pipeline_in_full_size(name):
    parts = Parts(build(name, "cuda", torch.float16), name)
    recipe = Recipe(model=name, prompt=HOUSE, seed=38, steps=4)
    hand = list(denoise(parts, recipe))[-1].latent
    pipeline = parts.put_together()
    pipeline.scheduler = samplers.scheduler(recipe.sampler, recipe.spacing, parts.scheduler.config, recipe.steps)
    piped = pipeline(
        recipe.prompt, negative_prompt=recipe.negative, num_inference_steps=recipe.steps, guidance_scale=recipe.guidance,
        width=recipe.width, height=recipe.height, latents=noise(recipe, parts).to("cuda", torch.float16),
        output_type="latent",
    ).images  # fmt: skip
    assert torch.isfinite(hand).all() and torch.equal(hand, piped)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["sd35-medium", "flux-schnell"])
def test_a_transformer_in_full_size_draws(name):
    if torch.cuda.get_device_properties(0).total_memory < 40 * GIB:
        pytest.skip("needs a card of 40 GiB")
    parts = Parts(build(name, "cuda", torch.bfloat16), name)
    steps = []
    picture = draw(Recipe(model=name, prompt=HOUSE, seed=38, steps=4), parts=parts, watch=steps.append)
    assert picture.image.size == (1024, 1024) and len(steps) == 4
    assert all(torch.isfinite(step.latent).all() for step in steps)


@pytest.mark.gpu
def test_a_lora_on_a_full_size_sd15_trains_in_half_precision_within_a_t4s_memory():
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    parts = Parts(build("sd15", "cuda", torch.float16), "sd15")
    pictures = [Image.new("RGB", (512, 512), colour) for colour in ("red", "blue")]
    captions = ["a red postcard", "a blue postcard"]
    examples = encode(parts, pictures, captions)

    def loss() -> float:
        with torch.no_grad():
            random = torch.Generator().manual_seed(1)
            _, latents, words = examples.draw(8, 0.0, random)
            return denoising_loss(parts.denoiser, parts.scheduler, latents, words, random).item()

    before = loss()
    for trained in train_lora(parts, pictures, captions, Plan(steps=30, batch=2, rate=1e-3)):
        assert torch.isfinite(torch.tensor(trained.loss))
    assert loss() < 0.97 * before
    assert torch.cuda.max_memory_allocated() < 14 * GIB  # a T4 has 15 GiB


@pytest.mark.gpu
def test_a_fresh_controlnet_is_where_its_u_net_is_and_changes_nothing():
    from chapter38.code import control

    parts = load("postcards", device="cuda", dtype=torch.float32)
    parts.controls["fresh"] = control.fresh(parts.denoiser)
    recipe = Recipe(prompt=HOUSE, seed=38)
    hint = Pixels(Image.new("RGB", (128, 128), "white"))
    steered = draw(recipe.but(control=[Control(kind="fresh", image=hint)]), parts=parts)
    assert steered.image.tobytes() == draw(recipe, parts=parts).image.tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"sampler": "dpmpp_2m", "spacing": "karras"}, {"hires": {"scale": 1.5, "strength": 0.5}}])
def test_a_workflow_and_a_script_draw_the_same_picture(tmp_path, changes):
    from chapter38.canvas import export, run
    from chapter38.canvas.script import python

    recipe = Recipe(prompt=HOUSE, seed=38, **changes)
    drawn = draw(recipe).image
    assert largest_difference(run(export(recipe)).image, drawn) <= TOLERANCE["cuda"]
    if "hires" not in changes:
        (tmp_path / "script.py").write_text(python(recipe), "utf-8")
        done = subprocess.run(
            [sys.executable, "script.py", "out.png", str(WEIGHTS)], cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        assert largest_difference(Image.open(tmp_path / "out.png"), drawn) <= TOLERANCE["cuda"]
