"""The bill as pictures: where the curves cross, and what moves the crossing."""

from decimal import Decimal
from typing import Any

from chapter38.call.breakeven import BreakEven
from chapter38.show.figures import COLOURS, Shown, axes, figure

CALL, RENT, BAND = COLOURS[0], COLOURS[1], "#999999"
WORDS = {
    "call_usd": "price of a picture, USD", "gpu_hour": "GPU hour, USD", "seconds": "seconds a picture",
    "utilisation": "utilisation of the card", "hours": "hours paid a month", "ops_hours": "hours of a person a month",
    "ops_usd_hour": "an hour of that person, USD",
}  # fmt: skip


def crossing_figure(found: BreakEven, title: str = "", up_to: int | None = None, usd: int | None = None) -> Any:
    """A matplotlib figure of both months' bills; `up_to` pictures and `usd` fix the axes."""
    middle = float(found.pictures or found.rent.capacity)
    top = up_to or round(2 * middle)
    fig, ax = axes("pictures a month", "USD a month", title or _finding(found))
    volumes = [top * i / 400 for i in range(1, 401)]
    ax.plot([0, top], [0, top * float(found.call_usd)], color=CALL, label="call")
    rent = [float(found.rent.month(Decimal(round(volume)))) for volume in volumes]
    ax.plot(volumes, rent, color=RENT, linestyle="--", label="rent")
    if found.low is not None and found.low != found.high:
        ax.axvspan(float(found.low), min(float(found.high or top), top), color=BAND, alpha=0.25, label="90 % interval")
    if found.pictures is not None and middle <= top:
        ax.plot([middle], [middle * float(found.call_usd)], "o", color="black")
    ax.set(xlim=(0, top), ylim=(0, usd))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(loc="upper left")
    return fig


def crossing(found: BreakEven, title: str = "", up_to: int | None = None) -> Shown:
    """Both months' bills against pictures a month, with the break-even and its 90 % interval."""
    low, high = (f"{end:,.0f}" if end else "never" for end in (found.low, found.high))
    alt = f"A straight line for calling, a staircase for renting. {_finding(found)}; 90 % interval {low} to {high}."
    return figure(crossing_figure(found, title, up_to), alt)


def tornado(found: BreakEven, title: str = "") -> Shown:
    """How far each input alone, at its low and its high end, moves the break-even; hatched: an end that never pays."""
    title = title or (f"What moves it most: {WORDS[found.bars[0].name]}" if found.bars else "Nothing is uncertain")
    fig, ax = axes("break-even, pictures a month", "", title, height=0.5 * len(found.bars) + 1.3)
    middle = float(found.pictures or 0)
    never = 1.15 * max([middle, *(float(end) for bar in found.bars for end in (bar.at_low, bar.at_high) if end)])
    for place, bar in enumerate(reversed(found.bars)):
        ends = ((bar.at_low, bar.estimate.low, CALL), (bar.at_high, bar.estimate.high, RENT))
        if not bar.swing:
            words = f" {float(ends[0][1]):.3g} to {float(ends[1][1]):.3g}: no effect"
            ax.annotate(words, (middle, place), va="center", fontsize=8)
            continue
        for end, value, colour in ends:
            reach = never if end is None else float(end)
            ax.barh(place, reach - middle, left=middle, color=colour, height=0.6, hatch="//" if end is None else "")
            words = f" {float(value):.3g} " + ("never " if end is None else "")
            ax.annotate(words, (reach, place), ha="left" if reach > middle else "right", va="center", fontsize=8)
    ax.axvline(middle, color="black", linewidth=1)
    ax.set_yticks(range(len(found.bars)), [WORDS[bar.name] for bar in reversed(found.bars)])
    ax.margins(x=0.15)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    spans = "; ".join(f"{WORDS[b.name]}: {_said(b.at_low)} to {_said(b.at_high)}" for b in found.bars)
    return figure(fig, f"Bars around {middle:,.0f} pictures a month, the longest on top. {spans}.")


def _said(volume: Decimal | None) -> str:
    return "never" if volume is None else f"{volume:,.0f}"


def _finding(found: BreakEven) -> str:
    if found.pictures is None:
        return "Renting never pays at these prices"
    return f"Renting pays from {found.pictures:,.0f} pictures a month"
