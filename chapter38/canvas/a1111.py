"""The `parameters` text of the AUTOMATIC1111 web UI and its kin (Forge, reForge, SD.Next): into fields, into a Recipe.

The format: prompt, "Negative prompt: …", then one line "Steps: 20, Sampler: Euler a, …" whose values are bare up to the
next comma, or JSON. A value that is JSON may hold further "Model: …" (a ControlNet's): those are not fields.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from chapter38.errors import RecipeError
from chapter38.recipe import Recipe

SAMPLERS = {
    "Euler": "euler", "Euler a": "euler_ancestral", "Heun": "heun", "DPM2": "dpm_2", "LMS": "lms", "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde", "UniPC": "uni_pc", "DDIM": "ddim", "PLMS": "pndm", "LCM": "lcm", "DDPM": "ddpm",
}  # fmt: skip
SPACINGS = {
    "Karras": "karras", "Exponential": "exponential", "Uniform": "normal", "Normal": "normal", "Simple": "simple",
    "SGM Uniform": "sgm_uniform", "DDIM": "ddim_uniform", "Beta": "beta",
}  # fmt: skip
AUTOMATIC = {"dpmpp_2m": "karras", "dpmpp_2m_sde": "exponential", "ddim": "leading", "pndm": "leading"}
SIMILAR = "the recipe has these settings, but draws a similar picture, not the same: noise and word weights differ there"
MAX_FIELDS = 500
LORA = re.compile(r"<lora:([^:<>]{1,200}):(-?[0-9.]{1,20})(?::[^<>]{0,200})?>")
_decoder = json.JSONDecoder()


@dataclass
class Parameters:
    """What a `parameters` text says: both prompts and the fields of its last line, values as text or JSON."""

    prompt: str
    negative: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def software(self) -> str:
        version = str(self.fields.get("Version", ""))
        named = self.fields.get("App")
        name = str(named) if named else "Forge" if re.match(r"f\d|neo|classic", version) else "AUTOMATIC1111 web UI"
        return f"{name} {version}".strip()


def parse(text: str) -> Parameters | None:
    """The text taken apart; None where it is not of this format. Time grows with the text's length only."""
    lines = text.strip().split("\n")
    last = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].lstrip().startswith("Steps:")), None)
    fields = split_fields(lines[last]) if last is not None else {}
    if len(fields) < 3:
        last, fields = None, {}
    above = [line.strip() for line in lines[:last]]
    cut = next((i for i, line in enumerate(above) if line.startswith("Negative prompt:")), len(above))
    negative = "\n".join(above[cut:]).removeprefix("Negative prompt:").strip()
    if not fields and cut == len(above):
        return None
    return Parameters("\n".join(above[:cut]), negative, fields)


def split_fields(line: str) -> dict[str, Any]:
    """`a: 1, b: "x, y: z", c: {…}` -> {"a": "1", "b": "x, y: z", "c": {…}}; the first of two equal names counts."""
    fields: dict[str, Any] = {}
    at = 0
    while at < len(line) and len(fields) < MAX_FIELDS:
        comma = line.find(",", at)
        comma = len(line) if comma < 0 else comma
        colon = line.find(":", at, comma)
        if colon < 0:
            at = comma + 1
            continue
        name, start = line[at:colon].strip(), colon + 1 + (line[colon + 1 : colon + 2] == " ")
        value: Any = line[start:comma].strip()
        if line[start : start + 1] in '"{[':
            try:
                value, end = _decoder.raw_decode(line, start)
                comma = line.find(",", end)
                comma = len(line) if comma < 0 else comma
            except (ValueError, RecursionError):
                pass
        fields.setdefault(name, value)
        at = comma + 1
    return fields


def to_recipe(found: Parameters) -> tuple[Recipe | None, list[str]]:
    """The nearest Recipe, and in words what did not fit. None where not even steps and size can be read."""
    said = found.fields
    warnings: list[str] = []
    sampler, spacing = _sampler(str(said.get("Sampler", "")), str(said.get("Schedule type", "Automatic")), warnings)
    loras = [(name, float(weight)) for name, weight in LORA.findall(found.prompt) if _number(weight)]
    width, _, height = str(said.get("Size", "")).partition("x")
    values: dict[str, Any] = {
        "prompt": LORA.sub("", found.prompt).strip(), "negative": found.negative, "prompt_syntax": "weighted",
        "steps": said.get("Steps"), "guidance": said.get("CFG scale"), "seed": said.get("Seed"), "sampler": sampler,
        "spacing": spacing, "width": width or None, "height": height or None, "adapters": loras or None,
        "model": said.get("Model") or said.get("Model hash"), "vae": said.get("VAE"),
    }  # fmt: skip
    if _number(said.get("Clip skip")):
        values["clip_skip"] = max(0, int(float(said["Clip skip"])) - 1)
    if _number(said.get("Hires upscale")):
        values["hires"] = {"scale": float(said["Hires upscale"]), "steps": int(float(said.get("Hires steps", 0))) or None,
                           "strength": float(said.get("Denoising strength", 0.5))}  # fmt: skip
    elif "Denoising strength" in said:
        warnings.append("it was drawn from another picture, which is not in the file")
    warnings += [f"{name} is not part of the recipe" for name in said if name.startswith(("ControlNet", "Refiner"))]
    try:
        return Recipe(**{name: value for name, value in values.items() if value is not None}), [SIMILAR, *warnings]
    except (RecipeError, ValueError, TypeError, OverflowError) as error:
        return None, [*warnings, f"no recipe: {error}"]


def _sampler(name: str, schedule: str, warnings: list[str]) -> tuple[str | None, str | None]:
    """Our names. Before version 1.9 the schedule was the end of the sampler's name."""
    for label in SPACINGS:
        if name.endswith(" " + label):
            name, schedule = name.removesuffix(" " + label), label
    sampler = SAMPLERS.get(name)
    spacing = SPACINGS.get(schedule) or (AUTOMATIC.get(sampler or "", "normal") if schedule == "Automatic" else None)
    for what, word, ours in (("sampler", name, sampler), ("schedule", schedule, spacing)):
        if ours is None:
            warnings.append(f"the {what} {word!r} has no name here; the recipe has the model's default")
    return sampler, spacing


def _number(value: Any) -> bool:
    try:
        return abs(float(value)) < 1e6
    except (TypeError, ValueError):
        return False
