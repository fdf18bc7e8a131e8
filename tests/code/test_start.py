"""Starts: a picture by strength, a mask, a second larger pass; equal to Diffusers' own pipelines."""

import pytest
import tiny
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image

from chapter38.code import samplers, start
from chapter38.code.denoise import denoise
from chapter38.code.parts import Parts, pixels
from chapter38.errors import ModelError, RecipeError
from chapter38.recipe import Recipe

PICTURE = tiny.grey(64)
MASK = Image.new("L", (64, 64))
MASK.paste(255, (0, 0, 32, 64))
BASE = Recipe(
    prompt="a red boat", negative="a cat", seed=5, steps=6, guidance=5, width=64, height=64, image=PICTURE, strength=0.5
)


@pytest.fixture(scope="module")
def parts():
    return Parts(tiny.sd())


def last(parts, recipe):
    return list(denoise(parts, recipe))[-1].latent


def other(kind, parts, recipe, **more):
    """The same picture by another pipeline around the same components; it is given the mode of the posterior."""
    names = ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor", "image_encoder")
    solver = samplers.scheduler(recipe.sampler, recipe.spacing, parts.scheduler.config, recipe.steps)
    made = kind(**{n: parts.pipeline.components[n] for n in names}, scheduler=solver, requires_safety_checker=False)
    image = parts.to_latents(pixels([recipe.image.image], 64, 64))
    call = {"prompt": recipe.prompt, "negative_prompt": recipe.negative, "guidance_scale": recipe.guidance}
    call |= {"num_inference_steps": recipe.steps, "strength": recipe.strength, "output_type": "latent", "image": image}
    return tiny.quiet(made)(**call, generator=torch.Generator().manual_seed(recipe.seed), **more).images


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.99, 1.0])
@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [("ddim", "trailing"), ("euler", "leading"), ("heun", "karras"), ("dpmpp_2m", "karras"), ("uni_pc", "simple"),
     ("dpm_2", "beta"), ("lms", "linspace"), ("res_multistep", "simple"), ("deis", "leading")],
)  # fmt: skip
def test_a_picture_by_strength_equals_the_pipeline(parts, sampler, spacing, strength):
    recipe = BASE.but(sampler=sampler, spacing=spacing, strength=strength)
    theirs = other(StableDiffusionImg2ImgPipeline, parts, recipe)
    assert torch.equal(last(parts, recipe), theirs)


@pytest.mark.parametrize(("sampler", "spacing"), [("ddim", "trailing"), ("euler", "karras"), ("dpmpp_2m", "karras")])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_mask_equals_the_pipeline(parts, sampler, spacing, strength):
    recipe = BASE.but(sampler=sampler, spacing=spacing, strength=strength, mask=MASK)
    latents = parts.to_latents(pixels([PICTURE], 64, 64))
    theirs = other(
        StableDiffusionInpaintPipeline, parts, recipe, mask_image=MASK, masked_image_latents=latents, width=64, height=64
    )
    ours = last(parts, recipe)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours[..., 4:], latents[..., 4:])  # the black half is the picture's own
    assert not torch.allclose(ours[..., :4], latents[..., :4])


def test_a_mask_is_hard_on_the_grid_of_latents():
    soft = Image.linear_gradient("L").resize((64, 64))
    found = start.latent_mask(BASE.but(mask=soft))
    assert found.shape == (1, 1, 8, 8) and set(found.unique().tolist()) == {0.0, 1.0}


def test_a_second_larger_pass_starts_from_the_first(parts):
    recipe = Recipe(prompt="a boat", steps=3, width=64, height=64, hires={"scale": 1.3, "strength": 0.7, "steps": 4})
    steps = list(denoise(parts, recipe))
    assert [s.latent.shape[-1] for s in steps] == [8, 8, 8, 10, 10]  # 64 * 1.3 is nearest to 80; 0.7 of 4 steps are 2
    once = list(denoise(parts, recipe.but(hires=None)))
    assert torch.equal(steps[2].latent, once[-1].latent)
    wide = start.enlarged(recipe)
    pixels_now = (parts.to_pixels(once[-1].latent) / 2 + 0.5).clamp(0, 1)
    bigger = torch.nn.functional.interpolate(pixels_now, size=(80, 80), mode="bicubic") * 2 - 1
    again = start.again(parts, [wide], once[-1].latent)
    assert torch.equal(again.image, parts.to_latents(bigger))
    assert torch.equal(again.noise, start.noise(wide, parts))


def test_sizes_and_strengths_that_do_not_fit_say_so(parts):
    with pytest.raises(ModelError, match="32x32; the recipe draws 64x64"):
        last(parts, BASE.but(image=tiny.grey(32)))
    with pytest.raises(RecipeError, match="mask: is 32x32"):
        last(parts, BASE.but(mask=Image.new("L", (32, 32))))
    with pytest.raises(RecipeError, match="leaves no step"):
        last(parts, BASE.but(strength=0.1))
