"""The `chapter38` command: thin wrappers; what they do lives in the rooms, imported when a command runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from chapter38.errors import Chapter38Error

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
say = Console(stderr=True, highlight=False)  # progress and errors; results go to stdout
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")]


def main() -> None:
    """Run the command; one of our errors, or the system's, becomes one line on stderr and exit code 2."""
    try:
        app()
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
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: a .png or .webp file.")] = Path("picture.png"),
    model: Annotated[str, typer.Option(help="A name in the registry, a Hub id, or a folder.")] = "postcards",
    seed: int = 0,
    json: Json = False,
) -> None:
    """Draw a recipe with Diffusers on this machine.

    [bold]chapter38 draw "a small red sailboat on the left, on the sea, at sunset" --seed 38 -o boat.png[/bold]
    """
    from chapter38.code import draw as draw_recipe
    from chapter38.recipe import Recipe

    picture = draw_recipe(Recipe(prompt=prompt, model=model, seed=seed))
    picture.save(output)


if __name__ == "__main__":
    main()
