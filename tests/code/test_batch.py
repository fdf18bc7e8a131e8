"""Many recipes: nothing lost, nothing twice, whatever is killed; each result its own whatever it was drawn beside."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from chapter38.code import batch, draw, draw_many
from chapter38.code.batch import passes, read, run, table
from chapter38.code.quick import quick
from chapter38.measure.pixels import largest_difference
from chapter38.picture import Picture
from chapter38.recipe import Recipe

SAME = {"sampler": "ddim", "spacing": "trailing", "guidance": 4}
ONE_LSB = 1  # of 255: how far a picture may move with its batch-mates


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny.sd().save_pretrained(folder)
    return str(folder)


def recipes(model: str, count: int = 5, **changes: object) -> list[Recipe]:
    words = ("a red boat", "a blue cat", "the sea")
    return [
        Recipe(prompt=words[i % 3], seed=i, model=model, steps=2, width=64, height=64, **SAME, **changes)
        for i in range(count)
    ]  # fmt: skip


def jsonl(recipes: list[Recipe]) -> str:
    return "".join(recipe.json() + "\n" for recipe in recipes)


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_lines_that_are_no_recipes_keep_their_error() -> None:
    good = Recipe(prompt="a")
    lines = read(good.json() + "\n\n{}\nnonsense\n" + good.json())
    assert [line.number for line in lines] == [1, 3, 4, 5]
    assert [bool(line.recipe) for line in lines] == [True, False, False, True] and lines[0].key == lines[3].key
    assert "prompt" in lines[1].error and "not JSON" in lines[2].error


def test_what_can_share_a_pass_does_and_each_key_once() -> None:
    some = [Recipe(prompt=str(i), steps=1 + i % 2) for i in range(7)]
    groups = passes([*some, some[0]], 3)
    assert sorted(len(group) for group in groups) == [1, 3, 3]
    assert all(len({recipe.steps for recipe in group}) == 1 for group in groups)


def test_pictures_receipts_and_the_table(model: str, tmp_path: Path) -> None:
    some = recipes(model, 3)
    lines = read(jsonl(some) + "nonsense\n" + some[0].json())
    rows = list(run(lines, str(tmp_path), size=2))
    assert sorted(row.status for row in rows) == ["drawn", "drawn", "drawn", "failed"]
    told = table(lines, str(tmp_path))
    assert [row["line"] for row in told] == [1, 2, 3, 4, 5] and [row["key"] for row in told[:3]] == [r.key for r in some]
    assert told[0]["file"] == told[4]["file"] and told[3]["status"] == "failed" and "not JSON" in told[3]["error"]
    for recipe, row in zip(some, told, strict=False):
        picture = Picture.open(tmp_path / row["file"])
        assert picture.recipe == recipe and picture.receipt
        assert picture.receipt.lock.model_dump(mode="json") == row["lock"] and row["seconds"] > 0
    with (tmp_path / "receipts.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["drawn"] * 3 + ["failed", "drawn"]
    assert [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()] == told


def test_a_second_run_draws_nothing_and_a_lost_picture_is_drawn_again(model: str, tmp_path: Path) -> None:
    lines = read(jsonl(recipes(model, 3)))
    list(run(lines, str(tmp_path)))
    before = pixels(tmp_path)
    assert [row.status for row in run(lines, str(tmp_path))] == ["kept"] * 3
    (tmp_path / f"{lines[1].key}.png").unlink()
    assert sorted(row.status for row in run(lines, str(tmp_path))) == ["drawn", "kept", "kept"]
    assert pixels(tmp_path).keys() == before.keys()


def test_one_that_fails_is_reported_and_the_rest_drawn_and_tried_again(model: str, tmp_path: Path) -> None:
    some = recipes(model, 2) + recipes(model, 1, adapters=["no such"]) + recipes(model + "-gone", 1)
    rows = {row.key: row for row in run(read(jsonl(some)), str(tmp_path))}
    assert [rows[recipe.key].status for recipe in some] == ["drawn", "drawn", "failed", "failed"]
    assert "unknown LoRA 'no such'" in rows[some[2].key].error and "unknown model" in rows[some[3].key].error
    again = {row.key: row.status for row in run(read(jsonl(some)), str(tmp_path))}
    assert [again[recipe.key] for recipe in some] == ["kept", "kept", "failed", "failed"]


def test_one_guilty_recipe_does_not_cost_its_batch(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = importlib.import_module("chapter38.code.draw")
    some, real = recipes(model, 4), room.draw_many

    def fragile(group: list[Recipe]) -> list[Picture]:
        if some[2] in group:
            raise RuntimeError("out of memory")
        return real(group)

    monkeypatch.setattr(room, "draw_many", fragile)
    rows = {row.key: row for row in run(read(jsonl(some)), str(tmp_path), size=4)}
    assert [rows[r.key].status for r in some] == ["drawn", "drawn", "failed", "drawn"]
    assert rows[some[2].key].error == "RuntimeError: out of memory"


def test_postcards_that_share_a_pass_are_those_drawn_alone() -> None:
    some = [Recipe(prompt=f"a {colour} boat on the sea", seed=seed) for seed, colour in enumerate(("red", "blue", "white"))]
    for alone, shared in zip(map(draw, some), draw_many(some), strict=True):
        assert largest_difference(alone.image, shared.image) <= ONE_LSB


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="oneDNN replaces MKL, and here is none")
def test_the_shared_passs_linear_layers_are_linear_and_leave_gradients_alone() -> None:
    layer, bare = torch.nn.Linear(640, 160), torch.nn.Linear(640, 160, bias=False)
    x = torch.randn(2, 5, 640, generator=torch.Generator().manual_seed(38))
    with quick(), torch.profiler.profile() as told, torch.no_grad():
        inside = [layer(x), bare(x)]
    assert any("mkldnn::_linear_pointwise" in event.key for event in told.key_averages())
    for one, other in zip(inside, [layer(x), bare(x)], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    with quick():
        layer(x).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_results_are_independent_of_batch_mates(model: str, tmp_path: Path) -> None:
    some = recipes(model, 5)
    for name, lines, options in (
        ("five", some, {"size": 5}), ("two", some[::-1], {"size": 2}), ("exact", some, {"size": 5, "exact": True}),
        ("alone", some, {"size": 1}),
    ):  # fmt: skip
        list(run(read(jsonl(lines)), str(tmp_path / name), **options))  # type: ignore[arg-type]
    assert pixels(tmp_path / "exact") == pixels(tmp_path / "alone")
    for recipe in some:
        five, two, alone = (
            np.asarray(Picture.open(tmp_path / name / f"{recipe.key}.png").image, int) for name in ("five", "two", "alone")
        )
        assert abs(five - alone).max() <= ONE_LSB and abs(two - alone).max() <= ONE_LSB


def test_every_process_draws_its_share_and_with_exact_the_same_bytes(model: str, tmp_path: Path) -> None:
    lines = read(jsonl(recipes(model, 5)))
    list(run(lines, str(tmp_path / "one"), exact=True))
    drawn = []
    for rank in (1, 0, 2):  # one after another: a late process must still draw its own share, and no other's
        rows = run(lines, str(tmp_path / "three"), exact=True, rank=rank, ranks=3)
        drawn.append([row.key for row in rows if row.status == "drawn"])
    assert [len(share) for share in drawn] == [2, 2, 1] and len({key for share in drawn for key in share}) == 5
    assert pixels(tmp_path / "one") == pixels(tmp_path / "three")


def test_any_fsspec_address(model: str) -> None:
    import fsspec

    lines = read(jsonl(recipes(model, 2)))
    list(run(lines, "memory://studio/out"))
    assert [row.status for row in run(lines, "memory://studio/out")] == ["kept", "kept"]
    rows = table(lines, "memory://studio/out")
    files = fsspec.filesystem("memory").ls("/studio/out", detail=False)
    assert {f"/studio/out/{row['file']}" for row in rows} <= set(files)


def command(model: str, folder: Path, count: int, *options: str) -> list[str]:
    (folder / "recipes.jsonl").write_text(jsonl(recipes(model, count)))
    return [sys.executable, "-m", "chapter38.code.batch", str(folder / "recipes.jsonl"), "-o", str(folder / "out"), *options]


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_and_nothing_delivered_twice(model: str, tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    arguments = command(model, tmp_path / "killed", 8, "--size", "2")
    out = tmp_path / "killed" / "out"
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("receipts/*.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.stem: path.stat().st_mtime_ns for path in out.glob("receipts/*.json")}
    whole = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.png") if path.stem in done}
    assert whole.keys() == {f"{key}.png" for key in done}
    lines = read((tmp_path / "killed" / "recipes.jsonl").read_text())
    rows = list(run(lines, str(out), size=2))
    assert {row.key for row in rows if row.status == "kept"} == set(done)
    assert len(rows) == len({row.key for row in rows}) == 8
    assert all(
        (out / name).stat().st_mtime_ns == when and (out / name).read_bytes() == data for name, (when, data) in whole.items()
    )
    assert len(pixels(out)) == 8 and all(Picture.open(path).recipe for path in out.glob("*.png"))


@pytest.mark.slow
def test_two_processes_of_accelerate_give_the_same_bytes(model: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = command(model, tmp_path / "one", 4, "--exact")
    subprocess.run(one, check=True, capture_output=True)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    two = command(model, tmp_path / "two", 4, "--exact")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *two[1:]], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("of 4 recipes drawn") == 1
    assert pixels(tmp_path / "one" / "out") == pixels(tmp_path / "two" / "out")


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch.main([str(tmp_path / "none.jsonl"), "-o", str(tmp_path)]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text("{}\n")
    assert batch.main([str(tmp_path / "bad.jsonl"), "-o", str(tmp_path / "out")]) == 1
    assert "0 of 1 recipes drawn, 1 failed" in capsys.readouterr().out


def test_the_command_names_the_line_that_failed(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipes.jsonl").write_text(jsonl(recipes(model, 1)) + "nonsense\n\nnonsense\n")
    assert batch.main([str(tmp_path / "recipes.jsonl"), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "line 2, 4: not JSON" in said.err and "1 of 3 recipes drawn, 2 failed" in said.out
