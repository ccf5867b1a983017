"""Batch normalisation while training: statistics, normalisation and activation in two passes over memory, and their
gradient in two.  float32 and float64."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deploykit.ops.core import Enum, F, Spec, op
from deploykit.ops.grads import broadcast_to, np_dtype, rank_of, scalar, static, sum_to
from deploykit.ops.norm import _along, _check_vector
from deploykit.ops.numerics import back, wide
from deploykit.ops.rules import axis_of, error, require_rank, require_same_dtype
from deploykit.ops.samples import heavy as cases
from deploykit.ops.through import vjp_through

_ATTRS = dict(epsilon=1e-5, axis=-1, act=Enum("none", "relu", "relu6"))
_LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


def _check(x: Spec, axis: int, **vectors: Spec) -> tuple[Any, Any]:
    """(dtype, shape of a vector along the axis)."""
    dtype = require_same_dtype(x, *vectors.values())
    if dtype.name not in ("float32", "float64"):
        raise error("dtype", dtype, "float32 or float64")
    require_rank(x, 1, 99)
    c = None if x.shape is None else x.shape[axis_of(axis, len(x.shape))]
    for what, s in vectors.items():
        if c is not None:
            _check_vector(what, s, c)
        if c is None and s.shape is not None:
            c = s.shape[0]
    return dtype, None if c is None else (c,)


def _rest(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i != axis % rank)


def _count(x: Any, axis: int) -> Any:
    """Elements per channel (at least 1), as a scalar of x's dtype."""
    if static(x.shape):
        return scalar(max(1, prod(x.shape[i] for i in _rest(len(x.shape), axis))), x)
    channels = F.gather(F.shape_of(x), np.array(axis % rank_of(x), np.int64), axis=0)
    return F.cast(F.div(F.maximum(F.size_of(x), channels), channels), dtype=np_dtype(x))


def _add_up(t: Any, axis: int) -> Any:
    rank = rank_of(t)
    return F.reduce_sum(t, np.array(_rest(rank, axis), np.int64), keepdims=False, noop_if_empty=True)


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else F.add(a, b)


def _act(v: Any, act: str) -> Any:
    return F.relu(v) if act == "relu" else F.relu6(v) if act == "relu6" else v


@op(
    380,
    "x, scale, bias -> y, mean, variance",
    attrs=_ATTRS,
    flags="inplace",
    profile="training",
    none_gradients=True,
)
class batch_norm_train:
    """act((x - mean) / sqrt(variance + epsilon) * scale + bias) with mean and (biased) variance of x over all dims but
    ``axis``; both are results too, vectors.  An empty batch has mean and variance 0."""

    samples = cases.batch_norm_train

    def infer(x, scale, bias, *, epsilon, axis, act):
        dtype, vector = _check(x, axis, scale=scale, bias=bias)
        return Spec(dtype, x.shape), Spec(dtype, vector), Spec(dtype, vector)

    def reference(x, scale, bias, *, epsilon, axis, act):
        rest, wx = _rest(x.ndim, axis), wide(x).astype(np.float64)
        shape = (-1,) + (1,) * (x.ndim - 1 - axis % x.ndim)
        n = max(1, prod(x.shape[i] for i in rest))
        mean = wx.sum(rest) / n
        variance = np.square(wx - mean.reshape(shape)).sum(rest) / n
        factor = wide(scale) / np.sqrt(variance + epsilon)
        y = (wx - mean.reshape(shape)) * factor.reshape(shape) + wide(bias).reshape(shape)
        if act != "none":
            y = np.clip(y, *_LIMITS[act])
        return back(y, x.dtype), back(mean, x.dtype), back(variance, x.dtype)

    def decompose(x, scale, bias, *, epsilon, axis, act):
        rank, n = rank_of(x), _count(x, axis)
        mean = F.div(_add_up(x, axis), n)
        d = F.sub(x, _along(mean, axis, rank))
        variance = F.div(_add_up(F.mul(d, d), axis), n)
        factor = F.mul(F.rsqrt(F.add(variance, scalar(epsilon, variance))), scale)
        y = F.add(F.mul(d, _along(factor, axis, rank)), _along(bias, axis, rank))
        return _act(y, act), mean, variance

    def vjp(g, y, x, scale, bias, *, epsilon, axis, act):
        of_y, of_mean, of_variance = g
        _, mean, variance = y
        gx = gscale = gbias = None
        if of_y is not None:
            gx, gscale, gbias = F.batch_norm_train_gradient(
                of_y, x, scale, bias, mean, variance, epsilon=epsilon, axis=axis, act=act
            )
        rank = rank_of(x)
        if of_mean is not None:
            gx = _plus(gx, broadcast_to(_along(F.div(of_mean, _count(x, axis)), axis, rank), x))
        if of_variance is not None:
            slope = F.div(F.mul(of_variance, scalar(2, x)), _count(x, axis))
            gx = _plus(gx, F.mul(F.sub(x, _along(mean, axis, rank)), _along(slope, axis, rank)))
        return gx, gscale, gbias


@op(
    381,
    "g, x, scale, bias, mean, variance -> gx, gscale, gbias",
    attrs=_ATTRS,
    flags="inplace",
    tolerance="loose",  # of the largest result: sums over a batch cancel, so their terms are larger
    profile="training",
)
class batch_norm_train_gradient:
    """Gradients of batch_norm_train's x, scale and bias from that of its y; the activation's slope is found from x."""

    samples = cases.batch_norm_train_gradient

    def infer(g, x, scale, bias, mean, variance, *, epsilon, axis, act):
        dtype, vector = _check(x, axis, scale=scale, bias=bias, mean=mean, variance=variance)
        require_same_dtype(x, g, what="x and g")
        if g.shape is not None and x.shape is not None and len(g.shape) != len(x.shape):
            raise error("rank of g", len(g.shape), len(x.shape))
        for a, b in zip(g.shape or (), x.shape or (), strict=False):
            if isinstance(a, int) and isinstance(b, int) and a != b:
                raise error("shape of g", g.shape, x.shape)
        return Spec(dtype, x.shape), Spec(dtype, vector), Spec(dtype, vector)

    def reference(g, x, scale, bias, mean, variance, *, epsilon, axis, act):
        rest = _rest(x.ndim, axis)
        shape = (-1,) + (1,) * (x.ndim - 1 - axis % x.ndim)
        n = max(1, prod(x.shape[i] for i in rest))
        h, s, b, m, v = (wide(t).astype(np.float64) for t in (g, scale, bias, mean, variance))
        d = wide(x) - m.reshape(shape)
        r = 1 / np.sqrt(v + epsilon)
        if act != "none":
            low, high = _LIMITS[act]
            y = d * (s * r).reshape(shape) + b.reshape(shape)
            h = np.where((y > low) & (y < high), h, 0)
        total, moved = h.sum(rest), (h * d).sum(rest)
        inner = h - (total / n).reshape(shape) - d * (moved * r * r / n).reshape(shape)
        return back(inner * (s * r).reshape(shape), x.dtype), back(moved * r, x.dtype), back(total, x.dtype)

    def decompose(g, x, scale, bias, mean, variance, *, epsilon, axis, act):
        rank, n = rank_of(x), _count(x, axis)

        def along(v: Any) -> Any:
            return _along(v, axis, rank)

        d = F.sub(x, along(mean))
        r = F.rsqrt(F.add(variance, scalar(epsilon, variance)))
        factor = F.mul(r, scale)
        h = g
        if act != "none":
            y = F.add(F.mul(d, along(factor)), along(bias))
            inside = F.greater(y, 0.0) if act == "relu" else F.logical_and(F.greater(y, 0.0), F.less(y, 6.0))
            h = F.where(inside, g, scalar(0, g))
        total, moved = _add_up(h, axis), _add_up(F.mul(h, d), axis)
        slope = F.div(F.mul(moved, F.mul(r, r)), n)
        inner = F.sub(F.sub(h, along(F.div(total, n))), F.mul(d, along(slope)))
        return F.mul(inner, along(factor)), F.mul(moved, r), sum_to(total, bias)

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(F.batch_norm_train_gradient.decompose, g, inputs, attrs)
