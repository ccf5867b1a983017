"""``keras.backend.image``: colours and resizing by our ops."""

from __future__ import annotations

import numpy as np
from keras.src import backend

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.missing import missing
from deploykit.ops.core import F

RESIZE_INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
AFFINE_TRANSFORM_INTERPOLATIONS = ("nearest", "bilinear")
AFFINE_TRANSFORM_FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
MAP_COORDINATES_FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
SCALE_AND_TRANSLATE_METHODS = (
    "linear",
    "bilinear",
    "trilinear",
    "cubic",
    "bicubic",
    "tricubic",
    "lanczos3",
    "lanczos5",
)


def _images(images, data_format):
    x = convert_to_tensor(images)
    if x.ndim not in (3, 4):
        raise ValueError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). Received input with shape: "
            f"images.shape={tuple(x.shape)}"
        )
    first = backend.standardize_data_format(data_format) == "channels_first"
    return N.moveaxis(x, -3, -1) if first else x, first


def _back(y, first):
    return N.moveaxis(y, -1, -3) if first else y


def rgb_to_grayscale(images, data_format=None):
    x, first = _images(images, data_format)
    to = x.dtype
    x = x if dtypes.dtype(to).kind == "f" else convert_to_tensor(x, "float32")
    y = N.sum(F.mul(x, np.array([0.2989, 0.5870, 0.1140]).astype(x.dtype)), -1, True)
    return convert_to_tensor(_back(y, first), to)


def _float_images(images, data_format):
    x, first = _images(images, data_format)
    if dtypes.dtype(x.dtype).kind != "f":
        raise ValueError(f"Invalid images dtype: expected float dtype. Received: images.dtype={x.dtype}")
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
    return _back(N.stack([hue, saturation, top], -1), first)


def hsv_to_rgb(images, data_format=None):
    x, first = _float_images(images, data_format)
    h, s, v = (x[..., i] for i in range(3))

    def channel(n):
        k = F.mod(F.add(F.mul(h, 6.0), float(n)), 6.0, fmod=False)
        w = N.clip(F.minimum(k, F.sub(4.0, k)), 0.0, 1.0)
        return F.sub(v, F.mul(F.mul(v, s), w))

    return _back(N.stack([channel(5), channel(3), channel(1)], -1), first)


def resize(
    images,
    size,
    interpolation="bilinear",
    antialias=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    fill_mode="constant",
    fill_value=0.0,
    data_format=None,
):
    if interpolation not in RESIZE_INTERPOLATIONS:
        raise ValueError(
            "Invalid value for argument `interpolation`. Expected of one "
            f"{RESIZE_INTERPOLATIONS}. Received: interpolation={interpolation}"
        )
    if fill_mode != "constant":
        raise ValueError(
            f"Invalid value for argument `fill_mode`. Only `'constant'` is supported. Received: fill_mode={fill_mode}"
        )
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ValueError("Only one of `pad_to_aspect_ratio` & `crop_to_aspect_ratio` can be `True`.")
    if len(size) != 2:
        raise ValueError(f"Argument `size` must be a tuple of two elements (height, width). Received: size={size}")
    x, first = _images(images, data_format)
    to = x.dtype
    height, width = (int(s) for s in size)
    h, w = x.shape[-3], x.shape[-2]
    if crop_to_aspect_ratio:
        ch, cw = max(min(h, int(w * height / width)), 1), max(min(w, int(h * width / height)), 1)
        top, left = (h - ch) // 2, (w - cw) // 2
        x = x[..., top : top + ch, left : left + cw, :]
    elif pad_to_aspect_ratio:
        ph, pw = max(h, int(w * height / width)), max(w, int(h * width / height))
        top, left = (ph - h) // 2, (pw - w) // 2
        pads = [(0, 0)] * (x.ndim - 3) + [(top, ph - h - top), (left, pw - w - left), (0, 0)]
        x = N.pad(x, pads, constant_values=fill_value)
    if interpolation.startswith("lanczos"):
        return missing("image")(f"resize(interpolation='{interpolation}')")()
    work = x if dtypes.dtype(to).kind == "f" or interpolation == "nearest" else convert_to_tensor(x, "float32")
    mode = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}[interpolation]
    how = dict(mode=mode, axes=(x.ndim - 3, x.ndim - 2), coordinates="half_pixel", antialias=bool(antialias))
    if interpolation == "nearest":
        how.update(nearest="floor", antialias=False)
        how["coordinates"] = "half_pixel"
        how["nearest"] = "round_prefer_ceil"
    if interpolation == "bicubic":
        how.update(cubic_a=-0.5, exclude_outside=True)
    y = F.resize(work, None, None, np.array([height, width], np.int64), **how)
    if y.dtype != to:
        y = F.round(y) if dtypes.dtype(y.dtype).kind == "f" else y
        y = N.cast(y, to)
    return _back(y, first)


__getattr__ = missing("image")
