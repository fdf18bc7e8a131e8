"""What a run of a lesson draws with, how exact its claims may be, and the measurements too long to repeat in it."""

import json
import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from chapter38.code.models import sha256
from chapter38.errors import Chapter38Error, nearest
from chapter38.postcards import WEIGHTS

# Largest difference in 1/255 that two ways of drawing one picture may show. One CPU repeats itself exactly; a GPU's
# sums depend on the batch; half precision on another model rounds more.
TOLERANCE = {"cpu": 0, "cuda": 2, "real": 8}


@dataclass(frozen=True)
class Profile:
    """One run of a lesson.

    model      the registry name, Hub id or folder that everything is drawn with
    name       cpu (postcards), cuda (postcards on a GPU), real (another model)
    tolerance  largest difference in 1/255 that counts as equal
    timing     whether live seconds are printed; they differ from run to run
    """

    model: str
    name: str
    tolerance: int
    timing: bool

    @property
    def exact(self) -> bool:
        """Whether "equal" means bit for bit."""
        return self.tolerance == 0

    def load(self) -> Any:
        """The model's parts: postcards in float32 on every device, another model in what its device likes.

        The pipeline takes the sampler that recipes for this model take, so that both draw the same.
        """
        import torch

        from chapter38.code import load, samplers
        from chapter38.recipe import Recipe

        parts = load(self.model, dtype=None if self.name == "real" else torch.float32)
        if self.name == "real":
            usual = Recipe(prompt="", model=self.model)
            parts.pipeline.scheduler = samplers.scheduler(usual.sampler, usual.spacing, parts.scheduler.config, usual.steps)
        return parts

    def __str__(self) -> str:
        equal = "bit for bit" if self.exact else f"to {self.tolerance}/255"
        return f"model {self.model} · profile {self.name} · equal means {equal}"


def profile(model: str = "postcards") -> Profile:
    """The profile of this run. CHAPTER38_MODEL, CHAPTER38_PROFILE and CHAPTER38_TIMING win over what the lesson says.

    Raises Chapter38Error for a profile that does not exist.
    """
    model = os.environ.get("CHAPTER38_MODEL", model)
    name = os.environ.get("CHAPTER38_PROFILE") or ("real" if model != "postcards" else _device())
    if name not in TOLERANCE:
        raise Chapter38Error(f"unknown profile {name!r} in CHAPTER38_PROFILE; {nearest(name, TOLERANCE)}")
    timing = os.environ.get("CHAPTER38_TIMING", "1" if "google.colab" in sys.modules else "0") == "1"
    return Profile(model, name, TOLERANCE[name], timing)


def sweep(lesson: str) -> dict[str, Any]:
    """The long measurements of a lesson, made once by `notebooks/sweeps.py`: date, machine and values.

    "weights" says whether they were made with the weights that are here: "these weights" or "earlier weights".

    Raises Chapter38Error for a lesson that has none.
    """
    file = files("chapter38.show") / "sweeps" / f"{lesson}.json"
    if not file.is_file():
        raise Chapter38Error(f"no sweep of {lesson!r}; notebooks/sweeps.py makes them")
    values: dict[str, Any] = json.loads(file.read_text("utf-8"))
    here = sha256(WEIGHTS / "unet/diffusion_pytorch_model.safetensors")
    return {**values, "weights": "these weights" if here.startswith(values["unet"]) else "earlier weights"}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
