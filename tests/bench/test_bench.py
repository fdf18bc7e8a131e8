"""The bench's arithmetic, and that what is committed says where and when it was measured."""

import datetime
import json

import bench
import pytest


def test_a_row_is_the_median_with_the_extremes() -> None:
    row = bench.summary("a", "b", [3.0, 1.0, 2.0])
    assert (row.value, row.low, row.high, row.rounds, row.unit) == (2.0, 1.0, 3.0, 3, "x")


def test_both_sides_take_turns() -> None:
    order: list[str] = []
    row = bench.in_turn("a", "b", lambda: order.append("one"), lambda: order.append("other"), 2)
    assert order == ["one", "other"] * 3 and row.rounds == 2


def test_what_is_committed_has_its_date_hardware_and_versions() -> None:
    if not bench.TARGET.exists():
        pytest.skip("book/bench.json is not there yet; `make bench` writes it")
    told = json.loads(bench.TARGET.read_text("utf-8"))
    assert told["hardware"]["cores"] and told["versions"]["torch"] and told["rows"]
    for row in told["rows"]:
        assert datetime.date.fromisoformat(row["date"]) and row["says"]
        assert row["low"] <= row["value"] <= row["high"] and row["unit"] in ("x", "s", "/s") and row["rounds"] >= 1
