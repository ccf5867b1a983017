"""Files made to do harm are refused with a coded error, quickly and in little memory; none of them reads another file
or runs code.  A file may also convert, when what it asks for was left to the engine, whose limits then count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit import formats
from tests.support.confined import confined
from tests.support.hostile import CASES
from tests.support.peers import need

# what importing takes is not what a file takes: done once, before the forks
for suffix in formats.IMPORTERS:
    formats.importer(suffix)
pytest.importorskip("h5py")
torch = need("torch")
SECONDS = 10.0
GROWN = 600 << 20
# time is looked at between nodes: one node of 2^36 products is finished first (docs/security.md says so)
LONG_NODES = ("onnx_slow_fold", "onnx_slow_pool")


@pytest.mark.parametrize("name", CASES)
def test_it_does_no_harm(name: str, tmp_path: Path) -> None:
    made = confined(lambda: CASES[name](tmp_path), 4 << 30, 120)  # writing it may need torch and memory of its own
    assert not made.code, made
    (path,) = (*tmp_path.glob("m.*"), *tmp_path.glob("model/m*.*"), *tmp_path.glob("model.json"))
    out = confined(lambda: dk.convert(path, tmp_path / "out.dk", verify=False))
    assert not out.code.startswith("!"), out
    assert out.seconds < SECONDS and out.grown < GROWN, out
    assert not (tmp_path / "owned").exists(), "the file ran code"
    assert not list(tmp_path.glob("out.*")) or not out.code, "a refused conversion left a file"
    if not out.code:
        data = (tmp_path / "out.dk").read_bytes()
        assert b"\1" * 8 not in data, "the file read another one"

        if name in LONG_NODES:
            return

        def use() -> None:
            it = dk.Interpreter(data, threads=1, max_memory=1 << 26, max_ops=10_000)
            it.run(np.ones(it.inputs[0].shape or (2,), np.float32), timeout=2)  # type: ignore[arg-type]

        run = confined(use)
        assert not run.code.startswith("!") and run.seconds < SECONDS, run
