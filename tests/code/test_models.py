"""The registry's rows, and the one door to weights: seals, refusals, and the precision that arrives."""

import json
import shutil

import diffusers
import pytest
import tiny
import tiny_whole
import torch

from chapter38.code import models
from chapter38.code.draw import draw
from chapter38.code.parts import Parts
from chapter38.errors import CannotExpress, ModelError
from chapter38.recipe import Recipe

ROWS = models.registry()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny.sd().to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_a_reader_needs(name):
    row = ROWS[name]
    assert bool(row["hub"]) != bool(row.get("folder"))
    for field in ("revision", "licence", "gated", "parameters", "memory_gb", "dtype", "tier", "adapters", "source", "as_of"):
        assert field in row, f"{field}: write null where it is not known"
    assert row["tier"] in ("CPU", "T4", "24 GB", "80 GB") and row["source"]
    assert row["dtype"] in ("float32", "float16", "bfloat16")
    recipe = Recipe(prompt="", model=name)
    assert recipe.steps == row["defaults"]["steps"]


@pytest.mark.parametrize("name", ROWS)
def test_a_rows_pipeline_is_one_that_diffusers_ships(name):
    kind = getattr(diffusers, ROWS[name]["pipeline"], None)
    if kind is None:
        pytest.skip(f"diffusers {diffusers.__version__} has no {ROWS[name]['pipeline']}: install a newer one")
    assert any("LoraLoader" in base.__name__ for base in kind.__mro__) == ROWS[name]["adapters"]


def test_dtype_arrives_as_asked(folder):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        parts = models.load(str(folder), dtype=dtype)
        modules = [m for m in parts.pipeline.components.values() if isinstance(m, torch.nn.Module)]
        assert {p.dtype for m in modules for p in m.parameters()} == {dtype}
    assert models.load(str(folder), device="cpu").dtype == torch.float32


def test_a_seal_is_checked(folder):
    models.seal(folder)
    parts = models.load(str(folder))
    assert set(parts.weights) == set(json.loads((folder / models.SEAL).read_text()))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"unet/diffusion_pytorch_model.safetensors: SHA-256 is \w{12}…, expected"):
        models.load(str(folder))
    weights.unlink()
    with pytest.raises(ModelError, match=r"unet/diffusion_pytorch_model\.safetensors is missing"):
        models.load(str(folder))


def test_a_truncated_file_says_so(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="truncated or corrupt"):
        models.load(str(folder))


def test_a_pickle_is_refused(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"is a pickle.*expected .safetensors"):
        models.load(str(folder))


def test_what_is_no_model_says_what_was_expected(tmp_path):
    with pytest.raises(ModelError, match="did you mean 'postcards'"):
        models.load("poscards")
    with pytest.raises(ModelError, match="holds no model_index.json"):
        models.load(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file; expected a folder"):
        models.load(str(tmp_path / "model.safetensors"))


def test_without_network_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not in the local cache"):
        models.load("chapter38-test/never-there")


@pytest.mark.parametrize(
    ("raised", "says"),
    [("GatedRepoError", "hf auth login"), ("OutOfMemoryError", "does not fit"), ("ConnectionError", "cannot be reached")],
)
def test_library_errors_become_advice(raised, says):
    def fail():
        raise type(raised, (Exception,), {})("line one\nline two")

    with pytest.raises(ModelError, match=says) as error:
        models._open("flux-dev", fail)
    assert "\n" not in str(error.value)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(folder, monkeypatch):
    monkeypatch.setattr("chapter38.code.memory.free", lambda on="cpu": 1000)
    with pytest.raises(ModelError, match="its weights take"):
        models.load(str(folder))


def test_another_vae(folder, tmp_path):
    other = tiny.sd(seed=9).vae
    other.save_pretrained(tmp_path / "vae")
    swapped = models.load(str(folder), vae=str(tmp_path / "vae")).vae.state_dict()
    assert all(torch.equal(value, swapped[name]) for name, value in other.state_dict().items())


# --- every family through a pipeline of its own class -------------------------------------------------------------------


BY_HAND = {"StableDiffusionPipeline": tiny.sd, "StableDiffusionXLPipeline": tiny.sdxl,
           "StableDiffusion3Pipeline": tiny.sd3, "FluxPipeline": tiny.flux}  # fmt: skip
WHOLE = {"ChromaPipeline": tiny_whole.chroma, "PixArtSigmaPipeline": tiny_whole.pixart, "QwenImagePipeline": tiny_whole.qwen_image,
         "ZImagePipeline": tiny_whole.z_image}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in ROWS if n != "postcards"])
def test_a_row_draws_through_a_tiny_pipeline_of_its_class(name):
    kind = ROWS[name]["pipeline"]
    if kind not in BY_HAND | WHOLE:
        pytest.skip(f"no tiny {kind} here: its text encoder has no small offline stand-in; draw {name} on a GPU instead")
    if not hasattr(diffusers, kind):
        pytest.skip(f"diffusers {diffusers.__version__} has no {kind}: install a newer one")
    parts = Parts((BY_HAND | WHOLE)[kind](), name=name)
    recipe = Recipe(prompt="a red boat", model=name, steps=2, width=64, height=64)
    picture = draw(recipe, parts=parts)
    assert picture.image.size == (64, 64) and picture.receipt.lock.model == name
    again = draw(recipe, parts=parts)
    assert again == picture
    assert draw(recipe.but(seed=1), parts=parts).image.tobytes() != picture.image.tobytes()


def test_a_pipeline_without_our_loop_refuses_what_it_is_not_told():
    parts = Parts(tiny_whole.chroma(), name="chroma1-hd")
    recipe = Recipe(prompt="a boat", model="chroma1-hd", steps=1, width=64, height=64)
    for field, value in (("sampler", "flow_heun"), ("hires", {"scale": 2}), ("prompt_syntax", "weighted")):
        with pytest.raises(CannotExpress) as error:
            draw(recipe.but(**{field: value}), parts=parts)
        assert error.value.field == field
    picture = draw(recipe.but(prompt_syntax="weighted"), parts=parts, best_effort=True)
    assert list(picture.receipt.lock.not_honoured) == ["prompt_syntax"]
    assert picture.recipe.prompt_syntax == "weighted"
