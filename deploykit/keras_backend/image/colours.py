"""Colours; what all functions on images share."""

from __future__ import annotations

import numpy as np
from keras.src import backend

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.ops.core import F


def images_of(images, data_format):
    """(x with channels last, whether they came first); ValueError for other ranks than 3 and 4."""
    x = convert_to_tensor(images)
    if x.ndim not in (3, 4):
        raise ValueError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). Received input with shape: "
            f"images.shape={tuple(x.shape)}"
        )
    first = backend.standardize_data_format(data_format) == "channels_first"
    return N.moveaxis(x, -3, -1) if first else x, first


def back(y, first):
    """y with channels where they came."""
    return N.moveaxis(y, -1, -3) if first else y


def rgb_to_grayscale(images, data_format=None):
    x, first = images_of(images, data_format)
    if x.shape[-1] not in (1, 3):
        raise ValueError(f"Invalid channel size: expected 3 (RGB) or 1 (Grayscale). Received: {x.shape[-1]} channels.")
    to = x.dtype
    x = x if dtypes.dtype(to).kind == "f" else convert_to_tensor(x, "float32")
    y = N.sum(F.mul(x, np.array([0.2989, 0.5870, 0.1140]).astype(x.dtype)), -1, True)
    return convert_to_tensor(back(y, first), to)


def _float_images(images, data_format):
    x, first = images_of(images, data_format)
    if dtypes.dtype(x.dtype).kind != "f":
        raise ValueError(f"Invalid images dtype: expected float dtype. Received: images.dtype={x.dtype}")
    if x.shape[-1] != 3:
        raise ValueError(f"Input images must have 3 channels, but received images with {x.shape[-1]} channels.")
    return x, first


def rgb_to_hsv(images, data_format=None):
    x, first = _float_images(images, data_format)
    r, g, b = (x[..., i] for i in range(3))
    top = N.max(x, -1)
    span = F.sub(top, N.min(x, -1))
    safe = F.where(F.greater(span, 0.0), span, N.ones_like(span))
    whole = F.where(F.greater(top, 0.0), top, N.ones_like(top))
    saturation = F.where(F.greater(top, 0.0), F.div(span, whole), N.zeros_like(top))
    hue = F.where(
        F.equal(r, top),
        F.div(F.sub(g, b), safe),
        F.where(F.equal(g, top), F.add(F.div(F.sub(b, r), safe), 2.0), F.add(F.div(F.sub(r, g), safe), 4.0)),
    )
    hue = F.div(hue, 6.0)
    hue = F.where(F.less(hue, 0.0), F.add(hue, 1.0), hue)
    hue = F.where(F.greater(span, 0.0), hue, N.zeros_like(hue))
    return back(N.stack([hue, saturation, top], -1), first)


def hsv_to_rgb(images, data_format=None):
    x, first = _float_images(images, data_format)
    h, s, v = (x[..., i] for i in range(3))

    turn = F.mul(F.mod(h, np.ones((), h.dtype)), 6.0)
    ramps = (
        F.sub(F.abs(F.sub(turn, 3.0)), 1.0),
        F.sub(2.0, F.abs(F.sub(turn, 2.0))),
        F.sub(2.0, F.abs(F.sub(turn, 4.0))),
    )
    rest = F.sub(1.0, s)
    rgb = [F.mul(v, F.add(rest, F.mul(s, N.clip(r, 0.0, 1.0)))) for r in ramps]
    return back(N.stack(rgb, -1), first)
