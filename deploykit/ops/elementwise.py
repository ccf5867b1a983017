"""Elementwise ops: arithmetic, comparison, logic, bits.  Binary ops broadcast as NumPy does; operands share a dtype."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploykit import dtypes
from deploykit.ops.core import F, Spec, op
from deploykit.ops.grads import np_dtype, scalar, sum_to
from deploykit.ops.numerics import back, compute, exactly, float64, float_to_int, is_float, wide, widely
from deploykit.ops.rules import (
    broadcast,
    broadcast_shapes,
    require_kind,
    same_as,
)
from deploykit.ops.samples import INTS, Draw, Sample, binary, unary


# ---- what several references share
def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return x / y
    down = x // y  # 0 where y is 0
    return np.where((down < 0) & (down * y != x), down + 1, down).astype(x.dtype)


def _power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if is_float(x):
        return back(np.power(wide(x), float64(y) if x.dtype.itemsize >= 4 else compute(y)), x.dtype)
    if is_float(y):
        return float_to_int(np.power(float64(x), float64(y)), x.dtype)
    base, exponent = np.broadcast_arrays(compute(x), compute(y))
    result = np.ones_like(base)
    left, square = np.maximum(exponent, 0).astype(np.uint64), base
    while np.any(left):  # by squaring, every product wraps
        result = np.where(left & np.uint64(1), result * square, result)
        square, left = square * square, left >> np.uint64(1)
    ones = np.where(base == 1, 1, np.where((base != 0) & (base + 1 == 0), 1 - 2 * (exponent & 1).astype(base.dtype), 0))
    return back(np.where(exponent < 0, ones, result), x.dtype)


def _compare(f: Callable) -> Callable:
    return lambda x, y: f(compute(x), compute(y))


def _comparisons(kinds: str) -> Callable:
    def make() -> list[Sample]:
        r = Draw("compare")
        out = binary(kinds=kinds, differentiable=False)()
        out.append(Sample([r((5, 9), "int32", -1, 1), r((9,), "int32", -1, 1)], differentiable=False))  # many equals
        return out

    return make


def _shift(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = compute(y)
    inside = (y >= 0) & (y < dtypes.dtype(x.dtype).bits)
    return inside, np.where(inside, y, 0).astype(y.dtype)


def _shifts() -> list[Sample]:
    r = Draw("shift")
    out = [Sample([r((3, 5), d), r((5,), d, 0, 9)]) for d in INTS]
    out += [Sample([r((4,), d), np.array([0, 7, 8, 100], d)]) for d in INTS]
    out += [Sample([r((), "uint32"), r((2, 0), "uint32", 0, 9)])]
    out += [Sample([np.array([-5, 5, -(2**31)], np.int32), np.array([-1, 31, 32], np.int32)])]
    return out


# ---- binary, same dtype in and out
@op(1, "x, y -> z", onnx="Add", tflite="ADD", flags="inplace")
class add:
    "x + y; integers wrap."

    infer = broadcast("fiu")
    reference = exactly(np.add)
    samples = binary()

    def vjp(g, z, x, y):
        return sum_to(g, x), sum_to(g, y)


@op(2, "x, y -> z", onnx="Sub", tflite="SUB", flags="inplace")
class sub:
    "x - y; integers wrap."

    infer = broadcast("fiu")
    reference = exactly(np.subtract)
    samples = binary()

    def vjp(g, z, x, y):
        return sum_to(g, x), sum_to(F.neg(g), y)


@op(3, "x, y -> z", onnx="Mul", tflite="MUL", flags="inplace")
class mul:
    "x * y; integers wrap."

    infer = broadcast("fiu")
    reference = exactly(np.multiply)
    samples = binary()

    def vjp(g, z, x, y):
        return sum_to(F.mul(g, y), x), sum_to(F.mul(g, x), y)


@op(4, "x, y -> z", onnx="Div", tflite="DIV", flags="inplace")
class div:
    "x / y; integers truncate toward zero, and x / 0 is 0 for integers."

    infer = broadcast("fiu")
    reference = exactly(_divide)
    samples = binary(low2=0.5)

    def vjp(g, z, x, y):
        gx = F.div(g, y)
        return sum_to(gx, x), sum_to(F.neg(F.mul(gx, z)), y)


@op(5, "x, y -> z", onnx="Pow", tflite="POW")
class pow_:
    """x ** y; y may have another numeric dtype, the result has x's.

    Integer x and y: wraps; with negative y truncated as 1 / x ** -y would be (1, -1 or 0; 0 for x = 0).
    Integer x, float y: computed in float64, then truncated and clamped as in cast.
    """

    reference = _power

    def infer(x, y):
        require_kind(x, "fiu")
        require_kind(y, "fiu", "y")
        return Spec(x.dtype, broadcast_shapes(x.shape, y.shape))

    def samples():
        r = Draw("pow")
        out = binary(low=0.2, high=3.0, low2=-2.0, kinds="f")()
        small = np.array([-3, -1, 0, 1, 2, 5], np.int32)
        out.append(Sample([small[:, None], small[None, :]], differentiable=False))
        out.append(Sample([small.astype(np.int64), np.array(2, np.int64)], differentiable=False))
        out.append(Sample([r((3, 4), "uint8"), np.array(3, np.uint8)], differentiable=False))
        out.append(Sample([r((2, 3), "float32"), np.array([2, 3, -1], np.int64)], differentiable=False))
        out.append(Sample([r((2, 3), "float32"), np.array(2, np.int32)], differentiable=False))
        out.append(Sample([small, np.array(0.5, np.float32)], differentiable=False))
        out.append(Sample([r((5,), "float16", 0.1), np.array(0.5, np.float32)], differentiable=False))
        return out

    def vjp(g, z, x, y):
        exponent = F.cast(y, dtype=np_dtype(x))
        # 0 * x ** -1 would be 0 * inf at x = 0
        slope = F.where(F.equal(exponent, 0.0), scalar(0, x), F.mul(exponent, F.pow(x, F.sub(exponent, 1.0))))
        gx = sum_to(F.mul(g, slope), x)
        if dtypes.dtype(y.dtype).kind != "f":
            return gx, None
        log = F.log(F.where(F.greater(x, 0.0), x, scalar(1, x)))
        return gx, F.cast(sum_to(F.mul(F.mul(g, z), log), y), dtype=np_dtype(y))


@op(6, "x, y -> z", attrs=dict(fmod=False))
class mod:
    "Remainder with the sign of y (Python %), or of x when fmod (C fmod); integer x % 0 is 0."

    infer = broadcast("fiu")
    samples = binary(low=-3.0, high=3.0, low2=0.7, attrs=({"fmod": False}, {"fmod": True}))

    def reference(x, y, fmod):
        return exactly(np.fmod if fmod else np.remainder)(x, y)

    def vjp(g, z, x, y, fmod):
        quotient = (F.trunc if fmod else F.floor)(F.div(x, y))
        return sum_to(g, x), sum_to(F.neg(F.mul(g, quotient)), y)


@op(7, "x, y -> z", flags="inplace", tolerance="exact", tflite="MINIMUM")
class minimum:
    "The smaller; NaN if either is NaN."

    infer = broadcast("fiu")
    reference = exactly(np.minimum)
    samples = binary()

    def vjp(g, z, x, y):
        first = F.less_equal(x, y)
        zero = scalar(0, g)
        return sum_to(F.where(first, g, zero), x), sum_to(F.where(first, zero, g), y)


@op(8, "x, y -> z", flags="inplace", tolerance="exact", tflite="MAXIMUM")
class maximum:
    "The larger; NaN if either is NaN."

    infer = broadcast("fiu")
    reference = exactly(np.maximum)
    samples = binary()

    def vjp(g, z, x, y):
        first = F.greater_equal(x, y)
        zero = scalar(0, g)
        return sum_to(F.where(first, g, zero), x), sum_to(F.where(first, zero, g), y)


@op(9, "x, y -> z", tflite="ATAN2")
class atan2:
    "Angle of the point (y, x) with the first operand as the ordinate."

    infer = broadcast("f")
    reference = widely(np.arctan2)
    samples = binary(low=0.3, kinds="f")

    def vjp(g, z, x, y):
        r = F.div(g, F.add(F.mul(x, x), F.mul(y, y)))
        return sum_to(F.mul(r, y), x), sum_to(F.neg(F.mul(r, x)), y)


@op(10, "x, y -> z", tflite="FLOOR_DIV")
class floor_div:
    "floor(x / y); integer x / 0 is 0."

    infer = broadcast("fiu")
    samples = binary(low2=0.7)

    def reference(x, y):
        return exactly(lambda a, b: np.floor(a / b) if a.dtype.kind == "f" else a // b)(x, y)

    def vjp(g, z, x, y):
        return None, None  # flat between its steps


@op(11, "x, y -> z", tflite="SQUARED_DIFFERENCE", flags="inplace")
class squared_difference:
    "(x - y) ** 2."

    infer = broadcast("fiu")
    samples = binary()

    def reference(x, y):
        return exactly(lambda a, b: (a - b) * (a - b))(x, y)

    def vjp(g, z, x, y):
        gx = F.mul(F.mul(g, 2.0), F.sub(x, y))
        return sum_to(gx, x), sum_to(F.neg(gx), y)


# ---- comparison: bool out
@op(12, "x, y -> z", onnx="Equal", tflite="EQUAL", tolerance="exact", not_differentiable="bool result")
class equal:
    "x == y."

    infer = broadcast("fiub", dtypes.bool_)
    reference = _compare(np.equal)
    samples = _comparisons("fiub")


@op(13, "x, y -> z", tflite="NOT_EQUAL", tolerance="exact", not_differentiable="bool result")
class not_equal:
    "x != y."

    infer = broadcast("fiub", dtypes.bool_)
    reference = _compare(np.not_equal)
    samples = _comparisons("fiub")


@op(14, "x, y -> z", onnx="Less", tflite="LESS", tolerance="exact", not_differentiable="bool result")
class less:
    "x < y."

    infer = broadcast("fiu", dtypes.bool_)
    reference = _compare(np.less)
    samples = _comparisons("fiu")


@op(15, "x, y -> z", onnx="LessOrEqual", tflite="LESS_EQUAL", tolerance="exact", not_differentiable="bool result")
class less_equal:
    "x <= y."

    infer = broadcast("fiu", dtypes.bool_)
    reference = _compare(np.less_equal)
    samples = _comparisons("fiu")


@op(16, "x, y -> z", onnx="Greater", tflite="GREATER", tolerance="exact", not_differentiable="bool result")
class greater:
    "x > y."

    infer = broadcast("fiu", dtypes.bool_)
    reference = _compare(np.greater)
    samples = _comparisons("fiu")


@op(17, "x, y -> z", onnx="GreaterOrEqual", tflite="GREATER_EQUAL", tolerance="exact", not_differentiable="bool result")
class greater_equal:
    "x >= y."

    infer = broadcast("fiu", dtypes.bool_)
    reference = _compare(np.greater_equal)
    samples = _comparisons("fiu")


# ---- logic (bool) and bits (integers)
@op(18, "x, y -> z", onnx="And", tflite="LOGICAL_AND", tolerance="exact", not_differentiable="bool result")
class logical_and:
    "x and y, both bool."

    infer = broadcast("b")
    reference = np.logical_and
    samples = binary(kinds="b")


@op(19, "x, y -> z", onnx="Or", tflite="LOGICAL_OR", tolerance="exact", not_differentiable="bool result")
class logical_or:
    "x or y, both bool."

    infer = broadcast("b")
    reference = np.logical_or
    samples = binary(kinds="b")


@op(20, "x, y -> z", onnx="Xor", tolerance="exact", not_differentiable="bool result")
class logical_xor:
    "x xor y, both bool."

    infer = broadcast("b")
    reference = np.logical_xor
    samples = binary(kinds="b")


@op(21, "x -> y", onnx="Not", tflite="LOGICAL_NOT", tolerance="exact", not_differentiable="bool result")
class logical_not:
    "not x, bool."

    infer = same_as("b")
    reference = np.logical_not
    samples = unary(kinds="b")


@op(22, "x, y -> z", onnx="BitwiseAnd", tolerance="exact", not_differentiable="integer op")
class bitwise_and:
    "x & y."

    infer = broadcast("iu")
    reference = exactly(np.bitwise_and)
    samples = binary(kinds="iu")


@op(23, "x, y -> z", onnx="BitwiseOr", tolerance="exact", not_differentiable="integer op")
class bitwise_or:
    "x | y."

    infer = broadcast("iu")
    reference = exactly(np.bitwise_or)
    samples = binary(kinds="iu")


@op(24, "x, y -> z", onnx="BitwiseXor", tflite="BITWISE_XOR", tolerance="exact", not_differentiable="integer op")
class bitwise_xor:
    "x ^ y."

    infer = broadcast("iu")
    reference = exactly(np.bitwise_xor)
    samples = binary(kinds="iu")


@op(25, "x -> y", onnx="BitwiseNot", tolerance="exact", not_differentiable="integer op")
class bitwise_not:
    "~x."

    infer = same_as("iu")
    reference = exactly(np.invert)
    samples = unary(kinds="iu")


@op(26, "x, y -> z", tolerance="exact", not_differentiable="integer op")
class shift_left:
    "x << y; 0 when y is negative or at least the width of x."

    infer = broadcast("iu")
    samples = _shifts

    def reference(x, y):
        inside, by = _shift(x, y)
        return back(np.where(inside, np.left_shift(compute(x), by), 0), x.dtype)


@op(27, "x, y -> z", tflite="RIGHT_SHIFT", tolerance="exact", not_differentiable="integer op")
class shift_right:
    "x >> y (arithmetic for signed x); the sign (0 or -1) when y is negative or at least the width of x."

    infer = broadcast("iu")
    samples = _shifts

    def reference(x, y):
        inside, by = _shift(x, y)
        a = compute(x)
        return back(np.where(inside, np.right_shift(a, by), np.where(a < 0, -1, 0)), x.dtype)
