"""3x3 convolutions with constant weights (Winograd's algorithm where it pays) against float64 references, on every ISA.

The error class, relative to the largest result, is that of direct summation in test_conv.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from deploykit import native
from deploykit.dtypes import dtype
from deploykit.errors import InputError
from deploykit.graph import Graph, dkfile
from deploykit.interpreter import Interpreter
from deploykit.ops.activation import ACTIVATIONS
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import get

ISAS = ("scalar", "x86_sse41", "x86_avx2", "x86_avx512")
ERROR = 2e-6
# (n, h, w, c, o, pads, act, residual, act_after)
CASES = [
    (1, 56, 56, 64, 64, (1, 1, 1, 1), "relu", False, False),
    (2, 13, 17, 33, 49, (1, 1, 1, 1), "none", False, False),
    (1, 14, 15, 40, 70, (0, 1, 2, 0), "relu6", True, True),
    (1, 9, 31, 48, 17, (2, 2, 2, 2), "silu", True, False),
    (3, 9, 7, 64, 32, (1, 1, 1, 1), "gelu", False, False),
    (1, 28, 28, 256, 24, (1, 1, 1, 1), "hard_swish", True, True),
    (1, 12, 12, 32, 32, (-1, 0, 1, -2), "relu", True, False),
    (1, 7, 7, 256, 256, (1, 1, 1, 1), "relu", False, False),
]


def run(case: tuple, threads: int) -> tuple[np.ndarray, np.ndarray, str]:
    """The engine's result, the reference in float64, and the kernel chosen."""
    n, h, w, c, o, pads, act, residual, after = case
    rng = np.random.default_rng(c + o)
    x = rng.normal(size=(n, h, w, c)).astype(np.float32)
    weight = (rng.normal(size=(o, 3, 3, c)) / np.sqrt(9 * c)).astype(np.float32)
    bias = rng.normal(size=o).astype(np.float32)
    attrs = dict(pads=pads, act=act, act_alpha=0.3, act_beta=0.7, act_after=after)
    shape = (n, h + pads[0] + pads[2] - 2, w + pads[1] + pads[3] - 2, o)
    r = rng.normal(size=shape).astype(np.float32) if residual else None
    g = Graph("conv")
    b = GraphBuilder(g)
    ins = [b.input("x", dtype("float32"), x.shape), b.constant(weight), b.constant(bias)]
    if residual:
        ins.append(b.input("r", dtype("float32"), shape))
    b.output(b.op("conv", *ins, **attrs), "y")
    model = native.NativeModel(dkfile.to_bytes(g))
    session = native.NativeSession(model, threads=threads, profile=True)
    feeds = [x] + ([r] if residual else [])
    got = session(*feeds)[0]
    np.testing.assert_array_equal(got, session(*feeds)[0])
    kernel = next(r.detail for r in session.profile() if r.op == "conv")
    session.close()
    model.close()
    op = get("conv")
    wide = [None if v is None else v.astype(np.float64) for v in (x, weight, bias, r)]
    return got, op.reference(*wide, **op.complete(attrs)), kernel


def results() -> tuple[list[float], list[str]]:
    """Error of each case, relative to the largest result, and its kernel; 1, 2, 3 and 5 threads give the same bits."""
    out, kernels = [], []
    for case in CASES:
        got, want, kernel = run(case, 1)
        for threads in (2, 3, 5):
            np.testing.assert_array_equal(got, run(case, threads)[0])
        out.append(float(np.abs(got - want).max() / np.abs(want).max()))
        kernels.append(kernel)
    return out, kernels


def test_activations_exist() -> None:
    assert {case[6] for case in CASES} <= set(ACTIVATIONS)


@pytest.mark.parametrize("isa", ISAS)
def test_winograd(isa: str) -> None:
    env = dict(os.environ, DK_ISA=isa, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.test_winograd"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    if result["isa"] != isa:
        pytest.skip(f"this machine does not run {isa}")
    # The choice is by shapes alone: the same on every ISA, and both tiles are met.
    assert set(result["kernels"]) == {"winograd_f2", "winograd_f4"}, result["kernels"]
    assert max(result["errors"]) <= ERROR, result["errors"]


def test_exact_sums_reach_only_their_window() -> None:
    """precision="exact": a NaN or a huge number changes no output whose window does not hold it."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(Graph("conv"))
    weight = rng.normal(size=(32, 3, 3, 32)).astype(np.float32)
    b.output(b.op("conv", b.input("x", dtype("float32"), (1, 20, 20, 32)), b.constant(weight), pads=(1, 1, 1, 1)), "y")
    data = dkfile.to_bytes(b.graph)
    plain, exact = Interpreter(data, 1), Interpreter(data, 1, precision="exact")
    x = rng.normal(size=(1, 20, 20, 32)).astype(np.float32)
    kernels = [{r.detail for r in m.profile({"x": x}, 1) if r.op == "conv"} for m in (plain, exact)]
    assert kernels == [{"winograd_f4"}, {"taps"}]
    clean = exact.run({"x": x})["y"]
    far = np.ones((20, 20), bool)
    far[8:11, 8:11] = False
    for value in (np.nan, np.inf, 1e38):
        x[0, 9, 9, 3] = value
        got = exact.run({"x": x})["y"]
        np.testing.assert_array_equal(got[0][far], clean[0][far])


def test_precision_is_checked() -> None:
    with pytest.raises(InputError, match="precision: got 'double', expected one of default, exact, fast"):
        Interpreter(b"", precision="double")


if __name__ == "__main__":
    found = results()
    json.dump({"isa": native.library().dk_isa().decode(), "errors": found[0], "kernels": found[1]}, sys.stdout)
