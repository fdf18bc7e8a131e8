"""What is wrong with a workflow is said with the way to the node; a workflow's picture can be seen and heard."""

import xml.etree.ElementTree as ET

import pytest

from chapter38 import Recipe
from chapter38.canvas import Graph, check, export
from chapter38.canvas.compare import differences
from chapter38.canvas.draw import svg


def broken(change):
    api = export(Recipe(prompt="a boat")).api()
    change({node["class_type"]: node["inputs"] for node in api.values()}, api)
    return Graph.from_api(api)


CASES = {
    "a link of the wrong type": (lambda n, api: n["KSampler"].update(model=["1", 1]), "KSampler", "model needs a MODEL"),
    "an input that is not connected": (lambda n, api: n["VAEDecode"].pop("vae"), "VAE Decode", "vae is not connected"),
    "a number out of range": (lambda n, api: n["KSampler"].update(steps=0), "KSampler", "steps from 1"),
    "a value that is not in the list": (lambda n, api: n["KSampler"].update(scheduler="karas"), "KSampler", "scheduler 'karas'"),
    "a missing node": (lambda n, api: n["VAEDecode"].update(samples=["77", 0]), "VAE Decode", "node 77, which is not there"),
    "a missing output": (lambda n, api: n["VAEDecode"].update(samples=["1", 9]), "VAE Decode", "output 9"),
    "a circle": (lambda n, api: n["CLIPTextEncode"].update(text=["6", 0]), "", "circle"),
    "a class nobody knows": (lambda n, api: api["1"].update(class_type="Chekpoint"), "Load Checkpoint", "Chekpoint"),
    "nothing saved": (lambda n, api: api.pop("7"), "", "nothing is saved"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "way", "what"), CASES.values(), ids=CASES)
def test_what_is_wrong_is_said_in_words_with_the_way_to_the_node(change, way, what):
    found = [str(problem) for problem in check(broken(change))]
    assert any(way in line and what in line for line in found), found


def test_a_circle_of_nodes_is_named():
    two = {"1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
           "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
           "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}  # fmt: skip
    assert any("circle" in str(problem) for problem in check(Graph.from_api(two)))


def test_missing_files_are_named_with_their_folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    found = check(export(Recipe(prompt="a")), tmp_path)
    assert len(found) == 1 and "postcards.safetensors" in found[0].what and "checkpoints" in found[0].what
    (tmp_path / "checkpoints" / "postcards.safetensors").touch()
    assert check(export(Recipe(prompt="a")), tmp_path) == []


def test_the_way_leads_through_subgraphs():
    inner = {"id": 9, "type": "KSampler", "pos": [0, 0], "size": [1, 1], "inputs": [], "outputs": [], "title": "Second pass",
             "widgets_values": [1, "fixed", 0, 5, "euler", "normal", 1]}  # fmt: skip
    sub = {"id": "S", "name": "Refiner", "nodes": [inner], "links": [], "inputs": [], "outputs": []}
    host = {"id": 4, "type": "S", "pos": [0, 0], "size": [1, 1], "inputs": [], "outputs": []}
    graph = Graph.from_ui({"nodes": [host], "links": [], "version": 0.4, "definitions": {"subgraphs": [sub]}})
    assert any(str(problem).startswith("node 4:9 (Refiner › Second pass): ") for problem in check(graph))


def test_differences_are_those_of_meaning():
    a = Recipe(prompt="a", seed=1)
    assert differences(a, Recipe(prompt="a", seed=1)) == []
    assert differences(a, a.but(seed=2, steps=5)) == [("seed", 1, 2), ("steps", 20, 5)]


def test_the_drawing_shows_and_says_the_whole_graph():
    graph = export(Recipe(prompt='<a> & "b"', seed=12345))
    root = ET.fromstring(svg(graph))
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
    assert root.get("role") == "img" and set(root.get("aria-labelledby").split()) == {title.get("id"), desc.get("id")}
    assert "seed: 12345" in texts and 'text: <a> & "b"' in texts and "Models" in texts
    assert all(node.label in desc.text for node in graph.nodes)
    assert len(list(root.iter(f"{space}path"))) == len(graph.links)
    assert graph._repr_svg_() == svg(graph)


def test_links_in_the_drawing_end_at_nodes():
    graph = export(Recipe(prompt="a"))
    edges = {edge for node in graph.nodes for edge in (node.box[0], node.box[0] + node.box[2])}
    for path in ET.fromstring(svg(graph)).iter("{http://www.w3.org/2000/svg}path"):
        numbers = [float(v) for v in path.get("d").replace("M", "").replace("C", " ").split()]
        assert numbers[0] in edges and numbers[-2] in edges
