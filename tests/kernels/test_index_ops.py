"""The engine's index ops against NumPy and plain loops: random shapes, dtypes, duplicates, bad indices."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from deploykit.errors import DeploykitError
from tests.support.engine import run_op

DTYPES = [np.uint8, np.float16, np.float32, np.int64]
rng = np.random.default_rng(11)


def data(shape, dtype=np.float32):
    return rng.integers(0, 120, int(np.prod(shape))).astype(dtype).reshape(shape)


def same(got, want):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def shape_of_rank(rank, high=6):
    return tuple(int(v) for v in rng.integers(1, high, rank))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather(dtype):
    for _ in range(60):
        rank = int(rng.integers(1, 5))
        x = data(shape_of_rank(rank), dtype)
        axis = int(rng.integers(-rank, rank))
        n = x.shape[axis]
        indices = rng.integers(-n, n, shape_of_rank(int(rng.integers(0, 4)))).astype(rng.choice([np.int32, np.int64]))
        same(run_op("gather", [x, np.asarray(indices)], {"axis": axis}), np.take(x, indices, axis))
    big = data((50000, 24), dtype)
    indices = rng.integers(0, 50000, 3000)
    same(run_op("gather", [big, indices]), big[indices])
    same(run_op("gather", [data((3, 0)), np.array([1, 2])]), np.zeros((2, 0), np.float32))


@pytest.mark.parametrize("bad", [5, -6, 2**40])
def test_gather_out_of_range(bad):
    x = data((5, 3))
    with pytest.raises(DeploykitError, match=rf"DK-INDEX.*element 1 .*is {bad}, expected -5 to 4"):
        run_op("gather", [x, np.array([0, bad])])
    with pytest.raises(DeploykitError, match="DK-INDEX"):
        run_op("gather_elements", [x, np.array([[bad, 0, 0]])])
    with pytest.raises(DeploykitError, match="DK-INDEX"):
        run_op("gather_nd", [x, np.array([[bad]])])
    with pytest.raises(DeploykitError, match="DK-INDEX"):
        run_op("scatter_elements", [x, np.array([[bad]]), np.ones((1, 1), np.float32)])
    with pytest.raises(DeploykitError, match="DK-INDEX"):
        run_op("scatter_nd", [x, np.array([[bad]]), np.ones((1, 3), np.float32)])


def test_gather_from_empty():
    with pytest.raises(DeploykitError, match="DK-INDEX"):
        run_op("gather", [np.zeros((0, 2), np.float32), np.array([0])])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_elements(dtype):
    for _ in range(60):
        rank = int(rng.integers(1, 5))
        x = data(shape_of_rank(rank), dtype)
        axis = int(rng.integers(0, rank))
        shape = [int(rng.integers(1, d + 1)) for d in x.shape]
        shape[axis] = int(rng.integers(1, 8))
        indices = rng.integers(-x.shape[axis], x.shape[axis], shape)
        cut = tuple(slice(None) if i == axis else slice(0, d) for i, d in enumerate(shape))
        same(run_op("gather_elements", [x, indices], {"axis": axis}), np.take_along_axis(x[cut], indices, axis))


def gather_nd(x, indices, b):
    batch = x.shape[:b]
    out = []
    for at in np.ndindex(*indices.shape[:-1]):
        out.append(x[at[:b]][tuple(indices[at])])
    assert batch == indices.shape[:b]
    return np.array(out, x.dtype).reshape(indices.shape[:-1] + x.shape[b + indices.shape[-1] :])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_nd(dtype):
    for _ in range(60):
        rank = int(rng.integers(1, 5))
        x = data(shape_of_rank(rank), dtype)
        b = int(rng.integers(0, rank))
        depth = int(rng.integers(1, rank - b + 1))
        lead = x.shape[:b] + shape_of_rank(int(rng.integers(0, 3)))
        high = np.array(x.shape[b : b + depth])
        indices = rng.integers(-high, high, (*lead, depth))
        same(run_op("gather_nd", [x, indices], {"batch_dims": b}), gather_nd(x, indices, b))


REDUCE = {
    "none": lambda a, b: b,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "min": np.minimum,
    "max": np.maximum,
}


@pytest.mark.parametrize("dtype", [*DTYPES, ml_dtypes.bfloat16, np.float64, np.int8, np.bool_])
@pytest.mark.parametrize("reduction", list(REDUCE))
def test_scatter_elements(reduction, dtype):
    for _ in range(15):
        rank = int(rng.integers(1, 4))
        x = data(shape_of_rank(rank), dtype)
        axis = int(rng.integers(-rank, rank))
        shape = [int(rng.integers(1, d + 1)) for d in x.shape]
        indices = rng.integers(-x.shape[axis], x.shape[axis], shape)
        updates = data(shape, dtype)
        want = x.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for at in np.ndindex(*shape):
                to = list(at)
                to[axis] = indices[at]
                want[tuple(to)] = REDUCE[reduction](want[tuple(to)], updates[at])
        same(run_op("scatter_elements", [x, indices, updates], {"axis": axis, "reduction": reduction}), want)


@pytest.mark.parametrize("dtype", [*DTYPES, np.uint64, np.bool_])
@pytest.mark.parametrize("reduction", list(REDUCE))
def test_scatter_nd(reduction, dtype):
    for _ in range(15):
        rank = int(rng.integers(1, 4))
        x = data(shape_of_rank(rank), dtype)
        depth = int(rng.integers(1, rank + 1))
        lead = shape_of_rank(int(rng.integers(0, 3)))
        high = np.array(x.shape[:depth])
        indices = rng.integers(-high, high, (*lead, depth))
        updates = data(lead + x.shape[depth:], dtype)
        want = x.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for at in np.ndindex(*lead):
                to = tuple(indices[at])
                want[to] = REDUCE[reduction](want[to], updates[at])
        same(run_op("scatter_nd", [x, indices, updates], {"reduction": reduction}), want)


def test_one_hot():
    values = np.array([2, 5], np.int32)
    for dtype in (np.int64, np.int32, np.uint8, np.float32):
        indices = np.array([[0, 2], [3, 4]]).astype(dtype)
        want = np.where(indices[..., None] == np.arange(4), 5, 2).astype(np.int32)
        same(run_op("one_hot", [indices, np.int64(4), values]), want)
        same(run_op("one_hot", [indices, np.array([4.0]), values], {"axis": 0}), np.moveaxis(want, 2, 0).copy())
        same(run_op("one_hot", [indices, np.int64(4), values], {"axis": 1}), np.moveaxis(want, 2, 1).copy())
    got = run_op("one_hot", [np.array([-1, -4, -5, 3]), np.int64(4), np.array([0, 1], np.float16)])
    assert got.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    with pytest.raises(DeploykitError, match="depth"):
        run_op("one_hot", [np.array([0]), np.int64(-1), values])


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.int8, np.uint64, np.int64, np.float64, ml_dtypes.bfloat16]
)
@pytest.mark.parametrize("largest", [True, False])
def test_top_k(largest, dtype):
    for _ in range(25):
        rank = int(rng.integers(1, 4))
        x = data(shape_of_rank(rank, 30), dtype)
        if np.dtype(dtype).kind not in "u":
            x = x - x.dtype.type(50)
        axis = int(rng.integers(-rank, rank))
        k = int(rng.integers(0, x.shape[axis] + 1))
        order = np.argsort(-x.astype(np.float64) if largest else x.astype(np.float64), axis, kind="stable")
        want = np.take(order, np.arange(k), axis)
        values, indices = run_op("top_k", [x, np.array([k])], {"axis": axis, "largest": largest}, 2)
        same(indices, want)
        same(values, np.take_along_axis(x, want, axis))
    with pytest.raises(DeploykitError, match="k is 9"):
        run_op("top_k", [data((3,)), np.array([9])], {}, 2)


def test_top_k_signed_zeros_and_large():
    values, indices = run_op("top_k", [np.array([-0.0, 0.0, -1.0], np.float32), np.array([2])], {}, 2)
    assert indices.tolist() == [0, 1] and np.signbit(values).tolist() == [True, False]
    x = rng.normal(size=(3, 20000)).astype(np.float32)
    _, indices = run_op("top_k", [x, np.array([300])], {}, 2)
    same(indices, np.argsort(-x, -1, kind="stable")[:, :300])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.bool_, np.int64, np.uint8, ml_dtypes.float8_e4m3fn])
def test_non_zero(dtype):
    for rank in range(1, 5):
        x = (rng.integers(0, 3, shape_of_rank(rank)) - 1).astype(dtype)
        same(run_op("non_zero", [x]), np.array(np.nonzero(np.array(x, np.float32))))
    same(run_op("non_zero", [np.asarray(1, dtype)]), np.zeros((1, 1), np.int64))
    same(run_op("non_zero", [np.asarray(0, dtype)]), np.zeros((1, 0), np.int64))
    same(run_op("non_zero", [np.zeros((2, 0), dtype)]), np.zeros((2, 0), np.int64))
    same(run_op("non_zero", [np.array([-0.0, np.nan, 0], np.float32)]), np.array([[1]]))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique_sorted(dtype, axis):
    for _ in range(20):
        x = rng.integers(0, 4, (int(rng.integers(1, 30)), int(rng.integers(1, 4)))).astype(dtype)
        want = np.unique(x, True, True, True, axis=axis)
        attrs = {} if axis is None else {"axis": axis}
        got = run_op("unique", [x], attrs, 4)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(g, w.reshape(g.shape))
        # in order of appearance: the same groups, ordered by their first position
        order = np.argsort(want[1])
        got = run_op("unique", [x], {**attrs, "sorted": False}, 4)
        np.testing.assert_array_equal(got[0], np.take(want[0], order, 0 if axis is None else axis))
        np.testing.assert_array_equal(got[1], want[1][order])
        np.testing.assert_array_equal(got[2], np.argsort(order)[want[2].reshape(-1)])
        np.testing.assert_array_equal(got[3], want[3][order])


def test_unique_empty_and_large():
    got = run_op("unique", [np.zeros(0, np.float32)], {}, 4)
    assert [g.shape for g in got] == [(0,)] * 4
    x = rng.integers(0, 5000, 30000)
    got = run_op("unique", [x], {}, 4)
    for g, w in zip(got, np.unique(x, True, True, True), strict=True):
        same(g, w)


def test_compress():
    x = data((3, 4, 2))
    for axis in (0, 1, 2, -1):
        cond = rng.integers(0, 2, x.shape[axis]).astype(bool)
        same(run_op("compress", [x, cond], {"axis": axis}), np.compress(cond, x, axis))
        same(run_op("compress", [x, cond[:1]], {"axis": axis}), np.compress(cond[:1], x, axis))
    cond = rng.integers(0, 2, 20).astype(bool)
    same(run_op("compress", [x, cond]), np.compress(cond, x))
    with pytest.raises(DeploykitError, match=r"DK-INDEX.*condition\[3\]"):
        run_op("compress", [x, np.array([0, 0, 0, 1], bool)], {"axis": 0})


def iou(a, b):
    h = min(a[2], b[2]) - max(a[0], b[0])
    w = min(a[3], b[3]) - max(a[1], b[1])
    if h <= 0 or w <= 0:
        return 0.0
    return h * w / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - h * w)


@pytest.mark.parametrize("center", [False, True])
def test_non_max_suppression(center):
    b, k, n = 2, 3, 60
    low = rng.uniform(0, 8, (b, n, 2))
    corners = np.concatenate([low, low + rng.uniform(0.5, 3, (b, n, 2))], -1).astype(np.float32)
    scores = (rng.permutation(b * k * n).reshape(b, k, n) / (b * k * n)).astype(np.float32)
    boxes = corners.copy()
    if center:
        y1, x1, y2, x2 = np.moveaxis(corners, -1, 0)
        boxes = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1).astype(np.float32)
    else:  # corners may come in any order
        boxes[:, ::2] = boxes[:, ::2, [2, 3, 0, 1]]
    want = []
    for i in range(b):
        for j in range(k):
            kept = []
            for m in np.argsort(-scores[i, j], kind="stable"):
                if (
                    scores[i, j, m] > 0.3
                    and len(kept) < 7
                    and all(iou(corners[i, m], corners[i, o]) <= 0.4 for o in kept)
                ):
                    kept.append(m)
            want += [(i, j, m) for m in kept]
    inputs = [boxes, scores, np.array([7]), np.array([0.4], np.float32), np.array([0.3], np.float32)]
    same(run_op("non_max_suppression", inputs, {"center_box": center}), np.array(want))
    same(run_op("non_max_suppression", inputs[:2]), np.zeros((0, 3), np.int64))


def test_tensor_scatter():
    past, update = data((2, 3, 5, 2)), data((2, 3, 2, 2)) + 200
    want = past.copy()
    want[0, :, 1:3] = update[0]
    want[1, :, 3:5] = update[1]
    same(run_op("tensor_scatter", [past, update, np.array([1, 3])]), want)
    want = past.copy()
    want[0, :, 4], want[0, :, 0] = update[0, :, 0], update[0, :, 1]
    want[1, :, 2:4] = update[1]
    same(run_op("tensor_scatter", [past, update, np.array([9, 7])], {"mode": "circular"}), want)
    want = past.copy()
    want[:, :, :2] = update
    same(run_op("tensor_scatter", [past, update]), want)
    with pytest.raises(DeploykitError, match="DK-INDEX.*write_index"):
        run_op("tensor_scatter", [past, update, np.array([4, 0])])
