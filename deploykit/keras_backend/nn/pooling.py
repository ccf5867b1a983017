"""Pooling, moments, normalisation.  Signatures are Keras' own."""

from __future__ import annotations

import numpy as np
from keras.src import backend
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.nn.convolutions import from_last, per_dim, to_last
from deploykit.ops.core import F


def _window(inputs, pool_size, strides, padding, data_format):
    data_format = backend.standardize_data_format(data_format)
    if str(padding).lower() not in ("same", "valid"):
        raise ValueError(f"Invalid padding '{padding}', must be 'same' or 'valid'.")
    x = convert_to_tensor(inputs)
    n = x.ndim - 2
    kernel = per_dim(pool_size, n)
    how = dict(kernel=kernel, strides=kernel if strides is None else per_dim(strides, n))
    how["pad_mode"] = "same_upper" if str(padding).lower() == "same" else "explicit"
    return to_last(x, data_format), how, data_format


def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    x, how, data_format = _window(inputs, pool_size, strides, padding, data_format)
    y = F.max_pool(x, **how)
    return from_last(y[0] if isinstance(y, tuple) else y, data_format)


def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    x, how, data_format = _window(inputs, pool_size, strides, padding, data_format)
    to = x.dtype
    x = x if dtypes.dtype(to).kind == "f" else convert_to_tensor(x, "float32")
    return convert_to_tensor(from_last(F.avg_pool(x, **how), data_format), to)


def _adaptive(inputs, output_size, data_format, reduce):
    data_format = backend.standardize_data_format(data_format)
    x = to_last(convert_to_tensor(inputs), data_format)
    if not 3 <= x.ndim <= 5:
        raise ValueError("adaptive pooling supports only 1D/2D/3D inputs")
    for axis, size in enumerate(per_dim(output_size, x.ndim - 2), 1):
        n = x.shape[axis]
        starts = np.arange(size) * n // size
        ends = -(-(np.arange(1, size + 1) * n) // size)
        width = int((ends - starts).max())
        at = np.minimum(starts[:, None] + np.arange(width), ends[:, None] - 1)  # the last element again, where shorter
        parts = F.gather(x, at, axis=axis)
        inside = starts[:, None] + np.arange(width) < ends[:, None]
        x = reduce(parts, axis + 1, inside, (ends - starts))
    return from_last(x, data_format)


def adaptive_average_pool(inputs, output_size, data_format=None):
    def mean(parts, axis, inside, counts):
        share = (inside / counts[:, None]).astype(parts.dtype)
        return N.sum(F.mul(parts, share.reshape(*share.shape, *[1] * (parts.ndim - axis - 1))), axis)

    return _adaptive(inputs, output_size, data_format, mean)


def adaptive_max_pool(inputs, output_size, data_format=None):
    return _adaptive(inputs, output_size, data_format, lambda parts, axis, *_: N.max(parts, axis))


def moments(x, axes, keepdims=False, synchronized=False):
    if synchronized:
        raise NotImplementedError("Argument synchronized=True is not supported with the deploykit backend.")
    x = convert_to_tensor(x)
    to = x.dtype.name
    narrow = to in ("float16", "bfloat16")
    x = convert_to_tensor(x, "float32") if narrow else x
    axes = tuple(axes) if isinstance(axes, (list, tuple)) else (axes,)
    mean = N.mean(x, axes, True)
    variance = N.mean(F.square(F.sub(x, mean)), axes, keepdims)
    mean = mean if keepdims else F.squeeze(mean, np.array([a % x.ndim for a in axes], np.int64))
    if narrow:  # what float16 cannot hold is cut, not infinite
        mean, variance = (N.cast(N.clip(v, -65504.0, 65504.0), to) for v in (mean, variance))
    return mean, variance


def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    x = convert_to_tensor(x)
    dtype = result_type(x.dtype, getattr(mean, "dtype", "float32"))
    shape = [1] * x.ndim
    shape[axis] = -1

    def line(v):
        return None if v is None else N.reshape(convert_to_tensor(v, dtype), shape)

    x, mean, variance, offset, scale = (
        convert_to_tensor(x, dtype),
        line(mean),
        line(variance),
        line(offset),
        line(scale),
    )
    factor = F.rsqrt(F.add(variance, epsilon))
    factor = factor if scale is None else F.mul(factor, scale)
    y = F.mul(F.sub(x, mean), factor)
    return y if offset is None else F.add(y, offset)
