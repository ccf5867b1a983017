"""Files that are not what they should be: each gives a clear error with a code, in Python and through C."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from deploykit import native
from deploykit.errors import DeploykitError, FormatError
from deploykit.graph import dk_tables as fb
from deploykit.graph.dkfile import to_bytes
from tests.support import fuzz_seeds


def refused(data: bytes) -> FormatError:
    """The error of the engine's verifier; loading must say the same."""
    with pytest.raises(FormatError) as verify:
        native.verify(data)
    with pytest.raises(FormatError) as load:
        native.NativeModel(data)
    assert load.value.message == verify.value.message and load.value.code == verify.value.code
    return verify.value


GOOD = to_bytes(fuzz_seeds.network())


def patched(change: object) -> bytes:
    """The good file with something changed through the FlatBuffer accessors, checksums mended."""
    data = bytearray(GOOD)
    model = fb.Model.GetRootAs(data, 0)
    change(data, model)  # type: ignore[operator]
    at = model._tab.Pos + model._tab.Offset(8)
    struct.pack_into("<I", data, at, 0)
    struct.pack_into("<I", data, at, zlib.crc32(data[: model.HeaderSize()]))
    return bytes(data)


def test_good_file_is_accepted() -> None:
    native.verify(GOOD)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"\n  <HTML lang=en>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS"),
        (gzip.compress(GOOD), "gzip"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (struct.pack("<I", 28) + b"TFL3" + bytes(60), "TFLite"),
        (b"\x08\x0a\x12\x07pytorch" + bytes(60), "ONNX"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
        (bytes(4096), "zero bytes"),
        (b"no model at all, only text", "DKIT"),
        (b"x", "DKIT"),
    ],
)
def test_other_files_are_named(data: bytes, word: str) -> None:
    e = refused(data)
    assert word in e.message and e.code == "DK-FORMAT"


@pytest.mark.parametrize("keep", [8, 40, 200, len(GOOD) // 2, len(GOOD) - 1])
def test_truncated(keep: int) -> None:
    assert "truncated" in refused(GOOD[:keep]).message


def test_too_long() -> None:
    assert "too long" in refused(GOOD + b"x").message


def test_every_flipped_bit_is_seen() -> None:
    for at in range(0, len(GOOD), 7):
        data = bytearray(GOOD)
        data[at] ^= 1 << (at % 8)
        refused(bytes(data))


def test_newer_format_version() -> None:
    def newer(data: bytearray, model: fb.Model) -> None:
        at = model._tab.Pos + model._tab.Offset(4)
        struct.pack_into("<I", data, at, 2)

    e = refused(patched(newer))
    assert e.code == "DK-VERSION" and "version 2" in e.message and "Update" in e.message


def node_field(model: fb.Model, node: int, slot: int) -> int:
    """Position of a scalar field of a node of graph 0, or of the vector behind it."""
    table = model.Graphs(0).Nodes(node)._tab
    return table.Pos + table.Offset(slot)


def test_unknown_op_is_named() -> None:
    def change(data: bytearray, model: fb.Model) -> None:
        struct.pack_into("<H", data, node_field(model, 0, 4), 60000)

    e = refused(patched(change))
    assert e.code == "DK-VERSION" and "60000" in e.message


def first_input(model: fb.Model, node: int) -> int:
    table = model.Graphs(0).Nodes(node)._tab
    return table.Vector(table.Offset(6))


@pytest.mark.parametrize("value", [-2, 10_000, 2**31 - 1])
def test_operand_out_of_range(value: int) -> None:
    def change(data: bytearray, model: fb.Model) -> None:
        struct.pack_into("<i", data, first_input(model, 0), value)

    assert "input 0" in refused(patched(change)).message


def test_cyclic_graph() -> None:
    def change(data: bytearray, model: fb.Model) -> None:
        later = model.Graphs(0).Nodes(model.Graphs(0).NodesLength() - 1).Outputs(0)
        struct.pack_into("<i", data, first_input(model, 0), later)

    assert "defined later" in refused(patched(change)).message


@pytest.mark.parametrize(("slot", "what"), [(10, "align|bytes"), (12, "bytes")])
def test_constants_outside_the_weights(slot: int, what: str) -> None:
    def change(data: bytearray, model: fb.Model) -> None:
        g = model.Graphs(0)
        constants = [g.Constants(i) for i in range(g.ConstantsLength())]
        table = next(c for c in constants if c.Offset() and c.Size())._tab
        struct.pack_into("<Q", data, table.Pos + table.Offset(slot), 2**63 + 64)

    message = refused(patched(change)).message
    assert any(w in message for w in what.split("|"))


@pytest.mark.parametrize("dim", [-1, 2**62, 2**63 - 1])
def test_impossible_dims(dim: int) -> None:
    def change(data: bytearray, model: fb.Model) -> None:
        table = model.Graphs(0).Constants(0)._tab
        struct.pack_into("<q", data, table.Vector(table.Offset(8)), dim)

    assert "dims" in refused(patched(change)).message or "bytes" in refused(patched(change)).message


def test_negative_sub_byte_constants_load() -> None:
    import ml_dtypes

    for name in ("int4", "int2"):
        graph = fuzz_seeds.GraphBuilder()
        x = graph.input("x", name, (2,))
        c = np.array([-2, 1]).astype(getattr(ml_dtypes, name))
        graph.output(graph.op("concat", x, c, axis=0), "y")
        (y,) = native.NativeSession(native.NativeModel(to_bytes(graph.graph)))(c)
        assert y.astype(np.int8).tolist() == [-2, 1, -2, 1]


def test_path_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DeploykitError, match="none.dk"):
        native.NativeModel(tmp_path / "none.dk")
    page = tmp_path / "page.dk"
    page.write_text("<html>")
    with pytest.raises(FormatError, match=r"page\.dk: .*HTML"):
        native.NativeModel(page)
    with pytest.raises(DeploykitError):
        native.NativeModel(tmp_path)


def test_crc_is_zlibs() -> None:
    # the writer uses zlib, the engine its own: long weights go through the folding loop
    rng = np.random.default_rng(1)
    for n in (1, 63, 64, 65, 1000, 4096, (1 << 20) + 17):
        graph = fuzz_seeds.GraphBuilder()
        x = graph.input("x", "uint8", (1,))
        graph.output(graph.op("concat", x, rng.integers(0, 255, n).astype(np.uint8), axis=0), "y")
        data = to_bytes(graph.graph)
        native.verify(data)
