"""Products of float activations with narrow constant weights: activations quantized at run time, or weights widened."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.ops import samples_quantized as cases
from deploykit.ops.activation import ACT_ATTRS
from deploykit.ops.conv import check_shape
from deploykit.ops.core import F, Spec, get, op
from deploykit.ops.epilogue import epilogue, unfuse
from deploykit.ops.matmul import matmul_shape, swap_last
from deploykit.ops.numerics import wide
from deploykit.ops.quantize import check_granularity
from deploykit.ops.quantized import require_dtype
from deploykit.ops.rules import error, require_rank, require_same_dtype

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
