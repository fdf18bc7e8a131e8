"""ControlNets: silent while fresh, at strength 0 and outside their steps; otherwise what Diffusers' pipelines draw."""

from typing import Any

import adapting
import numpy as np
import pytest
import tiny
import torch
from adapting import RECIPE, latents, lora_file
from PIL import Image

from chapter38.code import control
from chapter38.code.denoise import walk
from chapter38.code.draw import pass_key
from chapter38.code.parts import Parts, pixels
from chapter38.errors import AdapterError
from chapter38.recipe import Control

HINT = Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * 255)
OTHER = HINT.transpose(Image.Transpose.ROTATE_90)


def taught(seed: int, unet: Any) -> Any:
    """A ControlNet whose zero convolutions are zero no longer."""
    net = control.fresh(unet).eval()
    torch.manual_seed(seed)
    for weight in net.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.2)
    return net


@pytest.fixture
def parts() -> Parts:
    made = adapting.parts()
    made.controls = {"fresh": control.fresh(made.denoiser).eval(), "a": taught(1, made.denoiser), "b": taught(2, made.denoiser)}
    return made


def drawn(parts: Parts, *controls: Control, **changes: Any) -> torch.Tensor:
    loras = changes.pop("adapters", ())
    return latents(parts, *loras, recipe=RECIPE.but(control=controls, **changes))


def pipeline(parts: Parts, kinds: list[str], of: str = "StableDiffusionControlNetPipeline") -> Any:
    import diffusers

    nets = [parts.controls[kind] for kind in kinds]
    components = {**parts.pipeline.components, "controlnet": nets if len(nets) > 1 else nets[0]}
    return tiny.quiet(getattr(diffusers, of)(**components, requires_safety_checker=False))


def theirs(parts: Parts, controls: list[Control], of: str = "StableDiffusionControlNetPipeline", **call: Any) -> torch.Tensor:
    """The latents of Diffusers' own pipeline for RECIPE."""
    each = lambda name: [getattr(c, name) for c in controls] if len(controls) > 1 else getattr(controls[0], name)  # noqa: E731
    hints = [c.image.image.convert("RGB") for c in controls]
    call.setdefault("image", hints if len(hints) > 1 else hints[0])
    if "control_image" in call:
        call["control_image"] = hints[0]
    pipe = pipeline(parts, [c.kind for c in controls], of)
    out = pipe(
        RECIPE.prompt, negative_prompt=RECIPE.negative, num_inference_steps=RECIPE.steps, guidance_scale=RECIPE.guidance,
        controlnet_conditioning_scale=each("strength"), control_guidance_start=each("start"), control_guidance_end=each("end"),
        generator=torch.Generator().manual_seed(RECIPE.seed), output_type="latent", **call,
    )  # fmt: skip
    return out.images  # type: ignore[no-any-return]


def trailing(parts: Parts) -> None:
    """The pipeline's own scheduler, set to the recipe's spacing."""
    from diffusers import DDIMScheduler

    parts.pipeline.scheduler = DDIMScheduler.from_config(parts.scheduler.config, timestep_spacing="trailing")


def test_a_fresh_one_is_the_base_bit_for_bit(parts: Parts) -> None:
    assert torch.equal(drawn(parts), drawn(parts, Control(kind="fresh", image=HINT)))


def test_strength_zero_is_the_base_bit_for_bit_and_strength_matters(parts: Parts) -> None:
    base, half, full = (drawn(parts, Control(kind="a", image=HINT, strength=s)) for s in (0, 0.5, 1))
    assert torch.equal(base, drawn(parts))
    assert (half - base).abs().max() > 1e-3 and (full - half).abs().max() > 1e-3


def test_outside_its_steps_it_is_silent(parts: Parts) -> None:
    whole, none = drawn(parts, Control(kind="a", image=HINT)), drawn(parts)
    late = drawn(parts, Control(kind="a", image=HINT, start=0.9))  # of three steps none lies inside
    assert torch.equal(late, none) and not torch.equal(whole, none)
    early, rest = (drawn(parts, Control(kind="a", image=HINT, **span)) for span in ({"end": 0.4}, {"start": 0.3}))
    assert len({tuple(x.flatten().tolist()) for x in (whole, none, early, rest)}) == 4


@pytest.mark.parametrize(
    "controls",
    [
        [Control(kind="a", image=HINT)],
        [Control(kind="a", image=HINT, strength=0.7, start=0.0, end=0.5)],
        [Control(kind="a", image=HINT, strength=0.7, start=0.3, end=1.0)],
        [Control(kind="a", image=HINT, strength=0.6), Control(kind="b", image=OTHER, strength=1.3, end=0.7)],
    ],
    ids=["one", "its first half", "its second half", "two"],
)
def test_it_is_what_diffusers_draws_bit_for_bit(parts: Parts, controls: list[Control]) -> None:
    trailing(parts)
    assert torch.equal(drawn(parts, *controls), theirs(parts, controls, width=64, height=64))


def test_with_a_lora(parts: Parts, tmp_path: Any) -> None:
    trailing(parts)
    lora, hint = lora_file(tmp_path, adapting.base(parts)), Control(kind="a", image=HINT)
    ours = drawn(parts, hint, adapters=[(lora, 0.5)])
    assert not torch.equal(ours, drawn(parts, hint))
    parts.pipeline.load_lora_weights(lora, adapter_name="x")
    parts.pipeline.set_adapters(["x"], [0.5])
    assert torch.equal(ours, theirs(parts, [hint], width=64, height=64))


def test_with_img2img(parts: Parts) -> None:
    trailing(parts)
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8))
    hint = Control(kind="a", image=HINT, strength=0.8)
    ours = drawn(parts, hint, image=image, strength=0.7)
    start = parts.to_latents(pixels([image], 64, 64))  # ComfyUI and we take the mode; the pipeline takes latents as they are
    call = {"image": start, "control_image": HINT, "strength": 0.7}
    assert torch.equal(ours, theirs(parts, [hint], "StableDiffusionControlNetImg2ImgPipeline", **call))


def test_several_recipes_share_a_pass_each_with_its_own_map(parts: Parts) -> None:
    recipes = [
        RECIPE.but(seed=seed, control=[Control(kind="a", image=hint), Control(kind="b", image=OTHER, strength=0.5)])
        for seed, hint in enumerate((HINT, OTHER))
    ]
    assert len({pass_key(recipe) for recipe in recipes}) == 1
    together = list(walk(parts, recipes))[-1].latent
    for recipe, mine in zip(recipes, together, strict=True):
        assert torch.allclose(mine, latents(parts, recipe=recipe)[0], atol=1e-4)  # batches add up in another order


@pytest.mark.parametrize("change", [{"kind": "b"}, {"strength": 0.5}, {"end": 0.5}], ids=str)
def test_controls_that_differ_in_more_than_the_map_share_no_pass(change: dict[str, Any]) -> None:
    one = Control(kind="a", image=HINT)
    assert pass_key(RECIPE.but(control=[one])) != pass_key(RECIPE.but(control=[one.model_copy(update=change)]))
    assert pass_key(RECIPE.but(control=[one])) != pass_key(RECIPE)


def test_the_hint_s_size(parts: Parts) -> None:
    with pytest.raises(AdapterError, match=r"hint map is 64x32; the picture is 64x64"):
        drawn(parts, Control(kind="a", image=HINT.resize((64, 32))))
    small = Control(kind="a", image=HINT.resize((32, 32), Image.Resampling.NEAREST))
    large = Control(kind="a", image=HINT.resize((32, 32), Image.Resampling.NEAREST).resize((64, 64), Image.Resampling.NEAREST))
    assert torch.equal(drawn(parts, small), drawn(parts, large))


def test_one_for_another_base_is_refused(parts: Parts, tmp_path: Any) -> None:
    control.fresh(tiny.unet(cross=48)).save_pretrained(tmp_path / "other")
    with pytest.raises(AdapterError, match=r"another base.*48.*32"):
        drawn(parts, Control(kind=str(tmp_path / "other"), image=HINT))
    parts.controls["a"].save_pretrained(tmp_path / "mine")
    assert torch.equal(
        drawn(parts, Control(kind=str(tmp_path / "mine"), image=HINT)), drawn(parts, Control(kind="a", image=HINT))
    )


def test_an_unknown_kind_is_refused(parts: Parts) -> None:
    with pytest.raises(AdapterError, match="unknown control 'egdes'"):
        drawn(parts, Control(kind="egdes", image=HINT))


def test_comfyui_s_hint_block(parts: Parts) -> None:
    config = parts.controls["fresh"].config
    assert tuple(config.conditioning_embedding_out_channels) == control.HINT_CHANNELS == (16, 32, 96, 256)
