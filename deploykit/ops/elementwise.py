"""Elementwise ops: arithmetic, comparison, logic, bits, unary math, cast.  Binary ops broadcast as NumPy does."""

from __future__ import annotations

from deploykit import dtypes
from deploykit.ops.core import Required, op


# ---- binary, same dtype in and out
@op(1, "x, y -> z", onnx="Add", tflite="ADD", flags="inplace")
class add:
    "x + y; integers wrap."


@op(2, "x, y -> z", onnx="Sub", tflite="SUB", flags="inplace")
class sub:
    "x - y; integers wrap."


@op(3, "x, y -> z", onnx="Mul", tflite="MUL", flags="inplace")
class mul:
    "x * y; integers wrap."


@op(4, "x, y -> z", onnx="Div", tflite="DIV", flags="inplace")
class div:
    "x / y; integers truncate toward zero, and x / 0 is 0 for integers."


@op(5, "x, y -> z", onnx="Pow", tflite="POW")
class pow_:
    "x ** y; y may have another numeric dtype, the result has x's."


@op(6, "x, y -> z", attrs=dict(fmod=False))
class mod:
    "Remainder with the sign of y (Python %), or of x when fmod (C fmod); integer x % 0 is 0."


@op(7, "x, y -> z", flags="inplace", tolerance="exact", tflite="MINIMUM")
class minimum:
    "The smaller; NaN if either is NaN."


@op(8, "x, y -> z", flags="inplace", tolerance="exact", tflite="MAXIMUM")
class maximum:
    "The larger; NaN if either is NaN."


@op(9, "x, y -> z", tflite="ATAN2")
class atan2:
    "Angle of the point (y, x) with the first operand as the ordinate."


@op(10, "x, y -> z", tflite="FLOOR_DIV")
class floor_div:
    "floor(x / y); integer x / 0 is 0."


@op(11, "x, y -> z", tflite="SQUARED_DIFFERENCE", flags="inplace")
class squared_difference:
    "(x - y) ** 2."


# ---- comparison: bool out
@op(12, "x, y -> z", onnx="Equal", tflite="EQUAL", tolerance="exact", not_differentiable="bool result")
class equal:
    "x == y."


@op(13, "x, y -> z", tflite="NOT_EQUAL", tolerance="exact", not_differentiable="bool result")
class not_equal:
    "x != y."


@op(14, "x, y -> z", onnx="Less", tflite="LESS", tolerance="exact", not_differentiable="bool result")
class less:
    "x < y."


@op(15, "x, y -> z", onnx="LessOrEqual", tflite="LESS_EQUAL", tolerance="exact", not_differentiable="bool result")
class less_equal:
    "x <= y."


@op(16, "x, y -> z", onnx="Greater", tflite="GREATER", tolerance="exact", not_differentiable="bool result")
class greater:
    "x > y."


@op(17, "x, y -> z", onnx="GreaterOrEqual", tflite="GREATER_EQUAL", tolerance="exact", not_differentiable="bool result")
class greater_equal:
    "x >= y."


# ---- logic (bool) and bits (integers)
@op(18, "x, y -> z", onnx="And", tflite="LOGICAL_AND", tolerance="exact", not_differentiable="bool result")
class logical_and:
    "x and y, both bool."


@op(19, "x, y -> z", onnx="Or", tflite="LOGICAL_OR", tolerance="exact", not_differentiable="bool result")
class logical_or:
    "x or y, both bool."


@op(20, "x, y -> z", onnx="Xor", tolerance="exact", not_differentiable="bool result")
class logical_xor:
    "x xor y, both bool."


@op(21, "x -> y", onnx="Not", tflite="LOGICAL_NOT", tolerance="exact", not_differentiable="bool result")
class logical_not:
    "not x, bool."


@op(22, "x, y -> z", onnx="BitwiseAnd", tolerance="exact", not_differentiable="integer op")
class bitwise_and:
    "x & y."


@op(23, "x, y -> z", onnx="BitwiseOr", tolerance="exact", not_differentiable="integer op")
class bitwise_or:
    "x | y."


@op(24, "x, y -> z", onnx="BitwiseXor", tflite="BITWISE_XOR", tolerance="exact", not_differentiable="integer op")
class bitwise_xor:
    "x ^ y."


@op(25, "x -> y", onnx="BitwiseNot", tolerance="exact", not_differentiable="integer op")
class bitwise_not:
    "~x."


@op(26, "x, y -> z", tolerance="exact", not_differentiable="integer op")
class shift_left:
    "x << y; 0 when y is at least the width of x."


@op(27, "x, y -> z", tflite="RIGHT_SHIFT", tolerance="exact", not_differentiable="integer op")
class shift_right:
    "x >> y (arithmetic for signed x); the sign (0 or -1) when y is at least the width of x."


# ---- unary, same dtype
@op(30, "x -> y", onnx="Abs", tflite="ABS", flags="inplace", tolerance="exact")
class abs_:
    "|x|."


@op(31, "x -> y", onnx="Neg", tflite="NEG", flags="inplace", tolerance="exact")
class neg:
    "-x; integers wrap."


@op(32, "x -> y", onnx="Sign", tflite="SIGN", flags="inplace", tolerance="exact")
class sign:
    "-1, 0 or 1; NaN stays NaN."


@op(33, "x -> y", onnx="Floor", tflite="FLOOR", flags="inplace", tolerance="exact")
class floor:
    "Largest integer not above x."


@op(34, "x -> y", onnx="Ceil", tflite="CEIL", flags="inplace", tolerance="exact")
class ceil:
    "Smallest integer not below x."


@op(35, "x -> y", onnx="Round", tflite="ROUND", flags="inplace", tolerance="exact")
class round_:
    "Nearest integer, halves to even."


@op(36, "x -> y", flags="inplace", tolerance="exact")
class trunc:
    "Nearest integer toward zero."


@op(37, "x -> y", onnx="Sqrt", tflite="SQRT", flags="inplace")
class sqrt:
    "Square root; NaN below 0."


@op(38, "x -> y", tflite="RSQRT", flags="inplace")
class rsqrt:
    "1 / sqrt(x)."


@op(39, "x -> y", onnx="Reciprocal", flags="inplace")
class reciprocal:
    "1 / x."


@op(40, "x -> y", tflite="SQUARE", flags="inplace")
class square:
    "x * x."


@op(41, "x -> y", onnx="Exp", tflite="EXP", flags="inplace")
class exp:
    "e ** x."


@op(42, "x -> y", flags="inplace")
class expm1:
    "exp(x) - 1, accurate near 0."


@op(43, "x -> y", onnx="Log", tflite="LOG", flags="inplace")
class log:
    "Natural logarithm; -inf at 0, NaN below."


@op(44, "x -> y", flags="inplace")
class log1p:
    "log(1 + x), accurate near 0."


@op(45, "x -> y", onnx="Sin", tflite="SIN", flags="inplace")
class sin:
    "Sine of radians."


@op(46, "x -> y", onnx="Cos", tflite="COS", flags="inplace")
class cos:
    "Cosine of radians."


@op(47, "x -> y", onnx="Tan", flags="inplace")
class tan:
    "Tangent of radians."


@op(48, "x -> y", onnx="Asin", flags="inplace")
class asin:
    "Inverse sine."


@op(49, "x -> y", onnx="Acos", flags="inplace")
class acos:
    "Inverse cosine."


@op(50, "x -> y", onnx="Atan", flags="inplace")
class atan:
    "Inverse tangent."


@op(51, "x -> y", onnx="Sinh", flags="inplace")
class sinh:
    "Hyperbolic sine."


@op(52, "x -> y", onnx="Cosh", flags="inplace")
class cosh:
    "Hyperbolic cosine."


@op(53, "x -> y", onnx="Tanh", tflite="TANH", flags="inplace")
class tanh:
    "Hyperbolic tangent."


@op(54, "x -> y", onnx="Asinh", flags="inplace")
class asinh:
    "Inverse hyperbolic sine."


@op(55, "x -> y", onnx="Acosh", flags="inplace")
class acosh:
    "Inverse hyperbolic cosine."


@op(56, "x -> y", onnx="Atanh", flags="inplace")
class atanh:
    "Inverse hyperbolic tangent."


@op(57, "x -> y", onnx="Erf", flags="inplace")
class erf:
    "Gauss error function."


@op(58, "x -> y", onnx="IsNaN", tolerance="exact", not_differentiable="bool result")
class is_nan:
    "True where x is NaN."


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


@op(60, "x -> y", onnx="Identity", flags="view", tolerance="exact")
class identity:
    "x."


# ---- selection and conversion
@op(61, "condition, x, y -> z", onnx="Where", tolerance="exact")
class where:
    "x where condition (bool), else y; all three broadcast."


@op(62, "x, low?, high? -> y", flags="inplace", tolerance="exact", onnx="Clip")
class clip:
    "min(max(x, low), high); low and high are scalars; high wins when they cross; NaN stays."


@op(63, "x -> y", attrs=dict(dtype=Required("dtype"), saturate=True), tolerance="exact")
class cast:
    """Convert to ``dtype``: float to int truncates toward zero, to bool tests != 0; floats round to nearest even.

    ``saturate`` (float8 targets only): out-of-range goes to the largest finite value rather than NaN or inf.  int to
    a narrower int keeps the low bits.  Float to integer out of range is clamped on every ISA (NaN gives 0).
    """


@op(64, "x -> y", attrs=dict(dtype=Required("dtype")), tolerance="exact", not_differentiable="reads bits")
class bitcast:
    "Same bytes read as another dtype of the same width."


_ = dtypes
