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


def noise(a: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of rounding to uint8 by this range."""
    scale, zero = activation_scale(low, high)
    q = np.clip(np.rint(a / scale) + float(zero), 0, 255) - float(zero)
    return float(((q * scale - a.astype(np.float64)) ** 2).mean())


@pytest.mark.parametrize("channels", [24, 35, 48, 64, 72, 96])
def test_every_channel_of_a_large_tensor_is_counted(channels: int) -> None:
    """One channel reaches far; steps that share a factor with the channels would never meet it, or meet it alone."""
    a = np.random.default_rng(4).standard_normal((8, 9 * (1 << 15) // channels, channels)).astype(np.float32)
    for far in (1, channels - 1):
        wide = a.copy()
        wide[..., far] *= 12
        o = seen(*wide)
        assert noise(wide, *o.range("mse")) <= 1.02 * noise(wide, *o.range("minmax"))


@pytest.mark.parametrize("reach", [9, 15, 20.6, 31])
def test_the_range_is_that_of_the_grid(reach: float) -> None:
    """As behind hard_swish: much lies at -0.375, a few steps of a range that reaches far up."""
    r = np.random.default_rng(5)
    a = np.concatenate([np.full(3000, -0.375), np.abs(r.standard_normal(3000)) * reach / 12, [reach]]).astype(
        np.float32
    )
    o = Observer()
    o.see(a)
    best = min(noise(a, low, high) for low in np.linspace(-1, 0, 41) for high in np.geomspace(reach / 4, reach, 25))
    assert noise(a, *o.range("mse")) < 1.6 * best


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
