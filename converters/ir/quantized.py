"""Reading quantized graphs: what stands behind a dequantize node, and per-tensor parameters as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir import walk
from deploykit.converters.ir.walk import attr, operand
from deploykit.dtypes import DType
from deploykit.graph import Node, Value
from deploykit.ops.numerics import int_range

BYTES = (dtypes.int8, dtypes.uint8)


@dataclass(frozen=True)
class Params:
    """Per-tensor quantization of an 8-bit tensor: real = scale * (q - zero_point)."""

    scale: float
    zero_point: int
    dtype: DType

    def index(self, x: float) -> int:
        """The integer that stands for a number, halves to even, saturated."""
        low, high = self.range
        with np.errstate(over="ignore"):
            q = np.rint(np.float32(x) / np.float32(self.scale)) + self.zero_point
        return int(np.clip(q, low, high))

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest integer."""
        return int_range(self.dtype.np)


@dataclass(frozen=True)
class Tensor:
    """An 8-bit value and what its integers mean."""

    value: Value
    params: Params


@dataclass(frozen=True)
class Weights:
    """Constant integers of a weight: real = scale * (q - zero_point), one scale in all or one per index of ``axis``."""

    q: np.ndarray
    scale: np.ndarray  # float32 [1] or [size of axis]
    zero_point: np.ndarray  # int32, like scale
    axis: int


def params(scale: Value | None, zero: Value | None, dtype: DType | None) -> Params | None:
    """Per-tensor parameters from the operands of a node; None when they are not constant or not single numbers."""
    s = walk.scalar(scale)
    z = 0.0 if zero is None else walk.scalar(zero)
    if s is None or z is None or dtype not in BYTES or not np.isfinite(s) or s <= 0:
        return None
    assert dtype is not None
    return Params(float(np.float32(s)), int(z), dtype)


def source(v: Value | None) -> Tensor | None:
    """The 8-bit tensor that a float32 value is the dequantization of."""
    n = None if v is None else v.producer
    if n is None or n.op != "dequantize" or attr(n, "block_size") or n.output.dtype is not dtypes.float32:
        return None
    x = n.inputs[0]
    p = params(n.inputs[1], operand(n, 2), x.dtype if x is not None else None)
    return None if p is None or x is None else Tensor(x, p)


def target(n: Node) -> Params | None:
    """The parameters of a quantize node that makes 8-bit integers of float32 numbers."""
    if n.op != "quantize" or attr(n, "block_size"):
        return None
    x = n.inputs[0]
    if x is None or x.dtype is not dtypes.float32:
        return None
    return params(n.inputs[1], operand(n, 2), n.output.dtype)


def weights(v: Value | None) -> Weights | None:
    """The constant 8-bit (or narrower) integers that a float value is the dequantization of, not in blocks."""
    n = None if v is None else v.producer
    if n is None or n.op != "dequantize" or attr(n, "block_size") or n.output.dtype is not dtypes.float32:
        return None
    q, scale = walk.data(n.inputs[0]), walk.data(n.inputs[1])
    zero = walk.data(operand(n, 2))
    if q is None or scale is None or (operand(n, 2) is not None and zero is None):
        return None
    d = dtypes.dtype(q.dtype)
    if d.kind not in "iu" or d.bits > 8:
        return None
    scale = scale.astype(np.float32).reshape(-1)
    z = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32).reshape(-1)
    axis = attr(n, "axis") % q.ndim if q.ndim else 0
    if scale.size > 1 and (q.ndim == 0 or scale.size != q.shape[axis]):
        return None
    return Weights(q.astype(np.int32), scale, z, axis)


def int32_constant(v: Value | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(integers, scale) of a float value that is the dequantization of a constant int32 vector without zero point."""
    n = None if v is None else v.producer
    if n is None or n.op != "dequantize" or attr(n, "block_size"):
        return None
    q, scale, zero = walk.data(n.inputs[0]), walk.data(n.inputs[1]), walk.data(operand(n, 2))
    if q is None or q.dtype != np.int32 or scale is None or (operand(n, 2) is not None and zero is None):
        return None
    if zero is not None and zero.any():
        return None
    return q, scale.astype(np.float32).reshape(-1)


def is_constant(v: Value | None) -> bool:
    """A constant, or the dequantization of one."""
    if v is None or v.is_constant:
        return v is not None
    n = v.producer
    return n is not None and n.op == "dequantize" and all(x is None or x.is_constant for x in n.inputs)


def constant(v: Value | None) -> np.ndarray | None:
    """The numbers of a constant, or of the dequantization of one, as float32."""
    if v is None or v.data is not None:
        return None if v is None or v.data is None else v.data.astype(np.float32)
    if (b := int32_constant(v)) is not None:
        return b[0].astype(np.float32) * b[1]
    if (w := weights(v)) is None:
        return None
    shape = [-1 if i == w.axis else 1 for i in range(w.q.ndim)] if w.scale.size > 1 else ()
    return (w.q - w.zero_point.reshape(shape)).astype(np.float32) * w.scale.reshape(shape)
