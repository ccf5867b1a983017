"""4-bit integers lie two a byte in files; older files, an element a byte, are read as before."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import deploykit as dk
from deploykit import dtypes, native
from deploykit.errors import DeploykitError, FormatError
from deploykit.graph import dkfile
from deploykit.graph.dkfile import from_bytes, stored_bytes, to_bytes
from deploykit.ops.builder import GraphBuilder

TYPES = ["int4", "uint4"]


def model(name: str, values: np.ndarray) -> dk.Graph:
    """y: a constant behind its own first element."""
    b = GraphBuilder()
    x = b.input("x", name, (1,))
    b.output(b.op("concat", x, values.astype(getattr(ml_dtypes, name)), axis=0), "y")
    return b.graph


def values(name: str, n: int) -> np.ndarray:
    least = -8 if name == "int4" else 0
    return np.array(list(itertools.islice(itertools.cycle(range(least, least + 16)), n)), np.int8)


def answer(data: bytes, name: str) -> list[int]:
    x = np.ones(1, getattr(ml_dtypes, name))
    (y,) = native.NativeSession(native.NativeModel(data))(x)
    return y.astype(np.int8).tolist()


@pytest.mark.parametrize("n", [1, 2, 3, 16, 31, 64, 129, 4097])
@pytest.mark.parametrize("name", TYPES)
def test_what_goes_in_comes_out(name: str, n: int) -> None:
    want = values(name, n)
    data = to_bytes(model(name, want))
    (constant,) = from_bytes(data).constants()
    assert constant.data.astype(np.int8).tolist() == want.tolist()
    assert stored_bytes(constant.data, dtypes.dtype(name)) == (n + 1) // 2
    assert answer(data, name) == [1, *want.tolist()]
    assert to_bytes(from_bytes(data)) == data


@pytest.mark.parametrize("name", TYPES)
def test_an_element_a_byte_is_read_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    want = values(name, 33)
    packed = to_bytes(model(name, want))
    monkeypatch.setattr(dkfile, "_stored", lambda data, dtype: data)
    plain = to_bytes(model(name, want))
    assert plain != packed
    assert answer(plain, name) == answer(packed, name) == [1, *want.tolist()]
    (constant,) = from_bytes(plain).constants()
    assert constant.data.astype(np.int8).tolist() == want.tolist()


@pytest.mark.parametrize("size", [0, 15, 16, 18, 32, 34])
def test_other_sizes_are_refused(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """33 elements take 17 bytes or 33."""
    monkeypatch.setattr(dkfile, "_stored", lambda data, dtype: np.zeros(size, np.uint8))
    data = to_bytes(model("int4", values("int4", 33)))
    with pytest.raises(DeploykitError, match="bytes"):
        native.NativeModel(data)
    with pytest.raises(FormatError):
        from_bytes(data)


def test_many_names_for_the_same_bytes_are_refused() -> None:
    """Each would be unpacked: a small file must not ask for much memory."""
    b = GraphBuilder()
    x = b.input("x", "int4", (1,))
    big = values("int4", 1 << 16)
    copies = [big.astype(ml_dtypes.int4) for _ in range(40)]
    b.output(b.op("concat", x, *copies, axis=0), "y")
    data = to_bytes(b.graph)
    assert len(data) < 2 * (1 << 15)  # stored once
    with pytest.raises(DeploykitError, match="overlap too often"):
        native.NativeModel(data)
