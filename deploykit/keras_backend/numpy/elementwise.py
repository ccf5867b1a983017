"""Element by element: arithmetic, comparison, bits, roots and angles.  Signatures are Keras' own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras.src.backend import config
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor, weak
from deploykit.keras_backend.host import host
from deploykit.ops.core import F, get


def _kind(x: Any) -> str:
    return dtypes.dtype(x.dtype).kind


def same(*xs: Any, also: tuple[Any, ...] = ()) -> list[Any]:
    """Tensors of the common dtype; Python numbers are weak."""
    xs = tuple(x if isinstance(x, (int, float)) else convert_to_tensor(x) for x in xs)
    dtype = result_type(*[weak(x) for x in xs], *also)
    return [convert_to_tensor(x, dtype) for x in xs]


def floating(x: Any) -> Any:
    """As float: integers and bool become the default float, float64 becomes float32 as promotion says."""
    x = convert_to_tensor(x)
    name = x.dtype.name
    return convert_to_tensor(x, config.floatx() if name == "int64" else result_type(name, float))


def through(x: Any, kinds: str = "b", to: str = "int32") -> tuple[Any, Any]:
    """(x in a dtype that ops compute with, its dtype) where its own kind is one of ``kinds``."""
    return (convert_to_tensor(x, to), x.dtype) if _kind(x) in kinds else (x, x.dtype)


# ---- arithmetic
def _arithmetic(op, on_bool=None, also=()):
    run = get(op)

    def f(x1, x2):
        a, b = same(x1, x2, also=also)
        if _kind(a) == "b":
            if on_bool is None:
                a, b = convert_to_tensor(a, "int32"), convert_to_tensor(b, "int32")
                return convert_to_tensor(run(a, b), "bool")
            return get(on_bool)(a, b)
        return run(a, b)

    return f


add = _arithmetic("add", "logical_or")
multiply = _arithmetic("mul", "logical_and")
maximum = _arithmetic("maximum", "logical_or")
minimum = _arithmetic("minimum", "logical_and")
divide = true_divide = _arithmetic("div", also=(float,))
arctan2 = _arithmetic("atan2", also=(float,))


def subtract(x1, x2):
    a, b = same(x1, x2)
    if _kind(a) == "b":
        raise TypeError("subtract of bool tensors is not defined; use logical_xor or cast them.")
    return F.sub(a, b)


def _on_numbers(op, **attrs):
    """bool counts as int32."""

    def f(x1, x2):
        return get(op)(*(through(x)[0] for x in same(x1, x2)), **attrs)

    return f


floor_divide, mod, fmod = _on_numbers("floor_div"), _on_numbers("mod"), _on_numbers("mod", fmod=True)
_power = _on_numbers("pow")


def power(x1, x2):
    if isinstance(x2, (int, float)) and not isinstance(x2, bool) and x2 == 2:
        return F.square(same(x1, x2)[0])
    return _power(x1, x2)


def divide_no_nan(x1, x2):
    a, b = same(x1, x2, also=(float,))
    none = F.equal(b, 0.0)
    return F.where(none, N.zeros_like(a), F.div(a, F.where(none, N.ones_like(b), b)))


def _ignoring_nan(op):
    def f(x1, x2):
        a, b = same(x1, x2)
        if _kind(a) != "f":
            return (maximum if op == "maximum" else minimum)(a, b)
        return F.where(F.is_nan(a), b, F.where(F.is_nan(b), a, get(op)(a, b)))

    return f


fmax, fmin = _ignoring_nan("maximum"), _ignoring_nan("minimum")


def hypot(x1, x2):
    a, b = same(x1, x2, also=(float,))
    a, b = F.abs(a), F.abs(b)
    big, small = F.maximum(a, b), F.minimum(a, b)
    ratio = F.div(small, F.where(F.equal(big, 0.0), N.ones_like(big), big))
    return F.mul(big, F.sqrt(F.add(F.square(ratio), 1.0)))


def logaddexp(x1, x2):
    a, b = same(x1, x2, also=(float,))
    top = F.maximum(a, b)
    safe = F.where(F.is_inf(top), N.zeros_like(top), top)
    return F.add(F.log(F.add(F.exp(F.sub(a, safe)), F.exp(F.sub(b, safe)))), safe)


def logaddexp2(x1, x2):
    a, b = same(x1, x2, also=(float,))
    ln2 = math.log(2.0)
    return F.div(logaddexp(F.mul(a, ln2), F.mul(b, ln2)), ln2)


def ldexp(x1, x2):
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    if _kind(x2) not in "iu":
        raise TypeError(f"ldexp exponent must be an integer type. Received: x2 dtype={x2.dtype}")
    dtype = result_type(x1.dtype, x2.dtype, float)
    return F.mul(
        convert_to_tensor(x1, dtype), F.pow(np.asarray(2, dtypes.dtype(dtype).np), convert_to_tensor(x2, dtype))
    )


def heaviside(x1, x2):
    a, b = same(x1, x2, also=(float,))
    return F.where(F.equal(a, 0.0), b, F.where(F.less(a, 0.0), N.zeros_like(a), N.ones_like(a)))


def _by_numpy(name, f, also=()):
    def g(x1, x2):
        a, b = same(x1, x2, also=also)
        return host(name, f, a, b, dtype=a.dtype)

    return g


gcd, lcm = _by_numpy("gcd", np.gcd), _by_numpy("lcm", np.lcm)
nextafter = _by_numpy("nextafter", np.nextafter, also=(float,))


# ---- comparison and logic
def _comparison(op):
    run = get(op)

    def f(x1, x2):
        a, b = same(x1, x2)
        if _kind(a) == "b" and op not in ("equal", "not_equal"):
            a, b = convert_to_tensor(a, "int32"), convert_to_tensor(b, "int32")
        return run(a, b)

    return f


equal, not_equal = _comparison("equal"), _comparison("not_equal")
less, less_equal = _comparison("less"), _comparison("less_equal")
greater, greater_equal = _comparison("greater"), _comparison("greater_equal")


def _bool(x):
    return convert_to_tensor(x, "bool")


def logical_and(x1, x2):
    return F.logical_and(_bool(x1), _bool(x2))


def logical_or(x1, x2):
    return F.logical_or(_bool(x1), _bool(x2))


def logical_xor(x1, x2):
    return F.logical_xor(_bool(x1), _bool(x2))


def logical_not(x):
    return F.logical_not(_bool(x))


def isnan(x):
    x = convert_to_tensor(x)
    return F.is_nan(x) if _kind(x) == "f" else N.zeros_like(x, "bool")


def _infinite(negative, positive):
    def f(x):
        x = convert_to_tensor(x)
        if _kind(x) != "f":
            return N.zeros_like(x, "bool")
        return F.is_inf(x, detect_negative=negative, detect_positive=positive)

    return f


isinf, isneginf, isposinf = _infinite(True, True), _infinite(True, False), _infinite(False, True)


def isfinite(x):
    return F.logical_not(F.logical_or(isnan(x), isinf(x)))


def isreal(x):
    return N.ones_like(convert_to_tensor(x), "bool")


def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = same(x1, x2, also=(float,))
    near = F.less_equal(F.abs(F.sub(a, b)), F.add(F.mul(F.abs(b), rtol), atol))
    near = F.logical_or(F.logical_and(near, isfinite(b)), F.equal(a, b))
    return F.logical_or(near, F.logical_and(F.is_nan(a), F.is_nan(b))) if equal_nan else near


def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    return N.all(isclose(x1, x2, rtol, atol, equal_nan))


# ---- bits
def _bits(op, on_bool):
    def f(x, y):
        a, b = same(x, y)
        return get(on_bool if _kind(a) == "b" else op)(a, b)

    return f


bitwise_and = _bits("bitwise_and", "logical_and")
bitwise_or = _bits("bitwise_or", "logical_or")
bitwise_xor = _bits("bitwise_xor", "logical_xor")


def bitwise_not(x):
    x = convert_to_tensor(x)
    return F.logical_not(x) if _kind(x) == "b" else F.bitwise_not(x)


bitwise_invert = bitwise_not


def _shift(op):
    def f(x, y):
        x = convert_to_tensor(x)
        a, b = (x, convert_to_tensor(y, x.dtype)) if isinstance(y, int) else same(x, y)
        if _kind(a) == "b":
            a, b = convert_to_tensor(a, "int32"), convert_to_tensor(b, "int32")
        return get(op)(a, b)

    return f


left_shift = bitwise_left_shift = _shift("shift_left")
right_shift = bitwise_right_shift = _shift("shift_right")


# ---- of one argument
def _smooth(op):
    run = get(op)

    def f(x):
        return run(floating(x))

    return f


arccos, arccosh, arcsin, arcsinh = _smooth("acos"), _smooth("acosh"), _smooth("asin"), _smooth("asinh")
arctan, arctanh, cos, cosh = _smooth("atan"), _smooth("atanh"), _smooth("cos"), _smooth("cosh")
sin, sinh, tan, tanh = _smooth("sin"), _smooth("sinh"), _smooth("tan"), _smooth("tanh")
exp, expm1, log, log1p, sqrt = _smooth("exp"), _smooth("expm1"), _smooth("log"), _smooth("log1p"), _smooth("sqrt")
ceil, floor = _smooth("ceil"), _smooth("floor")


def exp2(x):
    return F.exp(F.mul(floating(x), math.log(2.0)))


def log2(x):
    return F.div(F.log(floating(x)), math.log(2.0))


def log10(x):
    return F.div(F.log(floating(x)), math.log(10.0))


def cbrt(x):
    x = floating(x)
    size = F.abs(x)
    none = F.equal(size, 0.0)
    root = F.exp(F.div(F.log(F.where(none, N.ones_like(size), size)), 3.0))
    return F.where(none, x, F.mul(F.sign(x), root))


def deg2rad(x):
    return F.mul(floating(x), math.pi / 180.0)


def rad2deg(x):
    return F.mul(floating(x), 180.0 / math.pi)


def sinc(x):
    x = F.mul(floating(x), math.pi)
    none = F.equal(x, 0.0)
    safe = F.where(none, N.ones_like(x), x)
    return F.where(none, N.ones_like(x), F.div(F.sin(safe), safe))


def i0(x):
    return host("i0", np.i0, floating(x), dtype=floating(x).dtype)


def _plain(op, kinds="b", keep=True):
    run = get(op)

    def f(x):
        x, dtype = through(convert_to_tensor(x), kinds)
        y = run(x)
        return convert_to_tensor(y, dtype) if keep else y

    return f


absolute = abs = _plain("abs", "bu")
sign = _plain("sign", "bu")


def negative(x):
    x = convert_to_tensor(x)
    if _kind(x) == "b":
        raise TypeError("negative of a bool tensor is not defined; use logical_not.")
    if _kind(x) == "u":
        return F.sub(N.zeros_like(x), x)
    return F.neg(x)


def square(x):
    x = convert_to_tensor(x)
    x = convert_to_tensor(x, "int32") if _kind(x) == "b" else x
    return F.mul(x, x) if _kind(x) == "u" else F.square(x)


def fabs(x):
    return F.abs(floating(x))


def reciprocal(x):
    x = floating(x)
    return F.reciprocal(x)


def trunc(x):
    x = convert_to_tensor(x)
    return F.trunc(x) if _kind(x) == "f" else x


def round(x, decimals=0):
    x = convert_to_tensor(x)
    if _kind(x) != "f":
        if decimals >= 0:
            return convert_to_tensor(x, "int32") if _kind(x) == "b" else x
        dtype, x = x.dtype, floating(x)
        return convert_to_tensor(round(x, decimals), dtype)
    if decimals == 0:
        return F.round(x)
    scale = 10.0**decimals
    return F.div(F.round(F.mul(x, scale)), scale)


def signbit(x):
    x = convert_to_tensor(x)
    if _kind(x) != "f":
        return F.less(x, 0) if _kind(x) == "i" else N.zeros_like(x, "bool")
    return F.logical_or(F.less(x, 0.0), F.less(F.reciprocal(x), 0.0))


def clip(x, x_min, x_max):
    x = convert_to_tensor(x)
    x = convert_to_tensor(x, "int32") if _kind(x) == "b" else x
    low, high = (convert_to_tensor(v, x.dtype) for v in (x_min, x_max))
    if low.ndim == high.ndim == 0:
        return F.clip(x, low, high)
    return F.minimum(F.maximum(x, low), high)


def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    x = convert_to_tensor(x)
    if _kind(x) != "f":
        return x
    import ml_dtypes

    info = ml_dtypes.finfo(x.dtype)
    low, high = (float(info.min) if neginf is None else neginf), (float(info.max) if posinf is None else posinf)
    fill = [N.full_like(x, v) for v in (nan, high, low)]
    x = F.where(F.is_nan(x), fill[0], x)
    x = F.where(F.is_inf(x, detect_negative=False), fill[1], x)
    return F.where(F.is_inf(x, detect_positive=False), fill[2], x)


def real(x):
    return convert_to_tensor(x)


conj = conjugate = real


def imag(x):
    return N.zeros_like(convert_to_tensor(x))


def angle(x):
    x = floating(x)
    y = F.where(F.less(x, 0.0), N.full_like(x, math.pi), N.zeros_like(x))
    return F.where(F.is_nan(x), x, y)


def where(condition, x1=None, x2=None):
    if x1 is None and x2 is None:
        return host("where", lambda c: tuple(np.nonzero(c)), convert_to_tensor(condition), dtype="int32")
    a, b = same(x1, x2)
    return F.where(_bool(condition), a, b)


def view(x, dtype=None):
    x = convert_to_tensor(x)
    from deploykit.keras_backend.core import our_dtype

    name = our_dtype(dtype)
    if dtypes.dtype(name).itemsize == x.dtype.itemsize:
        return F.bitcast(x, dtype=name)
    return host("view", lambda a: a.view(dtypes.dtype(name).np), x)
