"""What the README and the site's home show: eight postcards and one being drawn, all by the bundled model.

    python -m tools.hero      draws book/images/hero.png anew (`make picture`)
"""

import html
import textwrap
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from chapter38 import Picture, Recipe
from chapter38.code import Parts, denoise, draw_many, load
from chapter38.code.parts import images
from chapter38.show import slider
from chapter38.show.figures import data_uri
from tools.notebooks import ROOT

HERO = ROOT / "book/images/hero.png"
PROMPTS = (
    "a small red sailboat on the left, on the sea, at sunset",
    "a big yellow house on the right, in the snow, at night, with stars",
    "a green tree in the middle, on the grass, by day, mountains behind",
    "a white lighthouse on the right, on the sea, at night, with a moon",
    "a pink hot air balloon on the left, in the desert, by day, with clouds",
    "an orange cat in the middle, on the grass, at sunset, hills behind",
    "a blue car on the right, in the desert, at dusk, with a low sun",
    "a purple rocket in the middle, in the snow, by day",
)
SEED = 38


def recipes() -> list[Recipe]:
    return [Recipe(prompt=prompt, seed=SEED) for prompt in PROMPTS]


def postcards(parts: Parts) -> list[Picture]:
    return draw_many(recipes(), parts=parts)


def banner(pictures: list[Picture], columns: int = 4) -> Figure:
    """The pictures in a grid, each with its prompt below."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(columns * 2.3, rows * 2.95), facecolor="white")
    figure.subplots_adjust(left=0.005, right=0.995, top=0.995, bottom=0.1, wspace=0.03, hspace=0.24)
    for axes, picture in zip(figure.subplots(rows, columns).flat, pictures, strict=True):
        axes.imshow(picture.image, interpolation="lanczos")
        axes.axis("off")
        words = textwrap.fill(picture.recipe.prompt, 32)
        axes.text(0.5, -0.04, words, transform=axes.transAxes, ha="center", va="top", fontsize=8)
    return figure


def gallery(pictures: list[Picture]) -> str:
    """The pictures as HTML, each with its prompt as caption and alternative text."""
    figures = []
    for picture in pictures:
        buffer = BytesIO()
        picture.image.save(buffer, "PNG")
        prompt = html.escape(picture.recipe.prompt)
        figures.append(
            f'<figure><img src="{data_uri(buffer.getvalue())}" width="128" height="128" alt="Drawn: {prompt}">'
            f"<figcaption>{prompt}</figcaption></figure>"
        )
    return f'<div class="postcards">{"".join(figures)}</div>'


def being_drawn(parts: Parts) -> str:
    """One picture step by step under a slider: at each step, what the model believes the finished picture to be."""
    recipe = recipes()[0]
    frames: list[Image.Image] = []
    for step in denoise(parts, recipe):
        frames += images(parts.to_pixels(step.x0))
    labels = [f"step {i} of {len(frames)}" for i in range(1, len(frames) + 1)]
    alt = f"The model's guess at the finished picture, step by step, for: {recipe.prompt}"
    return slider(frames, labels, alt, "step of the drawing").html


def home() -> str:
    """The part of the home page that shows the thing at once."""
    parts = load("postcards")
    return (
        f"{gallery(postcards(parts))}\n\nEight prompts, seed {SEED}, drawn while this page was built. And one of them "
        f"being drawn; move the slider:\n\n{being_drawn(parts)}\n"
    )


def main() -> None:
    HERO.parent.mkdir(exist_ok=True)
    banner(postcards(load("postcards"))).savefig(HERO, dpi=100, metadata={"Software": None})
    image = Image.open(HERO).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    image.save(HERO, optimize=True)
    print(Path(HERO).relative_to(ROOT), HERO.stat().st_size // 1024, "kB")


if __name__ == "__main__":
    main()
