"""The bill as pictures: where the curves cross, and what moves the crossing."""

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from chapter38.call.breakeven import BreakEven

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CALL, RENT, BAND = "#0072b2", "#d55e00", "#999999"  # Okabe and Ito's palette: told apart in grey and by everybody
WORDS = {
    "call_usd": "price of a picture (USD)", "gpu_hour": "GPU hour (USD)", "seconds": "seconds a picture",
    "utilisation": "utilisation of the card", "hours": "hours paid a month", "ops_hours": "hours of a person a month",
    "ops_usd_hour": "an hour of that person (USD)",
}  # fmt: skip


def crossing(found: BreakEven, title: str = "", up_to: int | None = None) -> "Figure":
    """Both months' bills against pictures a month; the break-even and its 90 % interval marked."""
    from matplotlib.figure import Figure

    middle = float(found.pictures or found.rent.capacity)
    top = up_to or 2 * middle
    volumes = np.linspace(0, top, 600)[1:]
    figure = Figure(figsize=(7, 4), facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.plot(volumes, volumes * float(found.call_usd), color=CALL, label="call")
    rent = [float(found.rent.month(Decimal(round(v)))) for v in volumes]
    axes.plot(volumes, rent, color=RENT, linestyle="--", label="rent")
    if found.low is not None:
        axes.axvspan(float(found.low), min(float(found.high or top), top), color=BAND, alpha=0.25, label="90 % interval")
    if found.pictures is not None:
        height = float(found.pictures * found.call_usd)
        axes.plot([middle], [height], "o", color="black")
        axes.annotate(f"{middle:,.0f}", (middle, height), xytext=(8, -14), textcoords="offset points")
    axes.set(xlabel="pictures a month", ylabel="USD a month", title=title or _finding(found), xlim=(0, top), ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend()
    return figure


def tornado(found: BreakEven, title: str = "") -> "Figure":
    """How far each input alone, at its low and its high end, moves the break-even; an end that never pays is an arrow."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.6 * len(found.bars) + 1.4), facecolor="white", layout="constrained")
    axes = figure.subplots()
    middle = float(found.pictures or 0)
    ends = [float(end) for bar in found.bars for end in (bar.at_low, bar.at_high) if end is not None]
    never = max([middle, *ends]) * 1.15
    for place, bar in enumerate(reversed(found.bars)):
        for end, value, colour in ((bar.at_low, bar.estimate.low, CALL), (bar.at_high, bar.estimate.high, RENT)):
            reach = never if end is None else float(end)
            axes.barh(place, reach - middle, left=middle, color=colour, height=0.6, hatch="//" if end is None else None)
            side = "left" if reach >= middle else "right"
            axes.annotate(f" {value:g} " + ("never" if end is None else ""), (reach, place), ha=side, va="center", fontsize=8)
    axes.axvline(middle, color="black", linewidth=1)
    axes.set_yticks(range(len(found.bars)), [WORDS[bar.name] for bar in reversed(found.bars)])
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="break-even, pictures a month", title=title or _mover(found))
    return figure


def _finding(found: BreakEven) -> str:
    if found.pictures is None:
        return "Renting never pays at these prices"
    return f"Renting pays from {found.pictures:,.0f} pictures a month"


def _mover(found: BreakEven) -> str:
    return f"What moves the break-even most: {WORDS[found.bars[0].name]}" if found.bars else "Nothing is uncertain"
