"""Attention."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Shape
from deploykit.ops.core import F, Spec, op
from deploykit.ops.grads import dim_value, known_dim, rank_of, scalar
from deploykit.ops.numerics import back, wide
from deploykit.ops.rules import (
    broadcast_shapes,
    error,
    require_kind,
    require_rank,
    require_same_dtype,
    show,
    unify_dim,
)
from deploykit.ops.samples import sequence as cases
from deploykit.ops.through import vjp_through


def fits(shape: Shape | None, full: Shape, what: str) -> None:
    """Raise unless an operand of this shape broadcasts into ``full`` without enlarging it."""
    if shape is None:
        return
    wrong = len(shape) > len(full) or any(
        d != 1 and isinstance(d, int) and isinstance(f, int) and d != f
        for d, f in zip(shape[::-1], full[::-1], strict=False)
    )
    if wrong:
        raise error(f"shape of {what}", show(shape), f"one that broadcasts to {show(full)}")


def _repeat_heads(x: Any, heads: Any) -> Any:
    """k or v with one head per head of q (in ops)."""
    have = x.shape[-3]
    if have == heads:
        return x
    if not isinstance(have, int) or not isinstance(heads, int):
        raise ValueError(f"grouped heads need known numbers; got {heads} and {have}")
    return F.gather(x, np.arange(heads) // (heads // have), axis=-3)


def _arange(n: Any) -> Any:
    return F.range(np.array(0, np.int64), n, np.array(1, np.int64))


@op(230, "q, k, v, mask? -> y", attrs=dict(scale=0.0, causal=False, softcap=0.0))
class attention:
    """softmax(scale * q k' + mask) v for q [..., H, L, D], k [..., Hk, S, D], v [..., Hk, S, Dv]; y [..., H, L, Dv].

    H is a multiple of Hk (grouped heads: q head h reads k head h // (H / Hk)).  scale 0 means 1/sqrt(D).  mask, float
    (added) or bool (False forbids), broadcasts to [..., H, L, S].  causal forbids s > l + (S - L).  softcap c > 0 maps
    scores to c * tanh(s / c) before the mask.  A row that forbids everything gives zeros.
    """

    samples = cases.attention

    def infer(q, k, v, mask=None, *, scale, causal, softcap):
        dtype = require_same_dtype(q, k, v, what="q, k and v")
        require_kind(q, "f", "q")
        for what, s in (("q", q), ("k", k), ("v", v)):
            require_rank(s, 3, 99, what)
        if mask is not None and mask.dtype is not dtypes.bool_ and mask.dtype is not dtype:
            raise error("dtype of mask", mask.dtype, f"bool or {dtype}")
        if q.shape is None or k.shape is None or v.shape is None:
            return Spec(dtype, None)
        batch = broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
        assert batch is not None
        h, length, d = q.shape[-3:]
        hk = unify_dim(k.shape[-3], v.shape[-3], "heads of k and v")
        unify_dim(d, k.shape[-1], "features of q and k")
        s = unify_dim(k.shape[-2], v.shape[-2], "lengths of k and v")
        if isinstance(h, int) and isinstance(hk, int) and (hk == 0 or h % hk):
            raise error("heads of q", h, f"a multiple of the {hk} heads of k")
        if mask is not None:
            fits(mask.shape, (*batch, h, length, s), "mask")
        return Spec(dtype, (*batch, h, length, v.shape[-1]))

    def reference(q, k, v, mask=None, *, scale, causal, softcap):
        qw, kw, vw = wide(q), wide(k), wide(v)
        repeat = q.shape[-3] // max(k.shape[-3], 1)
        if repeat != 1:
            kw, vw = np.repeat(kw, repeat, axis=-3), np.repeat(vw, repeat, axis=-3)
        scores = (qw * qw.dtype.type(scale or 1 / sqrt(q.shape[-1] or 1))) @ np.swapaxes(kw, -1, -2)
        if softcap > 0:
            scores = softcap * np.tanh(scores / softcap)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + wide(mask)
        length, s = scores.shape[-2:]
        if causal:
            scores = np.where(np.arange(s) > np.arange(length)[:, None] + (s - length), -np.inf, scores)
        top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        e = np.exp(scores - np.where(np.isneginf(top), 0, top))
        total = e.sum(axis=-1, keepdims=True)
        return back((e / np.where(total == 0, 1, total)) @ vw, q.dtype)

    def decompose(q, k, v, mask=None, *, scale, causal, softcap):
        features, heads = q.shape[-1], q.shape[-3]
        if not scale and not isinstance(features, int):
            raise ValueError(f"attention without a scale needs a known number of features; got {features}")
        k, v = _repeat_heads(k, heads), _repeat_heads(v, heads)
        scores = F.matmul(F.mul(q, scalar(scale or 1 / sqrt(features or 1), q)), k, transpose_b=True)
        if softcap > 0:
            scores = F.mul(F.tanh(F.div(scores, scalar(softcap, q))), scalar(softcap, q))
        never = scalar(-np.inf, q)
        if mask is not None:
            scores = F.where(mask, scores, never) if dtypes.dtype(mask.dtype) is dtypes.bool_ else F.add(scores, mask)
        if causal:
            length, s = dim_value(q, -2), dim_value(k, -2)
            last = F.unsqueeze(F.add(_arange(length), F.sub(s, length)), np.array([1]))
            scores = F.where(F.greater(_arange(s), last), never, scores)
        square = isinstance(q.shape[-2], int) and isinstance(k.shape[-2], int) and q.shape[-2] <= k.shape[-2]
        if mask is None and (square or not causal):
            return F.matmul(F.softmax(scores), v)
        dead = F.equal(F.reduce_max(scores, np.array([-1])), never)
        weights = F.softmax(F.where(dead, scalar(0, q), scores))
        return F.matmul(F.where(dead, scalar(0, q), weights), v)

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(attention.decompose, (g,), inputs, attrs)


@op(231, "x, cos, sin -> y", attrs=dict(interleaved=False))
class rotary_embedding:
    """Rotate the leading 2 * n features of x's last dim, n = cos.shape[-1], as n points in the plane: pairs (i, i + n),
    or (2i, 2i + 1) when interleaved.  cos and sin broadcast against x with n features; other features are copied."""

    samples = cases.rotary_embedding

    def infer(x, cos, sin, *, interleaved):
        dtype = require_same_dtype(x, cos, sin)
        require_kind(x, "f")
        require_rank(x, 1, 99)
        if x.shape is not None:
            for what, s in (("cos", cos), ("sin", sin)):
                if s.shape is not None and s.shape:
                    n = s.shape[-1]
                    if isinstance(n, int) and isinstance(x.shape[-1], int) and 2 * n > x.shape[-1]:
                        raise error(f"features of {what}", n, f"at most half of {x.shape[-1]}")
                    fits(s.shape, (*x.shape[:-1], n), what)
        return Spec(dtype, x.shape)

    def reference(x, cos, sin, *, interleaved):
        xw, c, s = wide(x), wide(cos), wide(sin)
        n = cos.shape[-1]
        a, b = (slice(0, 2 * n, 2), slice(1, 2 * n, 2)) if interleaved else (slice(0, n), slice(n, 2 * n))
        y = xw.copy()
        y[..., a] = xw[..., a] * c - xw[..., b] * s
        y[..., b] = xw[..., b] * c + xw[..., a] * s
        return back(y, x.dtype)

    def decompose(x, cos, sin, *, interleaved):
        n, features, rank = known_dim(cos, -1), known_dim(x, -1), rank_of(x)

        def cut(start: int, end: int, step: int = 1) -> Any:
            return F.slice(x, *(np.array([t], np.int64) for t in (start, end, -1, step)))

        a, b = (cut(0, 2 * n, 2), cut(1, 2 * n, 2)) if interleaved else (cut(0, n), cut(n, 2 * n))
        first = F.sub(F.mul(a, cos), F.mul(b, sin))
        second = F.add(F.mul(b, cos), F.mul(a, sin))
        if interleaved:
            pairs = F.concat(*(F.unsqueeze(t, np.array([rank])) for t in (first, second)), axis=rank)
            parts = [F.reshape(pairs, np.array([0] * (rank - 1) + [2 * n], np.int64))]
        else:
            parts = [first, second]
        parts += [cut(2 * n, features)] if features > 2 * n else []
        return F.concat(*parts, axis=rank - 1) if len(parts) > 1 else parts[0]

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(rotary_embedding.decompose, (g,), inputs, attrs)
