"""make bench: every figure that the lessons quote, as ratios measured side by side in one run, into book/bench.json.

Times of one machine do not carry to another; ratios mostly do. The two sides of a ratio take turns, so that whatever else
the machine does falls on both; a row holds the median over the rounds and the smallest and largest.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

TARGET = Path(__file__).resolve().parents[2] / "book" / "bench.json"
PICTURES = 16  # that share a pass


@dataclass(frozen=True)
class Row:
    """`value` is a ratio (unit "x"), seconds ("s") or a rate ("/s"): the median of `rounds`, with the smallest and the largest."""

    name: str
    says: str
    value: float
    low: float
    high: float
    unit: str
    rounds: int


def summary(name: str, says: str, values: list[float], unit: str = "x") -> Row:
    middle = statistics.median(values)
    return Row(name, says, *(round(v, 4) for v in (middle, min(values), max(values))), unit, len(values))


def seconds(work: Callable[[], Any]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def in_turn(name: str, says: str, one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> Row:
    """time(one) / time(other), after one unmeasured round of each."""
    one(), other()
    return summary(name, says, [seconds(one) / seconds(other) for _ in range(rounds)])


def recipes(count: int, **changes: Any) -> list[Any]:
    from chapter38.postcards.dataset import judging_scenes
    from chapter38.recipe import Recipe

    return [Recipe(prompt=scene.caption(), seed=i, **changes) for i, scene in enumerate(judging_scenes(1, count))]


def plain(pipeline: Any, recipe: Any) -> Any:
    """What a reader writes: the pipeline, called once a recipe."""
    import torch

    return pipeline(
        recipe.prompt, num_inference_steps=recipe.steps, guidance_scale=recipe.guidance, width=128, height=128,
        generator=torch.Generator().manual_seed(recipe.seed),
    ).images[0]  # fmt: skip


def drawing(rounds: int) -> Iterator[Row]:
    from chapter38.code import draw, draw_many, load
    from chapter38.code.bench import loop_over_pipeline

    parts = load("postcards")
    pipeline, one, many = parts.put_together(), recipes(1)[0], recipes(PICTURES)
    pipeline.set_progress_bar_config(disable=True)
    alone = [seconds(lambda: draw(one, parts=parts)) for _ in range(rounds + 1)][1:]
    yield summary("seconds_warm", "a picture, model loaded (20 steps)", alone, "s")
    says = "the loop by hand, over Diffusers' pipeline: time"
    yield summary("hand_over_pipeline", says, loop_over_pipeline(parts, one, rounds))
    yield in_turn(
        "plain_over_batch", f"`for r in recipes: pipe(...)` over one pass of {PICTURES}: time",
        lambda: [plain(pipeline, r) for r in many], lambda: draw_many(many, parts=parts), rounds,
    )  # fmt: skip


def adapted(rounds: int) -> Iterator[Row]:
    """A LoRA on attention and convolutions, beside the weights and merged into them, against none."""
    from chapter38.code import adapters, draw, load
    from chapter38.code.tuning import Plan, attach

    plain_parts, beside, merged = (load("postcards") for _ in range(3))
    shipped = adapters.available()
    if shipped:
        name = shipped[0]
    else:
        attach(beside.denoiser, Plan(), "fresh")
        name = str(adapters.save(beside, "fresh", tempfile.mkdtemp()))
        adapters.discard(beside, "fresh")
    recipe = recipes(1)[0]
    with_it = recipe.but(adapters=[(name, 1.0)])
    adapters.merge(merged, [(name, 1.0)])
    none = lambda: draw(recipe, parts=plain_parts)  # noqa: E731
    yield in_turn(
        "lora_over_none", "a LoRA beside the weights, over none: time", lambda: draw(with_it, parts=beside), none, rounds
    )
    yield in_turn(
        "merged_over_none", "a LoRA merged into the weights, over none: time", lambda: draw(with_it, parts=merged), none, rounds
    )


def spaces(rounds: int) -> Iterator[Row]:
    """One denoising step on latents (16x16x4) against one of the same U-Net on pixels (128x128x3)."""
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    from chapter38.code import load

    latent = load("postcards").denoiser
    pixel = UNet2DConditionModel.from_config({**latent.config, "in_channels": 3, "out_channels": 3, "sample_size": 128}).eval()
    words, t = torch.zeros(1, 32, latent.config.cross_attention_dim), torch.tensor([500])

    def step(net: Any, *shape: int) -> Callable[[], Any]:
        x = torch.zeros(1, *shape)
        return lambda: net(x, t, words)

    def flops(work: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    with torch.no_grad():
        on_latents, on_pixels = step(latent, 4, 16, 16), step(pixel, 3, 128, 128)
        yield in_turn(
            "pixels_over_latents", "a denoising step on pixels, over one on latents: time", on_pixels, on_latents, rounds
        )
        yield summary("pixels_over_latents_flops", "the same: operations", [flops(on_pixels) / flops(on_latents)])


def _worker(count: int, start: Any, done: Any) -> None:
    import torch

    torch.set_num_threads(1)
    from chapter38.code import draw_many, load

    parts, many = load("postcards"), recipes(count)
    draw_many(many[:1], parts=parts)
    start.wait()
    draw_many(many, parts=parts)
    done.wait()


def processes(rounds: int) -> Iterator[Row]:
    """The same pictures by one process and by two, each with one thread, loading aside."""

    def wall(count: int) -> float:
        context = multiprocessing.get_context("spawn")
        start, done = context.Barrier(count + 1), context.Barrier(count + 1)
        workers = [context.Process(target=_worker, args=(2 * PICTURES // count, start, done)) for _ in range(count)]
        for worker in workers:
            worker.start()
        start.wait()
        took = seconds(done.wait)
        for worker in workers:
            worker.join()
        return took

    speedups = [wall(1) / wall(2) for _ in range(rounds)]
    yield summary("one_over_two_processes", "one process over two: time for the same pictures", speedups)


def cold(rounds: int) -> Iterator[Row]:
    code = "from chapter38 import Recipe; from chapter38.code import draw; draw(Recipe(prompt='a red boat'))"
    run = lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # noqa: E731
    yield summary("seconds_cold", "from the shell's prompt to a first picture", [seconds(run) for _ in range(rounds)], "s")


def canvas(rounds: int) -> Iterator[Row]:
    """The canvas' runner over the code rung, models loaded; another recipe each time, so that nothing is kept from before."""
    from chapter38.canvas import export, run
    from chapter38.code import draw

    by_run, by_draw = iter(recipes(rounds + 1)), iter(recipes(rounds + 1))
    yield in_turn(
        "run_over_draw", "`run(export(r))` over `draw(r)`: time", lambda: run(export(next(by_run))),
        lambda: draw(next(by_draw)), rounds,
    )  # fmt: skip


def reading(rounds: int) -> Iterator[Row]:
    """Pictures as ComfyUI saves them, the recipe read out of the workflow; and as this package saves them."""
    from PIL import Image

    from chapter38 import Picture
    from chapter38.canvas import export
    from chapter38.canvas.metadata import inspect

    many = recipes(200)
    image = Image.effect_noise((128, 128), 60).convert("RGB")
    theirs = [{"prompt": json.dumps(g.api()), "workflow": json.dumps(g.ui())} for g in map(export, many)]
    with tempfile.TemporaryDirectory() as folder:
        for kind, pictures in (
            ("comfyui", [Picture(image, chunks=chunks) for chunks in theirs]),
            ("ours", [Picture(image, recipe) for recipe in many]),
        ):
            files = [p.save(Path(folder) / f"{kind}{i}.png") for i, p in enumerate(pictures)]
            took = [seconds(lambda files=files: [inspect(file) for file in files]) for _ in range(rounds + 1)][1:]
            yield summary(f"inspected_{kind}", f"pictures inspected, recipe read ({kind})", [len(many) / t for t in took], "/s")


def training(rounds: int) -> Iterator[Row]:
    """A style from thirty pictures, as lesson 38.1e trains it; once."""
    import torch

    from chapter38.code import load, train_lora
    from chapter38.code.tuning import Plan
    from chapter38.postcards.dataset import judging_scenes
    from chapter38.postcards.drawing import stylise

    scenes, plan = judging_scenes(38, 30), Plan(rank=8, alpha=16, steps=180, batch=16, rate=3e-3)
    shown, captions = [stylise(scene.picture(), "chalk") for scene in scenes], [scene.caption() for scene in scenes]
    torch.set_num_threads(2)
    took = seconds(lambda: list(train_lora(load("postcards"), shown, captions, plan)))
    torch.set_num_threads(1)
    says = f"a style LoRA from {len(scenes)} pictures, {plan.steps} steps of {plan.batch}, two threads"
    yield summary("seconds_style", says, [took], "s")


GROUPS: tuple[Callable[[int], Iterator[Row]], ...] = (drawing, adapted, spaces, canvas, reading, training, processes, cold)


def machine() -> dict[str, Any]:
    import psutil

    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    memory = round(psutil.virtual_memory().total / 2**30)
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "memory_gib": memory, "threads": 1}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[group.__name__ for group in GROUPS])
    parser.add_argument("--to", type=Path, default=TARGET)
    options = parser.parse_args()
    import torch

    from chapter38.code.draw import versions

    torch.set_num_threads(1)
    old = json.loads(options.to.read_text("utf-8"))["rows"] if options.to.exists() else []
    rows = {row["name"]: row for row in old}
    for group in GROUPS:
        if group.__name__ in options.only:
            for row in group(options.rounds):
                rows[row.name] = {**asdict(row), "date": datetime.date.today().isoformat()}
                print(f"{row.name:28} {row.value:8.3f} {row.unit}  [{row.low:.3f}, {row.high:.3f}]  {row.says}", flush=True)
    told = {"date": datetime.date.today().isoformat(), "hardware": machine(), "versions": versions(), "rows": list(rows.values())}
    options.to.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
