"""Normalisation.  ``axis`` names the channel axis; importers of NCHW formats move channels last first."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deploykit.graph.dims import Shape
from deploykit.ops.core import F, Spec, op
from deploykit.ops.grads import dim_value, known_dim, rank_of, reshape_like, scalar, static, sum_to
from deploykit.ops.numerics import back, wide
from deploykit.ops.rules import axis_of, broadcast_shapes, error, require_kind, require_rank, require_same_dtype, show
from deploykit.ops.samples import heavy as cases
from deploykit.ops.through import vjp_through


def _check_fits(what: str, s: Spec | None, shape: Shape) -> None:
    """Raise unless an operand broadcasts into ``shape`` without enlarging it."""
    if s is None or s.shape is None:
        return
    if len(s.shape) > len(shape) or len(broadcast_shapes(shape, s.shape)) != len(shape):
        raise error(f"shape of {what}", show(s.shape), f"one that broadcasts to {show(shape)}")
    for d, full in zip(reversed(s.shape), reversed(shape), strict=False):
        if full == 1 and isinstance(d, int) and d != 1:
            raise error(f"shape of {what}", show(s.shape), f"one that broadcasts to {show(shape)}")


def _check_vector(what: str, s: Spec | None, n: Any) -> None:
    if s is not None and s.shape is not None:
        wrong = len(s.shape) != 1 or (isinstance(s.shape[0], int) and isinstance(n, int) and s.shape[0] != n)
        if wrong:
            raise error(f"shape of {what}", show(s.shape), show((n,)))


def _along(v: Any, axis: int, rank: int) -> Any:
    """A vector reshaped so that it broadcasts along one axis (in ops)."""
    axis %= rank
    return v if axis == rank - 1 else F.reshape(v, np.array([-1] + [1] * (rank - 1 - axis), np.int64))


def _tail(axis: int, rank: int) -> np.ndarray:
    return np.arange(axis % rank, rank, dtype=np.int64)


def _centred(x: Any, axes: np.ndarray) -> Any:
    return F.sub(x, F.reduce_mean(x, axes))


def _inverse_deviation(x: Any, axes: np.ndarray, epsilon: float) -> Any:
    """1 / sqrt(mean(x * x) + epsilon) over these axes, kept as 1s."""
    return F.rsqrt(F.add(F.reduce_mean(F.mul(x, x), axes), scalar(epsilon, x)))


def _norm_gradient(g: Any, d: Any, r: Any, axes: np.ndarray, centred: bool) -> Any:
    """Gradient of x -> d * r with d = x (less its mean when centred) and r its inverse deviation."""
    unit = F.mul(d, r)
    inner = F.sub(g, F.mul(unit, F.reduce_mean(F.mul(g, unit), axes)))
    return F.mul(r, F.sub(inner, F.reduce_mean(g, axes)) if centred else inner)


def _scaled(g: Any, scale: Any) -> Any:
    return g if scale is None else F.mul(g, scale)


def _affine_gradients(g: Any, unit: Any, scale: Any, bias: Any) -> tuple[Any, Any]:
    return (
        None if scale is None else sum_to(F.mul(g, unit), scale),
        None if bias is None else sum_to(g, bias),
    )


@op(150, "x, scale, bias, mean, variance -> y", attrs=dict(epsilon=1e-5, axis=-1))
class batch_norm:
    "(x - mean) / sqrt(variance + epsilon) * scale + bias, vectors along ``axis`` (inference form)."

    samples = cases.batch_norm

    def infer(x, scale, bias, mean, variance, *, epsilon, axis):
        dtype = require_same_dtype(x, scale, bias, mean, variance)
        require_kind(x, "f")
        require_rank(x, 1, 99)
        if x.shape is not None:
            c = x.shape[axis_of(axis, len(x.shape))]
            for what, s in (("scale", scale), ("bias", bias), ("mean", mean), ("variance", variance)):
                _check_vector(what, s, c)
        return Spec(dtype, x.shape)

    def reference(x, scale, bias, mean, variance, *, epsilon, axis):
        shape = (-1,) + (1,) * (x.ndim - 1 - axis % x.ndim)
        s, b, m, v = (wide(t).reshape(shape) for t in (scale, bias, mean, variance))
        return back((wide(x) - m) / np.sqrt(v + v.dtype.type(epsilon)) * s + b, x.dtype)

    def decompose(x, scale, bias, mean, variance, *, epsilon, axis):
        rank = rank_of(x)
        factor = F.mul(F.rsqrt(F.add(variance, scalar(epsilon, variance))), scale)
        y = F.mul(F.sub(x, _along(mean, axis, rank)), _along(factor, axis, rank))
        return F.add(y, _along(bias, axis, rank))

    def vjp(g, y, x, scale, bias, mean, variance, *, epsilon, axis):
        rank = rank_of(x)
        rest = np.array([i for i in range(rank) if i != axis % rank], np.int64)

        def add_up(t: Any) -> Any:
            return F.reduce_sum(t, rest, keepdims=False, noop_if_empty=True)

        r = F.rsqrt(F.add(variance, scalar(epsilon, variance)))
        factor = F.mul(r, scale)
        total, moved = add_up(g), add_up(F.mul(g, F.sub(x, _along(mean, axis, rank))))
        of_variance = F.mul(F.mul(moved, F.mul(factor, F.mul(r, r))), scalar(-0.5, x))
        gx = F.mul(g, _along(factor, axis, rank))
        return gx, F.mul(moved, r), total, F.neg(F.mul(total, factor)), of_variance


def _normalise(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> np.ndarray:
    d = x - x.mean(axis=axes, keepdims=True)
    return d / np.sqrt((d * d).mean(axis=axes, keepdims=True) + d.dtype.type(epsilon))


def _affine(y: np.ndarray, scale: np.ndarray | None, bias: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    if scale is not None:
        y = y * wide(scale)
    if bias is not None:
        y = y + wide(bias)
    return back(y, dtype)


@op(151, "x, scale?, bias? -> y", attrs=dict(axis=-1, epsilon=1e-5))
class layer_norm:
    "Normalise over the dims from ``axis`` to the end to mean 0 and variance 1, then * scale + bias (broadcast)."

    samples = cases.layer_norm

    def infer(x, scale=None, bias=None, *, axis, epsilon):
        dtype = require_same_dtype(x, scale, bias)
        require_kind(x, "f")
        require_rank(x, 1, 99)
        if x.shape is not None:
            axis_of(axis, len(x.shape))
            _check_fits("scale", scale, x.shape)
            _check_fits("bias", bias, x.shape)
        return Spec(dtype, x.shape)

    def reference(x, scale=None, bias=None, *, axis, epsilon):
        axes = tuple(range(axis % x.ndim, x.ndim))
        return _affine(_normalise(wide(x), axes, epsilon), scale, bias, x.dtype)

    def decompose(x, scale=None, bias=None, *, axis, epsilon):
        axes = _tail(axis, rank_of(x))
        d = _centred(x, axes)
        y = _scaled(F.mul(d, _inverse_deviation(d, axes, epsilon)), scale)
        return y if bias is None else F.add(y, bias)

    def vjp(g, y, x, scale=None, bias=None, *, axis, epsilon):
        axes = _tail(axis, rank_of(x))
        d = _centred(x, axes)
        r = _inverse_deviation(d, axes, epsilon)
        gx = _norm_gradient(_scaled(g, scale), d, r, axes, True)
        return gx, *_affine_gradients(g, F.mul(d, r), scale, bias)


@op(152, "x, scale? -> y", attrs=dict(axis=-1, epsilon=1e-5))
class rms_norm:
    "x / sqrt(mean(x * x over dims from axis) + epsilon) * scale."

    samples = cases.rms_norm

    def infer(x, scale=None, *, axis, epsilon):
        return layer_norm.infer(x, scale, axis=axis, epsilon=epsilon)

    def reference(x, scale=None, *, axis, epsilon):
        xw = wide(x)
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = (xw * xw).mean(axis=axes, keepdims=True)
        return _affine(xw / np.sqrt(mean + mean.dtype.type(epsilon)), scale, None, x.dtype)

    def decompose(x, scale=None, *, axis, epsilon):
        return _scaled(F.mul(x, _inverse_deviation(x, _tail(axis, rank_of(x)), epsilon)), scale)

    def vjp(g, y, x, scale=None, *, axis, epsilon):
        axes = _tail(axis, rank_of(x))
        r = _inverse_deviation(x, axes, epsilon)
        gx = _norm_gradient(_scaled(g, scale), x, r, axes, False)
        return gx, _affine_gradients(g, F.mul(x, r), scale, None)[0]


def _by_group(t: Any, x: Any, groups: int) -> Any:
    """A tensor like x as [N, space, groups, channels of a group]."""
    c = known_dim(x, -1)
    area = F.reduce_prod(F.shape_of(x, start=1, end=-1), keepdims=True)
    first = F.reshape(dim_value(x, 0), np.array([1], np.int64))
    if static(x.shape):
        return F.reshape(t, np.array([x.shape[0], prod(x.shape[1:-1]), groups, c // groups], np.int64), allow_zero=True)
    return F.reshape(t, F.concat(first, area, np.array([groups, c // groups], np.int64), axis=0), allow_zero=True)


@op(153, "x, scale?, bias? -> y", attrs=dict(groups=1, epsilon=1e-5))
class group_norm:
    """Channels last: normalise each (sample, group of channels) over space and the group, then * scale[c] + bias[c].
    groups = C is instance norm."""

    samples = cases.group_norm

    def infer(x, scale=None, bias=None, *, groups, epsilon):
        dtype = require_same_dtype(x, scale, bias)
        require_kind(x, "f")
        require_rank(x, 2, 99)
        if groups < 1:
            raise error("groups", groups, "at least 1")
        if x.shape is not None:
            c = x.shape[-1]
            if isinstance(c, int) and c % groups:
                raise error("channels", c, f"a multiple of groups = {groups}")
            _check_vector("scale", scale, c)
            _check_vector("bias", bias, c)
        return Spec(dtype, x.shape)

    def reference(x, scale=None, bias=None, *, groups, epsilon):
        by_group = wide(x).reshape(x.shape[0], prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
        return _affine(_normalise(by_group, (1, 3), epsilon).reshape(x.shape), scale, bias, x.dtype)

    def decompose(x, scale=None, bias=None, *, groups, epsilon):
        axes = np.array([1, 3], np.int64)
        d = _centred(_by_group(x, x, groups), axes)
        y = _scaled(reshape_like(F.mul(d, _inverse_deviation(d, axes, epsilon)), x), scale)
        return y if bias is None else F.add(y, bias)

    def vjp(g, y, x, scale=None, bias=None, *, groups, epsilon):
        axes = np.array([1, 3], np.int64)
        d = _centred(_by_group(x, x, groups), axes)
        r = _inverse_deviation(d, axes, epsilon)
        gx = _norm_gradient(_by_group(_scaled(g, scale), x, groups), d, r, axes, True)
        return reshape_like(gx, x), *_affine_gradients(g, reshape_like(F.mul(d, r), x), scale, bias)


@op(154, "x -> y", attrs=dict(size=5, alpha=1e-4, beta=0.75, bias=1.0))
class lrn:
    """Local response normalisation across the last axis: x / (bias + alpha / size * sum of squares)^beta over the
    window [c - floor((size-1)/2), c + ceil((size-1)/2)]."""

    samples = cases.lrn

    def infer(x, *, size, alpha, beta, bias):
        require_kind(x, "f")
        require_rank(x, 1, 99)
        if size < 1:
            raise error("size", size, "at least 1")
        return Spec(x.dtype, x.shape)

    def reference(x, *, size, alpha, beta, bias):
        xw = wide(x)
        before = (size - 1) // 2
        squares = np.pad(xw * xw, [(0, 0)] * (x.ndim - 1) + [(before, size - 1 - before)])
        total = np.zeros_like(xw)
        for i in range(size):
            total += squares[..., i : i + x.shape[-1]]
        return back(xw / (bias + alpha / size * total) ** beta, x.dtype)

    def decompose(x, *, size, alpha, beta, bias):
        # the mean of squares over the window is an average pool with the channels as a 1-D image
        before = (size - 1) // 2
        rows = F.reshape(F.mul(x, x), np.array([-1, known_dim(x, -1), 1], np.int64))
        mean = F.avg_pool(rows, kernel=(size,), pads=(before, size - 1 - before), count_include_pad=True)
        base = F.add(F.mul(reshape_like(mean, x), scalar(alpha, x)), scalar(bias, x))
        return F.mul(x, F.pow(base, scalar(-beta, x)))

    def vjp(g, y, x, **attrs):
        return vjp_through(lrn.decompose, (g,), (x,), attrs)
