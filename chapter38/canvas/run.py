"""run(graph) -> Picture: a workflow executed on Diffusers, without ComfyUI. What did not change does not run again."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from PIL import Image

from chapter38.canvas import compare
from chapter38.canvas import nodes as facts
from chapter38.canvas.graph import Graph, is_link
from chapter38.canvas.read import read, within
from chapter38.canvas.spelling import model_of, models, name_of
from chapter38.errors import GraphError, nearest
from chapter38.picture import Lock, Meter, Picture, Receipt
from chapter38.recipe import Recipe

Rounding = Literal["round", "truncate"]


@dataclass(frozen=True)
class Ran:
    """One node has run: `cached` where its value was still there; `steps` of a sampler as (done, of)."""

    node: str
    title: str
    number: int
    of: int
    seconds: float
    cached: bool


@dataclass
class Runner:
    """Runs workflows one after another, and keeps what the last one made.

    input, output   the folders of LoadImage and SaveImage, which they never leave; without `output` nothing is written
    models          a ComfyUI `models/` folder, for files that no registry knows
    rounding        "round" as Diffusers, or "truncate" as ComfyUI makes bytes of a picture
    watch           called with every Step of a sampler
    """

    input: Path | None = None
    output: Path | None = None
    models: Path | None = None
    rounding: Rounding = "round"
    watch: Callable[[Any], Any] | None = None
    cache: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    saved: list[tuple[Image.Image, str]] = field(default_factory=list)
    picture: Picture | None = None

    def run(self, graph: Graph) -> Iterator[Ran]:
        """Run node by node; afterwards `picture` is the last one saved, and `saved` all of them with their prefix.

        Raises GraphError before anything runs for nodes that are not known, links that do not fit, values out of range.
        """
        api = graph.api()
        order = self.needed(graph, api)
        keys: dict[str, str] = {}
        self.saved, self.picture, start = [], None, perf_counter()
        values: dict[str, tuple[Any, ...]] = {}
        for number, id in enumerate(order, 1):
            began = perf_counter()
            context = Context(self, graph, api, id)
            key = keys[id] = context.key(keys)
            kept = self.cache.get(key)
            values[id] = context.call(values) if kept is None or context.saves else kept
            yield Ran(id, context.title, number, len(order), perf_counter() - began, kept is not None and not context.saves)
        self.cache = {keys[id]: values[id] for id in order}
        self.picture = self.finish(graph, perf_counter() - start)

    def needed(self, graph: Graph, api: dict[str, Any]) -> list[str]:
        """What the saved pictures need, in an order in which it can run; GraphError names everything that stands against it."""
        from chapter38.canvas.functions import FUNCTIONS

        ends = [id for id, node in api.items() if (kind := facts.kind(node["class_type"])) and kind.is_output]
        before = {id: [v[0] for v in node.get("inputs", {}).values() if is_link(v)] for id, node in api.items()}
        wanted, queue = set(ends), list(ends)
        while queue:
            fresh = set(before.get(queue.pop(), ())) - wanted
            wanted |= fresh
            queue += fresh
        problems = [str(p) for p in compare.check(graph) if p.fatal and (p.node in wanted or not p.node)]
        for id in sorted(wanted & api.keys()):
            type = api[id]["class_type"]
            if type not in FUNCTIONS:
                problems.append(f"node {id} ({compare.way(graph, id)}): {type} does not run here; {nearest(type, FUNCTIONS)}")
        if not ends:
            problems.append("no node of this workflow saves or shows a picture; give it a SaveImage")
        if problems:
            raise GraphError("; ".join(problems))
        return list(TopologicalSorter({id: before[id] for id in api if id in wanted}).static_order())

    def finish(self, graph: Graph, seconds: float) -> Picture:
        from chapter38.canvas.functions import parts
        from chapter38.code.draw import lock, versions

        recipe: Recipe | None
        try:
            recipe, notes = read(graph, self.input)
        except GraphError as error:
            recipe, notes = None, [str(error)]
        name = recipe.model if recipe else "unnamed"
        weights = lock(parts(name, recipe.vae), recipe).weights if recipe and name in models() else {}
        locked = Lock(rung="canvas", model=name, weights=weights, versions=versions(), notes=tuple(notes))
        chunks = {"prompt": json.dumps(graph.api()), "workflow": json.dumps(graph.ui())}
        meter = Meter(seconds={"run": seconds})
        return Picture(self.saved[-1][0], recipe, Receipt(locked, meter), chunks)


@dataclass
class Context:
    """What a node's function may ask for beside its inputs."""

    runner: Runner
    graph: Graph
    api: dict[str, Any]
    id: str

    @property
    def type(self) -> str:
        return str(self.api[self.id]["class_type"])

    @property
    def title(self) -> str:
        return str((self.api[self.id].get("_meta") or {}).get("title") or self.type)

    @property
    def where(self) -> str:
        return f"node {self.id} ({compare.way(self.graph, self.id)})"

    @property
    def saves(self) -> bool:
        kind = facts.kind(self.type)
        return kind is not None and kind.is_output

    def key(self, keys: dict[str, str]) -> str:
        """Names what a node makes: its class, title and values, and the names of what comes in."""
        inputs = self.api[self.id].get("inputs", {})
        told = {name: [keys[value[0]], value[1]] if is_link(value) else value for name, value in inputs.items()}
        if self.type.startswith("LoadImage"):
            told["bytes"] = hashlib.sha256(self.picture(str(inputs.get("image"))).tobytes()).hexdigest()
        whole = [self.type, self.title, told, self.base() if "model" not in inputs else ""]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def call(self, values: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
        from chapter38.canvas.functions import FUNCTIONS

        inputs = self.api[self.id].get("inputs", {})
        found = {name: values[v[0]][v[1]] if is_link(v) else v for name, v in inputs.items()}
        try:
            return FUNCTIONS[self.type](self, **found)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise GraphError(f"{self.where}: {error}") from None

    def base(self) -> str:
        """The model that the workflow loads first: whose text encoder and VAE stand in where a file names only that part."""
        for id, node in self.api.items():
            inputs = node.get("inputs", {})
            if isinstance(named := inputs.get("unet_name") or inputs.get("ckpt_name"), str):
                return replace(self, id=id).model(model_of({"ckpt_name": named, "unet_name": named}) or named)
        return "postcards"

    def model(self, name: str) -> str:
        """A model by our name for its files, or the Diffusers folder of that name under models/. GraphError names the file."""
        folder = within(self.runner.models / "diffusers", name.removesuffix(".safetensors")) if self.runner.models else None
        if name in models() or (folder is None and "/" in name):
            return name
        if folder and (folder / "model_index.json").is_file():
            return str(folder)
        raise GraphError(
            f"{self.where}: no model {name!r}. A single-file checkpoint is not read by `run`: it must be a Diffusers folder of "
            f"that name in models/diffusers/ (--models FOLDER); {nearest(name, models())}"
        )

    def file(self, input: str, name: str) -> str:
        """What the Code rung is to look for: a file in the models folder if it is there, else our name for it."""
        from chapter38.canvas.spelling import hints

        path = within(self.runner.models / facts.FOLDERS[input], name) if self.runner.models else None
        return str(path) if path and path.is_file() else name_of(name, hints(self.title))

    def picture(self, name: str) -> Image.Image:
        """A picture that came with the graph, or lies in the input folder, and nowhere else."""
        if name in self.graph.pictures:
            return self.graph.pictures[name].image
        path = within(self.runner.input, name) if self.runner.input else None
        if path is None or not path.is_file():
            raise GraphError(f"{self.where}: no picture {name!r} in the input folder")
        try:
            image = Image.open(path)
            image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise GraphError(f"{self.where}: {name!r} is not a readable picture ({error})") from None
        return image

    def save(self, images: Any, prefix: str) -> None:
        """Take pictures (B, H, W, 3) as finished; write them where there is an output folder."""
        for unit in images.clamp(0, 1).numpy():
            scaled = (unit * 255).round() if self.runner.rounding == "round" else unit * 255
            image = Image.fromarray(scaled.astype("uint8"))
            self.runner.saved.append((image, prefix))
            if self.runner.output and self.type == "SaveImage":
                self.write(image, prefix, self.runner.output)

    def write(self, image: Image.Image, prefix: str, output: Path) -> None:
        target = within(output, f"{prefix or 'ComfyUI'}_")
        if target is None:
            raise GraphError(f"{self.where}: {prefix!r} leads out of the output folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 1 + len(list(target.parent.glob(f"{target.name}[0-9][0-9][0-9][0-9][0-9]_.png")))
        chunks = {"prompt": json.dumps(self.api), "workflow": json.dumps(self.graph.ui())}
        Picture(image, chunks=chunks).save(target.with_name(f"{target.name}{number:05}_.png"))

    def step(self, step: Any) -> None:
        if self.runner.watch:
            self.runner.watch(step)


_RUNNER = Runner()


def run(
    graph: Graph,
    *,
    input: Path | None = None,
    output: Path | None = None,
    models: Path | None = None,
    rounding: Rounding = "round",
    progress: Callable[[Ran], Any] | None = None,
) -> Picture:
    """Execute a workflow and return the last picture that it saves. What the last run made, and did not change, is kept.

    `input`, `output`: the folders that LoadImage and SaveImage may use; without `output` nothing is written. `models`: a
    ComfyUI models folder. `rounding="truncate"` makes bytes as ComfyUI does. `progress` is called after every node.
    Raises GraphError, which names every node that stands against it, before anything runs.
    """
    runner = _RUNNER
    runner.input, runner.output, runner.models, runner.rounding = input, output, models, rounding
    for ran in runner.run(graph):
        if progress:
            progress(ran)
    assert runner.picture is not None
    return runner.picture
