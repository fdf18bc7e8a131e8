"""A Scene drawn with Pillow: flat shapes at four times the size, reduced; the same scene gives the same pixels."""

import math
import random
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from chapter38.postcards.scene import Scene

SIDE = 128  # pixels
OVERSAMPLE = 4
Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

RGB: dict[str, Colour] = {
    "red": (216, 58, 52), "blue": (52, 104, 208), "green": (52, 142, 84), "yellow": (250, 206, 60),
    "orange": (240, 128, 40), "purple": (126, 76, 172), "pink": (244, 140, 176), "white": (248, 246, 240),
}  # fmt: skip
SKY: dict[str, tuple[Colour, Colour]] = {  # zenith, horizon
    "day": ((96, 178, 236), (206, 236, 250)),
    "sunset": ((122, 84, 156), (255, 176, 106)),
    "night": ((18, 24, 62), (62, 76, 132)),
}
GROUND: dict[str, dict[str, tuple[Colour, Colour]]] = {  # plain, band
    "grass": {
        "day": ((142, 200, 98), (118, 178, 82)),
        "sunset": ((142, 152, 82), (120, 130, 72)),
        "night": ((58, 96, 82), (46, 80, 70)),
    },
    "sea": {
        "day": ((54, 146, 196), (84, 172, 214)),
        "sunset": ((112, 96, 150), (226, 142, 112)),
        "night": ((28, 52, 104), (48, 78, 136)),
    },
    "desert": {
        "day": ((240, 208, 140), (226, 188, 116)),
        "sunset": ((226, 158, 100), (206, 136, 84)),
        "night": ((128, 108, 112), (108, 90, 98)),
    },
    "snow": {
        "day": ((240, 246, 252), (214, 228, 242)),
        "sunset": ((238, 212, 212), (218, 186, 196)),
        "night": ((164, 178, 214), (142, 156, 198)),
    },
}
DISTANT: dict[str, tuple[Colour, Colour]] = {  # hills, mountains
    "day": ((128, 176, 160), (134, 152, 186)),
    "sunset": ((136, 92, 124), (120, 82, 134)),
    "night": ((40, 54, 92), (48, 58, 104)),
}
SUMMIT: dict[str, Colour] = {"day": (244, 246, 252), "sunset": (252, 214, 196), "night": (170, 180, 214)}
INK, CREAM, WOOD, GLASS, ROOF = (52, 46, 62), (252, 242, 214), (126, 82, 54), (186, 226, 240), (98, 64, 70)
PLACE_X = {"left": 33, "centre": 64, "right": 95}
SCALE = {"small": 0.74, "normal": 1.0, "big": 1.34}
FLYING_Y = {"balloon": {"small": 52, "normal": 66, "big": 82}, "rocket": {"small": 64, "normal": 80, "big": 96}}
STYLES: dict[str, tuple[Colour, ...]] = {  # shadows … lights
    "print": ((44, 24, 40), (142, 58, 62), (226, 132, 84), (250, 222, 170)),
    "chalk": ((34, 52, 48), (62, 104, 92), (150, 188, 160), (246, 244, 226)),
    "dusk": ((24, 18, 58), (92, 50, 122), (214, 104, 140), (255, 206, 150)),
}


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `share` of the way from `a` to `b`."""
    r, g, b_ = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, b_


def shade(colour: Colour, share: float = 0.22) -> Colour:
    return mix(colour, (30, 26, 50), share)


class Pen:
    """Draws in units of the final picture, around an origin and at a scale."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float = 0, y: float = 0, scale: float = 1.0) -> None:
        self.draw, self.x, self.y, self.scale = draw, x, y, scale

    def at(self, x: float, y: float, scale: float = 1.0) -> "Pen":
        return Pen(self.draw, x, y, scale)

    def _place(self, points: Points) -> Points:
        return [((self.x + x * self.scale) * OVERSAMPLE, (self.y + y * self.scale) * OVERSAMPLE) for x, y in points]

    def polygon(self, points: Points, fill: Colour) -> None:
        self.draw.polygon(self._place(points), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def rounded(self, x0: float, y0: float, x1: float, y1: float, radius: float, fill: Colour) -> None:
        self.draw.rounded_rectangle(self._place([(x0, y0), (x1, y1)]), radius * self.scale * OVERSAMPLE, fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self.draw.ellipse(self._place([(x - rx, y - ry), (x + rx, y + ry)]), fill)

    def slice(self, x: float, y: float, rx: float, ry: float, start: float, end: float, fill: Colour) -> None:
        (x0, y0), (x1, y1) = self._place([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.pieslice((x0, y0, x1, y1), start, end, fill)


def sailboat(p: Pen, c: Colour) -> None:
    p.box(-1, -46, 1, -10, WOOD)
    p.polygon([(2, -46), (2, -13), (24, -13)], c)
    p.polygon([(-3, -40), (-3, -13), (-20, -13)], shade(c))
    p.polygon([(-24, -10), (26, -10), (17, 1), (-16, 1)], (142, 90, 58))
    p.polygon([(-24, -10), (26, -10), (24, -7), (-22, -7)], CREAM)


def house(p: Pen, c: Colour) -> None:
    p.box(12, -44, 18, -28, (150, 92, 74))
    p.box(-20, -26, 20, 0, c)
    p.box(8, -26, 20, 0, shade(c, 0.14))
    p.polygon([(-25, -25), (0, -46), (25, -25)], ROOF)
    p.box(-4, -15, 5, 0, INK)
    p.box(-16, -19, -8, -11, CREAM)
    p.box(10, -19, 17, -11, CREAM)


def tree(p: Pen, c: Colour) -> None:
    p.box(-3.5, -20, 3.5, 0, WOOD)
    p.oval(0, -32, 19, 17, c)
    p.oval(-10, -25, 11, 10, c)
    p.oval(10, -25, 11, 10, shade(c, 0.16))
    p.slice(0, -32, 19, 17, -75, 75, shade(c, 0.16))


def balloon(p: Pen, c: Colour) -> None:
    p.polygon([(-13, -26), (13, -26), (4, -11), (-4, -11)], shade(c, 0.3))
    p.oval(0, -36, 22, 21, c)
    p.oval(0, -36, 12, 21, shade(c, 0.22))
    p.oval(0, -36, 5, 21, c)
    p.rounded(-5.5, -9, 5.5, 0, 2, WOOD)


def car(p: Pen, c: Colour) -> None:
    p.polygon([(-15, -15), (-9, -27), (11, -27), (18, -15)], shade(c, 0.15))
    p.polygon([(-11, -15), (-7, -24), (0, -24), (0, -15)], GLASS)
    p.polygon([(3, -15), (3, -24), (9, -24), (14, -15)], GLASS)
    p.rounded(-27, -17, 27, -4, 4, c)
    for x in (-15, 15):
        p.oval(x, -4, 7, 7, INK)
        p.oval(x, -4, 3, 3, CREAM)
    p.oval(25, -12, 2.2, 2.2, CREAM)


def lighthouse(p: Pen, c: Colour) -> None:
    p.polygon([(-8, -46), (8, -46), (12, 0), (-12, 0)], c)
    p.polygon([(3, -46), (8, -46), (12, 0), (4, 0)], shade(c, 0.18))
    band = (196, 202, 214) if c == RGB["white"] else CREAM
    p.polygon([(-9.2, -32), (9.2, -32), (10, -22), (-10, -22)], band)
    p.box(-10, -49, 10, -46, INK)
    p.box(-6, -57, 6, -49, (255, 232, 120))
    p.polygon([(-8, -57), (0, -65), (8, -57)], INK)
    p.box(-3, -9, 3, 0, INK)


def cat(p: Pen, c: Colour) -> None:
    p.slice(17, -10, 13, 13, -70, 130, shade(c, 0.22))  # tail
    p.oval(0, -12, 16, 13, c)
    p.polygon([(-16, -32), (-15, -54), (-3, -42)], c)
    p.polygon([(16, -32), (15, -54), (3, -42)], c)
    p.oval(0, -33, 17, 14, c)
    for x in (-7, 7):
        p.oval(x, -35, 4.4, 5, CREAM)
        p.oval(x, -35, 2.8, 4, INK)
    p.polygon([(-3, -28), (3, -28), (0, -24.5)], (190, 70, 96))
    p.oval(0, -9, 8, 9, mix(c, (255, 255, 255), 0.5))


def rocket(p: Pen, c: Colour) -> None:
    p.polygon([(-7, -8), (7, -8), (0, 7)], (255, 178, 60))
    p.polygon([(-8, -28), (-20, -4), (-8, -8)], ROOF)
    p.polygon([(8, -28), (20, -4), (8, -8)], ROOF)
    p.oval(0, -32, 12, 28, c)
    p.slice(0, -32, 12, 28, -80, 80, shade(c, 0.15))
    p.box(-9, -13, 9, -4, ROOF)
    p.oval(0, -37, 7.4, 7.4, CREAM)
    p.oval(0, -37, 5.2, 5.2, (44, 92, 140))


def windmill(p: Pen, c: Colour) -> None:
    p.polygon([(-7, -34), (7, -34), (12, 0), (-12, 0)], c)
    p.polygon([(2, -34), (7, -34), (12, 0), (4, 0)], shade(c, 0.16))
    p.polygon([(-9, -34), (0, -43), (9, -34)], ROOF)
    p.box(-3.5, -11, 3.5, 0, INK)
    for angle in (35, 125, 215, 305):
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        near, far = (x * 4, -35 + y * 4), (x * 26, -35 + y * 26)
        p.polygon([near, far, (far[0] - y * 8, far[1] + x * 8), (near[0] - y * 5, near[1] + x * 5)], CREAM)
        p.polygon([(near[0] + y, near[1] - x), (far[0] + y, far[1] - x), far, near], WOOD)
    p.oval(0, -35, 2.6, 2.6, INK)


DRAW: dict[str, Callable[[Pen, Colour], None]] = {
    f.__name__: f for f in (sailboat, house, tree, balloon, car, lighthouse, cat, rocket, windmill)
}


@cache
def _sky(kind: str) -> Image.Image:
    zenith, horizon = (np.array(c) for c in SKY[kind])
    height = np.clip(np.linspace(0, SIDE / 88, SIDE * OVERSAMPLE), 0, 1)[:, None]
    column = (zenith * (1 - height) + horizon * height).round().astype(np.uint8)
    return Image.fromarray(np.repeat(column[:, None], SIDE * OVERSAMPLE, 1))


def _stars(p: Pen, r: random.Random) -> None:
    for _ in range(16):
        x, y, q = r.uniform(4, 124), r.uniform(4, 66), r.uniform(1.0, 1.9)
        ring = [(0, -1.9), (0.6, -0.6), (1.9, 0), (0.6, 0.6), (0, 1.9), (-0.6, 0.6), (-1.9, 0), (-0.6, -0.6)]
        p.polygon([(x + dx * q, y + dy * q) for dx, dy in ring], (252, 246, 208))


def _detail(p: Pen, r: random.Random, scene: "Scene", horizon: float) -> None:
    """Sun, moon, stars or clouds, on the side away from the object."""
    sides = {"left": (92, 100), "right": (28, 36), "centre": (24, 104)}
    x: float = r.choice(sides[scene.place])
    y = r.uniform(20, 28)
    zenith, low = SKY[scene.sky]
    if scene.detail == "stars":
        _stars(p, r)
    elif scene.detail == "moon":
        p.oval(x, y, 11, 11, (250, 240, 200))
        p.oval(x + 5, y - 3, 9, 9, mix(zenith, low, (y - 3) / 88))
    elif scene.detail == "sun" and scene.sky == "day":
        p.oval(x, y, 15, 15, mix(mix(zenith, low, y / 88), (255, 240, 170), 0.55))
        p.oval(x, y, 11, 11, (255, 222, 84))
    elif scene.detail == "sun":
        p.oval(x, horizon - 6, 22, 22, mix(low, (255, 226, 130), 0.5))
        p.oval(x, horizon - 6, 17, 17, (255, 224, 116))
    elif scene.detail == "clouds":
        fill = (250, 252, 255) if scene.sky == "day" else (250, 190, 170)
        for middle in (24, 98):
            x = middle + r.uniform(-10, 10)
            y, q = r.uniform(14, 36), r.uniform(0.8, 1.15)
            p.rounded(x - 16 * q, y - 3 * q, x + 16 * q, y + 5 * q, 4 * q, fill)
            p.oval(x - 4 * q, y - 3 * q, 8 * q, 7 * q, fill)
            p.oval(x + 6 * q, y - 2 * q, 6 * q, 5.5 * q, fill)


def _background(p: Pen, r: random.Random, scene: "Scene", horizon: float) -> None:
    hills, mountains = DISTANT[scene.sky]
    if scene.background == "hills":
        x = r.uniform(10, 50)
        p.oval(x, horizon + 6, 44, 22, hills)
        p.oval(x + 60, horizon + 8, 50, 20, shade(hills, 0.12))
    elif scene.background == "mountains":
        ranges = [(10, 34, 28, 38, 34), (52, 76, 34, 44, 38), (94, 118, 28, 38, 34)]
        peaks = [(r.uniform(x0, x1), r.uniform(h0, h1), w) for x0, x1, h0, h1, w in ranges]
        for x, h, w in sorted(peaks, key=lambda peak: -peak[1]):
            p.polygon([(x - w, horizon + 1), (x, horizon - h), (x + w, horizon + 1)], mountains)
            p.polygon([(x, horizon - h), (x + w, horizon + 1), (x + w * 0.15, horizon + 1)], shade(mountains, 0.14))
            y = horizon - h * 0.72
            cap = [(x - w * 0.28, y), (x, horizon - h), (x + w * 0.28, y), (x + 2, y - 2), (x - 3, y + 3)]
            p.polygon(cap, SUMMIT[scene.sky])


def _ground(p: Pen, r: random.Random, scene: "Scene", horizon: float) -> None:
    plain, band = GROUND[scene.ground][scene.sky]
    p.box(0, horizon, SIDE, SIDE + 1, plain)
    if scene.ground == "sea":
        for k in range(9):
            x, y = r.uniform(-6, 118), horizon + 4 + k * 4.6
            p.rounded(x, y, x + r.uniform(14, 26), y + 1.7, 0.8, band)
            x = (x + r.uniform(45, 75)) % 124
            p.rounded(x, y + 1, x + r.uniform(10, 20), y + 2.7, 0.8, band)
        return
    height, phase = {"grass": 2.2, "desert": 4.0, "snow": 3.0}[scene.ground], r.uniform(0, 2 * math.pi)
    crest: Points = [(x, 108 + height * math.sin(x / 19 + phase)) for x in range(0, SIDE + 9, 8)]
    p.polygon([*crest, (SIDE, SIDE + 1), (0, SIDE + 1)], band)
    if scene.ground == "desert":
        x = {"left": 116, "right": 12, "centre": r.choice([12, 116])}[scene.place]
        green = (50, 84, 76) if scene.sky == "night" else (86, 140, 92)
        cactus = p.at(x, 97, 0.8)
        cactus.rounded(-2.6, -22, 2.6, 0, 2.5, green)
        for side, low in ((-1, 0), (1, -3)):
            cactus.rounded(min(side * 5.4, side * 9), -15 + low, max(side * 5.4, side * 9), -7 + low, 1.8, green)
            cactus.box(min(0, side * 8), -10 + low, max(0, side * 8), -7 + low, green)


def _object(p: Pen, r: random.Random, scene: "Scene") -> None:
    scale = SCALE[scene.size] * r.uniform(0.96, 1.04)
    x, y = PLACE_X[scene.place] + r.uniform(-3, 3), 107 + r.uniform(-2, 2)
    if scene.object in FLYING_Y:
        pen = p.at(x, FLYING_Y[scene.object][scene.size] + r.uniform(-4, 4), scale)
    else:
        pen = p.at(x, y, scale)
        island = (150, 134, 120) if scene.sky == "night" else (236, 206, 140)
        if scene.object == "sailboat" and scene.ground != "sea":
            pen.oval(0, 0, 33, 6.5, GROUND["sea"][scene.sky][0])
        elif scene.object != "sailboat" and scene.ground == "sea":
            pen.oval(0, 1, 33, 6.5, island)
        elif scene.object != "sailboat":
            pen.oval(0, 0.5, 24, 3.6, shade(GROUND[scene.ground][scene.sky][0]))
    DRAW[scene.object](pen, RGB[scene.colour])


def render(scene: "Scene") -> Image.Image:
    """The scene as a 128×128 RGB picture; `scene.seed` fixes what the words leave open."""
    r = random.Random(scene.seed)
    image = _sky(scene.sky).copy()
    p = Pen(ImageDraw.Draw(image))
    horizon = 86 + r.uniform(-2, 2)
    _detail(p, r, scene, horizon)
    _background(p, r, scene, horizon)
    _ground(p, r, scene, horizon)
    _object(p, r, scene)
    return image.reduce(OVERSAMPLE)


def stylise(image: Image.Image, style: str) -> Image.Image:
    """The picture in the four inks of a style from STYLES: lightness and brightness pick the ink, steps are softened."""
    inks = np.array(STYLES[style], np.float32)
    tone = (np.asarray(image.convert("L"), np.float32) + np.asarray(image, np.float32).max(-1)) / 2
    level = tone / 255 * (len(inks) - 1)
    lower = np.clip(level.astype(int), 0, len(inks) - 2)
    share = np.clip((level - lower - 0.5) * 4 + 0.5, 0, 1)[..., None]
    return Image.fromarray((inks[lower] * (1 - share) + inks[lower + 1] * share).round().astype(np.uint8))
