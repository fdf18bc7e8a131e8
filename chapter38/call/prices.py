"""The two tables of the bill, prices.csv and hardware.csv: every row has a date and a source, unknown is absent."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from statistics import median
from typing import Any

STALE_AFTER = timedelta(days=90)
METERS = (  # what a provider may count; tokens are priced per million
    "image", "input_image", "megapixel", "step", "second", "text_in", "image_in", "image_out", "text_out",
)  # fmt: skip
FACTS = ("usd_hour", "usd_second", "seconds", "memory_gb")


def day(text: str) -> date:
    """The first day of an ISO date that may stop at the month or the year: "2026-06" -> 2026-06-01."""
    year, month, dom = (*text.split("-"), "1", "1")[:3]
    return date(int(year), int(month), int(dom))


@dataclass(frozen=True)
class PriceRow:
    """One published price: `usd` for `per` units of `meter`; seen on `as_of`; withdrawn on `ends` ("" if not known)."""

    provider: str
    model: str
    variant: str
    meter: str
    usd: Decimal
    per: int
    as_of: str
    ends: str
    source: str

    def warnings(self, on: date) -> list[str]:
        """What a reader should know before trusting this row on that day."""
        name = " ".join(filter(None, (self.provider, self.model, self.variant)))
        notes = []
        if on - day(self.as_of) > STALE_AFTER:
            notes.append(f"stale: {name} is priced as of {self.as_of}, {(on - day(self.as_of)).days} days before {on}")
        if self.ends and on >= day(self.ends):
            notes.append(f"withdrawn: {name} ended on {self.ends}")
        elif self.ends and day(self.ends) - on <= STALE_AFTER:
            notes.append(f"ending: {name} is withdrawn on {self.ends}")
        return notes


@dataclass(frozen=True)
class HardwareRow:
    """One fact of a GPU.

    usd_hour     USD an hour, rented from `of`            memory_gb   GB
    usd_second   USD a second of drawing, at provider `of` (setup and idle not billed)
    seconds      seconds a picture of model `of` at `steps` and `size` (WxH pixels)
    """

    gpu: str
    fact: str
    of: str
    value: Decimal
    steps: int | None
    size: str
    detail: str
    as_of: str
    source: str


@dataclass(frozen=True)
class Range:
    """A quantity that is not known exactly: low, likeliest, high, and where the three come from."""

    low: Decimal
    mid: Decimal
    high: Decimal
    source: str = "a stated assumption"

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.mid <= self.high:
            raise ValueError(f"expected 0 <= low <= mid <= high, got {self.low}, {self.mid}, {self.high}")

    @classmethod
    def of(cls, value: "Range | Decimal | int | str | tuple[object, object, object]") -> "Range":
        """A number (known exactly), a (low, mid, high), or a Range. Floats are read by their decimal digits."""
        if isinstance(value, Range):
            return value
        parts = value if isinstance(value, tuple) else (value, value, value)
        low, mid, high = (Decimal(str(part)) for part in parts)
        return cls(low, mid, high)

    @classmethod
    def spread(cls, rows: Iterable[HardwareRow]) -> "Range | None":
        """Smallest, median and largest value of these rows; None where there are none."""
        rows = list(rows)
        if not rows:
            return None
        values = [row.value for row in rows]
        sources = sorted({f"{row.source} ({row.as_of})" for row in rows})
        return cls(min(values), median(values), max(values), "; ".join(sources))


@cache
def all_prices() -> tuple[PriceRow, ...]:
    """Every row of prices.csv."""
    return tuple(PriceRow(**{**row, "usd": Decimal(row["usd"]), "per": int(row["per"])}) for row in _rows("prices.csv"))


@cache
def all_hardware() -> tuple[HardwareRow, ...]:
    """Every row of hardware.csv."""
    return tuple(
        HardwareRow(**{**row, "value": Decimal(row["value"]), "steps": int(row["steps"]) if row["steps"] else None})
        for row in _rows("hardware.csv")
    )


def known_prices(model: str, as_of: date, provider: str | None = None) -> list[PriceRow]:
    """What was known on that day of the prices of `model`: of each price the newest row, the future left out."""
    newest: dict[tuple[str, ...], PriceRow] = {}
    for row in sorted(all_prices(), key=lambda row: day(row.as_of)):
        if row.model == model and provider in (None, row.provider) and day(row.as_of) <= as_of:
            newest[row.provider, row.variant, row.meter] = row
    return sorted(newest.values(), key=lambda row: (row.provider, row.variant, row.meter))


def known_hardware(fact: str, as_of: date, *, gpu: str | None = None, of: str | None = None) -> list[HardwareRow]:
    """What was known on that day: rows of one fact, for one GPU or vendor or model where named."""
    return [
        row
        for row in all_hardware()
        if row.fact == fact and gpu in (None, row.gpu) and of in (None, row.of) and day(row.as_of) <= as_of
    ]


def _rows(name: str) -> list[dict[str, Any]]:
    return list(csv.DictReader((files("chapter38.call") / name).read_text("utf-8").splitlines()))
