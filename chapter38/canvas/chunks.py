"""The blocks of a PNG, WebP or JPEG beside its pixels: found by walking the file, never by decoding it.

Limits hold whatever the file claims: MAX_TEXT bytes of text (decompressed), MAX_BLOCKS blocks; no block is read
whose stated length does not fit. Sources: PNG 3rd edition §5, §11.3; RIFF/WebP container specification; JIF (T.81 B).
"""

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from chapter38.canvas.exif import exif_texts, orientation
from chapter38.errors import MetadataError

MAX_TEXT = 8 * 2**20
MAX_BLOCKS = 100_000
NO_PICTURE = "not a PNG, WebP or JPEG"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_PICTURE = b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
WEBP_PICTURE = b"VP8 ,VP8L,VP8X,ALPH,ANIM,ANMF,ICCP".split(b",")
JPEG_DROPPED = {*range(0xE1, 0xF0), 0xFE} - {0xE2, 0xEE}  # keep JFIF (E0), the colour profile (E2), Adobe's colour (EE)
JPEG_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True)
class Block:
    """One block of a file: what it is, and where its body and its whole lie (byte offsets)."""

    kind: bytes
    start: int
    body: int
    size: int
    end: int


@dataclass
class Texts:
    """What the blocks of a file say: `format`, texts by name, blocks that are neither picture nor text, warnings."""

    format: str
    texts: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    left: int = MAX_TEXT

    def add(self, name: str, text: str) -> None:
        if name in self.texts and self.texts[name] != text:
            self.warnings.append(f"two texts are called {name!r}; the last one counts")
        self.texts[name] = text

    def body(self, file: BinaryIO, block: Block) -> bytes | None:
        """The block's bytes, or None and a warning where they are more than may still be read."""
        kind = name_of(block.kind)
        if block.size > self.left:
            self.warnings.append(f"{kind} block of {block.size:,} bytes is too large to read safely; skipped")
            return None
        self.left -= block.size
        file.seek(block.body)
        return file.read(block.size)


def name_of(kind: bytes) -> str:
    return kind.decode("latin-1").strip() if kind.isalnum() or kind == b"XMP " else f"0x{kind.hex().upper()}"


def read_texts(file: BinaryIO) -> Texts:
    """Every text beside the pixels. Raises MetadataError where the file is no PNG, WebP or JPEG."""
    name, walk, add, _ = _format(file)
    found = Texts(name)
    seen = None
    try:
        for seen in walk(file, False):
            add(file, seen, found)
    except MetadataError as error:
        if seen is None:
            raise
        found.warnings.append(str(error))
    if seen is None:
        raise MetadataError(f"the {name} holds nothing")
    return found


def strip(file: BinaryIO, out: BinaryIO) -> list[str]:
    """Copy the picture without its metadata, pixels untouched; names of the blocks left out.

    A JPEG's orientation is kept: without it the picture would lie on its side. Raises MetadataError.
    """
    name, walk, _, keeps = _format(file)
    dropped, turned = [], 1
    if name == "JPEG":
        out.write(b"\xff\xd8")
    for block in walk(file, True):
        if keeps(block):
            _copy(file, out, block, name)
            continue
        dropped.append(name_of(block.kind))
        if block.kind == b"\xe1" and block.size < 65536:
            file.seek(block.body)
            turned = orientation(file.read(block.size)) or turned
            if turned != 1 and (segment := _oriented(turned)):
                out.write(segment)
                turned = 1
    if name == "WebP":
        size = out.tell()
        out.seek(4)
        out.write(struct.pack("<I", size - 8))
    return sorted(set(dropped))


def _copy(file: BinaryIO, out: BinaryIO, block: Block, name: str) -> None:
    file.seek(block.start)
    left = block.end - block.start
    while left and (piece := file.read(min(left, 2**20))):
        if block.kind == b"VP8X" and len(piece) > 8:  # its flags must not promise EXIF (8) or XMP (4)
            piece = piece[:8] + bytes([piece[8] & ~0b1100]) + piece[9:]
        out.write(piece)
        left -= len(piece)


def _oriented(value: int) -> bytes:
    tiff = b"MM\0\x2a\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x0112, 3, 1, value, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _blocks_of_png(file: BinaryIO, whole: bool) -> Iterator[Block]:
    size, at = _size(file), 8
    if whole:
        yield Block(b"IHDR", 0, 0, 8, 8)
    for _ in range(MAX_BLOCKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise MetadataError(f"the PNG ends at byte {size:,}, before its IEND")
        length, kind = struct.unpack(">I4s", head)
        end = at + 12 + length
        if end > size:
            raise MetadataError(f"the PNG ends inside its {name_of(kind)} chunk ({length:,} bytes stated)")
        yield Block(kind, at, at + 8, length, end)
        at = end
        if kind == b"IEND":
            if at < size:
                yield Block(b"trailing", at, at, size - at, size)
            return
    raise MetadataError(f"the PNG has more than {MAX_BLOCKS:,} chunks")


def _text_of_png(file: BinaryIO, block: Block, found: Texts) -> None:
    kind = block.kind
    if kind not in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
        if kind not in PNG_PICTURE:
            found.others.add(name_of(kind))
        return
    if (body := found.body(file, block)) is None:
        return
    (crc,) = struct.unpack(">I", file.read(4))
    if zlib.crc32(body, zlib.crc32(kind)) != crc:
        found.warnings.append(f"a {name_of(kind)} chunk does not match its checksum; its text may be damaged")
    if kind == b"eXIf":
        exif_texts(body, found)
        return
    key, zero, rest = body.partition(b"\0")
    if not zero:
        found.warnings.append(f"a {name_of(kind)} chunk has no name; skipped")
        return
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    text = _inflate(rest, name_of(kind), found) if packed else rest
    if text is None:
        return
    name = key.decode("latin-1")
    found.add("xmp" if name == "XML:com.adobe.xmp" else name, _decode(text))


def _inflate(data: bytes, kind: str, found: Texts) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, found.left + 1)
    except zlib.error:
        found.warnings.append(f"a {kind} chunk does not decompress; skipped")
        return None
    if len(text) > found.left:
        found.left = 0
        found.warnings.append(f"a {kind} chunk decompresses to more than {MAX_TEXT:,} bytes; skipped, with what follows")
        return None
    found.left -= len(text)
    return text


def _decode(text: bytes) -> str:
    """UTF-8 where it is that, else Latin-1, the two that writers of tEXt use."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _blocks_of_webp(file: BinaryIO, whole: bool) -> Iterator[Block]:
    size = _size(file)
    file.seek(4)
    stated = 8 + struct.unpack("<I", file.read(4))[0]
    if whole:
        yield Block(b"VP8 ", 0, 0, 12, 12)
    at = 12
    for _ in range(MAX_BLOCKS):
        if at >= min(size, stated):
            if at < size:
                yield Block(b"trailing", at, at, size - at, size)
            return
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise MetadataError(f"the WebP ends at byte {size:,}, inside a chunk")
        kind, length = struct.unpack("<4sI", head)
        end = at + 8 + length + length % 2
        if at + 8 + length > size:
            raise MetadataError(f"the WebP ends inside its {name_of(kind)} chunk ({length:,} bytes stated)")
        yield Block(kind, at, at + 8, length, min(end, size))
        at = end
    raise MetadataError(f"the WebP has more than {MAX_BLOCKS:,} chunks")


def _text_of_webp(file: BinaryIO, block: Block, found: Texts) -> None:
    if block.kind in (b"EXIF", b"XMP "):
        if (body := found.body(file, block)) is not None:
            exif_texts(body, found) if block.kind == b"EXIF" else found.add("xmp", _decode(body))
    elif block.kind not in WEBP_PICTURE:
        found.others.add(name_of(block.kind))


def _blocks_of_jpeg(file: BinaryIO, whole: bool) -> Iterator[Block]:
    size, at = _size(file), 2
    for _ in range(MAX_BLOCKS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 2 or head[0] != 0xFF:
            raise MetadataError(f"the JPEG is broken at byte {at:,}: a marker was expected")
        marker = head[1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xD9:
            yield Block(b"\xd9", at, at, 0, at + 2)
            if at + 2 < size:
                yield Block(b"trailing", at + 2, at + 2, size - at - 2, size)
            return
        length = 0 if marker in JPEG_BARE else struct.unpack(">H", head[2:])[0] if len(head) == 4 else -1
        end = at + 2 + length
        if length == 1 or length < 0 or end > size:
            raise MetadataError(f"the JPEG ends inside its 0x{marker:02X} segment ({max(length, 0):,} bytes stated)")
        if marker == 0xDA:
            if not whole:
                return
            end = _scan_end(file, end, size)
        yield Block(bytes([marker]), at, at + 4, max(length - 2, 0), end)
        at = end
    raise MetadataError(f"the JPEG has more than {MAX_BLOCKS:,} segments")


def _scan_end(file: BinaryIO, at: int, size: int) -> int:
    """Where the entropy-coded data that starts at `at` ends: the next marker that is not part of it."""
    while at < size:
        file.seek(at)
        piece = file.read(2**20)
        if match := SCAN_END.search(piece):
            return at + match.start()
        at += max(len(piece) - 1, 1)
    raise MetadataError("the JPEG ends inside its picture data")


def _text_of_jpeg(file: BinaryIO, block: Block, found: Texts) -> None:
    marker = block.kind[0] if len(block.kind) == 1 else 0
    if marker not in (0xE1, 0xFE):
        if marker in JPEG_DROPPED or not marker:
            found.others.add("trailing" if not marker else f"APP{marker - 0xE0}")
        return
    if (body := found.body(file, block)) is None:
        return
    if marker == 0xFE:
        found.add("comment", _decode(body.rstrip(b"\0")))
    elif body.startswith(b"Exif\0\0"):
        exif_texts(body, found)
    elif body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        found.add("xmp", _decode(body.partition(b"\0")[2]))
    else:
        found.others.add("APP1")


Walk = Callable[[BinaryIO, bool], Iterator[Block]]
Add = Callable[[BinaryIO, Block, Texts], None]
Keeps = Callable[[Block], bool]
FORMATS: dict[str, tuple[Walk, Add, Keeps]] = {
    "PNG": (_blocks_of_png, _text_of_png, lambda block: block.kind in PNG_PICTURE),
    "WebP": (_blocks_of_webp, _text_of_webp, lambda block: block.kind in WEBP_PICTURE),
    "JPEG": (_blocks_of_jpeg, _text_of_jpeg, lambda block: len(block.kind) == 1 and block.kind[0] not in JPEG_DROPPED),
}


def _format(file: BinaryIO) -> tuple[str, Walk, Add, Keeps]:
    file.seek(0)
    magic = file.read(12)
    name = (
        "PNG" if magic.startswith(PNG_MAGIC)
        else "WebP" if magic[:4] == b"RIFF" and magic[8:] == b"WEBP"
        else "JPEG" if magic.startswith(b"\xff\xd8\xff")
        else None
    )  # fmt: skip
    if name is None:
        raise MetadataError(NO_PICTURE)
    return (name, *FORMATS[name])
