"""The commands of the third rung: `price`, `advise`, `serve`."""

from datetime import date, datetime
from json import dumps as json_of
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape
from rich.prompt import Prompt
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]
AsOf = Annotated[datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="Only what was known that day.")]
BILLED = "billed pictures are counted; kept ones are fewer, so each kept one costs more (lesson 38.3b)"
price_app = typer.Typer(help="What a picture costs, a month, and where renting a card begins to pay.")
say = Console(stderr=True, highlight=False)
out = Console(highlight=False)


@price_app.callback(invoke_without_command=True)
def price(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A model's name in prices.csv.")] = "flux-schnell",
    per_month: Annotated[int, typer.Option(help="Pictures billed a month.", min=1)] = 1000,
    variant: Annotated[str, typer.Option(help="A quality or resolution that is priced apart.")] = "",
    gpu: Annotated[str, typer.Option(help="The card that would be rented instead.")] = "RTX 4090",
    stable: Annotated[bool, typer.Option(help="The volume is steady, so that a rented card draws more of its hours.")] = False,
    workflow: Annotated[
        Path | None, typer.Option(help="Price one run on the card: a workflow or recipe as JSON, or a picture that holds one.")
    ] = None,
    as_of: AsOf = None,
    json: Json = False,
) -> None:
    """Price a model at every provider, and say where renting a card begins to pay.

    [bold]chapter38 price --model flux-schnell --per-month 100000[/bold]
    """
    if context.invoked_subcommand:
        return
    from chapter38.call.cost import Usage, quotes
    from chapter38.call.cost import price as price_of
    from chapter38.ladder import memory_warning

    on = as_of.date() if as_of else date.today()
    _check(None if workflow else model, gpu)
    if workflow:
        for option in ("model", "variant", "stable"):
            if getattr(context.get_parameter_source(option), "name", "") == "COMMANDLINE":
                raise typer.BadParameter("leave it out: with --workflow, the file says what runs", param_hint=f"--{option}")
        from chapter38.cli_canvas import load

        recipe, graph = load(workflow)
        found = [price_of(graph or recipe, gpu=gpu, as_of=on)]
    else:
        found = quotes(model, Usage.square(1024), variant, "1024x1024", on)
    rows = [_row(quote, per_month) for quote in found]
    notes = [BILLED]
    crossing, unknown = None, None
    if not workflow:
        crossing = _crossing(model, variant, gpu, stable, on)
        unknown = None if crossing else _break_even_unknown(model, variant, gpu, on)
        notes += filter(None, [memory_warning(model, gpu, on)])
    if json:
        _emit({"as_of": on.isoformat(), "model": model, "per_month": per_month, "quotes": rows, "break_even": crossing,
               "notes": notes, **({"break_even_unknown": unknown} if unknown else {})})  # fmt: skip
        return
    columns = ("provider", "USD a picture", f"USD for {per_month:,}", "as of", "source")
    table = Table(*columns)
    for row in rows:
        usd, total = (row[name] or "unknown" for name in ("usd", "usd_month"))
        table.add_row(row["provider"] or row["model"], usd, total, row["as_of"] or "", escape(row["source"] or ""))
    out.print(table)
    if crossing:
        print(_finding(crossing, gpu))
        print(f"  assumed: {_assumed(crossing['assumptions'])}")
    elif unknown:
        print(f"break-even unknown: {unknown}")
    for warning in dict.fromkeys([*(w for row in rows for w in row["warnings"]), *notes]):
        say.print(f"note: {warning}", style="yellow", markup=False)


def _emit(value: Any) -> None:
    print(json_of(value, indent=2, ensure_ascii=False))


def _row(quote: Any, per_month: int) -> dict[str, Any]:
    known = quote.price
    return {
        "provider": quote.provider, "model": quote.model, "usd": known.usd if known else None,
        "usd_month": format((quote.usd * per_month).normalize(), "f") if known else None,
        "as_of": known.as_of if known else None, "source": known.source if known else None,
        "warnings": list(quote.warnings),
    }  # fmt: skip


def _crossing(model: str, variant: str, gpu: str, stable: bool, on: date) -> dict[str, Any] | None:
    """The break-even against the cheapest price that is not stale; None where a part of it is unknown."""
    from chapter38.ladder import Needs, advise, assumptions

    crossing = advise(Needs(model=model, variant=variant, gpu=gpu, stable=stable), on).break_even
    if crossing is None:
        return None
    values = {name: getattr(crossing, name) for name in ("pictures", "low", "high", "call_usd")}
    known = {name: None if value is None else str(value) for name, value in values.items()}
    return {**known, "never": crossing.never, "assumptions": _ends(assumptions(stable, ["canvas"]))}


def _ends(ranges: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {name: {end: str(getattr(known, end)) for end in ("low", "mid", "high")} for name, known in ranges.items()}


def _assumed(ends: dict[str, dict[str, str]]) -> str:
    return "; ".join(f"{name} {r['low']} to {r['high']}, likely {r['mid']}" for name, r in ends.items())


def _check(model: str | None, gpu: str) -> None:
    """Raise ModelError for a model or card that no table and no registry knows, whatever the day."""
    from chapter38.call.prices import all_hardware, all_prices
    from chapter38.errors import ModelError
    from chapter38.recipe import models

    timed = {row.of for row in all_hardware() if row.fact == "seconds"}
    names = {row.model for row in all_prices()} | timed | set(models())
    for option, what, word, known in (
        ("--model", "model", model, names),
        ("--gpu", "card", gpu, {r.gpu for r in all_hardware()}),
    ):
        if word is not None and word not in known:
            raise ModelError(f"{option}: unknown {what} {word!r}; expected one of: {', '.join(sorted(known))}")


def _break_even_unknown(model: str, variant: str, gpu: str, on: date) -> str:
    """Every part that a break-even lacks, and of the timing and the hour the cards that have them."""
    from chapter38.call.cost import price as price_of
    from chapter38.call.prices import known_hardware

    def missing(what: str, kind: str, fact: str, of: str | None) -> str | None:
        cards = sorted({row.gpu for row in known_hardware(fact, on, of=of)})
        return None if gpu in cards else f"no {what} {gpu}; {kind} cards: {', '.join(cards) or 'none'}"

    which = f"in the variant {variant}" if variant else "without a variant"
    known = price_of(model, variant=variant, as_of=on).usd is not None
    sold = None if known else f"no dated price of {model} at 1024x1024 {which}"
    timed = missing(f"timing of {model} on", "timed", "seconds", model)
    hour = missing("dated price of an hour of", "priced", "usd_hour", None)
    return "; ".join(filter(None, (timed, hour, sold)))


def _finding(crossing: dict[str, Any], gpu: str) -> str:
    if not crossing["pictures"]:
        return f"renting a {gpu} never pays at {crossing['call_usd']} USD a picture"
    middle, low, high = (f"{float(v):,.0f}" if (v := crossing[n]) else "never" for n in ("pictures", "low", "high"))
    return f"renting a {gpu} pays from {middle} pictures a month ({low} to {high}) against {crossing['call_usd']} USD each"


@price_app.command()
def refresh(
    accept: Annotated[bool, typer.Option("--accept", help="Write the new rows into prices.csv.")] = False,
) -> None:
    """Show what litellm's price file says that prices.csv does not, for you to accept."""
    from importlib.resources import files

    from chapter38.call.refresh import accepted
    from chapter38.call.refresh import refresh as look

    changes = look()
    for change in changes:
        name = f"{change.old.provider} {change.old.model} {change.old.variant} {change.old.meter}"
        new = f"{change.new.usd} {change.new.ends}" if change.new else "no longer listed"
        print(f"- {name}: {change.old.usd} {change.old.ends}\n+ {name}: {new}")
    print(f"{len(changes)} of the rows differ")
    if accept and changes:
        Path(str(files("chapter38.call") / "prices.csv")).write_text(accepted(changes), "utf-8")


def advise(
    ask: Annotated[bool, typer.Option("--ask", help="Ask for each need instead.")] = False,
    per_month: Annotated[int, typer.Option(help="Pictures billed a month.", min=1)] = 1000,
    stable: Annotated[bool, typer.Option(help="The volume is steady.")] = False,
    adapters: Annotated[bool, typer.Option(help="LoRAs of your own.")] = False,
    residency: Annotated[
        bool, typer.Option(help="Data may not leave your machines (for EU only, leave it out and ask the provider).")
    ] = False,
    offline: Annotated[bool, typer.Option(help="No network while drawing.")] = False,
    latency: Annotated[float | None, typer.Option(help="p95 in seconds.")] = None,
    budget: Annotated[str | None, typer.Option(help="USD a month.")] = None,
    control: Annotated[list[str] | None, typer.Option(help="A kind of control; may be repeated.")] = None,
    commercial: Annotated[bool, typer.Option(help="Commercial use.")] = True,
    revenue: Annotated[str, typer.Option(help="The company's USD a year.")] = "0",
    model: Annotated[str, typer.Option(help="What you would draw with.")] = "flux-schnell",
    variant: Annotated[str, typer.Option(help="A quality or resolution of it that is priced apart.")] = "",
    gpu: Annotated[str, typer.Option(help="The card you would rent.")] = "RTX 4090",
    team: Annotated[str, typer.Option(help="none, artists or engineers.")] = "engineers",
    as_of: AsOf = None,
    json: Json = False,
) -> None:
    """Say which rung: Call unless a need forces a step down, reason by reason.

    [bold]chapter38 advise --adapters --per-month 20000 --control controlnet[/bold]
    """
    from chapter38.ladder import Needs
    from chapter38.ladder import advise as decide

    given = {"per_month": per_month, "stable": stable, "adapters": adapters, "residency": residency, "offline": offline,
             "latency_p95": latency, "budget": budget, "control": control or [], "commercial": commercial,
             "revenue": revenue, "model": model, "variant": variant, "gpu": gpu, "team": team}  # fmt: skip
    needs = Needs(**(_asked(given) if ask else given))
    on = as_of.date() if as_of else date.today()
    _check(needs.model, needs.gpu)
    advice = decide(needs, on)
    unknown = None if advice.break_even else _break_even_unknown(needs.model, needs.variant, needs.gpu, on)
    plain, notes = _plain(needs), _notes(needs, on)
    if json:
        said = {"call_price_is_for": plain, "break_even_unknown": unknown, "notes": notes}
        _emit({**_advice(advice), **{name: value for name, value in said.items() if value}})
        return
    print(advice.rung.title() + ("" if advice.reasons else ": nothing forces a step down"))
    for reason in advice.reasons:
        print(f"  {reason.need} leaves {reason.rung.title()}: {reason.why}. What would lift it: {reason.lift}.")
    for conflict in advice.conflicts:
        print(f"  in the way: {conflict}")
    for rung, cost in advice.costs.items():
        print(f"  {rung:6} {_month(cost)}" + (f"; {plain}" if rung == "call" and plain and cost.usd else ""))
    if unknown:
        print(f"  break-even unknown: {unknown}")
    print(f"  licence of {needs.model}: {advice.licences.get(needs.model, 'unknown')}")
    for note in notes:
        print(f"  note: {note}")
    print(_rests_on(advice))


def _notes(needs: Any, on: date) -> list[str]:
    """What a reader should know of these needs that no reason and no cost says."""
    from chapter38.ladder import FAST, memory_warning

    notes = [BILLED, *filter(None, [memory_warning(needs.model, needs.gpu, on)])]
    if needs.latency_p95 is not None and needs.latency_p95 >= FAST:
        forces = f"a p95 of {needs.latency_p95:g} s forces nothing (only below {FAST:g} s does)"
        notes.append(f"{forces}, and no provider's p95 is measured here")
    return notes


def _plain(needs: Any) -> str:
    """What the price of a call leaves out of these needs; "" where it leaves out nothing."""
    lacks = ["without your LoRA"] * needs.adapters + ["wherever the provider runs"] * needs.residency
    return f"the plain model, {', '.join(lacks)}" if lacks else ""


def _month(cost: Any) -> str:
    """A month on a rung: an interval where there is one, a single price as what it is."""
    if cost.usd is None:
        return f"unknown ({cost.basis.removeprefix('unknown: ')})"
    if cost.usd.low == cost.usd.high:
        return f"USD {cost.usd.mid:.2f} (one offer) a month: {cost.basis}"
    return f"USD {cost.usd.low:.2f} to {cost.usd.high:.2f} a month, likely {cost.usd.mid:.2f} ({cost.basis})"


def _rests_on(advice: Any) -> str:
    """The day, where each price is from, and what was assumed, on one line."""
    sources = [f"{name}: {source}" for name, source in advice.sources.items()]
    assumed = _assumed(_ends(advice.assumptions))
    return "; ".join([f"as of {advice.as_of}", *sources, *([f"assumed: {assumed}"] if assumed else [])])


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """Each need, asked for on stderr in the words of its option's help; an empty answer keeps what was given."""
    from chapter38.errors import RecipeError
    from chapter38.ladder import CONTROL, Needs

    options = get_type_hints(advise, include_extras=True)
    read = {"yes": True, "y": True, "no": False, "n": False}
    answers: dict[str, Any] = {}
    for name, value in given.items():
        about = options[{"latency_p95": "latency"}.get(name, name)].__metadata__[0].help.rstrip(".")
        if isinstance(value, bool) or name == "control":
            about += f" ({', '.join(CONTROL) if name == 'control' else 'yes or no'})"
        while name not in answers:
            said = Prompt.ask(escape(f"{about} [{name}]"), console=say, default=_shown(value))
            answer = value if said == _shown(value) else said.split() if name == "control" else read.get(said, said)
            try:
                answers |= {name: getattr(Needs(**{name: answer}), name)}
            except RecipeError as error:
                say.print(str(error), style="yellow", markup=False)
    return answers


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else " ".join(value) if isinstance(value, list) else str(value)


def _advice(advice: Any) -> dict[str, Any]:
    costs = {
        rung: {"basis": cost.basis, **({n: str(getattr(cost.usd, n)) for n in ("low", "mid", "high")} if cost.usd else {})}
        for rung, cost in advice.costs.items()
    }
    return {
        "rung": advice.rung, "reasons": [vars(reason) for reason in advice.reasons], "conflicts": list(advice.conflicts),
        "licences": advice.licences, "costs": costs, "as_of": advice.as_of.isoformat(), "sources": advice.sources,
        "assumptions": _ends(advice.assumptions),
    }  # fmt: skip


def serve(
    port: Annotated[int, typer.Option(help="The port.", min=1, max=65535)] = 8038,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Listen on another address all the same.")] = False,
) -> None:
    """Serve five providers' protocols, drawn with postcards, on this machine alone.

    [bold]chapter38 serve --port 8038[/bold], then in another shell: [bold]OPENAI_BASE_URL=http://127.0.0.1:8038/v1[/bold]
    """
    from chapter38.call.server import serve as run

    say.print(f"serving on http://{host}:{port} (openai, replicate, hugging face, fal, google); stop with Ctrl-C", markup=False)
    run(port, host, allow_remote=allow_remote)
