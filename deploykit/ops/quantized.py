"""Integer forms of ops: what the fusion of quantize and dequantize nodes leaves (see docs/quantization-ir.md).

Requantization is defined here once, to the bit, for every kernel set and number of threads:

    acc = exact int32 sum                      (wraps like int32)
    v   = float32(acc) * multiplier            (one conversion, one product, each rounded to float32)
    y   = clamp(rint(v) + zero point)          (halves to even; clamp to low..high and to the dtype)

Multipliers are finite and at most 2^64 in size, so no step overflows.  Nothing is fused into a multiply-add.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.ops import quantized_forms as forms
from deploykit.ops.conv import GEOMETRY, check_shape, conv_shape
from deploykit.ops.core import Spec, op
from deploykit.ops.matmul import matmul_shape, swap_last
from deploykit.ops.numerics import int_range
from deploykit.ops.pool import _WINDOW, _counts, _pool_shape
from deploykit.ops.rules import axes_of, broadcast_shapes, error, reduce_shape, require_rank
from deploykit.ops.samples import quantized as cases
from deploykit.ops.windows import correlate, taps, window

_INTEGER = "integer result; train the float graph with fake_quant"
_BYTES = (dtypes.uint8, dtypes.int8)
MULTIPLIER_LIMIT = 2.0**64
_F = np.float32

# Result: zero point, bounds in units of the result (cut to its dtype's range), dtype ('' = that of input 0).
RESULT = dict(y_zero_point=0, low=-128, high=255, dtype="")
# What happens to a product before the residual is added; see `requantize`.
RESIDUAL = dict(mid_scale=0.0, mid_low=-255, mid_high=255, residual_scale=0.0, residual_zero_point=0)


def require_bytes(x: Spec | None, what: str = "x") -> None:
    """Raise unless a present operand is int8 or uint8."""
    if x is not None and x.dtype not in _BYTES:
        raise error(f"dtype of {what}", x.dtype, "int8 or uint8")


def require_dtype(x: Spec | None, dtype: DType, what: str) -> None:
    """Raise unless a present operand has this dtype."""
    if x is not None and x.dtype is not dtype:
        raise error(f"dtype of {what}", x.dtype, dtype)


def check_zero_point(value: int, dtype: DType, what: str = "zero_point") -> None:
    """Raise unless the number can be a zero point of the dtype."""
    low, high = int_range(dtype.np)
    if not low <= value <= high:
        raise error(what, value, f"{low} to {high}, the range of {dtype}")


def check_scale(value: float, what: str) -> None:
    """Raise unless a scale given as attr is a finite number of allowed size."""
    if not abs(value) <= MULTIPLIER_LIMIT:
        raise error(what, value, "a finite number, at most 2^64 in size")


def result_dtype(x: Spec, dtype: str, allowed: tuple[DType, ...] = (*_BYTES, dtypes.float32)) -> DType:
    """The dtype that attr ``dtype`` names, that of x when it is ''."""
    d = dtypes.dtype(dtype) if dtype else x.dtype
    if d not in allowed:
        raise error("dtype of the result", d, ", ".join(a.name for a in allowed))
    return d


def check_result(x: Spec, attrs: dict[str, Any], allowed: tuple[DType, ...] = (*_BYTES, dtypes.float32)) -> DType:
    """dtype of the result; raises where zero point or bounds do not fit it."""
    d = result_dtype(x, attrs["dtype"], allowed)
    if d.kind != "f":
        check_zero_point(attrs["y_zero_point"], d, "y_zero_point")
        low, high = bounds(d, attrs["low"], attrs["high"])
        if low > high:
            raise error("low and high", (attrs["low"], attrs["high"]), f"a range that meets that of {d}")
    return d


def bounds(dtype: DType, low: int, high: int) -> tuple[int, int]:
    """low..high cut to the range of a dtype."""
    least, most = int_range(dtype.np)
    return max(low, least), min(high, most)


def finish(v: np.ndarray, dtype: DType, y_zero_point: int, low: int, high: int) -> np.ndarray:
    """clamp(rint(v) + y_zero_point) of float32 numbers; float32 results are v itself."""
    if dtype.kind == "f":
        return v
    low, high = bounds(dtype, low, high)
    return np.clip(np.rint(v.astype(np.float64)) + y_zero_point, low, high).astype(dtype.np)


def requantize(
    acc: np.ndarray, multiplier: np.ndarray, residual: np.ndarray | None, dtype: DType, attrs: dict[str, Any]
) -> np.ndarray:
    """From int32 sums to the result.  With ``mid_scale`` the product is rounded first, as if it were stored and read
    again: v = clip(rint(v), mid_low, mid_high) * mid_scale (mid_low, mid_high: bounds less the zero point)."""
    v = acc.astype(_F) * multiplier.astype(_F)
    if attrs["mid_scale"] != 0:
        v = np.clip(np.rint(v), _F(attrs["mid_low"]), _F(attrs["mid_high"])) * _F(attrs["mid_scale"])
    if residual is not None:
        r = (residual.astype(np.int32) - attrs["residual_zero_point"]).astype(_F)
        v = v + r * _F(attrs["residual_scale"])
    return finish(v, dtype, attrs["y_zero_point"], attrs["low"], attrs["high"])


def wrap32(x: np.ndarray) -> np.ndarray:
    """Exact sums (int64, or float64 below 2^53) as int32 that wraps."""
    return x.astype(np.int64).astype(np.int32)


def _check_tail(x: Spec, multiplier: Spec, bias: Spec | None, residual: Spec | None, attrs: dict[str, Any]) -> DType:
    require_bytes(x)
    check_zero_point(attrs["x_zero_point"], x.dtype, "x_zero_point")
    require_dtype(multiplier, dtypes.float32, "multiplier")
    require_dtype(bias, dtypes.int32, "bias")
    require_bytes(residual, "residual")
    if residual is not None:
        check_zero_point(attrs["residual_zero_point"], residual.dtype, "residual_zero_point")
    for what in ("mid_scale", "residual_scale"):
        check_scale(attrs[what], what)
    if not -(1 << 20) <= attrs["mid_low"] <= attrs["mid_high"] <= 1 << 20:
        raise error("mid_low and mid_high", (attrs["mid_low"], attrs["mid_high"]), "an ascending pair within +-2^20")
    return check_result(x, attrs)


@op(
    310,
    "x, weight, multiplier, bias?, residual? -> y",
    attrs=dict(**GEOMETRY, x_zero_point=0, **RESULT, **RESIDUAL),
    tolerance="exact",
    not_differentiable=_INTEGER,
)
class qconv:
    """conv in integers: acc = sum (x - x_zero_point) * weight + bias, requantized (see the module).

    x uint8 or int8 [N, spatial..., C]; weight int8 OHWI, symmetric; multiplier float32 [O] or [1] (x_scale *
    weight_scale / y_scale, or without the division for a float32 result); bias int32 [O]; residual uint8 or int8 of
    the shape of y.  Padding counts as x_zero_point.  groups == C is depthwise.
    """

    samples = cases.qconv
    decompose = forms.conv

    def infer(x, weight, multiplier, bias=None, residual=None, *, strides, dilations, pads, pad_mode, groups, **attrs):
        dtype = _check_tail(x, multiplier, bias, residual, attrs)
        require_dtype(weight, dtypes.int8, "weight")
        geometry = dict(strides=strides, dilations=dilations, pads=pads, pad_mode=pad_mode)
        shape = conv_shape(x, weight, groups, **geometry)
        if weight.shape is not None:
            check_shape("bias", bias, weight.shape[:1])
            if multiplier.shape != (1,):
                check_shape("multiplier", multiplier, weight.shape[:1])
        if shape is not None:
            check_shape("residual", residual, shape)
        return Spec(dtype, shape)

    def reference(
        x, weight, multiplier, bias=None, residual=None, *, strides, dilations, pads, pad_mode, groups, **attrs
    ):
        w = window(x.shape[1:-1], weight.shape[1:-1], strides, dilations, pads, pad_mode)
        acc = correlate(x.astype(np.float64) - attrs["x_zero_point"], weight.astype(np.float64), w, groups)
        acc = acc.astype(np.int64) + (0 if bias is None else bias.astype(np.int64))
        dtype = dtypes.dtype(attrs["dtype"] or x.dtype)
        return requantize(wrap32(acc), multiplier, residual, dtype, attrs)


@op(
    311,
    "a, b, multiplier, bias?, residual? -> y",
    attrs=dict(transpose_a=False, transpose_b=False, x_zero_point=0, b_zero_point=0, **RESULT, **RESIDUAL),
    tolerance="exact",
    not_differentiable=_INTEGER,
)
class qmatmul:
    """matmul in integers: acc = (a - x_zero_point) @ (b - b_zero_point) + bias, requantized (see the module).

    a and b uint8 or int8, NumPy's rules for batch dims, both of rank 2 or more; multiplier float32 and bias int32, [1]
    or [N] (bias: [N]), one per column; residual uint8 or int8 of the shape of y.
    """

    samples = cases.qmatmul
    decompose = forms.matmul

    def infer(a, b, multiplier, bias=None, residual=None, *, transpose_a, transpose_b, b_zero_point, **attrs):
        dtype = _check_tail(a, multiplier, bias, residual, attrs)
        require_bytes(b, "b")
        check_zero_point(b_zero_point, b.dtype, "b_zero_point")
        require_rank(a, 2, 99, what="a")
        require_rank(b, 2, 99, what="b")
        shape = matmul_shape(a.shape, b.shape, transpose_a, transpose_b)
        if shape is not None:
            check_shape("bias", bias, shape[-1:])
            if multiplier.shape != (1,):
                check_shape("multiplier", multiplier, shape[-1:])
            check_shape("residual", residual, shape)
        return Spec(dtype, shape)

    def reference(a, b, multiplier, bias=None, residual=None, *, transpose_a, transpose_b, b_zero_point, **attrs):
        af = a.astype(np.float64) - attrs["x_zero_point"]
        bf = b.astype(np.float64) - b_zero_point
        acc = np.matmul(swap_last(af) if transpose_a else af, swap_last(bf) if transpose_b else bf)
        acc = acc.astype(np.int64) + (0 if bias is None else bias.astype(np.int64))
        return requantize(wrap32(acc), multiplier, residual, dtypes.dtype(attrs["dtype"] or a.dtype), attrs)


def _binary_infer(a: Spec, b: Spec, scales: tuple[str, ...], attrs: dict[str, Any]) -> Spec:
    require_bytes(a, "a")
    require_bytes(b, "b")
    check_zero_point(attrs["a_zero_point"], a.dtype, "a_zero_point")
    check_zero_point(attrs["b_zero_point"], b.dtype, "b_zero_point")
    for what in scales:
        check_scale(attrs[what], what)
    return Spec(check_result(a, attrs, _BYTES), broadcast_shapes(a.shape, b.shape))


def _ends(attrs: dict[str, Any], like: np.ndarray) -> tuple[DType, int, int, int]:
    return dtypes.dtype(attrs["dtype"] or like.dtype), attrs["y_zero_point"], attrs["low"], attrs["high"]


@op(
    312,
    "a, b -> y",
    attrs=dict(a_scale=1.0, a_zero_point=0, b_scale=1.0, b_zero_point=0, **RESULT),
    tolerance="exact",
    not_differentiable=_INTEGER,
)
class qadd:
    """Sum of 8-bit tensors, broadcasting: v = float32(a - a_zero_point) * a_scale + float32(b - b_zero_point) *
    b_scale, requantized.  a_scale and b_scale are the operand's scale over the result's; negative ones subtract."""

    samples = cases.qadd
    decompose = forms.add

    def infer(a, b, **attrs):
        return _binary_infer(a, b, ("a_scale", "b_scale"), attrs)

    def reference(a, b, *, a_scale, a_zero_point, b_scale, b_zero_point, **attrs):
        va = (a.astype(np.int32) - a_zero_point).astype(_F) * _F(a_scale)
        vb = (b.astype(np.int32) - b_zero_point).astype(_F) * _F(b_scale)
        return finish(va + vb, *_ends(attrs, a))


@op(
    313,
    "a, b -> y",
    attrs=dict(multiplier=1.0, a_zero_point=0, b_zero_point=0, **RESULT),
    tolerance="exact",
    not_differentiable=_INTEGER,
)
class qmul:
    """Product of 8-bit tensors, broadcasting: v = float32((a - a_zero_point) * (b - b_zero_point)) * multiplier,
    requantized; multiplier = a_scale * b_scale / y_scale."""

    samples = cases.qmul
    decompose = forms.mul

    def infer(a, b, **attrs):
        return _binary_infer(a, b, ("multiplier",), attrs)

    def reference(a, b, *, multiplier, a_zero_point, b_zero_point, **attrs):
        p = (a.astype(np.int32) - a_zero_point) * (b.astype(np.int32) - b_zero_point)
        return finish(p.astype(_F) * _F(multiplier), *_ends(attrs, a))


@op(314, "x, table -> y", tolerance="exact", not_differentiable=_INTEGER)
class qlut:
    """y = table[x] for 8-bit x; table has 256 entries (int8, uint8 or float32), in the order of the bytes of x: entry i
    is for the byte i, so for int8 x entries 128..255 stand for -128..-1.  Any function of one quantized tensor."""

    samples = cases.qlut
    decompose = forms.lut

    def infer(x, table):
        require_bytes(x)
        if table.dtype not in (*_BYTES, dtypes.float32):
            raise error("dtype of table", table.dtype, "int8, uint8 or float32")
        check_shape("table", table, (256,))
        return Spec(table.dtype, x.shape)

    def reference(x, table):
        return table[x.view(np.uint8)]


@op(
    315,
    "x -> y",
    attrs=dict(**_WINDOW, count_include_pad=False, multiplier=1.0, x_zero_point=0, **RESULT),
    tolerance="exact",
    not_differentiable=_INTEGER,
)
class qavg_pool:
    """avg_pool in integers: v = float32(sum (x - x_zero_point)) / float32(count) * multiplier, requantized; multiplier
    = x_scale / y_scale.  Padding adds nothing; it counts only with count_include_pad.  Windows hold at most 2^16
    elements."""

    samples = cases.qavg_pool
    decompose = forms.avg_pool

    def infer(x, *, count_include_pad, multiplier, x_zero_point, y_zero_point, low, high, dtype, **geometry):
        require_bytes(x)
        check_zero_point(x_zero_point, x.dtype, "x_zero_point")
        check_scale(multiplier, "multiplier")
        d = check_result(x, dict(y_zero_point=y_zero_point, low=low, high=high, dtype=dtype), _BYTES)
        return Spec(d, _pool_shape(x, **geometry))

    def reference(
        x,
        *,
        kernel,
        strides,
        dilations,
        pads,
        pad_mode,
        ceil_mode,
        count_include_pad,
        multiplier,
        x_zero_point,
        **attrs,
    ):
        size = x.shape[1:-1]
        w = window(size, kernel, strides, dilations, pads, pad_mode, ceil_mode)
        total = np.zeros((x.shape[0], *w.out, x.shape[-1]), np.int32)
        for _, value in taps(x.astype(np.int32) - x_zero_point, w):
            total += value
        counts = np.maximum(_counts(size, w, count_include_pad), 1).astype(_F)[None, ..., None]
        return finish(total.astype(_F) / counts * _F(multiplier), *_ends(attrs, x))


@op(
    316,
    "x -> y",
    attrs=dict(axes=(), keepdims=True, multiplier=1.0, x_zero_point=0, **RESULT),
    tolerance="exact",
    not_differentiable=_INTEGER,
)
class qmean:
    """reduce_mean in integers over axes (() means all): v = float32(sum (x - x_zero_point)) / float32(count) *
    multiplier, requantized.  The sum wraps like int32; an empty mean is 0 before the zero point."""

    samples = cases.qmean
    decompose = forms.mean

    def infer(x, *, axes, keepdims, multiplier, x_zero_point, **attrs):
        require_bytes(x)
        check_zero_point(x_zero_point, x.dtype, "x_zero_point")
        check_scale(multiplier, "multiplier")
        d = check_result(x, attrs, _BYTES)
        return Spec(d, reduce_shape(x.shape, axes or None, keepdims))

    def reference(x, *, axes, keepdims, multiplier, x_zero_point, **attrs):
        dims = axes_of(axes or range(x.ndim), x.ndim)
        total = wrap32((x.astype(np.int64) - x_zero_point).sum(axis=dims, keepdims=keepdims))
        count = max(int(np.prod([x.shape[i] for i in dims], dtype=np.int64)), 1)
        return finish(total.astype(_F) / _F(count) * _F(multiplier), *_ends(attrs, x))


@op(317, "x, table -> y", attrs=dict(multiplier=1.0, **RESULT), tolerance="exact", not_differentiable=_INTEGER)
class qsoftmax:
    """Softmax over the last axis in integers.  table: uint32 [256], entry d = round(2^23 * exp(-x_scale * d)), the
    weight of an element that is d steps below the row's largest (entry 0 is not 0).  v = float32(table[d]) *
    (multiplier / float32(sum of the row's weights)), requantized; multiplier = 1 / y_scale.  The sum is exact."""

    samples = cases.qsoftmax
    decompose = forms.softmax

    def infer(x, table, *, multiplier, **attrs):
        require_bytes(x)
        require_dtype(table, dtypes.uint32, "table")
        check_shape("table", table, (256,))
        require_rank(x, 1, 99)
        check_scale(multiplier, "multiplier")
        return Spec(check_result(x, attrs, _BYTES), x.shape)

    def reference(x, table, *, multiplier, **attrs):
        xi = x.astype(np.int32)
        e = table[xi.max(axis=-1, keepdims=True, initial=-128) - xi] if x.size else np.zeros(x.shape, np.uint32)
        total = np.maximum(e.astype(np.uint64).sum(axis=-1, keepdims=True), 1)
        return finish(e.astype(_F) * (_F(multiplier) / total.astype(_F)), *_ends(attrs, x))
