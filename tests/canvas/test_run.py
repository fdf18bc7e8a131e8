"""A workflow run without ComfyUI draws what the Code rung draws, bit for bit, and reruns only what changed."""

import ast
import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from chapter38 import CannotExpress, Recipe
from chapter38.canvas import Graph, export, run
from chapter38.canvas.export import inputs_of
from chapter38.canvas.functions import FUNCTIONS, resized
from chapter38.canvas.nodes import kinds
from chapter38.canvas.run import Runner
from chapter38.canvas.script import curl, python
from chapter38.code import draw
from chapter38.code.parts import images, pixels
from chapter38.errors import GraphError

torch.set_num_threads(1)
SIZE = {"width": 64, "height": 64, "steps": 4}
BOAT = {"prompt": "a red sailboat on the sea", "seed": 38, **SIZE}


def picture(size=64):
    """A smooth, colourful picture without any model."""
    x = np.linspace(0, 255, size)
    return Image.fromarray(np.stack(np.broadcast_arrays(x[None], x[:, None], 128.0), -1).astype("uint8"))


def mask(size=64):
    white = np.zeros((size, size), "uint8")
    white[16:48, 16:48] = 255
    return Image.fromarray(white)


def same(a, b):
    return a.size == b.size and a.tobytes() == b.tobytes()


RECIPES = {
    "the model's own": {},
    "parentheses": {"prompt": "a (red) sailboat"},
    "weighted": {"prompt": "a (red:1.5) sailboat", "prompt_syntax": "weighted", "negative": "a cat"},
    "no guidance": {"guidance": 1},
    "comfy's own spacing": {"sampler": "euler", "spacing": "karras"},
    "a listed spacing": {"sampler": "dpmpp_2m", "spacing": "trailing", "steps": 3},
    "noise at every step": {"sampler": "euler_ancestral", "spacing": "normal"},
    "two evaluations a step": {"sampler": "heun", "spacing": "simple"},
    "clip skip": {"clip_skip": 1},
    "from a picture": {"image": picture(), "strength": 0.6},
    "from a picture, a list of 14 for 13 steps": {
        "image": picture(),
        "strength": 0.8,
        "sampler": "heun",
        "spacing": "ddim_uniform",
        "steps": 13,
    },
    "within a mask": {"image": picture(), "mask": mask(), "strength": 0.6, "sampler": "euler", "spacing": "karras"},
    "in two passes": {"hires": {"scale": 1.5, "steps": 2}},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_a_workflow_draws_what_code_draws_bit_for_bit(changes):
    recipe = Recipe(**BOAT | changes)
    ran, drawn = run(export(recipe)), draw(recipe)
    assert same(ran.image, drawn.image)
    assert ran.recipe == recipe and ran.receipt.lock.rung == "canvas"


def test_both_spellings_run_alike():
    graph = export(Recipe(**BOAT))
    once = run(graph).image
    assert same(run(Graph.from_ui(json.loads(json.dumps(graph.ui())))).image, once)
    assert same(run(Graph.from_api(json.loads(json.dumps(graph.api())))).image, once)


def test_only_what_changed_runs_again():
    runner, graph = Runner(), export(Recipe(**BOAT))
    first = [ran.title for ran in runner.run(graph) if ran.cached]
    again = [ran.title for ran in runner.run(graph) if not ran.cached]
    sampler = next(node.id for node in graph.nodes if node.type.startswith("KSampler"))
    reseeded = [ran.title for ran in runner.run(graph.set(sampler, seed=39)) if not ran.cached]
    assert first == [] and again == ["Save Image"]
    assert len(reseeded) == 3 and reseeded[0].startswith("KSampler") and reseeded[1:] == ["VAE Decode", "Save Image"]


def test_truncation_makes_bytes_as_comfyui_does():
    graph = export(Recipe(**BOAT))
    rounded, cut = (np.asarray(run(graph, rounding=how).image).astype(int) for how in ("round", "truncate"))
    assert set(np.unique(rounded - cut)) == {0, 1}


def test_every_node_that_cannot_run_is_named_before_anything_runs():
    api = export(Recipe(**BOAT)).api()
    last = next(id for id, node in api.items() if node["class_type"] == "SaveImage")
    decode = api[last]["inputs"]["images"]
    api["90"] = {"class_type": "Sharpen3000", "inputs": {"image": decode}, "_meta": {"title": "Make it pop"}}
    api["91"] = {"class_type": "ImageBlur", "inputs": {"image": ["90", 0], "blur_radius": 1, "sigma": 1.0}}
    api[last]["inputs"]["images"] = ["91", 0]
    seen = []
    with pytest.raises(GraphError, match=r"90 \(Make it pop\).*91") as caught:
        run(Graph.from_api(api), progress=seen.append)
    assert seen == [] and "Sharpen3000" in str(caught.value)


def test_a_workflow_that_saves_nothing_is_refused_before_it_runs():
    graph = Graph.from_api({"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}})
    with pytest.raises(GraphError, match="no node of this workflow saves or shows a picture; give it a SaveImage"):
        run(graph)


def test_nodes_run_in_the_order_of_the_graph():
    pairs = {str(i): {"class_type": "LoadImage", "inputs": {"image": f"{i}.png"}} for i in range(1, 13)}
    saves = {
        str(i + 20): {"class_type": "SaveImage", "inputs": {"images": [str(i), 0], "filename_prefix": "a"}} for i in range(1, 13)
    }
    graph = Graph.from_api(pairs | saves)
    order = Runner().needed(graph, graph.api())
    assert order == [*pairs, *saves]


def test_a_missing_model_is_blamed_on_its_loader():
    api = export(Recipe(**BOAT)).api()
    loader = next(id for id, node in api.items() if "ckpt_name" in node["inputs"])
    api[loader]["inputs"]["ckpt_name"] = "gone.safetensors"
    with pytest.raises(GraphError, match=rf"^node {loader} .*no model 'gone.safetensors'\. A single-file .*Diffusers folder"):
        run(Graph.from_api({id: api[id] for id in reversed(api)}))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "a/../../secret.png", "..\\secret.png"])
def test_loading_never_leaves_the_input_folder(tmp_path, name):
    folder = tmp_path / "input"
    folder.mkdir()
    picture().save(tmp_path / "secret.png")
    graph = export(Recipe(**BOAT, image=picture(), strength=0.5))
    loader = next(node.id for node in graph.nodes if node.type == "LoadImage")
    with pytest.raises(GraphError, match="input folder"):
        run(graph.set(loader, image=name), input=folder)


def test_saving_never_leaves_the_output_folder(tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    graph = export(Recipe(**BOAT))
    saver = next(node.id for node in graph.nodes if node.type == "SaveImage")
    with pytest.raises(GraphError, match="leads out"):
        run(graph.set(saver, filename_prefix="../boat"), output=folder)
    run(graph.set(saver, filename_prefix="sea/boat"), output=folder)
    run(graph.set(saver, filename_prefix="sea/boat"), output=folder)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert written == ["output/sea/boat_00001_.png", "output/sea/boat_00002_.png"]
    assert Image.open(folder / "sea/boat_00001_.png").text["prompt"]


def test_functions_take_what_the_facts_say_the_node_has():
    from inspect import signature

    for type, function in FUNCTIONS.items():
        takes = signature(function).parameters
        if any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            continue
        unknown = {field.name for field in kinds()[type].inputs if field.required} - set(takes)
        assert not unknown, f"{type} has {unknown}, which its function does not take"


def tiny(nodes):
    """Run a chain of picture nodes over the test picture; returns the picture that is saved."""
    api = {"1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}}}
    api |= {str(at): {"class_type": type, "inputs": inputs} for at, (type, inputs) in enumerate(nodes, 2)}
    api["99"] = {"class_type": "PreviewImage", "inputs": {"images": [str(len(nodes) + 1), 0]}}
    return Graph.from_api(api)


@pytest.mark.parametrize(("nodes", "expected"), [
    ([("ImageInvert", {"image": ["1", 0]}), ("ImageInvert", {"image": ["2", 0]})], lambda p: p),
    ([("ImageToMask", {"image": ["1", 0], "channel": "red"}), ("MaskToImage", {"mask": ["2", 0]})],
     lambda p: Image.merge("RGB", [p.getchannel("R")] * 3)),
    ([("ImageScale", {"image": ["1", 0], "upscale_method": "nearest-exact", "width": 128, "height": 0, "crop": "disabled"})],
     lambda p: p.resize((128, 128), Image.Resampling.NEAREST)),
    ([("ImageScaleBy", {"image": ["1", 0], "upscale_method": "lanczos", "scale_by": 0.5})],
     lambda p: p.resize((32, 32), Image.Resampling.LANCZOS)),
    ([("ImageScale", {"image": ["1", 0], "upscale_method": "area", "width": 32, "height": 64, "crop": "center"})],
     lambda p: p.crop((16, 0, 48, 64))),
])  # fmt: skip
def test_picture_nodes_do_what_pillow_does(tmp_path, nodes, expected):
    picture().save(tmp_path / "in.png")
    got = run(tiny(nodes), input=tmp_path).image
    assert np.abs(np.asarray(got).astype(int) - np.asarray(expected(picture())).astype(int)).max() <= 1


def test_a_latent_survives_the_way_through_bytes():
    assert same(images(pixels([picture()], 64, 64))[0], picture())
    assert resized(torch.zeros(1, 4, 8, 8), "bilinear", 0, 16, "disabled").shape == (1, 4, 16, 16)


SCRIPTS = {
    "the model's own": {},
    "noise at every step": {"sampler": "euler_ancestral", "spacing": "trailing"},
    "karras": {"sampler": "dpmpp_2m", "spacing": "karras"},
    "clip skip": {"clip_skip": 1, "negative": "a cat"},
    "from a picture": {"image": picture(), "strength": 0.6},
    "a LoRA that ships": {"adapters": [("dusk", 0.8)]},
    "the ControlNet that ships": {"control": [{"kind": "edges", "image": picture()}]},
}


@pytest.mark.parametrize("changes", SCRIPTS.values(), ids=SCRIPTS)
def test_the_script_of_plain_diffusers_draws_the_same_picture(tmp_path, monkeypatch, changes):
    recipe = Recipe(**BOAT | changes)
    script = tmp_path / "script.py"
    script.write_text(python(recipe), "utf-8")
    imported = {
        name.name
        for node in ast.walk(ast.parse(script.read_text("utf-8")))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "chapter38" not in imported and "import chapter38" not in script.read_text("utf-8")
    for name, pixels_ in inputs_of(recipe):
        (tmp_path / name).write_bytes(pixels_.png)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py", "out.png"])
    runpy.run_path(str(script))
    assert same(Image.open(tmp_path / "out.png"), draw(recipe).image)


def test_a_script_says_what_to_do_where_the_package_is_not(tmp_path):
    (tmp_path / "script.py").write_text(python(Recipe(**BOAT)), "utf-8")
    hidden = f"import importlib.util as u, runpy, sys; u.find_spec = lambda name: None; runpy.run_path({str(tmp_path / 'script.py')!r})"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert done.returncode == 1 and "give the folder of postcards' weights as the second argument" in done.stderr


@pytest.mark.parametrize(("field", "changes"), [
    ("prompt_syntax", {"prompt_syntax": "weighted"}), ("hires", {"hires": {"scale": 2}}), ("model", {"model": "flux-dev"}),
    ("spacing", {"spacing": "beta"}), ("mask", {"image": picture(), "mask": mask(), "strength": 0.5}),
])  # fmt: skip
def test_a_script_says_what_it_cannot_do(field, changes):
    with pytest.raises(CannotExpress) as caught:
        python(Recipe(**BOAT | changes))
    assert caught.value.field == field


def test_curl_carries_the_prompt_through_the_shell():
    import shlex

    recipe = Recipe(**BOAT | {"prompt": 'it\'s "quoted" $HOME `ls` \\ é\n', "image": picture(), "strength": 0.5})
    upload, queue = curl(recipe).splitlines()
    assert upload.startswith("curl -s -F image=@") and upload.endswith("/upload/image")
    assert json.loads(shlex.split(queue)[-1])["prompt"] == export(recipe).api()
