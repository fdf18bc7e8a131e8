"""python -m chapter38.train PART: make the weights of the postcards world, part by part, resumable after a kill."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import CLIPTextModel, CLIPTokenizer

from chapter38.postcards import WEIGHTS
from chapter38.train import adapters, assemble, judge, tokenizer, unet, vae
from chapter38.train.loop import Report

app = typer.Typer(add_completion=False, help=__doc__)
Runs = Annotated[Path, typer.Option(help="Where runs keep their state, logs and results.")]
Start = Annotated[Path | None, typer.Option(help="A Diffusers folder to start from instead of random weights.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 1 leaves a small machine usable.")]
SCENES = 24_000


def _watch(name: str, reports: Iterator[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Run a training to its end behind a bar; the last thing it yielded."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    last: tuple[Any, ...] = ()
    with Progress(*columns, TextColumn("{task.fields[note]}")) as bar:
        task = bar.add_task(name, total=None, note="")
        for last in reports:
            report: Report = last[0]
            note = " ".join([f"loss {report.loss:.4f}", *(str(x) for x in last[2:])])
            bar.update(task, completed=report.step, total=report.steps, note=note)
    if not last:
        raise typer.BadParameter(f"the run of {name} is finished; remove its folder to train anew")
    return last


@app.command("tokenizer")
def make_tokenizer(runs: Runs = Path("runs")) -> None:
    """Byte-pair merges from this world's captions (seconds)."""
    print(len(tokenizer.build(runs / "tokenizer")), "tokens")


@app.command("vae")
def make_vae(
    runs: Runs = Path("runs"), start: Start = None, steps: int = 30_000, peak: float = 3e-3, whole: float = 0.3,
    decoder_only: bool = False, threads: Threads = 1,
) -> None:  # fmt: skip
    """The autoencoder (about three hours on one core)."""
    torch.set_num_threads(threads)
    trained = vae.train_vae(runs / "vae", steps, start and start / "vae", peak, whole, decoder_only=decoder_only)
    _watch("vae", trained)[1].save_pretrained(runs / "vae" / "averaged")


@app.command("unet")
def make_unet(
    runs: Runs = Path("runs"), start: Start = None, steps: int = 9_000, peak: float = 2e-3, power: float = 0.6,
    threads: Threads = 1,
) -> None:  # fmt: skip
    """The denoiser with its text encoder, on cached latents of `runs`' autoencoder (about four hours on one core)."""
    torch.set_num_threads(threads)
    data, words = _data(runs)
    averaged = _watch("unet", unet.train_unet(runs / "unet", data, words, steps, start, peak, power))[1]
    for part in ("unet", "text_encoder"):
        averaged[part].save_pretrained(runs / "unet" / "averaged" / part)


@app.command("judge")
def make_judge(runs: Runs = Path("runs"), threads: Threads = 1) -> None:
    """The judge (minutes)."""
    torch.set_num_threads(threads)
    assemble.write_judge(_watch("judge", judge.train_judge(runs / "judge"))[1], runs / "judge")


@app.command("assemble")
def make_folder(
    runs: Runs = Path("runs"), target: Path = WEIGHTS, drawn: int = 512, start: str = "nothing", made: str = "{}",
    threads: Threads = 1,
) -> None:  # fmt: skip
    """Put the parts together in fp16, measure them, write their card. `--start` says what the runs started from."""
    torch.set_num_threads(threads)
    data, words = _data(runs)
    load = lambda kind, path: kind.from_pretrained(runs / path, torch_dtype=torch.float32)  # noqa: E731
    autoencoder, denoiser = load(AutoencoderKL, "vae/averaged"), load(UNet2DConditionModel, "unet/averaged/unet")
    text = load(CLIPTextModel, "unet/averaged/text_encoder")
    folder = runs / "postcards"
    assemble.write_pipeline(autoencoder, denoiser, text, words, data.mean, data.std, folder)
    (folder / "judge.safetensors").write_bytes((runs / "judge" / "judge.safetensors").read_bytes())
    steps = {part: _steps(runs / part) for part in ("vae", "unet", "judge")}
    hardware = f"CPU, {threads} thread{'s' * (threads > 1)}"
    notes = {"started from": start, "steps": json.dumps(steps), "hardware": hardware, **json.loads(made)}
    measured = assemble.describe(folder, notes, drawn)
    print("\n".join(f"{of}: {what}: {value}" for (of, what), value in measured.right.items()), measured.distance, sep="\n")
    print("short of the targets:", measured.short_of() or "none")
    assemble.install(folder, target)


@app.command("lora")
def make_loras(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all of them if none is named.")] = None, threads: Threads = 1
) -> None:
    """The LoRAs that ship, on the weights that ship (about five minutes each on one core)."""
    torch.set_num_threads(threads)
    adapters.make_loras(names)


@app.command("controlnet")
def make_controlnet(
    runs: Runs = Path("runs"), start: Start = None, steps: int = 3_000, scenes: int = 6_000, threads: Threads = 1
) -> None:
    """The edges ControlNet, on the weights that ship (about an hour on one core)."""
    torch.set_num_threads(threads)
    adapters.make_controlnet(runs, steps, scenes, start)


@app.command("all")
def make_all(runs: Runs = Path("runs"), threads: Threads = 1) -> None:
    """Everything from nothing, in order."""
    make_tokenizer(runs)
    make_judge(runs, threads)
    make_vae(runs, threads=threads)
    make_unet(runs, threads=threads)
    make_folder(runs, threads=threads)
    adapters.make_all(runs)


def _data(runs: Path) -> tuple[unet.Latents, CLIPTokenizer]:
    words = CLIPTokenizer.from_pretrained(runs / "tokenizer")
    encoder = AutoencoderKL.from_pretrained(runs / "vae" / "averaged", torch_dtype=torch.float32)
    return unet.cache(encoder, words, 1000, SCENES, runs / "latents.pt"), words


def _steps(run: Path) -> int:
    last = (run / "log.jsonl").read_text("utf-8").splitlines()[-1]
    return int(json.loads(last)["step"])


if __name__ == "__main__":
    app()
