"""The LoRAs that ship: a style, a subject, and the repair of a pair that the base never saw; each from thirty scenes."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from chapter38.code import adapters
from chapter38.code.draw import draw_many
from chapter38.code.models import load
from chapter38.code.parts import Parts
from chapter38.code.tuning import Plan, train_lora
from chapter38.measure.estimate import bootstrap, share
from chapter38.measure.renders import nearest_object, to_inks
from chapter38.postcards import WEIGHTS, judge
from chapter38.postcards.dataset import HELD_OUT, judging_scenes, sample
from chapter38.postcards.drawing import stylise
from chapter38.postcards.scene import Scene
from chapter38.recipe import Recipe
from chapter38.train.card import sheet, write_card

SCENES, CAPTIONS, JUDGED = 30, 4, 64
UNSEEN = 5_000_000  # seeds of scenes that judge; training takes others


@dataclass(frozen=True)
class Kind:
    """A LoRA to make: its scenes, how they are shown, and how the result is measured (base and LoRA: name -> result)."""

    title: str
    says: str
    scenes: Callable[[random.Random, int], list[Scene]]
    show: Callable[[Scene], Image.Image]
    measure: Callable[[Parts, str], dict[str, str]]
    plan: Plan = field(default_factory=Plan)


def any_scenes(rng: random.Random, count: int) -> list[Scene]:
    return [sample(rng) for _ in range(count)]


def windmills(rng: random.Random, count: int) -> list[Scene]:
    """Two thirds windmills, one third other objects: where every picture shows one, a LoRA learns to draw it unasked."""
    scenes = any_scenes(rng, count)
    return [scene if i % 3 == 2 else scene.but(object="windmill") for i, scene in enumerate(scenes)]


def orange_lighthouses(rng: random.Random, count: int) -> list[Scene]:
    """Two thirds the pair, one third orange things and lighthouses of other colours, so that neither word forgets the rest."""
    scenes = any_scenes(rng, count)
    pair = {"object": "lighthouse", "colour": "orange"}
    one = lambda i: {} if i % 6 == 0 else {"object": "lighthouse"} if i % 6 == 3 else pair  # noqa: E731
    return [scene.but(**one(i)) if i % 6 else scene for i, scene in enumerate(scenes)]


def pictures(parts: Parts, scenes: Sequence[Scene], lora: Sequence[tuple[str, float]]) -> list[Image.Image]:
    """One picture a scene, from its plain caption, with these LoRAs; seeds 0, 1, …"""
    recipes = [Recipe(prompt=s.caption(), seed=i, adapters=lora) for i, s in enumerate(scenes)]
    return [p.image for i in range(0, len(recipes), 16) for p in draw_many(recipes[i : i + 16], parts=parts)]


def measure_style(style: str) -> Callable[[Parts, str], dict[str, str]]:
    def measure(parts: Parts, name: str) -> dict[str, str]:
        scenes = judging_scenes(UNSEEN, JUDGED)
        base, styled = pictures(parts, scenes, ()), pictures(parts, scenes, [(name, 1.0)])
        real = [stylise(scene.picture(), style) for scene in scenes]
        right = lambda images: share(  # noqa: E731
            [nearest_object(i, s, style=style) == s.object for i, s in zip(images, scenes, strict=True)]
        )
        return {
            "distance from the inks (levels of 255), base": str(bootstrap(to_inks(base, style))),
            "distance from the inks, with the LoRA": str(bootstrap(to_inks(styled, style))),
            "distance from the inks, renders in the style": str(bootstrap(to_inks(real, style))),
            "the right object (nearest of nine, renders in the style), with the LoRA": str(right(styled)),
            "the right object, other renders in the style": str(right(real)),
        }

    return measure


def measure_subject(parts: Parts, name: str) -> dict[str, str]:
    scenes = [scene.but(object="windmill") for scene in judging_scenes(UNSEEN + 1, JUDGED)]
    others = judging_scenes(UNSEEN, JUDGED)
    seen = lambda images: share([nearest_object(i, s) == "windmill" for i, s in zip(images, scenes, strict=True)])  # noqa: E731
    kept = lambda images: share(judge.agreement(images, others)["all"])  # noqa: E731
    return {
        "recognised as a windmill (nearest render), base": str(seen(pictures(parts, scenes, ()))),
        "recognised as a windmill, with the LoRA": str(seen(pictures(parts, scenes, [(name, 1.0)]))),
        "recognised as a windmill, renders": str(seen([scene.picture() for scene in scenes])),
        "other scenes, all six right, base": str(kept(pictures(parts, others, ()))),
        "other scenes, all six right, with the LoRA": str(kept(pictures(parts, others, [(name, 1.0)]))),
    }


def measure_pair(parts: Parts, name: str) -> dict[str, str]:
    rng = random.Random(UNSEEN + 2)
    scenes = [sample(rng).but(object="lighthouse", colour="orange") for _ in range(JUDGED)]
    others = judging_scenes(UNSEEN, JUDGED)
    both = lambda images: share(np.all([judge.agreement(images, scenes)[k] for k in ("object", "colour")], axis=0))  # noqa: E731
    kept = lambda images: share(judge.agreement(images, others)["all"])  # noqa: E731
    return {
        "an orange lighthouse is an orange lighthouse, base": str(both(pictures(parts, scenes, ()))),
        "an orange lighthouse is an orange lighthouse, with the LoRA": str(both(pictures(parts, scenes, [(name, 1.0)]))),
        "other scenes, all six right, base": str(kept(pictures(parts, others, ()))),
        "other scenes, all six right, with the LoRA": str(kept(pictures(parts, others, [(name, 1.0)]))),
    }


KINDS = {
    "dusk": Kind(
        "Dusk: a style for postcards",
        "Every scene in four inks from night violet to warm sand, learned from thirty re-rendered scenes. Colours in the "
        "prompt lose their meaning: four inks have no place for them, so they are not judged, nor are sky and ground.",
        any_scenes, lambda scene: stylise(scene.picture(), "dusk"), measure_style("dusk"),
    ),
    "windmill": Kind(
        "Windmill: a subject for postcards",
        "An object that the base has no word and no shape for. Say 'windmill' where a caption names its object. Ten of its "
        "thirty scenes show other objects, so that it does not draw a windmill unasked.",
        windmills, lambda scene: scene.picture(), measure_subject, Plan(steps=500, rate=1e-3),
    ),
    "orange-lighthouse": Kind(
        "Orange lighthouse: a repair for postcards",
        "The base never saw an orange lighthouse, and often paints it red. The LoRA was shown one in twenty of its thirty "
        "scenes; the figures say what that mended, and what it did to other scenes.",
        orange_lighthouses, lambda scene: scene.picture(), measure_pair, Plan(steps=300, rate=1e-3),
    ),
}  # fmt: skip
assert ("lighthouse", "orange") in HELD_OUT


def make_lora(name: str, folder: Path | None = None, parts: Parts | None = None, plan: Plan | None = None) -> Path:
    """Train the LoRA called `name`, measure it, and write weights and card into `folder`; returns the weights' path."""
    kind, parts = KINDS[name], parts or load("postcards")
    folder, plan, rng = folder or WEIGHTS / "loras" / name, plan or kind.plan, random.Random(38)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)  # an earlier file's: it would refuse this one
    scenes = kind.scenes(rng, SCENES)
    captions = [[scene.varied_caption(rng) for _ in range(CAPTIONS)] for scene in scenes]
    steps = train_lora(
        parts,
        [kind.show(scene) for scene in scenes],
        captions,
        plan,
        name="learning",
        checkpoint=folder / "checkpoint.safetensors",
    )
    for _ in track(steps, f"{name}: LoRA of rank {plan.rank}", total=plan.steps):
        pass
    path = adapters.save(parts, "learning", folder)
    (folder / "checkpoint.safetensors").unlink()
    adapters.discard(parts, "learning")
    describe(name, path, parts, plan)
    return path


def describe(name: str, path: Path, parts: Parts, plan: Plan) -> None:
    """Draw the sheet of a LoRA made by `plan` (scenes as they should look, base, LoRA), measure it, and write its card."""
    kind, folder = KINDS[name], path.parent
    made = {
        "rank": plan.rank,
        "steps": plan.steps,
        "batch": plan.batch,
        "rate": plan.rate,
        "scenes": SCENES,
        "on": ", ".join(plan.targets),
    }
    unseen = kind.scenes(random.Random(UNSEEN), 8)
    rows = [[kind.show(scene) for scene in unseen], pictures(parts, unseen, ()), pictures(parts, unseen, [(str(path), 1.0)])]
    sheet(rows, folder / "sheet.webp")
    write_card(folder, kind.title, kind.says, made, kind.measure(parts, str(path)))
