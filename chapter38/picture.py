"""Picture: pixels, the recipe that made them, the receipt for what it cost, and the metadata others hand along."""

import base64
import html
import io
import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chapter38.errors import MetadataError, RecipeError
from chapter38.recipe import Recipe

CHUNK = "chapter38"
MAX_CHUNK = 64 * 2**20
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
EXIF_SLOTS = {0x0110: "prompt", 0x010F: "workflow"}  # where ComfyUI keeps its chunks in WebP
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:c38="urn:chapter38:1"><Iptc4xmpExt:DigitalSourceType>{iptc}</Iptc4xmpExt:DigitalSourceType>'
    "<c38:picture>{ours}</c38:picture></rdf:Description></rdf:RDF></x:xmpmeta>"
)


class Price(BaseModel):
    """What a picture cost: `usd` as a decimal string, the price's date (ISO) and its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    usd: str
    as_of: str
    source: str


class Lock(BaseModel):
    """The deterministic half of a receipt; it travels inside the picture.

    `weights` maps file -> SHA-256, `versions` library -> version, `not_honoured` field -> why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    rung: str
    model: str
    revision: str | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    not_honoured: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    price: Price | None = None


class Meter(BaseModel):
    """What this run measured; never written into a picture. Seconds by phase, bytes, the device's name."""

    model_config = ConfigDict(extra="forbid")
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_bytes: int | None = None
    device: str | None = None
    request_id: str | None = None
    retries: int = 0


@dataclass(frozen=True)
class Receipt:
    """The lock (deterministic, inside the picture) and the meter (this run's, beside it)."""

    lock: Lock
    meter: Meter = field(default_factory=Meter, compare=False)


@dataclass(frozen=True, eq=False)
class Picture:
    """An RGB picture with its recipe, its receipt, and text chunks (name -> text) that other programs read.

    Equality compares pixels, recipe, lock and chunks; the meter stays aside.
    """

    image: Image.Image
    recipe: Recipe | None = None
    receipt: Receipt | None = None
    chunks: dict[str, str] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        mine, theirs = self.image, other.image
        return (
            (mine.mode, mine.size, self.recipe, self.receipt, self.chunks)
            == (theirs.mode, theirs.size, other.recipe, other.receipt, other.chunks)
        ) and mine.tobytes() == theirs.tobytes()

    def __repr__(self) -> str:
        what = repr(self.recipe.prompt) if self.recipe else "no recipe"
        return f"Picture({self.image.width}x{self.image.height}, {what})"

    def with_chunks(self, **chunks: str) -> "Picture":
        """The same picture with more text chunks, for example ComfyUI's `prompt` and `workflow`."""
        return replace(self, chunks={**self.chunks, **chunks})

    def save(self, path: "os.PathLike[str] | str", sidecar: bool = False) -> Path:
        """Write PNG or lossless WebP (by suffix) with recipe, lock and chunks inside; all of it or nothing.

        The same picture gives the same bytes. With `sidecar`, `<path>.meter.json` holds the meter.
        Raises MetadataError for another suffix, OSError where the folder cannot be written.
        """
        path = Path(path)
        writers = {".png": self._png, ".webp": self._webp}
        if path.suffix.lower() not in writers:
            raise MetadataError(f"{path.name}: expected a name that ends in .png or .webp")
        options = writers[path.suffix.lower()]()
        atomic(path, lambda file: self.image.save(file, **options))
        if sidecar and self.receipt:
            meter = self.receipt.meter.model_dump_json(indent=1)
            atomic(path.with_name(path.name + ".meter.json"), lambda file: file.write(meter.encode()))
        return path

    @classmethod
    def open(cls, path: "os.PathLike[str] | str") -> "Picture":
        """Read a picture that `save` wrote. Raises MetadataError where it is not a picture, or not one of ours."""
        path = Path(path)
        if path.is_dir():
            raise MetadataError(f"{path}: is a folder; expected a PNG or WebP file")
        try:
            with Image.open(path, formats=("PNG", "WEBP")) as image:
                image.load()
                chunks, ours = _read(image)
                pixels = Image.frombytes(image.mode, image.size, image.tobytes())
        except FileNotFoundError:
            raise MetadataError(f"{path}: no such file") from None
        except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
            raise MetadataError(f"{path}: not a readable picture ({error})") from None
        if ours is None:
            raise MetadataError(f"{path}: holds no Chapter 38 recipe; `chapter38 inspect` reads other programs' metadata")
        recipe, lock = parse_chunk(ours)
        return cls(pixels, recipe, Receipt(lock) if lock else None, chunks)

    def chunk(self) -> str:
        """Our own metadata chunk: recipe and lock as one JSON object."""
        recipe = json.loads(self.recipe.json()) if self.recipe else None
        lock = self.receipt.lock.model_dump(mode="json") if self.receipt else None
        return json.dumps({"version": 1, "recipe": recipe, "lock": lock}, ensure_ascii=True, sort_keys=True)

    def _png(self) -> dict[str, Any]:
        info = PngImagePlugin.PngInfo()
        for name, text in self.chunks.items():
            if text.isascii():
                info.add_text(name, text)
            else:
                info.add_itxt(name, text)
        info.add_text(CHUNK, self.chunk())
        info.add_itxt("XML:com.adobe.xmp", _XMP.format(iptc=IPTC, ours=""))
        return {"format": "PNG", "pnginfo": info}

    def _webp(self) -> dict[str, Any]:
        exif = Image.Exif()
        slots = {name: tag for tag, name in EXIF_SLOTS.items()}
        if unknown := set(self.chunks) - set(slots):
            raise MetadataError(f"WebP has no place for the chunks {sorted(unknown)}; save as PNG, or drop them")
        for name, text in self.chunks.items():
            exif[slots[name]] = f"{name}:{text}".encode()  # bytes: Pillow would replace what is not ASCII
        xmp = _XMP.format(iptc=IPTC, ours=escape(self.chunk())).encode()
        return {"format": "WEBP", "lossless": True, "method": 4, "exact": True, "exif": exif.tobytes(), "xmp": xmp}

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        prompt = html.escape(self.recipe.prompt) if self.recipe else "no recipe"
        lock = self.receipt.lock if self.receipt else None
        line = f"{lock.rung} · {lock.model}" if lock else "no receipt"
        if self.recipe:
            r = self.recipe
            line += f" · {r.sampler}/{r.spacing} · {r.steps} steps · guidance {r.guidance:g} · seed {r.seed}"
        if lock and lock.price:
            line += f" · ${lock.price.usd} ({lock.price.as_of})"
        notes = [*(f"not honoured: {k} ({v})" for k, v in lock.not_honoured.items()), *lock.notes] if lock else []
        data = base64.b64encode(buffer.getvalue()).decode()
        wide, told = max(256, self.image.width), html.escape(" · ".join([line, *notes]))
        box = f'width="{wide}" height="{wide * self.image.height // self.image.width}" style="max-width:100%;height:auto"'
        return (
            f'<figure style="margin:0;max-width:{wide}px"><img alt="{prompt}" {box} src="data:image/png;base64,{data}">'
            f"<figcaption><b>{prompt}</b><br><small>{told}</small></figcaption></figure>"
        )


def parse_chunk(text: str) -> tuple[Recipe | None, Lock | None]:
    """Recipe and lock from our own chunk. Raises MetadataError where it is broken."""
    if len(text) > MAX_CHUNK:
        raise MetadataError(f"the recipe's chunk has {len(text)} characters; at most {MAX_CHUNK} are read")
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or value.get("version") != 1:
            raise MetadataError("the recipe's chunk is of no version that this release knows (expected 1)")
        recipe = Recipe(**value["recipe"]) if value.get("recipe") is not None else None
        lock = Lock(**value["lock"]) if value.get("lock") is not None else None
    except (RecipeError, ValidationError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, MetadataError):
            raise
        raise MetadataError(f"the recipe's chunk is broken: {error}") from None
    return recipe, lock


def _read(image: Image.Image) -> tuple[dict[str, str], str | None]:
    """(chunks of other programs, our chunk) of an opened PNG or WebP."""
    if image.format == "PNG":
        chunks = {k: str(v) for k, v in getattr(image, "text", {}).items()}
        chunks.pop("XML:com.adobe.xmp", None)
        return chunks, chunks.pop(CHUNK, None)
    chunks = {}
    for tag, name in EXIF_SLOTS.items():
        value = image.getexif().get(tag)
        if isinstance(value, str) and value.startswith(name + ":"):
            text = value.split(":", 1)[1].rstrip("\0").encode("latin-1", "replace")
            chunks[name] = text.decode("utf-8", "replace")
    xmp = image.info.get("xmp", b"").decode("utf-8", "replace")
    before, found, rest = xmp.partition("<c38:picture>")
    return chunks, html.unescape(rest.partition("</c38:picture>")[0]) if found else None


def atomic(path: Path, write: Any) -> None:
    """Write beside `path`, then rename over it: a reader sees the old file or the new one, never half of one.

    write(file) is given a binary file. Raises OSError where there is no such folder, or it cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; expected a file name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
