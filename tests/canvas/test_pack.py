"""What `comfyui install` writes: files that say what they are, LoRAs in names that ComfyUI reads, a pack on its own feet.

That ComfyUI loads them is shown against a real one: `make test-comfyui`.
"""

import ast
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from chapter38.canvas import export, install
from chapter38.errors import ModelError
from chapter38.recipe import Recipe
from tests.comfyui import zoo

WORLD = Path(install.__file__).parents[1] / "postcards" / "weights"


def pack_files():
    """The pack's own reader, loaded from its file: the pack as a whole needs ComfyUI."""
    spec = importlib.util.spec_from_file_location("pack_files", install.PACK / "files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ComfyUI")
    (folder / "custom_nodes").mkdir()
    list(install.install(folder))
    return folder


def test_one_file_holds_every_tensor_its_configs_and_its_tokenizer(comfyui):
    path = comfyui / "models" / "checkpoints" / "postcards.safetensors"
    files = pack_files()
    told, tensors = files.header(path), load_file(path)
    assert set(told["configs"]) == {"unet", "vae", "text_encoder", "scheduler"}
    assert json.loads(told["tokenizer"]["tokenizer.json"])["model"]["vocab"]
    for part in install.PARTS:
        original = load_file(next((WORLD / part).glob("*.safetensors")))
        mine = files.part(tensors, part)
        assert set(mine) == set(original) and all(np.array_equal(mine[name], original[name]) for name in original)


def test_the_checkpoint_is_called_what_an_exported_workflow_asks_for(comfyui):
    asked = export(Recipe(prompt="x")).node(1).widgets["ckpt_name"]
    assert (comfyui / "models" / "checkpoints" / asked).is_file()


def test_what_ships_with_postcards_is_installed_under_the_names_of_a_recipe(comfyui):
    loras = list(WORLD.rglob(install.LORA))
    assert loras
    for path in loras:
        assert (comfyui / "models" / "loras" / f"{path.parent.name}.safetensors").is_file()
    controls = list(WORLD.glob("controlnet-*/config.json"))
    assert controls
    for path in controls:
        kind = path.parent.name.removeprefix("controlnet-")
        assert "config" in pack_files().header(comfyui / "models" / "controlnet" / f"{kind}.safetensors")


def test_a_lora_is_written_in_names_that_comfyui_reads(tmp_path):
    zoo.lora(tmp_path / "a", 0)
    install.write_lora(tmp_path / "a" / install.LORA, tmp_path / "b.safetensors")
    tensors = load_file(tmp_path / "b.safetensors")
    stems = {name.split(".")[0] for name in tensors}
    assert {stem.split("_")[1] for stem in stems} == {"unet", "te"} and all(stem.startswith("lora_") for stem in stems)
    for stem in stems:
        assert {f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"} <= set(tensors)
        assert tensors[f"{stem}.alpha"].item() == 2.0  # not the rank, which is 4


def test_files_of_others_are_left_to_comfyui(tmp_path):
    from safetensors.numpy import save_file

    files = pack_files()
    save_file({"x": np.zeros(1)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02")
    (tmp_path / "hostile.safetensors").write_bytes(b"\xff" * 64)
    assert [files.header(tmp_path / name) for name in ("other.safetensors", "old.ckpt", "hostile.safetensors")] == [None] * 3


def test_the_pack_stands_alone(comfyui):
    copied = comfyui / "custom_nodes" / "chapter38_postcards"
    sources = sorted(copied.glob("*.py"))
    assert [path.name for path in sources] == ["__init__.py", "files.py", "models.py"]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
            assert not any(name.startswith("chapter38") for name in names if isinstance(node, (ast.Import, ast.ImportFrom)))
    assert pack_files().KEY == install.KEY


def test_a_folder_that_is_no_comfyui_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected a ComfyUI folder"):
        list(install.install(tmp_path))
