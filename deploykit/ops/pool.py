"""Pooling, channels last: x [N, spatial..., C]."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Shape
from deploykit.ops.conv import check_shape, crop_ends, known_window, spread
from deploykit.ops.core import Enum, F, Required, Spec, op
from deploykit.ops.grads import dim_value, known_dim, np_dtype, rank_of, reshape_like, scalar
from deploykit.ops.numerics import back, lowest, wide
from deploykit.ops.rules import (
    error,
    fresh_shape,
    require_index,
    require_kind,
    require_rank,
    require_same_dtype,
    values_of,
)
from deploykit.ops.samples import heavy as cases
from deploykit.ops.through import vjp_through
from deploykit.ops.windows import Window, fit, per_dim, taps, window

_WINDOW = dict(
    kernel=Required("ints"),
    strides=(),
    dilations=(),
    pads=(),
    pad_mode=Enum("explicit", "same_upper", "same_lower"),
    ceil_mode=False,
)


def _pool_shape(x: Spec, kernel: tuple[int, ...], **geometry: Any) -> Shape | None:
    if not 1 <= len(kernel) <= 3:
        raise error("kernel", kernel, "1 to 3 sizes, one per spatial dim")
    require_rank(x, len(kernel) + 2)
    if x.shape is None:
        window(tuple(1 << 30 for _ in kernel), kernel, **geometry)  # the attrs alone must make sense
        return None
    return (x.shape[0], *window(x.shape[1:-1], kernel, **geometry).out, x.shape[-1])


@op(140, "x -> y, indices?", attrs=dict(**_WINDOW, column_major=False), tolerance="exact")
class max_pool:
    """Largest in each window, NaN if it holds one; padding never wins (a window of nothing but padding gives the
    dtype's lowest value).  indices (int64, shape of y): position of the winner in its spatial plane, flattened
    row-major (or column-major), first of equals.  With ceil_mode a window must still start inside the input or its
    leading padding (ONNX and PyTorch agree)."""

    samples = cases.max_pool

    def infer(x, *, column_major, **geometry):
        require_kind(x, "fiu")
        shape = _pool_shape(x, **geometry)
        return Spec(x.dtype, shape), Spec(dtypes.int64, shape)

    def reference(x, *, kernel, strides, dilations, pads, pad_mode, ceil_mode, column_major):
        size = x.shape[1:-1]
        w = window(size, kernel, strides, dilations, pads, pad_mode, ceil_mode)
        n = len(kernel)
        order = range(n) if column_major else reversed(range(n))
        plane, stride = np.zeros((1, *size, 1), dtype=np.int64), 1
        for i in order:
            plane += (np.arange(size[i]) * stride).reshape([-1 if d == i + 1 else 1 for d in range(n + 2)])
            stride *= size[i]
        best = np.full((x.shape[0], *w.out, x.shape[-1]), lowest(x.dtype), dtype=x.dtype)
        where = np.full(best.shape, -1, dtype=np.int64)
        for (_, value), (_, position) in zip(taps(x, w, lowest(x.dtype)), taps(plane, w, -1), strict=True):
            wins = (position >= 0) & ((where < 0) | (value > best) | ((value != value) & (best == best)))
            best = np.where(wins, value, best)
            where = np.where(wins, position, where)
        return best, where

    def vjp(g, y, x, *, column_major, **how):
        if np_dtype(x) in ("float32", "float64"):
            return (F.max_pool_gradient(x, y[0], g[0], **how),)
        return (F.max_pool_gradient.decompose(x, y[0], g[0], **how),)


@op(382, "x, y, g -> gx", attrs=_WINDOW, profile="training")
class max_pool_gradient:
    """Gradient of max_pool's x from that of its y: each element of g goes to the first of its window that is y.  float32
    and float64."""

    samples = cases.max_pool_gradient

    def infer(x, y, g, **geometry):
        dtype = require_same_dtype(x, y, g)
        if dtype.name not in ("float32", "float64"):
            raise error("dtype", dtype, "float32 or float64")
        shape = _pool_shape(x, **geometry)
        for which, s in (("y", y), ("g", g)):
            if shape is not None:
                check_shape(which, s, shape)
        return Spec(dtype, x.shape)

    def reference(x, y, g, **geometry):
        where = max_pool.reference(x, **geometry, column_major=False)[1]
        n, c = x.shape[0], x.shape[-1]
        out = np.zeros((n, prod(x.shape[1:-1]), c), np.float64)
        rows = where.reshape(n, prod(where.shape[1:-1]), c)
        batch, channel = np.arange(n)[:, None, None], np.arange(c)
        np.add.at(out, (batch, np.maximum(rows, 0), channel), np.where(rows >= 0, g.reshape(rows.shape), 0))
        return back(out.reshape(x.shape), x.dtype)

    def decompose(x, y, g, **how):
        where = F.max_pool(x, **how)[1]
        n, c = rank_of(x) - 2, known_dim(x, -1)
        batch, area = dim_value(x, 0), F.reduce_prod(F.shape_of(x, start=1, end=n + 1), keepdims=False)
        flat = F.concat(*(F.reshape(d, np.array([1])) for d in (batch, area, np.array(c))), axis=0)
        windows = F.reduce_prod(F.shape_of(where, start=1, end=n + 1), keepdims=False)
        rows = F.concat(*(F.reshape(d, np.array([1])) for d in (batch, windows, np.array(c))), axis=0)
        zeros = F.fill(flat, scalar(0, x))
        # the lowest value of a window of nothing but padding comes from nowhere: its place is -1
        index = F.reshape(where, rows)
        g = F.where(F.less(index, np.array(0, np.int64)), scalar(0, g), F.reshape(g, rows))
        index = F.maximum(index, np.array(0, np.int64))
        return reshape_like(F.scatter_elements(zeros, index, g, axis=1, reduction="add"), x)

    def vjp(g, gx, *inputs, **how):
        return vjp_through(F.max_pool_gradient.decompose, (g,), inputs, how)


def _counts(size: tuple[int, ...], w: Window, include_pad: bool) -> np.ndarray:
    """How many elements each window averages over: [out...]."""
    total = np.ones(w.out, dtype=np.int64)
    for i in range(len(size)):
        at = np.arange(w.out[i])[:, None] * w.strides[i] - w.before[i] + np.arange(w.kernel[i]) * w.dilations[i]
        low, high = (-w.before[i], size[i] + w.after[i]) if include_pad else (0, size[i])
        n = ((at >= low) & (at < high)).sum(axis=1)
        total = total * n.reshape([-1 if d == i else 1 for d in range(len(size))])
    return total


@op(141, "x -> y", attrs=dict(**_WINDOW, count_include_pad=False))
class avg_pool:
    """Mean of each window; padding counts only when count_include_pad (the overhang of ceil_mode never does); 0 where
    nothing counts."""

    samples = cases.avg_pool

    def infer(x, *, count_include_pad, **geometry):
        require_kind(x, "f")
        return Spec(x.dtype, _pool_shape(x, **geometry))

    def reference(x, *, kernel, strides, dilations, pads, pad_mode, ceil_mode, count_include_pad):
        size = x.shape[1:-1]
        w = window(size, kernel, strides, dilations, pads, pad_mode, ceil_mode)
        xw = wide(x)
        total = np.zeros((x.shape[0], *w.out, x.shape[-1]), dtype=xw.dtype)
        for _, value in taps(xw, w):
            total += value
        counts = np.maximum(_counts(size, w, count_include_pad), 1).astype(xw.dtype)
        return (total / counts[None, ..., None]).astype(x.dtype)

    def vjp(g, y, x, *, kernel, count_include_pad, **geometry):
        size = tuple(known_dim(x, i + 1) for i in range(len(kernel)))
        w = known_window(x, kernel, **geometry)
        counts = np.maximum(_counts(size, w, count_include_pad), 1).astype(np_dtype(x))
        c = known_dim(x, -1)
        return (spread(F.div(g, counts[..., None]), np.ones((c, *kernel, 1), np_dtype(x)), x, w, c),)


@op(142, "x -> y", attrs=dict(**_WINDOW, p=2))
class lp_pool:
    "(sum |x|^p)^(1/p) of each window, p >= 1."

    samples = cases.lp_pool

    def infer(x, *, p, **geometry):
        require_kind(x, "f")
        if p < 1:
            raise error("p", p, "at least 1")
        return Spec(x.dtype, _pool_shape(x, **geometry))

    def reference(x, *, kernel, strides, dilations, pads, pad_mode, ceil_mode, p):
        w = window(x.shape[1:-1], kernel, strides, dilations, pads, pad_mode, ceil_mode)
        xw = wide(x)
        total = np.zeros((x.shape[0], *w.out, x.shape[-1]), dtype=xw.dtype)
        for _, value in taps(xw, w):
            total += np.abs(value) ** p
        return (total ** xw.dtype.type(1 / p)).astype(x.dtype)

    def decompose(x, *, kernel, p, **geometry):
        for i in range(len(kernel)):
            known_dim(x, i + 1)
        w, c = known_window(x, kernel, **geometry), known_dim(x, -1)
        before, after = fit(w, x.shape[1:-1])
        behind = [max(0, -a) for a in after]  # rows behind the last window
        x = crop_ends(x, behind) if any(behind) else x
        pads = (*before, *(max(0, a) for a in after))
        powers = F.mul(x, x) if p == 2 else F.pow(F.abs(x), scalar(p, x))
        ones = np.ones((c, *kernel, 1), np_dtype(x))
        total = F.conv(powers, ones, strides=w.strides, dilations=w.dilations, pads=pads, groups=c)
        return F.sqrt(total) if p == 2 else F.pow(total, scalar(1 / p, x))

    def vjp(g, y, x, **attrs):
        return vjp_through(lp_pool.decompose, (g,), (x,), attrs)


@op(
    143,
    "x, indices, output_shape? -> y",
    attrs=dict(kernel=Required("ints"), strides=(), pads=()),
    tolerance="exact",
)
class max_unpool:
    """Scatter x to the plane positions in ``indices`` (row-major, as max_pool makes them), zeros elsewhere; the last of
    equal positions wins.  output_shape is the full channels-last shape; absent, each spatial size is
    (size - 1) * stride - pads + kernel.  The gradient assumes that positions differ."""

    samples = cases.max_unpool

    def infer(x, indices, output_shape=None, *, kernel, strides, pads):
        require_kind(x, "fiu")
        require_index(indices, "indices")
        require_index(output_shape, "output_shape")
        require_rank(x, len(kernel) + 2)
        wanted = values_of(output_shape)
        if wanted is not None:
            return Spec(x.dtype, tuple(wanted))
        if x.shape is None:
            return Spec(x.dtype, None)
        if output_shape is not None:
            return Spec(x.dtype, (x.shape[0], *fresh_shape(len(kernel)), x.shape[-1]))
        return Spec(x.dtype, (x.shape[0], *_unpooled(x.shape[1:-1], kernel, strides, pads), x.shape[-1]))

    def reference(x, indices, output_shape=None, *, kernel, strides, pads):
        if output_shape is not None:
            shape = tuple(int(d) for d in output_shape)
        else:
            shape = (x.shape[0], *_unpooled(x.shape[1:-1], kernel, strides, pads), x.shape[-1])
        y = np.zeros((shape[0], int(np.prod(shape[1:-1])), shape[-1]), dtype=x.dtype)
        flat = indices.reshape(x.shape[0], -1, x.shape[-1])
        np.put_along_axis(y, flat, x.reshape(flat.shape), axis=1)
        return y.reshape(shape)

    def vjp(g, y, x, indices, output_shape=None, **_):
        c = known_dim(x, -1)
        rows = F.concat(F.reshape(dim_value(x, 0), np.array([1])), np.array([-1, c]), axis=0)
        return reshape_like(F.gather_elements(F.reshape(g, rows), F.reshape(indices, rows), axis=1), x), None, None


def _unpooled(size: tuple, kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]) -> tuple:
    n = len(kernel)
    strides = per_dim("strides", strides, n, 1, 1)
    pads = per_dim("pads", pads, 2 * n, 0, 0)
    return tuple((size[i] - 1) * strides[i] - pads[i] - pads[n + i] + kernel[i] for i in range(n))
