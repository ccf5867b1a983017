"""Arrays in files: equal bytes are stored once, memory is let go of, and no file stays behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

import deploykit as dk
from deploykit.graph.dkfile import load, to_bytes
from deploykit.graph.mapped import LARGE, in_file, release
from deploykit.ops import GraphBuilder


def test_equal_bytes_are_stored_once() -> None:
    r = np.random.default_rng(0)
    a = r.standard_normal((64, 64)).astype(np.float32)
    near = a.copy()
    near[-1, -1] += 1  # begins alike
    sizes = []
    for arrays in ([a], [a, a.copy(), a.T.copy().T], [a, near], [a, near, a.copy(), near.copy()]):
        b = GraphBuilder()
        y = b.input("x", "float32", (64, 64))
        for w in arrays:
            y = b.op("matmul", y, w)
        sizes.append(len(to_bytes(b.output(y, "y"))))
    one, thrice, two, pairs = (round(s / a.nbytes) for s in sizes)
    assert (one, thrice, two, pairs) == (1, 1, 2, 2)
    got = dk.Interpreter(to_bytes(b.graph)).run(a)["y"]
    assert np.allclose(got, a @ a @ near @ a @ near, rtol=1e-3, atol=1e-2)


def test_a_large_array_in_a_file() -> None:
    a = np.random.default_rng(1).standard_normal((3, LARGE // 4)).astype(np.float32)
    before = set(os.listdir(tempfile.gettempdir()))
    for x in (a, a.T, a.astype(np.float16)):
        kept = in_file(x)
        assert not kept.flags.writeable and kept.dtype == x.dtype and np.array_equal(kept, x)
        release(kept)
        release(kept[1:])
        assert np.array_equal(kept, x)
    assert not set(os.listdir(tempfile.gettempdir())) - before
    assert in_file(a[0, :5]).flags.writeable


def test_no_room_for_a_file(monkeypatch) -> None:
    def full(*_: object, **__: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    a = np.ones(LARGE, np.float32)
    assert in_file(a) is a


def test_weights_of_a_file_are_read_again(tmp_path: Path) -> None:
    b = GraphBuilder()
    w = np.random.default_rng(2).standard_normal((1024, 512)).astype(np.float32)
    dk.convert(b.output(b.op("matmul", b.input("x", "float32", (1, 1024)), w), "y"), tmp_path / "m.dk", verify=False)
    graph = load(tmp_path / "m.dk")
    (c,) = (v for v in graph.constants() if v.data is not None and v.data.size == w.size)
    assert c.data is not None
    release(c.data)
    assert np.array_equal(np.sort(c.data.ravel()), np.sort(w.ravel()))
