"""What the loop by hand costs beside the pipeline: interleaved pairs in one process, so that the machine's mood cancels."""

from time import perf_counter

import torch

from chapter38.code import samplers
from chapter38.code.denoise import denoise
from chapter38.code.parts import Parts
from chapter38.code.start import noise
from chapter38.recipe import Recipe


def loop_over_pipeline(parts: Parts, recipe: Recipe, pairs: int = 30) -> list[float]:
    """Seconds of the loop over seconds of the same model's pipeline, once for each pair; take the median.

    Both encode, denoise and decode. The first pair of all warms up and is not counted.
    """
    pipeline = parts.put_together()
    pipeline.set_progress_bar_config(disable=True)
    ratios = []
    for _ in range(pairs + 1):
        began = perf_counter()
        last = None
        for last in denoise(parts, recipe):
            pass
        assert last is not None
        parts.to_pixels(last.latent)
        between = perf_counter()
        _piped(pipeline, parts, recipe)
        ratios.append((between - began) / (perf_counter() - between))
    return ratios[1:]


def _piped(pipeline: object, parts: Parts, recipe: Recipe) -> None:
    solver = samplers.scheduler(recipe.sampler, recipe.spacing, parts.scheduler.config, recipe.steps)
    pipeline.scheduler = solver  # type: ignore[attr-defined]
    pipeline(  # type: ignore[operator]
        recipe.prompt, negative_prompt=recipe.negative, num_inference_steps=recipe.steps, width=recipe.width,
        guidance_scale=recipe.guidance, height=recipe.height, latents=noise(recipe, parts).to(parts.device, parts.dtype),
        generator=torch.Generator().manual_seed((recipe.seed + 1) % 2**64), output_type="pt",
    )  # fmt: skip
