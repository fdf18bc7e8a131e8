"""The bundled world: scenes, their captions and pictures, and the judge that reads a scene back out of a picture."""

from pathlib import Path

from chapter38.postcards.dataset import HELD_OUT, SKEWS, judging_scenes, number_of_scenes, training_scenes
from chapter38.postcards.scene import VOCABULARY, Parsed, Scene, SceneError

WEIGHTS = Path(__file__).parent / "weights"  # a plain Diffusers folder
__all__ = [
    "HELD_OUT", "SKEWS", "VOCABULARY", "WEIGHTS", "Parsed", "Scene", "SceneError",
    "judging_scenes", "number_of_scenes", "training_scenes",
]  # fmt: skip
