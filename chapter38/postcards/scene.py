"""Scene: what a postcard shows. It goes to a caption, to a picture, and back from any caption the grammar can say."""

import random
import re
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from PIL import Image

from chapter38.errors import Chapter38Error, nearest
from chapter38.postcards import drawing

VOCABULARY: dict[str, tuple[str, ...]] = {
    "object": ("sailboat", "house", "tree", "balloon", "car", "lighthouse", "cat", "rocket"),
    "colour": ("red", "blue", "green", "yellow", "orange", "purple", "pink", "white"),
    "sky": ("day", "sunset", "night"),
    "ground": ("grass", "sea", "desert", "snow"),
    "place": ("left", "centre", "right"),
    "size": ("small", "normal", "big"),
    "detail": ("none", "sun", "clouds", "moon", "stars"),
    "background": ("none", "hills", "mountains"),
}
NEW_OBJECTS = ("windmill",)  # drawn for adapters to learn; the base model never sees one with its name
DETAILS = {"day": ("sun", "clouds", "none"), "sunset": ("sun", "clouds", "none"), "night": ("moon", "stars", "none")}

# How captions say each value; the first phrase is the plain one, repeats make a phrase more frequent.
PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "object": {name: (name,) for name in (*VOCABULARY["object"], *NEW_OBJECTS)}
    | {"balloon": ("balloon", "hot air balloon"), "sailboat": ("sailboat", "boat")},
    "colour": {name: (name,) for name in VOCABULARY["colour"]},
    "size": {"small": ("small", "small", "little", "tiny"), "normal": ("",), "big": ("big", "big", "large", "huge")},
    "place": {
        "left": ("on the left", "on the left", "at the left"),
        "centre": ("in the middle", "", "in the centre"),
        "right": ("on the right", "on the right", "at the right"),
    },
    "ground": {
        "grass": ("on the grass", "on the grass", "in a meadow", "in a green field"),
        "sea": ("on the sea", "on the sea", "at sea", "on the water"),
        "desert": ("in the desert", "in the desert", "on the sand"),
        "snow": ("in the snow", "in the snow", "on the snow", "in a snowy place"),
    },
    "sky": {
        "day": ("by day", "on a sunny day", "in the daytime", "under a blue sky"),
        "sunset": ("at sunset", "at sunset", "at dusk", "in the evening light"),
        "night": ("at night", "at night", "in the night", "under a night sky"),
    },
    "detail": {
        "none": ("",),
        "sun": ("with the sun", "with a bright sun", "with a low sun"),
        "clouds": ("with clouds", "with white clouds", "with pink clouds"),
        "moon": ("with a moon", "with the moon"),
        "stars": ("with stars", "under the stars"),
    },
    "background": {
        "none": ("",),
        "hills": ("with hills", "hills behind"),
        "mountains": ("with mountains", "mountains behind"),
    },
}
_OF_ONE_SKY = {  # phrases that only fit one sky
    ("day", "with a low sun"), ("sunset", "with a bright sun"), ("day", "with pink clouds"), ("sunset", "with white clouds"),
}  # fmt: skip
_FILLER = {"a", "an", "the", "of", "in", "on", "at", "with", "by", "under", "behind", "and", "picture", "postcard"}


class SceneError(Chapter38Error, ValueError):
    """A scene names something that this world does not hold."""


@dataclass(frozen=True)
class Scene:
    """One postcard: eight attributes from VOCABULARY, and a seed for what the words leave open.

    >>> Scene("sailboat", "red", sky="sunset", ground="sea", place="left", size="small").caption()
    'a small red sailboat, on the left, on the sea, at sunset'
    """

    object: str = "sailboat"
    colour: str = "red"
    sky: str = "day"
    ground: str = "grass"
    place: str = "centre"
    size: str = "normal"
    detail: str = "none"
    background: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in VOCABULARY.items():
            value = getattr(self, name)
            if value not in known and not (name == "object" and value in NEW_OBJECTS):
                raise SceneError(f"unknown {name} {value!r}; {nearest(str(value), known)}")
        if self.detail not in DETAILS[self.sky]:
            raise SceneError(f"no {self.detail} in the sky of a {self.sky}; expected one of {', '.join(DETAILS[self.sky])}")

    def picture(self) -> Image.Image:
        """The scene as a 128×128 RGB picture, the same for the same scene."""
        return drawing.render(self)

    def caption(self) -> str:
        """The plain caption that states every attribute."""
        said = {name: PHRASES[name][getattr(self, name)][0] for name in PHRASES}
        return _sentence(said, ["place", "ground", "sky", "detail", "background"], ", ")

    def varied_caption(self, rng: random.Random) -> str:
        """One of the many ways to say it: synonyms, other orders, some attributes left unsaid."""
        said = {name: rng.choice(self._phrases(name)) for name in PHRASES}
        chance = {"size": 0.97, "colour": 0.92, "place": 0.85, "ground": 0.88, "sky": 0.88, "detail": 0.6, "background": 0.6}
        said = {name: text if rng.random() < chance.get(name, 1) else "" for name, text in said.items()}
        order = ["place", "ground", "sky", "detail", "background"]
        if rng.random() < 0.35:
            rng.shuffle(order)
        text = _sentence(said, order, ", " if rng.random() < 0.6 else " ")
        frame = rng.random()
        if frame < 0.12:
            return text.split(" ", 1)[1]
        return ("a postcard of " if frame < 0.2 else "a picture of " if frame < 0.24 else "") + text

    def _phrases(self, name: str) -> list[str]:
        return [text for text in PHRASES[name][getattr(self, name)] if (self.sky, text) not in _OF_ONE_SKY]

    def but(self, **changes: Any) -> "Scene":
        """The same scene with some attributes changed."""
        return replace(self, **changes)

    @classmethod
    def parse(cls, text: str) -> "Parsed":
        """Read a caption in any order and with any synonym. Raises nothing: `unknown` holds what was not understood.

        >>> Scene.parse("at dusk, on the water, a tiny red boat").scene.sky
        'sunset'
        >>> Scene.parse("a red sailbot").unknown
        {'sailbot': 'sailboat'}
        """
        rest = " ".join(re.findall(r"[\w']+", text.lower()))
        found: dict[str, Any] = {}
        for phrase, name, value in _GRAMMAR:
            pattern = rf"\b{phrase}\b"
            if name not in found and re.search(pattern, rest):
                found[name] = value
                rest = re.sub(pattern, " ", rest, count=1)
        unknown = {word: _suggest(word) for word in rest.split() if word not in _FILLER and word not in _WORDS}
        if found.get("detail", "none") not in DETAILS[found.get("sky", "day")]:
            skies = [sky for sky, details in DETAILS.items() if found["detail"] in details]
            if "sky" in found:
                unknown[found.pop("detail")] = None
            else:
                found["sky"] = skies[0]
        return Parsed(cls(**found), frozenset(found), unknown)


@dataclass(frozen=True)
class Parsed:
    """What a caption said: the scene (defaults where it was silent), the attributes it stated, and the words
    that this world does not know, each with the nearest that it does (None where nothing is near)."""

    scene: Scene
    stated: frozenset[str]
    unknown: dict[str, str | None]


def _sentence(said: dict[str, str], order: list[str], separator: str) -> str:
    noun = " ".join(filter(None, (said["size"], said["colour"], said["object"])))
    article = "an" if noun[0] in "aeiou" else "a"
    return separator.join([f"{article} {noun}", *(said[name] for name in order if said[name])])


def _suggest(word: str) -> str | None:
    close = get_close_matches(word, sorted(_WORDS - _FILLER), n=1, cutoff=0.7)
    return close[0] if close else None


# Bare words beside the phrases, so that "sunset sea, red boat left" is understood too.
_BARE = {
    "place": {"left": "left", "middle": "centre", "centre": "centre", "center": "centre", "right": "right"},
    "ground": {"grass": "grass", "meadow": "grass", "field": "grass", "sea": "sea", "water": "sea", "ocean": "sea",
               "desert": "desert", "sand": "desert", "snow": "snow", "snowy": "snow"},
    "sky": {"day": "day", "daytime": "day", "sunset": "sunset", "dusk": "sunset", "evening": "sunset", "night": "night"},
    "detail": {"sun": "sun", "clouds": "clouds", "moon": "moon", "stars": "stars"},
    "background": {"hills": "hills", "mountains": "mountains"},
}  # fmt: skip
_SPOKEN = [
    (text, name, value) for name, values in PHRASES.items() for value, texts in values.items() for text in set(texts) if text
]
_GRAMMAR = sorted(_SPOKEN, key=lambda row: (-len(row[0]), row[0])) + [
    (word, name, value) for name, words in _BARE.items() for word, value in words.items()
]
_WORDS = {word for phrase, _, _ in _GRAMMAR for word in phrase.split()} - set(NEW_OBJECTS)
assert {f.name for f in fields(Scene)} == {*VOCABULARY, "seed"}
