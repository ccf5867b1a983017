"""Shape and layout ops.  Shape-like arguments are integer tensor inputs (int64; int32 accepted), usually constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim
from deploykit.ops.core import Enum, F, Required, Spec, op
from deploykit.ops.grads import (
    constant_of,
    dim_value,
    rank_of,
    reshape_like,
    scalar,
    scatter_axis,
    shape_value,
    sum_to,
    zeros_like,
)
from deploykit.ops.numerics import back, float64, is_float
from deploykit.ops.rules import (
    axes_of,
    axis_of,
    broadcast_shapes,
    error,
    fresh_shape,
    ints_of,
    length_of,
    product,
    require_index,
    require_kind,
    require_rank,
    require_same_dtype,
    show,
    unify_dim,
    values_of,
)
from deploykit.ops.samples import Draw, Sample, i64, s64
from deploykit.ops.shape_rules import (
    equal_pieces,
    flatten_axis,
    pad_index,
    padded,
    permutation,
    range_length,
    reshaped,
    sliced,
    stack,
)

_NO_GRAD = "integer result"


def _pieces(x: Any, sizes: Any = None, **_: Any) -> int | None:
    """The number of outputs of split where the sizes tell it."""
    return len(sizes) if isinstance(sizes, (np.ndarray, list, tuple)) else None


# ---- longer samples
def _slices() -> list[Sample]:
    r = Draw("slice")
    far, low = 2**31 - 1, -(2**31)
    cases: list[tuple] = [
        ((5,), (1,), (4,), None, None),
        ((5, 4), (1, 0), (3, far), None, None),
        ((5, 4), (-3,), (-1,), (0,), None),
        ((5, 4), (-3,), (2**63 - 1,), (-1,), None),
        ((7, 3), (0,), (far,), (0,), (2,)),
        ((7, 3), (-1,), (low,), (0,), (-1,)),
        ((7, 3), (far,), (-(2**63),), (0,), (-3,)),
        ((7, 3), (5,), (1,), (0,), (-2,)),
        ((7, 3), (4, 0), (2, 9), (0, 1), (1, 1)),
        ((2, 3, 4), (0, 1), (1, 3), (2, 1), (1, 1)),
        ((3,), (5,), (9,), (0,), (1,)),
        ((0, 3), (0,), (5,), (0,), (1,)),
        ((0, 3), (-1,), (low,), (0,), (-1,)),
        ((1, 6, 6, 3), (0, 0), (far, far), (1, 2), (2, 2)),
        ((4,), (), (), (), ()),
        ((6,), (-9,), (-2,), (0,), (1,)),
        ((6,), (-2,), (-9,), (0,), (-1,)),
    ]

    def vector(v: tuple | None) -> np.ndarray | None:
        return None if v is None else i64(*v)

    out = [Sample([r(s), *(vector(v) for v in rest)]) for s, *rest in cases]
    out += [Sample([r((5, 3)), *(np.array([v], np.int32) for v in (1, 4, 0, 2))])]
    return out + [
        Sample([r((5, 3), d), i64(1), i64(4)], differentiable=False) for d in ("int8", "bool", "int64", "float16")
    ]


def _pads() -> list[Sample]:
    r = Draw("pad")
    modes = ("constant", "reflect", "edge", "wrap")
    out = [Sample([r((3, 4)), i64(1, 0, 2, 3)], {"mode": m}) for m in modes]
    out += [Sample([r((4, 5)), i64(-1, 2, 0, -2)], {"mode": m}) for m in modes]
    out += [Sample([r((3,)), i64(7, 5)], {"mode": m}) for m in modes]  # round more than once
    out += [Sample([r((1, 2)), i64(3, 0, 2, 0)], {"mode": m}) for m in modes]
    out += [Sample([r((3, 4)), i64(1, 2), r(()), i64(-1)]), Sample([r((3, 4)), i64(1, 0, 0, 2), None, i64(1, 0)])]
    out += [Sample([r((2, 3)), i64(0, 1, 1, 0), np.array([-np.inf], np.float32)], differentiable=False)]
    out += [Sample([r((0, 2)), i64(1, 0, 2, 1), r(())]), Sample([r(()), i64()])]
    out += [Sample([r((1, 3, 3, 2)), i64(0, 1, 1, 0, 0, 1, 1, 0)]), Sample([r((2,)), np.array([1, 1], np.int32)])]
    types = ("int8", "uint8", "bool", "int64", "float64", "float16")
    return out + [Sample([r((2, 3), d), i64(1, 0, 0, 1), r((), d)], differentiable=d == "float64") for d in types]


@op(160, "x -> y", attrs=dict(start=0, end=2147483647), onnx="Shape", tolerance="exact", not_differentiable=_NO_GRAD)
class shape_of:
    "int64 vector of the dims [start:end] of x (negative counts from the end, clamped)."

    def infer(x, start, end):
        if x.shape is None:
            return Spec(dtypes.int64, (Dim.fresh(),))
        dims = x.shape[slice(start, end)]
        value = np.empty(len(dims), dtype=object)
        value[:] = dims
        return Spec(dtypes.int64, (len(dims),), value)

    def reference(x, start, end):
        return np.array(x.shape[start:end], dtype=np.int64)

    def samples():
        r = Draw("shape_of")
        some = [dict(start=1), dict(end=-1), dict(start=-2, end=3), dict(start=-9, end=9), dict(start=3, end=1)]
        out = [
            Sample([r(s, d)]) for s, d in (((2, 3), "float32"), ((), "float32"), ((0, 5), "int8"), ((1, 1, 4), "bool"))
        ]
        return out + [Sample([r((2, 3, 4, 5))], a) for a in some]


@op(161, "x -> y", onnx="Size", tolerance="exact", not_differentiable=_NO_GRAD)
class size_of:
    "int64 scalar: number of elements."

    def infer(x):
        value = None
        if x.shape is not None:
            value = np.empty((), dtype=object)
            value[()] = product(x.shape)
        return Spec(dtypes.int64, (), value)

    def reference(x):
        return np.array(x.size, dtype=np.int64)

    def samples():
        r = Draw("size_of")
        return [Sample([r(s)]) for s in ((2, 3), (), (0, 5))]


@op(162, "x, shape -> y", attrs=dict(allow_zero=False), flags="view", onnx="Reshape", tolerance="exact")
class reshape:
    "Same elements in row-major order; one dim may be -1; 0 copies the dim of x at that place unless allow_zero."

    def infer(x, shape, allow_zero):
        require_index(shape, "shape")
        require_rank(shape, 1, what="shape")
        return Spec(x.dtype, reshaped(x.shape, shape, allow_zero))

    def reference(x, shape, allow_zero):
        target = [int(d) for d in shape]
        if not allow_zero:
            target = [x.shape[i] if d == 0 else d for i, d in enumerate(target)]
        return x.reshape(target)

    def samples():
        r = Draw("reshape")
        cases = [
            ((2, 3), (3, 2)),
            ((2, 3, 4), (0, -1)),
            ((2, 3, 4), (-1,)),
            ((), (1, 1)),
            ((1,), ()),
            ((0, 3), (0, 3, 1)),
        ]
        cases += [((6,), (2, 1, 3)), ((2, 3, 4), (4, 3, -1))]
        out = [Sample([r(s), i64(*t)]) for s, t in cases]
        out += [Sample([r((2, 0, 3)), i64(0, 5)], {"allow_zero": True})]
        out += [Sample([r((6,), d), i64(2, -1)]) for d in ("int8", "bool", "float64", "int4", "bfloat16")]
        return out + [Sample([r((6,)), np.array([3, 2], np.int32)])]

    def vjp(g, y, x, shape, allow_zero):
        return reshape_like(g, x), None


@op(163, "x -> y", attrs=dict(axis=1), flags="view", onnx="Flatten", tolerance="exact")
class flatten:
    "[product of dims before axis, product of the rest]."

    def infer(x, axis):
        if x.shape is None:
            return Spec(x.dtype, fresh_shape(2))
        n = flatten_axis(axis, len(x.shape))
        return Spec(x.dtype, (product(x.shape[:n]), product(x.shape[n:])))

    def reference(x, axis):
        n = flatten_axis(axis, x.ndim)
        return x.reshape(math.prod(x.shape[:n]), math.prod(x.shape[n:]))

    def samples():
        r = Draw("flatten")
        cases = [((2, 3, 4), 1), ((2, 3, 4), 0), ((2, 3, 4), 3), ((2, 3, 4), -1), ((), 0), ((0, 3, 2), 1), ((5,), 1)]
        return [Sample([r(s)], {"axis": a}) for s, a in cases]

    def vjp(g, y, x, axis):
        return (reshape_like(g, x),)


@op(164, "x, axes? -> y", flags="view", tolerance="exact")
class squeeze:
    "Drop the dims of size 1 named by axes (all of them when absent)."

    def infer(x, axes=None):
        require_index(axes, "axes")
        known = ints_of(axes)
        if x.shape is None:
            return Spec(x.dtype, None)
        if axes is None:  # which dims are 1 is known only when all sizes are
            sure = all(isinstance(d, int) for d in x.shape)
            return Spec(x.dtype, tuple(d for d in x.shape if d != 1) if sure else None)
        if known is None:
            count = length_of(axes)
            return Spec(x.dtype, None if count is None else fresh_shape(len(x.shape) - count))
        gone = axes_of(known, len(x.shape))
        for a in gone:
            if isinstance(x.shape[a], int) and x.shape[a] != 1:
                raise error(f"dim {a} of {show(x.shape)} cannot be squeezed", x.shape[a], 1)
        return Spec(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in gone))

    def reference(x, axes=None):
        return np.squeeze(x, None if axes is None else tuple(int(a) for a in axes.reshape(-1)))

    def samples():
        r = Draw("squeeze")
        cases = [((1, 3, 1), None), ((1, 3, 1), i64(0)), ((1, 3, 1), i64(-1, 0)), ((1,), i64(0)), ((2, 3), None)]
        cases += [((1, 0, 1), i64(2)), ((), None), ((2, 1), np.array([1], np.int32)), ((2, 1), i64())]
        return [Sample([r(s), a]) for s, a in cases]

    def vjp(g, y, x, axes=None):
        return reshape_like(g, x), None


@op(165, "x, axes -> y", flags="view", tolerance="exact")
class unsqueeze:
    "Insert dims of size 1 at these places of the result."

    def infer(x, axes):
        require_index(axes, "axes")
        known, count = ints_of(axes), length_of(axes)
        if x.shape is None or count is None:
            return Spec(x.dtype, None)
        rank = len(x.shape) + count
        if known is None:
            return Spec(x.dtype, fresh_shape(rank))
        new, dims = axes_of(known, rank), iter(x.shape)
        return Spec(x.dtype, tuple(1 if i in new else next(dims) for i in range(rank)))

    def reference(x, axes):
        return np.expand_dims(x, tuple(int(a) for a in axes.reshape(-1)))

    def samples():
        r = Draw("unsqueeze")
        cases = [
            ((3,), i64(0)),
            ((3,), i64(-1)),
            ((2, 3), i64(0, -1)),
            ((), i64(0)),
            ((2, 3), i64(2, 0)),
            ((0,), i64(1)),
        ]
        return [Sample([r(s), a]) for s, a in cases]

    def vjp(g, y, x, axes):
        return reshape_like(g, x), None


@op(166, "x -> y", attrs=dict(perm=()), onnx="Transpose", tolerance="exact")
class transpose:
    "Dim i of y is dim perm[i] of x; () reverses."

    def infer(x, perm):
        if x.shape is None:
            return Spec(x.dtype, fresh_shape(len(perm)) if perm else None)
        order = permutation(perm, len(x.shape))
        return Spec(x.dtype, tuple(x.shape[i] for i in order))

    def reference(x, perm):
        return np.transpose(x, permutation(perm, x.ndim))

    def samples():
        r = Draw("transpose")
        cases = [((2, 3), ()), ((2, 3, 4, 5), (0, 2, 3, 1)), ((2, 3, 4, 5), (0, 3, 1, 2)), ((2, 3, 4), (-1, 0, 1))]
        cases += [((), ()), ((7,), (0,)), ((0, 3), (1, 0)), ((2, 1, 3, 1, 2), (4, 2, 0, 1, 3)), ((19, 37), (1, 0))]
        out = [Sample([r(s)], {"perm": p}) for s, p in cases]
        return out + [Sample([r((3, 4, 2), d)], {"perm": (2, 0, 1)}) for d in ("int8", "bool", "float64", "float16")]

    def vjp(g, y, x, perm):
        order = permutation(perm, rank_of(x))
        return (F.transpose(g, perm=tuple(int(i) for i in np.argsort(order))),)


@op(167, "xs* -> y", attrs=dict(axis=Required("int")), onnx="Concat", tolerance="exact")
class concat:
    "Join along an existing axis."

    def infer(*xs, axis):
        if not xs:
            raise error("number of inputs", 0, "1 or more")
        dtype = require_same_dtype(*xs)
        known = [x.shape for x in xs if x.shape is not None]
        if not known:
            return Spec(dtype, None)
        ranks = {len(s) for s in known}
        if len(ranks) > 1:
            raise error("ranks differ", " and ".join(show(s) for s in known))
        a = axis_of(axis, len(known[0]))
        out = list(known[0])
        for s in known[1:]:
            for i, d in enumerate(s):
                if i != a:
                    out[i] = unify_dim(out[i], d, f"inputs {show(known[0])} and {show(s)}: dims other than axis {a}")
        out[a] = sum(s[a] for s in known) if len(known) == len(xs) else Dim.fresh()
        return Spec(dtype, tuple(out))

    def reference(*xs, axis):
        return np.concatenate(xs, axis)

    def samples():
        r = Draw("concat")
        cases = [([(2, 3), (2, 4)], 1), ([(2, 3), (1, 3), (3, 3)], 0), ([(2, 3)], -1), ([(0,), (2,), (3,)], 0)]
        cases += [([(2, 3, 4), (2, 1, 4)], -2), ([(2, 0, 3), (2, 0, 3)], 0), ([(1, 2, 2, 5)] * 5, 3)]
        out = [Sample([r(s) for s in shapes], {"axis": a}) for shapes, a in cases]
        return out + [Sample([r((2, 3), d), r((2, 2), d)], {"axis": 1}) for d in ("int8", "int64", "bool", "float16")]

    def vjp(g, y, *xs, axis):
        sizes = [dim_value(x, axis) for x in xs]
        sizes = np.array(sizes) if all(isinstance(n, np.ndarray) for n in sizes) else stack(sizes)
        return tuple(F.split(g, sizes, axis=axis, n_outputs=len(xs)))


@op(168, "x, sizes? -> ys*", attrs=dict(axis=0), tolerance="exact", n_outputs=_pieces)
class split:
    """Cut along an axis into as many pieces as the node has outputs: of these sizes, or of ceil(n / outputs) with a
    smaller last one (then empty ones).  (infer and reference get n_outputs.)"""

    def infer(x, sizes=None, *, axis, n_outputs):
        require_index(sizes, "sizes")
        if x.shape is None:
            return tuple(Spec(x.dtype, None) for _ in range(n_outputs))
        a = axis_of(axis, len(x.shape))
        size, pieces = x.shape[a], values_of(sizes)
        count = length_of(sizes)
        if count is not None and count != n_outputs:
            raise error("number of sizes", count, f"{n_outputs}, one per output")
        if sizes is None:
            pieces = equal_pieces(size, n_outputs)
        elif pieces is None:
            pieces = list(fresh_shape(n_outputs))
        else:
            total = sum(pieces)
            if isinstance(total, int) and isinstance(size, int) and total != size:
                raise error(f"sizes {pieces} do not add up to dim {a} of {show(x.shape)}", total, size)
        return tuple(Spec(x.dtype, (*x.shape[:a], p, *x.shape[a + 1 :])) for p in pieces)

    def reference(x, sizes=None, *, axis, n_outputs):
        pieces = equal_pieces(x.shape[axis], n_outputs) if sizes is None else [int(n) for n in sizes]
        if len(pieces) != n_outputs or sum(pieces) != x.shape[axis]:
            raise error(f"split: sizes {pieces} do not fit", x.shape[axis])
        return tuple(np.split(x, np.cumsum(pieces)[:-1], axis))

    def samples():
        r = Draw("split")
        out = [Sample([r((6, 2))], n_outputs=3), Sample([r((7,))], n_outputs=3), Sample([r((2, 5))], {"axis": -1}, 1)]
        out += [Sample([r((2, 5)), i64(1, 4)], {"axis": 1}, 2), Sample([r((5, 2)), i64(0, 5, 0)], {"axis": 0}, 3)]
        out += [Sample([r((2, 6, 3)), np.array([2, 4], np.int32)], {"axis": 1}, 2), Sample([r((0, 3))], {"axis": 0}, 2)]
        return out + [Sample([r((2, 6), d), i64(3, 3)], {"axis": 1}, 2) for d in ("int8", "bool", "float64")]

    def vjp(g, ys, x, sizes=None, *, axis, n_outputs):
        parts = [zeros_like(y) if gi is None else gi for gi, y in zip(g, ys, strict=True)]
        return F.concat(*parts, axis=axis), None


@op(169, "x, starts, ends, axes?, steps? -> y", tolerance="exact", onnx="Slice")
class slice_:
    "x[start:end:step] on the given axes (default: the first ones), Python rules with clamping; steps may be negative."

    def infer(x, starts, ends, axes=None, steps=None):
        for spec, what in ((starts, "starts"), (ends, "ends"), (axes, "axes"), (steps, "steps")):
            require_index(spec, what)
            require_rank(spec, 1, what=what)
        return Spec(x.dtype, sliced(x.shape, starts, ends, axes, steps))

    def reference(x, starts, ends, axes=None, steps=None):
        at = [slice(None)] * x.ndim
        for i, a in enumerate(range(len(starts)) if axes is None else axes):
            step = 1 if steps is None else int(steps[i])
            at[axis_of(int(a), x.ndim)] = slice(int(starts[i]), int(ends[i]), step)
        return x[tuple(at)].copy()

    samples = _slices

    def vjp(g, y, x, starts, ends, axes=None, steps=None):
        rank = rank_of(x)
        s, e, a, t = (None if v is None else constant_of(v) for v in (starts, ends, axes, steps))
        if s is None or (axes is not None and a is None) or (steps is not None and t is None):
            raise ValueError("the gradient of slice needs to know starts, axes and steps")
        along = axes_of(range(len(s)) if a is None else a, rank)
        for i in reversed(range(len(s))):
            # which positions of the dim were taken: the same slice of 0, 1, 2 ...
            taken = F.slice(
                F.range(s64(0), dim_value(x, along[i]), s64(1)),
                s[i : i + 1].astype(np.int64),
                F.cast(F.slice(ends, i64(i), i64(i + 1)), dtype="int64")
                if e is None
                else e[i : i + 1].astype(np.int64),
                i64(0),
                i64(1 if t is None else int(t[i])),
            )
            g = scatter_axis(g, taken, dim_value(x, along[i]), along[i])
        return g, None, None, None, None


@op(170, "x, pads, value?, axes? -> y", attrs=dict(mode=Enum("constant", "reflect", "edge", "wrap")), tolerance="exact")
class pad:
    """pads = befores then afters for the named axes (default all); negative pads crop; value is a scalar (0).

    Place i of the result, counted from the first element of x (so i < 0 is padding), shows x at: the clamped i (edge),
    i mod n (wrap), i mirrored at both ends without repeating them, as often as needed (reflect; n = 1: always 0).
    """

    def infer(x, pads, value=None, axes=None, *, mode):
        require_index(pads, "pads")
        require_index(axes, "axes")
        require_same_dtype(x, value, what="x and value")
        return Spec(x.dtype, padded(x.shape, pads, axes, mode))

    def reference(x, pads, value=None, axes=None, *, mode):
        along = axes_of(range(x.ndim) if axes is None else axes.reshape(-1), x.ndim)
        pads = [int(p) for p in pads]
        fill = np.zeros((), x.dtype) if value is None else value.reshape(())
        for i, a in enumerate(along):
            where, outside = pad_index(x.shape[a], pads[i], pads[i + len(along)], mode)
            if len(where) and not x.shape[a]:
                shape = list(x.shape)
                shape[a] = len(where)
                x = np.full(shape, fill, x.dtype)
                continue
            x = np.take(x, where, axis=a)
            if outside.any():
                shape = [1] * x.ndim
                shape[a] = -1
                x = np.where(outside.reshape(shape), fill, x)
        return np.array(x)

    samples = _pads

    def vjp(g, y, x, pads, value=None, axes=None, *, mode):
        rank = rank_of(x)
        if mode == "constant":
            gx = F.pad(g, F.neg(pads), None, axes)
            gvalue = None
            if value is not None:
                # what fell on the frame: everything less what came from x (crops took nothing in)
                ones = F.pad(zeros_like(x), pads, scalar(1, x), axes)
                gvalue = reshape_like(F.reduce_sum(F.mul(g, ones), keepdims=False), value)
            return gx, None, gvalue, None
        known = None if axes is None else constant_of(axes)
        if axes is not None and known is None:
            raise ValueError("the gradient of pad needs to know the axes")
        along = axes_of(range(rank) if known is None else known.reshape(-1), rank)
        for i in reversed(range(len(along))):
            n = dim_value(x, along[i])
            own = F.gather(pads, i64(i, i + len(along)))
            source = F.pad(F.range(s64(0), n, s64(1)), own, mode=mode)
            g = scatter_axis(g, source, n, along[i])
        return g, None, None, None


@op(171, "x, shape -> y", onnx="Expand", tolerance="exact")
class expand:
    "Broadcast x against shape, both ways: dims of 1 in shape keep x's."

    def infer(x, shape):
        require_index(shape, "shape")
        require_rank(shape, 1, what="shape")
        target, count = values_of(shape), length_of(shape)
        if x.shape is None or count is None:
            return Spec(x.dtype, None)
        if target is not None:
            return Spec(x.dtype, broadcast_shapes(x.shape, tuple(target)))
        # a dim of x that is a number above 1 stays; the others may grow
        own = (1,) * (count - len(x.shape)) + x.shape
        return Spec(x.dtype, tuple(d if isinstance(d, int) and d > 1 else Dim.fresh() for d in own))

    def reference(x, shape):
        return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in shape))))

    def samples():
        r = Draw("expand")
        cases = [
            ((3,), (2, 3)),
            ((2, 1), (1, 4)),
            ((), (2, 2)),
            ((1,), (0,)),
            ((2, 3), (1,)),
            ((3, 1), (2, 1, 6)),
            ((2,), ()),
        ]
        out = [Sample([r(s), i64(*t)]) for s, t in cases]
        return out + [Sample([r((3, 1), d), i64(3, 2)]) for d in ("int8", "bool", "int64", "float16")]

    def vjp(g, y, x, shape):
        return sum_to(g, x), None


@op(172, "x, repeats -> y", onnx="Tile", tflite="TILE", tolerance="exact")
class tile:
    "Repeat the whole tensor repeats[i] times along dim i."

    def infer(x, repeats):
        require_index(repeats, "repeats")
        require_rank(repeats, 1, what="repeats")
        times, count = values_of(repeats), length_of(repeats)
        if x.shape is None:
            return Spec(x.dtype, None if count is None else fresh_shape(count))
        if count is not None and count != len(x.shape):
            raise error(f"number of repeats for x {show(x.shape)}", count, len(x.shape))
        if times is not None and any(isinstance(t, int) and t < 0 for t in times):
            raise error("repeats", show(tuple(times)), "no negative numbers")
        if times is None:
            return Spec(x.dtype, tuple(0 if d == 0 else Dim.fresh() for d in x.shape))
        return Spec(x.dtype, tuple(d * t for d, t in zip(x.shape, times, strict=True)))

    def reference(x, repeats):
        return np.tile(x, tuple(int(n) for n in repeats))

    def samples():
        r = Draw("tile")
        cases = [
            ((2, 3), (2, 1)),
            ((3,), (4,)),
            ((2, 1, 3), (1, 3, 2)),
            ((2, 3), (0, 2)),
            ((), ()),
            ((0, 2), (3, 2)),
            ((2, 2), (1, 1)),
        ]
        out = [Sample([r(s), i64(*t)]) for s, t in cases]
        return out + [Sample([r((2, 3), d), i64(2, 3)]) for d in ("int8", "bool", "float64")]

    def vjp(g, y, x, repeats):
        rank = rank_of(x)
        if not rank:
            return g, None
        repeats = F.cast(repeats, dtype="int64")
        both = F.concat(F.unsqueeze(repeats, i64(1)), F.unsqueeze(shape_value(x), i64(1)), axis=1)
        parts = F.reshape(g, F.reshape(both, i64(-1)), allow_zero=True)
        return reshape_like(F.reduce_sum(parts, i64(*range(0, 2 * rank, 2)), keepdims=False), x), None


@op(173, "shape, value -> y", tolerance="exact")
class fill:
    "A tensor of this shape filled with the scalar value (its dtype)."

    def infer(shape, value):
        require_index(shape, "shape")
        require_rank(shape, 1, what="shape")
        dims, count = values_of(shape), length_of(shape)
        if dims is not None:
            if any(isinstance(d, int) and d < 0 for d in dims):
                raise error("shape", show(tuple(dims)), "no negative dims")
            return Spec(value.dtype, tuple(dims))
        return Spec(value.dtype, None if count is None else fresh_shape(count))

    def reference(shape, value):
        return np.full(tuple(int(d) for d in shape), value.reshape(()), value.dtype)

    def samples():
        r = Draw("fill")
        out = [Sample([i64(*s), r(())]) for s in ((2, 3), (), (0, 2), (1,))]
        out += [Sample([np.array([2, 2], np.int32), r((1,))])]
        return out + [Sample([i64(3), r((), d)]) for d in ("int8", "bool", "int64", "float16", "float64")]

    def vjp(g, y, shape, value):
        return None, reshape_like(F.reduce_sum(g, keepdims=False), value)


@op(
    174,
    "start, limit, delta -> y",
    onnx="Range",
    tflite="RANGE",
    tolerance="exact",
    not_differentiable="shape depends on values",
)
class range_:
    """start, start + delta, ... before limit; max(ceil((limit - start) / delta), 0) elements, each start + i * delta.
    Floats are computed in float64 and rounded once."""

    def infer(start, limit, delta):
        require_kind(start, "fiu", "start")
        dtype = require_same_dtype(start, limit, delta)
        return Spec(dtype, (range_length(start, limit, delta),))

    def reference(start, limit, delta):
        a, b, d = (float64(v).reshape(()) if is_float(v) else int(v.reshape(())) for v in (start, limit, delta))
        if d == 0:
            raise error("range: delta", 0, "not 0")
        n = math.ceil((b - a) / d) if is_float(start) else -((a - b) // d)
        steps = np.arange(max(n, 0), dtype=np.float64 if is_float(start) else np.int64)
        return back(a + steps * d, start.dtype)

    def samples():
        out = []
        f = [(0, 5, 1), (1, 2, 0.3), (5, 0, -1.5), (3, 3, 1), (3, 1, 1), (-1.5, 2.25, 0.75)]
        i = [(0, 5, 1), (10, 0, -3), (2, 2, 1), (5, 2, 1), (0, 7, 3)]
        for d, cases in (("float32", f), ("float64", f), ("int64", i), ("int32", i), ("int16", i)):
            out += [Sample([np.array(v, d) for v in c]) for c in cases]
        return out
