"""Newer prices from litellm's price file, where that package is installed: a diff for a person to accept."""

import csv
import io
import json
import re
from dataclasses import dataclass, fields, replace
from datetime import date
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from chapter38.call.prices import PriceRow, all_prices
from chapter38.errors import ProviderError

FILE = "model_prices_and_context_window_backup.json"
FIELDS = {  # our meter -> litellm's fields, the first that is there; it keeps a picture's price under "input" for some
    "image": ("output_cost_per_image", "input_cost_per_image"), "input_image": ("input_cost_per_image",),
    "megapixel": ("output_cost_per_pixel", "input_cost_per_pixel"), "text_in": ("input_cost_per_token",),
    "image_in": ("input_cost_per_image_token",), "image_out": ("output_cost_per_image_token",),
    "text_out": ("output_cost_per_token",),
}  # fmt: skip
_KEY = re.compile(r"^litellm \S+ price file, key (\S+?)(?=;|$)")


@dataclass(frozen=True)
class Change:
    """A row as it is, and as the newer file has it (None: gone from there)."""

    old: PriceRow
    new: PriceRow | None


def refresh() -> list[Change]:
    """The rows that came from litellm and differ in the installed version. Raises ProviderError where there is none."""
    try:
        package = distribution("litellm")  # read as a file: importing it would ask the network
    except PackageNotFoundError:
        raise ProviderError("no newer prices at hand: pip install litellm, whose price file is read") from None
    text = Path(str(package.locate_file(f"litellm/{FILE}"))).read_text("utf-8")
    listed = json.loads(text, parse_float=Decimal)
    return [change for row in all_prices() if (change := _change(row, listed, package.version))]


def _change(row: PriceRow, listed: dict[str, dict[str, Decimal]], newer: str) -> Change | None:
    if not (found := _KEY.match(row.source)):
        return None
    entry = listed.get(found[1], {})
    value = next((Decimal(entry[name]) for name in FIELDS[row.meter] if entry.get(name)), None)
    if value is None:
        return Change(row, None)
    if variant := entry.get(f"output_cost_per_image_{row.variant}"):  # priced by resolution: "4K"
        value = Decimal(variant)
    usd = value * (10**6 if row.meter == "megapixel" else row.per)
    ends = str(entry.get("deprecation_date", ""))
    if (usd, ends) == (row.usd, row.ends):
        return None
    source = row.source.replace(found[0].split(" price")[0], f"litellm {newer}")
    return Change(row, replace(row, usd=usd.normalize(), ends=ends, as_of=date.today().isoformat(), source=source))


def accepted(changes: list[Change]) -> str:
    """prices.csv with these changes: the old row stays, so that prices as of an earlier day still come out."""
    rows = [*all_prices(), *(change.new for change in changes if change.new)]
    rows.sort(key=lambda row: (row.provider, row.model, row.meter, row.variant, row.as_of))
    names = [field.name for field in fields(PriceRow)]
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow(names)
    writer.writerows([format(v, "f") if isinstance(v := getattr(row, n), Decimal) else v for n in names] for row in rows)
    return text.getvalue()
