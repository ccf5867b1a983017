"""Convolutions, folding, depth and space.  Our ops are channels last; channels_first is transposed on the way."""

from __future__ import annotations

import numpy as np
from keras.src import backend
from keras.src.backend.common.backend_utils import (
    check_conv_input_channels,
    check_conv_transpose_input_channels,
    compute_conv_transpose_padding_args_for_jax,
)

from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.ops.core import F


def per_dim(x, n):
    """One number per spatial dim."""
    return (int(x),) * n if isinstance(x, (int, np.integer)) else tuple(int(v) for v in x)


def to_last(x, data_format):
    """x with channels last."""
    return x if data_format == "channels_last" else N.moveaxis(x, 1, -1)


def from_last(y, data_format):
    """y with channels where data_format wants them."""
    return y if data_format == "channels_last" else N.moveaxis(y, -1, 1)


def _how(padding, strides, dilation, n):
    if str(padding).lower() not in ("valid", "same"):
        raise ValueError(f"Invalid padding '{padding}', must be 'same' or 'valid'.")
    mode = "same_upper" if str(padding).lower() == "same" else "explicit"
    return dict(strides=per_dim(strides, n), dilations=per_dim(dilation, n), pad_mode=mode)


def _weight(kernel):
    """[spatial..., in, out] to [out, spatial..., in]."""
    n = kernel.ndim - 2
    return N.transpose(kernel, (n + 1, *range(n), n))


def _computed(kernel, inputs):
    dtype = kernel.dtype if kernel.dtype.name in ("float16", "bfloat16", "float32", "float64") else np.dtype("float32")
    return convert_to_tensor(kernel, dtype), convert_to_tensor(inputs, dtype)


def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    data_format = backend.standardize_data_format(data_format)
    kernel = convert_to_tensor(kernel)
    to = kernel.dtype
    kernel, x = _computed(kernel, inputs)
    n = x.ndim - 2
    x = to_last(x, data_format)
    if x.shape[-1] % kernel.shape[-2]:
        raise ValueError(
            "The number of input channels must be evenly divisible by kernel's in_channels. Received input channels "
            f"{x.shape[-1]} and kernel in_channels {kernel.shape[-2]}. "
        )
    how = _how(padding, strides, dilation_rate, n)
    if how["pad_mode"] == "explicit":
        reach = [d * (k - 1) + 1 for d, k in zip(how["dilations"], kernel.shape[:n], strict=True)]
        if any(s < r for s, r in zip(x.shape[1:-1], reach, strict=True)):
            raise ValueError(
                "The convolution operation resulted in an empty output. This can happen if the input is too small for the "
                f"given kernel size, strides, dilation rate, and padding mode; got {tuple(x.shape)} and {tuple(kernel.shape)}."
            )
    y = F.conv(x, _weight(kernel), groups=x.shape[-1] // kernel.shape[-2], **how)
    return convert_to_tensor(from_last(y, data_format), to)


def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    data_format = backend.standardize_data_format(data_format)
    inputs, kernel = convert_to_tensor(inputs), convert_to_tensor(kernel)
    check_conv_input_channels(inputs, kernel, data_format)
    kernel, x = _computed(kernel, inputs)
    n = x.ndim - 2
    x = to_last(x, data_format)
    c, m = kernel.shape[-2:]
    weight = N.reshape(N.transpose(kernel, (n, n + 1, *range(n))), (c * m, *kernel.shape[:n], 1))
    y = F.conv(x, weight, groups=c, **_how(padding, strides, dilation_rate, n))
    return from_last(y, data_format)


def separable_conv(
    inputs, depthwise_kernel, pointwise_kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    data_format = backend.standardize_data_format(data_format)
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(y, pointwise_kernel, 1, "valid", data_format)


def conv_transpose(inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1):
    data_format = backend.standardize_data_format(data_format)
    inputs, kernel = convert_to_tensor(inputs), convert_to_tensor(kernel)
    check_conv_transpose_input_channels(inputs, kernel, data_format)
    kernel, x = _computed(kernel, inputs)
    n = x.ndim - 2
    pads = compute_conv_transpose_padding_args_for_jax(
        inputs.shape, kernel.shape, strides, padding, output_padding, dilation_rate
    )
    x = to_last(x, data_format)
    strides, dilation = per_dim(strides, n), per_dim(dilation_rate, n)
    before, after, extra = [], [], []
    for (low, high), k, d in zip(pads, kernel.shape[:n], dilation, strict=True):
        reach = d * (k - 1)  # of the full result, this much less the padding is cut off
        before.append(reach - low)
        after.append(max(reach - high, 0))
        extra.append(max(high - reach, 0))
    weight = N.transpose(kernel, (n + 1, *range(n), n))  # [in, spatial..., out]
    left = [max(-b, 0) for b in before]
    how = dict(strides=strides, dilations=dilation, output_padding=tuple(extra))
    y = F.conv_transpose(x, weight, pads=(*[max(b, 0) for b in before], *after), **how)
    y = N.pad(y, [(0, 0), *[(v, 0) for v in left], (0, 0)]) if any(left) else y
    return from_last(y, data_format)


# ---------------------------------------------------------------- blocks
def _pair(x):
    return (x, x) if isinstance(x, int) else tuple(x)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """[N, C, H, W] to [N, C * kh * kw, blocks]."""
    x = convert_to_tensor(input)
    k, p = _pair(kernel_size), _pair(padding)
    how = dict(kernel=k, strides=_pair(stride), dilations=_pair(dilation), pads=(*p, *p))
    y = F.im2col(N.moveaxis(x, 1, -1), **how)  # [N, OH, OW, kh * kw * C]
    n, c = x.shape[:2]
    y = N.reshape(y, (n, y.shape[1] * y.shape[2], k[0] * k[1], c))
    return N.reshape(N.transpose(y, (0, 3, 2, 1)), (n, c * k[0] * k[1], y.shape[1]))


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    x, p = convert_to_tensor(x), _pair(padding)
    size, block = (np.array(_pair(v), np.int64) for v in (output_size, kernel_size))
    return F.col2im(x, size, block, dilations=_pair(dilation), pads=(*p, *p), strides=_pair(stride))


def depth_to_space(x, block_size, data_format="channels_last"):
    x, b = to_last(convert_to_tensor(x), data_format), block_size
    n, h, w, c = x.shape
    if data_format == "channels_last":
        y = N.transpose(N.reshape(x, (n, h, w, b, b, c // b**2)), (0, 1, 3, 2, 4, 5))
    else:
        y = N.transpose(N.reshape(x, (n, h, w, c // b**2, b, b)), (0, 1, 4, 2, 5, 3))
    return from_last(N.reshape(y, (n, h * b, w * b, c // b**2)), data_format)


def space_to_depth(x, block_size, data_format="channels_last"):
    x, b = to_last(convert_to_tensor(x), data_format), block_size
    n, h, w, c = x.shape
    y = N.reshape(x, (n, h // b, b, w // b, b, c))
    order = (0, 1, 3, 2, 4, 5) if data_format == "channels_last" else (0, 1, 3, 5, 2, 4)
    return from_last(N.reshape(N.transpose(y, order), (n, h // b, w // b, c * b * b)), data_format)
