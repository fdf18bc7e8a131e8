"""Metadata: what programs write is read, whatever the container; ours comes back whole; a hostile file does no harm."""

import base64
import csv
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chapter38 import Picture, Recipe
from chapter38.canvas import a1111, metadata
from chapter38.errors import MetadataError
from chapter38.picture import Lock, Receipt
from tests.canvas import wild

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@pytest.fixture
def read(tmp_path):
    def read(data: bytes, name: str = "x.png") -> metadata.Metadata:
        (tmp_path / name).write_bytes(data)
        return metadata.inspect(tmp_path / name)

    return read


# --- what programs write ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["comfyui.png", "comfyui.webp"])
def test_comfyuis_own_graph_is_read(read, name):
    said = read(wild.corpus()[name], name)
    assert (said.software, said.prompt, said.negative) == ("ComfyUI", "a red boat, évening 🚤", "fog")
    assert said.workflow is not None
    assert (said.recipe.seed, said.recipe.steps, said.recipe.sampler) == (2**63 + 5, 25, "dpmpp_2m")


def test_either_of_prompt_and_workflow_alone_is_enough(read):
    from chapter38.canvas import Graph

    ui = json.dumps(Graph.from_api(wild.GRAPH).ui())
    for chunk in (wild.text_chunk("prompt", json.dumps(wild.GRAPH)), wild.text_chunk("workflow", ui)):
        said = read(wild.png(chunk))
        assert (said.prompt, said.negative, said.recipe.seed) == ("a red boat, évening 🚤", "fog", 2**63 + 5)


def test_a_number_too_large_for_a_float_is_null_and_said(read):
    graph = json.dumps({**wild.GRAPH, "9": {"class_type": "X", "inputs": {"a": 38.5}}}).replace("38.5", "1e999")
    said = read(wild.png(wild.text_chunk("prompt", graph)))
    assert said.workflow["9"]["inputs"]["a"] is None and any("1e999" in w for w in said.warnings)
    json.dumps(said.row(), allow_nan=False)


def test_comfyuis_nan_is_null_and_said(read):
    graph = json.dumps({**wild.GRAPH, "9": {"class_type": "X", "inputs": {}, "is_changed": [float("nan")]}})
    said = read(wild.png(wild.text_chunk("prompt", graph)))
    assert said.workflow["9"]["is_changed"] == [None] and any("NaN" in w for w in said.warnings)
    json.dumps(said.row(), allow_nan=False)


@pytest.mark.parametrize("name", ["late.png", "packed.png", "forge.jpg"])
def test_parameters_are_read_wherever_they_stand(read, name):
    said = read(wild.corpus()[name], name)
    assert said.prompt == "a harbour, (masts:1.2) <lora:oil-paint:0.7>\nsecond line" and said.negative == "fog,\nrain"
    recipe = said.recipe
    assert (recipe.model, recipe.sampler, recipe.spacing) == ("harbours", "dpmpp_2m", "karras")  # not the ControlNet's
    assert (recipe.seed, recipe.steps, recipe.guidance, recipe.clip_skip) == (2**64 - 1, 30, 6.5, 1)
    assert (recipe.width, recipe.height, recipe.prompt_syntax) == (512, 768, "weighted")
    assert [(a.name, a.weight) for a in recipe.adapters] == [("oil-paint", 0.7)]
    assert any("ControlNet 0" in warning for warning in said.warnings)


@given(st.dictionaries(st.from_regex(r"[A-Z][a-z ]{0,8}[a-z]", fullmatch=True), WORDS | st.integers(), max_size=8))
@settings(deadline=None)
def test_split_fields_undoes_the_web_uis_quoting(fields):
    quoted = {k: json.dumps(v, ensure_ascii=False) if any(c in str(v) for c in ',:\n"{[') else v for k, v in fields.items()}
    line = ", ".join(f"{key}: {value}" for key, value in quoted.items())
    found = a1111.split_fields(line)
    assert {key: str(value).strip() for key, value in found.items()} == {k: str(v).strip() for k, v in fields.items()}


def test_old_and_new_sampler_names_mean_the_same():
    old = a1111.parse("x\nSteps: 9, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 64x64, Model: m")
    new = a1111.parse("x\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 64x64, Model: m")
    assert a1111.to_recipe(old)[0] == a1111.to_recipe(new)[0]


def test_a_prompt_that_only_talks_about_steps_is_no_parameters():
    assert a1111.parse("Steps: how to climb them") is None


# --- ours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@given(prompt=WORDS, seed=st.integers(0, 2**64 - 1), hint=st.booleans())
@settings(deadline=None, max_examples=15)
def test_our_own_picture_gives_back_recipe_lock_and_workflow(tmp_path_factory, suffix, prompt, seed, hint):
    recipe = Recipe(prompt=prompt, seed=seed, image=wild.image() if hint else None, strength=0.5 if hint else 1)
    lock = Lock(rung="code", model="postcards", versions={"chapter38": "1.2"})
    chunks = {"prompt": json.dumps(wild.GRAPH), "workflow": json.dumps({"nodes": [], "é": "ü"}, ensure_ascii=False)}
    path = tmp_path_factory.mktemp("ours") / f"p{suffix}"
    Picture(wild.image(), recipe, Receipt(lock), chunks).save(path)
    said = metadata.inspect(path)
    assert (said.recipe, said.lock, said.prompt, said.software) == (recipe, lock, prompt, "Chapter 38 1.2")
    assert said.workflow == {"nodes": [], "é": "ü"} and not said.warnings


# --- what it reveals, and taking it off ---------------------------------------------------------------------------


def test_what_a_picture_reveals_is_said(read):
    graph = {**wild.GRAPH, "8": {"class_type": "X", "inputs": {"dir": "C:\\Users\\anna\\boats", "key": "sk-" + "a1" * 12}}}
    exif = b"Exif\0\0" + wild.tiff({0x013B: (2, b"Anna B.\0"), 0x8825: (4, struct.pack("<I", 0))})
    said = read(wild.png(wild.text_chunk("prompt", json.dumps(graph)), wild.chunk(b"eXIf", exif[6:]), tail=b"secret"))
    for words in ("the whole workflow", "the artist", "where it was taken", "bytes after the picture's end",
                  "a user's name in a path: anna", "what looks like a secret key"):  # fmt: skip
        assert words in said.reveals, said.reveals
    assert "a1a1" not in " ".join(said.reveals)


@pytest.mark.parametrize("name", wild.corpus())
def test_stripping_takes_every_text_and_no_pixel(tmp_path, name):
    source, to = tmp_path / name, tmp_path / f"clean-{name}"
    source.write_bytes(wild.corpus()[name])
    assert metadata.strip(source, to)
    said = metadata.inspect(to)
    assert not said.texts and not said.warnings and not said.reveals
    with Image.open(source) as a, Image.open(to) as b:
        assert a.tobytes() == b.tobytes() and a.getexif().get(0x0112, 1) == b.getexif().get(0x0112, 1)
    with pytest.raises(MetadataError, match="another name"):
        metadata.strip(to, to)


# --- hostile ----------------------------------------------------------------------------------------------------


def hostile():
    """Name -> what makes the file."""
    deep = "[" * 200_000
    bomb = cache(lambda: zlib.compress(b"\0" * (200 * 2**20), 1))
    ours = lambda **recipe: json.dumps({"version": 1, "recipe": {"prompt": "x", **recipe}, "lock": None})  # noqa: E731
    wide = lambda w, h: wild.chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))  # noqa: E731
    big = b"\x89PNG\r\n\x1a\n" + wide(30_000, 30_000) + wild.chunk(b"IDAT", zlib.compress(b"")) + wild.chunk(b"IEND", b"")
    picture = {"sha256": "0" * 64, "png": base64.b64encode(big).decode()}
    cycle = {"1": {"class_type": "KSampler", "inputs": {"positive": ["1", 0], "negative": ["2", 0]}},
             "2": {"class_type": "X", "inputs": {"a": ["1", 0], "b": ["2", 0]}}}  # fmt: skip
    return {
        "deep json": lambda: wild.png(wild.text_chunk("prompt", '{"a":' + deep)),
        "deep ours": lambda: wild.png(wild.text_chunk("chapter38", deep)),
        "deep parameters": lambda: wild.png(wild.text_chunk("parameters", f"x\nSteps: 1, a: {deep}, b: {deep}, c: 1")),
        "zTXt bomb": lambda: wild.png(wild.chunk(b"zTXt", b"prompt\0\0" + bomb())),
        "iTXt bombs": lambda: wild.png(*[wild.chunk(b"iTXt", b"prompt\0\1\0\0\0" + bomb())] * 20),
        "100 MB chunk": lambda: wild.png(wild.text_chunk("prompt", b"x" * (100 * 2**20))),
        "100 MB stated": lambda: wild.png()[:33] + struct.pack(">I", 100 * 2**20) + b"tEXtprompt\0{}",
        "wide json": lambda: wild.png(wild.text_chunk("workflow", '{"a":[' + "[]," * 2_000_000 + "[]]}")),
        "long strings": lambda: wild.png(wild.text_chunk("workflow", '{"a":"' + "\U0001f6a4" * 1_900_000 + '"}')),
        "cycles": lambda: wild.png(wild.text_chunk("prompt", json.dumps(cycle))),
        "nan": lambda: wild.png(wild.text_chunk("chapter38", ours(guidance=float("nan")))),
        "surrogates": lambda: wild.png(wild.text_chunk("prompt", json.dumps({"1": {"class_type": "\ud800", "inputs": {
            "positive": ["2", 0], "negative": ["2", 0]}}, "2": {"inputs": {"text": "a\udfffb"}, "class_type": "T"}}))),
        "picture bomb": lambda: wild.png(wild.text_chunk("chapter38", ours(image=picture, strength=0.5))),
        "picture is no PNG": lambda: wild.png(wild.text_chunk("chapter38", ours(image={**picture, "png": "JSFQUy1BZG9iZQ=="}))),
        "many chunks": lambda: wild.png(*[wild.text_chunk("a", "b")] * 120_000),
        "no quotes end": lambda: wild.png(wild.text_chunk("parameters", "x\nSteps: 1, " + 'a: "b, ' * 300_000)),
        "one long key": lambda: wild.png(wild.text_chunk("parameters", "x\nSteps: 1, b: 2, c: 3, " + "a" * 2_000_000)),
        "open loras": lambda: wild.png(wild.text_chunk("parameters", "<lora:" * 300_000 + "\nSteps: 1, b: 2, c: 3")),
        "huge numbers": lambda: wild.png(wild.text_chunk("parameters", f"x\nSteps: {'9' * 9000}, b: 2, Seed: 1e999, Clip skip: inf")),
        "exif of overlaps": lambda: wild.jpeg((0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x10E, 2, 60000, 8) * 5000)),
        "exif pointing at itself": lambda: wild.riff((b"EXIF", wild.tiff({0x8769: (4, struct.pack("<I", 8))}))),
        "jpeg of fill bytes": lambda: b"\xff\xd8" + b"\xff" * 3_000_000,
        "json of names": lambda: wild.png(wild.text_chunk("workflow", '{"nodes":[' + '{"id":1,"type":"a"},' * 100_000 + "{}]}")),
        "paths": lambda: wild.png(wild.text_chunk("prompt", json.dumps({"1": {"class_type": "LoadImage", "inputs": {
            "image": "../../../../etc/passwd"}}}))),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_file_costs_little_and_raises_only_ours(read, tmp_path, name):
    (tmp_path / "h.png").write_bytes(hostile()[name]())
    began = time.process_time()
    try:
        said = metadata.inspect(tmp_path / "h.png")
        json.dumps(said.row(), allow_nan=False).encode()
        "".join(metadata.as_csv([said])).encode(errors="strict")
        " ".join(said.warnings + said.reveals).encode()
    except MetadataError:
        said = None
    assert time.process_time() - began < 2
    del said
    tracemalloc.start()
    try:
        metadata.inspect(tmp_path / "h.png")
    except MetadataError:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 64 * 2**20, f"{peak / 2**20:.0f} MB"


def test_a_damaged_chunk_is_read_with_a_warning_and_a_cut_file_as_far_as_it_goes(read):
    text = b"parameters\0" + wild.PARAMETERS.encode()
    said = read(wild.png(wild.chunk(b"tEXt", text, crc=1)))
    assert said.recipe.model == "harbours" and any("checksum" in warning for warning in said.warnings)
    whole = wild.png(wild.text_chunk("parameters", wild.PARAMETERS), after=(wild.text_chunk("Software", "x" * 50),))
    said = read(whole[:-40])
    assert said.recipe.model == "harbours" and any("ends inside" in warning for warning in said.warnings)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\4\0\0\0WEBP", b"{}"])
def test_what_is_no_picture_is_said_to_be_none(read, data):
    with pytest.raises(MetadataError):
        read(data)


def test_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "p.png")
    with pytest.raises(MetadataError, match="regular"):
        handle = os.open(tmp_path / "p.png", os.O_RDWR)  # else opening it would wait for a writer
        try:
            metadata.inspect(tmp_path / "p.png")
        finally:
            os.close(handle)
    assert list(metadata.inspect_all([tmp_path])) == []


def test_mutated_files_raise_only_ours(tmp_path):
    """Real files, bent at random: flipped bytes, cuts, doubled pieces. CHAPTER38_FUZZ_SECONDS sets for how long."""
    seeds, path = list(wild.corpus().values()), tmp_path / "m.png"
    seconds = float(os.environ.get("CHAPTER38_FUZZ_SECONDS", "2"))
    rng, tries, end = random.Random(38), 0, time.monotonic() + seconds
    while time.monotonic() < end or tries < 100:
        tries += 1
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 8)):
            at, size = rng.randrange(len(data)), rng.randint(1, 64)
            match rng.randrange(5):
                case 0: data[at] = rng.randrange(256)
                case 1: data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
                case 2: del data[at : at + size]
                case 3: data[at:at] = data[at : at + size] * rng.randint(1, 9)
                case 4: data[at:at] = rng.choice([b'"', b"{", b"[", b"\\ud800", b"NaN", b"1e999", b"\0", b"\nSteps: 1,"])
            if not data:
                break
        path.write_bytes(data)
        began = time.process_time()
        try:
            json.dumps(metadata.inspect(path).row(), allow_nan=False).encode()
            metadata.strip(path, tmp_path / "s.png")
        except MetadataError:
            pass
        assert time.process_time() - began < 2
    print(f"{tries} files in {seconds:g} s")


@given(st.binary(max_size=400), st.sampled_from(["png", "exif", "webp", "jpeg"]))
@settings(deadline=None)
def test_any_bytes_in_any_block_raise_only_ours(tmp_path_factory, data, where):
    built = {"png": lambda: wild.png(wild.chunk(b"zTXt", data), wild.chunk(b"iTXt", data), wild.chunk(b"tEXt", data)),
             "exif": lambda: wild.png(wild.chunk(b"eXIf", b"II*\0" + data)),
             "webp": lambda: wild.riff((b"EXIF", b"MM\0*" + data), (b"XMP ", data)),
             "jpeg": lambda: wild.jpeg((0xE1, b"Exif\0\0II*\0" + data), (0xFE, data))}  # fmt: skip
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(built[where]())
    json.dumps(metadata.inspect(path).row(), allow_nan=False).encode()


# --- many -------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_and_a_broken_file_is_a_row(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, data in wild.corpus().items():
        (tmp_path / "sub" / name).write_bytes(data)
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("x")
    rows = list(metadata.inspect_all([tmp_path]))
    assert [os.path.basename(row.file) for row in rows] == ["a.png", *sorted(wild.corpus())]
    assert rows[0].warnings == ["not a PNG, WebP or JPEG"]
    assert set(metadata.COLUMNS) <= set(rows[1].row())
    table = list(csv.DictReader(io.StringIO("".join(metadata.as_csv(rows)))))
    assert [line["file"] for line in table] == [row.file for row in rows]
    assert json.loads(table[1]["workflow"]) == rows[1].workflow and table[0]["prompt"] == ""


def test_a_thousand_pictures_a_second(tmp_path):
    """On one core, files of up to 1 MB with a whole workflow each; asked of half the machine, for tests run side by side."""
    for n in range(20):
        body = wild.png(wild.text_chunk("prompt", json.dumps(wild.GRAPH)), *[wild.chunk(b"IDAT", b"\0" * 32768)] * 30)
        (tmp_path / f"{n}.png").write_bytes(body)
    files = list(tmp_path.iterdir()) * 10
    list(metadata.inspect_all(files[:5]))
    best = min(_seconds(files) for _ in range(3))
    assert len(files) / best > 500, f"{len(files) / best:.0f} pictures a second"


def test_reading_metadata_imports_no_torch(tmp_path):
    (tmp_path / "x.png").write_bytes(wild.corpus()["comfyui.png"])
    code = "import sys; from chapter38.canvas import metadata; said = metadata.inspect(sys.argv[1]); "
    code += "assert said.recipe and 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.png")], check=True)


def _seconds(files):
    began = time.process_time()
    assert all(row.recipe for row in metadata.inspect_all(files))
    return time.process_time() - began
