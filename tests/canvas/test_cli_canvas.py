"""`chapter38 export`, `check`, `diff` on the files that people have: recipes, workflows, pictures."""

import json

import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from chapter38 import Picture, Recipe
from chapter38.canvas import Graph, export, read
from chapter38.cli import app
from chapter38.errors import CannotExpress, GraphError

RECIPE = Recipe(prompt="a boat (red)", seed=38)


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def sources(tmp_path):
    """The same recipe as a recipe, as both spellings of its workflow, and inside a picture."""
    paths = {name: tmp_path / f"{name}.json" for name in ("recipe", "ui", "api")}
    paths["recipe"].write_text(RECIPE.json())
    paths["ui"].write_text(json.dumps(export(RECIPE).ui()))
    paths["api"].write_text(json.dumps(export(RECIPE).api()))
    paths["picture"] = Picture(Image.new("RGB", (8, 8)), RECIPE).save(tmp_path / "picture.png")
    return paths


@pytest.mark.parametrize("source", ["recipe", "ui", "api", "picture"])
@pytest.mark.parametrize("to", ["comfyui", "comfyui-api"])
def test_whatever_holds_it_the_workflow_reads_back_as_the_recipe(sources, source, to):
    out = invoke("export", sources[source], "--to", to)
    assert out.exit_code == 0, out.output
    assert read(Graph.from_json(out.stdout)) == (RECIPE, [])


def test_a_recipe_comes_out_of_a_workflow(sources):
    assert Recipe.from_json(invoke("export", sources["ui"], "--to", "recipe").stdout) == RECIPE


def test_scripts_and_drawings_are_text(sources):
    assert "DDIMScheduler" in invoke("export", sources["recipe"], "--to", "python").stdout
    assert "/prompt" in invoke("export", sources["recipe"], "--to", "curl").stdout
    assert invoke("export", sources["api"], "--to", "svg").stdout.startswith("<svg")


def test_pictures_that_a_workflow_loads_are_written_beside_it(tmp_path):
    recipe = RECIPE.but(image=Image.new("RGB", (128, 128), "red"), strength=0.5)
    (tmp_path / "r.json").write_text(recipe.json())
    assert invoke("export", tmp_path / "r.json", "-o", tmp_path / "w.json").exit_code == 0
    assert read(Graph.from_json((tmp_path / "w.json").read_bytes()), tmp_path)[0] == recipe


def test_check_and_diff_end_with_1_where_there_is_something_to_say(sources, tmp_path):
    assert invoke("check", sources["ui"]).exit_code == 0
    assert invoke("diff", sources["recipe"], sources["picture"]).exit_code == 0
    changed = export(RECIPE).api()
    next(node for node in changed.values() if node["class_type"] == "KSampler")["inputs"] |= {"seed": 7, "steps": 0}
    (tmp_path / "bad.json").write_text(json.dumps(changed))
    found = invoke("check", tmp_path / "bad.json", "--json")
    assert found.exit_code == 1 and "steps" in json.loads(found.stdout)[0]["what"]
    differs = invoke("diff", sources["recipe"], export_to(tmp_path, RECIPE.but(seed=7)), "--json")
    assert differs.exit_code == 1 and json.loads(differs.stdout) == {"seed": {"a": 38, "b": 7}}


def export_to(folder, recipe):
    path = folder / "other.json"
    path.write_text(json.dumps(export(recipe).ui()))
    return path


def test_a_file_that_is_neither_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")
    assert isinstance(invoke("export", tmp_path / "x.json").exception, GraphError)


def test_a_file_for_another_command_is_told_which(sources, tmp_path):
    for name in ("m.ckpt", "lora.safetensors"):
        (tmp_path / name).write_bytes(b"weights")
    said = lambda *words: str(invoke(*words).exception)
    for name in ("ui", "api"):
        assert f"is a ComfyUI workflow, not a picture: `chapter38 check {sources[name]}`" in said("inspect", sources[name])
    assert "is a weight file: `chapter38 inspect" in said("run", tmp_path / "m.ckpt")
    assert "is a weight file: `chapter38 inspect" in said("diff", sources["picture"], tmp_path / "lora.safetensors")
    (tmp_path / "other.json").write_text("{}")
    assert said("inspect", tmp_path / "other.json").endswith("not a PNG, WebP or JPEG")


@pytest.mark.parametrize("words", [("run",), ("export",), ("diff", "picture.png")])
def test_a_folder_is_told_to_name_a_file(tmp_path, sources, words):
    command, *others = words
    said = str(invoke(command, tmp_path, *(tmp_path / other for other in others)).exception)
    assert "is a folder; name one file (`chapter38 inspect" in said and "inspect_all" not in said


@pytest.mark.parametrize(
    "to, ending", [("comfyui", "json"), ("recipe", "json"), ("python", "py"), ("curl", "sh"), ("svg", "svg")]
)
def test_export_never_writes_text_over_a_picture_or_its_source(sources, tmp_path, to, ending):
    for name in ("picture.png", "new.png", "new.WEBP", "new.jpg"):
        before = (tmp_path / name).read_bytes() if name == "picture.png" else None
        failed = invoke("export", sources["picture"], "--to", to, "-o", tmp_path / name)
        assert f"writes no picture; expected a name that ends in .{ending}" in str(failed.exception)
        assert (tmp_path / name).read_bytes() == before if before else not (tmp_path / name).exists()
    before = sources["ui"].read_bytes()
    assert "is the file to read" in str(invoke("export", sources["ui"], "--to", to, "-o", sources["ui"]).exception)
    assert sources["ui"].read_bytes() == before


def test_run_says_before_it_draws_that_it_would_write_over_its_source_or_no_picture(sources, tmp_path):
    before = sources["picture"].read_bytes()
    assert "is the file to read" in str(invoke("run", sources["picture"], "-o", sources["picture"]).exception)
    assert "ends in .png or .webp" in str(invoke("run", sources["ui"], "-o", tmp_path / "out.jpg").exception)
    assert sources["picture"].read_bytes() == before and not (tmp_path / "out.jpg").exists()


def test_a_picture_of_another_program_is_exported_with_the_checkpoint_that_comfyui_has(tmp_path, sources):
    text = "a boat\nSteps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Model: harbours, Version: 1"
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a1111.png", pnginfo=info)
    refused = invoke("export", tmp_path / "a1111.png").exception
    assert isinstance(refused, CannotExpress) and "'harbours.safetensors' (`chapter38 export --model`)" in str(refused)
    out = invoke("export", tmp_path / "a1111.png", "--model", "harbours.safetensors", "--to", "comfyui-api")
    recipe, misfits = read(Graph.from_json(out.stdout))
    assert (recipe.model, recipe.seed, recipe.spacing, misfits) == ("harbours.safetensors", 1, "karras", [])
    swapped = invoke("export", sources["ui"], "--model", "mine.safetensors", "--to", "recipe")
    assert Recipe.from_json(swapped.stdout) == RECIPE.but(model="mine.safetensors")


def test_files_that_are_no_pictures_say_which_command_takes_them(tmp_path, sources):
    for source, says in (("recipe", "is a recipe, not a picture: `chapter38 diff"), ("api", "is a ComfyUI workflow, not a picture")):
        assert says in str(invoke("inspect", sources[source]).exception)
    table = " ".join(invoke("inspect", sources["picture"], sources["recipe"]).output.split())
    assert "warnings" in table and "is a recipe" in table
    missing = invoke("check", sources["ui"], "--models", tmp_path / "gone").exception
    assert isinstance(missing, GraphError) and "gone: no such folder" in str(missing)
