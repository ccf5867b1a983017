"""The engine's attention and rotary_embedding against their references: heads, masks, causality, dtypes, odd sizes."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

rng = np.random.default_rng(21)


def data(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def check(name, inputs, attrs=None, tolerance=2e-6):
    got, want = run_op(name, inputs, attrs), getattr(F, name)(*inputs, **(attrs or {}))
    assert got.shape == want.shape and got.dtype == want.dtype
    a, b = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


# batch, heads, key heads, length, key length, features, value features
SIZES = [
    ((2,), 4, 4, 7, 7, 8, 8),
    ((), 6, 2, 5, 9, 16, 24),
    ((3,), 2, 1, 1, 33, 64, 64),
    ((1,), 3, 3, 3, 17, 5, 3),
    ((2, 2), 4, 2, 40, 40, 32, 32),
    ((1,), 12, 12, 128, 128, 32, 32),
    ((1,), 2, 2, 300, 70, 20, 33),
    ((1,), 1, 1, 9, 4, 6, 6),
    ((1,), 2, 1, 2, 600, 80, 100),
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_attention(size, causal):
    batch, h, hk, length, s, d, dv = size
    q, k, v = data(*batch, h, length, d), data(*batch, hk, s, d), data(*batch, hk, s, dv)
    check("attention", [q, k, v], {"causal": causal})
    check("attention", [q, k, v], {"causal": causal, "softcap": 3.0, "scale": 0.3})
    for shape in [(length, s), (*batch, h, length, s), (1, 1, s), (length, 1), (h, 1, s), (1,), ()]:
        check("attention", [q, k, v, data(*shape)], {"causal": causal})
        check("attention", [q, k, v, rng.random(shape) < 0.7], {"causal": causal, "softcap": 5.0})


def test_attention_broadcasts_batches():
    check("attention", [data(2, 3, 4, 5, 8), data(3, 4, 6, 8), data(1, 1, 4, 6, 8)])
    check("attention", [data(4, 5, 8), data(2, 4, 6, 8), data(4, 6, 8), data(2, 1, 1, 6)])


def test_rows_that_forbid_everything():
    q, k, v = data(1, 2, 20, 8), data(1, 2, 30, 8), data(1, 2, 30, 8)
    allowed = rng.random((20, 30)) < 0.5
    allowed[[3, 11]] = False
    got = run_op("attention", [q, k, v, allowed])
    assert not got[:, :, [3, 11]].any() and np.isfinite(got).all()
    check("attention", [q, k, v, allowed])
    check("attention", [q, k, v, np.where(allowed, 0, -np.inf).astype(np.float32)])
    check("attention", [q, k, v, np.where(allowed, 0, np.finfo(np.float32).min).astype(np.float32)])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_attention_dtypes(dtype):
    tolerance = {np.float64: 1e-14, np.float16: 2e-3}.get(dtype, 1e-2)
    for length, hk, causal in itertools.product((1, 12), (4, 2), (False, True)):
        q, k, v = data(2, 4, length, 16, dtype=dtype), data(2, hk, 19, 16, dtype=dtype), data(2, hk, 19, 8, dtype=dtype)
        for mask in (None, data(length, 19, dtype=dtype), rng.random((length, 19)) < 0.8):
            check("attention", [q, k, v, mask], {"causal": causal, "softcap": 2.0}, tolerance)


def test_attention_empty():
    assert run_op("attention", [data(1, 2, 0, 8), data(1, 2, 5, 8), data(1, 2, 5, 8)]).shape == (1, 2, 0, 8)
    assert not run_op("attention", [data(1, 2, 3, 8), data(1, 2, 0, 8), data(1, 2, 0, 8)]).any()
    check("attention", [data(1, 2, 6, 0), data(1, 2, 5, 0), data(1, 2, 5, 8)])


def test_attention_wrong():
    with pytest.raises(DeploykitError, match="DK-SHAPE.*features"):
        run_op("attention", [data(1, 2, 3, 8), data(1, 2, 3, 4), data(1, 2, 3, 8)])
    with pytest.raises(DeploykitError, match="heads"):
        run_op("attention", [data(1, 3, 3, 8), data(1, 2, 3, 8), data(1, 2, 3, 8)])
    with pytest.raises(DeploykitError, match="mask"):
        run_op("attention", [data(1, 2, 3, 8), data(1, 2, 3, 8), data(1, 2, 3, 8), data(2, 3)])


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_rotary_embedding(dtype, interleaved):
    tolerance = {np.float32: 1e-6, np.float64: 1e-14, np.float16: 2e-3}.get(dtype, 1e-2)
    attrs = {"interleaved": interleaved}
    for features, n in [(8, 4), (10, 3), (64, 32), (5, 1)]:
        x = data(2, 3, 7, features, dtype=dtype)
        for shape in [(7, n), (2, 1, 7, n), (3, 1, n), (n,), (2, 3, 7, n)]:
            check("rotary_embedding", [x, data(*shape, dtype=dtype), data(*shape, dtype=dtype)], attrs, tolerance)
    with pytest.raises(DeploykitError, match="features"):
        run_op("rotary_embedding", [data(2, 6), data(2, 4), data(2, 4)], attrs)
