"""Checks of lesson 38.1f: at how many steps a control speaks, a strength that fades, the sum of several controls."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from chapter38.check.verdict import Verdict, exercise
from chapter38.code import control, load
from chapter38.recipe import Control

ASKED = {"20 steps, 0 to 0.5": 10, "20 steps, 0.25 to 1": 15, "3 steps, 0 to 0.5": 1, "4 steps, 0.9 to 1": 0}
STEPS = 12
WANTED = [1.0] * 4 + [0.5] * 4 + [0.0] * 4


@exercise
def check_asked(answer: Mapping[str, Any]) -> Verdict:
    """At how many steps a ControlNet is asked, for each window."""
    if missing := [name for name in ASKED if name not in answer]:
        return Verdict(False, f"no answer for {missing[0]!r}.")
    if any(answer[name] is ... for name in ASKED):
        return Verdict(None, "put a number where each ... stands, and run this cell again.")
    wrong = {name: answer[name] for name, right in ASKED.items() if answer[name] != right}
    if not wrong:
        return Verdict(True, "a step is counted where it lies inside the window with both of its ends.")
    if wrong.get("20 steps, 0.25 to 1") == 5:
        return Verdict(False, "0.25 is where it starts to speak, and you counted the steps in which it is silent.")
    if wrong.get("3 steps, 0 to 0.5") in (1.5, 2):
        return Verdict(False, "of three steps the second lies across 0.5; put i = 1 and n = 3 into both halves of the rule.")
    if wrong.get("4 steps, 0.9 to 1") == 1:
        return Verdict(False, "the last of four steps goes from 0.75 to 1. Is its beginning inside the window?")
    return Verdict(False, f"not right for {', '.join(wrong)}; write the steps as pieces from i/n to (i+1)/n.")


@exercise
def check_faded(faded: Any) -> Verdict:
    """Controls of one map whose strengths add up to 1, ½ and 0 in the thirds of twelve steps."""
    if isinstance(faded, Control) or not faded or not all(isinstance(each, Control) for each in faded):
        return Verdict(False, "expected a list of controls, such as steered() makes.")
    if len({(each.kind, each.image) for each in faded}) > 1:
        return Verdict(False, "the controls differ in kind or map; their strengths add up only where both are the same.")
    total = [sum(each.strength for each in faded if _speaks(each, i)) for i in range(STEPS)]
    off = [i for i, (mine, wanted) in enumerate(zip(total, WANTED, strict=True)) if abs(mine - wanted) > 1e-6]
    if not off:
        nested = all(each.start == 0 for each in faded)
        gap = " With 20 steps, a step would lie across a third and hear neither; windows that all start at 0 leave no gap."
        return Verdict(True, f"1, then a half, then silence.{'' if nested else gap}")
    first = off[0]
    said = f"in step {first + 1} of {STEPS} the strengths add up to {total[first]:g}, and {WANTED[first]:g} was asked for"
    if total[first] > WANTED[first] and first < 4:
        return Verdict(False, f"{said}: controls whose windows overlap are summed.")
    if first >= 8:
        return Verdict(False, f"{said}: one of them does not end in time.")
    return Verdict(False, f"{said}. List who speaks in each third, and add.")


def _speaks(each: Control, i: int) -> bool:
    return each.start <= i / STEPS and (i + 1) / STEPS <= each.end


@exercise
def check_sum(my_sum: Callable[..., Any]) -> Verdict:
    """The denoiser's prediction with several controls, each at its strength."""
    unet, x, t, words, controls = _kit()
    with torch.no_grad():
        try:
            mine = my_sum(unet, x, t, words, list(controls))
        except RuntimeError as error:  # Diffusers takes bridges without a middle for a T2I-Adapter, whose shapes are others
            if "must match the size" not in str(error):
                raise
            return Verdict(
                False, f"{error}. Was the denoiser handed the bridges without the middle, or the levels in another order?"
            )
        mine = getattr(mine, "sample", mine)
        if not isinstance(mine, torch.Tensor) or mine.shape != x.shape:
            came = tuple(mine.shape) if isinstance(mine, torch.Tensor) else type(mine).__name__
            return Verdict(False, f"expected a prediction of shape {tuple(x.shape)}; got {came}.")
        if not torch.allclose(mine, _predicted(controls), atol=1e-4):
            return Verdict(False, _why(mine, controls))
        try:
            none = my_sum(unet, x, t, words, [])
        except Exception as error:  # the reader's code may raise anything
            return Verdict(False, f"right for two controls; with none at all it raised {type(error).__name__}: {error}")
        if not torch.allclose(getattr(none, "sample", none), _predicted(()), atol=1e-5):
            return Verdict(False, "right for two controls; with none at all it should be what the denoiser says alone.")
    return Verdict(True, "two networks, two maps, two strengths, one sum; and none leaves the base alone.")


Triples = Sequence[tuple[Any, torch.Tensor, float]]


def _why(mine: torch.Tensor, controls: Triples) -> str:
    """Which mistake gives what came out."""
    first, last = controls[0], controls[-1]
    mistakes = {
        "nothing of the controls arrives: are both kinds of residuals handed to the denoiser?": _predicted(()),
        "so it comes out when every strength is taken for 1.": _predicted([(net, hint, 1.0) for net, hint, _ in controls]),
        "so it comes out when only the last control counts; several are added.": _predicted([last]),
        "so it comes out when only the first control counts; several are added.": _predicted([first]),
        "so it comes out when the controls are averaged; they are added.": _predicted(
            [(n, h, s / len(controls)) for n, h, s in controls]
        ),
        "so it comes out when the middle is left out: a ControlNet speaks to the bridges and to the middle.": _predicted(
            controls, middle=False
        ),
        "so it comes out when the bridges are left out: a ControlNet speaks to the bridges and to the middle.": _predicted(
            controls, down=False
        ),
    }
    for why, wrong in mistakes.items():
        if torch.allclose(mine, wrong, atol=1e-4):
            return why
    return f"the prediction differs from the reference by up to {float((mine - _predicted(controls)).abs().max()):.2g}."


@cache
def _kit() -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor, Triples]:
    """Postcards' denoiser on the CPU, two latents of 8×8, words, and two ControlNets whose zeros were filled."""
    unet, random = load("postcards", device="cpu", dtype=torch.float32).denoiser, torch.Generator().manual_seed(38)
    x = torch.randn((2, 4, 8, 8), generator=random)
    words = torch.randn((2, 8, unet.config.cross_attention_dim), generator=random)
    hints = (torch.rand((2, 1, 3, 64, 64), generator=random) > 0.8).float()
    nets = [_filled(control.fresh(unet), random) for _ in hints]
    return unet, x, torch.tensor(500), words, list(zip(nets, hints, (0.7, 1.4), strict=True))


def _filled(net: Any, random: torch.Generator) -> Any:
    """A ControlNet that says something at once: its layers of zeros hold small random numbers."""
    for weight in net.requires_grad_(False).eval().parameters():
        if not weight.any():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=random))
    return net


@torch.no_grad()
def _predicted(controls: Triples, *, down: bool = True, middle: bool = True) -> torch.Tensor:
    """The reference: the denoiser's prediction, with the sum of what the controls say."""
    unet, x, t, words, _ = _kit()
    told = [net(x, t, words, hint, strength, return_dict=False) for net, hint, strength in controls]
    if not told:
        return unet(x, t, words).sample  # type: ignore[no-any-return]
    bridges, centre = [sum(level) for level in zip(*(each[0] for each in told), strict=True)], sum(each[1] for each in told)
    return unet(  # type: ignore[no-any-return]
        x, t, words, down_block_additional_residuals=[level * down for level in bridges],
        mid_block_additional_residual=centre * middle,
    ).sample  # fmt: skip
