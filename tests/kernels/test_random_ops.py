"""The engine's random ops: the same numbers as the references, whatever the number of threads; sound distributions."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import native
from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

FLOATS = ["float32", "float64", "float16", "bfloat16"]


def same(got, want):
    want = np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (255,), (257,), (9000,)])
def test_uniform_and_normal(shape, dtype):
    dims = np.array(shape, np.int64)
    for seed in (1, 2**40 + 3, -1):
        attrs = {"seed": seed, "dtype": dtype}
        same(run_op("random_uniform", [dims], attrs), F.random_uniform(dims, **attrs))
        same(
            run_op("random_uniform", [dims], attrs | {"low": -3.0, "high": 5.5}),
            F.random_uniform(dims, low=-3.0, high=5.5, **attrs),
        )
        got, want = run_op("random_normal", [dims], attrs), F.random_normal(dims, **attrs)
        assert got.shape == want.shape and got.dtype == want.dtype
        step = {"float64": 1e-14, "float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=step, atol=step)


def test_a_rounded_number_stays_below_high():
    y = run_op("random_uniform", [np.array([100000])], {"seed": 3, "low": 0.0, "high": 1e-6, "dtype": "bfloat16"})
    assert (y.astype(np.float64) < 1e-6).all()


def test_distribution():
    n = np.array([200000])
    u = run_op("random_uniform", [n], {"seed": 11}).astype(np.float64)
    assert abs(u.mean() - 0.5) < 0.005 and abs(u.var() - 1 / 12) < 0.002 and 0 <= u.min() and u.max() < 1
    z = run_op("random_normal", [n], {"seed": 11, "mean": 2.0, "scale": 3.0}).astype(np.float64)
    assert abs(z.mean() - 2) < 0.05 and abs(z.std() - 3) < 0.05
    one = native.run_op("random_normal", [n], {"seed": 5}, 1, threads=1)[0]
    same(run_op("random_normal", [n], {"seed": 5}), one)


def test_seed_zero_differs_between_calls():
    a, b = (run_op("random_uniform", [np.array([8])]) for _ in range(2))
    assert (a != b).any()


def test_bernoulli():
    p = np.random.default_rng(1).random((40, 30)).astype(np.float32)
    p[0, :3] = [0, 1, np.nan]
    for dtype in ("", "bool", "int32", "float64", "float16"):
        attrs = {"seed": 4, "dtype": dtype}
        same(run_op("bernoulli", [p], attrs), F.bernoulli(p, **attrs))
    same(run_op("bernoulli", [p.astype(np.float16)], {"seed": 9}), F.bernoulli(p.astype(np.float16), seed=9))


def test_multinomial():
    logits = np.random.default_rng(2).normal(size=(17, 23)).astype(np.float32)
    logits[3, :22] = -np.inf
    for samples in (1, 4, 50):
        for dtype in ("int32", "int64"):
            attrs = {"seed": 6, "samples": samples, "dtype": dtype}
            same(run_op("multinomial", [logits], attrs), F.multinomial(logits, **attrs))
    same(
        run_op("multinomial", [logits.astype(np.float64)], {"seed": 6}),
        F.multinomial(logits.astype(np.float64), seed=6),
    )
    with pytest.raises(DeploykitError, match="no classes"):
        run_op("multinomial", [np.zeros((2, 0), np.float32)], {"seed": 1})
