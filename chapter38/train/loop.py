"""The loop that every part shares: a generator of reports, resumable after a kill, the same on every run."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from chapter38.picture import atomic


@dataclass(frozen=True)
class Report:
    """One line of a log: the step just done of `steps`, the mean loss since the last line, seconds in this process."""

    step: int
    steps: int
    loss: float
    seconds: float


def generator(seed: int, step: int) -> torch.Generator:
    """All chance of one step, so that a run continued after a kill draws what the unbroken run would have drawn."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_at: Callable[[int], Tensor],
    rate_at: Callable[[float], float],
    steps: int,
    folder: Path,
    *,
    average: float = 0.998,
    every: int = 50,
    clip: float = 1.0,
) -> Iterator[tuple[Report, nn.Module]]:
    """Yields (report, averaged model) every `every` steps; keeps `state.pt` and `log.jsonl` in `folder`.

    loss_at(step) -> scalar loss; rate_at(share of the run done) -> learning rate; `average`: decay of the
    exponential moving average of the weights, shorter at the start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    averaged = copy.deepcopy(model).eval()
    start = _resume(folder / "state.pt", model, averaged, optimizer)
    parameters: list[Tensor] = list(model.parameters())
    means: list[Tensor] = list(averaged.parameters())
    losses, began = [], time.perf_counter()
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step / steps)
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        with torch.no_grad():
            decay = min(average, (1 + step) / (10 + step))
            torch._foreach_lerp_(means, parameters, 1 - decay)
            for mine, theirs in zip(averaged.buffers(), model.buffers(), strict=True):
                mine.copy_(theirs)
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            report = Report(step + 1, steps, sum(losses) / len(losses), time.perf_counter() - began)
            losses = []
            _keep(folder, model, averaged, optimizer, report)
            yield report, averaged


def warm_up_then_cosine(peak: float, warm: float = 0.02, last: float = 0.02) -> Callable[[float], float]:
    """Rate over the share of the run: linear to `peak` by `warm`, then half a cosine down to `last`·peak."""

    def rate(share: float) -> float:
        fall = 0.5 * (1 + math.cos(math.pi * max(0.0, (share - warm) / (1 - warm))))
        return peak * min(1.0, (share + 1e-3) / (warm + 1e-3)) * (fall * (1 - last) + last)

    return rate


def _resume(path: Path, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _keep(
    folder: Path, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, report: Report
) -> None:
    state = {"model": model.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict()}
    atomic(folder / "state.pt", lambda file: torch.save({**state, "step": report.step}, file))
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(report)) + "\n")
