"""EXIF texts, read by hand from its TIFF structure: first directory and the Exif directory, no pointers followed twice."""

import struct
from typing import Protocol

TEXT_TAGS = {
    0x010D: "DocumentName", 0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x0131: "Software",
    0x0132: "DateTime", 0x013B: "Artist", 0x8298: "Copyright", 0x9003: "DateTimeOriginal",
    0x9286: "UserComment", 0x9C9C: "XPComment", 0x9C9D: "XPAuthor", 0xA430: "CameraOwnerName",
}  # fmt: skip
EXIF_DIRECTORY, GPS_DIRECTORY, ORIENTATION = 0x8769, 0x8825, 0x0112
MAX_ENTRIES = 1000


class Sink(Protocol):
    """Who collects the texts: `add(name, text)`, a set `others`, a list `warnings`."""

    others: set[str]
    warnings: list[str]

    def add(self, name: str, text: str) -> None: ...


def exif_texts(data: bytes, found: Sink) -> None:
    """Add every text of an EXIF block. ComfyUI's WebP spelling "prompt:{…}" and "workflow:{…}" is taken apart."""
    entries = _entries(data, found)
    for tag, raw in entries.items():
        if tag == GPS_DIRECTORY:
            found.others.add("GPS")
        elif tag in TEXT_TAGS:
            text = _comment(raw) if tag == 0x9286 else _wide(raw, "<") if tag >= 0x9C9B and tag < 0x9D00 else _plain(raw)
            name, colon, rest = text.partition(":")
            if colon and name.lower() in ("prompt", "workflow") and rest.lstrip()[:1] == "{":
                found.add(name.lower(), rest)
            elif text.strip():
                found.add(TEXT_TAGS[tag], text)


def orientation(data: bytes) -> int:
    """The EXIF orientation, 1 … 8; 0 where there is none."""
    order = ">" if _tiff(data)[:2] == b"MM" else "<"
    raw = _entries(data, None).get(ORIENTATION, b"")
    value = struct.unpack(order + "H", raw[:2])[0] if len(raw) >= 2 else 0
    return value if 1 <= value <= 8 else 0


def _tiff(data: bytes) -> bytes:
    return data.removeprefix(b"Exif\0\0")


def _entries(data: bytes, found: Sink | None) -> dict[int, bytes]:
    """Tag -> its raw bytes, of the first directory and the Exif directory."""
    data = _tiff(data)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        if found:
            found.warnings.append("the EXIF block is not a TIFF structure; skipped")
        return {}
    (first,) = struct.unpack_from(order + "I", data, 4)
    entries = _directory(data, order, first)
    if (pointer := entries.get(EXIF_DIRECTORY, b"")) and len(pointer) == 4:
        entries |= _directory(data, order, struct.unpack(order + "I", pointer)[0])
    return entries


def _directory(data: bytes, order: str, at: int) -> dict[int, bytes]:
    if at + 2 > len(data):
        return {}
    (count,) = struct.unpack_from(order + "H", data, at)
    entries: dict[int, bytes] = {}
    used = 0
    for position in range(at + 2, min(at + 2 + 12 * min(count, MAX_ENTRIES), len(data) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, position)
        size = number * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}.get(kind, 0)
        start = position + 8 if size <= 4 else struct.unpack_from(order + "I", data, position + 8)[0]
        used += size
        if start + size <= len(data) and used <= len(data):  # more than there is: entries that share bytes on purpose
            entries[tag] = data[start : start + size]
    return entries


def _plain(raw: bytes) -> str:
    raw = raw.rstrip(b"\0")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _wide(raw: bytes, order: str) -> str:
    return raw.decode("utf-16-le" if order == "<" else "utf-16-be", "replace").rstrip("\0")


def _comment(raw: bytes) -> str:
    """UserComment: eight bytes name the code; "UNICODE" is UTF-16 in either byte order."""
    code, text = raw[:8], raw[8:]
    if code.startswith(b"UNICODE"):
        return _wide(text, ">" if text[:512:2].count(0) >= text[1:512:2].count(0) else "<")
    return _plain(text if code.startswith((b"ASCII", b"\0\0\0\0\0\0\0\0", b"JIS")) else raw)
