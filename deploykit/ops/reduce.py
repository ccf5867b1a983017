"""Reductions over axes.  ``axes`` is an int64 vector input; absent or empty it means all axes, or, with noop_if_empty,
none: then each element is reduced alone (reduce_sum_square squares).

Integers: sums and products wrap; a mean is the sum in 64 bits divided toward zero (0 over nothing); roots, logs and
exponentials are computed in float64, then truncated and clamped as in cast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim
from deploykit.ops.core import F, Spec, op
from deploykit.ops.grads import constant_of, rank_of, reshape_like, scalar, shape_value
from deploykit.ops.numerics import back, compute, highest, lowest, wide
from deploykit.ops.rules import (
    axes_of,
    axis_of,
    error,
    fresh_shape,
    ints_of,
    length_of,
    reduce_shape,
    require_index,
    require_kind,
    require_rank,
    show,
)
from deploykit.ops.samples import FLOATS, INTS, Draw, Sample, i64, s64


# ---- shape rule
def _reduced(kinds: str) -> Callable[..., Spec]:
    def infer(x: Spec, axes: Spec | None = None, *, keepdims: bool, noop_if_empty: bool) -> Spec:
        require_kind(x, kinds)
        require_index(axes, "axes")
        require_rank(axes, 0, 1, "axes")
        known = ints_of(axes)
        count = length_of(axes)
        if axes is None or count == 0:
            return Spec(x.dtype, x.shape if noop_if_empty else reduce_shape(x.shape, None, keepdims))
        if known is not None:
            return Spec(x.dtype, reduce_shape(x.shape, known, keepdims))
        if x.shape is None:
            return Spec(x.dtype, None)
        if keepdims:
            return Spec(x.dtype, tuple(1 if d == 1 else Dim.fresh() for d in x.shape))
        # an empty vector of axes would mean all or none of them: the rank is open unless the length is known
        return Spec(x.dtype, None if count is None else fresh_shape(len(x.shape) - count))

    return infer


# ---- references: each takes the axes as a tuple and keeps the reduced dims
def _axes(x: np.ndarray, axes: np.ndarray | None, noop: bool) -> tuple[int, ...]:
    if axes is None or axes.size == 0:
        return () if noop else tuple(range(x.ndim))
    return axes_of(axes.reshape(-1), x.ndim)


def _reference(f: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, axes: np.ndarray | None = None, *, keepdims: bool, noop_if_empty: bool) -> np.ndarray:
        along = _axes(x, axes, noop_if_empty)
        y = back(f(compute(x), along), x.dtype)
        return y if keepdims else y.reshape([n for i, n in enumerate(y.shape) if i not in along])

    return reference


def _sum(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.sum(x, axis=axes, keepdims=True, dtype=np.float64)
    return np.sum(x, axis=axes, keepdims=True, dtype=x.dtype)


def _prod(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.prod(x, axis=axes, keepdims=True, dtype=np.float64)
    return np.prod(x, axis=axes, keepdims=True, dtype=x.dtype)


def _square_sum(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return _sum(x.astype(np.float64) ** 2, axes)


def _mean(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    if x.dtype.kind == "f":
        return _sum(x, axes) / np.float64(count)
    total = np.sum(x, axis=axes, keepdims=True, dtype=np.uint64 if x.dtype.kind == "u" else np.int64)
    if count == 0:
        return np.zeros_like(total)
    quotient = np.abs(total) // total.dtype.type(count)
    return np.where(total < 0, -quotient.astype(np.int64), quotient) if x.dtype.kind == "i" else quotient


def _log_sum_exp(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    x = x.astype(np.float64)
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top


# ---- gradients
def _static_axes(axes: Any, rank: int, noop: bool) -> tuple[int, ...]:
    known = None if axes is None else constant_of(axes)
    if axes is not None and known is None:
        raise ValueError("this gradient needs to know the axes")
    if known is None or known.size == 0:
        return () if noop else tuple(range(rank))
    return axes_of(known.reshape(-1), rank)


def _spread(g: Any, x: Any, axes: Any, keepdims: bool, noop: bool) -> Any:
    """The reduced tensor with its dims of 1 back in place, so that it broadcasts against x."""
    if keepdims:
        return g
    if axes is not None and constant_of(axes) is None:
        return F.unsqueeze(g, axes)
    gone = _static_axes(axes, rank_of(x), noop)
    return F.unsqueeze(g, np.array(gone, np.int64)) if gone else g


def _count(x: Any, y: Any) -> Any:
    """How many elements of x make one of y, in x's dtype."""
    n = F.div(F.size_of(x), F.size_of(y))
    return F.cast(n, dtype=dtypes.dtype(x.dtype).name)


def _product_of(x: Any, axes: tuple[int, ...]) -> int:
    sizes = [x.shape[a] for a in axes]
    if any(isinstance(d, Dim) for d in sizes):
        raise ValueError("this gradient needs to know the sizes of the reduced dims")
    return int(np.prod(sizes, dtype=np.int64))


def _share(g: Any, x: Any, y: Any, axes: Any, noop: bool) -> Any:
    """The gradient of an extreme: g where x is the extreme, in equal parts where several are."""
    hit = F.cast(F.equal(x, y), dtype=dtypes.dtype(x.dtype).name)
    return F.mul(F.div(hit, F.reduce_sum(hit, axes, keepdims=True, noop_if_empty=noop)), g)


# ---- samples
def _cases(kinds: str = "f", low: float = -2.0) -> Callable[[], list[Sample]]:
    def make() -> list[Sample]:
        r = Draw("reduce")
        f: list[tuple[tuple[int, ...], Any, dict[str, Any]]] = [
            ((2, 3, 4), None, {}),
            ((2, 3, 4), i64(1), {}),
            ((2, 3, 4), i64(-1), {"keepdims": False}),
            ((2, 3, 4), i64(0, 2), {"keepdims": False}),
            ((2, 3, 4), i64(2, -3), {}),
            ((2, 3, 4), i64(), {}),
            ((2, 3), i64(), {"noop_if_empty": True}),
            ((2, 3), None, {"noop_if_empty": True, "keepdims": False}),
            ((2, 3), None, {"keepdims": False}),
            ((), None, {}),
            ((1, 5, 1), i64(0), {"keepdims": False}),
            ((3, 2), i64(0, 1), {"keepdims": False}),
            ((5, 1, 3, 2), np.array([-2, 1], np.int32), {}),
        ]
        out = [Sample([r(s, low=low), a], k) for s, a, k in f]
        # over nothing; long rows; a channels-last mean
        more = [((2, 0, 3), i64(1)), ((0, 3), i64(1)), ((0,), None), ((3, 1027), i64(1)), ((2, 7, 9, 35), i64(1, 2))]
        out += [Sample([r(s, low=low), a], differentiable=False) for s, a in more]
        out += [Sample([r((3, 5), d, low=low), i64(1)], differentiable=False) for d in FLOATS[1:]]
        if "b" in kinds:
            out += [Sample([r((3, 5), "bool"), i64(0)], differentiable=False)]
            out += [Sample([r((0, 5), "bool"), i64(0)], differentiable=False)]
        for d in INTS:
            if dtypes.dtype(d).kind in kinds or d in ("int32", "int64"):
                lo, hi = (0, 9) if low > 0 else (None, None)
                out += [Sample([r((3, 5), d, lo, hi), i64(1)], differentiable=False)]
        if "b" in kinds:
            odd = np.array([[1, np.nan, 2], [np.inf, -np.inf, 0], [-np.inf, -np.inf, -np.inf]], np.float32)
            out += [Sample([odd, i64(1)], differentiable=False)]
            out += [Sample([r((0, 5), d), i64(0)], differentiable=False) for d in ("int8", "uint8", "int64")]
        return out

    return make


def _index_cases() -> list[Sample]:
    r = Draw("arg")
    cases = [((2, 3, 4), {}), ((2, 3, 4), {"axis": -1}), ((2, 3), {"axis": 1, "keepdims": False}), ((7,), {"axis": 0})]
    cases += [((3, 0, 2), {"axis": 0}), ((2, 259), {"axis": 1})]
    out = [Sample([r(s)], k) for s, k in cases]
    ties = r((4, 9), "int32", 0, 2)
    out += [Sample([ties], {"axis": a, "select_last": last}) for a in (0, 1) for last in (False, True)]
    out += [Sample([ties.astype(np.float32)], {"axis": 1, "select_last": True, "keepdims": False})]
    return out + [Sample([r((3, 5), d)], {"axis": 1}) for d in (*FLOATS[1:], *INTS)]


# ---- running sums and products
def _running(x: Spec, axis: Spec, exclusive: bool, reverse: bool) -> Spec:
    require_kind(x, "fiu")
    require_index(axis, "axis")
    known = ints_of(axis)
    if x.shape is not None and known:
        axis_of(known[0], len(x.shape))
    return Spec(x.dtype, x.shape)


def _run(f: Callable, start: int, x: np.ndarray, axis: np.ndarray, exclusive: bool, reverse: bool) -> np.ndarray:
    a = axis_of(int(np.asarray(axis).reshape(())), x.ndim)
    w = np.moveaxis(wide(x), a, -1)
    if reverse:
        w = w[..., ::-1]
    if exclusive and w.shape[-1]:
        w = np.concatenate([np.full_like(w[..., :1], start), w[..., :-1]], axis=-1)
    y = f(w, axis=-1, dtype=w.dtype)
    if reverse:
        y = y[..., ::-1]
    return back(np.moveaxis(y, -1, a), x.dtype)


def _running_cases() -> list[Sample]:
    r = Draw("cumulate")
    flags = [dict(exclusive=e, reverse=v) for e in (False, True) for v in (False, True)]
    out = [Sample([r((2, 3, 4), low=0.5), s64(a)], f) for a in (0, 1, -1) for f in flags]
    out += [
        Sample([r((5,), low=0.5), i64(0)]),
        Sample([r((2, 0), low=0.5), s64(1)]),
        Sample([r((1,)), np.array(0, np.int32)]),
    ]
    out += [Sample([r((3, 5), d), s64(1)], differentiable=False) for d in (*FLOATS[1:], *INTS)]
    return out


_A = dict(keepdims=True, noop_if_empty=False)


@op(100, "x, axes? -> y", attrs=_A)
class reduce_sum:
    "Sum; 0 over nothing."

    infer = _reduced("fiu")
    reference = _reference(_sum)
    samples = _cases("fiu")

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g = _spread(g, x, axes, keepdims, noop_if_empty)
        return F.expand(g, shape_value(x)), None


@op(101, "x, axes? -> y", attrs=_A)
class reduce_mean:
    "Mean; integers truncate; NaN (integers: 0) over nothing."

    infer = _reduced("fiu")
    reference = _reference(_mean)
    samples = _cases("fi")

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        count = _count(x, y)
        g = _spread(g, x, axes, keepdims, noop_if_empty)
        return F.div(F.expand(g, shape_value(x)), count), None


@op(102, "x, axes? -> y", attrs=_A, tolerance="exact")
class reduce_max:
    "Largest; NaN if any is; the dtype's lowest (-inf for floats, False for bool) over nothing."

    infer = _reduced("fiub")
    reference = _reference(lambda x, a: np.max(x, axis=a, keepdims=True, initial=lowest(x.dtype)))
    samples = _cases("fiub")

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g, y = _spread(g, x, axes, keepdims, noop_if_empty), _spread(y, x, axes, keepdims, noop_if_empty)
        return _share(g, x, y, axes, noop_if_empty), None


@op(103, "x, axes? -> y", attrs=_A, tolerance="exact")
class reduce_min:
    "Smallest; NaN if any is; the dtype's highest (+inf, True) over nothing."

    infer = _reduced("fiub")
    reference = _reference(lambda x, a: np.min(x, axis=a, keepdims=True, initial=highest(x.dtype)))
    samples = _cases("fiub")

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g, y = _spread(g, x, axes, keepdims, noop_if_empty), _spread(y, x, axes, keepdims, noop_if_empty)
        return _share(g, x, y, axes, noop_if_empty), None


@op(104, "x, axes? -> y", attrs=_A)
class reduce_prod:
    "Product; 1 over nothing."

    infer = _reduced("fiu")
    reference = _reference(_prod)
    samples = _cases("fiu")

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        # the product of all others, from the left and from the right: also right where x is 0
        rank = rank_of(x)
        gone = _static_axes(axes, rank, noop_if_empty)
        perm = [i for i in range(rank) if i not in gone] + list(gone)
        moved = F.transpose(x, perm=perm)
        rows = F.reshape(moved, np.array([-1, _product_of(x, gone)])) if rank else F.reshape(x, np.array([1, 1]))
        last = np.array(1, np.int64)
        others = F.mul(F.cumprod(rows, last, exclusive=True), F.cumprod(rows, last, exclusive=True, reverse=True))
        others = F.transpose(reshape_like(others, moved), perm=np.argsort(perm))
        return F.mul(_spread(g, x, axes, keepdims, noop_if_empty), others), None


def _in_floats(x: Any, f: Callable[[Any], Any]) -> Any:
    """f(x), where f is for floats only; integers are computed in float64 and cut off."""
    d = dtypes.dtype(x.dtype)
    return f(x) if d.kind == "f" else F.cast(f(F.cast(x, dtype="float64")), dtype=d.name)


@op(105, "x, axes? -> y", attrs=_A)
class reduce_l1:
    "Sum of |x|."

    infer = _reduced("fiu")
    reference = _reference(lambda x, a: _sum(np.abs(x), a))
    samples = _cases()

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g = _spread(g, x, axes, keepdims, noop_if_empty)
        return F.mul(g, F.sign(x)), None

    def decompose(x, axes=None, keepdims=True, noop_if_empty=False):
        return F.reduce_sum(F.abs(x), axes, keepdims=keepdims, noop_if_empty=noop_if_empty)


@op(106, "x, axes? -> y", attrs=_A)
class reduce_l2:
    "sqrt(sum(x * x))."

    infer = _reduced("fiu")
    reference = _reference(lambda x, a: np.sqrt(_square_sum(x, a)))
    samples = _cases()

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g, y = _spread(g, x, axes, keepdims, noop_if_empty), _spread(y, x, axes, keepdims, noop_if_empty)
        return F.mul(g, F.where(F.equal(y, scalar(0, y)), scalar(0, x), F.div(x, y))), None

    def decompose(x, axes=None, keepdims=True, noop_if_empty=False):
        def length(x):
            return F.sqrt(F.reduce_sum(F.mul(x, x), axes, keepdims=keepdims, noop_if_empty=noop_if_empty))

        return _in_floats(x, length)


@op(107, "x, axes? -> y", attrs=_A)
class reduce_sum_square:
    "Sum of x * x."

    infer = _reduced("fiu")
    reference = _reference(lambda x, a: _sum(x * x, a))
    samples = _cases()

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g = _spread(g, x, axes, keepdims, noop_if_empty)
        return F.mul(F.mul(g, x), scalar(2, x)), None

    def decompose(x, axes=None, keepdims=True, noop_if_empty=False):
        return F.reduce_sum(F.mul(x, x), axes, keepdims=keepdims, noop_if_empty=noop_if_empty)


@op(108, "x, axes? -> y", attrs=_A)
class reduce_log_sum:
    "log(sum(x))."

    infer = _reduced("fiu")
    reference = _reference(lambda x, a: np.log(np.sum(x.astype(np.float64), axis=a, keepdims=True)))
    samples = _cases(low=0.3)

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g, y = _spread(g, x, axes, keepdims, noop_if_empty), _spread(y, x, axes, keepdims, noop_if_empty)
        return F.expand(F.div(g, F.exp(y)), shape_value(x)), None

    def decompose(x, axes=None, keepdims=True, noop_if_empty=False):
        def log_sum(x):
            return F.log(F.reduce_sum(x, axes, keepdims=keepdims, noop_if_empty=noop_if_empty))

        return _in_floats(x, log_sum)


@op(109, "x, axes? -> y", attrs=_A)
class reduce_log_sum_exp:
    "log(sum(exp(x))), without overflow."

    infer = _reduced("fiu")
    reference = _reference(_log_sum_exp)
    samples = _cases()

    def vjp(g, y, x, axes=None, keepdims=True, noop_if_empty=False):
        g, y = _spread(g, x, axes, keepdims, noop_if_empty), _spread(y, x, axes, keepdims, noop_if_empty)
        return F.mul(g, F.exp(F.sub(x, y))), None


@op(
    110,
    "x -> y",
    attrs=dict(axis=0, keepdims=True, select_last=False),
    onnx="ArgMax",
    tolerance="exact",
    not_differentiable="index result",
)
class arg_max:
    "int64 index of the largest along an axis; the first of equals, or the last when select_last (NaN: unspecified)."

    samples = _index_cases

    def infer(x, axis, keepdims, select_last):
        require_kind(x, "fiu")
        if x.shape is not None and x.shape[axis_of(axis, len(x.shape))] == 0:
            raise error("nothing to choose from along the axis", show(x.shape))
        return Spec(dtypes.int64, reduce_shape(x.shape, [axis], keepdims))

    def reference(x, axis, keepdims, select_last):
        x = compute(x)
        if select_last:
            y = x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis)
        else:
            y = np.argmax(x, axis)
        return np.asarray(np.expand_dims(y, axis) if keepdims else y, dtype=np.int64)


@op(
    111,
    "x -> y",
    attrs=dict(axis=0, keepdims=True, select_last=False),
    onnx="ArgMin",
    tolerance="exact",
    not_differentiable="index result",
)
class arg_min:
    "int64 index of the smallest along an axis; the first of equals, or the last when select_last (NaN: unspecified)."

    samples = _index_cases

    def infer(x, axis, keepdims, select_last):
        require_kind(x, "fiu")
        if x.shape is not None and x.shape[axis_of(axis, len(x.shape))] == 0:
            raise error("nothing to choose from along the axis", show(x.shape))
        return Spec(dtypes.int64, reduce_shape(x.shape, [axis], keepdims))

    def reference(x, axis, keepdims, select_last):
        x = compute(x)
        if select_last:
            y = x.shape[axis] - 1 - np.argmin(np.flip(x, axis), axis)
        else:
            y = np.argmin(x, axis)
        return np.asarray(np.expand_dims(y, axis) if keepdims else y, dtype=np.int64)


@op(112, "x, axis -> y", attrs=dict(exclusive=False, reverse=False), onnx="CumSum")
class cumsum:
    "Running sum along the axis (a scalar or 1-element integer tensor)."

    infer = _running
    samples = _running_cases

    def reference(x, axis, exclusive, reverse):
        return _run(np.cumsum, 0, x, axis, exclusive, reverse)

    def vjp(g, y, x, axis, exclusive, reverse):
        return F.cumsum(g, axis, exclusive=exclusive, reverse=not reverse), None


@op(113, "x, axis -> y", attrs=dict(exclusive=False, reverse=False), onnx="CumProd")
class cumprod:
    "Running product along the axis (a scalar or 1-element integer tensor)."

    infer = _running
    samples = _running_cases

    def reference(x, axis, exclusive, reverse):
        return _run(np.cumprod, 1, x, axis, exclusive, reverse)

    def vjp(g, y, x, axis, exclusive, reverse):
        # by division: where x is 0 the result is NaN
        return F.div(F.cumsum(F.mul(g, y), axis, exclusive=exclusive, reverse=not reverse), x), None
