"""The loop by hand equals Diffusers' pipelines bit for bit, in float32 on the CPU."""

import inspect

import pytest
import tiny
import torch

from chapter38.code import samplers
from chapter38.code.denoise import denoise, walk
from chapter38.code.parts import Parts, images
from chapter38.code.start import noise
from chapter38.errors import CannotExpress
from chapter38.recipe import Recipe

BASE = Recipe(prompt="a red boat on the sea", negative="a blue cat", seed=38, steps=3, guidance=7.5, width=64, height=64)
PAIRS = [
    (name, spacing)
    for name, row in samplers.TABLE.items()
    for spacing in dict.fromkeys((*row.native, *row.joined))
    if row.scale != "flow"
]


@pytest.fixture(scope="module")
def pipe():
    return tiny.sd()


@pytest.fixture(scope="module")
def parts(pipe):
    return Parts(tiny.sd())  # the same weights, its own scheduler


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(parts: Parts, recipe: Recipe) -> torch.Tensor:
    return list(denoise(parts, recipe))[-1].latent


def by_pipeline(pipe, parts, recipe, **more):
    pipe.scheduler = samplers.scheduler(recipe.sampler, recipe.spacing, parts.scheduler.config, recipe.steps)
    call = {
        "prompt": recipe.prompt, "negative_prompt": recipe.negative, "num_inference_steps": recipe.steps,
        "guidance_scale": recipe.guidance, "width": recipe.width, "height": recipe.height,
        "latents": noise(recipe, parts), "generator": generator(recipe.seed + 1), "output_type": "latent",
    }  # fmt: skip
    return pipe(**{**call, **more}).images


@pytest.mark.parametrize(("sampler", "spacing"), PAIRS)
def test_every_pair_of_the_table_equals_the_pipeline(pipe, parts, sampler, spacing):
    recipe = BASE.but(sampler=sampler, spacing=spacing)
    assert torch.equal(by_hand(parts, recipe), by_pipeline(pipe, parts, recipe))


@pytest.mark.parametrize("change", [{"guidance": 1.0}, {"negative": ""}, {"steps": 1}, {"height": 96}, {"seed": 0}])
def test_other_settings_equal_the_pipeline(pipe, parts, change):
    recipe = BASE.but(**change)
    assert torch.equal(by_hand(parts, recipe), by_pipeline(pipe, parts, recipe))


@pytest.mark.parametrize("name", [n for n, row in samplers.TABLE.items() if row.scale != "flow"])
def test_deterministic_samplers_need_no_hint_where_the_noise_comes_from(pipe, parts, name):
    """Without step noise, the plain call `pipe(prompt, generator=manual_seed(seed))` draws the same."""
    spacing = samplers.TABLE[name].native[0] if samplers.TABLE[name].native else "simple"
    recipe = BASE.but(sampler=name, spacing=spacing)
    plain = by_pipeline(pipe, parts, recipe, latents=None, generator=generator(recipe.seed))
    noisy = name in ("euler_ancestral", "ddpm", "dpmpp_2m_sde", "lcm", "er_sde")
    assert torch.equal(by_hand(parts, recipe), plain) != noisy


@pytest.mark.parametrize(("kind", "upcast"), [(tiny.sd, False), (tiny.sdxl, True)], ids=["sd", "sdxl"])
def test_in_half_precision_pixels_are_the_pipelines_and_the_vae_stays_in_half(kind, upcast):
    """Only SDXL's pipeline heeds `force_upcast`, which Diffusers sets for every VAE that does not say no."""
    parts, pipe = Parts(kind().to(torch.float16)), kind().to(torch.float16)
    assert parts.vae.config.force_upcast and parts.family.upcast == upcast
    latent = 3 * torch.randn(1, 4, 8, 8, generator=generator(0)).half()
    piped = pipe(
        BASE.prompt, latents=latent, width=64, height=64, num_inference_steps=1, output_type="pt",
        callback_on_step_end=lambda *_: {"latents": latent},
    ).images  # fmt: skip
    ours = (parts.to_pixels(latent) * 0.5 + 0.5).clamp(0, 1)
    assert parts.vae.dtype == torch.float16 and ours.dtype == (torch.float32 if upcast else torch.float16)
    assert torch.equal(ours, piped)


def test_pictures_are_the_pipelines_too(pipe, parts):
    drawn = images(parts.to_pixels(by_hand(parts, BASE)))[0]
    assert drawn.tobytes() == by_pipeline(pipe, parts, BASE, output_type="pil")[0].tobytes()


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m_sde"])
def test_several_pictures_in_one_pass(pipe, parts, sampler):
    recipes = [BASE.but(sampler=sampler, seed=seed) for seed in (38, 39, 2**64 - 1)]
    together = list(walk(parts, recipes))[-1].latent
    ours = torch.cat([noise(r, parts) for r in recipes])
    step_noise = [generator((r.seed + 1) % 2**64) for r in recipes]
    piped = by_pipeline(pipe, parts, recipes[0], latents=ours, generator=step_noise, num_images_per_prompt=3)
    assert torch.equal(together, piped)
    assert torch.allclose(together[1:2], by_hand(parts, recipes[1]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("build", "change"),
    [
        (tiny.sdxl, {}),
        (tiny.sdxl, {"sampler": "euler", "spacing": "leading", "guidance": 1.0}),
        (tiny.sd3, {"sampler": "flow_euler", "spacing": "linspace"}),
        (tiny.sd3, {"sampler": "flow_heun", "spacing": "simple"}),
        (tiny.sd3, {"sampler": "flow_euler", "spacing": "beta", "guidance": 1.0}),
        (tiny.flux, {"sampler": "flow_euler", "spacing": "trailing", "negative": ""}),
        (lambda: tiny.flux(guidance=False), {"sampler": "flow_euler", "spacing": "trailing", "negative": ""}),
        (tiny.flux, {"sampler": "flow_heun", "spacing": "sgm_uniform", "negative": ""}),
    ],
)
def test_other_families_equal_their_pipelines(build, change):
    pipe, recipe = build(), BASE.but(**change)
    parts = Parts(build())
    ours = by_hand(parts, recipe)
    own = recipe.sampler == "flow_euler" and recipe.spacing in ("linspace", "trailing")  # then its own scheduler is left
    if not own:
        pipe.scheduler = samplers.scheduler(
            recipe.sampler, recipe.spacing, parts.scheduler.config, recipe.steps, mu=parts.family.mu(parts, recipe)
        )
    call = {"negative_prompt": recipe.negative} if "negative_prompt" in inspect.signature(pipe.__call__).parameters else {}
    if type(pipe).__name__ == "FluxPipeline":
        call = {}
    theirs = pipe(
        recipe.prompt, **call, num_inference_steps=recipe.steps, guidance_scale=recipe.guidance, width=64, height=64,
        generator=generator(38), output_type="latent",
    ).images  # fmt: skip
    assert torch.equal(ours, parts.family.unpack(parts, theirs, recipe))


def test_shift_of_a_flow_model_is_the_schedulers_own(parts):
    recipe = BASE.but(sampler="flow_euler", spacing="linspace", shift=5.0)
    pipe, ours = tiny.sd3(), by_hand(Parts(tiny.sd3()), recipe)
    pipe.scheduler = type(pipe.scheduler)(shift=5.0)
    theirs = pipe(
        recipe.prompt, negative_prompt=recipe.negative, num_inference_steps=3, guidance_scale=7.5, width=64, height=64,
        generator=generator(38), output_type="latent",
    ).images  # fmt: skip
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, by_hand(Parts(tiny.sd3()), recipe.but(shift=None)))


def test_steps_tell_what_happened(parts):
    steps = list(denoise(parts, BASE))
    assert [s.index for s in steps] == [0, 1, 2]
    assert steps[0].sigma > steps[1].sigma > steps[2].sigma > 0
    assert torch.allclose(steps[-1].x0, steps[-1].latent, rtol=1e-4, atol=1e-4)  # DDIM's last step goes to x0
    for step in steps:
        assert step.with_prompt.shape == step.without_prompt.shape == step.x0.shape == (1, 4, 8, 8)
        assert step.guidance == 7.5 and step.seconds > 0
    assert next(iter(denoise(parts, BASE.but(guidance=1.0)))).without_prompt is None


@pytest.mark.parametrize("sampler", [n for n, row in samplers.TABLE.items() if row.scale != "flow"])
def test_x0_is_what_the_noise_level_says(sampler):
    """A denoiser that always predicts the true noise of a known picture: x0 must be that picture at every step."""
    config = Parts(tiny.sd()).scheduler.config
    solver = samplers.scheduler(sampler, "trailing", config, 5)
    picture, eps = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 4, 4)
    level = samplers.sigma(solver, solver.timesteps[0])
    sample = picture + level * eps
    if samplers.scale(solver) == "unit":
        sample = sample / (1 + level**2) ** 0.5
    assert torch.allclose(samplers.x0(solver, eps, sample, level), picture, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"references": (tiny.grey(64),)}, "references"),
        ({"shift": 3.0}, "shift"),
        ({"clip_skip": 3}, "clip_skip"),
        ({"sampler": "flow_euler"}, "sampler"),
        ({"sampler": "pndm", "spacing": "karras"}, "spacing"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(parts, change, field):
    with pytest.raises(CannotExpress) as error:
        next(iter(denoise(parts, BASE.but(**change))))
    assert error.value.field == field


def test_putting_a_pipeline_together_again(pipe, parts):
    again = tiny.quiet(parts.put_together())
    assert type(again) is type(pipe) and again.unet is parts.denoiser
    assert torch.equal(by_pipeline(again, parts, BASE), by_hand(parts, BASE))
    parts.pipeline.scheduler = tiny.sd().scheduler
