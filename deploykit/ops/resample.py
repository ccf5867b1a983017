"""Resize as one small linear map per axis: which input elements each output element reads, and with what weights.

Coordinates are computed in float32 in the order the formulas say, as other runtimes do: near a tie the last bit decides
which pixel ``nearest`` takes.  Formulas: ONNX Resize; cubic kernel: Keys 1981.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.ops.rules import error

_F = np.float32


@dataclass(frozen=True)
class Axis:
    """One resized axis: sizes before and after, scale, the length that the scale means (fractional when a scale was
    given and the size is its floor), and the region of interest as fractions of the input."""

    axis: int
    n_in: int
    n_out: int
    scale: np.float32
    length: np.float32
    start: np.float32 = _F(0)
    end: np.float32 = _F(1)


def scaled_size(n: int, scale: float | np.floating) -> int:
    """floor(n * scale) in float32."""
    return int(np.floor(_F(n) * _F(scale)))


def fitted_scale(sizes: Sequence[int], shape: Sequence[int], aspect: str) -> np.float32:
    """The one scale of not_larger / not_smaller."""
    ratios = [_F(s) / _F(d) for s, d in zip(sizes, shape, strict=True)]
    return min(ratios) if aspect == "not_larger" else max(ratios)


def plan(
    shape: Sequence[int],
    axes: Sequence[int],
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
    roi: np.ndarray | None,
    aspect: str,
) -> list[Axis]:
    """Sizes and scales of the axes (normalised, in the order of scales or sizes)."""
    n = len(axes)
    out = []
    for i, a in enumerate(axes):
        d = shape[a]
        if sizes is not None:
            size = int(sizes[i])
            scale, length = _F(size) / _F(d), _F(size)
            if aspect != "stretch":
                scale = fitted_scale([int(s) for s in sizes], [shape[b] for b in axes], aspect)
                size = int(np.floor(scale * _F(d) + _F(0.5)))
                length = scale * _F(d)
        else:
            assert scales is not None
            scale = _F(scales[i])
            size, length = scaled_size(d, scale), scale * _F(d)
        region = {} if roi is None else dict(start=_F(roi[i]), end=_F(roi[n + i]))
        out.append(Axis(a, d, size, scale, length, **region))
    return out


def coordinates(a: Axis, mode: str) -> np.ndarray:
    """Where each output element lies in the input, float32 [n_out]."""
    i = np.arange(a.n_out, dtype=_F)
    half = _F(0.5)
    if mode == "asymmetric":
        return i / a.scale
    if mode == "align_corners":
        return np.zeros_like(i) if a.length == 1 else i * _F(a.n_in - 1) / (a.length - _F(1))
    if mode == "tf_crop_and_resize":
        last = _F(a.n_in - 1)
        if a.n_out == 1:
            return np.full_like(i, half * (a.start + a.end) * last)
        return a.start * last + i * (a.end - a.start) * last / (a.length - _F(1))
    if mode == "pytorch_half_pixel" and a.n_out == 1:
        return np.zeros_like(i)
    x = (i + half) / a.scale - half
    if mode == "half_pixel_symmetric":
        # the centre of the output canvas, cut to a whole size, goes to the centre of the input
        x = _F(a.n_in) / _F(2) * (_F(1) - _F(a.n_out) / a.length) + x
    return x


def cubic_kernel(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel at distance x."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def axis_taps(a: Axis, attrs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices [n_out, taps] into the axis (within range), weights [n_out, taps] (float64), and which output elements
    lie outside the input (all False but for tf_crop_and_resize)."""
    mode = attrs["mode"]
    x = coordinates(a, attrs["coordinates"])
    outside = np.zeros(a.n_out, dtype=bool)
    if attrs["coordinates"] == "tf_crop_and_resize":
        outside = (x < 0) | (x > a.n_in - 1)
    if mode == "nearest":
        half = _F(0.5)
        pick = {
            "round_prefer_floor": lambda: np.ceil(x - half),
            "round_prefer_ceil": lambda: np.floor(x + half),
            "floor": lambda: np.floor(x),
            "ceil": lambda: np.ceil(x),
        }[attrs["nearest"]]()
        index = np.clip(pick, 0, a.n_in - 1).astype(np.int64)
        return index[:, None], np.ones((a.n_out, 1)), outside
    x = x.astype(np.float64)
    support = 1 if mode == "linear" else 2
    # shrinking with antialias widens the kernel so that it covers all input elements under one output element
    squeeze = min(float(a.scale), 1.0) if attrs["antialias"] else 1.0
    base = np.ceil(x) - 1  # the neighbour on the left, strictly
    first = int(np.floor(-support / squeeze)) + 1
    offsets = np.arange(first, 2 - first)
    index = base[:, None] + offsets
    distance = (index - x[:, None]) * squeeze
    if mode == "linear":
        weight = np.clip(1 - np.abs(distance), 0, 1)
    else:
        weight = cubic_kernel(distance, attrs["cubic_a"])
    if attrs["exclude_outside"]:
        weight = np.where((index >= 0) & (index < a.n_in), weight, 0.0)
    if attrs["exclude_outside"] or attrs["antialias"]:
        total = weight.sum(axis=1, keepdims=True)
        weight = weight / np.where(total == 0, 1, total)
    return np.clip(index, 0, a.n_in - 1).astype(np.int64), weight, outside


def along(x: np.ndarray, axis: int, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Apply one axis' taps to an array of floats."""
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    total = np.take(x, index[:, 0], axis) * weight[:, 0].reshape(shape)
    for t in range(1, index.shape[1]):
        total += np.take(x, index[:, t], axis) * weight[:, t].reshape(shape)
    return total


def matrix(n_in: int, index: np.ndarray, weight: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The same taps as a dense matrix [n_out, n_in]; rows of outside elements are zero."""
    m = np.zeros((index.shape[0], n_in))
    np.add.at(m, (np.arange(index.shape[0])[:, None], index), weight)
    m[outside] = 0
    return m


def check_choice(scales: Any, sizes: Any) -> None:
    """Raise unless exactly one of the two is given."""
    if (scales is None) == (sizes is None):
        raise error("scales and sizes", "both" if scales is not None else "none of them", "exactly one")
