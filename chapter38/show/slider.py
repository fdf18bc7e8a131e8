"""Pictures under a slider that needs no kernel: one sprite, one range input, one line of script."""

import html
import io
import json
from collections.abc import Sequence

from PIL import Image

from chapter38.show.figures import Shown, data_uri

_MOVE = (
    "var f=this.closest('figure'),w=f.querySelector('img').width/{n},t=JSON.parse(this.dataset.labels)[this.value];"
    "f.querySelector('img').style.marginLeft=-w*this.value+'px';f.querySelector('output').textContent=t;"
    "this.setAttribute('aria-valuetext',t)"
)


def slider(frames: Sequence[Image.Image], labels: Sequence[str], alt: str, name: str, *, side: int = 256) -> Shown:
    """Frames of one size under a range input called `name`; it starts on the last. Keyboard and screen reader work.

    Without script the last frame stays visible.
    """
    if len(frames) != len(labels) or not frames:
        raise ValueError(f"expected as many labels as frames, got {len(labels)} and {len(frames)}")
    n, (width, height) = len(frames), frames[0].size
    sprite = Image.new("RGB", (n * width, height), "white")
    for i, frame in enumerate(frames):
        sprite.paste(frame.convert("RGB"), (i * width, 0))
    buffer = io.BytesIO()
    sprite.save(buffer, "PNG")
    tall = round(side * height / width)
    image = (
        f'<img alt="{html.escape(alt)}" width="{n * side}" height="{tall}" src="{data_uri(buffer.getvalue())}" style="'
        f'width:{n * side}px;height:{tall}px;max-width:none;margin-left:-{(n - 1) * side}px;background:#fff">'
    )
    said, texts = html.escape(labels[-1]), html.escape(json.dumps(list(labels)))
    control = (
        f'<input type="range" min="0" max="{n - 1}" value="{n - 1}" style="width:100%" '
        f'aria-label="{html.escape(name)}" aria-valuetext="{said}" data-labels="{texts}" '
        f'oninput="{html.escape(_MOVE.format(n=n))}">'
    )
    window = f'<div style="width:{side}px;height:{tall}px;overflow:hidden">{image}</div>'
    below = f"<figcaption><output>{said}</output></figcaption>"
    return Shown(
        f'<figure style="margin:0;width:{side}px">{window}{control}{below}</figure>',
        f"[slider {name}: {alt}] {' | '.join(labels)}",
    )
