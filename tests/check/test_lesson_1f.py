"""The checks of 38.1f reject typical wrong answers, each with a reason that fits, and accept other right ones."""

import re
from typing import Any

import pytest
import torch
from PIL import Image

from chapter38.check import lesson_1f as check
from chapter38.recipe import Control

MAP = Image.new("L", (64, 64))


def control(strength: float = 1.0, image: Image.Image = MAP, **window: float) -> Control:
    return Control(kind="edges", image=image, strength=strength, **window)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"20 steps, 0.25 to 1": 5}, "silent"),
        ({"3 steps, 0 to 0.5": 2}, "lies across"),
        ({"3 steps, 0 to 0.5": 1.5}, "lies across"),
        ({"4 steps, 0.9 to 1": 1}, "beginning inside"),
        ({"20 steps, 0 to 0.5": 11}, "20 steps, 0 to 0.5"),
    ],
)
def test_asked(changes: dict[str, float], hint: str) -> None:
    verdict = check.check_asked({**check.ASKED, **changes})
    assert verdict.right is False and hint in verdict.why


def test_asked_stays_open_while_one_is_missing() -> None:
    assert check.check_asked({**check.ASKED, "4 steps, 0.9 to 1": ...}).right is None
    assert check.check_asked({}).right is False


def test_asked_is_what_the_loop_does() -> None:
    """The numbers of the check are those of the package's own rule."""
    for name, count in check.ASKED.items():
        steps, start, end = (float(part) for part in name.replace(" steps, ", " ").replace(" to ", " ").split())
        calls = _spoken(control(start=start, end=end), int(steps))
        assert calls == count, name


def _spoken(one: Control, steps: int) -> int:
    from chapter38.code import control as package
    from chapter38.code.parts import Parts
    from chapter38.recipe import Recipe

    class Silent:
        embeddings, extra = None, {}

    def net(x: torch.Tensor, *_: Any, **__: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
        return [x], x

    parts = Parts(pipeline=None, controls={"edges": net})
    speak = package.hook(parts, Recipe(prompt="", width=64, height=64, control=[one]))
    return sum(bool(speak(i, steps, torch.zeros(1, 4, 8, 8), torch.tensor(0), Silent())) for i in range(steps))


FADED = {
    "a constant": ([control(1.0)], "adds? up|add up"),
    "overlapping windows": ([control(1.0, end=1 / 3), control(0.5, end=2 / 3)], "overlap"),
    "does not end": ([control(1.0, end=1 / 3), control(0.5, start=1 / 3)], "end in time"),
    "too early an end": ([control(0.5, end=0.6), control(0.5, end=1 / 3)], "third"),
    "one control, no list": (control(), "list of controls"),
    "numbers": ([1, 0.5, 0], "list of controls"),
    "none": ([], "list of controls"),
    "two maps": ([control(0.5, end=2 / 3), control(0.5, Image.new("L", (64, 64), 255), end=1 / 3)], "differ in kind or map"),
}


@pytest.mark.parametrize("name", FADED)
def test_faded(name: str) -> None:
    answer, hint = FADED[name]
    verdict = check.check_faded(answer)
    assert verdict.right is False, verdict
    assert re.search(hint, verdict.why), verdict


@pytest.mark.parametrize(
    "answer",
    [
        (control(0.5, end=2 / 3), control(0.5, end=1 / 3)),
        [control(1.0, end=1 / 3), control(0.5, start=1 / 3, end=2 / 3)],
        [control(0.5, end=1 / 3), control(0.25, end=2 / 3), control(0.25, end=2 / 3), control(0.0)],
    ],
    ids=["nested", "side by side", "many small ones"],
)
def test_faded_accepts_every_right_answer(answer: Any) -> None:
    assert check.check_faded(answer), check.check_faded(answer)


def _sum(unet: Any, x: Any, t: Any, words: Any, controls: Any, **change: Any) -> Any:
    """The solution, with one mistake if `change` names it."""
    down, middle = None, None
    chosen = controls[-1:] if change.get("last") else controls[:1] if change.get("first") else controls
    for net, hint, strength in chosen:
        strength = 1.0 if change.get("deaf") else strength / len(chosen) if change.get("mean") else strength
        more, end = net(x, t, words, hint, strength, return_dict=False)
        down = list(more) if down is None else [a + b for a, b in zip(down, more, strict=True)]
        middle = end if middle is None else middle + end
    if change.get("scaled twice"):
        middle = 2 * middle
    if change.get("silent middle"):
        middle = 0 * middle
    told = {} if change.get("kept") else {"down_block_additional_residuals": down}
    told |= {} if change.get("kept") or change.get("no middle") else {"mid_block_additional_residual": middle}
    if change.get("no bridges"):
        told["down_block_additional_residuals"] = [0 * level for level in down]
    return unet(x, t, words, **told).sample


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        ("last", "only the last"),
        ("first", "only the first"),
        ("deaf", "taken for 1"),
        ("mean", "averaged"),
        ("kept", "nothing of the controls"),
        ("no middle", "without the middle"),
        ("silent middle", "middle is left out"),
        ("no bridges", "bridges are left out"),
        ("scaled twice", "differs from the reference"),
    ],
)
def test_sum(mistake: str, hint: str) -> None:
    def mine(*args: Any) -> Any:
        return _sum(*args, **{mistake: True})

    verdict = check.check_sum(mine)
    assert verdict.right is False and hint in verdict.why, verdict


def test_sum_without_controls() -> None:
    def helpless(unet: Any, x: Any, t: Any, words: Any, controls: Any) -> Any:
        controls[0]
        return _sum(unet, x, t, words, controls)

    def other(unet: Any, x: Any, t: Any, words: Any, controls: Any) -> Any:
        return _sum(unet, x, t, words, controls) if controls else 0 * x

    assert "with none at all it raised IndexError" in check.check_sum(helpless).why
    assert "with none at all it should be" in check.check_sum(other).why
    assert "raised" in check.check_sum(lambda *args: 1 / 0).why
    assert "shape" in check.check_sum(lambda *args: None).why


def test_sum_accepts_another_way() -> None:
    """Diffusers' own sum of several ControlNets; an output object is as good as its tensor."""
    from diffusers import MultiControlNetModel

    def mine(unet: Any, x: Any, t: Any, words: Any, controls: Any) -> Any:
        if not controls:
            return unet(x, t, words)
        nets, hints, strengths = map(list, zip(*controls, strict=True))
        wide = [hint.repeat(len(x), 1, 1, 1) for hint in hints]
        down, middle = MultiControlNetModel(nets)(x, t, words, wide, strengths, return_dict=False)
        return unet(x, t, words, down_block_additional_residuals=down, mid_block_additional_residual=middle)

    assert check.check_sum(mine), check.check_sum(mine)


def test_answers_stay_open() -> None:
    assert check.check_faded(...).right is None and check.check_sum(...).right is None
