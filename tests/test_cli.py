"""The command line: draw, inspect, doctor; one line for an error, exit code 2, no half files."""

import json
import re
import subprocess
import sys

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from chapter38 import cli
from chapter38.canvas.metadata import with_workflow
from chapter38.picture import Picture
from chapter38.recipe import Recipe

QUICK = ["--steps", "1", "--width", "64", "--height", "64"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call the command in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["chapter38", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_draw_inspect_and_doctor_go_together(run, tmp_path):
    code, out, err = run("draw", "a red dragon on the sea", "--seed", 2**64 - 1, *QUICK, "-o", "boat.png", "--sidecar")
    assert code == 0 and "boat.png  64x64" in out and "never learned: dragon" in err
    assert Picture.open("boat.png").recipe.seed == 2**64 - 1
    assert json.loads((tmp_path / "boat.png.meter.json").read_text())["device"] == "cpu"
    code, out, _ = run("inspect", "boat.png", "--json")
    said = json.loads(out)
    assert code == 0 and Recipe(**said["recipe"]) == Picture.open("boat.png").recipe
    assert said["prompt"] == "a red dragon on the sea" and said["lock"]["model"] == "postcards"
    code, out, _ = run("doctor", "boat.png")
    assert code == 0 and "as it was" in out


def test_the_doctor_says_what_differs(run):
    run("draw", "a cat", *QUICK, "-o", "cat.png")
    one = Picture.open("cat.png")
    versions = {**one.receipt.lock.versions, "torch": "1.0"}
    weights = {**one.receipt.lock.weights, "unet/diffusion_pytorch_model.safetensors": "f" * 64}
    lock = one.receipt.lock.model_copy(update={"versions": versions, "weights": weights})
    Picture(one.image, one.recipe, type(one.receipt)(lock)).save("old.png")
    code, out, _ = run("doctor", "old.png", "--json")
    differs = json.loads(out)["differs"]
    assert code == 1 and len(differs) == 2
    assert "torch: 1.0 drew it" in differs[0] and "ffffffffffff… drew it" in differs[1]


def test_the_doctor_examines_the_machine(run):
    code, out, _ = run("doctor", "--quick", "--json")
    found = json.loads(out)
    assert code == 0 and found["versions"]["torch"] and found["cores"] >= 1
    assert {row["model"]: row["fits"] for row in found["models"]}["postcards"] is True


def test_every_field_of_a_recipe_has_an_option(run):
    Image.new("RGB", (64, 64), "teal").save("start.png")
    code, out, err = run(
        "draw", "a (red:1.2) boat", "--prompt-syntax", "weighted", "--negative", "a cat", "--guidance", 3, "--sampler",
        "euler", "--spacing", "karras", "--image", "start.png", "--mask", "start.png", "--strength", 0.9, "--clip-skip", 1,
        "--hires", "1.5:0.6:2", *QUICK[2:], "--steps", 2, "--json",
    )  # fmt: skip
    assert code == 0, err
    recipe = Recipe(**json.loads(out)["recipe"])
    assert recipe.hires.steps == 2 and recipe.strength == 0.9 and recipe.prompt_syntax == "weighted"
    assert Picture.open("picture.png").recipe == recipe
    options = {name for name in Recipe.model_fields if name not in ("adapters", "references")} | {"adapter", "reference"}
    names = {p.name for p in __import__("typer").main.get_command(cli.app).commands["draw"].params}
    assert options <= names


def test_a_recipe_from_a_file_with_changes(run, tmp_path):
    (tmp_path / "r.json").write_text(Recipe(prompt="a tree", seed=5, steps=1, width=64, height=64).json())
    assert run("draw", "--recipe", "r.json", "--seed", 6, "-o", "tree.webp")[0] == 0
    assert Picture.open("tree.webp").recipe == Recipe(prompt="a tree", seed=6, steps=1, width=64, height=64)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["draw", "a", "--sampler", "eular"], "sampler: unknown sampler 'eular'; did you mean 'euler'?"),
        (["draw", "a", "--sampler", "dpmpp_2m_karras"], "it is two choices, sampler 'dpmpp_2m' and spacing 'karras'"),
        (["draw", "a", "--sampler", "euler_sgm_uniform"], "sampler 'euler' and spacing 'sgm_uniform'"),
        (["draw", "a", "--model", "poscards"], "unknown model 'poscards'; did you mean 'postcards'?"),
        (["draw", "a", "--width", "100"], "width: 100 is not a multiple of 8; the nearest are 96 and 104"),
        (["draw"], "nothing to draw: give a prompt, or --recipe FILE"),
        (["draw", "a", "-o", "a.jpg"], "a.jpg: expected a name that ends in .png or .webp"),
        (["draw", "a", "-o", "."], ".: is a folder"),
        (["draw", "a", "-o", "nowhere/a.png"], "nowhere: no such folder"),
        (["draw", "a", "--image", "gone.png"], "image: gone.png: not a readable picture"),
        (["draw", "a", "--recipe", "gone.json"], "gone.json: No such file or directory"),
        (["draw", "a", "--control", "edges"], "expected KIND=HINT.png"),
        (["draw", "a", "--sampler", "pndm", "--spacing", "karras"], "code cannot express spacing: pndm cannot follow karras"),
        (["inspect", "gone.png"], "gone.png: no such file"),
        (["doctor", "gone.png"], "gone.png: no such file"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(run, tmp_path, words, says):
    code, out, err = run(*words)
    assert code == 2 and says in err and err.count("\n") == 1 and "Traceback" not in err
    assert out == "" and not list(tmp_path.iterdir())


def test_no_permission_is_said_before_anything_is_drawn(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    code, _, err = run("draw", "a", "-o", "a.png")
    assert code == 2 and "cannot be written to" in err and not list(tmp_path.iterdir())


def test_help_shows_examples(run):
    for command in ("draw", "inspect", "doctor"):
        code, out, _ = run(command, "--help")
        assert code == 0 and f"chapter38 {command}" in out


def test_inspect_shows_a_person_rows_and_no_json(run):
    boat = {"negative": "fog", "seed": 38, "steps": 7, "sampler": "euler", "spacing": "karras", "guidance": 3.5}
    recipe = Recipe(prompt="a boat", width=64, height=72, adapters=[{"name": "chalk", "weight": 0.5}], **boat)
    with_workflow(Picture(Image.new("RGB", (64, 72)), recipe)).save("boat.png")
    code, out, _ = run("inspect", "boat.png")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0 and "{" not in out and max(map(len, rows.values())) < 200
    assert {name: rows[name] for name in boat} == {name: str(value) for name, value in boat.items()}
    assert (rows["prompt"], rows["size"], rows["model"]) == ("a boat", "64x72", "postcards")
    assert rows["adapters"] == "chalk (0.5)" and re.fullmatch(r"\d+ nodes \(`chapter38 export boat.png` .*\)", rows["workflow"])
    assert json.loads(run("inspect", "boat.png", "--json")[1])["workflow"]["nodes"]


def test_inspect_says_where_there_is_nothing_to_say(run, tmp_path):
    Image.new("RGB", (8, 8)).save("bare.png")
    assert "holds no metadata (stripped, or a screenshot)" in run("inspect", "bare.png")[1]
    Image.new("RGB", (8, 8)).save("titled.png", pnginfo=titled())
    said = run("inspect", "titled.png")[1]
    assert "nothing on how it was made; only Title" in said and "holds no metadata" not in said
    (tmp_path / "empty").mkdir()
    code, out, err = run("inspect", "empty")
    assert code == 0 and out == "" and "empty: no pictures in there" in err and ".safetensors" in err
    assert run("inspect", "empty", "--json")[1] == "[]\n"


def titled():
    info = PngInfo()
    info.add_text("Title", "x")
    return info


@pytest.mark.slow
def test_a_cold_process_draws(tmp_path):
    words = [sys.executable, "-m", "chapter38.cli", "draw", "a red boat", *QUICK, "-o", str(tmp_path / "a.png"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
    assert json.loads(done.stdout)["lock"]["rung"] == "code"
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def test_the_package_and_its_light_commands_import_no_torch():
    rooms = "chapter38, chapter38.cli, chapter38.code.doctor, chapter38.canvas.metadata"
    code = f"import sys, {rooms}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
