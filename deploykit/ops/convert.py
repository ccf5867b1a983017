"""Selection and conversion: identity, where, clip, cast, bitcast."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.ops.core import F, Required, Spec, op
from deploykit.ops.grads import np_dtype, reshape_like, scalar, sum_to
from deploykit.ops.numerics import back, compute, float_to_int
from deploykit.ops.rules import (
    broadcast_shapes,
    error,
    product,
    require_kind,
    require_same_dtype,
    same_as_input,
    show,
)
from deploykit.ops.samples import FLOATS, INTS, Draw, Sample, unary


def convert(x: np.ndarray, to: DType, saturate: bool = True) -> np.ndarray:
    """The array as another dtype by the rules of ``cast``."""
    if x.dtype == to.np:
        return x
    if to.kind == "b":
        return compute(x) != 0
    if x.dtype == np.bool_:
        x = x.astype(np.int32)
    if to.kind in "iu":
        x = compute(x)
        if to.bits < 8 and x.dtype.kind == "f":
            x = float_to_int(x, np.dtype(np.int64))
        return back(x, to.np)
    if to.bits >= 32:
        return compute(x).astype(to.np)
    y = x if to is dtypes.float16 and x.dtype == np.float64 else compute(x).astype(np.float32)
    if to.bits <= 8 and saturate or to.bits < 8:
        import ml_dtypes  # costs 10 ms, and most programs have no narrow floats

        limit = np.float32(ml_dtypes.finfo(to.np).max)
        y = np.clip(y, -limit, limit)
    return y.astype(to.np)


def _casts() -> list[Sample]:
    r = Draw("cast")
    odd = np.array([0.0, -0.0, 0.5, -1.5, 2.5, 300.7, -300.7, 1e10, -1e10, 3e38, np.inf, -np.inf, np.nan], np.float32)
    plain = (*FLOATS, *INTS, "bool")
    small = ("int4", "uint4", "int2", "uint2", "float4_e2m1fn")
    f8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
    out = [Sample([r((2, 3), a)], {"dtype": b}, differentiable=False) for a in plain for b in plain]
    out += [Sample([odd], {"dtype": b}, differentiable=False) for b in plain]
    out += [Sample([odd.astype(np.float64)], {"dtype": b}, differentiable=False) for b in ("float32", "int64", "int8")]
    for d in (*f8, *small):
        out += [Sample([r((17,), "float32", -500, 500)], {"dtype": d}, differentiable=False)]
        out += [Sample([r((17,), "float16", -3, 3)], {"dtype": d}, differentiable=False)]
        out += [Sample([r((2, 3), d)], {"dtype": b}, differentiable=False) for b in ("float32", "float16", "int32")]
    out += [Sample([odd], {"dtype": d, "saturate": s}, differentiable=False) for d in f8 for s in (True, False)]
    out += [Sample([r((9,), "int32")], {"dtype": d}, differentiable=False) for d in ("int4", "uint4")]
    out += [Sample([r(())], {"dtype": "float64"}), Sample([r((0, 3))], {"dtype": "float64"})]
    return out


@op(60, "x -> y", onnx="Identity", flags="view", tolerance="exact")
class identity:
    "x."

    infer = same_as_input
    samples = unary(kinds="fiub")

    def reference(x):
        return x

    def vjp(g, y, x):
        return (g,)


@op(61, "condition, x, y -> z", onnx="Where", tolerance="exact")
class where:
    "x where condition (bool), else y; all three broadcast."

    def infer(condition, x, y):
        require_kind(condition, "b", "condition")
        return Spec(require_same_dtype(x, y, what="x and y"), broadcast_shapes(condition.shape, x.shape, y.shape))

    def reference(condition, x, y):
        return np.where(condition, x, y)

    def samples():
        r = Draw("where")
        shapes = [((2, 3),) * 3, ((), (2, 3), ()), ((3,), (2, 1), (1, 3)), ((2, 3), (), ()), ((0, 3), (3,), (1, 1))]
        out = [Sample([r(c, "bool"), r(x), r(y)]) for c, x, y in shapes]
        for d in (*FLOATS[1:], *INTS, "bool"):
            out.append(Sample([r((4, 5), "bool"), r((5,), d), r((4, 5), d)], differentiable=False))
        return out

    def vjp(g, z, condition, x, y):
        zero = scalar(0, g)
        return None, sum_to(F.where(condition, g, zero), x), sum_to(F.where(condition, zero, g), y)


@op(62, "x, low?, high? -> y", flags="inplace", tolerance="exact", onnx="Clip")
class clip:
    "min(max(x, low), high); low and high are scalars; high wins when they cross; NaN stays."

    def infer(x, low=None, high=None):
        require_kind(x, "fiu")
        require_same_dtype(x, low, high, what="x, low and high")
        for spec, what in ((low, "low"), (high, "high")):
            if spec is not None and spec.shape is not None and product(spec.shape) != 1:
                raise error(f"shape of {what}", show(spec.shape), "a scalar")
        return Spec(x.dtype, x.shape)

    def reference(x, low=None, high=None):
        y = compute(x)
        if low is not None:
            y = np.maximum(y, compute(low).reshape(()))
        if high is not None:
            y = np.minimum(y, compute(high).reshape(()))
        return back(y, x.dtype)

    def samples():
        r = Draw("clip")
        out = []
        for d in (*FLOATS, *INTS):
            low, high = (
                np.asarray(3 if d[0] == "u" else -1).astype(dtypes.dtype(d).np),
                np.asarray(5).astype(dtypes.dtype(d).np),
            )
            out += [Sample([r((3, 17), d, 0 if d[0] == "u" else -9, 9), low, high], differentiable=d == "float32")]
        x, low, high = r((2, 5), low=-4, high=4), np.float32(-1.3), np.float32(1.7)
        nan = np.array([np.nan, 5, -5, np.inf, -np.inf], np.float32)
        out += [Sample([x, np.array(low), None]), Sample([x, None, np.array(high)]), Sample([x])]
        out += [Sample([x, np.array(high), np.array(low)]), Sample([r(()), np.array(low), np.array(high)])]  # crossed
        out += [Sample([r((0, 2)), np.array(low), np.array(high)]), Sample([x, np.array([low]), np.array([high])])]
        out += [Sample([nan, np.array(low), np.array(high)], differentiable=False)]
        return out

    def vjp(g, y, x, low=None, high=None):
        zero = scalar(0, g)
        inside = glow = ghigh = None
        if high is not None:
            over = F.greater(x if low is None else F.maximum(x, low), high)
            inside = F.logical_not(over)
            ghigh = reshape_like(F.reduce_sum(F.where(over, g, zero)), high)
        if low is not None:
            above = F.greater_equal(x, low)
            under = F.logical_not(above) if inside is None else F.logical_and(inside, F.logical_not(above))
            glow = reshape_like(F.reduce_sum(F.where(under, g, zero)), low)
            inside = above if inside is None else F.logical_and(inside, above)
        return g if inside is None else F.where(inside, g, zero), glow, ghigh


@op(63, "x -> y", attrs=dict(dtype=Required("dtype"), saturate=True), tolerance="exact")
class cast:
    """Convert to ``dtype``: float to int truncates toward zero, to bool tests != 0; floats round to nearest even
    (bfloat16 and narrower by way of float32, so float64 is rounded twice).

    ``saturate`` (float8 targets only): out-of-range goes to the largest finite value rather than NaN or inf.  int to
    a narrower int keeps the low bits.  Float to integer out of range is clamped on every ISA (NaN gives 0), except that
    int4, uint4, int2 and uint2 keep the low bits of the number as int64 (what ONNX's node tests expect).
    """

    def infer(x, dtype, saturate):
        return Spec(dtypes.dtype(dtype), x.shape)

    def reference(x, dtype, saturate):
        return convert(x, dtypes.dtype(dtype), saturate)

    samples = _casts

    def vjp(g, y, x, dtype, saturate):
        return (F.cast(g, dtype=np_dtype(x)) if dtypes.dtype(dtype).kind == "f" else None,)


@op(64, "x -> y", attrs=dict(dtype=Required("dtype")), tolerance="exact", not_differentiable="reads bits")
class bitcast:
    "Same bytes read as another dtype of the same width."

    def infer(x, dtype):
        to = dtypes.dtype(dtype)
        if to.bits != x.dtype.bits or "b" in (to.kind, x.dtype.kind):
            raise error("bits can only be read as another dtype of the same width", f"{x.dtype} to {to}")
        return Spec(to, x.shape)

    def reference(x, dtype):
        to = dtypes.dtype(dtype)
        if to.bits >= 8:
            return np.ascontiguousarray(x).view(to.np).reshape(x.shape)
        bits = np.ascontiguousarray(x).view(np.uint8).reshape(x.shape) & ((1 << to.bits) - 1)
        return bits.view(to.np) if to.kind == "f" else back(bits.astype(np.int32), to.np)

    def samples():
        r = Draw("bitcast")
        pairs = [
            ("float32", "int32"),
            ("int32", "float32"),
            ("float64", "uint64"),
            ("float16", "uint16"),
            ("int8", "uint8"),
        ]
        pairs += [("uint8", "float8_e4m3fn"), ("bfloat16", "int16"), ("int4", "uint4"), ("uint4", "int4")]
        return [Sample([r((2, 5), a)], {"dtype": b}) for a, b in pairs] + [Sample([r(())], {"dtype": "uint32"})]
