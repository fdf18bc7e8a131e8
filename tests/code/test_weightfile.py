"""Headers of weight files: read whole from honest files, refused from hostile ones, and nothing is ever unpickled."""

import contextlib
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chapter38.code import weightfile
from chapter38.code.weightfile import Tensor, read_header, write
from chapter38.errors import AdapterError

ONE = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def put(folder: Path, head: Any, data: bytes = b"\0" * 8, length: int | None = None) -> Path:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path = folder / "file.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.tuples(st.sampled_from(["F16", "BF16", "F8_E4M3", "I64"]), st.lists(st.integers(0, 3), max_size=4)),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read_and_safetensors_agrees(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[str, list[int]]], metadata: dict[str, str]
) -> None:
    from safetensors import safe_open

    tensors = {}
    for name, (dtype, shape) in shapes.items():
        size = int(np.prod(shape)) * weightfile.BITS[dtype] // 8
        tensors[name] = Tensor(dtype, tuple(shape), bytes(i % 256 for i in range(size)))
    path = write(tmp_path_factory.mktemp("w") / "a.safetensors", tensors, metadata)
    header = read_header(path)
    assert {name: header.read(name) for name in header.tensors} == tensors and header.metadata == metadata
    with safe_open(path, "np") as theirs:
        assert set(theirs.keys()) == set(tensors) and (theirs.metadata() or {}) == metadata


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"no json", "not a weight file"),
        ([1], "no JSON object"),
        (b"[" * 100_000, "not a weight file"),
        ({"x": {**ONE["x"], "dtype": "F33"}}, "unknown dtype"),
        ({"x": {**ONE["x"], "dtype": ["F32"]}}, "unknown dtype"),
        ({"x": {**ONE["x"], "shape": [3]}}, "do not hold"),
        ({"x": {**ONE["x"], "shape": [-2]}}, "its shape is none"),
        ({"x": {**ONE["x"], "shape": [True, 2]}}, "its shape is none"),
        ({"x": {**ONE["x"], "shape": [2] + [1] * 5_000}}, "its shape is none"),
        ({"x": {**ONE["x"], "shape": [2**63, 2**63]}}, "its shape is none"),
        ({"x": {**ONE["x"], "data_offsets": [8, 0]}}, "do not hold"),
        ({"x": {**ONE["x"], "data_offsets": "08"}}, "offsets are none"),
        ({"x": {"dtype": "F32"}}, "expected dtype, shape"),
        ({**ONE, "y": ONE["x"]}, "overlap"),
        ({"x": {**ONE["x"], "data_offsets": [8, 16]}}, "overlap .* gap"),
        ({**ONE, "__metadata__": {"a": 1}}, "metadata"),
        (b'{"x": ' + json.dumps(ONE["x"]).encode() + b', "x": 1}', "twice"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, head: Any, says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        read_header(put(tmp_path, head))


@pytest.mark.parametrize("cut", [0, 4, 7, 8, 20, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = put(tmp_path, ONE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(AdapterError, match="truncated"):
        read_header(path)


def test_a_header_that_announces_more_than_is_read_costs_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, ONE, length=2**62)
    with pytest.raises(AdapterError, match="announces a header"):
        read_header(path)
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as file:
        file.write(struct.pack("<Q", weightfile.MAX_HEADER + 1))
        file.truncate(weightfile.MAX_HEADER + 100)
    with pytest.raises(AdapterError, match="at most"):
        read_header(huge)


def test_a_hundred_gigabytes_cost_what_their_header_costs(tmp_path: Path) -> None:
    size = 100 * 2**30
    path = put(tmp_path, {"x": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}, b"")
    with path.open("r+b") as file:
        try:
            file.truncate(path.stat().st_size + size)  # sparse: no byte of it is on the disk
        except OSError:
            pytest.skip("this file system has no sparse files; one that has runs it")
    began = time.perf_counter()
    assert read_header(path).tensors["x"].shape == (size // 2,)
    assert time.perf_counter() - began < 1


class _Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize("name", ["lora.pt", "lora.bin", "lora.ckpt", "lora.safetensors"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / name
    data = pickle.dumps(_Bomb())
    if zipped:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", data)
    else:
        path.write_bytes(data)
    with pytest.raises(AdapterError, match=r"is a pickle.*safetensors\.torch\.save_file\(torch\.load"):
        read_header(path)


@pytest.mark.parametrize("first", [b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"])
def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path: Path, first: bytes) -> None:
    length = int.from_bytes(first, "little")
    header = json.dumps({"__metadata__": {"a": "b"}, "x": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).ljust(length)
    path = tmp_path / "lora.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header.encode() + b"\0\0")
    assert read_header(path).tensors["x"].shape == (1,)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(tensors: int = 1, version: int = 3, offset: int = 0) -> bytes:
    pairs = [("general.architecture", 8, text("flux")), ("list", 9, struct.pack("<IQ", 4, 2) + struct.pack("<II", 1, 2))]
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return head + text("double_blocks.0.img_attn.qkv.weight") + struct.pack("<IQQIQ", 2, 64, 96, 12, offset) + b"\0" * 64


def test_gguf(tmp_path: Path) -> None:
    path = tmp_path / "flux-Q4_K.gguf"
    path.write_bytes(gguf())
    header = read_header(path)
    assert header.kind == "gguf" and header.metadata == {"general.architecture": "flux", "list": "[1, 2]"}
    slot = header.tensors["double_blocks.0.img_attn.qkv.weight"]
    assert (slot.dtype, slot.shape) == ("Q4_K", (96, 64))


@pytest.mark.parametrize("bad", [gguf(tensors=2**60), gguf(version=9), gguf(offset=10**9), gguf()[:60]])
def test_a_hostile_gguf_is_refused(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(bad)
    with pytest.raises(AdapterError, match="not a weight file that can be read"):
        read_header(path)


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_no_bytes_raise_anything_but_our_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("b") / "f.safetensors"
    for start in (b"", b"GGUF\3\0\0\0", struct.pack("<Q", max(2, len(data) - 8))):
        path.write_bytes(start + data)
        with contextlib.suppress(AdapterError):
            read_header(path)


@pytest.mark.parametrize(
    ("dtype", "raw", "value"), [("F16", b"\0\x3c", 1.0), ("BF16", b"\x80\x3f", 1.0), ("I64", b"\7" + b"\0" * 7, 7)]
)
def test_values_come_out_of_their_bytes(dtype: str, raw: bytes, value: float) -> None:
    assert Tensor(dtype, (1,), raw).numpy().tolist() == [value]
    with pytest.raises(AdapterError, match="F8_E4M3 cannot be read"):
        Tensor("F8_E4M3", (1,), b"\0").numpy()
