"""From nothing to what ships, in small: a tokenizer, a judge, and parts written as a folder that Diffusers draws with."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from chapter38.postcards import WEIGHTS, judge
from chapter38.postcards.scene import VOCABULARY
from chapter38.train import assemble, tokenizer
from chapter38.train.judge import accuracy, examples, train_judge


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tokenizer.CLIPTokenizer:
    return tokenizer.build(tmp_path_factory.mktemp("tokenizer"))


def test_what_the_world_is_made_of_is_one_token_a_word(words: tokenizer.CLIPTokenizer) -> None:
    for attribute in ("object", "colour"):
        for name in VOCABULARY[attribute]:
            assert len(words(name).input_ids) == 2 + len(name.split())  # start and end around it


@pytest.mark.parametrize("text", ["a red boat, at sea", "quux 9!", "Straße", "日本", "a dragon's fire"])
def test_any_other_text_comes_back_from_its_tokens(words: tokenizer.CLIPTokenizer, text: str) -> None:
    back = words.decode(words(text).input_ids, skip_special_tokens=True)
    assert re.sub(r"\s", "", back) == re.sub(r"\s", "", text.lower())


def test_a_tokenizer_is_the_same_when_it_is_built_again(words: tokenizer.CLIPTokenizer, tmp_path: Path) -> None:
    assert tokenizer.build(tmp_path).get_vocab() == words.get_vocab()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[judge.Judge, dict[str, float]]:
    """A judge after 20 steps, and how often it is right."""
    torch.manual_seed(0)
    *_, (_, made, right) = train_judge(tmp_path_factory.mktemp("judge"), steps=20, count=512)
    return made, right


def test_a_judge_learns_the_skies_first(judged: tuple[judge.Judge, dict[str, float]]) -> None:
    assert judged[1]["sky"] > 0.8 > 2 / len(VOCABULARY["sky"])  # chance is one third


def test_a_judge_is_written_with_a_temperature_for_each_question(
    judged: tuple[judge.Judge, dict[str, float]], tmp_path: Path
) -> None:
    assemble.write_judge(judged[0], tmp_path)
    read = judge.load(tmp_path / "judge.safetensors")
    assert ((read.temperature >= 0.5) & (read.temperature <= 5)).all() and (judged[0].temperature == 1).all()
    x, labels = examples(5, 100)
    unit = x.float().div(127.5).sub(1)
    assert accuracy(read, unit, labels)["sky"] == pytest.approx(accuracy(judged[0], unit, labels)["sky"], abs=0.03)


def test_parts_are_written_as_a_pipeline_that_tells_nothing_of_where_they_came_from(tmp_path: Path) -> None:
    theirs = StableDiffusionPipeline.from_pretrained(WEIGHTS, safety_checker=None)
    mean, std = torch.zeros(4), torch.full((4,), 1 / theirs.vae.config["scaling_factor"])  # nothing to fold in
    assemble.write_pipeline(theirs.vae, theirs.unet, theirs.text_encoder, theirs.tokenizer, mean, std, tmp_path)
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        ours, shipped = (load_file(folder / f"{part}.safetensors") for folder in (tmp_path, WEIGHTS))
        assert ours.keys() == shipped.keys() and all(torch.allclose(ours[k], shipped[k], rtol=2e-3) for k in ours)
    texts = [path.read_text("utf-8") for path in tmp_path.rglob("*.json")]
    assert texts and not any("_name_or_path" in text or str(WEIGHTS) in text for text in texts)
    again = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    again.set_progress_bar_config(disable=True)
    image = again("a red boat", num_inference_steps=2, width=128, height=128).images[0]
    assert image.size == (128, 128) and image.getextrema() != ((0, 0), (0, 0), (0, 0))
