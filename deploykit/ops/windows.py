"""Sliding windows: the size and padding arithmetic that conv, pool and patches share, for numbers and symbolic dims.

:func:`window` turns the attrs of an op into one complete :class:`Window`; the rest are NumPy helpers of the references.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from deploykit.graph.dims import DimLike, dim_max, dim_min
from deploykit.ops.rules import error

# Rows of patches that the references copy at once: large models run in bounded memory.
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Window:
    """Complete geometry, one entry per spatial dim.  ``out``, ``kernel``, ``before``, ``after`` hold numbers when the
    sizes are numbers (always so in references), else Dims.  ``after`` may be negative: rows that no window reaches."""

    out: tuple[Any, ...]
    kernel: tuple[Any, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]


def per_dim(attr: str, value: tuple[int, ...], n: int, default: int, least: int) -> tuple[int, ...]:
    """An attr with one entry per spatial dim, () meaning ``default`` everywhere; raises ShapeError."""
    value = tuple(value) or (default,) * n
    if len(value) != n:
        raise error(f"{attr} has {len(value)} entries", value, f"{n}, one per spatial dim")
    if min(value, default=least) < least:
        raise error(f"{attr} too small", value, f"at least {least}")
    return value


def window(
    size: tuple[DimLike, ...],
    kernel: tuple[DimLike, ...],
    strides: tuple[int, ...] = (),
    dilations: tuple[int, ...] = (),
    pads: tuple[int, ...] = (),
    pad_mode: str = "explicit",
    ceil_mode: bool = False,
) -> Window:
    """Output sizes and paddings of windows over spatial dims of these sizes; raises ShapeError.

    explicit: (size + pads - extent) // stride + 1 with extent = dilation * (kernel - 1) + 1; ceil_mode rounds up but
    never lets a window start behind the input and its leading padding.  same_*: ceil(size / stride), the padding that
    this needs split evenly, the odd one after (same_upper) or before (same_lower).

    >>> window((5,), (3,), strides=(2,), pad_mode="same_upper").out
    (3,)
    """
    n = len(size)
    if len(kernel) != n:
        raise error("kernel and input differ in their spatial dims", len(kernel), n)
    strides = per_dim("strides", strides, n, 1, 1)
    dilations = per_dim("dilations", dilations, n, 1, 1)
    if len(pads) not in (0, 2 * n):
        raise error("pads has the wrong length", pads, f"{2 * n} entries, all befores then all afters")
    if pad_mode != "explicit" and any(pads):
        raise error(f"pads given together with pad_mode {pad_mode}", pads, "()")
    pads = tuple(pads) or (0,) * (2 * n)
    out: list[DimLike] = []
    before: list[DimLike] = []
    after: list[DimLike] = []
    for i in range(n):
        b: DimLike
        a: DimLike
        o: DimLike
        extent = dilations[i] * (kernel[i] - 1) + 1
        s = strides[i]
        k = kernel[i]
        if isinstance(k, int) and k < 1:
            raise error("empty kernel", kernel, "sizes of at least 1")
        if pad_mode == "explicit":
            b, a = pads[i], pads[n + i]
            room = size[i] + b + a - extent
            if isinstance(room, int) and room < 0:
                raise error(f"window of {extent} is larger than the padded input of {size[i] + b + a} (dim {i + 1})")
            o = room // s + 1
            if ceil_mode:
                o = (room + s - 1) // s + 1
                # the last window starts behind the input only when it is shorter than the end padding and a stride
                if not (isinstance(extent, int) and extent >= a + s):
                    o = dim_min(o, (size[i] + b - 1) // s + 1)
        else:
            o = (size[i] + s - 1) // s
            total = dim_max((o - 1) * s + extent - size[i], 0)
            b = total // 2 if pad_mode == "same_upper" else total - total // 2
            a = total - b
        out.append(o)
        before.append(b)
        after.append(a)
    return Window(tuple(out), tuple(kernel), strides, dilations, tuple(before), tuple(after))


def pad_spatial(x: np.ndarray, before: tuple[int, ...], after: tuple[int, ...], value: object = 0) -> np.ndarray:
    """Pad (or crop, where negative) the spatial dims of [N, spatial..., C]."""
    crop = tuple(
        slice(max(-b, 0), x.shape[i + 1] - max(-a, 0)) for i, (b, a) in enumerate(zip(before, after, strict=True))
    )
    x = x[(slice(None), *crop)]
    widths = [(0, 0), *((max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)), (0, 0)]
    if not any(map(any, widths)):
        return x
    out = np.full([d + b + a for d, (b, a) in zip(x.shape, widths, strict=True)], value, dtype=x.dtype)
    out[tuple(slice(b, b + d) for d, (b, _) in zip(x.shape, widths, strict=True))] = x
    return out


def fit(w: Window, size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Paddings before and after that make the input exactly as long as its windows reach."""
    need = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(w.out, w.strides, w.dilations, w.kernel, strict=True)]
    return w.before, tuple(n - z - b for n, z, b in zip(need, size, w.before, strict=True))


def patches(x: np.ndarray, w: Window, value: object = 0) -> np.ndarray:
    """Read-only view [N, out..., C, kernel...] of all windows over [N, spatial..., C], padded with ``value``."""
    n = len(w.kernel)
    x = pad_spatial(x, *fit(w, x.shape[1:-1]), value)
    step = x.strides
    shape = (x.shape[0], *w.out, x.shape[-1], *w.kernel)
    strides = (
        step[0],
        *(step[1 + i] * w.strides[i] for i in range(n)),
        step[-1],
        *(step[1 + i] * w.dilations[i] for i in range(n)),
    )
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def taps(x: np.ndarray, w: Window, value: object = 0):
    """Yield (index into the kernel, [N, out..., C] view of the padded input under that tap)."""
    x = pad_spatial(x, *fit(w, x.shape[1:-1]), value)
    for index in np.ndindex(*w.kernel):
        cut = tuple(
            slice(i * d, i * d + (o - 1) * s + 1 if o else 0, s)
            for i, d, o, s in zip(index, w.dilations, w.out, w.strides, strict=True)
        )
        yield index, x[(slice(None), *cut)]


def correlate(x: np.ndarray, weight: np.ndarray, w: Window, groups: int) -> np.ndarray:
    """Cross-correlation of [N, spatial..., C] with OHWI weights: [N, out..., O], in the dtype of x."""
    n_out, cg = weight.shape[0], weight.shape[-1]
    y = np.zeros((x.shape[0], *w.out, n_out), dtype=np.result_type(x, weight))
    if y.size == 0 or cg == 0:
        return y
    if cg == 1:  # depthwise: one multiply-add over the whole tensor per tap
        m = n_out // groups
        by_channel = y.reshape(*y.shape[:-1], groups, m)
        for index, view in taps(x, w):
            by_channel += view[..., None] * weight[(slice(None), *index, 0)].reshape(groups, m)
        return y
    view = patches(x, w)  # [N, out..., C, kernel...]
    k = prod(w.kernel)
    nd = len(w.kernel)
    order = (*range(nd + 1), *range(nd + 2, 2 * nd + 2), nd + 1)
    view = view.transpose(order)  # [N, out..., kernel..., C]
    mats = weight.reshape(groups, n_out // groups, k * cg).transpose(0, 2, 1)
    rows = max(1, CHUNK_BYTES // (prod(w.out[1:]) * k * x.shape[-1] * x.itemsize))
    for b in range(x.shape[0]):
        for start in range(0, w.out[0], rows):
            part = view[b, start : start + rows]
            lead = part.shape[:nd]
            cols: np.ndarray = np.ascontiguousarray(part).reshape(prod(lead), k, groups, cg)
            if groups == 1:
                y[b, start : start + rows] = (cols.reshape(-1, k * cg) @ mats[0]).reshape(*lead, n_out)
            else:
                cols = cols.transpose(2, 0, 1, 3).reshape(groups, -1, k * cg)
                y[b, start : start + rows] = (cols @ mats).transpose(1, 0, 2).reshape(*lead, n_out)
    return y
