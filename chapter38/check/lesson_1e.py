"""Checks of lesson 38.1e: what a LoRA trains, a weight baked into a file, two LoRAs in one."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from chapter38.check.verdict import Verdict, exercise
from chapter38.code.lorafile import Lora, Low
from chapter38.code.weightfile import Tensor

LAYERS = {"linear": (160, 96), "conv": (160, 320, 3, 3)}
"""Shapes of two weights as PyTorch keeps them: outputs first."""
RANK = 4


@exercise
def check_counts(answer: Mapping[str, Any]) -> Verdict:
    """How many numbers a LoRA of RANK trains on each of LAYERS."""
    if any(value is ... for value in answer.values()):
        return Verdict(None, "put a number where each ... stands, and run this cell again.")
    right = {name: RANK * (shape[0] + math.prod(shape[1:])) for name, shape in LAYERS.items()}
    wrong = {name: answer.get(name) for name in right if answer.get(name) != right[name]}
    if not wrong:
        return Verdict(True, "A reads all that the layer reads, B writes all that it writes; between them stands the rank.")
    if any(wrong.get(name) == math.prod(LAYERS[name]) for name in wrong):
        return Verdict(False, "that is the whole layer. How many numbers do the two thin factors have?")
    if any(wrong.get(name) == RANK * math.prod(LAYERS[name]) for name in wrong):
        return Verdict(False, "the two factors stand side by side: their sizes are added, not multiplied.")
    outputs, inputs, height, width = LAYERS["conv"]
    if wrong.get("conv") == RANK * (outputs + inputs):
        return Verdict(False, "linear is right, or nearly. The convolution's A reads a window of 3 × 3, not one place.")
    if wrong.get("conv") == RANK * (outputs + inputs) * height * width:
        return Verdict(False, "A has the window; B is a convolution of 1 × 1, so that the product has one window and not two.")
    return Verdict(False, f"not right for {', '.join(wrong)}; write the shapes of A and of B down, then count.")


@exercise
def check_bake(my_bake: Callable[[Lora, float], Any]) -> Verdict:
    """A LoRA that acts at weight 1 as the given one acts at `weight`; tried on ranks and alphas of several kinds."""
    for weight in (0.5, 1.25, -1.0):
        given = _example()
        before = {place: low.delta() for place, low in given.items()}
        baked = my_bake(given, weight)
        if not isinstance(baked, dict) or not all(isinstance(low, Low) for low in baked.values()):
            return Verdict(False, f"expected a dict of Low, as lorafile.load gives it; got {type(baked).__name__}.")
        if set(baked) != set(before):
            return Verdict(False, f"it had {len(before)} modules and now has {len(baked)}: each has to be kept.")
        for place, delta in before.items():
            if (why := _compare(delta, baked[place].delta(), weight)) is not None:
                where = f"{place[1]} (rank {given[place].rank}, alpha {given[place].alpha:g})"
                return Verdict(False, f"weight {weight:g}, {where}: {why}")
    return Verdict(True, "weight, alpha and the size of B are three names of one factor; what counts is the product.")


def _compare(delta: np.ndarray, got: np.ndarray, weight: float) -> str | None:
    """Why `got` is not `weight` times `delta`; None where it is."""
    if got.shape != delta.shape:
        return f"the correction has shape {got.shape} now, the weight has {delta.shape}."
    if np.allclose(got, weight * delta, rtol=1e-3, atol=1e-5):
        return None
    factor = float((got * delta).sum() / (delta**2).sum())
    if not np.allclose(got, factor * delta, rtol=1e-3, atol=1e-5):
        return "the correction is another one now, and not only scaled."
    if math.isclose(factor, 1.0, rel_tol=1e-3):
        return "nothing has changed."
    if math.isclose(factor, weight**2, rel_tol=1e-3):
        return "the weight has gone in twice. The correction is a product of A and B; how often may it be scaled?"
    return f"the correction is {factor:.3g} times what it was. What does alpha / rank make of your factor?"


def _example() -> Lora:
    rng = np.random.default_rng(4)
    made: Lora = {}
    for name, shape, rank, alpha in (("to_q", (6, 5), 2, 3.0), ("to_v", (6, 8), 3, 1.0), ("conv1", (4, 6, 3, 3), 4, 8.0)):
        down, up = rng.normal(size=(rank, *shape[1:])), rng.normal(size=(shape[0], rank, *(1 for _ in shape[2:])))
        made["unet", name] = Low(Tensor.of(down), Tensor.of(up), alpha)
    return made


@exercise
def check_sum(my_sum: Callable[..., Any]) -> Verdict:
    """(A, B) of one LoRA that does what two do: B·A = s1·B1·A1 + s2·B2·A2, with a rank of at most both together."""
    rng = np.random.default_rng(38)
    for r1, r2, s1, s2 in ((3, 3, 1.0, 1.0), (2, 4, 1.0, 1.0), (3, 3, 0.5, -2.0), (1, 4, 0.7, 1.3)):
        A1, B1 = rng.normal(size=(r1, 14)), rng.normal(size=(12, r1))
        A2, B2 = rng.normal(size=(r2, 14)), rng.normal(size=(12, r2))
        A, B = (np.asarray(m, float) for m in my_sum(A1.copy(), B1.copy(), s1, A2.copy(), B2.copy(), s2))
        case = f"ranks {r1} and {r2}, weights {s1:g} and {s2:g}"
        if A.ndim != 2 or B.ndim != 2 or B.shape[1] != A.shape[0] or (B.shape[0], A.shape[1]) != (12, 14):
            return Verdict(False, f"{case}: A {A.shape} and B {B.shape} do not multiply to the layer's (12, 14).")
        first, second, got = B1 @ A1, B2 @ A2, B @ A
        if not np.allclose(got, s1 * first + s2 * second, atol=1e-6):
            return Verdict(
                False, f"{case}: {_why_no_sum(got, first, second, s1, s2, (B1 + B2) @ (A1 + A2) if r1 == r2 else None)}"
            )
        if len(A) > r1 + r2:
            return Verdict(False, f"{case}: the sum is right, but its rank is {len(A)}, where {r1 + r2} is enough.")
    return Verdict(True, "ranks add up when LoRAs are summed; that is what a file of merged LoRAs pays for.")


def _why_no_sum(got: np.ndarray, one: np.ndarray, two: np.ndarray, s1: float, s2: float, mixed: np.ndarray | None) -> str:
    if mixed is not None and np.allclose(got, mixed, atol=1e-6):
        return "(B1 + B2)·(A1 + A2) has four terms; two of them nobody asked for."
    if np.allclose(got, one + two, atol=1e-6):
        return "that is the plain sum: the weights are not in it."
    if np.allclose(got, s1**2 * one + s2**2 * two, atol=1e-6):
        return "each weight has gone in twice: scale A or B, not both."
    if np.allclose(got, one, atol=1e-6) or np.allclose(got, two, atol=1e-6):
        return "one of the two is missing."
    return "B·A is not the weighted sum of the two corrections."
