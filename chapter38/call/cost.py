"""What a picture costs: by image, megapixel, step, token or second; failed and refused calls; a month of a plan.

Money is Decimal USD throughout. A price that nobody published is None, never zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

from chapter38.call.prices import STALE_AFTER, HardwareRow, PriceRow, Range, all_prices, day, known_hardware, known_prices
from chapter38.errors import ModelError
from chapter38.picture import Price
from chapter38.recipe import Recipe

TOKENS = ("text_in", "image_in", "image_out", "text_out")
BASES = ("image_out", "image", "megapixel", "step", "second")  # the first of these that is counted and priced is used


@dataclass(frozen=True)
class Usage:
    """What the meters count for one picture; None where it is not known before the call.

    image, input_image, step: counts; megapixel: millions of pixels; second: GPU seconds; *_in, *_out: tokens.
    """

    image: Decimal = Decimal(1)
    input_image: Decimal = Decimal(0)
    megapixel: Decimal | None = None
    step: Decimal | None = None
    second: Decimal | None = None
    text_in: Decimal | None = None
    image_in: Decimal | None = None
    image_out: Decimal | None = None
    text_out: Decimal | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise ValueError(f"{field.name}: a meter counts from 0 up, got {value}")

    @classmethod
    def square(cls, side: int) -> "Usage":
        """One picture of `side` x `side` pixels, of which nothing else is known."""
        return cls(megapixel=Decimal(side * side) / 10**6)

    @classmethod
    def of(cls, recipe: Recipe, **counted: int | Decimal) -> "Usage":
        """What is known of a recipe before it is drawn, and what the caller counted besides (tokens, seconds)."""
        hires = recipe.hires
        scale = Decimal(str(hires.scale)) if hires else Decimal(1)
        steps = recipe.steps + ((hires.steps or recipe.steps) if hires else 0)
        inputs = len(recipe.references) + (recipe.image is not None) + (recipe.mask is not None)
        known = {
            "input_image": Decimal(inputs),
            "megapixel": recipe.width * recipe.height * scale * scale / Decimal(10**6),
            "step": Decimal(steps),
        }
        return cls(**(known | {name: Decimal(value) for name, value in counted.items()}))


@dataclass(frozen=True)
class Line:
    """One line of a bill: so many units of a meter, at a published row's price."""

    what: str
    quantity: Decimal
    usd: Decimal
    as_of: str
    source: str


@dataclass(frozen=True)
class Quote:
    """The price of one picture. `usd` is None where it is unknown; `warnings` say why, and what is stale."""

    usd: Decimal | None
    lines: tuple[Line, ...] = ()
    warnings: tuple[str, ...] = ()
    provider: str = ""
    model: str = ""

    @property
    def price(self) -> Price | None:
        """The price as a receipt carries it; the date is the oldest of the rows it rests on."""
        if self.usd is None or not self.lines:
            return None
        sources = "; ".join(dict.fromkeys(line.source for line in self.lines))
        oldest = min(line.as_of for line in self.lines)
        return Price(usd=format(self.usd.normalize(), "f"), as_of=oldest, source=sources)


@dataclass(frozen=True)
class Traffic:
    """What becomes of calls. Shares of all calls: `failed`, `refused`; of those, the shares that are billed all the
    same; `kept`: the share of delivered pictures that somebody uses."""

    failed: Decimal = Decimal(0)
    failed_billed: Decimal = Decimal(0)
    refused: Decimal = Decimal(0)
    refused_billed: Decimal = Decimal(0)
    kept: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, Decimal(str(getattr(self, field.name))))
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"{field.name}: expected a share from 0 to 1, got {getattr(self, field.name)}")
        if self.failed + self.refused >= 1 or self.kept == 0:
            raise ValueError("no picture would ever be kept: expected failed + refused < 1 and kept > 0")

    @property
    def delivered(self) -> Decimal:
        return 1 - self.failed - self.refused

    def calls(self, pictures: Decimal | int) -> Decimal:
        """Calls made for so many pictures kept, on average."""
        return pictures / (self.delivered * self.kept)

    def billed(self, pictures: Decimal | int) -> Decimal:
        """Calls paid for so many pictures kept, on average."""
        share = self.delivered + self.failed * self.failed_billed + self.refused * self.refused_billed
        return self.calls(pictures) * share


@dataclass(frozen=True)
class Bill:
    """A month: (label, billed pictures, USD or None) of each entry of the plan; `usd` is None if any is unknown."""

    entries: tuple[tuple[str, Decimal, Decimal | None], ...]
    warnings: tuple[str, ...] = ()

    @property
    def usd(self) -> Decimal | None:
        parts = [usd for _, _, usd in self.entries]
        return None if any(part is None for part in parts) else sum((p for p in parts if p is not None), Decimal(0))


def price(
    what: Any,
    *,
    provider: str | None = None,
    model: str | None = None,
    variant: str = "",
    usage: Usage | None = None,
    gpu: str | None = None,
    as_of: date | None = None,
) -> Quote:
    """The price of one picture: of a Recipe, of a model's name, or of a workflow (canvas Graph).

    A name alone stands for one picture of 1024x1024.

    provider   the cheapest where several sell it and none is named
    variant    a quality or resolution that the provider prices apart: "low", "4K", "high 1024x1536"
    usage      what was counted (tokens from a reply, GPU seconds); from the recipe where left out
    gpu        price it by its seconds on this card: rented, or at a provider that bills a card by the second
    as_of      only what was known on that day counts; today where left out
    """
    on = as_of or date.today()
    if hasattr(what, "nodes"):
        from chapter38.call.workflow import price_graph

        return price_graph(what, gpu=gpu, as_of=on)
    recipe = what if isinstance(what, Recipe) else None
    name = model or (recipe.model if recipe else str(what))
    counted = usage or (Usage.of(recipe) if recipe else Usage.square(1024))
    if gpu:
        return _on_card(name, recipe, counted, gpu, provider, on)
    size = f"{recipe.width}x{recipe.height}" if recipe else "1024x1024"
    return quotes(name, counted, variant, size, on, provider)[0]


def quotes(model: str, usage: Usage, variant: str, size: str, on: date, provider: str | None = None) -> list[Quote]:
    """One quote a provider, cheapest first, unknown last; a single unknown quote where nobody has a published price.

    Raises ModelError for a variant in which nobody ever priced the model.
    """
    if variant:
        _check_variant(model, variant, size)
    rows = known_prices(model, on, provider)
    found = [
        _quote([row for row in rows if row.provider == name], usage, variant, size, on)
        for name in dict.fromkeys(row.provider for row in rows)
    ]
    if not found:
        seller = f" at {provider}" if provider else ""
        return [Quote(None, warnings=(f"unknown: no dated price of {model}{seller} as of {on}",), model=model)]
    return sorted(found, key=lambda quote: (quote.usd is None, quote.usd or 0))


def _check_variant(model: str, variant: str, size: str) -> None:
    known = {row.variant for row in all_prices() if row.model == model and row.variant}
    if variant not in known and f"{variant} {size}" not in known:
        priced = f"priced as: {', '.join(sorted(known))}" if known else "it is priced without variants"
        raise ModelError(f"unknown variant {variant!r} of {model} at {size}; {priced}")


def _quote(rows: list[PriceRow], usage: Usage, variant: str, size: str, on: date) -> Quote:
    """One provider's quote: on the first basis that it prices and that is counted."""
    provider, model = rows[0].provider, rows[0].model
    for basis in BASES:
        if getattr(usage, basis) is None:
            continue
        base = [row for row in rows if row.meter == basis and row.variant in ("", variant, f"{variant} {size}")]
        base = [row for row in base if row.variant] or base
        if base:
            extra = TOKENS if basis == "image_out" else ("input_image",)
            used = [base[0], *(row for row in rows if row.meter in extra and row.meter != basis)]
            return _sum(used, usage, on, provider, model)
    variants = sorted({row.variant for row in rows if row.variant})
    meters = sorted({row.meter for row in rows})
    priced = ", ".join(meters) + (f" for {', '.join(variants)}" if variants else "")
    why = f"unknown: {provider} prices {model} by {priced}; nothing of that fits {variant or 'no variant'} at {size}"
    return Quote(None, (), (why,), provider, model)


def _sum(rows: list[PriceRow], usage: Usage, on: date, provider: str, model: str) -> Quote:
    lines, notes = [], []
    for row in rows:
        quantity = getattr(usage, row.meter)
        if quantity is None and (row.meter != "image_in" or usage.input_image):
            notes.append(f"not counted: {row.meter} of {provider} {model} (USD {row.usd} for {row.per})")
        elif quantity:
            usd = quantity * row.usd / row.per
            lines.append(Line(f"{row.meter} {row.variant}".strip(), quantity, usd, row.as_of, row.source))
            notes += row.warnings(on)
    if usage.input_image and not {row.meter for row in rows} & {"input_image", "image_in"}:
        notes.append(f"not counted: {provider} publishes no price of an input picture for {model}")
    total = sum((line.usd for line in lines), Decimal(0))
    return Quote(total, tuple(lines), tuple(dict.fromkeys(notes)), provider, model)


def seconds_on(
    model: str, gpu: str, on: date, *, steps: Decimal | int | None = None, pixels: Decimal | int | None = None
) -> Range | None:
    """Seconds a picture, published measurements scaled in proportion to steps and pixels; None where unmeasured."""

    def scaled(row: HardwareRow) -> HardwareRow:
        width, height = map(int, row.size.split("x"))
        by_steps = Decimal(steps) / row.steps if steps and row.steps else Decimal(1)
        by_pixels = Decimal(pixels) / (width * height) if pixels else Decimal(1)
        return replace(row, value=row.value * by_steps * by_pixels)

    return Range.spread(scaled(row) for row in known_hardware("seconds", on, gpu=gpu, of=model))


def _passes(recipe: Recipe | None, usage: Usage) -> list[tuple[Decimal | None, Decimal | None]]:
    """(steps, pixels) of each pass through the denoiser."""
    pixels = None if usage.megapixel is None else usage.megapixel * 10**6
    if recipe is None or recipe.hires is None:
        return [(usage.step, pixels)]
    hires = recipe.hires
    again = Decimal(hires.steps or recipe.steps) * Decimal(str(hires.strength))
    return [(Decimal(recipe.steps), Decimal(recipe.width * recipe.height)), (again, pixels)]


def _on_card(model: str, recipe: Recipe | None, usage: Usage, gpu: str, provider: str | None, on: date) -> Quote:
    """A picture's GPU seconds: at the provider's price of a second, else at the median hour of a card never idle."""
    seconds = usage.second
    if seconds is None:
        parts = [seconds_on(model, gpu, on, steps=steps, pixels=pixels) for steps, pixels in _passes(recipe, usage)]
        seconds = sum((part.mid for part in parts if part), Decimal(0)) or None
    by_second = known_hardware("usd_second", on, gpu=gpu, of=provider) if provider else []
    rows = by_second or known_hardware("usd_hour", on, gpu=gpu, of=provider)
    rate = Range.spread(rows)
    missing = [what for what, value in (("seconds a picture", seconds), ("price of its time", rate)) if value is None]
    if seconds is None or rate is None:
        why = f"unknown: no dated {' and no '.join(missing)} of {model} on {gpu} as of {on}"
        return Quote(None, (), (why,), gpu, model)
    usd = seconds * rate.mid / (1 if by_second else 3600)
    idle = "setup and idle not billed" if by_second else "never idle"
    line = Line(f"GPU second on {gpu}, {idle}", seconds, usd, min(row.as_of for row in rows), rate.source)
    notes = [f"stale: {row.of}'s {gpu} is priced as of {row.as_of}" for row in rows if on - day(row.as_of) > STALE_AFTER]
    excluded = [] if by_second else ["excluded: idle time, operations; see break_even"]
    return Quote(usd, (line,), (*excluded, *dict.fromkeys(notes)), provider or gpu, model)


def month(
    plan: Sequence[tuple[str, Quote, int]],
    *,
    traffic: Traffic = Traffic(),
    free: int = 0,
    tiers: Sequence[tuple[int, Decimal | str]] = ((0, "1"),),
) -> Bill:
    """A month's bill for a plan of (label, quote of one picture, pictures kept).

    free    billed pictures a month that cost nothing, used up in the plan's order
    tiers   (from this billed picture on, multiplier of the price), ascending from 0: marginal, as tax brackets are
    """
    steps = [(Decimal(start), Decimal(str(factor))) for start, factor in tiers]
    if not steps or steps[0][0] != 0 or any(a >= b for (a, _), (b, _) in pairwise(steps)):
        raise ValueError(f"tiers: expected ascending starts from 0, got {list(tiers)}")
    done, entries = Decimal(0), []
    warnings: list[str] = []
    for label, quote, pictures in plan:
        billed = traffic.billed(pictures)
        weight = _weight(done + billed, Decimal(free), steps) - _weight(done, Decimal(free), steps)
        entries.append((label, billed, None if quote.usd is None else quote.usd * weight))
        warnings += quote.warnings
        done += billed
    return Bill(tuple(entries), tuple(dict.fromkeys(warnings)))


def _weight(count: Decimal, free: Decimal, tiers: list[tuple[Decimal, Decimal]]) -> Decimal:
    """How many full-price pictures the first `count` billed ones amount to."""
    ends = [start for start, _ in tiers[1:]] + [max(count, tiers[-1][0])]
    spans = [(max(start, free), min(count, end), factor) for (start, factor), end in zip(tiers, ends, strict=True)]
    return sum((max(Decimal(0), end - start) * factor for start, end, factor in spans), Decimal(0))
