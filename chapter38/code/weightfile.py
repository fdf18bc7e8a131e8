"""Weight files read from their headers alone: safetensors and GGUF, bounded against hostile ones; nothing is ever unpickled."""

import json
import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from chapter38.errors import AdapterError
from chapter38.picture import atomic

MAX_HEADER = 16 * 2**20  # bytes; the format itself allows 100 MB, real files need less than 3
MAX_DIMENSIONS = 8
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64,
    "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
GGUF_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16",
}  # fmt: skip
_GGUF_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1", "BOOL": "?"}


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies: its dtype as the format spells it, its shape, and its bytes from `start` to `end` in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor as raw little-endian bytes: copied from file to file without a change, whatever its precision."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)

    def numpy(self) -> np.ndarray:
        """Its values as float32 or wider. Raises AdapterError for a precision that numpy cannot hold (fp8, fp4)."""
        if self.dtype == "BF16":
            return (np.frombuffer(self.data, "<u2").astype("<u4") << 16).view("<f4").reshape(self.shape)
        if self.dtype not in _NUMPY:
            raise AdapterError(f"values of {self.dtype} cannot be read without torch; expected one of BF16, {', '.join(_NUMPY)}")
        values = np.frombuffer(self.data, _NUMPY[self.dtype]).reshape(self.shape)
        return values.astype(np.float32) if self.dtype == "F16" else values

    @classmethod
    def of(cls, values: np.ndarray) -> "Tensor":
        """A float32 tensor."""
        values = np.ascontiguousarray(values, "<f4")
        return cls("F32", np.shape(values), values.tobytes())


@dataclass(frozen=True)
class Header:
    """What a weight file says of itself: `kind` "safetensors" or "gguf", tensors by name, metadata, and its size in bytes."""

    path: Path
    kind: str
    tensors: dict[str, Slot]
    metadata: dict[str, str]
    size: int

    def read(self, name: str) -> Tensor:
        """One tensor, from disk."""
        slot = self.tensors[name]
        with self.path.open("rb") as file:
            file.seek(slot.start)
            return Tensor(slot.dtype, slot.shape, file.read(slot.end - slot.start))


def read_header(path: "os.PathLike[str] | str") -> Header:
    """The header of a safetensors or GGUF file: at most 16 MiB are read, whatever the size of the file.

    Raises AdapterError on a pickle, a truncated or contradictory file, or anything else.
    """
    path = Path(path)
    if path.is_dir():
        raise AdapterError(f"{path}: is a folder; expected a .safetensors file")
    with path.open("rb") as file:
        start, size = file.read(8), path.stat().st_size
        # A safetensors file begins with its header's length, whose bytes may be a pickle's first, and then with a brace.
        pickled = start[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05") and file.read(1) != b"{"
        file.seek(8)
        if pickled or path.suffix.lower() in PICKLES:
            raise AdapterError(
                f"{path.name}: is a pickle, which can run any code when it is opened, so it is not. Convert it once, where "
                "nothing can be lost: safetensors.torch.save_file(torch.load(file, weights_only=True), 'file.safetensors')"
            )
        try:
            return _gguf(path, file, size) if start[:4] == b"GGUF" else _safetensors(path, file, start, size)
        except (struct.error, UnicodeDecodeError, RecursionError, OverflowError, ValueError) as error:
            raise AdapterError(f"{path.name}: not a weight file that can be read ({str(error)[:120]})") from None


def write(path: "os.PathLike[str] | str", tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write a safetensors file, all of it or nothing; the same content gives the same bytes."""
    path, offset = Path(path), 0
    head: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for name, tensor in sorted(tensors.items()):
        entry = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(tensor.data)],
        }
        head, offset = {**head, name: entry}, offset + len(tensor.data)
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    parts = [struct.pack("<Q", len(text)), text, *(tensor.data for _, tensor in sorted(tensors.items()))]
    atomic(path, lambda file: file.writelines(parts))
    return path


def _safetensors(path: Path, file: BinaryIO, start: bytes, size: int) -> Header:
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= size - 8:
        raise ValueError(f"truncated, or no safetensors file: it announces a header of {length} bytes and holds {size}")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length} bytes; at most {MAX_HEADER} are read")
    head = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(head, dict):
        raise ValueError("its header is no JSON object")
    metadata = head.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata is not a map of texts")
    slots = {name: _slot(name, entry, 8 + length) for name, entry in head.items()}
    at = 8 + length
    for name, slot in sorted(slots.items(), key=lambda item: (item[1].start, item[1].end)):
        if slot.start != at:
            raise ValueError(f"{name[:60]}: its bytes overlap another tensor's or leave a gap")
        at = slot.end
    if at != size:
        raise ValueError(f"{'truncated' if at > size else 'too long'}: its header promises {at} bytes, it holds {size}")
    return Header(path, "safetensors", slots, metadata, size)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header names something twice")
    return found


def _slot(name: str, entry: Any, base: int) -> Slot:
    whole = lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0  # noqa: E731
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:60]}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"{name[:60]}: unknown dtype {str(dtype)[:20]!r}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(whole(n) and n < 2**48 for n in shape):
        raise ValueError(f"{name[:60]}: its shape is none")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(whole, offsets)):
        raise ValueError(f"{name[:60]}: its offsets are none")
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * BITS[dtype]:
        raise ValueError(f"{name[:60]}: {offsets[1] - offsets[0]} bytes do not hold {dtype} of shape {shape}")
    return Slot(dtype, tuple(shape), base + offsets[0], base + offsets[1])


@dataclass
class _Budget:
    """A file of which no more than MAX_HEADER bytes may be read."""

    file: BinaryIO
    left: int = MAX_HEADER

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError(f"its header is longer than the {MAX_HEADER} bytes that are read")
        self.left -= count
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("truncated within its header")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _GGUF_SCALARS:
            return self.number(_GGUF_SCALARS[kind])
        if kind == 8:
            return self.text()
        if kind != 9 or depth > 2:
            raise ValueError(f"unknown metadata type {kind}")
        inner, count = self.number("<I"), self.number("<Q")
        return [self.value(inner, depth + 1) for _ in range(min(count, self.left + 1))]


def _gguf(path: Path, file: BinaryIO, size: int) -> Header:
    """Layout: the GGUF specification in ggml's docs (magic, version, counts, metadata, tensor infos)."""
    budget = _Budget(file)
    file.seek(4)
    version, tensors, pairs = budget.number("<I"), budget.number("<Q"), budget.number("<Q")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version}; expected 2 or 3")
    metadata, slots = {}, {}
    for _ in range(pairs):
        key = budget.text()
        metadata[key] = str(budget.value(budget.number("<I")))
    for _ in range(tensors):
        name = budget.text()
        dimensions = budget.number("<I")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"{name[:60]}: {dimensions} dimensions")
        shape = tuple(budget.number("<Q") for _ in range(dimensions))[::-1]  # GGUF writes the fastest axis first
        kind, offset = budget.number("<I"), budget.number("<Q")
        if offset > size:
            raise ValueError(f"truncated: {name[:60]} begins past the end of the file")
        slots[name] = Slot(GGUF_TYPES.get(kind, f"type {kind}"), shape, offset)
    return Header(path, "gguf", slots, metadata, size)
