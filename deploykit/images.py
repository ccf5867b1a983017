"""Image files as inputs of a model: resized, in its layout, scaled as its metadata says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import InputError


def read_image(path: Path, spec: Any, preprocessing: dict[str, Any]) -> np.ndarray:
    """An image file as a batch of one in the layout and size of the spec."""
    from PIL import Image

    if spec.shape is None or len(spec.shape) not in (3, 4):
        raise InputError(f"input '{spec.name}' is {spec}: not an image.")
    shape = list(spec.shape)[-3:]
    first = isinstance(shape[0], int) and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
    channels, h, w = (shape[0], shape[1], shape[2]) if first else (shape[2], shape[0], shape[1])
    image = Image.open(path).convert({1: "L", 4: "RGBA"}.get(channels, "RGB"))
    width = w if isinstance(w, int) else image.width
    height = h if isinstance(h, int) else image.height
    array = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    array = array[..., None] if array.ndim == 2 else array
    if spec.dtype not in ("uint8", "int8"):
        low, high = preprocessing.get("range", (0.0, 1.0))
        floats = array.astype(np.float32) / 255 * (high - low) + low
        mean, std = (np.asarray(preprocessing.get(k, v), np.float32) for k, v in (("mean", 0), ("std", 1)))
        array = (floats - mean) / std
    elif spec.dtype == "int8":
        array = (array.astype(np.int16) - 128).astype(np.int8)
    if first:
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array.reshape((1,) * (len(spec.shape) - 3) + array.shape))
