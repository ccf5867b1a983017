"""Elementwise ops, comparisons, reductions, products."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.tfjs.call import Call, handles
from deploykit.converters.ir.tensorflow import add_n
from deploykit.graph import Value

_UNARY = {
    "Abs": "abs", "Neg": "neg", "Sign": "sign", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sqrt": "sqrt",
    "Rsqrt": "rsqrt", "Reciprocal": "reciprocal", "Inv": "reciprocal", "Square": "square", "Exp": "exp",
    "Expm1": "expm1", "Log": "log", "Log1p": "log1p", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin",
    "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Tanh": "tanh", "Asinh": "asinh", "Acosh": "acosh",
    "Atanh": "atanh", "Erf": "erf", "IsNan": "is_nan", "IsInf": "is_inf", "LogicalNot": "logical_not",
    "Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "Sigmoid": "sigmoid", "Softplus": "softplus",
    "Softsign": "softsign", "Identity": "identity", "StopGradient": "identity", "Snapshot": "identity",
    "PreventGradient": "identity", "CheckNumerics": "identity",
}  # fmt: skip
_BINARY = {
    "Add": "add", "AddV2": "add", "BiasAdd": "add", "Sub": "sub", "Mul": "mul", "Maximum": "maximum",
    "Minimum": "minimum", "Pow": "pow", "FloorMod": "mod", "Mod": "mod", "Atan2": "atan2", "Equal": "equal",
    "NotEqual": "not_equal", "Less": "less", "LessEqual": "less_equal", "Greater": "greater",
    "GreaterEqual": "greater_equal", "LogicalAnd": "logical_and", "LogicalOr": "logical_or",
    "SquaredDifference": "squared_difference", "FloorDiv": "floor_div",
}  # fmt: skip
_REDUCE = {"Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "Prod": "prod", "All": "min", "Any": "max"}


@handles(*_UNARY)
def unary(c: Call) -> Value:
    op, x = _UNARY[c.op_type], c.x()
    if (
        op not in ("identity", "abs", "neg", "sign", "square", "logical_not", "relu")
        and x.dtype is not None
        and x.dtype.kind != "f"
    ):
        x = c.cast(x, "float32")
    return c.op(op, x)


@handles(*_BINARY)
def binary(c: Call) -> Value:
    return c.op(_BINARY[c.op_type], *c.same_type(c.x(0), c.x(1)))


@handles("RealDiv", "Div", "DivNoNan")
def divide(c: Call) -> Value:
    """Integers are divided as numbers and rounded down, as TensorFlow.js does; DivNoNan gives 0 for division by 0."""
    a, b = c.same_type(c.x(0), c.x(1))
    if a.dtype is dtypes.int32 and c.op_type != "DivNoNan":
        return c.op("floor_div", a, b)
    y = c.op("div", a, b)
    if c.op_type != "DivNoNan":
        return y
    return c.op("where", c.op("equal", b, c.scalar(0, b)), c.scalar(0, y), y)


@handles("IsFinite")
def is_finite(c: Call) -> Value:
    return c.op("logical_not", c.op("logical_or", c.op("is_nan", c.x()), c.op("is_inf", c.x())))


@handles("AddN")
def sum_of(c: Call) -> Value:
    return add_n(c, [c.x(i) for i in range(c.n)])


@handles("LeakyRelu")
def leaky_relu(c: Call) -> Value:
    return c.op("leaky_relu", c.x(), alpha=float(c.attr("alpha", 0.2)))


@handles("Prelu")
def prelu(c: Call) -> Value:
    return c.op("prelu", c.x(0), c.x(1))


@handles("ClipByValue")
def clip(c: Call) -> Value:
    return c.op("clip", c.x(0), c.x(1), c.x(2))


@handles("Cast")
def cast(c: Call) -> Value:
    """Numbers to int32 are cut towards 0."""
    return c.op("cast", c.x(), dtype=c.dtype_attr("DstT"))


@handles("Select", "SelectV2")
def select(c: Call) -> Value:
    cond, a, b = c.x(0), *c.same_type(c.x(1), c.x(2))
    if c.op_type == "Select" and c.rank(cond) == 1 and c.rank(a) > 1:  # one choice per row
        cond = c.reshape(cond, -1, *[1] * (c.rank(a) - 1))
    return c.op("where", cond, a, b)


# ---- reductions
@handles(*_REDUCE)
def reduction(c: Call) -> Value:
    x, axes = c.x(0), c.vector_of(1)
    known = c.known(axes)
    if known is not None and known.size == 0:  # nothing to reduce: ours would reduce everything
        return c.op("identity", x)
    if c.op_type == "Mean" and x.dtype is not None and x.dtype.kind != "f":
        x = c.cast(x, "float32")
    return c.op(f"reduce_{_REDUCE[c.op_type]}", x, axes, keepdims=bool(c.attr("keep_dims", False)))


@handles("ArgMax", "ArgMin")
def arg_extreme(c: Call) -> Value:
    axis = c.ints(1, "the axis")[0] if c.n > 1 else 0
    op = "arg_max" if c.op_type == "ArgMax" else "arg_min"
    return c.cast(c.op(op, c.x(), axis=c.axis(axis, c.rank(c.x())), keepdims=False), "int32")


@handles("Cumsum", "Cumprod")
def cumulative(c: Call) -> Value:
    axis = c.const(np.int64(c.ints(1, "the axis")[0]))
    flags: dict[str, Any] = {k: bool(c.attr(k, False)) for k in ("exclusive", "reverse")}
    return c.op("cumsum" if c.op_type == "Cumsum" else "cumprod", c.x(0), axis, **flags)


# ---- products
@handles("BatchMatMul", "BatchMatMulV2")
def batch_matmul(c: Call) -> Value:
    return c.op(
        "matmul", c.x(0), c.x(1), transpose_a=bool(c.attr("adj_x", False)), transpose_b=bool(c.attr("adj_y", False))
    )


@handles("Einsum")
def einsum(c: Call) -> Value:
    return c.op("einsum", *c.items, equation=c.attr("equation"))
