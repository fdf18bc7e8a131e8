"""Small pictures with the metadata that programs write, made block by block, so that a test can also break them."""

import json
import struct
import zlib

import numpy as np
from PIL import Image

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "boats_v2.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red boat, évening 🚤", "clip": ["1", 1]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["1", 1]}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "5": {"class_type": "KSampler", "inputs": {
        "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": 2**63 + 5,
        "steps": 25, "cfg": 7.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0}},
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
}  # fmt: skip
PARAMETERS = (
    "a harbour, (masts:1.2) <lora:oil-paint:0.7>\nsecond line\nNegative prompt: fog,\nrain\n"
    'Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, Size: 512x768, '
    'ControlNet 0: "Module: canny, Model: control_canny [d14c016b], Weight: 1, Guidance Start: 0", '
    'Model hash: 6ce0161689, Model: harbours, Clip skip: 2, Version: v1.10.1'
)  # fmt: skip


def image(size=(24, 16)):
    x, y = np.mgrid[: size[1], : size[0]]
    return Image.fromarray(np.stack([x * 7, y * 5, x * y], -1).astype(np.uint8))


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def text_chunk(key: str, text: str | bytes, kind: bytes = b"tEXt", packed: bool = False) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    head = key.encode() + b"\0"
    if kind == b"zTXt":
        return chunk(kind, head + b"\0" + zlib.compress(raw))
    if kind == b"iTXt":
        return chunk(kind, head + bytes([packed, 0]) + b"en\0\0" + (zlib.compress(raw) if packed else raw))
    return chunk(kind, head + raw)


def png(*before: bytes, after: tuple[bytes, ...] = (), tail: bytes = b"") -> bytes:
    """A PNG with chunks before its IDAT, after it, and bytes after its end."""
    picture = image()
    rows = b"".join(b"\0" + picture.crop((0, y, picture.width, y + 1)).tobytes() for y in range(picture.height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 0))
    body = b"".join(before) + chunk(b"IDAT", zlib.compress(rows)) + b"".join(after)
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"") + tail


def tiff(entries: dict[int, tuple[int, bytes]], order: str = "<", sub: dict[int, tuple[int, bytes]] | None = None) -> bytes:
    """An EXIF block: tag -> (type, bytes) of the first directory and of the Exif directory."""
    entries = dict(entries)
    room = 8 + 2 + 12 * (len(entries) + bool(sub)) + 4
    if sub:
        entries[0x8769] = (4, struct.pack(order + "I", room))
    out, heap = b"", b""
    for directory in (entries, sub or {}):
        base = room + (2 + 12 * len(sub) + 4 if sub else 0)
        rows = b""
        for tag, (kind, data) in sorted(directory.items()):
            count = len(data) // {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}[kind]
            inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", base + len(heap))
            heap += data if len(data) > 4 else b""
            rows += struct.pack(order + "HHI", tag, kind, count) + inline
        if directory:
            out += struct.pack(order + "H", len(directory)) + rows + struct.pack(order + "I", 0)
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return magic + struct.pack(order + "I", 8) + out + heap


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A lossless WebP of the small picture, with more chunks behind it."""
    import io

    buffer = io.BytesIO()
    image().save(buffer, "WEBP", lossless=True)
    body = buffer.getvalue()[12:]
    for kind, data in chunks:
        body += kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG of the small picture, with more segments in front."""
    import io

    buffer = io.BytesIO()
    image().save(buffer, "JPEG", progressive=True)
    parts = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return b"\xff\xd8" + parts + buffer.getvalue()[2:]


def corpus() -> dict[str, bytes]:
    """One file of every kind that is read, by name: the seeds of the fuzz."""
    graph = json.dumps(GRAPH)
    comment = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    return {
        "comfyui.png": png(text_chunk("prompt", graph), text_chunk("workflow", json.dumps({"nodes": [], "links": []}))),
        "late.png": png(after=(text_chunk("parameters", PARAMETERS, b"iTXt", True),), tail=b"tail"),
        "packed.png": png(text_chunk("parameters", PARAMETERS, b"zTXt"), chunk(b"tIME", b"\x07\xe8\1\1\1\1\1")),
        "comfyui.webp": riff((b"EXIF", tiff({0x0110: (2, f"prompt:{graph}".encode())}))),
        "forge.jpg": jpeg((0xE1, b"Exif\0\0" + tiff({0x0112: (3, b"\0\6")}, ">", {0x9286: (7, comment)})), (0xFE, b"hi")),
        "xmp.jpg": jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")),
    }
