"""Blur and edges: depthwise convolutions with fixed weights.  Signatures are Keras' own."""

from __future__ import annotations

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.image.colours import back, images_of
from deploykit.ops.core import F


def _depthwise(x, kernel):
    """x [N, H, W, C] with one kernel [kh, kw] for all channels, same size."""
    c = x.shape[-1]
    weight = N.broadcast_to(N.reshape(kernel, (1, *kernel.shape, 1)), (c, *kernel.shape, 1))
    return F.conv(x, weight, groups=c, pad_mode="same_upper")


def _batched(x):
    return (x, False) if x.ndim == 4 else (N.expand_dims(x, 0), True)


def gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None):
    x, first = images_of(images, data_format)
    x, single = _batched(x)
    sigma = convert_to_tensor(sigma, x.dtype)

    def line(size, s):
        at = (np.arange(size) - (size - 1) / 2).astype(x.dtype)
        k = F.exp(F.mul(F.square(F.div(at, s)), -0.5))
        return F.div(k, N.sum(k))

    kernel = N.outer(line(kernel_size[1], sigma[1]), line(kernel_size[0], sigma[0]))
    y = _depthwise(x, kernel)
    return back(N.squeeze(y, 0) if single else y, first)


def sobel_edges(images, data_format=None):
    """[..., 2] of the differences along height and width."""
    x, first = images_of(images, data_format)
    x, single = _batched(x)
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).astype(x.dtype)
    parts = [_depthwise(x, convert_to_tensor(k)) for k in (across.T, across)]
    parts = [back(N.squeeze(p, 0) if single else p, first) for p in parts]
    return N.stack(parts, -1)
