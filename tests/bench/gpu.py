"""What a picture costs on this GPU: real models in their full size, random weights, drawn by `draw` with their own defaults.

    python -m tests.bench.gpu                   all five; writes book/bench-gpu.json
    python -m tests.bench.gpu sd15 --rounds 9   one of them

Speed and memory do not depend on what the weights say, so no download is needed; what the pictures show, does.
"""

import argparse
import datetime
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from chapter38.code import draw, registry
from chapter38.code.bench import loop_over_pipeline
from chapter38.code.draw import versions
from chapter38.code.memory import GIB
from chapter38.code.parts import Parts
from chapter38.recipe import Recipe
from tests.bench.bench import seconds
from tests.bench.full_size import BUILDERS, build

TARGET = Path(__file__).resolve().parents[2] / "book" / "bench-gpu.json"


def measure(name: str, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Seconds a picture (words to pixels; median, least, most) and the most memory, after one picture that warms up."""
    torch.cuda.empty_cache()
    parts = Parts(build(name, "cuda", dtype), name)
    torch.cuda.reset_peak_memory_stats()
    recipe = Recipe(model=name, prompt="a", seed=38)
    took = [seconds(lambda: draw(recipe, parts=parts)) for _ in range(rounds + 1)][1:]
    shape = {"steps": recipe.steps, "size": f"{recipe.width}x{recipe.height}", "sampler": recipe.sampler}
    found = {
        "model": name, **shape, "dtype": str(dtype).removeprefix("torch."), "seconds": round(statistics.median(took), 3),
        "low": round(min(took), 3), "high": round(max(took), 3), "rounds": rounds,
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
    }  # fmt: skip
    if name == "sd15":
        found["hand_over_pipeline"] = round(statistics.median(loop_over_pipeline(parts, recipe, 9)), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *BUILDERS], metavar="|".join(BUILDERS))
    parser.add_argument("--rounds", type=int, default=5, help="pictures after the first (default: %(default)s)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no NVIDIA GPU here: nothing to measure")
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "gpu": torch.cuda.get_device_name(), "system": platform.system(),
        "versions": versions() | {"torch": torch.__version__}, "weights": "random, of the real model's full size", "rows": [],
    }  # fmt: skip
    for name in options.names or BUILDERS:
        report["rows"].append(measure(name, getattr(torch, registry()[name]["dtype"]), options.rounds))
        print(json.dumps(report["rows"][-1]), flush=True)
        TARGET.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
