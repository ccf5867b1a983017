"""Sums, extremes, running sums.  Signatures are Keras' own."""

from __future__ import annotations

import builtins

import numpy as np
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.numpy.elementwise import floating, isnan, through
from deploykit.ops.core import F


def axes_of(x, axis):
    """The dims as a tuple of places, all for None; ValueError outside the rank."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -x.ndim <= a < x.ndim:
            raise ValueError(f"axis {a} is out of bounds for a tensor of rank {x.ndim}.")
    return tuple(int(a) % x.ndim for a in axes)


def _growing(x, dtype=None):
    """x in the dtype in which it is summed: small integers grow to 32 bits."""
    x = convert_to_tensor(x)
    if dtype is None:
        name = x.dtype.name
        dtype = {"bool": "int32", "int8": "int32", "int16": "int32", "uint8": "uint32", "uint16": "uint32"}.get(
            name, name
        )
        dtype = result_type(dtype) if name in ("int64", "uint64", "float64") else dtype
    return convert_to_tensor(x, dtype)


def sum(x, axis=None, keepdims=False):
    x = _growing(x)
    return N.sum(x, axes_of(x, axis), keepdims)


def prod(x, axis=None, keepdims=False, dtype=None):
    x = _growing(x, dtype)
    return N.prod(x, axes_of(x, axis), keepdims)


def mean(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    x = floating(x) if dtypes.dtype(x.dtype).kind != "f" else x
    return N.mean(x, axes_of(x, axis), keepdims)


def _extreme(reduce, join):
    def f(x, axis=None, keepdims=False, initial=None):
        x, dtype = through(convert_to_tensor(x))
        axes = axes_of(x, axis)
        if initial is not None and builtins.any(x.shape[a] == 0 for a in axes):
            kept = [1 if i in axes else d for i, d in enumerate(x.shape)]
            out = N.full([d for i, d in enumerate(kept) if keepdims or i not in axes], initial, x.dtype)
            return convert_to_tensor(out, dtype)
        y = reduce(x, axes, keepdims)
        y = y if initial is None else join(y, convert_to_tensor(initial, y.dtype))
        return convert_to_tensor(y, dtype)

    return f


max, min = _extreme(N.max, N.maximum), _extreme(N.min, N.minimum)


def amax(x, axis=None, keepdims=False):
    return max(x, axis, keepdims)


def amin(x, axis=None, keepdims=False):
    return min(x, axis, keepdims)


def ptp(x, axis=None, keepdims=False):
    return F.sub(max(x, axis, keepdims), min(x, axis, keepdims))


def all(x, axis=None, keepdims=False):
    x = convert_to_tensor(x, "bool")
    return N.all(x, axes_of(x, axis), keepdims)


def any(x, axis=None, keepdims=False):
    x = convert_to_tensor(x, "bool")
    return N.any(x, axes_of(x, axis), keepdims)


def count_nonzero(x, axis=None):
    x = convert_to_tensor(convert_to_tensor(x, "bool"), "int32")
    return N.sum(x, axes_of(x, axis))


def var(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    to = result_type(x.dtype, float)
    x = convert_to_tensor(x, result_type(x.dtype, "float32"))
    axes = axes_of(x, axis)
    y = N.mean(F.square(F.sub(x, N.mean(x, axes, True))), axes, keepdims)
    return convert_to_tensor(y, to)


def std(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    return F.sqrt(var(floating(x) if dtypes.dtype(x.dtype).kind != "f" else x, axis, keepdims))


def average(x, axis=None, weights=None):
    x = convert_to_tensor(x)
    if weights is None:
        return mean(floating(x), axis)
    weights = convert_to_tensor(weights)
    dtype = result_type(x.dtype, weights.dtype, float)
    x, weights = convert_to_tensor(x, dtype), convert_to_tensor(weights, dtype)
    axes = axes_of(x, axis)
    if weights.ndim == 1 and x.ndim > 1 and len(axes) == 1:
        weights = N.reshape(weights, [-1 if i == axes[0] else 1 for i in range(x.ndim)])
    weights = N.broadcast_to(weights, x.shape) if weights.shape != x.shape else weights
    return F.div(N.sum(F.mul(x, weights), axes), N.sum(weights, axes))


def _arg(reduce):
    def f(x, axis=None, keepdims=False):
        x, _ = through(convert_to_tensor(x))
        if x.ndim == 0:
            return N.zeros((), "int32")
        if dtypes.dtype(x.dtype).kind == "f":  # -0.0 stands below 0.0
            tiny = np.asarray(np.finfo(np.float32).tiny, np.float32)
            x = convert_to_tensor(x, result_type(x.dtype, "float32"))
            below = F.logical_and(F.equal(x, 0.0), F.less(F.reciprocal(x), 0.0))
            x = F.where(below, N.full_like(x, -float(tiny)), x)
        if axis is None and keepdims:
            return N.reshape(reduce(x), [1] * x.ndim)
        return reduce(x, axis, keepdims)

    return f


argmax, argmin = _arg(N.argmax), _arg(N.argmin)


def _running(op, neutral):
    def f(x, axis=None, dtype=None):
        x = convert_to_tensor(x)
        dtype = result_type(dtype or x.dtype)
        x = convert_to_tensor(x, "int32" if dtype == "bool" else dtype)
        to = x.dtype
        if dtypes.dtype(to).kind in "iu" and to.itemsize < 4:
            x = convert_to_tensor(x, "int32")
        x, axis = (N.reshape(x, (-1,)), 0) if axis is None else (x, axis)
        return convert_to_tensor(getattr(F, op)(x, np.int64(axis % x.ndim)), to)

    def skipping(x, axis=None, dtype=None):
        x = convert_to_tensor(x)
        return f(F.where(isnan(x), N.full_like(x, neutral), x), axis, dtype)

    return f, skipping


cumsum, nancumsum = _running("cumsum", 0)
cumprod, nancumprod = _running("cumprod", 1)


# ---- NaN left out
def _filled(x, value):
    """(x with NaN replaced, where it was a number)."""
    x = convert_to_tensor(x)
    bad = isnan(x)
    return F.where(bad, N.full_like(x, value), x), F.logical_not(bad)


def nansum(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    return sum(_filled(x, 0)[0] if dtypes.dtype(x.dtype).kind == "f" else x, axis, keepdims)


def nanprod(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    return prod(_filled(x, 1)[0] if dtypes.dtype(x.dtype).kind == "f" else x, axis, keepdims)


def nanmean(x, axis=None, keepdims=False):
    x = floating(x)
    filled, there = _filled(x, 0)
    count = N.sum(N.cast(there, x.dtype), axes_of(x, axis), keepdims)
    return F.div(N.sum(filled, axes_of(x, axis), keepdims), count)


def nanvar(x, axis=None, keepdims=False):
    x = convert_to_tensor(x)
    to = result_type(x.dtype, float)
    x = convert_to_tensor(x, result_type(x.dtype, "float32"))
    centred = F.square(F.sub(x, nanmean(x, axis, True)))
    return convert_to_tensor(nanmean(centred, axis, keepdims), to)


def nanstd(x, axis=None, keepdims=False):
    return F.sqrt(nanvar(x, axis, keepdims))


def _nan_extreme(reduce, worst):
    def f(x, axis=None, keepdims=False):
        x = convert_to_tensor(x)
        if dtypes.dtype(x.dtype).kind != "f":
            return reduce(x, axis, keepdims)
        filled, there = _filled(x, worst)
        some = any(there, axis, keepdims)
        y = reduce(filled, axis, keepdims)
        return F.where(some, y, N.full_like(y, float("nan")))

    return f


nanmax, nanmin = _nan_extreme(max, float("-inf")), _nan_extreme(min, float("inf"))


def _nan_arg(reduce, worst):
    def f(x, axis=None, keepdims=False):
        x = convert_to_tensor(x)
        if dtypes.dtype(x.dtype).kind != "f":
            return reduce(x, axis, keepdims)
        filled, there = _filled(x, worst)
        y = reduce(filled, axis, keepdims)
        return F.where(any(there, axis, keepdims), y, N.full_like(y, -1))

    return f


nanargmax, nanargmin = _nan_arg(argmax, float("-inf")), _nan_arg(argmin, float("inf"))
