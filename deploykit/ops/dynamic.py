"""Products of float activations with narrow constant weights: activations quantized at run time, or weights widened."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim
from deploykit.ops.activation import ACT_ATTRS
from deploykit.ops.conv import check_shape
from deploykit.ops.core import Enum, F, Spec, get, op
from deploykit.ops.epilogue import epilogue, unfuse
from deploykit.ops.grads import known_dim
from deploykit.ops.matmul import matmul_shape, swap_last
from deploykit.ops.numerics import wide
from deploykit.ops.quantize import check_granularity
from deploykit.ops.quantized import require_dtype
from deploykit.ops.rules import error, require_rank, require_same_dtype
from deploykit.ops.samples import quantized as cases

_INTEGER = "activations are rounded; train the float graph with fake_quant"
_F = np.float32


def quantize_rows(x: np.ndarray, per_row: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(q uint8, scale, zero point) of x, one per row or one in all, exactly as dynamic_quantize finds them."""
    rows = x.reshape(-1, x.shape[-1]) if per_row and x.size else x.reshape(1, -1)
    if x.size == 0:
        shape = (*x.shape[:-1], 1) if per_row else (1,) * x.ndim
        return np.zeros(x.shape, np.uint8), np.ones(shape, _F), np.zeros(shape, np.uint8)
    zero = _F(0)
    low, high = np.minimum(rows.min(axis=-1), zero), np.maximum(rows.max(axis=-1), zero)
    scale = np.where(high > low, (high - low) / _F(255), _F(1)).astype(_F)
    point = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    q = np.clip(np.rint(rows / scale[:, None]).astype(np.float64) + point[:, None], 0, 255).astype(np.uint8)
    shape = (*x.shape[:-1], 1) if per_row else (1,) * x.ndim
    return q.reshape(x.shape), scale.reshape(shape), point.reshape(shape)


def _check_residual(y: Spec, residual: Spec | None) -> None:
    if y.shape is not None:
        check_shape("residual", residual, y.shape)


@op(
    320,
    "x, weight, scale, bias?, residual? -> y",
    attrs=dict(per_row=True, **ACT_ATTRS, act_after=False),
    not_differentiable=_INTEGER,
)
class dynamic_matmul:
    """act(x @ (weight * scale) + bias) + residual with x quantized at run time, to uint8 as by dynamic_quantize, each row
    of its own (or all as one tensor): y = float32(sum (q - zero_point) * weight) * (x_scale * scale).

    x float32 [..., K] of rank 2 or more; weight int8 [K, N], symmetric; scale float32 [N] or [1]; bias float32 [N];
    residual of the shape of y.  act_after: the residual is added before the activation.
    """

    samples = cases.dynamic_matmul

    def infer(x, weight, scale, bias=None, residual=None, **attrs):
        for s, what in ((x, "x"), (scale, "scale"), (bias, "bias"), (residual, "residual")):
            require_dtype(s, dtypes.float32, what)
        require_dtype(weight, dtypes.int8, "weight")
        require_rank(x, 2, 99)
        require_rank(weight, 2, what="weight")
        y = Spec(x.dtype, matmul_shape(x.shape, weight.shape))
        if weight.shape is not None:
            check_shape("bias", bias, weight.shape[1:])
            if scale.shape != (1,):
                check_shape("scale", scale, weight.shape[1:])
        _check_residual(y, residual)
        return y

    def reference(x, weight, scale, bias=None, residual=None, *, per_row, act, act_alpha, act_beta, act_after):
        q, s, z = quantize_rows(x, per_row)
        acc = (q.astype(np.float64) - z) @ weight.astype(np.float64)
        y = acc.astype(np.int64).astype(np.int32).astype(_F) * (s * scale)
        return epilogue(wide(y), bias, residual, act, act_alpha, act_beta, act_after, x.dtype)

    def decompose(x, weight, scale, bias=None, residual=None, *, per_row, **tail):
        if per_row:
            last, zero = np.array([-1], np.int64), _F(0)
            low, high = F.minimum(F.reduce_min(x, last), zero), F.maximum(F.reduce_max(x, last), zero)
            s = F.where(F.greater(high, low), F.div(F.sub(high, low), _F(255)), _F(1))
            z = F.clip(F.round(F.div(F.neg(low), s)), _F(0), _F(255))
            q = F.clip(F.add(F.round(F.div(x, s)), z), _F(0), _F(255))
            acc = F.matmul(F.cast(F.sub(q, z), dtype="int32"), F.cast(weight, dtype="int32"))
        else:
            q, s, z = F.dynamic_quantize(x)
            acc = F.matmul_integer(q, weight, z)
        y = F.mul(F.cast(acc, dtype="float32"), F.mul(s, scale))
        return unfuse(y, bias, residual, **tail)


def widened(weight: np.ndarray, scale: np.ndarray | None, zero: np.ndarray | None, transpose: bool, block: int) -> Any:
    """The float32 weights that matmul_weight_only means."""
    if scale is None:
        return weight.astype(_F)
    reference = get("dequantize").reference
    assert reference is not None
    axis = (1 if transpose else 0) if block else (0 if transpose else 1)
    return reference(weight, scale.astype(_F), zero, axis=axis, block_size=block, dtype="float32")


@op(
    321,
    "x, weight, scale?, zero_point?, bias?, residual? -> y",
    attrs=dict(transpose_b=False, block_size=0, **ACT_ATTRS, act_after=False),
    not_differentiable="constant narrow weights; x alone would be needed",
)
class matmul_weight_only:
    """act(x @ w + bias) + residual with weights that are stored narrow and widened on the way: w = (weight -
    zero_point) * scale in float32, or weight itself when it is float16 or bfloat16 (no scale).

    x float32 [..., K] of rank 2 or more; weight [K, N], or [N, K] with transpose_b, of int8, uint8, int4, uint4, float16
    or bfloat16; scale (float32 or float16) [1] or [N], or with block_size one per block along K: [K / block, N] ([N,
    K / block]); zero_point like scale, of the weight's dtype; bias float32 [N]; residual of the shape of y.
    """

    samples = cases.matmul_weight_only

    def infer(x, weight, scale=None, zero_point=None, bias=None, residual=None, *, transpose_b, block_size, **attrs):
        for s, what in ((x, "x"), (bias, "bias"), (residual, "residual")):
            require_dtype(s, dtypes.float32, what)
        require_rank(x, 2, 99)
        require_rank(weight, 2, what="weight")
        names = ("float16", "bfloat16") if scale is None else ("int8", "uint8", "int4", "uint4")
        if weight.dtype.name not in names:
            raise error("dtype of weight", weight.dtype, ", ".join(names))
        if scale is not None:
            if scale.dtype not in (dtypes.float32, dtypes.float16):
                raise error("dtype of scale", scale.dtype, "float32 or float16")
            require_same_dtype(weight, zero_point, what="weight and zero_point")
            axis = (1 if transpose_b else 0) if block_size else (0 if transpose_b else 1)
            check_granularity(weight.shape, scale.shape, zero_point, axis, block_size)
        elif zero_point is not None or block_size:
            raise error("zero_point or block_size without scale", "none", "a scale")
        y = Spec(x.dtype, matmul_shape(x.shape, weight.shape, False, transpose_b))
        if y.shape is not None:
            check_shape("bias", bias, y.shape[-1:])
        _check_residual(y, residual)
        return y

    def reference(x, weight, scale=None, zero_point=None, bias=None, residual=None, *, transpose_b, block_size, **tail):
        w = widened(weight, scale, zero_point, transpose_b, block_size)
        y = wide(x) @ wide(swap_last(w) if transpose_b else w)
        return epilogue(y, bias, residual, **tail, dtype=x.dtype)

    def decompose(x, weight, scale=None, zero_point=None, bias=None, residual=None, *, transpose_b, block_size, **tail):
        if scale is None:
            w = F.cast(weight, dtype="float32")
        else:
            axis = (1 if transpose_b else 0) if block_size else (0 if transpose_b else 1)
            w = F.dequantize(weight, F.cast(scale, dtype="float32"), zero_point, axis=axis, block_size=block_size)
        return unfuse(F.matmul(x, w, transpose_b=transpose_b), bias, residual, **tail)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _lstm_direction(
    x: np.ndarray, w: np.ndarray, ws: np.ndarray, r: np.ndarray, rs: np.ndarray, b: Any, h: Any, c: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[T, B, H], last h and c of one direction in float64, quantizing in float32."""
    hidden = r.shape[0]
    xq, xs, xz = quantize_rows(x, False)
    acc = ((xq.astype(np.float64) - xz) @ w.astype(np.float64)).astype(_F)
    gates = (acc * (xs * ws)).astype(np.float64)
    if b is not None:
        gates = gates + (b[: 4 * hidden] + b[4 * hidden :])
    ys = np.zeros((*x.shape[:2], hidden))
    for t in range(len(x)):
        hq, hs, hz = quantize_rows(h.astype(_F), False)
        acc = ((hq.astype(np.float64) - hz) @ r.astype(np.float64)).astype(_F)
        total = gates[t] + acc * (hs * rs)
        i, o, f, g = np.split(total, 4, axis=-1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        ys[t] = h
    return ys, h, c


def _lstm_in_ops(x: Any, w: Any, r: Any, w_scale: Any, r_scale: Any, b: Any, h: Any, c: Any, d: int, back: bool) -> Any:
    """The same in ops, for a known number of steps."""
    pick = np.array(d, np.int64)
    steps = known_dim(x, 0)
    hidden = known_dim(r, 1)
    w, r, ws, rs = (F.gather(v, pick, axis=0) for v in (w, r, w_scale, r_scale))
    batch = F.concat(F.shape_of(x, start=1, end=2), np.array([hidden], np.int64), axis=0)
    h, c = (F.fill(batch, _F(0)) if v is None else F.gather(v, pick, axis=0) for v in (h, c))

    def product(v: Any, weight: Any, scale: Any) -> Any:
        q, s, z = F.dynamic_quantize(v)
        return F.mul(F.cast(F.matmul_integer(q, weight, z), dtype="float32"), F.mul(s, scale))

    gates = product(x, w, ws)
    if b is not None:
        halves = F.split(F.gather(b, pick, axis=0), np.array([4 * hidden] * 2, np.int64), n_outputs=2)
        gates = F.add(gates, F.add(*halves))
    ys: list[Any] = [None] * steps
    for t in reversed(range(steps)) if back else range(steps):
        total = F.add(F.gather(gates, np.array(t, np.int64), axis=0), product(h, r, rs))
        i, o, f, g = F.split(total, np.array([hidden] * 4, np.int64), axis=-1, n_outputs=4)
        c = F.add(F.mul(F.sigmoid(f), c), F.mul(F.sigmoid(i), F.tanh(g)))
        h = F.mul(F.sigmoid(o), F.tanh(c))
        ys[t] = F.unsqueeze(h, np.array([0], np.int64))
    empty = F.concat(np.array([0], np.int64), batch, axis=0)
    return (F.concat(*ys, axis=0) if steps else F.fill(empty, _F(0))), h, c


@op(
    322,
    "x, w, r, w_scale, r_scale, b?, h0?, c0? -> y, y_h, y_c",
    attrs=dict(direction=Enum("forward", "reverse", "bidirectional")),
    tolerance="loose",
    not_differentiable=_INTEGER,
)
class dynamic_lstm:
    """lstm with 8-bit weights and the default activations, inputs quantized at run time: x as one tensor, the state of
    each direction anew in every step, both as by dynamic_quantize; products are exact integers, gates are float
    (onnxruntime's DynamicQuantizeLSTM).

    x float32 [T, B, I]; w int8 [D, I, 4H] and r int8 [D, H, 4H], symmetric, gates i, o, f, c; scales float32 [D, 4H] or
    [D, 1]; b float32 [D, 8H]; h0, c0 [D, B, H]; y [T, D, B, H]; y_h, y_c [D, B, H].
    """

    samples = cases.dynamic_lstm

    def infer(x, w, r, w_scale, r_scale, b=None, h0=None, c0=None, *, direction):
        d = 2 if direction == "bidirectional" else 1
        floats = (("x", x), ("w_scale", w_scale), ("r_scale", r_scale), ("b", b), ("h0", h0), ("c0", c0))
        for what, s in floats:
            require_dtype(s, dtypes.float32, what)
        for what, s, rank in (("x", x, 3), ("w", w, 3), ("r", r, 3), ("w_scale", w_scale, 2), ("r_scale", r_scale, 2)):
            require_rank(s, rank, what=what)
        require_dtype(w, dtypes.int8, "w")
        require_dtype(r, dtypes.int8, "r")
        hidden = r.shape[1] if r.shape is not None else Dim.fresh()
        steps, batch, size = x.shape if x.shape is not None else (Dim.fresh(), Dim.fresh(), Dim.fresh())
        check_shape("w", w, (d, size, 4 * hidden))
        check_shape("r", r, (d, hidden, 4 * hidden))
        for what, s in (("w_scale", w_scale), ("r_scale", r_scale)):
            if s.shape is None or s.shape[1] != 1:
                check_shape(what, s, (d, 4 * hidden))
        check_shape("b", b, (d, 8 * hidden))
        state = (d, batch, hidden)
        check_shape("h0", h0, state)
        check_shape("c0", c0, state)
        return Spec(x.dtype, (steps, *state)), Spec(x.dtype, state), Spec(x.dtype, state)

    def reference(x, w, r, w_scale, r_scale, b=None, h0=None, c0=None, *, direction):
        ends = []
        for d in range(w.shape[0]):
            back = direction == "reverse" or d == 1
            h, c = (np.zeros((x.shape[1], r.shape[1])) if s is None else s[d].astype(np.float64) for s in (h0, c0))
            bias = None if b is None else b[d].astype(np.float64)
            ys, h, c = _lstm_direction(x[::-1] if back else x, w[d], w_scale[d], r[d], r_scale[d], bias, h, c)
            ends.append((ys[::-1] if back else ys, h, c))
        y, h, c = zip(*ends, strict=True)
        return np.stack(y, 1).astype(x.dtype), np.stack(h).astype(x.dtype), np.stack(c).astype(x.dtype)

    def decompose(x, w, r, w_scale, r_scale, b=None, h0=None, c0=None, *, direction):
        backs = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
        ends = [_lstm_in_ops(x, w, r, w_scale, r_scale, b, h0, c0, d, back) for d, back in enumerate(backs)]
        y, h, c = zip(*ends, strict=True)
        axis = np.array([1], np.int64), np.array([0], np.int64)
        return (
            F.concat(*(F.unsqueeze(v, axis[0]) for v in y), axis=1),
            *(F.concat(*(F.unsqueeze(v, axis[1]) for v in vs), axis=0) for vs in (h, c)),
        )
