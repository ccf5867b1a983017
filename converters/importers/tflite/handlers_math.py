"""Elementwise ops, comparisons, reductions, and those that map 1:1 by the passports' ``tflite`` names."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.tflite.call import HANDLERS, Call, Complex, handles
from deploykit.converters.importers.tflite.handlers_quant import product
from deploykit.converters.ir.tensorflow import add_n
from deploykit.graph import Value
from deploykit.ops.core import REGISTRY

_WITH_ACTIVATION = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}


@handles(*_WITH_ACTIVATION)
def arithmetic(c: Call) -> Value:
    o = c.options(_WITH_ACTIVATION[c.op_type])
    return c.act(c.op(c.op_type.lower(), c.x(0), c.x(1)), o.fused_activation_function)


@handles("FLOOR_MOD")
def floor_mod(c: Call) -> Value:
    return c.op("mod", c.x(0), c.x(1))


@handles("ADD_N")
def sum_of(c: Call) -> Value:
    return add_n(c, [c.x(i) for i in range(c.n)])


@handles("MAXIMUM", "MINIMUM")
def extreme(c: Call) -> Value:
    alike = c.same(0, c.out_quant()) and c.same(1, c.out_quant())
    a, b = (c.raw(0), c.raw(1)) if alike else (c.x(0), c.x(1))
    return c.op(c.op_type.lower(), a, b)


@handles("COMPLEX_ABS")
def complex_abs(c: Call) -> Value:
    parts = complex_parts(c)
    y = c.op("reduce_l2", parts, c.i64(-1), keepdims=False)
    return y


@handles("REAL", "IMAG")
def real_or_imag(c: Call) -> Value:
    return c.op("gather", complex_parts(c), c.const(np.int64(0 if c.op_type == "REAL" else 1)), axis=-1)


def complex_parts(c: Call) -> Value:
    """Input 0, which must be complex."""
    v = c.item(0)
    if not isinstance(v, Complex):
        raise c.unsupported("complex numbers that do not come from RFFT2D")
    return v.parts


@handles("RFFT2D")
def rfft_2d(c: Call) -> Complex:
    """Real 2-D FFT over the last two dims, padded with zeros or cut to the given lengths."""
    height, width = c.ints(1, "fft_length")
    x = c.op("unsqueeze", c.x(0), c.i64(-1))
    y = c.op("dft", x, c.const(np.int64(width)), c.const(np.int64(-2)), onesided=True)
    return Complex(c.op("dft", y, c.const(np.int64(height)), c.const(np.int64(-3))))


# ---- reductions
_REDUCE = {
    "MEAN": "reduce_mean",
    "SUM": "reduce_sum",
    "REDUCE_MAX": "reduce_max",
    "REDUCE_MIN": "reduce_min",
    "REDUCE_PROD": "reduce_prod",
    "REDUCE_ANY": "reduce_max",
    "REDUCE_ALL": "reduce_min",
}


@handles(*_REDUCE)
def reduction(c: Call) -> Value:
    keep = c.options("ReducerOptions").keep_dims
    axes = c.cast(c.raw(1), "int64")
    if c.rank(axes) != 1:
        axes = c.reshape(axes, -1)
    exact = c.op_type in ("REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL")
    known = c.known(axes)
    if known is not None and known.size == 0:  # nothing to reduce: ours would reduce everything
        return c.op("identity", c.moved() if exact else c.x())
    if c.op_type == "REDUCE_PROD" and known is not None:
        y = product(c, [int(a) for a in known], keep)
        if y is not None:
            return y
    return c.op(_REDUCE[c.op_type], c.moved() if exact else c.x(), axes, keepdims=keep)


@handles("ARG_MAX", "ARG_MIN")
def arg_extreme(c: Call) -> Value:
    (axis,) = c.ints(1, "the axis")
    x = c.raw(0)  # equal scales: the integers have the order of the numbers
    if x.dtype is dtypes.bool_:
        x = c.cast(x, "uint8")
    return c.op(c.op_type.lower(), x, axis=c.axis(axis, c.rank(x)), keepdims=False)


@handles("CUMSUM")
def cumsum(c: Call) -> Value:
    o = c.options("CumsumOptions")
    return c.op("cumsum", c.x(0), c.i64_of(1), exclusive=o.exclusive, reverse=o.reverse)


# ---- selection
@handles("SELECT", "SELECT_V2")
def select(c: Call) -> Value:
    q = c.out_quant()
    alike = all(c.same(i, q) for i in (1, 2))
    cond, a, b = c.raw(0), *((c.raw(1), c.raw(2)) if alike else (c.x(1), c.x(2)))
    if c.op_type == "SELECT" and c.rank(cond) == 1 and c.rank(a) > 1:  # one choice per row
        cond = c.reshape(cond, -1, *[1] * (c.rank(a) - 1))
    return c.op("where", cond, a, b)


@handles("BUCKETIZE")
def bucketize(c: Call) -> Value:
    """The number of boundaries that are not above each element."""
    bounds = c.options("BucketizeOptions").boundaries
    x = c.cast(c.x(0), "float32")
    at = c.op("unsqueeze", x, c.i64(-1))
    hit = c.op("greater_equal", at, c.const(np.asarray([] if bounds is None else bounds, np.float32)))
    return c.op("reduce_sum", c.cast(hit, "int32"), c.i64(-1), keepdims=False)


# ---- 1:1
def _register_direct() -> None:
    """Ops whose operands and meaning are ours, taken from the passports; those with options have handlers above."""
    for p in list(REGISTRY.values()):
        name = p.names.get("tflite")
        if name and name not in HANDLERS and name not in _ELSEWHERE:
            handles(name)(_direct(p.name))


def _direct(op: str) -> Any:
    compare = op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")

    def run(c: Call) -> Value:
        if compare and c.same(0, c.quant(1)):  # the integers compare as the numbers do
            return c.op(op, c.raw(0), c.raw(1))
        return c.op(op, *(c.x(i) for i in range(c.n)))

    return run


_ELSEWHERE = {"TILE", "RANGE", "REVERSE_V2", "LEAKY_RELU", "SQRT", "SQUARED_DIFFERENCE"}
_register_direct()
