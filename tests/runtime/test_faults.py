"""Every call for memory fails once, and reading fails in every way: an error of the right kind or the right answer, and
no leak.  ``faults.c`` stands in the place of the C library's functions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from deploykit.graph import Graph
from deploykit.ops.builder import GraphBuilder
from tests.runtime.test_allocations import networks, write
from tests.support import linked


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked.program(Path(__file__).with_name("faults.c"), tmp_path_factory.mktemp("faults"), "gnu11")


def packed() -> tuple[str, Graph, list[np.ndarray]]:
    """Winograd, products with packed weights, quantized ones, a recurrent layer, a scan."""
    r, f32 = np.random.default_rng(1), np.float32
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 12, 12, 16))
    y = b.op("conv", x, r.standard_normal((16, 3, 3, 16)).astype(f32), pads=(1, 1, 1, 1), act="relu")
    y = b.op("max_pool", y, kernel=(2, 2), strides=(2, 2))[0]
    y = b.op("reshape", y, np.int64([6, 1, 96]))
    w, u = (r.standard_normal((1, 4 * 8, n)).astype(f32) for n in (96, 8))
    y = b.op("lstm", y, w, u)[0]
    y = b.op("reshape", y, np.int64([6, 8]))
    y = b.op("matmul", y, b.op("cast", r.standard_normal((8, 9)).astype(np.float16), dtype="float32"))
    b.output(b.op("softmax", b.op("einsum", y, y, equation="ij,kj->ik")), "y")
    return "packed", b.graph, [r.standard_normal((1, 12, 12, 16)).astype(f32)]


@pytest.mark.parametrize("threads", [1, 2])
def test_every_fault_is_an_error_or_nothing(program: Path, tmp_path: Path, threads: int) -> None:
    stems = [write(tmp_path, *net) for net in [*networks(), packed()]]
    done = subprocess.run([str(program), str(threads), *stems], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(rows) == set(stems)
    for row in rows.values():
        memory, io = (int(w.split("=")[1]) for w in row.split())
        assert memory > 10 and io == 21
