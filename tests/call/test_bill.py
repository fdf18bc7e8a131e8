"""The two plots of the bill: finding in the title, the same in words, an end that never pays told apart."""

import pytest

from chapter38.call import break_even

pytest.importorskip("matplotlib", reason="the plots need matplotlib: pip install 'chapter38[notebooks]'")

from chapter38.show import bill


def test_the_crossing_says_where():
    found = break_even(("0.002", "0.003", "0.004"), "0.5", "2.6", utilisation="0.5")
    shown = bill.crossing(found)
    assert f"{found.pictures:,.0f}" in shown.text and f"{found.low:,.0f}" in shown.text and 'alt="' in shown.html
    axes = bill.crossing_figure(found).axes[0]
    (x,), (y,) = axes.lines[2].get_data()
    assert (x, y) == (float(found.pictures), float(found.pictures) * 0.003)
    assert "never pays" in bill.crossing(break_even("0.0001", "2", "10")).text


def test_the_tornado_names_each_input_and_the_end_that_never_pays():
    found = break_even(("0.0001", "0.003", "0.004"), ("0.3", "0.5", "0.8"), "2.6", utilisation="0.5")
    shown = bill.tornado(found)
    assert "never" in shown.text and all(bill.WORDS[bar.name] in shown.text for bar in found.bars)
