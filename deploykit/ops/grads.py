"""Helpers for writing ``vjp`` rules: they work on arrays (eager) and on traced values with symbolic shapes alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim, DimLike, Shape
from deploykit.ops.core import F


def np_dtype(x: Any) -> np.dtype:
    """NumPy dtype of an array or a traced value."""
    return dtypes.dtype(x.dtype).np


def scalar(value: float, like: Any) -> np.ndarray:
    """A scalar constant of ``like``'s dtype."""
    return np.asarray(value).astype(np_dtype(like))


def constant_of(x: Any) -> np.ndarray | None:
    """The data of an argument that is known while tracing (an array, or a graph constant), else None."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.asarray(x)
    if hasattr(x, "__dk_constant__"):  # a tensor: its array, None while it is traced
        return x.__dk_constant__()
    return getattr(x, "data", None) if not hasattr(x, "__array__") else np.asarray(x)


def rank_of(x: Any) -> int:
    """The rank, which gradients that move axes must know."""
    if x.shape is None:
        raise ValueError("this gradient needs to know the rank of its input")
    return len(x.shape)


def static(shape: Shape | None) -> bool:
    """True when every dim is a number."""
    return shape is not None and not any(isinstance(d, Dim) for d in shape)


def known_dim(x: Any, axis: int) -> int:
    """A dim that a gradient or decomposition must know as a number."""
    d = None if x.shape is None else x.shape[axis]
    if not isinstance(d, int):
        raise ValueError(f"needs to know the size of dim {axis}; got {x.shape}")
    return d


def shape_value(x: Any) -> Any:
    """The shape as an int64 vector: a constant when it is known, else ``shape_of(x)``."""
    if static(x.shape):
        return np.array(x.shape, dtype=np.int64)
    return F.shape_of(x)


def dim_value(x: Any, axis: int) -> Any:
    """One dim as an int64 scalar (constant when known)."""
    d = x.shape[axis]
    if not isinstance(d, Dim):
        return np.array(d, dtype=np.int64)
    return F.squeeze(F.gather(F.shape_of(x), np.array([axis % len(x.shape)])), np.array([0]))


def zeros_like(x: Any) -> Any:
    """Zeros in the shape and dtype of x."""
    return F.fill(shape_value(x), scalar(0, x))


def ones_like(x: Any) -> Any:
    """Ones in the shape and dtype of x."""
    return F.fill(shape_value(x), scalar(1, x))


def broadcast_to(g: Any, x: Any) -> Any:
    """g expanded to the shape of x."""
    return F.expand(g, shape_value(x))


def reshape_like(g: Any, x: Any) -> Any:
    """g in the shape of x."""
    return F.reshape(g, shape_value(x), allow_zero=True)


def sum_to(g: Any, x: Any) -> Any:
    """Add up g over the dims along which x was broadcast, so that it gets x's shape: the gradient of broadcasting.

    Where symbolic shapes leave open which dims those are, they are found at run time by comparing the two shapes.
    """
    gs, xs = g.shape, x.shape
    if gs == xs and gs is not None:
        return g
    if gs is not None and xs is not None:
        lead = len(gs) - len(xs)
        pairs: list[tuple[DimLike, DimLike]] = [(d, 1) for d in gs[:lead]] + list(zip(gs[lead:], xs, strict=True))
        if all(a == b or b == 1 for a, b in pairs):
            axes = [i for i, (a, b) in enumerate(pairs) if i < lead or a != b]
            g = F.reduce_sum(g, np.array(axes, np.int64), keepdims=True)
            return F.reshape(g, shape_value(x), allow_zero=True) if lead else g
    want = F.shape_of(x)
    if gs is None or xs is None or len(gs) != len(xs):
        # align at the right: as many ones in front as g has more dims
        extra = F.reshape(F.sub(F.size_of(F.shape_of(g)), F.size_of(want)), np.array([1]))
        want = F.concat(F.fill(extra, np.array(1, np.int64)), want, axis=0)
    differ = F.non_zero(F.not_equal(F.shape_of(g), want))
    axes = F.reshape(differ, np.array([-1]))
    return F.reshape(F.reduce_sum(g, axes, keepdims=True, noop_if_empty=True), F.shape_of(x), allow_zero=True)


def scatter_axis(g: Any, index: Any, size: Any, axis: int) -> Any:
    """The gradient of taking places ``index`` (an int64 vector) along an axis of length ``size`` (an int64 scalar):
    zeros of that length, to which the slices of g are added at their places."""
    rank = rank_of(g)
    front = [axis, *(i for i in range(rank) if i != axis)]
    moved = F.transpose(g, perm=front) if axis else g
    rest = F.shape_of(moved, start=1) if not static(moved.shape) else np.array(moved.shape[1:], np.int64)
    zeros = F.fill(F.concat(F.unsqueeze(size, np.array([0])), rest, axis=0), scalar(0, g))
    out = F.scatter_nd(zeros, F.unsqueeze(index, np.array([1])), moved, reduction="add")
    return F.transpose(out, perm=tuple(int(i) for i in np.argsort(front))) if axis else out
