"""The commands of the second rung: `export`, `run`, `check`, `diff`."""

import json as jsons
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from chapter38.errors import Chapter38Error, GraphError, MetadataError

if TYPE_CHECKING:
    from chapter38.canvas.graph import Graph
    from chapter38.recipe import Recipe

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]
say = Console(stderr=True, highlight=False)


class To(StrEnum):
    """What `export` can write."""

    comfyui = "comfyui"
    api = "comfyui-api"
    python = "python"
    curl = "curl"
    svg = "svg"
    recipe = "recipe"


ENDINGS = {To.python: ".py", To.curl: ".sh", To.svg: ".svg"}  # the others are .json


def export(
    file: Annotated[Path, typer.Argument(help="A picture, a recipe as JSON, or a ComfyUI workflow.")],
    to: Annotated[
        To, typer.Option(help="The editor's JSON, the server's, a script of plain Diffusers, curl, a drawing.")
    ] = To.comfyui,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; stdout if left out.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model: a name, or a checkpoint file that ComfyUI has.")] = None,
) -> None:
    """Write what made a picture as a ComfyUI workflow, a Python script, curl lines, a drawing, or a recipe.

    The pictures that it loads are written beside the output. [bold]chapter38 export boat.png --to comfyui -o boat.json[/bold]
    """
    from chapter38.canvas.export import inputs_of
    from chapter38.canvas.metadata import SUFFIXES

    if output is not None and output.suffix.lower() in SUFFIXES:
        raise MetadataError(f"{output}: --to {to} writes no picture; expected a name that ends in {ENDINGS.get(to, '.json')}")
    if output is not None:
        _another(file, output)
    recipe, graph = load(file)
    if model is not None:
        recipe, graph = (recipe or meaning(file)).but(model=model), None
    text = written(recipe, graph, to, file)
    if output is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    output.write_text(text, "utf-8")
    for name, pixels in inputs_of(recipe) if recipe else ():
        (output.parent / name).write_bytes(pixels.png)


def _another(file: Path, output: Path) -> None:
    if output.exists() and file.exists() and output.samefile(file):
        raise MetadataError(f"{output}: is the file to read; write under another name")


def run(
    file: Annotated[Path, typer.Argument(help="A ComfyUI workflow as JSON, or a picture that holds one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png or .webp file.")] = Path("picture.png"),
    input: Annotated[Path | None, typer.Option(help="The folder of the pictures that it loads; else the workflow's own.")] = None,
    models: Annotated[Path | None, typer.Option(help="A ComfyUI models folder, for files that are not in the registry.")] = None,
    truncate: Annotated[bool, typer.Option(help="Make bytes of the picture as ComfyUI does.")] = False,
    json: Json = False,
) -> None:
    """Run a ComfyUI workflow on Diffusers, without ComfyUI.

    [bold]chapter38 run workflow.json -o boat.png[/bold]
    """
    from chapter38.canvas.export import export as exported
    from chapter38.canvas.run import Ran
    from chapter38.canvas.run import run as run_graph

    if output.suffix.lower() not in (".png", ".webp"):
        raise MetadataError(f"{output}: expected a name that ends in .png or .webp")
    _another(file, output)
    recipe, graph = load(file)
    if graph is None:
        assert recipe is not None
        graph = exported(recipe)
    rows: list[dict[str, Any]] = []

    def progress(ran: Ran) -> None:
        rows.append({"node": ran.node, "title": ran.title, "seconds": round(ran.seconds, 3), "cached": ran.cached})
        say.print(f"[{ran.number}/{ran.of}] {ran.title}" + (" (kept)" if ran.cached else ""), markup=False)

    folder = input or file.absolute().parent
    picture = run_graph(graph, input=folder, models=models, rounding="truncate" if truncate else "round", progress=progress)
    picture.save(output)
    notes = list(picture.receipt.lock.notes) if picture.receipt else []
    if json:
        print(jsons.dumps({"file": str(output), "nodes": rows, "notes": notes}, indent=2, ensure_ascii=False))
        return
    print("\n".join([str(output), *notes]))


def check(
    file: Annotated[Path, typer.Argument(help="A ComfyUI workflow as JSON, or a picture that holds one.")],
    models: Annotated[Path | None, typer.Option(help="A ComfyUI models folder to look for the files in.")] = None,
    json: Json = False,
) -> None:
    """Say what is wrong with a workflow, and in which node. Exit code 1 where a server would refuse it.

    [bold]chapter38 check workflow.json[/bold]
    """
    from chapter38.canvas.compare import check as problems_of

    _, graph = load(file)
    if graph is None:
        raise GraphError(f"{file}: holds no workflow")
    if models is not None and not models.is_dir():
        raise GraphError(f"{models}: no such folder; expected ComfyUI's `models` folder, which holds checkpoints, loras, vae")
    found = problems_of(graph, models)
    if json:
        print(jsons.dumps([vars(problem) for problem in found], indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(str, found)) or "nothing is wrong with it that can be seen from here")
    if any(problem.fatal for problem in found):
        raise typer.Exit(1)


def diff(
    a: Annotated[Path, typer.Argument(help="A picture, recipe or workflow.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    json: Json = False,
) -> None:
    """Say what differs in meaning between two pictures, recipes or workflows. Exit code 1 where something does.

    [bold]chapter38 diff boat.png other.json[/bold]
    """
    from chapter38.canvas.compare import differences

    rows = differences(*(meaning(path) for path in (a, b)))
    if json:
        print(jsons.dumps({field: {"a": left, "b": right} for field, left, right in rows}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(f"{field}: {left!r} → {right!r}" for field, left, right in rows) or "the same in meaning")
    if rows:
        raise typer.Exit(1)


def load(file: Path) -> "tuple[Recipe | None, Graph | None]":
    """(recipe, workflow) in a file; at least one of them. Raises MetadataError or GraphError."""
    from chapter38.canvas.graph import Graph
    from chapter38.recipe import Recipe

    if file.suffix.lower() != ".json":
        from chapter38.canvas.metadata import inspect

        said = inspect(file)
        graph = Graph.parse(said.workflow) if said.workflow else None
        if said.recipe is None and graph is None:
            raise MetadataError(f"{file}: holds neither a recipe nor a workflow; {'; '.join(said.warnings) or 'nothing at all'}")
        return said.recipe, graph
    text = file.read_bytes()
    graph_error: Chapter38Error
    try:
        return None, Graph.from_json(text)
    except GraphError as error:
        graph_error = error
    try:
        return Recipe.from_json(text), None
    except Chapter38Error as error:
        raise GraphError(f"{file}: neither a workflow ({graph_error}) nor a recipe ({error})") from None


def written(recipe: "Recipe | None", graph: "Graph | None", to: To, file: Path) -> str:
    """The text of an export. A workflow that came with the file is kept as it is, where one is asked for."""
    from chapter38.canvas import script
    from chapter38.canvas.draw import svg
    from chapter38.canvas.export import export as exported

    if to in (To.comfyui, To.api, To.svg):
        if graph is None:
            assert recipe is not None
            graph = exported(recipe)
        return svg(graph) if to is To.svg else jsons.dumps(graph.ui() if to is To.comfyui else graph.api(), indent=1)
    recipe = recipe or meaning(file)
    if to is To.recipe:
        return recipe.json(indent=1)
    return script.python(recipe) if to is To.python else script.curl(recipe)


def meaning(file: Path) -> "Recipe":
    """The recipe of a file; of a workflow the one behind it, with what did not fit told on stderr."""
    from chapter38.canvas.read import read

    recipe, graph = load(file)
    if recipe is None:
        assert graph is not None
        recipe, misfits = read(graph, file.absolute().parent)
        print(*(f"{file}: {line}" for line in misfits), sep="\n", end="\n" if misfits else "", file=sys.stderr)
    return recipe
