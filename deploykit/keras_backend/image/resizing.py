"""Resizing: by op ``resize`` where it has the method, else by one matrix of weights per dim.  Signatures are Keras'."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.image.colours import back, images_of
from deploykit.ops.core import F

RESIZE_INTERPOLATIONS = ("bilinear", "nearest", "lanczos3", "lanczos5", "bicubic")
SCALE_AND_TRANSLATE_METHODS = (
    "linear", "bilinear", "trilinear", "cubic", "bicubic", "tricubic", "lanczos3", "lanczos5",
)  # fmt: skip


def _cubic(x):
    """Keys' kernel (1981), a = -0.5."""
    near, far = ((1.5 * x - 2.5) * x) * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x >= 2.0, 0.0, np.where(x >= 1.0, far, near))


def _lanczos(radius):
    return lambda x: np.where(x > radius, 0.0, np.sinc(x) * np.sinc(x / radius))


_KERNELS = {
    **dict.fromkeys(("linear", "bilinear", "trilinear"), lambda x: np.maximum(0.0, 1.0 - x)),
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), _cubic),
    "lanczos3": _lanczos(3.0),
    "lanczos5": _lanczos(5.0),
}


def _weights(n, m, scale, shift, method, antialias):
    """[n, m]: how much of each of n samples goes into each of m; a sample i lies at i + 0.5, scaled and shifted."""
    at = (np.arange(m) + 0.5 - shift) / scale - 0.5
    width = max(1.0 / scale, 1.0) if antialias else 1.0
    w = _KERNELS[method](np.abs(at[None] - np.arange(n)[:, None]) / width)
    total = w.sum(0, keepdims=True)
    w = np.where(np.abs(total) > 1e-4, w / np.where(total == 0, 1.0, total), 0.0)
    return np.where((at >= -0.5) & (at <= n - 0.5), w, 0.0)


def _apply(x, plans):
    """x times a matrix along each (axis, matrix); integers are rounded and kept within x's range."""
    to = x.dtype
    y = x if dtypes.dtype(to).kind == "f" else convert_to_tensor(x, "float32")
    for axis, w in plans:
        y = N.moveaxis(F.matmul(N.moveaxis(y, axis, -1), w.astype(y.dtype)), -1, axis)
    if y.dtype == to:
        return y
    wide = convert_to_tensor(x, "float32")
    return N.cast(F.minimum(F.maximum(F.round(y), N.min(wide)), N.max(wide)), to)


def scale_and_translate(images, output_shape, scale, translation, spatial_dims, method, antialias=True):
    if method not in SCALE_AND_TRANSLATE_METHODS:
        raise ValueError(
            f"Invalid value for argument `method`. Expected of one {SCALE_AND_TRANSLATE_METHODS}. Received: method={method}"
        )
    x = convert_to_tensor(images)
    scale, translation = (np.asarray(convert_to_tensor(v, "float64")) for v in (scale, translation))
    plans = []
    for i, d in enumerate(spatial_dims):
        d %= x.ndim
        plans.append(
            (d, _weights(x.shape[d], output_shape[d], float(scale[i]), float(translation[i]), method, antialias))
        )
    return _apply(x, plans)


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
    x, first = images_of(images, data_format)
    height, width = (int(s) for s in size)
    x = _fit_aspect(x, height, width, crop_to_aspect_ratio, pad_to_aspect_ratio, fill_value)
    axes = (x.ndim - 3, x.ndim - 2)
    now = (x.shape[axes[0]], x.shape[axes[1]])
    if interpolation == "nearest" or (interpolation == "bilinear" and not antialias and _floats(x)):
        mode = dict(mode="nearest", nearest="round_prefer_ceil") if interpolation == "nearest" else dict(mode="linear")
        y = F.resize(x, None, None, np.array([height, width], np.int64), axes=axes, coordinates="half_pixel", **mode)
        return back(y, first)
    plans = [
        (a, _weights(n, m, m / n, 0.0, interpolation, antialias))
        for a, n, m in zip(axes, now, (height, width), strict=True)
        if n != m
    ]
    return back(_apply(x, plans), first)


def _floats(x):
    return dtypes.dtype(x.dtype).kind == "f"


def _fit_aspect(x, height, width, crop, pad, fill_value):
    h, w = x.shape[-3], x.shape[-2]
    if crop:
        ch = max(min(h, int(float(w * height) / width)), 1)
        cw = max(min(w, int(float(h * width) / height)), 1)
        top, left = int(float(h - ch) / 2), int(float(w - cw) / 2)
        return x[..., top : top + ch, left : left + cw, :]
    if pad:
        ph, pw = max(h, int(float(w * height) / width)), max(w, int(float(h * width) / height))
        top, left = int(float(ph - h) / 2), int(float(pw - w) / 2)
        # as much behind as before, and one dim only: as Keras does
        pads = [(top, top), (0, 0)] if top > 0 else [(0, 0), (left, left)]
        return N.pad(x, [(0, 0)] * (x.ndim - 3) + pads + [(0, 0)], constant_values=fill_value)
    return x
