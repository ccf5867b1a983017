"""The engine's quantize ops against their references, bit for bit: dtypes, granularities, ties, NaN, infinities."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

rng = np.random.default_rng(3)
INTS = ["int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2"]
FLOATS = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]
# x shape, scale shape, axis, block size
LAYOUTS = [
    ((3, 5, 7), (), 1, 0),
    ((3, 5, 7), (1,), 1, 0),
    ((3, 5, 7), (5,), 1, 0),
    ((3, 5, 7), (7,), -1, 0),
    ((3, 5, 7), (3,), 0, 0),
    ((6, 9), (6, 3), 1, 4),
    ((9, 6), (3, 6), 0, 4),
    ((2, 8, 3), (2, 4, 3), 1, 2),
    ((4, 33), (33,), 1, 0),
    ((2, 40), (), 0, 0),
    ((), (), 0, 0),
    ((0, 3), (3,), 1, 0),
]


def same_bits(got, want):
    want = np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype
    size = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[got.dtype.itemsize]
    nan = np.isnan(want.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), nan)
    np.testing.assert_array_equal(np.where(nan, 0, got.view(size)), np.where(nan, 0, want.view(size)))


def values(shape):
    x = (rng.integers(-600, 600, shape) * 0.25).astype(np.float32)  # many ties
    flat = x.reshape(-1)
    if flat.size > 5:
        flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
    return x


@pytest.mark.parametrize("dtype", INTS + FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_quantize_and_back(layout, dtype):
    shape, scale_shape, axis, block = layout
    x = values(shape)
    scale = np.asarray(rng.choice([0.25, 0.5, 0.3, 1.7, 20.0], scale_shape), np.float32)
    attrs = {"axis": axis, "block_size": block}
    target = dtypes.dtype(dtype)
    same_bits(run_op("quantize", [x, scale], attrs | {"dtype": dtype}), F.quantize(x, scale, dtype=dtype, **attrs))
    if target.kind == "f":
        zero = np.zeros(scale_shape, target.np)
        for saturate in (True, False):
            more = attrs | {"saturate": saturate}
            same_bits(run_op("quantize", [x, scale, zero], more), F.quantize(x, scale, zero, **more))
    else:
        high = 1 << min(target.bits, 7)
        zero = np.asarray(rng.integers(0, high, scale_shape) - (high // 2 if target.kind == "i" else 0))
        zero = zero.astype(np.int8 if target.kind == "i" else np.uint8).astype(target.np)
        want = F.quantize(x, scale, zero, **attrs)
        same_bits(run_op("quantize", [x, scale, zero], attrs), want)
    q = run_op("quantize", [x, scale, zero], attrs)
    same_bits(run_op("dequantize", [q, scale, zero], attrs), F.dequantize(q, scale, zero, **attrs))
    same_bits(run_op("dequantize", [q, scale], attrs), F.dequantize(q, scale, **attrs))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int32])
def test_other_float_types(dtype):
    x = (values((4, 600)) * 3).astype(dtype) if dtype is not np.int32 else rng.integers(-999, 999, (4, 600), np.int32)
    scale = np.array([0.5, 0.37, 3, 11], np.float32 if dtype is np.int32 else dtype)
    zero = np.array([0, 3, 128, 255], np.uint8)
    same_bits(run_op("quantize", [x, scale, zero], {"axis": 0}), F.quantize(x, scale, zero, axis=0))
    q = rng.integers(0, 256, (4, 600)).astype(np.uint8)
    same_bits(run_op("dequantize", [q, scale, zero], {"axis": 0}), F.dequantize(q, scale, zero, axis=0))
    for to in ("float16", "bfloat16", "float32", "float64"):
        attrs = {"axis": 0, "dtype": to}
        same_bits(run_op("dequantize", [q, scale, zero], attrs), F.dequantize(q, scale, zero, **attrs))
    if dtype is np.int32:
        same_bits(run_op("dequantize", [x, scale], {"axis": 0}), F.dequantize(x, scale, axis=0))


def test_every_code_of_eight_bits():
    for dtype in ("uint8", "int8", *FLOATS[:4]):
        q = np.arange(256, dtype=np.uint8).view(dtypes.dtype(dtype).np)
        same_bits(run_op("dequantize", [q, np.float32(0.1)]), F.dequantize(q, np.float32(0.1)))


def test_large_in_parts():
    x = rng.normal(size=(8, 30, 41, 17)).astype(np.float32) * 30
    for scale, axis in [(np.float32(0.2), 1), (np.linspace(0.1, 1, 17), 3), (np.linspace(0.1, 1, 30), 1)]:
        scale = np.asarray(scale, np.float32)
        zero = np.full(scale.shape, 7, np.int8)
        q = run_op("quantize", [x, scale, zero], {"axis": axis})
        same_bits(q, F.quantize(x, scale, zero, axis=axis))
        same_bits(run_op("dequantize", [q, scale, zero], {"axis": axis}), F.dequantize(q, scale, zero, axis=axis))


@pytest.mark.parametrize("low_high", [(-3, 5), (1, 9), (-9, -2), (0, 0)])
@pytest.mark.parametrize("n", [0, 1, 7, 100, 70000])
def test_dynamic_quantize(n, low_high):
    x = rng.uniform(*low_high, n).astype(np.float32)
    for got, want in zip(run_op("dynamic_quantize", [x], {}, 3), F.dynamic_quantize(x), strict=True):
        same_bits(got, want)


def test_wrong():
    x = values((2, 3))
    with pytest.raises(DeploykitError, match="DK-SHAPE.*vector of 3"):
        run_op("quantize", [x, np.ones(2, np.float32)])
    with pytest.raises(DeploykitError, match="differ in shape"):
        run_op("quantize", [x, np.ones(3, np.float32), np.zeros((), np.uint8)])
    with pytest.raises(DeploykitError, match="cannot quantize to int32"):
        run_op("quantize", [x, np.float32(1), np.int32(0)])
    with pytest.raises(DeploykitError, match="block of 2"):
        run_op("quantize", [x, np.ones((2, 3), np.float32)], {"block_size": 2})
