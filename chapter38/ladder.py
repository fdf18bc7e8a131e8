"""The chapter's rule as data: start at Call, step down only where a named need forces it, and say which."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from chapter38.call.breakeven import BreakEven, Rent, break_even
from chapter38.call.cost import Usage, quotes, seconds_on
from chapter38.call.prices import Range, known_hardware
from chapter38.errors import RecipeError, nearest
from chapter38.recipe import denoiser_bytes, models

RUNGS = ("call", "canvas", "code")  # most convenience first, most control last
CONTROL = {  # a kind of control -> the highest rung that gives it
    "seed": "call", "mask": "call", "references": "call",
    "controlnet": "canvas", "multi-stage": "canvas", "regional": "canvas",
    "every-step": "code", "own-training": "code", "in-process": "code",
}  # fmt: skip
FAST = 2.0  # seconds: below this p95 a shared queue and a cold start have no room (a stated assumption)
# Stated assumptions: hours of a person a month, USD an hour of that person, and the share of a card's paid hours in
# which it draws, where the volume comes and goes and where it is stable.
TIGHT = 0.8  # of a card's memory: a denoiser that fills more leaves too little for text encoders, VAE and activations
OPS = {"canvas": Range.of((4, 8, 16)), "code": Range.of((8, 16, 32))}
OPS_USD_HOUR = Range.of((40, 70, 110))
UTILISATION = {False: Range.of((0.2, 0.4, 0.7)), True: Range.of((0.5, 0.7, 0.9))}


class Needs(BaseModel):
    """What a project requires. What is left out is not required.

    per_month, stable     pictures drawn and paid a month (kept ones are fewer); whether that is steady enough to rent for
    adapters              LoRAs of your own           residency    data may not leave your machines
    offline               no network while drawing    latency_p95  seconds, or None
    budget                USD a month, or None        control      of: the keys of CONTROL
    commercial, revenue   the use, and the company's USD a year, which some licences ask
    model, variant, gpu   what you would draw with, a quality that is priced apart, and the card that you would rent
    team                  who would run it: "none", "artists" (graphs), "engineers" (code)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    per_month: int = Field(default=1000, ge=1)
    stable: bool = False
    adapters: bool = False
    residency: bool = False
    offline: bool = False
    latency_p95: float | None = Field(default=None, gt=0)
    budget: Decimal | None = Field(default=None, ge=0)
    control: frozenset[str] = frozenset()
    commercial: bool = True
    revenue: Decimal = Field(default=Decimal(0), ge=0)
    model: str = "flux-schnell"
    variant: str = ""
    gpu: str = "RTX 4090"
    team: Literal["none", "artists", "engineers"] = "engineers"

    def __init__(self, **needs: Any) -> None:
        try:
            super().__init__(**needs)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"])) or "needs"
            known = "" if name in type(self).model_fields else f"; {nearest(name, type(self).model_fields)}"
            raise RecipeError(f"{name}: {first['msg'].removeprefix('Value error, ')}{known}") from None

    @field_validator("control")
    @classmethod
    def _known(cls, names: frozenset[str]) -> frozenset[str]:
        for name in sorted(names - CONTROL.keys()):
            raise ValueError(f"unknown control {name!r}; {nearest(name, CONTROL)}")
        return names


@dataclass(frozen=True)
class Reason:
    """One need, the highest rung that it leaves, why, and what would lift it."""

    need: str
    rung: str
    why: str
    lift: str


@dataclass(frozen=True)
class Cost:
    """A month on one rung: USD low, likeliest, high; None with the reason where it is unknown."""

    usd: Range | None
    basis: str


@dataclass(frozen=True)
class Advice:
    """The rung, reason by reason; what stands in the way even there; models by licence; a month on each rung.

    as_of        the day whose prices these are
    sources      "call", "card hour", "seconds a picture" -> where the number is from, with its date; where it is known
    assumptions  what the months on Canvas and Code assume besides; empty where those are unknown
    """

    rung: str
    reasons: tuple[Reason, ...]
    conflicts: tuple[str, ...]
    licences: dict[str, str]
    costs: dict[str, Cost]
    break_even: BreakEven | None
    as_of: date = field(default_factory=date.today, repr=False)
    sources: dict[str, str] = field(default_factory=dict, repr=False)
    assumptions: dict[str, Range] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Rule:
    """A row of the rule: the need that it reads, when it applies, the highest rung left, why, what would lift it."""

    need: str
    applies: Callable[[Needs], bool]
    rung: str
    why: str
    lift: str


RULES = (
    Rule("offline", lambda n: n.offline, "canvas", "a hosted API needs the network at every picture",
         "pictures made ahead, while there is a network"),
    Rule("residency", lambda n: n.residency, "canvas", "prompts and pictures would leave for the provider's machines",
         "a provider that processes in your region, by contract"),
    Rule("adapters", lambda n: n.adapters, "canvas", "your own LoRA needs weights that you hold",
         "a host that loads your LoRA, if it may leave your machines"),
    Rule("latency_p95", lambda n: n.latency_p95 is not None and n.latency_p95 < FAST, "canvas",
         f"below {FAST:g} s there is no room for a shared queue and cold starts", "a slower p95, or drawing ahead"),
    *(Rule(f"control:{name}", lambda n, name=name: name in n.control, rung,  # type: ignore[misc]
           f"{name} is nowhere above {rung.title()}", f"doing without {name}")
      for name, rung in CONTROL.items() if rung != "call"),
)  # fmt: skip


def advise(needs: Needs, as_of: date | None = None) -> Advice:
    """The highest rung that meets these needs, with every reason, every conflict, and what a month costs.

    Prices are those known on `as_of` (today where left out).
    """
    on = as_of or date.today()
    reasons = [Reason(r.need, r.rung, r.why, r.lift) for r in RULES if r.applies(needs)]
    crossing, costs, sources = _money(needs, on)
    if volume := _volume(needs, crossing):
        reasons.append(volume)
    rung = max((reason.rung for reason in reasons), key=RUNGS.index, default="call")
    allowed = licences(needs.commercial, needs.revenue)
    assumed = assumptions(needs.stable) if costs["canvas"].usd else {}
    conflicts = tuple(_conflicts(needs, rung, allowed, costs))
    return Advice(rung, tuple(reasons), conflicts, allowed, costs, crossing, on, sources, assumed)


def assumptions(stable: bool, rungs: Iterable[str] = tuple(OPS)) -> dict[str, Range]:
    """What the months on these rungs assume, in words -> low, likeliest, high. A break-even is that of "canvas"."""
    return {
        **{f"hours of a person a month on {rung.title()}": OPS[rung] for rung in rungs},
        "USD an hour of that person": OPS_USD_HOUR,
        "share of paid hours that a card draws": UTILISATION[stable],
    }


def _money(needs: Needs, on: date) -> tuple[BreakEven | None, dict[str, Cost], dict[str, str]]:
    """The break-even of a rented card against the cheapest price that is not stale, a month on each rung, the sources."""
    offers = quotes(needs.model, Usage.square(1024), needs.variant, "1024x1024", on)
    quote = min(offers, key=lambda q: (q.usd is None, any(w.startswith(("stale", "withdrawn")) for w in q.warnings)))
    hour = Range.spread(known_hardware("usd_hour", on, gpu=needs.gpu))
    seconds = seconds_on(needs.model, needs.gpu, on, pixels=1024**2)
    usd = None if quote.usd is None else Range.of(quote.usd * needs.per_month)
    costs = {"call": Cost(usd, quote.warnings[0] if usd is None else f"{quote.provider}, USD {quote.usd} a picture")}
    sources = {name: found.source for name, found in (("card hour", hour), ("seconds a picture", seconds)) if found}
    if quote.price:
        sources = {"call": f"{quote.price.source} ({quote.price.as_of})", **sources}
    if hour is None or seconds is None:
        what = "seconds a picture" if hour else "price of an hour"
        unknown = Cost(None, f"unknown: no dated {what} of {needs.model} on {needs.gpu}")
        return None, {**costs, "canvas": unknown, "code": unknown}, sources
    use = UTILISATION[needs.stable]
    for rung, ops in OPS.items():
        ends = (
            Rent(hour.low, seconds.low, use.high, ops_hours=ops.low, ops_usd_hour=OPS_USD_HOUR.low),
            Rent(hour.mid, seconds.mid, use.mid, ops_hours=ops.mid, ops_usd_hour=OPS_USD_HOUR.mid),
            Rent(hour.high, seconds.high, use.low, ops_hours=ops.high, ops_usd_hour=OPS_USD_HOUR.high),
        )
        low, mid, high = (rent.month(needs.per_month) for rent in ends)
        basis = f"{ends[1].cards(needs.per_month)} x {needs.gpu}, always on, and {ops.mid} hours of a person"
        costs[rung] = Cost(Range(low, mid, high), basis)
    if quote.usd is None:
        return None, costs, sources
    found = break_even(quote.usd, hour, seconds, draws=1000, utilisation=use, ops_hours=OPS["canvas"], ops_usd_hour=OPS_USD_HOUR)
    return found, costs, sources


def _volume(needs: Needs, found: BreakEven | None) -> Reason | None:
    """Volume forces a step only where it is steady and lies above the whole interval of the break-even."""
    if not needs.stable or found is None or found.high is None or needs.per_month <= found.high:
        return None
    why = f"{needs.per_month:,} a month is above the break-even even at its high end ({found.high:,.0f})"
    return Reason("per_month", "canvas", why, "a lower price, a volume that comes and goes, or fewer pictures")


def _conflicts(needs: Needs, rung: str, allowed: dict[str, str], costs: dict[str, Cost]) -> list[str]:
    """What stands in the way on the rung that the needs leave."""
    found = []
    own = rung != "call"
    if own and needs.team == "none":
        found.append(f"nobody runs it: {rung} needs somebody who keeps a machine alive; hire, or lift a reason")
    if rung == "code" and needs.team == "artists":
        found.append("the team works in graphs, and a need leaves only Code; somebody must write it")
    if own and not allowed.get(needs.model, "unknown").startswith("yes"):
        verdict = allowed.get(needs.model, "unknown: not in the registry")
        found.append(f"the licence of {needs.model}: {verdict}; take another model, or buy a licence")
    usd = costs[rung].usd
    if needs.budget is not None and usd is None:
        found.append(f"the budget cannot be checked: {costs[rung].basis}")
    elif needs.budget is not None and usd is not None and usd.mid > needs.budget:
        found.append(f"the budget of USD {needs.budget} is below a likely month of USD {usd.mid:.2f}")
    return found


def licences(commercial: bool, revenue: Decimal = Decimal(0)) -> dict[str, str]:
    """Model -> "yes…", "no…" or "unclear…": may its weights be used so, by this licence? Not legal advice."""

    def verdict(terms: str) -> str:
        terms = terms.removeprefix("model: ")
        if not commercial:
            return "yes, not commercially" if terms.startswith("no") else terms if terms.startswith("unclear") else "yes"
        if limit := re.search(r"below US\$(\d+)M", terms):
            return ("yes: " if revenue < int(limit[1]) * 10**6 else "no, not at this revenue: ") + terms
        return terms

    return {name: f"{verdict(row['commercial'])} ({row['licence']})" for name, row in models().items()}


def memory_warning(model: str, gpu: str, as_of: date) -> str:
    """A sentence where the model's denoiser fills most of the card; "" where it does not, or where a size is unknown."""
    known, needs = known_hardware("memory_gb", as_of, gpu=gpu), denoiser_bytes(model) / 1e9
    if not known or needs <= TIGHT * float(known[-1].value):
        return ""
    dtype, has = models()[model]["dtype"], known[-1].value
    ways = "quantised weights, parts kept in the computer's memory, or a larger card"
    return f"the denoiser of {model} alone is {needs:.1f} GB in {dtype}, and {gpu} has {has:f} GB: it takes {ways}"


def cases() -> list[dict[str, Any]]:
    """The twelve worked cases: name, story, needs, the rung, the needs that force it, what is uncomfortable."""
    return list(json.loads((files("chapter38") / "cases.json").read_text("utf-8")))
