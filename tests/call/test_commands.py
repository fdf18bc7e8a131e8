"""price, advise and serve as a shell sees them."""

import json

import pytest
from typer.testing import CliRunner

from chapter38.cli import app

DAY = ["--as-of", "2026-11-24"]


def run(*words, input=None):
    return CliRunner().invoke(app, [*words], input=input)


def test_price_lists_every_provider_with_date_and_source():
    said = json.loads(run("price", "--model", "flux-schnell", "--per-month", "100000", *DAY, "--json").stdout)
    assert {q["provider"] for q in said["quotes"]} >= {"replicate", "fal", "together"}
    assert all(q["as_of"] and q["source"] for q in said["quotes"] if q["usd"])
    replicate = next(q for q in said["quotes"] if q["provider"] == "replicate")
    assert (replicate["usd"], replicate["usd_month"]) == ("0.003", "300")
    assert float(said["break_even"]["pictures"]) > 0
    plain = run("price", *DAY)
    assert "renting a RTX 4090 pays from" in plain.stdout and "stale" in plain.stderr


def test_an_earlier_day_knows_less_and_unknown_is_said():
    said = json.loads(run("price", "--as-of", "2021-01-01", "--json").stdout)
    assert said["quotes"][0]["usd"] is None and said["break_even"] is None
    assert "no dated price of flux-schnell at 1024x1024" in said["break_even_unknown"]


@pytest.mark.parametrize("command", ["price", "advise"])
def test_a_model_or_card_that_is_not_known_is_an_error_and_one_without_a_timing_is_not(command, monkeypatch, capsys):
    from chapter38.cli import main

    for words, known in ((["--model", "foo"], "flux-schnell"), (["--gpu", "h200x"], "H200")):
        monkeypatch.setattr("sys.argv", ["chapter38", command, *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.count("\n") == 1
        assert f"{words[1]!r}; expected one of: " in said and known in said
    untimed = run(command, "--gpu", "H100", *DAY)
    assert untimed.exit_code == 0
    assert "break-even unknown: no timing of flux-schnell on H100; timed cards: RTX 4090" in untimed.stdout
    unpriced = run(command, "--model", "sd15", "--gpu", "T4", *DAY).stdout
    assert "no dated price of an hour of T4; priced cards: A10, " in unpriced and "price of sd15" in unpriced
    assert "break-even unknown" not in run(command, *DAY).stdout


def test_price_of_a_workflow(tmp_path):
    file = tmp_path / "flux.json"
    file.write_text(json.dumps({"1": {"class_type": "FluxProUltraImageNode", "inputs": {"prompt": "x"}}}))
    assert json.loads(run("price", "--workflow", str(file), *DAY, "--json").stdout)["quotes"][0]["usd"] == "0.06"
    for option in (["--model", "sdxl"], ["--variant", "high"], ["--stable"]):
        refused = run("price", "--workflow", str(file), *option)
        assert refused.exit_code == 2 and option[0] in refused.output and "leave it out" in refused.output


def test_price_of_a_picture_is_that_of_what_drew_it(tmp_path):
    from PIL import Image

    from chapter38 import Picture, Recipe
    from chapter38.errors import Chapter38Error

    recipe = Recipe(prompt="a boat", model="flux-schnell", width=1024, height=1024, steps=4)
    (tmp_path / "recipe.json").write_text(recipe.json())
    Picture(Image.new("RGB", (1024, 1024)), recipe).save(tmp_path / "a.png")
    for name in ("recipe.json", "a.png"):
        said = json.loads(run("price", "--workflow", str(tmp_path / name), *DAY, "--json").stdout)
        assert float(said["quotes"][0]["usd"]) > 0
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    (tmp_path / "bytes.json").write_bytes(b"\x89PNG\xff")
    for name in ("bare.png", "bytes.json"):
        assert isinstance(run("price", "--workflow", str(tmp_path / name)).exception, Chapter38Error)


def test_advise_from_flags_and_from_answers():
    said = json.loads(run("advise", "--adapters", "--control", "controlnet", *DAY, "--json").stdout)
    assert said["rung"] == "canvas" and [r["need"] for r in said["reasons"]] == ["adapters", "control:controlnet"]
    assert "nothing forces a step down" in run("advise", *DAY).stdout
    answers = "\n".join(["5000", "no", "no", "yes", "no", "", "", "", "yes", "0", "flux-schnell", "", "RTX 4090", "none"])
    asked = run("advise", "--ask", *DAY, input=answers + "\n")
    assert "residency leaves Canvas" in asked.stdout and "nobody runs it" in asked.stdout


def test_a_question_is_asked_in_words_and_again_after_an_answer_that_makes_no_sense():
    said = run("advise", "--ask", *DAY, input="many\n5000\nperhaps\nyes\n" + "\n" * 12)
    asked = " ".join(said.output.split())
    assert asked.count("Pictures billed a month [per_month] (1000)") == 2 == asked.count("The volume is steady (yes or no)")
    assert "per_month: Input should be a valid integer" in asked and "controlnet, multi-stage" in asked
    assert "Call: nothing forces a step down" in asked and said.exit_code == 0


def test_the_break_even_is_that_of_the_variant_and_of_the_steadiness_asked_for():
    def crossing(*words):
        return json.loads(run("price", *words, *DAY, "--json").stdout)["break_even"]

    share = "share of paid hours that a card draws"
    loose, steady = crossing(), crossing("--stable")
    assert loose["assumptions"][share]["mid"] == "0.4" and steady["assumptions"][share]["mid"] == "0.7"
    assert float(steady["never"]) <= float(loose["never"])
    assert f"{share} 0.2 to 0.7, likely 0.4" in run("price", *DAY).stdout
    early = run("price", "--model", "gpt-image-2", "--variant", "low", "--as-of", "2021-01-01").stdout
    assert "no dated price of gpt-image-2 at 1024x1024 in the variant low" in early
    sold = ["--model", "gpt-image-2", *DAY, "--json", "--variant"]
    low, high = (float(json.loads(run("advise", *sold, word).stdout)["costs"]["call"]["mid"]) for word in ("low", "high"))
    assert 0 < low < high


@pytest.mark.parametrize("command", ["price", "advise"])
def test_a_variant_that_nobody_prices_is_an_error(command):
    from chapter38.errors import ModelError

    for words, hint in ((["--variant", "gold"], "without variants"), (["--model", "nano-banana-2", "--variant", "3K"], "0.5K, 1K")):
        refused = run(command, *words, *DAY).exception
        assert isinstance(refused, ModelError) and hint in str(refused)


@pytest.mark.parametrize("command", ["price", "advise"])
def test_a_card_that_the_model_barely_fits_is_said(command):
    small, large = (json.loads(run(command, "--gpu", gpu, *DAY, "--json").stdout)["notes"] for gpu in ("RTX 4090", "H100"))
    assert any("flux-schnell alone is 23.8 GB in bfloat16, and RTX 4090 has 24 GB" in note for note in small)
    assert not any("GB in bfloat16" in note for note in large)


def test_advise_says_what_its_months_rest_on():
    plain = run("advise", "--per-month", "40000", *DAY).stdout
    assert "call   USD 54.53 (one offer) a month: nscale" in plain and "54.53 to" not in plain
    last = plain.splitlines()[-1]
    assert last.startswith("as of 2026-11-24; call: litellm") and "(2026-11-12); card hour: " in last and "(2026-09-25)" in last
    assert "hours of a person a month on Canvas 4 to 16, likely 8" in last and "a person a month on Code 8 to 32" in last
    assert "USD an hour of that person 40 to 110, likely 70" in last and "draws 0.2 to 0.7, likely 0.4" in last
    said = json.loads(run("advise", *DAY, "--json").stdout)
    assert said["as_of"] == "2026-11-24" and list(said["sources"]) == ["call", "card hour", "seconds a picture"]
    assert said["assumptions"]["USD an hour of that person"] == {"low": "40", "mid": "70", "high": "110"}
    steady = json.loads(run("advise", "--stable", *DAY, "--json").stdout)["assumptions"]
    assert steady["share of paid hours that a card draws"]["mid"] == "0.7"
    untimed = json.loads(run("advise", "--gpu", "H100", *DAY, "--json").stdout)
    assert untimed["assumptions"] == {} and list(untimed["sources"]) == ["call", "card hour"]


def test_the_price_of_a_call_is_said_to_be_that_of_the_plain_model():
    def call(*words):
        return next(line for line in run("advise", *words, *DAY).stdout.splitlines() if line.startswith("  call "))

    assert "the plain model" not in call()
    assert call("--adapters").endswith("; the plain model, without your LoRA")
    assert call("--residency").endswith("; the plain model, wherever the provider runs")
    assert call("--adapters", "--residency").endswith("; the plain model, without your LoRA, wherever the provider runs")
    said = json.loads(run("advise", "--adapters", *DAY, "--json").stdout)
    assert said["call_price_is_for"] == "the plain model, without your LoRA"


def test_a_latency_that_forces_nothing_is_answered():
    said = "a p95 of 10 s forces nothing (only below 2 s does), and no provider's p95 is measured here"
    assert f"note: {said}" in run("advise", "--latency", "10", *DAY).stdout
    assert said in json.loads(run("advise", "--latency", "10", *DAY, "--json").stdout)["notes"]
    for words in ([], ["--latency", "1"]):
        assert "forces nothing (only" not in run("advise", *words, *DAY).stdout


def test_the_help_says_what_residency_asks():
    said = CliRunner().invoke(app, ["advise", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).stdout
    words = " ".join(said.replace("│", " ").split())
    assert "Data may not leave your machines" in words and "for EU only, leave it out and ask the provider" in words


@pytest.mark.parametrize("command", ["price", "advise"])
def test_billed_pictures_are_said_to_be_counted(command):
    note = "billed pictures are counted; kept ones are fewer, so each kept one costs more (lesson 38.3b)"
    assert f"note: {note}" in " ".join(run(command, *DAY).output.split())
    assert note in json.loads(run(command, *DAY, "--json").stdout)["notes"]


def test_serve_refuses_an_address_that_others_reach():
    pytest.importorskip("fastapi", reason="the loopback server needs chapter38[call]")
    from chapter38.errors import ProviderError

    refused = run("serve", "--host", "0.0.0.0")
    assert isinstance(refused.exception, ProviderError) and "--allow-remote" in str(refused.exception)
