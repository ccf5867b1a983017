"""Elementwise ops of the engine against NumPy: random broadcasting, all dtypes, odd lengths, 2 threads."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import DeploykitError
from deploykit.native import run_op

DTYPES = [d for d in dtypes.ALL if d.kind in "fiu"]


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    d = dtypes.dtype(dtype)
    a = rng.integers(0 if d.kind == "u" else -2 if d.bits == 2 else -3, 2 if d.bits == 2 else 4, shape)
    return np.asarray(a).astype(np.float32 if d.kind == "f" else np.int8).astype(d.np)


def operands(rng: np.random.Generator, n: int, rank: int, high: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast together."""
    full = [int(v) for v in rng.integers(1, high, rank)]
    out = []
    for _ in range(n):
        shape = [1 if rng.random() < 0.35 else d for d in full]
        out.append(tuple(shape[int(rng.integers(0, rank + 1)) if rng.random() < 0.3 else 0 :]))
    return out


@pytest.mark.parametrize("rank", range(9))
def test_broadcast_of_two(rank: int) -> None:
    rng = np.random.default_rng(rank)
    for _ in range(25):
        a, b = operands(rng, 2, rank, 90 if rank < 3 else 9 if rank < 5 else 4)
        dtype = str(rng.choice(["float32", "int64", "int8", "float16"]))
        x, y = numbers(rng, a, dtype), numbers(rng, b, dtype)
        got = run_op("sub", [x, y], threads=2)[0]
        np.testing.assert_array_equal(got, np.subtract(x, y))
        np.testing.assert_array_equal(run_op("less", [x, y])[0], np.less(x, y))


@pytest.mark.parametrize("rank", range(9))
def test_broadcast_of_three(rank: int) -> None:
    rng = np.random.default_rng(100 + rank)
    for _ in range(25):
        shapes = operands(rng, 3, rank, 90 if rank < 3 else 9 if rank < 5 else 4)
        dtype = str(rng.choice(["float32", "int64", "bool", "bfloat16"]))
        c = rng.integers(0, 2, shapes[0]).astype(bool)
        x, y = (numbers(rng, s, "int8").astype(dtypes.dtype(dtype).np) for s in shapes[1:])
        np.testing.assert_array_equal(run_op("where", [c, x, y], threads=2)[0], np.where(c, x, y))


@pytest.mark.parametrize(
    "shapes", [((3, 1000, 7), (7,)), ((200, 1, 64), (1, 90, 64)), ((400, 300), (400, 1)), ((1, 5), (70000, 5))]
)
def test_large_on_two_threads(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(5)
    x, y = (numbers(rng, s) for s in shapes)
    np.testing.assert_array_equal(run_op("mul", [x, y], threads=2)[0], x * y)
    np.testing.assert_array_equal(run_op("maximum", [x, y], threads=2)[0], np.maximum(x, y))
    np.testing.assert_array_equal(run_op("equal", [x, y], threads=2)[0], x == y)


@pytest.mark.parametrize("dtype", [d.name for d in DTYPES if d.name not in ("float8_e8m0fnu",)])
def test_every_dtype_adds_and_compares(dtype: str) -> None:
    rng = np.random.default_rng(6)
    d = dtypes.dtype(dtype)
    x, y = numbers(rng, (5, 77), dtype), numbers(rng, (77,), dtype)
    wide = np.float64 if d.kind == "f" else np.int64
    total = x.astype(wide) + y.astype(wide)
    want = total.astype(np.float32).astype(d.np) if d.kind == "f" else total.astype(d.np)
    np.testing.assert_array_equal(run_op("add", [x, y])[0].astype(wide), want.astype(wide))
    np.testing.assert_array_equal(run_op("greater_equal", [x, y])[0], x.astype(wide) >= y.astype(wide))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65])
@pytest.mark.parametrize("op", ["exp", "tanh", "erf", "sigmoid", "gelu", "log", "mish", "softplus"])
def test_tails_equal_whole_vectors(op: str, n: int) -> None:
    """The last elements of any length are computed like all others, and nothing behind them is written."""
    x = np.linspace(0.01, 4, 128, dtype=np.float32)
    np.testing.assert_array_equal(run_op(op, [x[:n]])[0], run_op(op, [x])[0][:n])


@pytest.mark.parametrize("source", [d.name for d in DTYPES] + ["bool"])
@pytest.mark.parametrize("target", [d.name for d in DTYPES] + ["bool"])
def test_cast_of_all_pairs(source: str, target: str) -> None:
    """Small whole numbers, which nearly every dtype holds, survive any pair; the others go to the nearest or wrap."""
    from deploykit.ops.convert import convert

    rng = np.random.default_rng(8)
    s, t = dtypes.dtype(source), dtypes.dtype(target)
    x = np.ones(3, bool) if s.kind == "b" else numbers(rng, (517,), source)
    got = run_op("cast", [x], {"dtype": target}, threads=2)[0]
    assert got.dtype == t.np
    with np.errstate(all="ignore"):
        want = convert(x, t)
    as_bits = np.uint8 if t.itemsize == 1 else t.np
    nan = np.isnan(got.astype(np.float32)) & np.isnan(want.astype(np.float32)) if t.kind == "f" else False
    assert np.all((got.view(as_bits) == want.view(as_bits)) | nan)


def test_float16_rounds_once_from_float64() -> None:
    x = np.array([1 + 2**-11 + 2**-40, 1 + 2**-11 - 2**-40, 65519.99999, 65520.0, -(2.0**-25) * 1.0000001])
    np.testing.assert_array_equal(run_op("cast", [x], {"dtype": "float16"})[0], x.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
@pytest.mark.parametrize("saturate", [False, True])
def test_float8_at_the_ends(dtype: str, saturate: bool) -> None:
    t = dtypes.dtype(dtype).np
    top = float(ml_dtypes.finfo(t).max)
    x = np.array([top, top * 1.01, top * 1.07, top * 2, -top * 2, np.inf, -np.inf, np.nan, -0.0, 1e-9], np.float32)
    got = run_op("cast", [x], {"dtype": dtype, "saturate": saturate})[0]
    want = (np.clip(x, -top, top) if saturate else x).astype(t)
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))


@pytest.mark.parametrize(
    ("op", "inputs", "words"),
    [
        ("add", [np.zeros((2, 3)), np.zeros((4,))], "do not broadcast; got \\[2, 3\\] and \\[4\\]"),
        ("add", [np.zeros(2), np.zeros(2, np.float32)], "float64 and float32"),
        ("add", [np.zeros(2, bool), np.zeros(2, bool)], "no kernel for dtype bool"),
        ("exp", [np.zeros(2, np.int32)], "no kernel for dtype int32"),
        ("where", [np.zeros(2), np.zeros(2), np.zeros(2)], "dtype of condition"),
        ("prelu", [np.zeros((1, 3)), np.zeros((4, 1))], "slope does not broadcast"),
        ("clip", [np.zeros(3), np.zeros(2)], "low is not a scalar"),
    ],
)
def test_wrong_operands(op: str, inputs: list[np.ndarray], words: str) -> None:
    with pytest.raises(DeploykitError, match=words):
        run_op(op, inputs)
