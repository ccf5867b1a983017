"""Gather, scatter, one_hot.  Negative indices count from the end; out-of-range indices are errors (DK-INDEX).

Scatter reductions: integers wrap, bool add and max are or, mul and min are and; min and max are NaN if either is;
narrow floats are rounded after every single update.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.errors import EngineError
from deploykit.graph.dims import Dim
from deploykit.ops.core import Enum, F, Spec, op
from deploykit.ops.grads import dim_value, ones_like, rank_of, scalar, scatter_axis, shape_value, static, zeros_like
from deploykit.ops.numerics import back, compute, float64, is_float
from deploykit.ops.rules import (
    axis_of,
    error,
    ints_of,
    require_index,
    require_kind,
    require_rank,
    require_same_dtype,
    scalar_of,
    show,
    unify_dim,
    unify_shapes,
)
from deploykit.ops.samples import Draw, Sample, i64, s64


def out_of_range(op: str, what: str, got: object, expected: str) -> EngineError:
    """The error for an index in the data that points outside."""
    return EngineError(f"{op}: {what} is out of range; got {got}, expected {expected}.", code="DK-INDEX")


def check_indices(op: str, indices: np.ndarray, size: int) -> np.ndarray:
    """The indices as int64 counted from the front; raises DK-INDEX when one is outside [-size, size)."""
    at = indices.astype(np.int64)
    bad = (at < -size) | (at >= size)
    if bad.any():
        raise out_of_range(
            op, "an index", int(at[bad][0]), f"{-size} to {size - 1}" if size else "none, the dim is empty"
        )
    return np.where(at < 0, at + size, at)


def _places(op: str, x: np.ndarray, indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """Where each element of indices points: the element's own place, with the index along the axis."""
    at = list(np.indices(indices.shape))
    a = axis_of(axis, x.ndim)
    if any(n > m for i, (n, m) in enumerate(zip(indices.shape, x.shape, strict=True)) if i != a):
        raise error(f"{op}: indices {show(indices.shape)} are larger than x {show(x.shape)} off the axis")
    at[a] = check_indices(op, indices, x.shape[a])
    return tuple(at)


def _tuples(op: str, x: np.ndarray, indices: np.ndarray, batch_dims: int = 0) -> tuple[np.ndarray, ...]:
    """The index tuples in the last dim of indices as one array per dim of x, behind the batch's own place."""
    at = list(np.indices(indices.shape[:-1])[:batch_dims])
    for i in range(indices.shape[-1]):
        at.append(check_indices(op, indices[..., i], x.shape[batch_dims + i]))
    return tuple(at)


def _tuple_length(indices: Spec, most: int) -> int | None:
    """The last dim of indices, where it is a number."""
    assert indices.shape is not None
    if not indices.shape:
        raise error("indices", "a scalar", "rank 1 or more")
    depth = indices.shape[-1]
    if isinstance(depth, Dim):
        return None
    if depth > most:
        raise error(f"index tuples of indices {show(indices.shape)} are too long", depth, f"at most {most}")
    return depth


def _combine(reduction: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.bool_:
        return a | b if reduction in ("add", "max") else a & b
    f = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}[reduction]
    return back(f(compute(np.asarray(a)), compute(np.asarray(b))), a.dtype)


def _scatter_vjp(
    g: Any, y: Any, x: Any, indices: Any, updates: Any, reduction: str, back: Callable, forth: Callable
) -> tuple[Any, None, Any]:
    """Gradients of a scatter.  ``back`` reads a tensor at the indices, ``forth`` writes there.

    With mul an update of 0 has no gradient by this formula (0 / 0 is NaN); with min and max all places that hold the
    extreme get the whole of g.
    """
    zero = scalar(0, g)
    if reduction == "add":
        return g, None, back(g)
    if reduction == "none":
        # of several updates to one place the last one counts: number the updates, and see whose number is left
        ids = F.reshape(F.range(s64(0), F.size_of(updates), s64(1)), shape_value(updates), allow_zero=True)
        left = back(forth(F.fill(shape_value(x), np.array(-1, np.int64)), ids))
        return forth(g, zeros_like(updates)), None, F.where(F.equal(left, ids), back(g), zero)
    if reduction == "mul":
        return F.mul(g, forth(ones_like(x), updates, "mul")), None, F.div(back(F.mul(g, y)), updates)
    own = F.where(F.equal(x, y), g, zero)
    return own, None, F.where(F.equal(back(y), updates), back(g), zero)


_NO = "index or data-dependent result"
_RED = Enum("none", "add", "mul", "min", "max")


@op(190, "x, indices -> y", attrs=dict(axis=0), onnx="Gather", tolerance="exact")
class gather:
    "y = numpy.take(x, indices, axis)."

    def infer(x, indices, axis):
        require_index(indices, "indices")
        if x.shape is None or indices.shape is None:
            return Spec(x.dtype, None)
        a = axis_of(axis, len(x.shape))
        known = ints_of(indices)
        if known and isinstance(x.shape[a], int):
            check_indices("gather", np.array(known), x.shape[a])
        return Spec(x.dtype, x.shape[:a] + indices.shape + x.shape[a + 1 :])

    def reference(x, indices, axis):
        return np.take(x, check_indices("gather", indices, x.shape[axis]), axis)

    def samples():
        r = Draw("gather")
        some = np.array([[0, 2, -1], [1, 1, -3]], np.int64)
        out = [
            Sample([r((3, 4)), some]),
            Sample([r((2, 3, 4)), some], {"axis": 1}),
            Sample([r((2, 3)), some], {"axis": -1}),
        ]
        out += [Sample([r((5,)), s64(-2)]), Sample([r((2, 3)), s64(1)], {"axis": 1}), Sample([r((3, 2)), i64()])]
        out += [Sample([r((3, 0)), i64(1, 2)]), Sample([r((3, 40)), np.array([2, 0, 0], np.int32)])]
        types = ("int8", "bool", "int64", "float64", "float16")
        return out + [Sample([r((3, 5), d), some], differentiable=False) for d in types]

    def vjp(g, y, x, indices, axis):
        rank = rank_of(x)
        a = axis_of(axis, rank)
        if rank_of(indices) != 1:  # fold the dims of the indices into one
            sides = F.shape_of(x, end=a), i64(-1), F.shape_of(x, start=a + 1)
            if static(x.shape):
                sides = (
                    np.array(x.shape[:a], np.int64),
                    i64(math.prod(indices.shape)),
                    np.array(x.shape[a + 1 :], np.int64),
                )
                sides = sides if static(indices.shape) else (sides[0], i64(-1), sides[2])
            g = F.reshape(g, F.concat(*sides, axis=0), allow_zero=True)
            indices = F.reshape(indices, i64(-1))
        return scatter_axis(g, indices, dim_value(x, a), a), None


@op(191, "x, indices -> y", attrs=dict(axis=0), onnx="GatherElements", tolerance="exact")
class gather_elements:
    "y = numpy.take_along_axis without broadcasting: other dims of indices may be smaller than x's."

    def infer(x, indices, axis):
        require_index(indices, "indices")
        if x.shape is not None:
            axis_of(axis, len(x.shape))
            require_rank(indices, len(x.shape), what="indices")
        return Spec(x.dtype, indices.shape)

    def reference(x, indices, axis):
        return x[_places("gather_elements", x, indices, axis)]

    def samples():
        r = Draw("gather_elements")
        some = np.array([[0, 2, -1], [1, 1, -3]], np.int64)
        out = [
            Sample([r((3, 4)), some]),
            Sample([r((2, 3)), some], {"axis": 1}),
            Sample([r((5, 6)), some], {"axis": -1}),
        ]
        out += [
            Sample([r((2, 3, 2)), r((2, 5, 1), "int32", -3, 2)], {"axis": 1}),
            Sample([r((3, 2)), i64().reshape(0, 2)]),
        ]
        out += [Sample([r((4,)), i64(3, 3, 0)])]
        return out + [Sample([r((3, 5), d), some], differentiable=False) for d in ("int8", "bool", "float64")]

    def vjp(g, y, x, indices, axis):
        return F.scatter_elements(zeros_like(x), indices, g, axis=axis, reduction="add"), None


@op(192, "x, indices -> y", attrs=dict(batch_dims=0), onnx="GatherND", tolerance="exact")
class gather_nd:
    "Slices of x at index tuples in the last dim of indices, after batch_dims common leading dims."

    def infer(x, indices, batch_dims):
        require_index(indices, "indices")
        if x.shape is None or indices.shape is None:
            return Spec(x.dtype, None)
        depth = _tuple_length(indices, len(x.shape) - batch_dims)
        if batch_dims >= min(len(x.shape), len(indices.shape)):
            raise error(
                "batch_dims", batch_dims, f"less than the ranks of x {show(x.shape)} and indices {show(indices.shape)}"
            )
        batch = unify_shapes(x.shape[:batch_dims], indices.shape[:batch_dims], "batch dims")
        if depth is None:
            return Spec(x.dtype, None)
        return Spec(x.dtype, batch + indices.shape[batch_dims:-1] + x.shape[batch_dims + depth :])

    def reference(x, indices, batch_dims):
        return x[_tuples("gather_nd", x, indices, batch_dims)]

    def samples():
        r = Draw("gather_nd")
        out = [Sample([r((3, 4)), np.array([[0, 1], [2, -1], [0, 1]])]), Sample([r((3, 4)), np.array([[2], [0]])])]
        out += [Sample([r((2, 3, 4)), np.array([[1], [-3]])], {"batch_dims": 1})]
        out += [Sample([r((2, 2, 3, 2)), r((2, 2, 4, 1), "int64", -3, 2)], {"batch_dims": 2})]
        out += [Sample([r((2, 3, 2)), r((2, 1, 2), "int64", -2, 1)]), Sample([r((2, 3)), np.zeros((0, 2), np.int64)])]
        out += [Sample([r((4,)), np.array([2], np.int64)])]
        return out + [
            Sample([r((3, 4), d), np.array([[0, 1], [2, -1]], np.int32)]) for d in ("int8", "bool", "float64")
        ]

    def vjp(g, y, x, indices, batch_dims):
        if batch_dims:  # put the batch's own place in front of each tuple
            lead = rank_of(indices) - 1
            indices = F.cast(indices, dtype="int64")
            at = []
            for i in range(batch_dims):
                own = F.reshape(
                    F.range(s64(0), dim_value(x, i), s64(1)), i64(*(-1 if k == i else 1 for k in range(lead + 1)))
                )
                shape = F.concat(F.shape_of(indices, end=-1), i64(1), axis=0)
                at.append(F.expand(own, shape))
            indices = F.concat(*at, indices, axis=-1)
        return F.scatter_nd(zeros_like(x), indices, g, reduction="add"), None


@op(
    193,
    "x, indices, updates -> y",
    attrs=dict(axis=0, reduction=_RED),
    onnx="ScatterElements",
    tolerance="exact",
    flags="inplace",
)
class scatter_elements:
    "Copy of x with updates written (or reduced) at indices along axis, in row-major order of updates."

    def infer(x, indices, updates, axis, reduction):
        require_index(indices, "indices")
        require_same_dtype(x, updates, what="x and updates")
        unify_shapes(indices.shape, updates.shape, "shapes of indices and updates")
        if x.shape is not None:
            axis_of(axis, len(x.shape))
            require_rank(indices, len(x.shape), what="indices")
        return Spec(x.dtype, x.shape)

    def reference(x, indices, updates, axis, reduction):
        y = x.copy()
        at = _places("scatter_elements", x, indices, axis)
        if reduction == "none":
            for place in np.ndindex(*indices.shape):  # one by one: of equal places the last wins
                y[tuple(a[place] for a in at)] = updates[place]
            return y
        for place in np.ndindex(*indices.shape):
            to = tuple(a[place] for a in at)
            y[to] = _combine(reduction, y[to], updates[place])
        return y

    def samples():
        r = Draw("scatter_elements")
        some, once = np.array([[0, 2, -1], [1, 1, -3]], np.int64), np.array([[0, 2, 1], [1, 0, 2]], np.int64)
        kinds = ("none", "add", "mul", "min", "max")
        out = [Sample([r((3, 4), low=0.5), some, r((2, 3), low=0.5)], {"reduction": k}) for k in kinds]
        out += [Sample([r((2, 3), low=0.5), once, r((2, 3), low=0.5)], {"axis": 1, "reduction": k}) for k in kinds]
        out += [
            Sample([r((3, 2)), i64().reshape(0, 2), r((0, 2))]),
            Sample([r((4,)), i64(3, 3, 0), r((3,))], {"axis": -1}),
        ]
        for d in ("int8", "uint64", "int32", "float64", "float16", "bfloat16", "bool"):
            out += [Sample([r((3, 5), d), some, r((2, 3), d)], {"reduction": k}, differentiable=False) for k in kinds]
        return out

    def vjp(g, y, x, indices, updates, axis, reduction):
        def back(v):
            return F.gather_elements(v, indices, axis=axis)

        def forth(v, u, how="none"):
            return F.scatter_elements(v, indices, u, axis=axis, reduction=how)

        return _scatter_vjp(g, y, x, indices, updates, reduction, back, forth)


@op(194, "x, indices, updates -> y", attrs=dict(reduction=_RED), onnx="ScatterND", tolerance="exact", flags="inplace")
class scatter_nd:
    "Copy of x with slices written (or reduced) at index tuples."

    def infer(x, indices, updates, reduction):
        require_index(indices, "indices")
        require_same_dtype(x, updates, what="x and updates")
        if x.shape is not None and indices.shape is not None:
            depth = _tuple_length(indices, len(x.shape))
            if depth is not None:
                unify_shapes(indices.shape[:-1] + x.shape[depth:], updates.shape, "shape of updates: wanted and given")
        return Spec(x.dtype, x.shape)

    def reference(x, indices, updates, reduction):
        y = x.copy()
        at = _tuples("scatter_nd", x, indices)
        for place in np.ndindex(*indices.shape[:-1]):
            to = tuple(a[place] for a in at)
            y[to] = updates[place] if reduction == "none" else _combine(reduction, y[to], updates[place])
        return y

    def samples():
        r = Draw("scatter_nd")
        kinds = ("none", "add", "mul", "min", "max")
        twice, once = np.array([[0, 1], [2, -1], [0, 1]]), np.array([[2], [0]])
        out = [Sample([r((3, 4), low=0.5), twice, r((3,), low=0.5)], {"reduction": k}) for k in kinds]
        out += [Sample([r((3, 4), low=0.5), once, r((2, 4), low=0.5)], {"reduction": k}) for k in kinds]
        out += [Sample([r((2, 3, 2)), r((2, 1, 2), "int32", -2, 1), r((2, 1, 2))], {"reduction": "add"})]
        out += [Sample([r((2, 3)), np.zeros((0, 2), np.int64), r((0,))]), Sample([r((4,)), i64(2), r(())])]
        for d in ("int8", "uint64", "int32", "float64", "float16", "bfloat16", "bool"):
            out += [Sample([r((3, 4), d), twice, r((3,), d)], {"reduction": k}, differentiable=False) for k in kinds]
        return out

    def vjp(g, y, x, indices, updates, reduction):
        def back(v):
            return F.gather_nd(v, indices)

        def forth(v, u, how="none"):
            return F.scatter_nd(v, indices, u, reduction=how)

        return _scatter_vjp(g, y, x, indices, updates, reduction, back, forth)


@op(195, "indices, depth, values -> y", attrs=dict(axis=-1), tolerance="exact", onnx="OneHot", not_differentiable=_NO)
class one_hot:
    """values = [off, on]; a new axis of size depth; negative indices count from depth, others outside give all off.
    Float indices and depth are truncated."""

    def infer(indices, depth, values, axis):
        require_kind(indices, "fiu", "indices")
        require_kind(depth, "fiu", "depth")
        require_rank(values, 1, what="values")
        if values.shape is not None:
            unify_dim(values.shape[0], 2, "values = [off, on]: lengths")
        if indices.shape is None:
            return Spec(values.dtype, None)
        a = axis_of(axis, len(indices.shape) + 1)
        n = scalar_of(depth, "depth")
        if isinstance(n, int) and n < 0:
            raise error("depth", n, "0 or more")
        return Spec(values.dtype, (*indices.shape[:a], Dim.fresh() if n is None else n, *indices.shape[a:]))

    def reference(indices, depth, values, axis):
        n = int(compute(depth).reshape(()))
        at = np.expand_dims(np.trunc(float64(indices)) if is_float(indices) else indices.astype(np.int64), axis)
        shape = [1] * at.ndim
        shape[axis] = n
        places = np.arange(n).reshape(shape)
        return np.where((at == places) | (at + n == places), values[1], values[0])

    def samples():
        r = Draw("one_hot")
        some, values = np.array([[0, 2, -1], [5, 1, -9]], np.int64), np.array([0, 1], np.float32)
        out = [Sample([some, s64(4), values], {"axis": a}) for a in (-1, 0, 1)]
        out += [Sample([s64(2), i64(3), values]), Sample([i64(0, 1), s64(0), values]), Sample([i64(), s64(3), values])]
        out += [
            Sample([some.astype(d), np.array(4, np.int32), np.array([3, 7], "int8")])
            for d in ("int32", "uint8", "float32")
        ]
        return out + [
            Sample([some, np.array([4], np.float32), r((2,), d)]) for d in ("int64", "bool", "float64", "float16")
        ]


@op(
    201,
    "past, update, write_index? -> y",
    attrs=dict(axis=-2, mode=Enum("linear", "circular")),
    onnx="TensorScatter",
    tolerance="exact",
    flags="inplace",
)
class tensor_scatter:
    "Write update into past at write_index[b] along axis (per batch), wrapping when circular (KV cache)."

    def infer(past, update, write_index=None, *, axis, mode):
        require_same_dtype(past, update, what="past and update")
        require_index(write_index, "write_index")
        require_rank(write_index, 1, what="write_index")
        if past.shape is not None:
            a = axis_of(axis, len(past.shape))
            if a == 0:
                raise error("axis 0 is the batch", 0, f"1 to {len(past.shape) - 1}")
            require_rank(update, len(past.shape), what="update")
            if update.shape is not None:
                for i, (d, n) in enumerate(zip(past.shape, update.shape, strict=True)):
                    if i != a:
                        unify_dim(d, n, f"dims {i} of past {show(past.shape)} and update {show(update.shape)}")
                    elif isinstance(d, int) and isinstance(n, int) and n > d:
                        raise error(f"update is longer than past along axis {a}", n, f"at most {d}")
        return Spec(past.dtype, past.shape)

    def reference(past, update, write_index=None, *, axis, mode):
        y = past.copy()
        a = axis_of(axis, past.ndim)
        room, steps = past.shape[a], update.shape[a]
        for b in range(past.shape[0]):
            first = 0 if write_index is None else int(write_index[b])
            if first < 0 or (mode == "linear" and first + steps > room):
                raise out_of_range("tensor_scatter", f"write_index[{b}]", first, f"0 to {room - steps}")
            to, source = np.moveaxis(y[b], a - 1, 0), np.moveaxis(update[b], a - 1, 0)
            for i in range(steps):
                to[(first + i) % room] = source[i]
        return y

    def samples():
        r = Draw("tensor_scatter")
        out = [Sample([r((2, 5, 3)), r((2, 2, 3)), i64(1, 3)]), Sample([r((2, 3, 5, 2)), r((2, 3, 1, 2)), i64(4, 0)])]
        out += [Sample([r((2, 5, 3)), r((2, 2, 3))]), Sample([r((1, 2, 4)), r((1, 2, 2)), i64(2)], {"axis": -1})]
        out += [Sample([r((2, 5, 3)), r((2, 3, 3)), i64(4, 9)], {"mode": "circular"})]
        out += [Sample([r((2, 5, 3)), r((2, 0, 3)), i64(5, 0)]), Sample([r((0, 5, 3)), r((0, 2, 3)), i64()])]
        types = ("int8", "float64", "float16")
        return out + [
            Sample([r((2, 4, 3), d), r((2, 1, 3), d), np.array([0, 3], np.int32)], differentiable=False) for d in types
        ]

    def vjp(g, y, past, update, write_index=None, *, axis, mode):
        rank = rank_of(past)
        a = axis_of(axis, rank)
        gpast = F.tensor_scatter(g, zeros_like(update), write_index, axis=axis, mode=mode)
        places = F.range(s64(0), dim_value(update, a), s64(1))
        places = F.reshape(places, i64(*(-1 if i == a else 1 for i in range(rank))))
        if write_index is not None:
            start = F.reshape(F.cast(write_index, dtype="int64"), i64(-1, *[1] * (rank - 1)))
            places = F.mod(F.add(places, start), dim_value(past, a))
        places = F.expand(places, shape_value(update))
        return gpast, F.gather_elements(g, places, axis=axis), None
