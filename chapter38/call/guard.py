"""Around every call: a cap in USD, one bill for one intent, and secrets that cannot be printed."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NoReturn

from chapter38.call.cost import Quote
from chapter38.errors import MissingExtra, ProviderError
from chapter38.picture import Picture

HIDDEN = "•••"
KEYS = ("OPENAI_API_KEY", "REPLICATE_API_TOKEN", "HF_TOKEN", "FAL_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")
_AUTH = re.compile(r"(?i)\b(bearer|key|token)\s+[\w.:~+/-]{6,}=*")


class CallFailed(ProviderError):
    """A call that brought no picture. `status` is the HTTP status or None; `billed` is "no" or "maybe"."""

    def __init__(self, message: str, status: int | None, billed: str) -> None:
        self.status, self.billed = status, billed
        super().__init__(message)


class OverBudget(ProviderError):
    """A call that was not sent, because it could pass the cap."""


class Secret:
    """An API key that shows as dots, is not picklable, and is read from the environment alone."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def reveal(self) -> str:
        """The key itself, for the SDK's constructor and nothing else. Raises ProviderError where it is not set."""
        if not (value := os.environ.get(self._name, "").strip()):
            raise ProviderError(f"no key: set the environment variable {self._name}")
        return value

    def __repr__(self) -> str:
        return f"Secret({self._name}={HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not picklable: a key belongs in the environment, not in a file")


def redact(text: str) -> str:
    """The text without any key of the environment and without what follows Bearer, Key or Token in a header."""
    for name in KEYS:
        if value := os.environ.get(name, "").strip():
            for part in (value, *(p for p in value.split(":") if len(p) >= 6)):
                text = text.replace(part, HIDDEN)
    return _AUTH.sub(lambda found: f"{found[1]} {HIDDEN}", text)


@dataclass
class Entry:
    """What became of one intent: "sent", "drawn", "not billed" or "maybe billed"; USD paid or reserved, if known."""

    state: str
    usd: Decimal | None
    picture: Picture | None = None


@dataclass
class Guard:
    """One budget and one memory of intents, shared by as many calls as you like.

    cap_usd   no call is sent that could bring what is spent above it; None: no cap
    spent     USD paid, and reserved for calls that may be billed

    One intent, one bill: the picture of an intent that was drawn is handed out again; an intent whose call may have
    been billed is not sent a second time; one that was certainly not billed may be tried again.
    """

    cap_usd: Decimal | None = None
    ledger: dict[str, Entry] = field(default_factory=dict)

    @property
    def spent(self) -> Decimal:
        return sum((entry.usd for entry in self.ledger.values() if entry.usd), Decimal(0))

    def call(self, intent: str, quote: Quote, send: Callable[[], Picture]) -> Picture:
        """The picture of this intent, drawn by `send` at most once. Raises OverBudget, CallFailed, ProviderError."""
        known = self.ledger.get(intent)
        if known and known.picture:
            return known.picture
        if known and known.state != "not billed":
            raise ProviderError(
                f"this intent was {known.state} before and its picture never came; look it up at the provider,"
                " or name a new intent to pay again"
            )
        self._afford(quote)
        entry = self.ledger[intent] = Entry("sent", quote.usd)
        try:
            entry.picture = send()
        except CallFailed as error:
            entry.state = "not billed" if error.billed == "no" else "maybe billed"
            entry.usd = Decimal(0) if error.billed == "no" else entry.usd
            raise
        except (ProviderError, MissingExtra):  # it never got as far as the wire
            del self.ledger[intent]
            raise
        entry.state = "drawn"
        paid = entry.picture.receipt.lock.price if entry.picture.receipt else None
        entry.usd = Decimal(paid.usd) if paid else entry.usd
        return entry.picture

    def _afford(self, quote: Quote) -> None:
        if self.cap_usd is None:
            return
        if quote.usd is None:
            raise OverBudget(f"not sent: a price unknown under a cap of USD {self.cap_usd}. {quote.warnings[0]}")
        if self.spent + quote.usd > self.cap_usd:
            raise OverBudget(f"not sent: USD {self.spent} spent, {quote.usd} more would pass the cap of {self.cap_usd}")
