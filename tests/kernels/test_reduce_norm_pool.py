"""Reductions, softmax, norms and pools of the engine against the references: random axes and windows, sizes beyond one
block, one and two threads with equal bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import dtypes
from deploykit.errors import DeploykitError
from deploykit.native import run_op
from deploykit.ops.core import get
from deploykit.ops.dispatch import run_reference


def agree(name: str, inputs: list[Any], attrs: dict[str, Any] | None = None, rtol: float = 2e-6) -> np.ndarray:
    """Run on 1 and 2 threads, demand equal bits, compare with the reference; returns the first result."""
    op = get(name)
    n = len(op.results)
    one = run_op(name, inputs, attrs, n, 1)
    two = run_op(name, inputs, attrs, n, 2)
    want = run_reference(op, inputs, op.complete(attrs or {}))
    for a, b, w in zip(one, two, want, strict=True):
        assert a.tobytes() == b.tobytes(), "threads change bits"
        assert a.shape == w.shape and a.dtype == w.dtype
        scale = np.abs(w.astype(np.float64))[np.isfinite(w.astype(np.float64))].max(initial=0)
        np.testing.assert_allclose(
            a.astype(np.float64), w.astype(np.float64), rtol=0, atol=rtol * scale if op.tolerance != "exact" else 0
        )
    return one[0]


REDUCTIONS = ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum_exp"]


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("seed", range(8))
def test_random_axes(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 9))
    shape = tuple(int(v) for v in rng.integers(1, 200 if rank < 3 else 12 if rank < 5 else 4, rank))
    axes = rng.permutation(rank)[: int(rng.integers(1, rank + 1))].astype(np.int64)
    dtype = str(rng.choice(["float32", "float32", "float64", "int32", "uint8"]))
    x = rng.uniform(0.7, 1.3, shape) if kind == "prod" else rng.normal(size=shape)
    x = (x if dtype[0] == "f" else np.abs(x) * 9).astype(dtype)
    agree(f"reduce_{kind}", [x, axes], {"keepdims": bool(seed % 2)}, 1e-5 if kind == "prod" else 2e-6)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((300_001,), [0]), ((50_000, 3), [0]), ((1, 112, 112, 70), [1, 2]), ((3, 40_000), [1]), ((64, 5, 300), [0, 2])],
)
def test_long_sums(shape: tuple[int, ...], axes: list[int]) -> None:
    """Accurate and equal on any number of threads: numbers of one sign, the worst case for plain float sums."""
    x = np.random.default_rng(1).uniform(0.5, 1.5, shape).astype(np.float32)
    for kind in ("sum", "mean", "sum_square"):
        agree(f"reduce_{kind}", [x, np.array(axes)], rtol=3e-7)


def test_not_a_number_wins() -> None:
    x = np.zeros((70, 90), np.float32)
    x[33, 50] = np.nan
    for kind in ("max", "min"):
        for axis in (0, 1):
            assert np.isnan(run_op(f"reduce_{kind}", [x, np.array([axis])])[0]).sum() == 1
    assert np.isnan(run_op("max_pool", [x[None, ..., None]], {"kernel": (3, 3)}, 1)[0]).sum() == 9


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 1000), 1), ((3, 7, 19), 1), ((2, 50, 130), 1), ((129, 4), 0), ((1, 1), 0), ((40, 33), -1)]
)
def test_softmax(op: str, shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32) * 5
    agree(op, [x], {"axis": axis})
    agree(op, [x.astype(np.float64)], {"axis": axis}, 1e-13)
    agree(op, [x.astype(np.float16)], {"axis": axis}, 1e-3)


def test_softmax_of_hidden_keys() -> None:
    """-inf marks what attention must not see; a row of nothing else has no answer."""
    x = np.array([[1, -np.inf, 2, -np.inf], [-np.inf] * 4], np.float32)
    y = run_op("softmax", [x])[0]
    np.testing.assert_array_equal(y[0] == 0, [False, True, False, True])
    assert abs(y[0].sum() - 1) < 1e-6 and np.isnan(y[1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_norms(dtype: str) -> None:
    rng = np.random.default_rng(3)
    t = dtypes.dtype(dtype).np
    rtol = {"float32": 2e-6, "float64": 1e-13, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
    x = rng.normal(1, 2, (2, 9, 11, 24)).astype(t)
    v = [rng.uniform(0.5, 2, 24).astype(t) for _ in range(4)]
    for groups in (1, 3, 24):
        agree("group_norm", [x, v[0], v[1]], {"groups": groups}, rtol)
    agree("layer_norm", [x, v[0], v[1]], {}, rtol)
    agree("layer_norm", [x, rng.normal(size=(11, 24)).astype(t), None], {"axis": 2}, rtol)
    agree("layer_norm", [x, rng.normal(size=(9, 1, 1)).astype(t), v[1]], {"axis": -1}, rtol)  # a scale per row
    agree("layer_norm", [x, rng.normal(size=(1, 1)).astype(t)], {"axis": 1}, rtol)
    agree("rms_norm", [x, v[0]], {}, rtol)
    agree("batch_norm", [x, *v], {}, rtol)
    agree("batch_norm", [x, *(a[:9] for a in v)], {"axis": 1}, rtol)
    agree("lrn", [x], {"size": 4, "alpha": 0.3}, rtol)
    agree("lrn", [x], {"size": 99}, rtol)


def test_norms_of_large_tensors() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(3, 1, (1, 70, 65, 40)).astype(np.float32)
    agree("group_norm", [x], {"groups": 40}, 4e-6)
    agree("group_norm", [x], {"groups": 5}, 4e-6)
    agree("layer_norm", [x.reshape(65, -1)], {}, 4e-6)
    agree("batch_norm", [x, *(rng.uniform(1, 2, 40).astype(np.float32) for _ in range(4))])


def test_layer_norm_far_from_zero() -> None:
    """The deviation is a millionth of the mean: the mean must not be rounded away."""
    x = (1000 + np.random.default_rng(5).normal(0, 0.01, (4, 512))).astype(np.float32)
    agree("layer_norm", [x], {"epsilon": 1e-12}, 1e-5)


@pytest.mark.parametrize("seed", range(60))
def test_random_pools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    channels = int(rng.choice([1, 3, 4, 8, 17, 64, 70]))
    size = tuple(int(v) for v in rng.integers(1, 14, rank))
    kernel = tuple(int(v) for v in rng.integers(1, 5, rank))
    attrs: dict[str, Any] = {
        "kernel": kernel,
        "strides": tuple(int(v) for v in rng.integers(1, 4, rank)),
        "dilations": tuple(int(v) for v in rng.integers(1, 3, rank)),
        "ceil_mode": bool(rng.integers(2)),
    }
    mode = str(rng.choice(["explicit", "same_upper", "same_lower"]))
    extent = [d * (k - 1) + 1 for d, k in zip(attrs["dilations"], kernel, strict=True)]
    if mode == "explicit":
        need = [max(0, e - n) for e, n in zip(extent, size, strict=True)]
        attrs["pads"] = tuple(int(n + rng.integers(0, 2)) for n in need) * 2
    else:
        attrs["pad_mode"] = mode
    shape = (int(rng.integers(1, 3)), *size, channels)
    x = rng.normal(size=shape).astype(np.float32)
    agree("max_pool", [x], {**attrs, "column_major": bool(rng.integers(2))})
    agree("avg_pool", [x], {**attrs, "count_include_pad": bool(rng.integers(2))})
    agree("lp_pool", [x], {**attrs, "p": int(rng.integers(1, 4))})
    for dtype in ("int8", "uint8", "float16", "int64"):
        narrow = (np.abs(x * 40) if dtype[0] == "u" else x * 40).astype(dtype)
        first = run_op("max_pool", [narrow], attrs, 1)[0]  # without indices
        np.testing.assert_array_equal(first, agree("max_pool", [narrow], attrs))


def test_large_pools() -> None:
    x = np.random.default_rng(6).normal(size=(1, 57, 61, 64)).astype(np.float32)
    agree("max_pool", [x], {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)})
    agree("avg_pool", [x], {"kernel": (57, 61)})
    agree("max_pool", [x], {"kernel": (13, 13), "pad_mode": "same_upper"})


def test_unpool_puts_back() -> None:
    x = np.random.default_rng(7).normal(size=(2, 6, 8, 5)).astype(np.float32)
    y, indices = run_op("max_pool", [x], {"kernel": (2, 2), "strides": (2, 2)})
    back = agree("max_unpool", [y, indices], {"kernel": (2, 2), "strides": (2, 2)})
    np.testing.assert_array_equal(back, np.where(back != 0, x, 0))
    assert (back != 0).sum() == y.size
    indices[0, 0, 0, 0] = 48
    with pytest.raises(DeploykitError, match="outside the plane"):
        run_op("max_unpool", [y, indices], {"kernel": (2, 2), "strides": (2, 2)})


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "words"),
    [
        ("reduce_sum", [np.zeros((2, 3)), np.array([2])], {}, "axis is out of range"),
        ("reduce_sum", [np.zeros((2, 3)), np.array([0, -2])], {}, "named twice"),
        ("reduce_sum", [np.zeros(3, bool)], {}, "no kernel for dtype bool"),
        ("softmax", [np.zeros(3, np.int32)], {}, "no kernel for dtype int32"),
        ("arg_max", [np.zeros((0, 3))], {"axis": 0}, "nothing to choose from"),
        ("cumsum", [np.zeros(3), np.array(1)], {}, "axis is out of range"),
        ("batch_norm", [np.zeros((2, 3)), *[np.zeros(2)] * 4], {}, "shape of scale"),
        ("group_norm", [np.zeros((2, 3))], {"groups": 2}, "divisor of the 3 channels"),
        ("layer_norm", [np.zeros((2, 3)), np.zeros(2)], {}, "broadcasts to"),
        ("max_pool", [np.zeros((1, 4, 4, 1))], {"kernel": (5, 5)}, "larger than the padded input"),
        ("max_pool", [np.zeros((1, 4, 1))], {"kernel": (2, 2)}, "expected rank 4"),
        ("lp_pool", [np.zeros((1, 4, 1))], {"kernel": (2,), "p": 0}, "at least 1"),
    ],
)
def test_wrong_inputs(op: str, inputs: list[np.ndarray], attrs: dict[str, Any], words: str) -> None:
    with pytest.raises(DeploykitError, match=words):
        run_op(op, inputs, attrs)
