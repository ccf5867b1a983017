"""Arithmetic, reductions, softmaxes, constants, casts: ops whose form changed over the opsets or has no twin here."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.converters.importers.onnx.reader import dtype_of
from deploykit.dtypes import bool_, float32, uint8
from deploykit.errors import FormatError
from deploykit.graph import Value


# ---- constants and copies
@handles("Constant")
def constant(c: Call) -> Any:
    if c.has("value"):
        return c.importer.baked(c.body, c.importer.weights.array(c.attr("value")), c.name)
    if c.has("sparse_value"):
        return c.body.constant(c.importer.dense(c.attr_protos()["sparse_value"].sparse_tensor), c.name)
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        if c.has(name):
            return c.body.constant(np.array(c.attr(name), dtype), c.name)
        if c.has(name + "s"):
            return c.body.constant(np.array(c.attr(name + "s"), dtype), c.name)
    return c.importer.baked(c.body, np.array(c.attr("value_string", c.attr("value_strings", ())), object), c.name)


@handles("ConstantOfShape")
def constant_of_shape(c: Call) -> Value:
    value = np.zeros(1, np.float32) if not c.has("value") else c.importer.weights.array(c.attr("value"))
    return c.op("fill", c.x(), c.const(value.reshape(())))


@handles("Identity")
def identity(c: Call) -> Any:
    return c.item(0)


@handles("Dropout", since=7, until=11)
def dropout_7(c: Call) -> list[Value]:
    return [c.x(), _all_true(c)] if c.wants(1) else [c.x()]


@handles("Dropout", since=12)
def dropout_12(c: Call) -> list[Value]:
    x, ratio, training = c.x(), c.opt(1), c.opt(2)
    on = None if training is None else c.known(training)
    if training is None or (on is not None and not on.any()):
        return [x, _all_true(c)] if c.wants(1) else [x]
    ratio = c.const(np.float32(0.5)) if ratio is None else c.cast(ratio, float32)
    draw = c.op("random_uniform", c.dims(x), seed=_seed(c), dtype="float32")
    keep = c.op("greater_equal", draw, ratio)
    if on is None:
        keep = c.op("logical_or", keep, c.op("logical_not", training))
        ratio = c.op("where", training, ratio, c.const(np.float32(0)))
    scale = c.op("reciprocal", c.op("sub", c.const(np.float32(1)), ratio))
    y = c.op("where", keep, c.op("mul", x, c.cast(scale, x.dtype)), c.scalar(0, x))
    return [y, keep]


def _all_true(c: Call) -> Value:
    return c.op("fill", c.dims(c.x()), c.const(np.array(True)))


def _seed(c: Call) -> int:
    """Our integer seed for ONNX's float one; 0 (fresh numbers) when not given."""
    value = c.attr("seed")
    return 0 if value is None else int(np.float32(value).view(np.uint32)) or 1


# ---- arithmetic
@handles("Mod")
def mod(c: Call) -> Value:
    return c.op("mod", c.x(0), c.x(1), fmod=bool(c.attr("fmod", 0)))


@handles("BitShift")
def bit_shift(c: Call) -> Value:
    return c.op("shift_left" if c.attr("direction") == "LEFT" else "shift_right", c.x(0), c.x(1))


def _chain(c: Call, op: str) -> Value:
    xs = c.xs()
    y = xs[0]
    for x in xs[1:]:
        y = c.op(op, y, x)
    return y


@handles("Sum")
def sum_(c: Call) -> Value:
    return _chain(c, "add")


@handles("Max")
def max_(c: Call) -> Value:
    return _chain(c, "maximum")


@handles("Min")
def min_(c: Call) -> Value:
    return _chain(c, "minimum")


@handles("Mean")
def mean(c: Call) -> Value:
    y = _chain(c, "add")
    return y if c.n == 1 else c.op("div", y, c.scalar(c.n, y))


@handles("Clip", until=10)
def clip_6(c: Call) -> Value:
    low, high = (c.scalar(c.attr(k), c.x()) if c.has(k) else None for k in ("min", "max"))
    return c.op("clip", c.x(), low, high)


@handles("Gemm", since=7)
def gemm(c: Call) -> Value:
    bias, beta = c.opt(2), c.attr("beta", 1.0)
    if bias is not None and beta != 1.0:
        bias = None if beta == 0.0 else c.op("mul", bias, c.scalar(beta, bias))
    return c.op(
        "matmul", c.x(0), c.x(1), bias,
        transpose_a=bool(c.attr("transA", 0)), transpose_b=bool(c.attr("transB", 0)), alpha=c.attr("alpha", 1.0),
    )  # fmt: skip


@handles("MatMul")
def matmul(c: Call) -> Value:
    return c.op("matmul", c.x(0), c.x(1))


# ---- conversion
def converted(c: Call, x: Value, data_type: int, saturate: bool) -> Value:
    """x as a TensorProto.DataType."""
    dtype = dtype_of(data_type, "the target")
    if x.dtype is dtype:
        return x
    if dtype.name == "float8_e8m0fnu":
        return _power_of_two(c, x, c.attr("round_mode", "up"), saturate)
    return c.op("cast", x, dtype=dtype.name, saturate=saturate)


def _power_of_two(c: Call, x: Value, mode: str, saturate: bool) -> Value:
    """x as float8_e8m0fnu, which is the exponent of a float32: code = exponent bits, 255 is NaN; signs are lost."""
    if mode not in ("up", "down", "nearest"):
        raise FormatError(f"round_mode '{mode}'; expected up, down or nearest")
    bits = c.op("bitcast", c.op("abs", c.cast(x, float32)), dtype="uint32")
    half = {"up": (1 << 23) - 1, "down": 0, "nearest": 1 << 22}[mode]
    code = c.op("shift_right", c.op("add", bits, c.const(np.uint32(half))), c.const(np.uint32(23)))
    if saturate:  # infinity and what rounds up to it
        finite = c.op("minimum", code, c.const(np.uint32(254)))
        code = c.op("where", c.op("is_nan", x), c.const(np.uint32(255)), finite)
    else:
        code = c.op("minimum", code, c.const(np.uint32(255)))
    return c.op("bitcast", c.cast(code, uint8), dtype="float8_e8m0fnu")


@handles("Cast", since=6)
def cast(c: Call) -> Value:
    return converted(c, c.x(), c.attr("to"), bool(c.attr("saturate", 1)))


@handles("CastLike")
def cast_like(c: Call) -> Value:
    from deploykit.converters.importers.onnx.reader import enum_of

    like = c.x(1).dtype
    assert like is not None
    return converted(c, c.x(), enum_of(like), bool(c.attr("saturate", 1)))


@handles("BitCast")
def bit_cast(c: Call) -> Value:
    x, dtype = c.x(), dtype_of(c.attr("to"), "the target")
    if dtype is bool_:
        return c.cast(c.op("bitcast", x, dtype="uint8") if x.dtype is not uint8 else x, bool_)
    x = c.cast(x, uint8) if x.dtype is bool_ else x  # bools are bytes of 0 and 1
    return x if x.dtype is dtype else c.op("bitcast", x, dtype=dtype.name)


# ---- reductions
_REDUCE = {
    "ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max", "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod", "ReduceL1": "reduce_l1", "ReduceL2": "reduce_l2", "ReduceLogSum": "reduce_log_sum",
    "ReduceLogSumExp": "reduce_log_sum_exp", "ReduceSumSquare": "reduce_sum_square",
}  # fmt: skip


@handles(*_REDUCE)
def reduce(c: Call) -> Value:
    axes: Any = None
    if c.since >= (13 if c.op_type == "ReduceSum" else 18):
        axes = c.opt(1)
    elif c.has("axes"):
        axes = c.i64(*c.attr("axes"))
    if axes is not None and axes.shape == (0,) and not c.attr("noop_with_empty_axes", 0):
        axes = None
    return c.op(
        _REDUCE[c.op_type], c.x(), axes,
        keepdims=bool(c.attr("keepdims", 1)), noop_if_empty=bool(c.attr("noop_with_empty_axes", 0)),
    )  # fmt: skip


# ---- softmax and its kin
def _softmax(c: Call, axis: int, op: Any) -> Value:
    """Before opset 13 these work on x seen as a matrix, cut at ``axis``."""
    x = c.x()
    rank = c.rank(x)
    if c.since >= 13 or axis in (-1, rank - 1):
        return op(x, axis)
    flat = op(c.op("flatten", x, axis=axis), -1)
    return c.op("reshape", flat, c.dims(x), allow_zero=True)


@handles("Softmax", "LogSoftmax")
def softmax(c: Call) -> Value:
    name = "softmax" if c.op_type == "Softmax" else "log_softmax"
    axis = c.attr("axis", -1 if c.since >= 13 else 1)
    return _softmax(c, axis, lambda x, a: c.op(name, x, axis=a))


@handles("Hardmax")
def hardmax(c: Call) -> Value:
    def one(x: Value, axis: int) -> Value:
        axis = c.axis(axis, c.rank(x))
        winner = c.op("arg_max", x, axis=axis, keepdims=False)
        depth = c.dims(x, axis, axis + 1)
        return c.op("one_hot", winner, depth, c.const(np.array([0, 1]), x.dtype), axis=axis)

    return _softmax(c, c.attr("axis", -1 if c.since >= 13 else 1), one)


@handles("LpNormalization")
def lp_normalization(c: Call) -> Value:
    x, p, axis = c.x(), c.attr("p", 2), c.attr("axis", -1)
    if p not in (1, 2):
        raise c.unsupported(f"p = {p}; expected 1 or 2")
    norm = c.op("reduce_l1" if p == 1 else "reduce_l2", x, c.i64(axis))
    y = c.op("div", x, norm)
    return c.op("where", c.op("equal", norm, c.scalar(0, x)), c.scalar(0, x), y)


# ---- activations that need attention
@handles("Gelu", since=20)
def gelu(c: Call) -> Value:
    return c.op("gelu", c.x(), approximate=c.attr("approximate", "none") == "tanh")


@handles("Swish", since=24)
def swish(c: Call) -> Value:
    return c.op("silu", c.x(), alpha=c.attr("alpha", 1.0))


@handles("HardSwish")
def hard_swish(c: Call) -> Value:
    return c.op("hard_swish", c.x())


@handles("PRelu", since=7)
def prelu(c: Call) -> Value:
    return c.op("prelu", c.x(0), c.x(1))


# ---- random
@handles("RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike")
def random_(c: Call) -> Value:
    like = c.op_type.endswith("Like")
    if c.has("dtype"):
        dtype = dtype_of(c.attr("dtype"), "the result")
    else:
        dtype = (c.x().dtype or float32) if like else float32
    shape = c.dims(c.x()) if like else c.i64(*c.attr("shape"))
    if "Uniform" in c.op_type:
        low, high = c.attr("low", 0.0), c.attr("high", 1.0)
        return c.op("random_uniform", shape, low=low, high=high, seed=_seed(c), dtype=dtype.name)
    mean, scale = c.attr("mean", 0.0), c.attr("scale", 1.0)
    return c.op("random_normal", shape, mean=mean, scale=scale, seed=_seed(c), dtype=dtype.name)


@handles("Bernoulli")
def bernoulli(c: Call) -> Value:
    dtype = dtype_of(c.attr("dtype"), "the result").name if c.has("dtype") else ""
    return c.op("bernoulli", c.x(), seed=_seed(c), dtype=dtype)


@handles("Multinomial")
def multinomial(c: Call) -> Value:
    dtype = dtype_of(c.attr("dtype", 6), "the result").name
    return c.op("multinomial", c.x(), samples=c.attr("sample_size", 1), seed=_seed(c), dtype=dtype)
