"""The `chapter38` command: thin wrappers; what they do lives in the rooms, imported when a command runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from chapter38 import cli_call, cli_canvas
from chapter38.errors import Chapter38Error

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
EXTRAS = {  # what each extra brings in
    "code": {"torch", "diffusers", "transformers", "accelerate", "peft", "torchsde", "fsspec"},
    "call": {"openai", "replicate", "huggingface_hub", "fal_client", "google", "fastapi", "uvicorn", "tenacity", "multipart"},
    "notebooks": {"matplotlib", "ipywidgets", "IPython", "yaml"},
}
say = Console(stderr=True, highlight=False)  # progress and errors; results go to stdout
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]


def main() -> None:
    """Run the command; one of our errors, or the system's, becomes one line on stderr and exit code 2."""
    try:
        app()
    except ModuleNotFoundError as error:
        package = (error.name or "a package").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        remedy = f"pip install 'chapter38[{extra}]'" if extra else f"pip install {package}"
        print(f"chapter38: this needs {package}, which is not installed: {remedy}", file=sys.stderr)
        sys.exit(2)
    except (Chapter38Error, OSError) as error:
        print(f"chapter38: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; the system's own errors with the file they are about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def emit(value: Any) -> None:
    """A value as JSON on stdout."""
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


@app.callback()
def _root() -> None:
    """One recipe on three rungs: Code (Diffusers), Canvas (ComfyUI), Call (hosted APIs)."""


@app.command()
def draw(
    prompt: Annotated[str | None, typer.Argument(help="What to draw; may be left out with --recipe.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png or .webp file.")] = Path("picture.png"),
    recipe: Annotated[Path | None, typer.Option(help="A recipe as JSON; the other options change it.")] = None,
    model: Annotated[str | None, typer.Option(help="A name in the registry, a Hub id, or a folder.")] = None,
    negative: Annotated[str | None, typer.Option(help="What not to draw.")] = None,
    prompt_syntax: Annotated[str | None, typer.Option(help="plain, or weighted for (word:1.3).")] = None,
    seed: Annotated[str | None, typer.Option(help="0 … 2^64-1.")] = None,
    steps: Annotated[int | None, typer.Option(help="1 … 1000.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    sampler: Annotated[str | None, typer.Option(help="euler, ddim, dpmpp_2m, …")] = None,
    spacing: Annotated[str | None, typer.Option(help="trailing, karras, simple, …")] = None,
    shift: Annotated[float | None, typer.Option(help="Timestep shift of flow-matching models.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, a multiple of 8.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, a multiple of 8.")] = None,
    vae: Annotated[str | None, typer.Option(help="Another autoencoder: a folder or a Hub id.")] = None,
    hires: Annotated[str | None, typer.Option(help="A second, larger pass: SCALE[:STRENGTH[:STEPS]].")] = None,
    adapter: Annotated[list[str] | None, typer.Option(help="A LoRA: NAME or NAME:WEIGHT; may be repeated.")] = None,
    control: Annotated[list[str] | None, typer.Option(help="KIND=HINT.png or KIND=HINT.png:STRENGTH; repeatable.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where the image may change.")] = None,
    strength: Annotated[float | None, typer.Option(help="How much the image may change, 0 … 1.")] = None,
    reference: Annotated[list[Path] | None, typer.Option(help="A picture that an edit works from; repeatable.")] = None,
    clip_skip: Annotated[int | None, typer.Option(help="Text-encoder layers to leave out.")] = None,
    best_effort: Annotated[bool, typer.Option("--best-effort", help="Note what cannot be honoured; do not stop.")] = False,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Write what this run measured beside the picture.")] = False,
    json: Json = False,
) -> None:
    """Draw a recipe with Diffusers on this machine.

    [bold]chapter38 draw "a small red sailboat on the left, on the sea, at sunset" --seed 38 -o boat.png[/bold]

    [bold]chapter38 draw "a cat" --image boat.png --strength 0.6 --sampler dpmpp_2m --spacing karras -o cat.webp[/bold]
    """
    given = {name: value for name, value in locals().items() if value is not None and value != []}
    for other in ("output", "recipe", "best_effort", "sidecar", "json"):
        given.pop(other, None)
    wanted = _recipe(recipe, given)
    _writable(output)
    from chapter38.canvas.metadata import with_workflow
    from chapter38.code.draw import draw as draw_recipe

    with _bar(wanted) as watch:
        picture = with_workflow(draw_recipe(wanted, watch=watch, best_effort=best_effort))
    picture.save(output, sidecar=sidecar)
    assert picture.receipt is not None
    lock, meter = picture.receipt.lock, picture.receipt.meter
    if json:
        emit({"file": str(output), "recipe": wanted.model_dump(), "lock": lock.model_dump(), "meter": meter.model_dump()})
        return
    for note in (*lock.notes, *(f"not honoured: {field} ({why})" for field, why in lock.not_honoured.items())):
        say.print(f"note: {note}", style="yellow", markup=False)
    print(f"{output}  {picture.image.width}x{picture.image.height}, {sum(meter.seconds.values()):.2f} s")


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, or weight files.")],
    against: Annotated[str | None, typer.Option(help="Hold a weight file against this model.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="A table of pictures as CSV.")] = False,
    strip: Annotated[Path | None, typer.Option(help="Write the picture without its metadata to this file.")] = None,
    json: Json = False,
) -> None:
    """Say what made a picture, or what a weight file is and where it will not load.

    [bold]chapter38 inspect boat.png --json[/bold]

    [bold]chapter38 inspect lora.safetensors --against sdxl[/bold]

    [bold]chapter38 inspect boat.png --strip clean.png[/bold]
    """
    if strip is not None:
        _strip(paths, strip)
        return
    from chapter38.canvas import metadata

    files = [path for path in paths if path.suffix.lower() in metadata.WEIGHTS]
    rows: list[dict[str, Any]] = []
    if files:
        from chapter38.code.examine import describe, examine

        reports = [examine(path, against) for path in files]
        if len(paths) == 1 and not json:
            print("\n".join(describe(reports[0], files[0])))
            return
        rows += [report.json() for report in reports]
    if others := [path for path in paths if path not in files]:
        if len(others) == 1 and not others[0].is_dir():
            found = [metadata.inspect(others[0])]
        else:
            found = list(metadata.inspect_all(others))
        if csv:
            print("".join(metadata.as_csv(found)), end="")
            return
        rows += [said.card() if len(found) == 1 and not json else said.row() for said in found]
    if not rows and not json:
        say.print(f"{', '.join(map(str, paths))}: no pictures in there; of weights, name the .safetensors file", markup=False)
    elif json:
        emit(rows[0] if len(rows) == 1 and len(paths) == 1 and not paths[0].is_dir() else rows)
    elif len(rows) == 1:
        _card(rows[0])
    else:
        _table(rows, ("file", "software", "prompt", "kind", "base", "warnings"))


@app.command()
def doctor(
    picture: Annotated[Path | None, typer.Argument(help="A picture: say what here differs from what drew it.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not time a picture.")] = False,
    adherence: Annotated[bool, typer.Option("--adherence", help="Draw postcards by the hundred and judge them.")] = False,
    pictures: Annotated[int, typer.Option(min=32, help="How many seen scenes --adherence draws.")] = 512,
    json: Json = False,
) -> None:
    """Say what this machine can run, what is missing, how long a picture takes; or what differs from a picture's lock.

    [bold]chapter38 doctor[/bold]

    [bold]chapter38 doctor boat.png[/bold]

    [bold]chapter38 doctor --adherence[/bold]   does the bundled model do what it is told? (minutes)
    """
    from chapter38.code import doctor as examiner

    if adherence:
        _adherence(pictures, json)
        return
    if picture is not None:
        _compare(picture, json)
        return
    found = examiner.examine_machine()
    if not quick and not examiner.missing_of("code"):
        found["seconds_a_picture"] = examiner.time_of_one_picture()
    if json:
        emit(found)
        return
    models = found.pop("models")
    _card(found)
    for row in models:
        row["fits"] = {True: "yes", False: "no", None: "unknown"}[row["fits"]]
    _table(models, ("model", "fits", "needs_gib", "tier", "here", "licence"))
    from chapter38.code.examine import shipped

    for card in shipped():
        _card({"adapter": card["name"], "measured": card["date"], **card["figures"]})


def _adherence(pictures: int, json: bool) -> None:
    """The figures of the model card, measured here; exit code 1 where a target lies above what was measured."""
    from tqdm import tqdm

    from chapter38.measure import world

    with tqdm(total=world.to_draw(pictures), unit="picture", file=sys.stderr, disable=None) as bar:
        measured = world.measure(pictures, on=bar.update)
    rows = [
        {"set": of, "right": what, "share": value.value, "low": value.low, "high": value.high, "n": value.n,
         "target": world.TARGETS.get((of, what))}
        for (of, what), value in measured.right.items()
    ]  # fmt: skip
    distance = {"frechet_distance": measured.distance.value, "low": measured.distance.low, "high": measured.distance.high}
    if json:
        emit({"adherence": rows, **distance, "short_of": measured.short_of()})
    else:
        percent = lambda row: {k: f"{v:.1%}" if isinstance(v, float) else v for k, v in row.items()}  # noqa: E731
        _table([percent(row) for row in rows], ("set", "right", "share", "low", "high", "n", "target"))
        _card({"Fréchet distance to fresh renders": str(measured.distance)})
    sys.exit(1 if measured.short_of() else 0)


@app.command()
def convert(
    lora: Annotated[Path, typer.Argument(help="A LoRA in any spelling.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: a .safetensors file.")],
    to: Annotated[str, typer.Option(help="peft (Diffusers), kohya, or comfyui.")] = "kohya",
    model: Annotated[str | None, typer.Option(help="The base; left out, the one it was made for.")] = None,
) -> None:
    """Spell a LoRA for another program: A and B keep their bytes, alpha its value.

    [bold]chapter38 convert pytorch_lora_weights.safetensors --to kohya -o for_comfyui.safetensors[/bold]
    """
    from chapter38.code import lorafile, shapes
    from chapter38.code.examine import examine

    name = model or (examine(lora).base or "unknown").split(" or ")[0]
    print(lorafile.convert(lora, output, to, shapes.base(name)))


@app.command()
def batch(
    recipes: Annotated[Path, typer.Argument(help="A file with one recipe a line, as JSON.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A folder, or any fsspec address.")],
    size: Annotated[int, typer.Option(min=1, help="Recipes that share a forward pass.")] = 16,
    exact: Annotated[bool, typer.Option("--exact", help="One recipe a pass: its bytes depend on nothing else.")] = False,
) -> None:
    """Draw many recipes: pictures and one table of receipts; run it again after any interruption.

    [bold]chapter38 batch recipes.jsonl -o out/[/bold]

    [bold]accelerate launch -m chapter38.code.batch recipes.jsonl -o out/[/bold]   many GPUs, many machines
    """
    from chapter38.code.batch import main as run_batch

    sys.exit(run_batch([str(recipes), "-o", output, "--size", str(size), *(["--exact"] if exact else [])]))


comfyui = typer.Typer(no_args_is_help=True, help="A real ComfyUI: give it what it needs to draw postcards.")
app.add_typer(comfyui, name="comfyui")


@comfyui.callback()
def _comfyui() -> None:
    """A real ComfyUI: give it what it needs to draw postcards."""


@comfyui.command()
def install(
    into: Annotated[Path, typer.Option(help="The ComfyUI folder, or the one it is given as --base-directory.")],
    json: Json = False,
) -> None:
    """Copy the postcards models, and the pack that lets ComfyUI's own loaders read them, into a ComfyUI folder.

    [bold]chapter38 comfyui install --into ~/ComfyUI[/bold]
    """
    from chapter38.canvas.install import install as put

    written = [str(path) for path in put(into)]
    if json:
        emit({"written": written})
        return
    print("\n".join(written))
    say.print("Start ComfyUI anew; its CheckpointLoaderSimple then lists postcards.safetensors.")


def _strip(paths: list[Path], to: Path) -> None:
    from chapter38.canvas import metadata
    from chapter38.errors import MetadataError

    if len(paths) != 1:
        raise MetadataError(f"--strip takes one picture, got {len(paths)}")
    dropped = metadata.strip(paths[0], to)
    print(f"{to}  without {', '.join(dropped) or 'anything: there was nothing to leave out'}")


def _compare(path: Path, json: bool) -> None:
    """What differs from a picture's lock; exit code 1 where something does."""
    from chapter38.code.doctor import differences
    from chapter38.errors import MetadataError
    from chapter38.picture import Picture

    receipt = Picture.open(path).receipt
    if receipt is None:
        raise MetadataError(f"{path}: holds no lock, so there is nothing to compare")
    found = differences(receipt.lock)
    if json:
        emit({"file": str(path), "differs": found})
    else:
        print("\n".join(found) if found else f"{path}: everything here is as it was when it was drawn")
    if found:
        raise typer.Exit(1)


def _recipe(file: Path | None, given: dict[str, Any]) -> Any:
    """The recipe of a JSON file with the options given on the command line over it."""
    import json

    from chapter38.errors import RecipeError
    from chapter38.recipe import Recipe

    fields: dict[str, Any] = {}
    if file is not None:
        fields = json.loads(Recipe.from_json(file.read_bytes()).json())
        if "model" in given:  # another model brings its own defaults
            fields = {key: fields[key] for key in ("prompt", "negative", "seed") if key in fields}
    if "prompt" not in given and file is None:
        raise RecipeError("nothing to draw: give a prompt, or --recipe FILE")
    split = lambda text: text.rsplit(":", 1) if ":" in text and _number(text.rsplit(":", 1)[1]) else [text, "1"]  # noqa: E731
    if adapters := given.pop("adapter", None):
        given["adapters"] = [{"name": split(a)[0], "weight": float(split(a)[1])} for a in adapters]
    if controls := given.pop("control", None):
        given["control"] = [_control(*split(text)) for text in controls]
    if "hires" in given:
        parts = given["hires"].split(":")
        given["hires"] = dict(zip(("scale", "strength", "steps"), parts, strict=False))
    if references := given.pop("reference", None):
        given["references"] = [str(path) for path in references]
    given |= {name: str(given[name]) for name in ("image", "mask") if name in given}
    return Recipe(**{**fields, **given})


def _control(what: str, strength: str) -> dict[str, Any]:
    from chapter38.errors import RecipeError

    kind, equals, file = what.partition("=")
    if not equals:
        raise RecipeError(f"control: expected KIND=HINT.png, for example edges=map.png, got {what!r}")
    return {"kind": kind, "image": file, "strength": float(strength)}


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _writable(path: Path) -> None:
    """Raise before anything is drawn where the picture could not be written."""
    import os

    from chapter38.errors import MetadataError

    if path.is_dir():
        raise MetadataError(f"{path}: is a folder; expected a file name that ends in .png or .webp")
    if path.suffix.lower() not in (".png", ".webp"):
        raise MetadataError(f"{path.name}: expected a name that ends in .png or .webp")
    if not path.absolute().parent.is_dir():
        raise MetadataError(f"{path.parent}: no such folder")
    if not os.access(path.absolute().parent, os.W_OK):
        raise MetadataError(f"{path.parent}: this folder cannot be written to")


@contextmanager
def _bar(recipe: Any) -> Iterator[Any]:
    """A progress bar on stderr that a step moves on."""
    from rich.progress import Progress

    with Progress(console=say, transient=True, disable=not say.is_terminal) as progress:
        task = progress.add_task("drawing", total=None)
        yield lambda step: progress.update(task, total=recipe.steps, completed=step.index + 1)


def _card(row: dict[str, Any]) -> None:
    """One thing as "key  value" lines; nested values as JSON, what is unknown left out."""
    import json

    for key, value in row.items():
        if value not in (None, [], {}, ""):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            print(f"{key:<16}  {text if len(text) <= 2000 else text[:2000] + '…'}")


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.table import Table

    rows = [{c: "; ".join(v) if isinstance(v := row.get(c), list) else v for c in columns} for row in rows]
    shown = [c for c in columns if any(row[c] not in (None, "") for row in rows)]
    table = Table(*shown, box=None)
    for row in rows:
        table.add_row(*("" if row[c] is None else escape(str(row[c])) for c in shown))
    Console(highlight=False, emoji=False).print(table)


for command in (cli_canvas.export, cli_canvas.run, cli_canvas.check, cli_canvas.diff):
    app.command()(command)
app.add_typer(cli_call.price_app, name="price")
app.command()(cli_call.advise)
app.command()(cli_call.serve)


if __name__ == "__main__":
    main()
