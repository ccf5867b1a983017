"""The FlatBuffer reader on damaged and foreign bytes: a clear error or a model, never anything else."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from deploykit.converters.importers.tflite import import_tflite
from deploykit.converters.importers.tflite.flat import FlatReader
from deploykit.converters.importers.tflite.reader import read_model
from deploykit.errors import DeploykitError, FormatError, InputError
from tests.support import assets

SMALL = ["models/tflm-sine/sine_float.tflite", "models/microwakeword-a/alexa.tflite"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
        (b"\x1f\x8b\x08" + b"\0" * 20, "gzip"),
        (b"\x10\0\0\0DKIT" + b"\0" * 20, ".dk file"),
        (b"\x10\0\0\0TFL3", "damaged or cut off"),
        (b"\0\0\0\0TFL3" + b"\0" * 64, "damaged or cut off"),
    ],
)
def test_wrong_files_are_named(data: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        import_tflite(data)


@pytest.mark.parametrize("model", SMALL)
def test_truncated_files(model: str) -> None:
    data = assets.file(model).read_bytes()
    for end in range(0, len(data), max(1, len(data) // 60)):
        with pytest.raises(FormatError):
            read_model(data[:end])


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize("seed", range(4))
def test_mutated_files(model: str, seed: int) -> None:
    """Bytes changed at random, most of them where the tables are: an import, or an error of ours, in little time."""
    clean = assets.file(model).read_bytes()
    r = np.random.default_rng([seed, len(clean)])
    started = time.monotonic()
    outcomes = {"good": 0, "bad": 0}
    for _ in range(60):
        data = bytearray(clean)
        for _ in range(int(r.integers(1, 4))):
            at = int(r.integers(8, len(data) - 4))
            if r.random() < 0.5:
                data[at] = int(r.integers(0, 256))
            else:
                struct.pack_into("<I", data, at, int(r.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data)])))
        try:
            import_tflite(bytes(data))
            outcomes["good"] += 1
        except DeploykitError as e:
            assert str(e)
            outcomes["bad"] += 1
    assert outcomes["bad"] and time.monotonic() - started < 30


def test_tables_shared_without_end_are_refused() -> None:
    """A vector whose entries are vectors of the same tables: cheap to write, and work without end to follow."""
    n = 2000
    # Model at 16 with one field (subgraphs, slot 2) -> vector of n offsets to the same table
    vtable = struct.pack("<HHHHH", 10, 8, 0, 0, 4)
    head = struct.pack("<I4s", 20, b"TFL3") + b"\0\0" + vtable  # vtable at 10, table at 20
    table = struct.pack("<iI", 10, 4)  # vtable = 20 - 10; vector right behind
    body = b"".join(struct.pack("<I", (n - i) * 4) for i in range(n))
    data = head + table + struct.pack("<I", n) + body + struct.pack("<i", 0) * 4
    with pytest.raises(FormatError):
        FlatReader(data, "it").root("Model")


def test_input_shapes() -> None:
    path = assets.file("models/tflm-sine/sine_float.tflite")
    name = "serving_default_dense_input:0"
    assert import_tflite(path, input_shapes={name: [4, 1]}).outputs[0].shape == (4, 1)
    assert str(import_tflite(path, input_shapes={name: ["n", 1]}).outputs[0].shape[0]) == "n"  # type: ignore
    with pytest.raises(InputError, match="2 dims; got 1"):
        import_tflite(path, input_shapes={name: [4]})
    with pytest.raises(InputError, match="no input 'x'"):
        import_tflite(path, input_shapes={"x": [4, 1]})
