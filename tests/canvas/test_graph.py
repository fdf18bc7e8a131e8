"""A workflow's two spellings: nothing is lost, whoever wrote it; flattening follows the editor's rules."""

import dataclasses
import json
import random
from functools import cache
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chapter38.canvas import Graph
from chapter38.canvas.graph import is_link
from chapter38.canvas.nodes import kinds
from chapter38.errors import GraphError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUE = st.recursive(LEAF, lambda v: st.dictionaries(TEXT, v, max_size=3), max_leaves=4)


@st.composite
def api_graphs(draw):
    """API JSON with known and unknown classes, full and partial widgets, links to nodes there and not there."""
    ids = draw(st.lists(st.from_regex(r"[1-9][0-9]{0,2}(:[1-9])?|[a-z]{1,3}", fullmatch=True), unique=True, max_size=6))
    out = {}
    for id in ids:
        type = draw(st.sampled_from([*sorted(kinds()), "SomeCustomNode", "Other (pack)"]))
        link = st.tuples(st.sampled_from([*ids, "404"]), st.integers(0, 3)).map(list)
        known = [spec.name for spec in kinds()[type].inputs] if type in kinds() else []
        names = st.sampled_from(known) | TEXT if known else TEXT
        node = {"class_type": type, "inputs": draw(st.dictionaries(names, VALUE | link, max_size=6))}
        if draw(st.booleans()):
            node["_meta"] = {"title": draw(TEXT), "cnr_id": "x"}
        out[id] = node
    return out


@given(api_graphs())
@settings(max_examples=80, deadline=None)
def test_api_to_graph_to_api_is_the_identity(api):
    graph = Graph.from_api(api)
    assert graph.api() == api
    assert Graph.from_api(graph.api()) == graph


@given(api_graphs())
@settings(max_examples=60, deadline=None)
def test_a_graph_equals_itself_read_back_from_the_editors_json(api):
    graph = Graph.from_api(api)
    assert Graph.from_ui(json.loads(json.dumps(graph.ui()))) == graph


@cache
def corpus():
    """Public workflows from PyPI (extras `dev`)."""
    found = []
    for package, folder in (
        ("comfyui_workflow_templates_json", "templates"),
        ("comfyui_subgraph_blueprints", "blueprints"),
    ):
        pytest.importorskip(package, reason="the corpus is not installed: pip install 'chapter38[dev]'")
        paths = (path for path in (files(package) / folder).iterdir() if path.name.endswith(".json"))
        values = [(path.name, json.loads(path.read_text("utf-8"))) for path in sorted(paths, key=lambda p: p.name)]
        found += [(name, value) for name, value in values if isinstance(value, dict) and "nodes" in value]
    return found


def essence(doc):
    """What the issue of a workflow is, read here without the package: nodes, widget values, links, subgraphs."""
    graphs = [doc, *doc.get("definitions", {}).get("subgraphs", [])]
    links = [[list(k.values()) if isinstance(k, dict) else k for k in g.get("links") or []] for g in graphs]
    keys = ("id", "type", "title", "mode", "widgets_values", "inputs", "outputs", "pos", "size", "properties")
    faces = [(g.get("id"), g.get("name"), g.get("inputs"), g.get("outputs"), g.get("groups"), g.get("extra")) for g in graphs]
    return [[[n.get(key) for key in keys] for n in g["nodes"]] for g in graphs], links, faces


def test_public_workflows_go_through_unchanged():
    docs = corpus()
    sample = random.Random(38).sample(docs, 150)
    same = sum(essence(Graph.from_ui(doc).ui()) == essence(doc) for _, doc in sample)
    assert len(docs) > 700 and same >= 0.99 * len(sample), f"{same} of {len(sample)}"


def test_public_workflows_flatten_to_what_a_server_takes():
    for name, doc in random.Random(39).sample(corpus(), 60):
        api = Graph.from_ui(doc).api()
        assert Graph.from_api(api).api() == api, name
        assert not {node["class_type"] for node in api.values()} & {"Reroute", "PrimitiveNode", "Note", "MarkdownNote"}
        links = [v for node in api.values() for v in node["inputs"].values() if isinstance(v, list)]
        assert all(link[0] in api for link in links), name


def ui(nodes, links, **rest):
    """A small UI document: nodes as (id, type, widgets, inputs, outputs, mode)."""
    spelled = [
        {
            "id": id,
            "type": type,
            "pos": [0, 0],
            "size": [1, 1],
            "flags": {},
            "order": 0,
            "mode": mode,
            "properties": {},
            "widgets_values": values,
            "inputs": [{"name": n, "type": t, "link": k, **({"widget": {"name": n}} if w else {})} for n, t, k, w in inputs],
            "outputs": [{"name": t, "type": t, "links": []} for t in outputs],
        }
        for id, type, values, inputs, outputs, mode in nodes
    ]
    return {"nodes": spelled, "links": links, "groups": [], "version": 0.4, **rest}


LOADER = (1, "CheckpointLoaderSimple", ["a.safetensors"], [], ["MODEL", "CLIP", "VAE"], 0)


def lora(id, model, clip, mode=0):
    return (
        id,
        "LoraLoader",
        ["l.safetensors", 1, 1],
        [("model", "MODEL", model, 0), ("clip", "CLIP", clip, 0)],
        ["MODEL", "CLIP"],
        mode,
    )


def encode(clip, text=None, id=9):
    return (
        id,
        "CLIPTextEncode",
        ["own"],
        [("clip", "CLIP", clip, 0), ("text", "STRING", text, 1)],
        ["CONDITIONING"],
        0,
    )


def test_a_bypassed_node_hands_through_the_input_of_the_fitting_type():
    doc = ui(
        [LOADER, lora(2, 1, 2, mode=4), encode(3)],
        [[1, 1, 0, 2, 0, "MODEL"], [2, 1, 1, 2, 1, "CLIP"], [3, 2, 1, 9, 0, "CLIP"]],
    )
    api = Graph.from_ui(doc).api()
    assert set(api) == {"1", "9"} and api["9"]["inputs"] == {"text": "own", "clip": ["1", 1]}


def test_a_muted_node_vanishes_with_its_links():
    doc = ui(
        [LOADER, lora(2, 1, 2, mode=2), encode(3)],
        [[1, 1, 0, 2, 0, "MODEL"], [2, 1, 1, 2, 1, "CLIP"], [3, 2, 1, 9, 0, "CLIP"]],
    )
    assert Graph.from_ui(doc).api()["9"]["inputs"] == {"text": "own"}


def test_reroutes_are_followed_and_primitives_written_inline():
    nodes = [
        LOADER,
        (2, "Reroute", None, [("", "*", 1, 0)], ["CLIP"], 0),
        encode(2, 3),
        (4, "PrimitiveNode", ["from outside", "fixed"], [], ["STRING"], 0),
        (5, "Note", ["hello"], [], [], 0),
    ]
    api = Graph.from_ui(ui(nodes, [[1, 1, 1, 2, 0, "CLIP"], [2, 2, 0, 9, 0, "CLIP"], [3, 4, 0, 9, 1, "STRING"]])).api()
    assert set(api) == {"1", "9"} and api["9"]["inputs"] == {"clip": ["1", 1], "text": "from outside"}


def subgraph(name, inner, links, inputs, outputs):
    return {
        "id": name,
        "name": name,
        "version": 1,
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
        "inputs": [{"name": n, "type": t} for n, t in inputs],
        "outputs": [{"name": t, "type": t} for t in outputs],
        "nodes": ui(inner, [])["nodes"],
        "links": [
            dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), k, strict=True)) for k in links
        ],
    }


def hosted(value, outer=None):
    sub = subgraph(
        "S",
        [encode(10, 11)],
        [[10, -10, 0, 9, 0, "CLIP"], [11, -10, 1, 9, 1, "STRING"], [12, 9, 0, -20, 0, "CONDITIONING"]],
        [("clip", "CLIP"), ("text", "STRING")],
        ["CONDITIONING"],
    )
    host = (
        7,
        "S",
        [value] if value else [],
        [("clip", "CLIP", 1, 0), ("text", "STRING", outer, 1)],
        ["CONDITIONING"],
        0,
    )
    zero = (8, "ConditioningZeroOut", [], [("conditioning", "CONDITIONING", 2, 0)], ["CONDITIONING"], 0)
    tail = (4, "PrimitiveNode", ["piped"], [], ["STRING"], 0)
    links = [[1, 1, 1, 7, 0, "CLIP"], [2, 7, 0, 8, 0, "CONDITIONING"], [3, 4, 0, 7, 1, "STRING"]]
    return ui([LOADER, host, zero, tail], links, definitions={"subgraphs": [sub]})


@pytest.mark.parametrize(("value", "outer", "text"), [(None, None, "own"), ("host's", None, "host's"), ("host's", 3, "piped")])
def test_a_subgraph_is_flattened_with_compound_ids(value, outer, text):
    api = Graph.from_ui(hosted(value, outer)).api()
    assert set(api) == {"1", "7:9", "8"}
    assert api["7:9"]["inputs"] == {"clip": ["1", 1], "text": text}
    assert api["8"]["inputs"] == {"conditioning": ["7:9", 0]}


def test_a_subgraph_stays_a_subgraph_in_the_editors_json():
    doc = hosted("x")
    assert Graph.from_ui(doc).ui() == doc


def test_schema_1_is_kept():
    doc = {
        "version": 1,
        "state": {"lastNodeId": 1},
        "nodes": [],
        "config": {"a": 1},
        "reroutes": [{"id": 1}],
        "models": [],
        "links": [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "X", "parentId": 7}],
    }
    assert Graph.from_ui(doc).ui() == doc


def test_seeds_take_two_places_in_the_editors_list():
    doc = ui([(3, "KSampler", [7, "randomize", 25, 5, "euler", "normal", 1], [], ["LATENT"], 0)], [])
    graph = Graph.from_ui(doc)
    assert graph.api()["3"]["inputs"] == {
        "seed": 7,
        "steps": 25,
        "cfg": 5,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1,
    }
    assert graph.set(3, seed=2**64 - 1).ui()["nodes"][0]["widgets_values"] == [
        2**64 - 1,
        "randomize",
        25,
        5,
        "euler",
        "normal",
        1,
    ]
    short = Graph.from_ui(ui([(3, "KSampler", [7, 25, 5, "euler", "normal", 1], [], [], 0)], []))
    assert short.api()["3"]["inputs"]["steps"] == 25


def test_an_unknown_node_keeps_its_values_though_nobody_knows_their_names():
    graph = Graph.from_ui(ui([(3, "Mystery", [7, "x"], [], [], 0)], []))
    assert graph.ui()["nodes"][0]["widgets_values"] == [7, "x"]
    assert graph.api()["3"]["_meta"]["unnamed_widgets"] == [7, "x"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"7",
        b'{"1": {}}',
        b'{"1": {"class_type": 3}}',
        b'{"nodes": [3]}',
        b'{"nodes": [{"id": 1}]}',
        b"\xff\xfe",
        b'{"nodes": [], "links": [[1]]}',
        b'{"nodes": [], "links": [["a", 1, 0, 2, 0, "X"]]}',
        b'{"1": {"class_type": "A", "inputs": []}}',
        b'{"nodes": [{"id": 1, "type": "A"}, {"id": 1, "type": "B"}]}',
        b'{"nodes": [{"id": 1, "type": "A", "inputs": 7}]}',
        b"[" * 200_000,
        b'{"nodes":' * 100_000,
        b'{"nodes": [], "definitions": {"subgraphs": [{}]}}',
    ],
)
def test_what_is_no_workflow_is_a_graph_error(text):
    with pytest.raises(GraphError):
        Graph.from_json(text)


def test_a_number_that_no_float_holds_is_null():
    graph = Graph.from_json('{"1": {"class_type": "A", "inputs": {"a": 1e999, "b": NaN, "c": -1e400, "d": 1e3}}}')
    assert graph.api()["1"]["inputs"] == {"a": None, "b": None, "c": None, "d": 1000.0}


def test_a_subgraph_that_holds_itself_is_named():
    sub = subgraph("S", [(1, "S", [], [], [], 0)], [], [], [])
    with pytest.raises(GraphError, match="holds itself"):
        Graph.from_ui(ui([(7, "S", [], [], [], 0)], [], definitions={"subgraphs": [sub]})).api()


def test_reroutes_in_a_circle_are_named():
    nodes = [
        (1, "Reroute", None, [("", "*", 2, 0)], ["*"], 0),
        (2, "Reroute", None, [("", "*", 1, 0)], ["*"], 0),
        encode(3),
    ]
    with pytest.raises(GraphError, match="circle"):
        Graph.from_ui(ui(nodes, [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 2, 0, 9, 0, "CLIP"]])).api()


# --- small facts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [["4", 0], ["12:7", 3]])
def test_a_link_is_a_nodes_id_and_a_slot(value):
    assert is_link(value)


@pytest.mark.parametrize(
    "value", [["4"], ["4", 0, 0], [4, 0], ["4", "0"], ["4", True], ["4", 0.0], [0, "4"], ("4", 0), "40", {}, None, []]
)
def test_what_only_looks_like_a_link_is_a_value(value):
    assert not is_link(value)
    api = {"1": {"class_type": "Mystery", "inputs": {"a": value}}}
    assert Graph.from_api(api).links == [] and Graph.from_api(api).api() == api


def test_a_node_is_called_by_its_title_else_by_its_classs_own_else_by_its_class():
    graph = Graph.from_ui(
        {"nodes": [{"id": 1, "type": "KSampler", "title": "mine"}, {"id": 2, "type": "VAEDecode"}, {"id": 3, "type": "Mystery"}]}
    )
    assert [node.label for node in graph.nodes] == ["mine", "VAE Decode", "Mystery"]


@pytest.mark.parametrize(
    ("pos", "size", "box"),
    [
        ([10, 20], [30, 40], (10, 20, 30, 40)),
        ({"0": 10, "1": 20.5}, {"0": 30, "1": 40}, (10, 20.5, 30, 40)),
        ([10, 20, 99], [30, 40], (10, 20, 30, 40)),
        ([10], [30, "x"], (0, 0, 100, 100)),
        (None, 7, (0, 0, 100, 100)),
    ],
)
def test_positions_and_sizes_in_each_of_the_editors_spellings(pos, size, box):
    graph = Graph.from_ui({"nodes": [{"id": 1, "type": "A", "pos": pos, "size": size}]})
    assert graph.nodes[0].box == box and graph.ui()["nodes"][0]["pos"] == pos


@pytest.mark.parametrize(
    ("text", "id"), [("7", 7), ("0", 0), ("07", "07"), ("12:7", "12:7"), ("\u00b2", "\u00b2"), ("-1", "-1"), ("", "")]
)
def test_an_id_is_a_number_only_where_the_number_is_spelled_the_same(text, id):
    graph = Graph.from_api({text: {"class_type": "A", "inputs": {}}})
    assert graph.nodes[0].id == id and type(graph.nodes[0].id) is type(id) and list(graph.api()) == [text]


def test_an_empty_workflow_counts_from_nothing():
    kept = Graph.from_api({}).ui()
    assert (kept["revision"], kept["last_node_id"], kept["last_link_id"], kept["nodes"]) == (0, 0, 0, [])
    kept = Graph.from_api({"9": {"class_type": "A", "inputs": {"a": ["2", 0]}}, "2": {"class_type": "A", "inputs": {}}}).ui()
    assert (kept["last_node_id"], kept["last_link_id"]) == (9, 1)


def test_a_links_type_is_its_outputs_or_anything():
    """Known slots have a type; slots that a known class lacks, and those of an unknown class, are "*"."""
    source = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}}
    into = {"class_type": "Sink", "inputs": {str(slot): ["1", slot] for slot in (0, 1, 2, 3, -1)}}
    graph = Graph.from_api({"1": source, "2": into, "3": {"class_type": "Sink", "inputs": {"x": ["2", 0]}}})
    assert [link.type for link in graph.links] == ["MODEL", "CLIP", "VAE", "*", "*", "*"]
    assert [slot["links"] for slot in graph.node(1).outputs] == [[1], [2], [3]]


@pytest.mark.parametrize(("slots", "shown"), [([0], 1), ([2], 3), ([0, 2], 3), ([2, 0], 3), ([255], 256), ([256], 0), ([-1], 0)])
def test_an_unknown_class_shows_the_slots_that_are_used(slots, shown):
    into = {"class_type": "Sink", "inputs": {f"i{n}": ["1", slot] for n, slot in enumerate(slots)}}
    outputs = Graph.from_api({"1": {"class_type": "Mystery", "inputs": {}}, "2": into}).node(1).outputs
    assert len(outputs) == shown and [slot["name"] for slot in outputs] == [str(n) for n in range(shown)]
    for number, slot in enumerate(slots, 1):
        assert not shown or number in outputs[slot]["links"]


def test_a_subgraphs_widgets_are_called_after_what_they_stand_for():
    proxies = {"proxyWidgets": [["-1", "text"], ["12", "seed"]]}
    graph = Graph.from_ui({"nodes": [{"id": 1, "type": "some-uuid", "widgets_values": ["a", 7], "properties": proxies}]})
    assert graph.nodes[0].widgets == {"text": "a", "12.seed": 7}


def test_the_files_own_names_of_values_are_used_and_written_back():
    doc = {"nodes": [{"id": 1, "type": "Mystery", "widgets_values": [1, 2], "widgets_values_named": {"a": 1, "b": 2}}]}
    graph = Graph.from_ui(doc)
    assert graph.nodes[0].widgets == {"a": 1, "b": 2} and graph.ui()["nodes"] == doc["nodes"]
    changed = graph.set(1, a=5).ui()["nodes"][0]
    assert changed["widgets_values"] == [5, 2] and changed["widgets_values_named"] == {"a": 5, "b": 2}
    wrong = {"nodes": [{**doc["nodes"][0], "widgets_values_named": {"a": 3, "b": 2}}]}
    assert Graph.from_ui(wrong).nodes[0].widgets == {0: 1, 1: 2} and Graph.from_ui(wrong).ui()["nodes"] == wrong["nodes"]


def test_a_link_without_a_type_and_one_with_more_are_read():
    doc = {"nodes": [{"id": 1, "type": "A"}, {"id": 2, "type": "B"}], "links": [[1, 1, 0, 2, 0], [2, 1, 0, 2, 1, "X", 7]]}
    one, other = Graph.from_ui(doc).links
    assert (one.type, one.kept, other.type, other.kept) == (None, (), "X", (7,))


def test_graphs_nodes_and_links_are_values():
    graph = Graph.from_api({"1": {"class_type": "A", "inputs": {"a": ["2", 0]}}, "2": {"class_type": "A", "inputs": {}}})
    for value, name in ((graph, "nodes"), (graph.nodes[0], "id"), (graph.links[0], "id")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 7)


def test_a_node_is_found_by_its_id_alone():
    graph = Graph.from_api({id: {"class_type": "A", "inputs": {}} for id in ("10", "9", "a")})
    assert [graph.node(id).id for id in (9, "9", 10, "a")] == [9, 9, 10, "a"]
    with pytest.raises(GraphError, match="no node 7; expected one of 10, 9, a"):
        graph.node(7)


def test_a_graph_without_places_gets_them_unless_it_need_not():
    api = {"1": {"class_type": "A", "inputs": {}}}
    assert len(Graph.from_api(api).node(1).kept["pos"]) == 2 and "pos" not in Graph.from_api(api, placed=False).node(1).kept


def test_a_linked_setting_stays_a_setting_in_the_editor():
    api = {"1": {"class_type": "KSampler", "inputs": {"seed": ["2", 0], "model": ["2", 1]}}}
    slots = {slot["name"]: slot for slot in Graph.from_api(api).node(1).inputs}
    assert slots["seed"]["widget"] == {"name": "seed"} and "widget" not in slots["model"]
