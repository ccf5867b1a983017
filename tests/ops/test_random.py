"""Random ops: the generator against its published test vectors, and the distributions."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.errors import ShapeError
from deploykit.ops import F, GraphBuilder
from deploykit.ops.random import philox
from deploykit.ops.reference import State, run_graph
from deploykit.ops.samples import i64


def test_philox_gives_the_published_vector():
    # Random123's kat_vectors, philox4x32 with 10 rounds
    assert [hex(w) for w in philox(0, 0, 1)[0]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    # counter 0x85a308d3_243f6a88, 0x03707344_13198a2e with key 0x299f31d0_a4093822: too far for a block range,
    # so only the high half of the counter, which is the number of the run, is checked by difference
    assert len({tuple(philox(5, run, 2).reshape(-1)) for run in (0, 1, 2**32, 2**40)}) == 4


def test_uniform_stays_in_range_and_fills_it():
    for dtype, step in (("float32", 1e-3), ("float64", 1e-3), ("float16", 5e-3), ("bfloat16", 3e-2)):
        y = F.random_uniform(i64(20000), seed=3, low=-2.0, high=4.0, dtype=dtype).astype(np.float64)
        assert y.min() >= -2 and y.max() < 4
        assert abs(y.mean() - 1) < 0.05 and abs(y.std() - 6 / np.sqrt(12)) < 0.05
        assert np.diff(np.sort(y)).max() < 6 * step + 0.01


def test_normal_has_mean_scale_and_tails():
    y = F.random_normal(i64(40000), seed=11, mean=3.0, scale=2.0).astype(np.float64)
    z = (y - 3) / 2
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02
    assert abs(np.mean(np.abs(z) < 1) - 0.6827) < 0.01 and abs(np.mean(z**4) - 3) < 0.15


def test_bernoulli_and_multinomial_follow_their_weights():
    p = np.tile(np.array([0.0, 0.25, 0.9, 1.0], np.float32), (10000, 1))
    assert np.allclose(F.bernoulli(p, seed=2).mean(0), [0, 0.25, 0.9, 1], atol=0.02)
    logits = np.array([[0, np.log(2), np.log(5), -np.inf], [1, 1, 1, 1]], np.float32)
    y = F.multinomial(logits, samples=20000, seed=5)
    assert y.dtype == np.int32 and y.shape == (2, 20000)
    assert np.allclose(np.bincount(y[0], minlength=4) / 20000, [0.125, 0.25, 0.625, 0], atol=0.02)
    assert np.allclose(np.bincount(y[1], minlength=4) / 20000, [0.25] * 4, atol=0.02)


def test_a_seed_fixes_the_numbers_and_zero_does_not():
    assert np.array_equal(F.random_normal(i64(5), seed=4), F.random_normal(i64(5), seed=4))
    assert not np.array_equal(F.random_normal(i64(5), seed=4), F.random_normal(i64(5), seed=5))
    assert not np.array_equal(F.random_normal(i64(5)), F.random_normal(i64(5)))


def test_a_node_draws_new_numbers_in_every_run_of_a_session():
    b = GraphBuilder()
    g = b.output(b.op("random_uniform", i64(4), seed=9), "y")
    state = State.of(g)
    (first,), (second,) = run_graph(g, [], state=state), run_graph(g, [], state=state)
    assert not np.array_equal(first, second)
    (again,) = run_graph(g, [])
    assert np.array_equal(first, again) and np.array_equal(first, F.random_uniform(i64(4), seed=9))


def test_other_dtypes_are_refused():
    with pytest.raises(ShapeError, match="random_uniform: dtype; got int32, expected float64, float32"):
        GraphBuilder().op("random_uniform", i64(2), dtype="int32")
