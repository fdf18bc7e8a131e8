"""Figures, grids of pictures and tables as one thing: HTML with alt text and caption, and the same in words as text."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from chapter38.canvas.graph import Graph

# Okabe & Ito's eight colours, told apart by colour-blind eyes; black last. With MARKERS they survive greyscale too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 100


@dataclass(frozen=True)
class Shown:
    """What a cell shows: `html` where it can be rendered, `text` (the same in words) where it cannot."""

    html: str
    text: str

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def graph(workflow: "Graph") -> Shown:
    """A workflow, large enough to read: where the page is narrower, it scrolls sideways, by the arrow keys too."""
    from chapter38.canvas.draw import describe, svg

    frame = '<div class="workflow" role="region" aria-label="the workflow as a picture" tabindex="0" style="overflow-x:auto">'
    return Shown(f"{frame}{svg(workflow, 0.6)}</div>", f"[graph: {describe(workflow)}]")


def axes(xlabel: str, ylabel: str, title: str, *, width: float = 6.4, height: float = 3.8) -> tuple[Any, Any]:
    """(figure, axes) with a finding for a title and units on the labels; sizes in inches."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    ax = fig.subplots()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc="left", fontsize=11, wrap=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    return fig, ax


def figure(fig: Any, alt: str, caption: str = "", *, sharp: float = 2.0, quality: int | None = None) -> Shown:
    """A matplotlib figure as an opaque PNG of `sharp` dots a pixel, or as WebP of a quality; `alt` says what it shows."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=sharp * DPI, facecolor="white", metadata={"Software": None})
    width, height = (round(inches * DPI) for inches in fig.get_size_inches())
    if quality is None:
        return _framed(data_uri(buffer.getvalue()), width, height, alt, caption)
    webp = io.BytesIO()
    Image.open(buffer).convert("RGB").save(webp, "WEBP", quality=quality, method=6)
    return _framed(data_uri(webp.getvalue(), "webp"), width, height, alt, caption)


def pictures(
    images: Sequence[Image.Image], labels: Sequence[str], alt: str, caption: str = "",
    *, columns: int = 5, side: int = 128, quality: int | None = None,
) -> Shown:  # fmt: skip
    """A grid of pictures, each `side` pixels wide with its label above it; small ones are enlarged without blurring.

    `quality` (1 … 100): as WebP instead of PNG, a tenth of the size where pictures are noisy.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = 1 + max(label.count("\n") for label in labels)
    fig = Figure(figsize=(columns * side / DPI * 1.08, rows * (side * 1.08 + 20 * lines) / DPI), facecolor="white")
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for i, ax in enumerate(fig.subplots(rows, columns, squeeze=False).flat):
        ax.axis("off")
        if i < len(images):
            ax.imshow(images[i].convert("RGB"), interpolation="nearest" if images[i].width < side else "antialiased")
            ax.set_title(labels[i], fontsize=8, pad=2)
    return figure(fig, alt, caption, sharp=1.5, quality=quality)


def table(rows: Iterable[Mapping[str, Any]], caption: str) -> Shown:
    """Rows (column name -> cell) as a table; the caption states what it shows."""
    rows = [{name: str(cell) for name, cell in row.items()} for row in rows]
    names = list(rows[0])
    head = "".join(f'<th scope="col" style="text-align:left">{html.escape(name)}</th>' for name in names)
    cells = ["".join(f'<td style="text-align:left">{html.escape(row[name])}</td>' for name in names) for row in rows]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    top = f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    spelled = [{name: name for name in names}, *rows]
    lines = ["  ".join(row[name].ljust(widths[name]) for name in names).rstrip() for row in spelled]
    text = "\n".join([caption, *lines])
    return Shown(f"<table>{top}<tbody>{body}</tbody></table>", text)


def data_uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _framed(source: str, width: int, height: int, alt: str, caption: str) -> Shown:
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    image = (
        f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" '
        f'style="background:#fff;max-width:100%;height:auto" src="{source}">'
    )
    return Shown(f'<figure style="margin:0">{image}{below}</figure>', f"[figure: {alt}] {caption}".strip())
