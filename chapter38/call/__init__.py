"""Rung 3, hosted APIs: what a picture costs before it is drawn, and one call made well."""

from typing import TYPE_CHECKING

from chapter38.lazy import lazy

if TYPE_CHECKING:
    from chapter38.call.breakeven import BreakEven, Rent, break_even
    from chapter38.call.cost import Quote, Traffic, Usage, month, price
    from chapter38.call.guard import Guard
    from chapter38.call.prices import Range
    from chapter38.call.providers import Provider, draw

__all__ = [
    "BreakEven", "Range", "Guard", "Provider", "Quote", "Rent", "Traffic", "Usage",
    "break_even", "draw", "month", "price",
]  # fmt: skip
__getattr__ = lazy(__name__, {
    "Range": "prices", "Quote": "cost", "Traffic": "cost", "Usage": "cost", "month": "cost", "price": "cost",
    "BreakEven": "breakeven", "Rent": "breakeven", "break_even": "breakeven",
    "Provider": "providers", "draw": "providers", "Guard": "guard",
})  # fmt: skip
