"""LoRAs on a model: silent at weight 0, gone without a trace, and equal to the arithmetic however they are put on."""

from pathlib import Path

import adapting
import pytest
import tiny
import torch
from adapting import latents, lora_file

from chapter38.code import adapters, lorafile
from chapter38.code.parts import Parts
from chapter38.errors import AdapterError

ROUNDING = 2e-4  # of latents of size 1 … 5, after three steps: merged weights are rounded once more


@pytest.fixture
def parts() -> Parts:
    return adapting.parts()


def state(parts: Parts) -> dict[str, torch.Tensor]:
    models = {"unet": parts.pipeline.unet, "text": parts.pipeline.text_encoder}
    return {f"{name}.{key}": value.clone() for name, model in models.items() for key, value in model.state_dict().items()}


def test_a_lora_changes_what_is_drawn(parts: Parts, tmp_path: Path) -> None:
    lora = lora_file(tmp_path, adapting.base(parts))
    assert (latents(parts) - latents(parts, (lora, 1.0))).abs().max() > 100 * ROUNDING


def test_at_weight_zero_it_is_the_base_bit_for_bit(parts: Parts, tmp_path: Path) -> None:
    lora = lora_file(tmp_path, adapting.base(parts))
    assert torch.equal(latents(parts), latents(parts, (lora, 0.0)))


def test_scaled_to_zero_in_peft_itself_it_is_the_base_bit_for_bit(parts: Parts, tmp_path: Path) -> None:
    lora = lora_file(tmp_path, adapting.base(parts))
    alone = latents(parts)
    parts.pipeline.load_lora_weights(lora, adapter_name="zero")
    parts.pipeline.set_adapters(["zero"], [0.0])
    told, x, t = parts.encode([adapting.RECIPE]).embeddings, torch.randn(2, 4, 8, 8), torch.tensor(500)
    scaled = parts.denoiser(x, t, told).sample
    parts.pipeline.unload_lora_weights()
    assert torch.equal(scaled, parts.denoiser(x, t, told).sample)
    assert torch.equal(alone, latents(parts))


@pytest.mark.parametrize("how", [adapters.attach, adapters.merge])
def test_after_it_comes_off_weights_names_and_drawings_are_the_base_s(how: object, parts: Parts, tmp_path: Path) -> None:
    before, alone = state(parts), latents(parts)
    how(parts, [(lora_file(tmp_path, adapting.base(parts)), 0.7)])  # type: ignore[operator]
    assert not all(torch.equal(a, b) for a, b in zip(before.values(), state(parts).values(), strict=False))
    adapters.detach(parts)
    after = state(parts)
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(alone, latents(parts))


def test_a_recipe_without_it_draws_the_base_even_after_one_with_it(parts: Parts, tmp_path: Path) -> None:
    lora, alone = lora_file(tmp_path, adapting.base(parts)), latents(parts)
    latents(parts, (lora, 1.0))
    assert torch.equal(alone, latents(parts))


def test_merged_is_unmerged_to_rounding(parts: Parts, tmp_path: Path) -> None:
    pair = [(lora_file(tmp_path, adapting.base(parts), seed), weight) for seed, weight in ((0, 0.6), (1, -0.4))]
    beside = latents(parts, *pair)
    adapters.merge(parts, pair)
    assert not hasattr(parts.denoiser, "peft_config")
    assert (beside - latents(parts, *pair)).abs().max() < ROUNDING


def test_one_that_is_in_no_file_cannot_be_merged(parts: Parts, tmp_path: Path) -> None:
    parts.pipeline.load_lora_weights(lora_file(tmp_path, adapting.base(parts)), adapter_name="loose")
    with pytest.raises(AdapterError, match="'loose' is attached but in no file"):
        adapters.merge(parts, ["loose"])


def test_two_are_the_sum_of_their_deltas(parts: Parts, tmp_path: Path) -> None:
    base = adapting.base(parts)
    files = [lora_file(tmp_path, base, seed, ranks=(1, 3)) for seed in (0, 1)]
    stacked = latents(parts, (files[0], 0.5), (files[1], 0.25))
    adapters.detach(parts)
    for file, weight in zip(files, (0.5, 0.25), strict=True):
        for (component, name), low in lorafile.load(file, base).items():
            module = getattr(parts.pipeline, component).get_submodule(adapters._real(parts, component, name))
            module.weight.data += weight * torch.from_numpy(low.delta())
    assert (stacked - latents(parts)).abs().max() < ROUNDING


def test_order_does_not_matter_beyond_rounding_and_the_same_twice_counts_twice(parts: Parts, tmp_path: Path) -> None:
    a, b = (lora_file(tmp_path, adapting.base(parts), seed) for seed in (0, 1))
    assert (latents(parts, (a, 1.0), (b, 0.5)) - latents(parts, (b, 0.5), (a, 1.0))).abs().max() < ROUNDING
    assert torch.equal(latents(parts, (a, 0.5), (a, 0.5)), latents(parts, (a, 1.0)))


@pytest.mark.parametrize("spelling", lorafile.SPELLINGS)
def test_every_spelling_draws_what_diffusers_draws_from_its_own_to_rounding(spelling: str, parts: Parts, tmp_path: Path) -> None:
    base = adapting.base(parts)
    ours = latents(parts, (lora_file(tmp_path, base, 0, spelling, ranks=(1, 2)), 0.8))
    parts.pipeline.load_lora_weights(lora_file(tmp_path, base, 0, "peft", ranks=(1, 2)), adapter_name="theirs")
    assert (ours - latents(parts, ("theirs", 0.8))).abs().max() < ROUNDING


def test_what_is_saved_loads_again_here_and_in_diffusers(parts: Parts, tmp_path: Path) -> None:
    lora = lora_file(tmp_path, adapting.base(parts))
    drawn = latents(parts, (lora, 1.0))
    name = next(iter(parts.attached.weights))
    again = adapters.save(parts, name, tmp_path / "again", half=False)
    fresh = adapting.parts()
    assert torch.equal(drawn, latents(fresh, (str(again.parent), 1.0)))
    fresh.pipeline.load_lora_weights(tmp_path / "again", adapter_name="plain")
    assert torch.equal(drawn, latents(fresh, ("plain", 1.0)))
    assert adapters.save(fresh, "plain", tmp_path / "half").stat().st_size < again.stat().st_size


def test_names_files_folders_and_what_is_unknown(tmp_path: Path) -> None:
    file = lora_file(tmp_path, adapting.base())
    assert adapters.find(file) == Path(file)
    assert all(adapters.find(name).is_file() for name in adapters.available())
    with pytest.raises(AdapterError, match="unknown LoRA 'dsuk'"):
        adapters.find("dsuk")
    with pytest.raises(AdapterError, match=r"nobody/nothing.*not on this machine"):
        adapters.find("nobody/nothing")


def test_a_file_that_is_not_what_its_card_says_is_refused(parts: Parts, tmp_path: Path) -> None:
    lora = lora_file(tmp_path, adapting.base(parts))
    (tmp_path / "card.json").write_text('{"sha256": {"peft0.safetensors": "0"}}')
    with pytest.raises(AdapterError, match="not the one on its card"):
        adapters.attach(parts, [lora])


def test_the_receipt_s_files_are_those_that_act(parts: Parts, tmp_path: Path) -> None:
    lora = lora_file(tmp_path, adapting.base(parts))
    latents(parts, (lora, 1.0))
    assert list(adapters.files(parts)) == ["peft0.safetensors"]
    latents(parts)
    assert adapters.files(parts) == {}


def test_a_transformer_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="handled for U-Nets"):
        adapters.attach(Parts(tiny.sd3(), "sd3"), [lora_file(tmp_path, adapting.base())])
    adapters.attach(Parts(tiny.sd3(), "sd3"), [])


def test_one_for_another_base_is_refused_with_both_shapes_and_leaves_no_trace(parts: Parts, tmp_path: Path) -> None:
    alone, wide = latents(parts), Parts(tiny.sd(), "wide")
    wide.pipeline.unet = tiny.unet(cross=48)
    lora = lora_file(tmp_path, adapting.base(wide))
    with pytest.raises(AdapterError, match=r"another base.*attn2.*\(\d+, 48\).*\(\d+, 32\)"):
        latents(parts, (lora, 1.0))
    assert torch.equal(alone, latents(parts))
