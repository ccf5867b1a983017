"""Selection by value: the largest, the non-zero, the unique, the wanted, the not suppressed.

Order: -0 equals 0, all NaN are equal and above everything.  Of equals the one with the lower index comes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim
from deploykit.ops.core import F, Spec, op
from deploykit.ops.grads import zeros_like
from deploykit.ops.index import out_of_range
from deploykit.ops.numerics import compute
from deploykit.ops.rules import (
    axis_of,
    error,
    product,
    require_index,
    require_kind,
    require_rank,
    require_same_dtype,
    scalar_of,
    unify_dim,
)
from deploykit.ops.samples import FLOATS, INTS, Draw, Sample, i64, s64

_NO = "index or data-dependent result"
_FLAT = 2147483647  # the axis that means: of the flattened tensor


def _order(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """Places in ascending or descending order of value, equals in order of place."""
    x = compute(x)
    if not descending:
        return np.argsort(x, axis, kind="stable")  # NumPy puts NaN last, as we do
    # a stable descending order is the reversed stable ascending order of the reversed data
    flipped = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - flipped


def _key(v: Any) -> tuple[bool, Any]:
    return (True, 0) if v != v else (False, v)


_in_order = sorted  # unique has an attr of that name


def _corners(boxes: np.ndarray, center: bool) -> np.ndarray:
    """[..., (y1, x1, y2, x2)] with the lower numbers first."""
    a, b, c, d = np.moveaxis(boxes, -1, 0)
    if center:  # x, y, width, height
        half = boxes.dtype.type(2)
        return np.stack([b - d / half, a - c / half, b + d / half, a + c / half], -1)
    return np.stack([np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)], -1)


def _overlap(a: np.ndarray, b: np.ndarray) -> Any:
    """Intersection over union; boxes without an area overlap nothing."""
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    h, w = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if not (h > 0 and w > 0 and area_a > 0 and area_b > 0):
        return a.dtype.type(0)
    return h * w / (area_a + area_b - h * w)


@op(196, "x, k -> values, indices", attrs=dict(axis=-1, largest=True, sorted=True), onnx="TopK", tolerance="exact")
class top_k:
    "The k largest (smallest) along axis, in order, with int64 positions; the lower index first among equals."

    def infer(x, k, axis, largest, sorted):
        require_kind(x, "fiu")
        require_index(k, "k")
        n = scalar_of(k, "k")
        if x.shape is None:
            return Spec(x.dtype, None), Spec(dtypes.int64, None)
        a = axis_of(axis, len(x.shape))
        if isinstance(n, int) and (n < 0 or (isinstance(x.shape[a], int) and n > x.shape[a])):
            raise error("k", n, f"0 to {x.shape[a]}, the size of axis {a}")
        shape = (*x.shape[:a], Dim.fresh() if n is None else n, *x.shape[a + 1 :])
        return Spec(x.dtype, shape), Spec(dtypes.int64, shape)

    def reference(x, k, axis, largest, sorted):
        order = _order(x, axis, descending=largest)
        places = np.take(order, np.arange(int(k.reshape(()))), axis)
        return np.take_along_axis(x, places, axis), places.astype(np.int64)

    def samples():
        r = Draw("top_k")
        x = r.apart((3, 4, 5))
        out = [
            Sample([x, i64(2)]),
            Sample([x, i64(3)], {"axis": 1}),
            Sample([x, i64(1)], {"axis": 0, "largest": False}),
        ]
        out += [Sample([r.apart((7,)), s64(7)]), Sample([r.apart((2, 3)), i64(0)]), Sample([r.apart((0, 3)), i64(2)])]
        ties = r((3, 40), "int32", -2, 2)
        out += [Sample([ties, i64(9)], {"largest": v}) for v in (True, False)]
        out += [Sample([r((3, 9), d), i64(4)], differentiable=False) for d in (*FLOATS[1:], *INTS)]
        odd = np.array([1, np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan], np.float32)
        return out + [Sample([odd, i64(7)], {"largest": v}, differentiable=False) for v in (True, False)]

    def vjp(g, y, x, k, axis, largest, sorted):
        return F.scatter_elements(zeros_like(x), y[1], g[0], axis=axis, reduction="add"), None


@op(197, "x -> y", onnx="NonZero", tolerance="exact", not_differentiable=_NO)
class non_zero:
    "int64 [rank, count]: indices of the non-zero elements in row-major order (a scalar counts as rank 1)."

    def infer(x):
        rank = Dim.fresh() if x.shape is None else max(len(x.shape), 1)
        return Spec(dtypes.int64, (rank, Dim.fresh("nonzero")))

    def reference(x):
        return np.array(np.nonzero(np.atleast_1d(compute(x) != 0)), dtype=np.int64)

    def samples():
        r = Draw("non_zero")
        odd = np.array([-0.0, np.nan, 0, 3], np.float32)
        out = [Sample([r(s, "int32", 0, 1)]) for s in ((2, 3), (7,), (), (0, 3), (2, 2, 3, 2))]
        return out + [Sample([odd])] + [Sample([r((4, 5), d)]) for d in ("bool", "float32", "int8")]


@op(
    198,
    "x -> y, indices, inverse, counts",
    attrs=dict(axis=2147483647, sorted=True),
    tolerance="exact",
    not_differentiable=_NO,
)
class unique:
    """Unique elements (or slices along axis; 2147483647: of the flattened x), sorted or in order of appearance; their
    first positions, the place of each element (slice) among them, and their counts.  As ONNX Unique."""

    def infer(x, axis, sorted):
        n = Dim.fresh("unique")
        if axis == _FLAT or x.shape is None:
            total = Dim.fresh() if x.shape is None else product(x.shape)
            shape = (n,) if axis == _FLAT else None
        else:
            a = axis_of(axis, len(x.shape))
            total, shape = x.shape[a], (*x.shape[:a], n, *x.shape[a + 1 :])
        return Spec(x.dtype, shape), Spec(dtypes.int64, (n,)), Spec(dtypes.int64, (total,)), Spec(dtypes.int64, (n,))

    def reference(x, axis, sorted):
        slices = x.reshape(-1, 1) if axis == _FLAT else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        keys = [tuple(_key(v) for v in row) for row in compute(slices).tolist()]
        first: dict[tuple, int] = {}
        for i, k in enumerate(keys):
            first.setdefault(k, i)
        groups = _in_order(first) if sorted else list(first)
        number = {k: i for i, k in enumerate(groups)}
        inverse = np.array([number[k] for k in keys], dtype=np.int64)
        positions = np.array([first[k] for k in groups], dtype=np.int64)
        y = x.reshape(-1)[positions] if axis == _FLAT else np.take(x, positions, axis)
        return y, positions, inverse, np.bincount(inverse, minlength=len(groups)).astype(np.int64)

    def samples():
        r = Draw("unique")
        x = r((4, 5), "int32", 0, 3)
        rows = np.repeat(r((3, 4), "int64", 0, 1), 2, axis=0)
        out = [Sample([x], {"sorted": s}) for s in (True, False)]
        out += [Sample([rows], {"axis": a, "sorted": s}) for a in (0, 1, -1) for s in (True, False)]
        out += [Sample([r((0,))]), Sample([r(())]), Sample([r((0, 3))], {"axis": 1})]
        odd = np.array([0.0, -0.0, np.nan, 1, np.nan, -np.inf, 1], np.float32)
        return (
            out
            + [Sample([odd], {"sorted": s}) for s in (True, False)]
            + [Sample([r((9,), d)]) for d in ("uint8", "bool")]
        )


@op(199, "x, condition -> y", attrs=dict(axis=2147483647), tolerance="exact", not_differentiable=_NO)
class compress:
    "Slices of x along axis (2147483647: of the flattened x) where condition is True."

    def infer(x, condition, axis):
        require_kind(condition, "b", "condition")
        require_rank(condition, 1, what="condition")
        n = Dim.fresh("compress") if condition.value is None else int(np.count_nonzero(condition.value))
        if axis == _FLAT:
            return Spec(x.dtype, (n,))
        if x.shape is None:
            return Spec(x.dtype, None)
        a = axis_of(axis, len(x.shape))
        return Spec(x.dtype, (*x.shape[:a], n, *x.shape[a + 1 :]))

    def reference(x, condition, axis):
        x, a = (x.reshape(-1), 0) if axis == _FLAT else (x, axis)
        places = np.flatnonzero(condition)
        if places.size and places[-1] >= x.shape[a]:
            raise out_of_range("compress", f"condition[{places[-1]}]", "True", f"a place below {x.shape[a]}")
        return np.take(x, places, a)

    def samples():
        r = Draw("compress")
        some = np.array([True, False, True])
        out = [
            Sample([r((3, 4)), some], {"axis": 0}),
            Sample([r((2, 4)), some], {"axis": -1}),
            Sample([r((2, 3)), some]),
        ]
        out += [Sample([r((2, 3)), np.zeros(0, bool)], {"axis": 1}), Sample([r((0, 3)), some], {"axis": 1})]
        return out + [Sample([r((2, 5), d), r((10,), "bool")]) for d in ("int8", "bool", "int64")]


@op(
    200,
    "boxes, scores, max_per_class?, iou_threshold?, score_threshold? -> selected",
    attrs=dict(center_box=False),
    tolerance="exact",
    not_differentiable=_NO,
)
class non_max_suppression:
    """int64 [count, 3] of (batch, class, box), as ONNX NonMaxSuppression: per class the best-scored boxes, leaving out
    those that overlap a kept one by more than iou_threshold (intersection over union), at most max_per_class
    (absent: 0), scores above score_threshold only.  boxes [B,N,4]: corners (y1,x1,y2,x2) in any order, or centers
    (x,y,w,h).
    """

    def infer(boxes, scores, max_per_class=None, iou_threshold=None, score_threshold=None, *, center_box):
        require_rank(boxes, 3, what="boxes")
        require_rank(scores, 3, what="scores")
        require_same_dtype(boxes, scores, what="boxes and scores")
        require_index(max_per_class, "max_per_class")
        if boxes.shape is not None:
            unify_dim(boxes.shape[2], 4, "boxes [B, N, 4]: numbers per box")
            if scores.shape is not None:
                unify_dim(boxes.shape[0], scores.shape[0], "batch of boxes and of scores")
                unify_dim(boxes.shape[1], scores.shape[2], "number of boxes and of scores")
        return Spec(dtypes.int64, (Dim.fresh("nms"), 3))

    def reference(boxes, scores, max_per_class=None, iou_threshold=None, score_threshold=None, *, center_box):
        most = 0 if max_per_class is None else int(max_per_class.reshape(()))
        iou = np.float32(0) if iou_threshold is None else iou_threshold.reshape(())
        corners = _corners(boxes, center_box)
        out: list[tuple[int, int, int]] = []
        for b, c in np.ndindex(*scores.shape[:2]):
            row = scores[b, c]
            order = _order(row, 0, descending=True)
            if score_threshold is not None:
                order = [i for i in order if row[i] > score_threshold.reshape(())]
            kept: list[int] = []
            for i in order:
                if len(kept) >= most:
                    break
                if not any(_overlap(corners[b, i], corners[b, k]) > iou for k in kept):
                    kept.append(int(i))
            out += [(b, c, i) for i in kept]
        return np.array(out, dtype=np.int64).reshape(-1, 3)

    def samples():
        r = Draw("nms")
        low = r((2, 30, 2), low=0, high=8)
        corners = np.concatenate([low, low + r((2, 30, 2), low=0.5, high=3)], -1)
        mixed = corners[..., [2, 1, 0, 3]].copy()  # corners may come in any order
        centers = np.concatenate([low, r((2, 30, 2), low=0.5, high=3)], -1)
        scores = r.apart((2, 3, 30))
        one = np.array([0.4], np.float32)
        out = [Sample([x, scores, i64(5), one, np.array([0.3], np.float32)]) for x in (corners, mixed)]
        out += [Sample([centers, scores, i64(4), one], {"center_box": True}), Sample([corners, scores])]
        out += [Sample([corners, scores, i64(99), one]), Sample([corners, scores, s64(3)])]
        ties = np.zeros((2, 1, 30), np.float32)
        out += [Sample([corners, ties, i64(30), one]), Sample([corners[:, :0], scores[..., :0], i64(3), one])]
        flat = np.array(
            [[[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 1]]], np.float32
        )  # boxes without an area overlap nothing
        return out + [Sample([flat, np.array([[[1, 2, 3]]], np.float32), i64(3), one])]
