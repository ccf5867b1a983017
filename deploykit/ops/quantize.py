"""Quantization: real = scale * (q - zero_point), rounding halves to even, saturating."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.graph.dims import Shape
from deploykit.ops.core import Spec, get, op
from deploykit.ops.numerics import back, int_range
from deploykit.ops.rules import axis_of, error, require_kind, show
from deploykit.ops.samples import sequence as cases

_STORED = tuple(d for d in dtypes.ALL if d.bits <= 16 and d.kind in "iu") + tuple(
    d for d in dtypes.ALL if d.name.startswith(("float8", "float4")) and d.name != "float8_e8m0fnu"
)


def check_granularity(
    x: Shape | None, scale: Shape | None, zero_point: Spec | None, axis: int, block_size: int
) -> None:
    """Raise unless scale (and zero_point, of the same shape) fits x: scalar, vector along axis, or one per block."""
    if zero_point is not None and zero_point.shape is not None and scale is not None:
        differ = len(zero_point.shape) != len(scale) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(zero_point.shape, scale, strict=True)
        )
        if differ:
            raise error("shape of zero_point", show(zero_point.shape), f"the scale's, {show(scale)}")
    if block_size < 0:
        raise error("block_size", block_size, "0 or more")
    if x is None or scale is None or scale in ((), (1,)):
        return
    a = axis_of(axis, len(x))
    want = (x[a],)
    if block_size:
        want = (*x[:a], (x[a] + block_size - 1) // block_size, *x[a + 1 :])
    if len(scale) != len(want) or any(
        isinstance(p, int) and isinstance(q, int) and p != q for p, q in zip(scale, want, strict=True)
    ):
        raise error("shape of scale", show(scale), f"[], [1] or {show(want)}")


def spread(p: np.ndarray, x: np.ndarray, axis: int, block_size: int) -> np.ndarray:
    """A scale or zero point, shaped so that it broadcasts against x."""
    if p.size == 1 and not (block_size and p.ndim == x.ndim):
        return p.reshape(())
    if block_size:
        size = x.shape[axis]
        index = np.arange(size) // block_size
        return np.take(p, index, axis=axis)
    return p.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def _to_integers(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None, dtype: DType) -> np.ndarray:
    """saturate(round(x / scale) + zero_point); the quotient is rounded to float32, as the engine computes it."""
    low, high = int_range(dtype.np)
    q = np.rint(x / scale)
    q = np.where(np.isnan(q), 0, q).astype(np.float64)
    if zero_point is not None:
        q = q + zero_point.astype(np.int32)
    return back(np.clip(q, low, high).astype(np.int64), dtype.np)


@op(
    240,
    "x, scale, zero_point? -> y",
    attrs=dict(dtype="uint8", axis=1, block_size=0, saturate=True),
    tolerance="exact",
    not_differentiable="integer result; see fake_quant",
)
class quantize:
    """saturate(round(x / scale) + zero_point) as ``dtype`` (zero_point's dtype wins when given).

    scale: scalar, vector along axis, or (block_size > 0) one per block of block_size along axis.  ``saturate`` is for
    float8 targets, as in cast.  The quotient is computed and rounded in float32; NaN gives the zero point.
    """

    samples = cases.quantize

    def infer(x, scale, zero_point=None, *, dtype, axis, block_size, saturate):
        if x.dtype is not dtypes.int32:
            require_kind(x, "f")
        require_kind(scale, "f", "scale")
        target = zero_point.dtype if zero_point is not None else dtypes.dtype(dtype)
        if target not in _STORED:
            raise error("dtype of the result", target, ", ".join(d.name for d in _STORED))
        check_granularity(x.shape, scale.shape, zero_point, axis, block_size)
        return Spec(target, x.shape)

    def reference(x, scale, zero_point=None, *, dtype, axis, block_size, saturate):
        target = dtypes.dtype(dtype if zero_point is None else zero_point.dtype)
        s = spread(_float32(scale), x, axis, block_size)
        if target.kind == "f":
            cast = get("cast").reference
            assert cast is not None
            return cast(_float32(x) / s, dtype=target.name, saturate=saturate)
        z = None if zero_point is None else spread(zero_point, x, axis, block_size)
        return _to_integers(_float32(x), s, z, target)


@op(
    241,
    "x, scale, zero_point? -> y",
    attrs=dict(axis=1, block_size=0, dtype=""),
    not_differentiable="integer input",
)
class dequantize:
    "(x - zero_point) * scale in float32, rounded to dtype; dtype by name, '' means scale's."

    samples = cases.dequantize

    def infer(x, scale, zero_point=None, *, axis, block_size, dtype):
        if x.dtype not in _STORED and x.dtype is not dtypes.int32:
            raise error("dtype of x", x.dtype, ", ".join(d.name for d in (*_STORED, dtypes.int32)))
        require_kind(scale, "f", "scale")
        if zero_point is not None and zero_point.dtype is not x.dtype:
            raise error("dtype of zero_point", zero_point.dtype, f"that of x, {x.dtype}")
        check_granularity(x.shape, scale.shape, zero_point, axis, block_size)
        target = dtypes.dtype(dtype) if dtype else scale.dtype
        if target.kind != "f":
            raise error("dtype of the result", target, "a float")
        return Spec(target, x.shape)

    def reference(x, scale, zero_point=None, *, axis, block_size, dtype):
        s = spread(_float32(scale), x, axis, block_size)
        if dtypes.dtype(x.dtype).kind == "f":
            v = _float32(x)
        else:
            v = x.astype(np.int32)
            if zero_point is not None:
                v = v - spread(zero_point, x, axis, block_size).astype(np.int32)
            v = _float32(v)
        return back(v * s, dtypes.dtype(dtype or scale.dtype).np)


@op(
    242,
    "x -> y, scale, zero_point",
    onnx="DynamicQuantizeLinear",
    tolerance="exact",
    not_differentiable="integer result",
)
class dynamic_quantize:
    """uint8 per-tensor quantization with range [min(x, 0), max(x, 0)] found at run time (ONNX DynamicQuantizeLinear).
    scale = (max - min) / 255, or 1 when that is 0; zero_point = saturate(round(-min / scale)); all in float32."""

    samples = cases.dynamic_quantize

    def infer(x):
        if x.dtype is not dtypes.float32:
            raise error("dtype of x", x.dtype, "float32")
        return Spec(dtypes.uint8, x.shape), Spec(dtypes.float32, ()), Spec(dtypes.uint8, ())

    def reference(x):
        zero = np.float32(0)
        low, high = (min(x.min(), zero), max(x.max(), zero)) if x.size else (zero, zero)
        scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
        point = np.asarray(np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8))
        return _to_integers(x, np.asarray(scale), point, dtypes.uint8), np.asarray(scale), point
