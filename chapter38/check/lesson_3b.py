"""Checks of lesson 38.3b: what a month really bills, the utilisation that pays, and volume tiers."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chapter38.call import Quote, Rent, Traffic, month
from chapter38.check.verdict import Verdict, exercise

TIERS = ((0, "1"), (10_000, "0.9"), (50_000, "0.7"))


@exercise
def check_calls(calls: float) -> Verdict:
    """Calls made for 300 pictures kept, where 5 % fail, 5 % are refused and one delivered picture in three is used."""
    right = float(Traffic(failed=Decimal("0.05"), refused=Decimal("0.05")).calls(300 * 3))
    if abs(calls - right) < 1:
        return Verdict(True, "900 pictures must be delivered, and nine calls in ten deliver one: 900 / 0.9.")
    if abs(calls - 900) < 1:
        return Verdict(False, "so many must be delivered; but one call in ten delivers nothing.")
    if abs(calls - 990) < 1:
        return Verdict(False, "10 % on top of 900 is not enough: of those extra calls one in ten fails too. Divide.")
    return Verdict(False, "first the pictures that must be delivered for 300 kept ones, then the calls for those.")


@exercise
def check_utilisation(share: float) -> Verdict:
    """The lowest utilisation at which one card at 0.74 USD an hour, 2.6 s a picture, matches 0.003 USD a picture."""
    right = float(Decimal("0.74") * Decimal("2.6") / 3600 / Decimal("0.003"))
    if abs(share - right) < 0.002:
        cost = Rent(Decimal("0.74"), Decimal("2.6"), Decimal(str(round(right, 6))))
        return Verdict(True, f"at {right:.1%} a full month of the card costs {cost.month(1):.2f} USD either way.")
    if abs(share - 100 * right) < 0.2:
        return Verdict(False, "that is the number in per cent; a share lies between 0 and 1.")
    if abs(share - 1 / right) < 0.05:
        return Verdict(False, "upside down: how small a part of its time may the card draw?")
    return Verdict(False, "a second costs 0.74/3600 USD whether the card draws or not; how many seconds does 0.003 buy?")


@exercise
def check_tiered(tiered: Callable[[int], Any]) -> Verdict:
    """The bill for n pictures at 0.01 USD: 10 % off from the 10 001st, 30 % off from the 50 001st; marginal."""
    for n in (1, 9_999, 10_000, 10_001, 50_000, 50_001, 120_000):
        right = month([("", Quote(Decimal("0.01")), n)], tiers=TIERS).usd or Decimal(0)
        mine = Decimal(str(tiered(n)))
        if abs(mine - right) <= Decimal("0.001"):
            continue
        factor = next(Decimal(f) for start, f in reversed(TIERS) if n > start)
        if abs(mine - n * factor / 100) <= Decimal("0.001"):
            return Verdict(False, f"at {n:,} you gave the discount on all pictures; it holds for those above the step.")
        return Verdict(False, f"at {n:,} pictures expected {right:.2f} USD, got {mine:.2f}.")
    return Verdict(True, "each price holds for the pictures of its own bracket, so no extra picture makes the bill smaller.")
