"""The training scenes: endless, seeded, with stated skews and held-out pairs that lessons measure."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from chapter38.postcards.scene import DETAILS, VOCABULARY, Scene

# One colour per object that the model never sees on it.
HELD_OUT = frozenset({
    ("balloon", "red"), ("house", "blue"), ("tree", "purple"), ("sailboat", "green"),
    ("car", "yellow"), ("lighthouse", "orange"), ("cat", "pink"), ("rocket", "white"),
})  # fmt: skip


@dataclass(frozen=True)
class Skew:
    """Where `given` holds, `then` holds in `share` of the training scenes; the other values share the rest."""

    given: tuple[str, str]
    then: tuple[str, str]
    share: float


SKEWS = (
    Skew(("colour", "red"), ("object", "sailboat"), 0.6),
    Skew(("object", "lighthouse"), ("sky", "night"), 0.7),
    Skew(("ground", "desert"), ("background", "mountains"), 0.7),
    Skew(("sky", "sunset"), ("detail", "sun"), 0.7),
)
_ORDER = ("colour", "object", "sky", "ground", "place", "size", "detail", "background")  # conditions before their effects


def sample(rng: random.Random, *, skewed: bool = False, held_out: bool = False) -> Scene:
    """One scene. `skewed`: with the training set's habits, else uniform; `held_out`: only the held-out pairs, else none."""
    while True:
        values: dict[str, str] = {}
        for name in _ORDER:
            values[name] = _draw(rng, name, values, SKEWS if skewed else ())
        if ((values["object"], values["colour"]) in HELD_OUT) == held_out:
            return Scene(**values, seed=rng.getrandbits(31))


def _draw(rng: random.Random, name: str, values: dict[str, str], skews: tuple[Skew, ...]) -> str:
    choices = DETAILS[values["sky"]] if name == "detail" else VOCABULARY[name]
    for skew in skews:
        if skew.then[0] == name and values.get(skew.given[0]) == skew.given[1]:
            others = [choice for choice in choices if choice != skew.then[1]]
            return skew.then[1] if rng.random() < skew.share else rng.choice(others)
    return rng.choice(choices)


def training_scenes(seed: int) -> Iterator[Scene]:
    """Endless scenes as the model was trained on: skewed, without the held-out pairs."""
    rng = random.Random(seed)
    while True:
        yield sample(rng, skewed=True)


def judging_scenes(seed: int, count: int, *, held_out: bool = False) -> list[Scene]:
    """`count` scenes without skews, for judging; seeds below 2³¹ never meet a training scene by more than chance."""
    rng = random.Random(seed)
    return [sample(rng, held_out=held_out) for _ in range(count)]


def number_of_scenes() -> int:
    """How many different scenes the words can say (seeds aside), held-out pairs included."""
    free = [name for name in VOCABULARY if name not in ("sky", "detail")]
    skies = sum(len(details) for details in DETAILS.values())
    return skies * len(list(itertools.product(*(VOCABULARY[name] for name in free))))
