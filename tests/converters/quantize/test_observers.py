"""Observers against NumPy, and that their memory does not grow."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.converters.quantize import OBSERVERS, Observer
from deploykit.converters.quantize.schemes import activation_scale, symmetric


def seen(*runs: np.ndarray) -> Observer:
    o = Observer()
    for r in runs:
        o.see(r)
    return o


def test_minmax_is_exact() -> None:
    x = np.random.default_rng(0).normal(size=(20, 100)).astype(np.float32)
    assert seen(*x).range("minmax") == (float(x.min()), float(x.max()))


def test_percentile_is_numpys_within_a_bin() -> None:
    x = np.random.default_rng(0).normal(size=4_000_000).astype(np.float32)
    o = seen(*x.reshape(20, -1))
    want = np.percentile(x, [0.01, 99.99])
    np.testing.assert_allclose(o.range("percentile"), want, atol=2 * 2 * o.reach / o.bins.size)


def test_growing_reach_keeps_every_number() -> None:
    x = np.random.default_rng(0).normal(size=(30, 1000)).astype(np.float32) * (2.0 ** np.arange(30))[:, None]
    o = seen(*x.astype(np.float32))
    assert o.bins.sum() == x.size and o.bins.size == 2048


@pytest.mark.parametrize("kind", ["mse", "entropy", "percentile"])
def test_outliers_are_clipped(kind: str) -> None:
    r = np.random.default_rng(0)
    x = np.concatenate([r.normal(size=1_000_000), [60.0]]).astype(np.float32)
    low, high = seen(x).range(kind)
    assert high < 45 and low < -2.9


def test_mse_has_less_error_than_minmax() -> None:
    x = np.random.default_rng(0).standard_t(3, size=300_000).astype(np.float32)
    o = seen(x)

    def cost(kind: str) -> float:
        scale, zero = activation_scale(*o.range(kind))
        q = np.clip(np.rint(x / scale) + zero, 0, 255)
        return float(np.mean(((q - zero) * scale - x) ** 2))

    assert cost("mse") < 0.9 * cost("minmax")


@pytest.mark.parametrize("kind", OBSERVERS)
def test_odd_tensors(kind: str) -> None:
    assert Observer().range(kind) == (0.0, 0.0)
    assert seen(np.zeros(4, np.float32)).range(kind) == (0.0, 0.0)
    low, high = seen(np.full(4, 3.0, np.float32)).range(kind)
    assert 0 <= low <= high == 3.0
    o = seen(np.float32([1, np.nan, np.inf]))
    assert o.odd == 2 and o.high == 1.0


def test_scales_represent_zero_exactly() -> None:
    for low, high in ((0.5, 2.0), (-3.0, -1.0), (-1.0, 1.0), (0.0, 0.0)):
        scale, zero = activation_scale(low, high)
        assert scale > 0 and 0 <= zero <= 255
        assert (np.float32(0) / scale + zero) == zero


def test_symmetric_weights_per_channel() -> None:
    w = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    w[2] = 0
    q, scale = symmetric(w, 0)
    assert np.abs(q).max() == 127 and scale[2] == 1
    assert np.abs(q * scale[:, None] - w).max() <= scale.max() / 2 + 1e-6
