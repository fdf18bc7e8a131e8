"""The bill: every row dated and sourced; monotone; published examples to the cent; unknown is not zero."""

import subprocess
import sys
from datetime import date
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chapter38.call import Quote, Range, Rent, Traffic, Usage, break_even, month, price
from chapter38.call.breakeven import crossing
from chapter38.call.cost import _quote, quotes, seconds_on
from chapter38.call.prices import FACTS, METERS, PriceRow, all_hardware, all_prices, day, known_hardware, known_prices
from chapter38.recipe import Pixels, Recipe

ON = date(2026, 11, 24)
money = st.decimals("0.0001", "5", places=4)
counts = st.integers(1, 2_000_000)


@pytest.mark.parametrize("row", [*all_prices(), *all_hardware()], ids=lambda r: f"{r.as_of}-{r.source[:20]}")
def test_every_row_is_dated_and_sourced(row):
    assert date(2020, 1, 1) < day(row.as_of) <= ON
    assert len(row.source) > 10 and not row.source.startswith("/")
    assert (row.usd > 0 and row.meter in METERS) if hasattr(row, "usd") else (row.value > 0 and row.fact in FACTS)


def test_no_price_is_listed_twice():
    keys = [(r.provider, r.model, r.variant, r.meter, r.as_of) for r in all_prices()]
    assert len(keys) == len(set(keys))


# OpenAI's image-generation guide: output tokens of GPT Image 1 and 1.5, and the prices a picture it prints beside them.
TOKENS = {
    "low 1024x1024": 272, "low 1024x1536": 408, "low 1536x1024": 400, "medium 1024x1024": 1056,
    "medium 1024x1536": 1584, "medium 1536x1024": 1568, "high 1024x1024": 4160, "high 1024x1536": 6240,
    "high 1536x1024": 6208,
}  # fmt: skip


LISTED = [row for model in ("gpt-image-1", "gpt-image-1.5", "gpt-image-1-mini") for row in known_prices(model, ON)]


@pytest.mark.parametrize("row", [r for r in LISTED if r.variant in TOKENS], ids=lambda r: f"{r.model}-{r.variant}")
def test_published_prices_come_out_to_the_cent(row):
    by_tokens = price(row.model, provider="openai", usage=Usage(image_out=D(TOKENS[row.variant])), as_of=ON).usd
    assert abs(by_tokens - row.usd) <= D("0.005")
    assert price(row.model, provider="openai", variant=row.variant, as_of=ON).usd == row.usd


def test_the_table_of_published_prices_is_not_empty():
    assert sum(row.variant in TOKENS for row in LISTED) >= 24


def test_a_worked_month_comes_out_to_the_cent():
    """Always-on 4090 at 0.74 USD an hour, 2.6 s a picture, against 0.003 USD: 540.20 USD, 180 066.67 pictures."""
    rent = Rent("0.74", "2.6")
    assert rent.month(1) == D("540.20")
    assert round(crossing(D("0.003"), rent), 2) == D("180066.67")
    assert int(rent.capacity) == 1_010_769


def test_units():
    mp = price(Recipe(prompt="", model="flux-schnell", width=1024, height=1024), provider="nscale", as_of=ON)
    assert mp.usd == D("1.048576") * D("0.0013")
    assert price("nano-banana-2", variant="4K", as_of=ON).usd == 2 * price("nano-banana-2", variant="1K", as_of=ON).usd
    tokens = price("gpt-image-2", provider="openai", usage=Usage(image_out=D(1000), text_in=D(20)), as_of=ON)
    assert tokens.usd == D("0.0301")


def test_steps_and_seconds_are_counted():
    recipe = Recipe(prompt="", model="sdxl", steps=60, width=1024, height=1024)
    once = seconds_on("sdxl", "A10", ON, steps=30, pixels=1024**2)
    twice = seconds_on("sdxl", "A10", ON, steps=60, pixels=1024**2)
    assert twice.mid == 2 * once.mid
    assert price(recipe, gpu="A10", as_of=ON).usd == twice.mid * D("1.29") / 3600
    hires = Recipe(prompt="", steps=20, hires={"scale": 2, "steps": 10})
    assert (Usage.of(hires).step, Usage.of(hires).megapixel) == (30, D(4 * 128 * 128) / 10**6)


def test_a_provider_that_bills_the_second_bills_no_idle():
    by_second = price("sdxl", gpu="A100 80GB", provider="replicate", as_of=ON)
    seconds = seconds_on("sdxl", "A100 80GB", ON, pixels=1024**2).mid
    assert by_second.usd == seconds * D("0.0014") and "stale" in by_second.warnings[0]
    own = price("sdxl", gpu="A100 80GB", provider="azure", usage=Usage(second=D(10)), as_of=ON)
    assert own.usd == 10 * D("3.673") / 3600


def test_steps_are_priced_where_a_provider_prices_steps():
    row = PriceRow("p", "m", "", "step", D("0.00035"), 1, "2026-11-01", "", "an invented row")
    assert _quote([row], Usage(step=D(4)), "", "1024x1024", ON).usd == D("0.0014")
    assert _quote([row], Usage(), "", "1024x1024", ON).usd is None


def test_unknown_is_unknown_not_zero():
    for quote in (
        price("no-such-model", as_of=ON), price("gpt-image-2", provider="openai", as_of=ON),
        price("flux-schnell", gpu="T4", as_of=ON), price("flux-schnell", as_of=date(2021, 1, 1)),
    ):  # fmt: skip
        assert quote.usd is None and quote.price is None and "unknown" in quote.warnings[0]
    known = Quote(D("0.01"))
    assert month([("a", known, 10), ("b", Quote(None), 10)]).usd is None
    with_picture = Recipe(prompt="", model="flux-dev", width=64, height=64, references=(Pixels(_grey()),))
    assert any("not counted" in note for note in price(with_picture, provider="fal", as_of=ON).warnings)


def test_prices_age():
    fresh, old = price("flux-dev", provider="fal", as_of=ON), price("flux-schnell", provider="runware", as_of=ON)
    assert not fresh.warnings and "stale" in old.warnings[0]
    assert any("withdrawn" in w for w in price("gpt-image-1", variant="low", as_of=ON).warnings)
    assert any("ending" in w for w in price("gpt-image-1.5", variant="low", as_of=ON).warnings)
    assert price("sd35-large", provider="stability", as_of=date(2026, 7, 1)).lines[0].as_of == "2026-06"


@given(money, counts, counts)
def test_a_month_grows_with_the_pictures(usd, few, more):
    bill = lambda n: month([("x", Quote(usd), n)], free=100, tiers=((0, "1"), (1000, "0.8"), (50_000, "0.5"))).usd  # noqa: E731
    few, more = sorted((few, more))
    assert bill(few) <= bill(more) <= more * usd


def test_tiers_and_free_quota_by_hand():
    bill = month([("a", Quote(D(1)), 150), ("b", Quote(D(2)), 100)], free=100, tiers=((0, "1"), (200, "0.5")))
    assert [usd for *_, usd in bill.entries] == [D(50), 2 * (D(50) + D(25))]
    assert bill.usd == D(200)
    with pytest.raises(ValueError, match="ascending"):
        month([], tiers=((5, "1"),))


@given(st.decimals("0", "0.4", places=2), st.decimals("0", "0.4", places=2), st.decimals("0", "1", places=2))
def test_failures_cost_what_is_billed_of_them(failed, refused, billed):
    free, paid = Traffic(failed, 0, refused, 0), Traffic(failed, billed, refused, billed)
    assert abs(free.billed(100) - 100) < D("1e-9")  # what is never billed costs nothing, however often it fails
    assert free.billed(100) <= paid.billed(100) <= paid.calls(100)
    assert abs(Traffic(kept="0.25").billed(100) - 400) < D("1e-9")


@given(money, st.decimals("0.1", "5", places=2), st.decimals("0.2", "30", places=1), st.decimals("0.05", "1", places=2),
       st.decimals("0", "40", places=0))  # fmt: skip
def test_break_even_is_where_the_curves_cross(call, hour, seconds, utilisation, ops):
    rent = Rent(hour, seconds, utilisation, ops_hours=ops, ops_usd_hour=50)
    found = crossing(call, rent)
    if found is None:
        full = rent.hours * rent.gpu_hour
        assert full >= call * rent.capacity  # a full card costs more than the calls that it replaces
        return
    slack = D("1e-12")
    at = found * (1 - slack)  # division rounds in the 28th digit: a hair below, the staircase has not stepped yet
    assert abs(rent.month(at) - call * found) < D("1e-6")
    below = found * D("0.99") - 1
    assert below <= 0 or rent.month(below) >= call * below


@given(st.decimals("0.1", "5", places=2), st.decimals("0.2", "30", places=1), counts, counts)
def test_rent_is_monotone(hour, seconds, few, more):
    few, more = sorted((few, more))
    rent = Rent(hour, seconds, "0.5", ops_hours=4, ops_usd_hour=70)
    assert rent.month(few) <= rent.month(more)
    assert rent.month(more) <= Rent(hour * 2, seconds, "0.5", ops_hours=4, ops_usd_hour=70).month(more)
    assert rent.month(more) <= Rent(hour, seconds * 2, "0.5", ops_hours=4, ops_usd_hour=70).month(more)
    assert rent.month(more) >= Rent(hour, seconds, "1", ops_hours=4, ops_usd_hour=70).month(more)


def test_the_interval_holds_the_middle_and_narrows_with_its_inputs():
    hour, seconds = Range.spread(known_hardware("usd_hour", ON, gpu="RTX 4090")), ("1.8", "2.2", "2.6")
    wide = break_even(("0.002", "0.003", "0.004"), hour, seconds, utilisation=("0.3", "0.5", "0.8"))
    sure = break_even("0.003", hour.mid, "2.2", utilisation="0.5")
    assert wide.low < wide.pictures < wide.high
    assert sure.low == sure.pictures == sure.high and not sure.bars and sure.never == 0
    assert [bar.swing for bar in wide.bars] == sorted((bar.swing for bar in wide.bars), reverse=True)
    assert break_even(("0.002", "0.003", "0.004"), hour, seconds, utilisation=("0.3", "0.5", "0.8")) == wide


def test_never_is_said():
    never = break_even("0.0001", ("2", "3", "4"), "10")
    assert never.pictures is None and never.high is None and never.never == 1


def test_the_cheapest_provider_comes_first_and_unknown_last():
    found = quotes("flux-schnell", Usage(), "", "1024x1024", ON, None)
    known = [quote.usd for quote in found if quote.usd is not None]
    assert known == sorted(known) and found[-1].usd is None  # nscale bills by megapixels, which were not counted


def test_bad_input_is_refused():
    for bad in (lambda: Usage(image=D(-1)), lambda: Traffic(failed="0.6", refused="0.5"), lambda: Traffic(kept=0),
                lambda: Rent(1, 0), lambda: Rent(1, 1, 2), lambda: Range.of((3, 2, 1))):  # fmt: skip
        with pytest.raises(ValueError):
            bad()


def test_the_bill_needs_no_torch():
    code = (
        "import sys; from chapter38.call import price; from chapter38.ladder import advise, Needs;"
        "price('flux-schnell'); advise(Needs());"
        "print(*(name in sys.modules for name in ('torch', 'fastapi')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def _grey():
    from PIL import Image

    return Image.new("RGB", (8, 8), "grey")
