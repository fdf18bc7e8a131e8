"""Newer prices: only what changed, by key, and the old row stays."""

import csv
import io
from dataclasses import replace
from decimal import Decimal as D

import pytest

from chapter38.call.prices import all_prices
from chapter38.call.refresh import Change, _change, accepted, refresh

FLUX = next(row for row in all_prices() if row.provider == "fal" and row.model == "flux-schnell")
KEY = "fal_ai/fal-ai/flux/schnell"


def test_a_changed_price_is_shown_and_an_equal_one_is_not():
    assert _change(FLUX, {KEY: {"output_cost_per_image": D("0.003")}}, "9.9") is None
    change = _change(FLUX, {KEY: {"output_cost_per_image": D("0.004")}}, "9.9")
    assert change.new.usd == D("0.004") and "litellm 9.9 price file" in change.new.source
    assert _change(FLUX, {}, "9.9").new is None
    assert _change(replace(FLUX, source="a page"), {}, "9.9") is None


def test_accepting_keeps_the_old_row():
    text = accepted([Change(FLUX, replace(FLUX, usd=D("0.004"), as_of="2027-01-01"))])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(all_prices()) + 1
    assert {row["usd"] for row in rows if row["provider"] == "fal" and row["model"] == "flux-schnell"} == {
        "0.003",
        "0.004",
    }
    assert accepted([]).splitlines()[0].startswith("provider,model,variant,meter,usd")


def test_the_installed_file_reads():
    pytest.importorskip("litellm", reason="litellm is not installed: pip install litellm, whose price file is read")
    assert all(change.old.source.startswith("litellm") for change in refresh())
