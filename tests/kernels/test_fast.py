"""precision="fast": operands rounded to bfloat16 in tile registers, where the CPU has them; nothing changed elsewhere.

The judge is each op's reference in double precision on operands rounded by NumPy, so what remains is float32 summation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploykit import native
from deploykit.dtypes import dtype
from deploykit.graph import Graph, dkfile
from deploykit.interpreter import Interpreter
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import get

HERE = native.describe()["fast"]
ERROR = 3e-6  # of the largest result; measured: 7e-7

CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], bool]] = {
    # x, weight, attrs, residual
    "pointwise": ((2, 14, 13, 96), (70, 1, 1, 96), dict(act="relu6"), False),
    "pointwise residual": ((1, 30, 31, 64), (48, 1, 1, 64), dict(act="relu", act_after=True), True),
    "strided": ((1, 57, 56, 130), (129, 1, 1, 130), dict(strides=(2, 2), act="silu"), True),
    "taps": ((2, 15, 14, 64), (40, 3, 3, 64), dict(pads=(1, 1, 1, 1), act="relu"), False),
    "taps of odd channels": ((1, 9, 11, 33), (17, 3, 3, 33), dict(pads=(1, 0, 1, 2), dilations=(2, 1)), False),
    "groups": ((1, 12, 12, 48), (60, 3, 3, 24), dict(groups=2, pads=(1, 1, 1, 1), act="gelu"), True),
    "stem": ((1, 65, 66, 3), (33, 7, 7, 3), dict(strides=(2, 2), pads=(3, 3, 3, 3), act="relu"), False),
    "many terms": ((1, 7, 7, 640), (64, 3, 3, 640), dict(pads=(1, 1, 1, 1)), False),
}
PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "row": ((1, 1001), (1001, 77)),
    "rows": ((3, 57, 65), (65, 48)),
    "many": ((701, 300), (300, 160)),
    "long": ((5, 20000), (20000, 16)),
}


def rounded(x: np.ndarray) -> np.ndarray:
    """To bfloat16, ties to even, as float64."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16) << np.uint64(16)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def model(op: str, inputs: list[np.ndarray | None], attrs: dict[str, Any]) -> tuple[bytes, dict[str, np.ndarray]]:
    """A file with constant weights and bias (inputs 1 and 2), and its feeds."""
    b = GraphBuilder(Graph(op))
    feeds, values = {}, []
    for i, v in enumerate(inputs):
        if v is None:
            values.append(None)
        elif i in (1, 2):
            values.append(b.constant(v))
        else:
            feeds[f"x{i}"] = v
            values.append(b.input(f"x{i}", dtype("float32"), v.shape))
    b.output(b.op(op, *values, **attrs), "y")
    return dkfile.to_bytes(b.graph), feeds


def check(op: str, inputs: list[np.ndarray | None], attrs: dict[str, Any]) -> None:
    data, feeds = model(op, inputs, attrs)
    fast = Interpreter(data, 1, precision="fast")
    assert fast.fast == HERE
    got = fast.run(feeds)["y"]
    for threads in (2, 3, 5):
        again = Interpreter(data, threads, precision="fast").run(feeds)["y"]
        np.testing.assert_array_equal(got, again)
    if not HERE:
        np.testing.assert_array_equal(got, Interpreter(data, 1).run(feeds)["y"])
        return
    p = get(op)
    wide = [None if v is None else rounded(v) if i < 2 else v.astype(np.float64) for i, v in enumerate(inputs)]
    want = p.reference(*wide, **p.complete(attrs))
    if isinstance(want, tuple):
        (want,) = want
    assert float(np.abs(got - want).max() / np.abs(want).max()) <= ERROR
    if op == "conv":
        assert [r.detail for r in fast.profile(feeds, 1) if r.op == "conv"][0].endswith("_bf16")


@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str) -> None:
    x, w, attrs, residual = CONVS[name]
    r = np.random.default_rng(3)

    def draw(*shape: int) -> np.ndarray:
        return r.normal(size=shape).astype(np.float32)

    weight, bias = draw(*w) / np.float32(np.sqrt(np.prod(w[1:]))), draw(w[0])
    inputs: list[np.ndarray | None] = [draw(*x), weight, bias]
    if residual:
        plain, feeds = model("conv", inputs, {k: v for k, v in attrs.items() if not k.startswith("act")})
        inputs.append(draw(*Interpreter(plain, 1).run(feeds)["y"].shape))
    check("conv", inputs, attrs)


@pytest.mark.parametrize("name", PRODUCTS)
def test_matmul(name: str) -> None:
    a, b = PRODUCTS[name]
    r = np.random.default_rng(4)
    inputs = [r.normal(size=s).astype(np.float32) for s in (a, b, b[-1:])]
    check("matmul", list(inputs), dict(act="gelu"))
    check("matmul", [inputs[0], np.ascontiguousarray(inputs[1].T), inputs[2]], dict(transpose_b=True))


def test_constants_of_a_nan_stay_where_they_belong() -> None:
    """Nothing of a neighbouring row or of memory behind one reaches a result, whatever it holds."""
    r = np.random.default_rng(5)
    x, w = r.normal(size=(40, 67)).astype(np.float32), r.normal(size=(67, 33)).astype(np.float32)
    data, _ = model("matmul", [x, w, None], {})
    x[7], x[39] = np.nan, np.inf
    got = Interpreter(data, 1, precision="fast").run({"x0": x})["y"]
    bad = ~np.isfinite(got).all(axis=1)
    assert list(np.flatnonzero(bad)) == [7, 39]
