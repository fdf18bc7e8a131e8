"""What made this picture: read the metadata of PNG, WebP and JPEG, whoever wrote it; say what it reveals; strip it.

Nothing here decodes pixels or needs torch. On any file whatever: only MetadataError, at most 64 MB more memory, 2 s.
"""

import base64
import csv
import html
import io
import json
import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chapter38.canvas import a1111, chunks
from chapter38.errors import CannotExpress, Chapter38Error, MetadataError
from chapter38.picture import CHUNK, Lock, Picture, parse_chunk
from chapter38.recipe import Recipe

SUFFIXES = (".png", ".webp", ".jpg", ".jpeg")
NOTHING = "holds no metadata (stripped, or a screenshot)"
WEIGHTS = (".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".sft")
MAX_JSON = 32 * 2**20  # what a text's values may take in memory, by the estimate of _json
MAX_PIXELS = 4 * 2**20  # of the pictures inside a recipe, together
COLUMNS = ("file", "software", "prompt", "negative", "recipe", "workflow", "warnings")
KEYED = re.compile(r"\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|r8_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{20,})")
HOME = re.compile(r"(?:[A-Za-z]:[\\/]{1,4}Users[\\/]{1,4}|/home/|/Users/)([^\\/\"'\s:,]{1,64})")
TELLING = {
    "Artist": "the artist", "Copyright": "a copyright holder", "CameraOwnerName": "the camera's owner",
    "Make": "the camera", "Model": "the camera", "DateTime": "when it was made", "DateTimeOriginal": "when it was made",
    "Creation Time": "when it was made", "Author": "the author", "XPAuthor": "the author", "GPS": "where it was taken",
    "tIME": "when it was changed", "caBX": "a C2PA manifest (provenance)", "APP11": "a C2PA manifest (provenance)",
    "C2PA": "a C2PA manifest (provenance)", "trailing": "bytes after the picture's end", "xmp": "an XMP packet",
}  # fmt: skip


@dataclass
class Metadata:
    """What a picture says of its making; None where it does not say.

    `workflow` is ComfyUI's JSON: the editor's where the file has it, else what the server executed. `lock` is the
    deterministic half of our receipt. `texts` are the raw texts by name; `reveals` says in words what they give away.
    """

    file: str
    software: str | None = None
    prompt: str | None = None
    negative: str | None = None
    recipe: Recipe | None = None
    workflow: dict[str, Any] | None = field(default=None, repr=False)
    warnings: list[str] = field(default_factory=list)
    lock: Lock | None = None
    texts: dict[str, str] = field(default_factory=dict, repr=False)
    reveals: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As JSON values, with the keys of COLUMNS first, then `lock` and `reveals`."""
        row = {name: getattr(self, name) for name in COLUMNS}
        row["recipe"] = json.loads(self.recipe.json()) if self.recipe else None
        return {**row, "lock": self.lock.model_dump(mode="json") if self.lock else None, "reveals": self.reveals}

    def card(self) -> dict[str, Any]:
        """For a person: a row for each setting, what is None left out; the workflow and the lock by the command for them."""
        card: dict[str, Any] = {name: getattr(self, name) for name in COLUMNS[:4]}
        if recipe := self.recipe:
            card |= {name: getattr(recipe, name) for name in ("seed", "steps", "sampler", "spacing", "guidance", "shift")}
            card |= {"size": f"{recipe.width}x{recipe.height}", "model": recipe.model, "vae": recipe.vae}
            card["adapters"] = ", ".join(f"{adapter.name} ({adapter.weight:g})" for adapter in recipe.adapters)
            card["control"] = ", ".join(f"{control.kind} ({control.strength:g})" for control in recipe.control)
            card["hires"] = f"scale {recipe.hires.scale:g}, strength {recipe.hires.strength:g}" if recipe.hires else None
            card["image"] = f"strength {recipe.strength:g}{', within a mask' * bool(recipe.mask)}" if recipe.image else None
            card |= {"references": len(recipe.references) or None, "clip_skip": recipe.clip_skip or None}
        if self.workflow:
            nodes = self.workflow.get("nodes")
            count = len(nodes if isinstance(nodes, list) else self.workflow)
            card["workflow"] = f"{count} nodes (`chapter38 export {self.file}` writes it)"
        card["lock"] = f"`chapter38 doctor {self.file}` says what differs here" if self.lock else None
        card |= {"warnings": "; ".join(self.warnings), "reveals": ", ".join(self.reveals)}
        if not any(value for name, value in card.items() if name != "file"):
            others = ", ".join(self.texts)
            card["metadata"] = f"nothing on how it was made; only {others}" if others else NOTHING
        return card


def inspect(path: os.PathLike[str] | str) -> Metadata:
    """Read one picture's metadata. Raises MetadataError where it is no readable PNG, WebP or JPEG."""
    try:
        with Path(path).open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MetadataError("not a regular file")
            found = chunks.read_texts(file)
    except FileNotFoundError:
        raise MetadataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise MetadataError(f"{path}: is a folder; name one file (`chapter38 inspect {path}` lists them)") from None
    except (OSError, ValueError) as error:
        told = str(getattr(error, "strerror", None) or error)
        raise MetadataError(f"{path}: {_what_else(Path(path)) if told == chunks.NO_PICTURE else told}") from None
    return _understand(str(path), found)


def _what_else(path: Path) -> str:
    """What a file is that is no picture, and which command takes it."""
    if path.suffix.lower() in WEIGHTS:
        return f"is a weight file: `chapter38 inspect {path}`"
    with path.open("rb") as file:
        start = file.read(2**20)
    if start.lstrip()[:1] == b"{" and (b'"class_type"' in start or b'"nodes"' in start):
        return f"is a ComfyUI workflow, not a picture: `chapter38 check {path}`, or `chapter38 diff {path} OTHER`"
    if start.lstrip()[:1] == b"{" and b'"prompt"' in start:
        return f"is a recipe, not a picture: `chapter38 diff {path} OTHER`, or `chapter38 export {path}`"
    return chunks.NO_PICTURE


def inspect_all(paths: Iterable[os.PathLike[str] | str]) -> Iterator[Metadata]:
    """One Metadata for every picture of the files and folders, in order; an unreadable one has only warnings."""
    for path in paths:
        for file in _pictures_under(Path(path)) if Path(path).is_dir() else [Path(path)]:
            try:
                yield inspect(file)
            except MetadataError as error:
                yield Metadata(str(file), warnings=[str(error).removeprefix(f"{file}: ")])


def _pictures_under(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if name.lower().endswith(SUFFIXES) and path.is_file():
                yield path


def strip(path: os.PathLike[str] | str, to: os.PathLike[str] | str) -> list[str]:
    """Write the same picture without its metadata to `to`, pixels untouched; names of the blocks left out.

    Colour profiles and a JPEG's orientation stay. Raises MetadataError where the picture is broken or `to` is `path`.
    """
    path, to = Path(path), Path(to)
    if to.exists() and to.samefile(path):
        raise MetadataError(f"{to}: is the picture itself; write the stripped one under another name")
    part = to.with_name(f".{to.name}.part")
    try:
        with path.open("rb") as file, part.open("w+b") as out:
            dropped = chunks.strip(file, out)
        part.replace(to)
    except (OSError, MetadataError) as error:
        part.unlink(missing_ok=True)
        raise MetadataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return dropped


def as_csv(rows: Iterable[Metadata]) -> Iterator[str]:
    """Lines of CSV with a header; recipe and workflow as JSON in one cell, warnings joined by "; "."""
    yield _csv_line(COLUMNS)
    for metadata in rows:
        row = metadata.row()
        cells = [json.dumps(row[c]) if c in ("recipe", "workflow") and row[c] else row[c] for c in COLUMNS]
        yield _csv_line(["; ".join(cell) if isinstance(cell, list) else cell for cell in cells])


def _csv_line(cells: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow("" if cell is None else cell for cell in cells)
    return out.getvalue()


def with_workflow(picture: Picture) -> Picture:
    """The picture with its recipe as ComfyUI's chunks, so that it opens there as its own workflow by drag and drop.

    Where ComfyUI has no equal for the recipe, a note on the receipt says so.
    """
    from chapter38.canvas.export import export

    if picture.recipe is None:
        return picture
    try:
        graph = export(picture.recipe)
    except CannotExpress as error:
        if (receipt := picture.receipt) is None:
            return picture
        lock = receipt.lock.model_copy(update={"notes": (*receipt.lock.notes, f"no workflow inside: {error}")})
        return replace(picture, receipt=replace(receipt, lock=lock))
    return picture.with_chunks(prompt=json.dumps(graph.api()), workflow=json.dumps(graph.ui()))


# --- what the texts mean ----------------------------------------------------------------------------------------


def _understand(file: str, found: chunks.Texts) -> Metadata:
    """Ask the dialects in turn; each fills what it knows and leaves what an earlier one has said."""
    said = Metadata(file, warnings=found.warnings, texts=found.texts)
    for dialect in (_ours, _comfyui, _parameters, _software):
        try:
            dialect(said)
        except (Chapter38Error, RecursionError, MemoryError) as error:
            said.warnings.append(str(error) or type(error).__name__)
    for name in ("software", "prompt", "negative"):
        if (text := getattr(said, name)) is not None:
            setattr(said, name, _whole(text))
    said.warnings = [_whole(warning) for warning in said.warnings]
    said.reveals = _reveals(said, found.others)
    return said


def _whole(text: str) -> str:
    """The text with halves of surrogate pairs replaced, so that it can be printed and written anywhere."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json(text: str, name: str, warnings: list[str]) -> Any:
    """JSON within bounds; None and a warning where it is broken or would take too much memory. NaN and 1e999 become None."""
    brackets, commas = text.count("[") + text.count("{"), text.count(",") + text.count(":")
    cost = 80 * brackets + 64 * commas + len(text) * (1 if text.isascii() else 4)
    if cost > MAX_JSON:
        warnings.append(f"{name}: {len(text):,} characters of JSON are too much to read safely")
        return None
    from chapter38.canvas.graph import read_json

    odd: list[str] = []
    try:
        value = read_json(text, odd)
        if "\\ud" in text.lower():
            value = json.loads(_whole(json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        warnings.append(f"{name}: not JSON ({type(error).__name__}: {str(error)[:100]})")
        return None
    if odd:
        warnings.append(f"{name}: holds {odd[0][:20]}, which is no number; read as null")
    return value


def _ours(said: Metadata) -> None:
    text = said.texts.get(CHUNK)
    if text is None:
        before, tag, rest = said.texts.get("xmp", "").partition("<c38:picture>")
        text = html.unescape(rest.partition("</c38:picture>")[0]) if tag else None
    if text is None or (value := _json(text, CHUNK, said.warnings)) is None:
        return
    said.software = "Chapter 38"
    _small_enough(value.get("recipe") if isinstance(value, dict) else None)
    said.recipe, said.lock = parse_chunk(text)
    if said.recipe:
        said.prompt, said.negative = said.recipe.prompt, said.recipe.negative
    if said.lock and (version := said.lock.versions.get("chapter38")):
        said.software = f"Chapter 38 {version}"


def _small_enough(recipe: Any) -> None:
    """Raise MetadataError where pictures inside the recipe would decode to more than MAX_PIXELS."""
    if not isinstance(recipe, dict):
        return
    listed = {name: value if isinstance(value := recipe.get(name), list) else [] for name in ("control", "references")}
    pictures = [recipe.get("image"), recipe.get("mask"), *listed["references"]]
    pictures += [control.get("image") for control in listed["control"] if isinstance(control, dict)]
    pixels = 0
    for picture in pictures:
        if not isinstance(picture, dict) or not isinstance(picture.get("png"), str):
            continue
        try:
            png = base64.b64decode(picture["png"], validate=True)
            inner = chunks.read_texts(io.BytesIO(png))
        except (ValueError, MetadataError):
            raise MetadataError("a picture inside the recipe is no PNG") from None
        if inner.format != "PNG" or inner.texts or inner.others or inner.warnings:
            raise MetadataError("a picture inside the recipe is no plain PNG")
        pixels += int.from_bytes(png[16:20]) * int.from_bytes(png[20:24])
    if pixels > MAX_PIXELS:
        raise MetadataError(f"the recipe's own pictures have {pixels:,} pixels; at most {MAX_PIXELS:,} are read here")


def _comfyui(said: Metadata) -> None:
    """`prompt` is what the server executed, `workflow` what the editor showed; either alone is enough."""
    known = {}
    for name in ("prompt", "workflow"):
        text = said.texts.get(name, "")
        if text.lstrip()[:1] == "{" and isinstance(value := _json(text, name, said.warnings), dict):
            known[name] = value
    if not known:
        return
    said.workflow = known.get("workflow") or known.get("prompt")
    said.software = said.software or "ComfyUI"
    if said.recipe is None:
        _read_graph(said, known)


def _read_graph(said: Metadata, known: dict[str, Any]) -> None:
    """The recipe of a graph, or, where none can be read, the prompts that its sampler is given."""
    from chapter38.canvas.graph import Graph
    from chapter38.canvas.read import read

    graph = Graph.from_api(known["prompt"], placed=False) if "prompt" in known else Graph.from_ui(known["workflow"])
    said.prompt, said.negative = prompts(known["prompt"] if "prompt" in known else graph.api())
    said.recipe, missed = read(graph)
    said.warnings += [str(line) for line in missed]
    said.prompt, said.negative = said.recipe.prompt, said.recipe.negative


def prompts(api: dict[str, Any]) -> tuple[str | None, str | None]:
    """Positive and negative text of the first sampler, found by following its links up to a node with text."""
    for node in api.values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if isinstance(inputs, dict) and {"positive", "negative"} <= set(inputs):
            found = _text_above(api, inputs["positive"]), _text_above(api, inputs["negative"])
            if found != (None, None):
                return found
    return None, None


def _text_above(api: dict[str, Any], link: Any) -> str | None:
    queue, seen = deque([link]), set[str]()
    while queue and len(seen) < 10_000:
        link = queue.popleft()
        if not (isinstance(link, list) and link and isinstance(link[0], str)) or link[0] in seen:
            continue
        seen.add(link[0])
        node = api.get(link[0])
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(inputs, dict):
            continue
        for name in ("text", "prompt", "text_g", "clip_l", "t5xxl", "string", "value"):
            if isinstance(inputs.get(name), str):
                return str(inputs[name])
        queue += inputs.values()
    return None


def _parameters(said: Metadata) -> None:
    text = said.texts.get("parameters") or said.texts.get("UserComment") or ""
    found = a1111.parse(text) if text and text.lstrip()[:1] != "{" else None
    if found is None or said.recipe is not None:
        return
    said.software = said.software or found.software
    said.prompt, said.negative = found.prompt, found.negative
    said.recipe, missed = a1111.to_recipe(found)
    said.warnings += missed


def _software(said: Metadata) -> None:
    """Where no dialect knew the file: the program it names itself."""
    said.software = said.software or said.texts.get("Software")
    if said.prompt is None and said.software is None and "parameters" in said.texts:
        said.warnings.append("parameters: in no format that is known here")


def _reveals(said: Metadata, others: set[str]) -> list[str]:
    """What the file gives away, in words; each once, in this order."""
    out = ["the prompt"] if said.prompt else []
    if said.recipe:
        out += ["seed and settings", f"the model {said.recipe.model}"]
        out += ["pictures it was made from"] if said.recipe.image or said.recipe.control else []
        out += [f"the adapter {adapter.name}" for adapter in said.recipe.adapters]
    out += ["the whole workflow"] if said.workflow else []
    out += [f"the software {said.software}"] if said.software else []
    out += [words for name, words in TELLING.items() if name in said.texts or name in others]
    homes = {match for text in said.texts.values() for match in HOME.findall(text)[:50]}
    out += [f"a user's name in a path: {name}" for name in sorted(homes)]
    out += ["what looks like a secret key"] if any(KEYED.search(text) for text in said.texts.values()) else []
    return [_whole(line) for line in dict.fromkeys(out)]
