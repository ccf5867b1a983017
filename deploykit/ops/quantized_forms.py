"""The integer ops in simpler ops, with the same bits: for exporters and engines that lack them."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.ops.core import F
from deploykit.ops.grads import np_dtype

_F = np.float32


def less(x: Any, zero_point: int) -> Any:
    """x - zero_point as int32."""
    x = F.cast(x, dtype="int32")
    return x if zero_point == 0 else F.sub(x, np.int32(zero_point))


def ended(v: Any, like: Any, attrs: dict[str, Any]) -> Any:
    """clamp(rint(v) + y_zero_point) of float32 numbers as the result's dtype."""
    dtype = dtypes.dtype(attrs["dtype"] or np_dtype(like))
    if dtype.kind == "f":
        return v
    info = np.iinfo(dtype.np)
    y = F.quantize(v, _F(1), np.asarray(attrs["y_zero_point"], dtype.np))
    low, high = max(attrs["low"], int(info.min)), min(attrs["high"], int(info.max))
    if (low, high) == (info.min, info.max):
        return y
    return F.clip(y, np.asarray(low, dtype.np), np.asarray(high, dtype.np))


def requantized(acc: Any, multiplier: Any, bias: Any, residual: Any, like: Any, attrs: dict[str, Any]) -> Any:
    """The tail of qconv and qmatmul from their int32 sums."""
    if bias is not None:
        acc = F.add(acc, bias)
    v = F.mul(F.cast(acc, dtype="float32"), multiplier)
    if attrs["mid_scale"] != 0:
        v = F.clip(F.round(v), _F(attrs["mid_low"]), _F(attrs["mid_high"]))
        v = F.mul(v, _F(attrs["mid_scale"]))
    if residual is not None:
        r = F.cast(less(residual, attrs["residual_zero_point"]), dtype="float32")
        v = F.add(v, F.mul(r, _F(attrs["residual_scale"])))
    return ended(v, like, attrs)


def conv(x: Any, weight: Any, multiplier: Any, bias: Any = None, residual: Any = None, **attrs: Any) -> Any:
    """qconv."""
    geometry = {k: attrs[k] for k in ("strides", "dilations", "pads", "pad_mode", "groups")}
    zero = np.asarray(attrs["x_zero_point"], np_dtype(x))
    acc = F.conv_integer(x, weight, zero, **geometry)
    return requantized(acc, multiplier, bias, residual, x, attrs)


def matmul(a: Any, b: Any, multiplier: Any, bias: Any = None, residual: Any = None, **attrs: Any) -> Any:
    """qmatmul."""
    zeros = [np.asarray(attrs[k], np_dtype(t)) for k, t in (("x_zero_point", a), ("b_zero_point", b))]
    a, b = (
        F.transpose(t, perm=(*range(len(t.shape) - 2), len(t.shape) - 1, len(t.shape) - 2)) if turned else t
        for t, turned in ((a, attrs["transpose_a"]), (b, attrs["transpose_b"]))
    )
    return requantized(F.matmul_integer(a, b, *zeros), multiplier, bias, residual, a, attrs)


def _scaled(x: Any, zero_point: int, scale: float) -> Any:
    return F.mul(F.cast(less(x, zero_point), dtype="float32"), _F(scale))


def add(a: Any, b: Any, **attrs: Any) -> Any:
    """qadd."""
    v = F.add(_scaled(a, attrs["a_zero_point"], attrs["a_scale"]), _scaled(b, attrs["b_zero_point"], attrs["b_scale"]))
    return ended(v, a, attrs)


def mul(a: Any, b: Any, **attrs: Any) -> Any:
    """qmul."""
    p = F.mul(less(a, attrs["a_zero_point"]), less(b, attrs["b_zero_point"]))
    return ended(F.mul(F.cast(p, dtype="float32"), _F(attrs["multiplier"])), a, attrs)


def lut(x: Any, table: Any) -> Any:
    """qlut."""
    i = F.cast(x, dtype="int32")
    if np_dtype(x) == np.int8:
        i = F.where(F.less(i, np.int32(0)), F.add(i, np.int32(256)), i)
    return F.gather(table, i, axis=0)


def avg_pool(x: Any, **attrs: Any) -> Any:
    """qavg_pool: sums of at most 2^16 bytes are exact in float32."""
    window = ("kernel", "strides", "dilations", "pads", "pad_mode", "ceil_mode", "count_include_pad")
    real = F.cast(less(x, attrs["x_zero_point"]), dtype="float32")
    return ended(F.mul(F.avg_pool(real, **{k: attrs[k] for k in window}), _F(attrs["multiplier"])), x, attrs)


def mean(x: Any, **attrs: Any) -> Any:
    """qmean."""
    axes = np.array(attrs["axes"], np.int64) if attrs["axes"] else None
    total = F.reduce_sum(less(x, attrs["x_zero_point"]), axes, keepdims=attrs["keepdims"])
    one = np.array(1, np.int64)
    count = F.maximum(F.div(F.size_of(x), F.maximum(F.size_of(total), one)), one)
    v = F.div(F.cast(total, dtype="float32"), F.cast(count, dtype="float32"))
    return ended(F.mul(v, _F(attrs["multiplier"])), x, attrs)


def softmax(x: Any, table: Any, **attrs: Any) -> Any:
    """qsoftmax."""
    i = F.cast(x, dtype="int32")
    below = F.sub(F.reduce_max(i, np.array([-1], np.int64)), i)
    e = F.gather(F.cast(table, dtype="int64"), below, axis=0)
    total = F.maximum(F.reduce_sum(e, np.array([-1], np.int64)), np.array(1, np.int64))
    factor = F.div(_F(attrs["multiplier"]), F.cast(total, dtype="float32"))
    return ended(F.mul(F.cast(e, dtype="float32"), factor), x, attrs)
