"""Many recipes: JSONL in; pictures and one table of receipts out, to a folder or any fsspec address, on any number of processes.

    chapter38 batch recipes.jsonl -o out/                                    one process
    accelerate launch -m chapter38.code.batch recipes.jsonl -o out/          many GPUs, many machines

A picture is named by its recipe's key, and its receipt is written after it: whatever is killed whenever, the next run
draws what has no receipt yet and nothing else. A pass that was under way is drawn anew, to the same address.
"""

import csv
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chapter38.errors import Chapter38Error, RecipeError
from chapter38.picture import Picture, atomic
from chapter38.recipe import Recipe

RECEIPTS, TABLE = "receipts", "receipts.jsonl"
COLUMNS = ("line", "key", "status", "file", "seconds", "batch", "device", "error", "prompt", "seed", "model")


@dataclass(frozen=True)
class Line:
    """One line of the input: its number from 1, the recipe, or why it is none. Equal recipes have equal keys."""

    number: int
    key: str
    recipe: Recipe | None = None
    error: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table. status: "drawn" now, "kept" from an earlier run, or "failed" (with the error).

    seconds: this picture's share of its pass; batch: how many shared the pass; lock: the deterministic half of the receipt.
    """

    key: str
    status: str
    file: str = ""
    error: str = ""
    seconds: float = 0.0
    batch: int = 0
    device: str = ""
    lock: dict[str, Any] = field(default_factory=dict)


@dataclass
class Place:
    """Where results go: a folder, or any address that fsspec knows (s3://…, gs://…, memory://…)."""

    address: str

    def __post_init__(self) -> None:
        from fsspec.core import url_to_fs

        self.system, self.root = url_to_fs(str(self.address))
        self.system.makedirs(f"{self.root}/{RECEIPTS}", exist_ok=True)

    @property
    def local(self) -> bool:
        return "file" in (self.system.protocol if isinstance(self.system.protocol, (tuple, list)) else [self.system.protocol])

    def write(self, name: str, data: bytes) -> None:
        """All of it or nothing: renamed into place in a folder, put as one object elsewhere."""
        if not self.local:
            self.system.pipe_file(f"{self.root}/{name}", data)
            return
        atomic(Path(self.root) / name, lambda file: file.write(data))

    def read(self, name: str) -> bytes:
        return self.system.cat_file(f"{self.root}/{name}")  # type: ignore[no-any-return]

    def names(self, folder: str = "") -> set[str]:
        """Names in a folder of the place."""
        found = self.system.ls(f"{self.root}/{folder}".rstrip("/"), detail=False, refresh=True)
        return {path.rstrip("/").rsplit("/", 1)[-1] for path in found}

    def deliver(self, picture: Picture, name: str) -> None:
        """A picture with its recipe and lock inside; the meter stays in the table."""
        with tempfile.TemporaryDirectory() as folder:
            self.write(name, picture.save(Path(folder) / name).read_bytes())


def read(text: str) -> list[Line]:
    """The recipes of a JSONL text; blank lines are left out, a line that is no recipe is kept with its error."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                recipe = Recipe.from_json(line)
                lines.append(Line(number, recipe.key, recipe))
            except RecipeError as error:
                lines.append(Line(number, hashlib.sha256(line.encode("utf-8", "replace")).hexdigest(), None, str(error)))
    return lines


def passes(recipes: Iterable[Recipe], size: int) -> list[list[Recipe]]:
    """Groups of at most `size` recipes that can share a forward pass, those of one model together; each key once."""
    from chapter38.code.draw import pass_key

    groups: dict[tuple[str, str, str], dict[str, Recipe]] = {}
    for recipe in recipes:
        groups.setdefault((recipe.model, recipe.vae or "", pass_key(recipe)), {})[recipe.key] = recipe
    ordered = [list(group.values()) for _, group in sorted(groups.items())]
    return [group[i : i + size] for group in ordered for i in range(0, len(group), size)]


def run(lines: Sequence[Line], out: str, *, size: int = 16, exact: bool = False, rank: int = 0, ranks: int = 1) -> Iterator[Row]:
    """Draw what has no receipt in `out` yet, yielding a row for every key: kept ones first, then as they are drawn.

    size: how many recipes share a forward pass; a recipe's pixels may then differ from its lone drawing by 1/255.
    exact: one recipe a pass, so that its bytes depend on nothing but the recipe (and the machine), at any process count.
    rank, ranks: this process draws every `ranks`-th pass. A recipe that fails is a row with its error; the rest are drawn.
    """
    place = Place(out)
    kept = _kept(place, {line.key for line in lines if line.recipe})
    for row in kept.values():
        yield row
    for line in {line.key: line for line in lines if line.recipe is None}.values():
        yield Row(line.key, "failed", error=line.error)
    # Shares are cut from the whole list, never from what is left: a process that starts late cuts as the others did.
    for share in passes((line.recipe for line in lines if line.recipe), 1 if exact else size)[rank::ranks]:
        group = [recipe for recipe in share if recipe.key not in kept]
        for picture, row in _draw(group) if group else ():
            if picture is not None:
                place.deliver(picture, row.file)
            place.write(f"{RECEIPTS}/{row.key}.json", json.dumps(asdict(row), sort_keys=True).encode())
            yield row


def _kept(place: Place, wanted: set[str]) -> dict[str, Row]:
    """Rows of earlier runs whose picture stands in its place."""
    pictures, rows = place.names(), {}
    for name in sorted(place.names(RECEIPTS)):
        key = name.removesuffix(".json")
        if key in wanted and f"{key}.png" in pictures:
            row = Row(**json.loads(place.read(f"{RECEIPTS}/{name}")))
            if row.status != "failed":
                rows[key] = Row(**{**asdict(row), "status": "kept"})
    return rows


def _draw(group: list[Recipe]) -> Iterator[tuple[Picture | None, Row]]:
    """One pass; where it fails, each recipe by itself, so that only the guilty one is lost."""
    from chapter38.code.draw import draw_many

    try:
        drawn = draw_many(group)
    except Exception as error:  # whatever one recipe does must not cost the others
        if len(group) > 1:
            for recipe in group:
                yield from _draw([recipe])
        else:
            yield None, Row(group[0].key, "failed", error=_reason(error))
        return
    for recipe, picture in zip(group, drawn, strict=True):
        assert picture.receipt
        meter, lock = picture.receipt.meter, picture.receipt.lock.model_dump(mode="json")
        seconds = round(sum(meter.seconds.values()) / len(group), 6)
        yield picture, Row(recipe.key, "drawn", f"{recipe.key}.png", "", seconds, len(group), meter.device or "", lock)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, Chapter38Error) else f"{type(error).__name__}: {text}"


def table(lines: Sequence[Line], out: str) -> list[dict[str, Any]]:
    """Write `receipts.jsonl` and `receipts.csv`: one row a line of the input, in its order. Returns the rows."""
    place, rows = Place(out), []
    have = place.names(RECEIPTS)
    for line in lines:
        stored = json.loads(place.read(f"{RECEIPTS}/{line.key}.json")) if f"{line.key}.json" in have else {}
        row = stored or asdict(Row(line.key, "failed", error=line.error or "not drawn yet"))
        recipe = line.recipe.model_dump(include={"prompt", "seed", "model"}) if line.recipe else {}
        rows.append({"line": line.number, **recipe, **row})
    place.write(TABLE, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    place.write("receipts.csv", text.getvalue().encode())
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command on every process of `accelerate launch`: each draws its share, the first writes the table."""
    import argparse

    parser = argparse.ArgumentParser(prog="chapter38 batch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", type=Path, help="a file with one recipe a line, as JSON")
    parser.add_argument("-o", "--output", required=True, help="a folder, or any fsspec address")
    parser.add_argument("--size", type=int, default=16, help="recipes that share a forward pass (default 16)")
    parser.add_argument("--exact", action="store_true", help="one recipe a pass: the same bytes at any process count")
    options = parser.parse_args(arguments)
    try:
        lines = read(options.recipes.read_text("utf-8"))
        failed = _together(lines, options.output, options.size, options.exact)
    except FileNotFoundError as error:
        print(f"chapter38: {error.filename}: no such file", file=sys.stderr)
        return 2
    except (Chapter38Error, OSError, UnicodeDecodeError) as error:
        print(f"chapter38: {_reason(error)}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def _together(lines: list[Line], out: str, size: int, exact: bool) -> int:
    """Draw with whatever processes there are, behind a bar; the number of failed rows on the first process."""
    from rich.console import Console
    from rich.progress import Progress

    state = _processes()
    rank, ranks = (state.process_index, state.num_processes) if state else (0, 1)
    numbers: dict[str, list[str]] = {}
    for line in lines:
        numbers.setdefault(line.key, []).append(str(line.number))
    with Progress(console=Console(stderr=True), transient=True, disable=rank > 0) as bar:
        task = bar.add_task("drawing", total=max(1, -(-len(numbers) // ranks)))
        for row in run(lines, out, size=size, exact=exact, rank=rank, ranks=ranks):
            bar.advance(task)
            if row.status == "failed":
                bar.console.print(f"line {', '.join(numbers[row.key])}: {row.error}", markup=False)
    if state:
        state.wait_for_everyone()
    if rank:
        return 0
    rows = table(lines, out)
    failed = len([row for row in rows if row["status"] == "failed"])
    print(f"{len(rows) - failed} of {len(rows)} recipes drawn, {failed} failed: {out.rstrip('/')}/{TABLE}")
    return failed


def _processes() -> Any:
    """Accelerate's view of the processes that `accelerate launch` started; None where this one is alone."""
    if "WORLD_SIZE" not in os.environ:
        return None
    from accelerate import PartialState

    return PartialState()


if __name__ == "__main__":
    sys.exit(main())
