"""Elementwise math on one input, dtype kept (except is_nan and is_inf)."""

from __future__ import annotations

import math

import numpy as np

from deploykit import dtypes
from deploykit.ops.core import F, Spec, op
from deploykit.ops.numerics import compute, exactly, widely
from deploykit.ops.rules import require_kind, same_as
from deploykit.ops.samples import Sample, unary


def _rsqrt(x: np.ndarray) -> np.ndarray:
    return 1.0 / np.sqrt(x)


def _reciprocal(x: np.ndarray) -> np.ndarray:
    return x.dtype.type(1) / x


def erf_of(x: np.ndarray) -> np.ndarray:
    """Gauss error function of an array (NumPy has none), in float64."""
    return np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64))


@op(30, "x -> y", onnx="Abs", tflite="ABS", flags="inplace", tolerance="exact")
class abs_:
    "|x|."

    infer = same_as("fiu")
    reference = exactly(np.abs)
    samples = unary(kinds="fiu")

    def vjp(g, y, x):
        return (F.mul(g, F.sign(x)),)


@op(31, "x -> y", onnx="Neg", tflite="NEG", flags="inplace", tolerance="exact")
class neg:
    "-x; integers wrap."

    infer = same_as("fiu")
    reference = exactly(np.negative)
    samples = unary(kinds="fiu")

    def vjp(g, y, x):
        return (F.neg(g),)


@op(32, "x -> y", onnx="Sign", tflite="SIGN", flags="inplace", tolerance="exact")
class sign:
    "-1, 0 or 1; NaN stays NaN."

    infer = same_as("fiu")
    reference = exactly(np.sign)
    samples = unary(kinds="fiu")

    def vjp(g, y, x):
        return (None,)


@op(33, "x -> y", onnx="Floor", tflite="FLOOR", flags="inplace", tolerance="exact")
class floor:
    "Largest integer not above x."

    infer = same_as("f")
    reference = exactly(np.floor)
    samples = unary(-3.0, 3.0)

    def vjp(g, y, x):
        return (None,)


@op(34, "x -> y", onnx="Ceil", tflite="CEIL", flags="inplace", tolerance="exact")
class ceil:
    "Smallest integer not below x."

    infer = same_as("f")
    reference = exactly(np.ceil)
    samples = unary(-3.0, 3.0)

    def vjp(g, y, x):
        return (None,)


@op(35, "x -> y", onnx="Round", tflite="ROUND", flags="inplace", tolerance="exact")
class round_:
    "Nearest integer, halves to even."

    infer = same_as("f")
    reference = exactly(np.rint)

    def samples():
        halves = np.arange(-9, 10, dtype=np.float32) / 2
        return [*unary(-3.0, 3.0)(), Sample([halves], differentiable=False)]

    def vjp(g, y, x):
        return (None,)


@op(36, "x -> y", flags="inplace", tolerance="exact")
class trunc:
    "Nearest integer toward zero."

    infer = same_as("f")
    reference = exactly(np.trunc)
    samples = unary(-3.0, 3.0)

    def vjp(g, y, x):
        return (None,)


@op(37, "x -> y", onnx="Sqrt", tflite="SQRT", flags="inplace")
class sqrt:
    "Square root; NaN below 0."

    infer = same_as("f")
    reference = exactly(np.sqrt)
    samples = unary(0.3, 3.0)

    def vjp(g, y, x):
        return (F.div(F.mul(g, 0.5), y),)


@op(38, "x -> y", tflite="RSQRT", flags="inplace")
class rsqrt:
    "1 / sqrt(x)."

    infer = same_as("f")
    reference = widely(_rsqrt)
    samples = unary(0.3, 3.0)

    def vjp(g, y, x):
        return (F.mul(F.mul(g, -0.5), F.mul(y, F.mul(y, y))),)


@op(39, "x -> y", onnx="Reciprocal", flags="inplace")
class reciprocal:
    "1 / x."

    infer = same_as("f")
    reference = exactly(_reciprocal)
    samples = unary(0.3, 3.0)

    def vjp(g, y, x):
        return (F.neg(F.mul(g, F.mul(y, y))),)


@op(40, "x -> y", tflite="SQUARE", flags="inplace")
class square:
    "x * x."

    infer = same_as("fiu")
    reference = exactly(np.square)
    samples = unary(kinds="fiu")

    def vjp(g, y, x):
        return (F.mul(g, F.mul(x, 2.0)),)


@op(41, "x -> y", onnx="Exp", tflite="EXP", flags="inplace")
class exp:
    "e ** x."

    infer = same_as("f")
    reference = widely(np.exp)
    samples = unary()

    def vjp(g, y, x):
        return (F.mul(g, y),)


@op(42, "x -> y", flags="inplace")
class expm1:
    "exp(x) - 1, accurate near 0."

    infer = same_as("f")
    reference = widely(np.expm1)
    samples = unary()

    def vjp(g, y, x):
        return (F.add(F.mul(g, y), g),)


@op(43, "x -> y", onnx="Log", tflite="LOG", flags="inplace")
class log:
    "Natural logarithm; -inf at 0, NaN below."

    infer = same_as("f")
    reference = widely(np.log)
    samples = unary(0.3, 3.0)

    def vjp(g, y, x):
        return (F.div(g, x),)


@op(44, "x -> y", flags="inplace")
class log1p:
    "log(1 + x), accurate near 0."

    infer = same_as("f")
    reference = widely(np.log1p)
    samples = unary(-0.6, 3.0)

    def vjp(g, y, x):
        return (F.div(g, F.add(x, 1.0)),)


@op(45, "x -> y", onnx="Sin", tflite="SIN", flags="inplace")
class sin:
    "Sine of radians."

    infer = same_as("f")
    reference = widely(np.sin)
    samples = unary(-7.0, 7.0)

    def vjp(g, y, x):
        return (F.mul(g, F.cos(x)),)


@op(46, "x -> y", onnx="Cos", tflite="COS", flags="inplace")
class cos:
    "Cosine of radians."

    infer = same_as("f")
    reference = widely(np.cos)
    samples = unary(-7.0, 7.0)

    def vjp(g, y, x):
        return (F.neg(F.mul(g, F.sin(x))),)


@op(47, "x -> y", onnx="Tan", flags="inplace")
class tan:
    "Tangent of radians."

    infer = same_as("f")
    reference = widely(np.tan)
    samples = unary(-1.2, 1.2)

    def vjp(g, y, x):
        return (F.mul(g, F.add(F.mul(y, y), 1.0)),)


@op(48, "x -> y", onnx="Asin", flags="inplace")
class asin:
    "Inverse sine."

    infer = same_as("f")
    reference = widely(np.arcsin)
    samples = unary(-0.8, 0.8)

    def vjp(g, y, x):
        return (F.mul(g, F.rsqrt(F.sub(1.0, F.mul(x, x)))),)


@op(49, "x -> y", onnx="Acos", flags="inplace")
class acos:
    "Inverse cosine."

    infer = same_as("f")
    reference = widely(np.arccos)
    samples = unary(-0.8, 0.8)

    def vjp(g, y, x):
        return (F.neg(F.mul(g, F.rsqrt(F.sub(1.0, F.mul(x, x))))),)


@op(50, "x -> y", onnx="Atan", flags="inplace")
class atan:
    "Inverse tangent."

    infer = same_as("f")
    reference = widely(np.arctan)
    samples = unary()

    def vjp(g, y, x):
        return (F.div(g, F.add(F.mul(x, x), 1.0)),)


@op(51, "x -> y", onnx="Sinh", flags="inplace")
class sinh:
    "Hyperbolic sine."

    infer = same_as("f")
    reference = widely(np.sinh)
    samples = unary()

    def vjp(g, y, x):
        return (F.mul(g, F.cosh(x)),)


@op(52, "x -> y", onnx="Cosh", flags="inplace")
class cosh:
    "Hyperbolic cosine."

    infer = same_as("f")
    reference = widely(np.cosh)
    samples = unary()

    def vjp(g, y, x):
        return (F.mul(g, F.sinh(x)),)


@op(53, "x -> y", onnx="Tanh", tflite="TANH", flags="inplace")
class tanh:
    "Hyperbolic tangent."

    infer = same_as("f")
    reference = widely(np.tanh)
    samples = unary(-4.0, 4.0)

    def vjp(g, y, x):
        return (F.mul(g, F.sub(1.0, F.mul(y, y))),)


@op(54, "x -> y", onnx="Asinh", flags="inplace")
class asinh:
    "Inverse hyperbolic sine."

    infer = same_as("f")
    reference = widely(np.arcsinh)
    samples = unary()

    def vjp(g, y, x):
        return (F.mul(g, F.rsqrt(F.add(F.mul(x, x), 1.0))),)


@op(55, "x -> y", onnx="Acosh", flags="inplace")
class acosh:
    "Inverse hyperbolic cosine."

    infer = same_as("f")
    reference = widely(np.arccosh)
    samples = unary(1.3, 4.0)

    def vjp(g, y, x):
        return (F.mul(g, F.rsqrt(F.sub(F.mul(x, x), 1.0))),)


@op(56, "x -> y", onnx="Atanh", flags="inplace")
class atanh:
    "Inverse hyperbolic tangent."

    infer = same_as("f")
    reference = widely(np.arctanh)
    samples = unary(-0.8, 0.8)

    def vjp(g, y, x):
        return (F.div(g, F.sub(1.0, F.mul(x, x))),)


@op(57, "x -> y", onnx="Erf", flags="inplace")
class erf:
    "Gauss error function."

    infer = same_as("f")
    reference = widely(erf_of)
    samples = unary(-3.0, 3.0)

    def vjp(g, y, x):
        return (F.mul(g, F.mul(F.exp(F.neg(F.mul(x, x))), 2.0 / math.sqrt(math.pi))),)


@op(58, "x -> y", onnx="IsNaN", tolerance="exact", not_differentiable="bool result")
class is_nan:
    "True where x is NaN."

    samples = unary()

    def infer(x):
        require_kind(x, "f")
        return Spec(dtypes.bool_, x.shape)

    def reference(x):
        return np.isnan(compute(x))


@op(
    59,
    "x -> y",
    attrs=dict(detect_negative=True, detect_positive=True),
    onnx="IsInf",
    tolerance="exact",
    not_differentiable="bool result",
)
class is_inf:
    "True where x is -inf (when detect_negative) or +inf (when detect_positive)."

    samples = unary(attrs=({}, {"detect_negative": False}, {"detect_positive": False}))

    def infer(x, detect_negative, detect_positive):
        require_kind(x, "f")
        return Spec(dtypes.bool_, x.shape)

    def reference(x, detect_negative, detect_positive):
        x = compute(x)
        return (detect_negative & (x == -np.inf)) | (detect_positive & (x == np.inf))
