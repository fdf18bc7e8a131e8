"""How well the bundled model does what it is told: the figures of its model card, measured again on this machine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from chapter38.code import draw_many
from chapter38.measure.distance import frechet_unbiased
from chapter38.measure.estimate import Estimate, share
from chapter38.postcards import Scene, judge, judging_scenes
from chapter38.recipe import Recipe, models

BATCH = 32
SEEN_SEED, HELD_OUT_SEED, RENDER_SEED = 5, 6, 7
# What the shipped weights must reach: (set, what) -> share of pictures.
TARGETS: dict[tuple[str, str], float] = {
    ("seen", "object"): 0.99, ("seen", "sky"): 0.99, ("seen", "ground"): 0.99,
    ("seen", "colour"): 0.97, ("seen", "place"): 0.97, ("seen", "size"): 0.97,
    ("seen", "all"): 0.95, ("held out", "all"): 0.92, ("small", "all"): 0.90,
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """`right`: (set, attribute or "all") -> share; sets are seen, held out, small. `distance`: Fréchet to fresh renders."""

    right: dict[tuple[str, str], Estimate]
    distance: Estimate
    pictures: list[Image.Image]
    scenes: list[Scene]

    def short_of(self) -> list[str]:
        """The targets that lie above the whole interval of what was measured; empty where all are met."""
        return [
            f"{of}, {what}: {self.right[of, what]}, expected ≥ {target:.0%}"
            for (of, what), target in TARGETS.items()
            if self.right[of, what].high < target
        ]


def draw_scenes(
    scenes: Sequence[Scene], model: str = "postcards", first_seed: int = 0, on: Callable[[int], object] | None = None
) -> Iterator[Image.Image]:
    """Each scene drawn from its plain caption with the model's own sampler and guidance; `on(n)` after each batch."""
    usual = models()["postcards"]["defaults"]
    recipes = [Recipe(prompt=s.caption(), seed=first_seed + i, **{**usual, "model": model}) for i, s in enumerate(scenes)]
    for i in range(0, len(recipes), BATCH):
        batch = draw_many(recipes[i : i + BATCH])
        yield from (picture.image for picture in batch)
        if on:
            on(len(batch))


def to_draw(seen: int) -> int:
    """How many pictures `measure(seen)` draws."""
    return seen + _unseen(seen)


def _unseen(seen: int) -> int:
    return max(64, seen // 2)


def measure(
    seen: int = 512, model: str = "postcards", on: Callable[[int], object] | None = None, by: judge.Judge | None = None
) -> World:
    """Draw `seen` scenes and half as many of held-out pairs, and judge them. `on(n)` after each n pictures.

    `by`: the judge, where it is not the one that ships.
    """
    scenes = judging_scenes(SEEN_SEED, seen)
    unseen = judging_scenes(HELD_OUT_SEED, _unseen(seen), held_out=True)
    drawn = partial(draw_scenes, model=model, on=on)
    pictures, others = list(drawn(scenes)), list(drawn(unseen, first_seed=10_000))
    agreement = judge.agreement(pictures, scenes, by)
    right = {("seen", name): share(flags) for name, flags in agreement.items()}
    right["held out", "all"] = share(judge.agreement(others, unseen, by)["all"])
    right["small", "all"] = share(agreement["all"][np.array([s.size == "small" for s in scenes])])
    renders = [s.picture() for s in judging_scenes(RENDER_SEED, 4 * seen)]
    distance = frechet_unbiased(judge.features(pictures, by), judge.features(renders, by))
    return World(right, distance, pictures + others, scenes + unseen)


def sheet(pictures: Sequence[Image.Image], columns: int = 8, gap: int = 4) -> Image.Image:
    """A contact sheet: pictures of one size, row by row, on white."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, picture in enumerate(pictures):
        page.paste(picture, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page
