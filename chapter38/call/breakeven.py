"""Rent or buy: what a rented card costs a month, where it crosses the API's bill, how sure that is, what moves it."""

import random
from dataclasses import dataclass, fields, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from chapter38.call.prices import Range

MONTH_HOURS = Decimal(730)  # 8760 hours a year / 12


@dataclass(frozen=True)
class Rent:
    """A rented card that draws. Utilisation is the share of paid hours that it draws; the rest is idle, and paid.

    gpu_hour      USD an hour                        seconds       a picture
    utilisation   0 … 1                              hours         paid a month (730: always on)
    ops_hours     of a person a month                ops_usd_hour  USD an hour of that person
    """

    gpu_hour: Decimal
    seconds: Decimal
    utilisation: Decimal = Decimal(1)
    hours: Decimal = MONTH_HOURS
    ops_hours: Decimal = Decimal(0)
    ops_usd_hour: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, Decimal(str(getattr(self, field.name))))
        if self.seconds <= 0 or not 0 < self.utilisation <= 1 or self.hours <= 0:
            raise ValueError("expected seconds > 0, hours > 0 and utilisation above 0 and at most 1")
        if min(self.gpu_hour, self.ops_hours, self.ops_usd_hour) < 0:
            raise ValueError("expected prices and hours of 0 or more")

    @property
    def capacity(self) -> Decimal:
        """Pictures one card can draw a month."""
        return self.hours * 3600 * self.utilisation / self.seconds

    @property
    def ops(self) -> Decimal:
        """USD a month for the people, however many cards there are."""
        return self.ops_hours * self.ops_usd_hour

    def cards(self, pictures: Decimal | int) -> int:
        """Cards needed for so many pictures a month; one at least, for it is rented whether it draws or not."""
        return max(1, int((Decimal(pictures) / self.capacity).to_integral_value(ROUND_CEILING)))

    def month(self, pictures: Decimal | int) -> Decimal:
        """USD a month for so many pictures: a staircase in the number of cards, plus the people."""
        return self.cards(pictures) * self.hours * self.gpu_hour + self.ops

    def per_picture(self, pictures: Decimal | int) -> Decimal:
        """USD a picture at that volume."""
        return self.month(pictures) / Decimal(pictures)


def crossing(call_usd: Decimal, rent: Rent) -> Decimal | None:
    """The smallest monthly volume at which renting costs no more than calling; None where it never does.

    With k cards the rent is flat, F(k) = k*hours*gpu_hour + ops, so it meets call_usd*N at N = F(k)/call_usd; the first
    k whose N lies within what k cards can draw is the crossing.
    """
    gain = call_usd * rent.capacity - rent.hours * rent.gpu_hour  # what a full card saves a month, in USD
    if gain <= 0:
        return None
    cards = max(1, int((rent.ops / gain).to_integral_value(ROUND_CEILING)))
    return (cards * rent.hours * rent.gpu_hour + rent.ops) / call_usd


@dataclass(frozen=True)
class Bar:
    """One input of a tornado: the break-even with that input at its low and its high end, all others at their mid."""

    name: str
    estimate: Range
    at_low: Decimal | None
    at_high: Decimal | None

    @property
    def swing(self) -> Decimal:
        """Pictures a month between the two ends; infinite where one end never breaks even."""
        if self.at_low is None or self.at_high is None:
            return Decimal(0) if self.at_low is self.at_high else Decimal("Infinity")
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True)
class BreakEven:
    """Where renting starts to pay: pictures a month, a 90 % interval from the spread of the inputs, and the tornado.

    `never` is the share of the draws in which renting never pays; `high` is None where that share reaches 5 %.
    """

    pictures: Decimal | None
    low: Decimal | None
    high: Decimal | None
    never: float
    bars: tuple[Bar, ...]
    call_usd: Decimal
    rent: Rent


def break_even(call_usd: Any, gpu_hour: Any, seconds: Any, *, draws: int = 4000, seed: int = 38, **rent: Any) -> BreakEven:
    """The break-even of calling (USD a picture) against renting (the fields of `Rent`).

    Each input is a number, a (low, mid, high), or a Range. The interval is the middle 90 % of seeded draws from
    triangular distributions, the inputs taken as independent: a statement about the spread you put in, no more.
    """
    inputs = {name: Range.of(value) for name, value in
              {"call_usd": call_usd, "gpu_hour": gpu_hour, "seconds": seconds, **rent}.items()}  # fmt: skip
    mids = {name: estimate.mid for name, estimate in inputs.items()}
    base = Rent(**{name: value for name, value in mids.items() if name != "call_usd"})

    def at(**changed: Decimal) -> Decimal | None:
        call = changed.pop("call_usd", mids["call_usd"])
        return crossing(call, replace(base, **changed))

    uncertain = {name: e for name, e in inputs.items() if e.low < e.high}
    bars = [Bar(name, e, at(**{name: e.low}), at(**{name: e.high})) for name, e in uncertain.items()]
    bars.sort(key=lambda bar: bar.swing, reverse=True)
    pictures = at()
    low, high, never = pictures, pictures, float(pictures is None)
    if uncertain:
        dice = random.Random(seed)
        found = [at(**{name: _draw(e, dice) for name, e in uncertain.items()}) for _ in range(draws)]
        hits = sorted(volume for volume in found if volume is not None)
        never = 1 - len(hits) / draws
        low, high = (hits[i] if i < len(hits) else None for i in (round(draws * 0.05), round(draws * 0.95)))
    return BreakEven(pictures, low, high, never, tuple(bars), mids["call_usd"], base)


def _draw(estimate: Range, dice: random.Random) -> Decimal:
    value = dice.triangular(float(estimate.low), float(estimate.high), float(estimate.mid))
    return Decimal(repr(value)).quantize(Decimal("1e-12"))
