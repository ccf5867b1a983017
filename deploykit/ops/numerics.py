"""What the NumPy references share: in which precision to compute, and how to come back.

The rule of the engine: float16, bfloat16 and narrower floats are computed in float32 and rounded once at the end.
References compute float32 in float64 where a result is not exact anyway, so that the oracle's own error does not count.
Integers wrap (keep the low bits) in the width of their dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)


def is_float(x: np.ndarray) -> bool:
    """True for every float dtype, those of ml_dtypes included (which NumPy's own kinds do not know)."""
    return dtypes.dtype(x.dtype).kind == "f"


def is_narrow(x: np.ndarray) -> bool:
    """True for floats and integers that NumPy cannot compute in themselves: f16, bf16, f8, f4, int4, int2 ..."""
    d = dtypes.dtype(x.dtype)
    return d.bits < (32 if d.kind == "f" else 8)


def compute(x: np.ndarray) -> np.ndarray:
    """The array in the dtype in which the engine computes: narrow floats as float32, sub-byte integers as int32."""
    if not is_narrow(x):
        return x
    return x.astype(np.float32 if is_float(x) else np.int32)


def wide(x: np.ndarray) -> np.ndarray:
    """The array one precision up: narrow floats as float32, float32 as float64; everything else as it is."""
    return x.astype(_F64) if x.dtype == _F32 else compute(x)


def float64(x: np.ndarray) -> np.ndarray:
    """Any numeric array as float64 (ml_dtypes' integers go through int32, which they can all do)."""
    return compute(x).astype(_F64)


def back(y: Any, dtype: np.dtype) -> np.ndarray:
    """Round (floats) or wrap (integers) a computed result to the dtype of the operand."""
    y = np.asarray(y)
    if y.dtype == dtype:
        return y
    d = dtypes.dtype(dtype)
    if d.kind in "iu" and y.dtype.kind == "f":
        return float_to_int(y, dtype)
    if d.kind in "iu" and d.bits < 8:  # keep the low bits by hand: ml_dtypes does not promise it
        low = y.astype(np.int64) & ((1 << d.bits) - 1)
        if d.kind == "i":
            low = np.where(low >= 1 << (d.bits - 1), low - (1 << d.bits), low)
        return low.astype(np.int8).astype(dtype)
    return y.astype(dtype)


def int_range(dtype: np.dtype) -> tuple[int, int]:
    """Lowest and highest number of an integer dtype."""
    d = dtypes.dtype(dtype)
    return (-(1 << (d.bits - 1)), (1 << (d.bits - 1)) - 1) if d.kind == "i" else (0, (1 << d.bits) - 1)


def float_to_int(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Truncate toward zero, clamped to the integer's range; NaN gives 0."""
    low, high = int_range(dtype)
    t = np.trunc(np.where(np.isnan(y), 0, y).astype(_F64))
    # 2**63 - 1 is no double: compare against the next power of two, which is, and fill the ends in by hand
    inside = np.clip(t, float(low), np.nextafter(float(high) + 1.0, 0.0) if high > 2**52 else float(high))
    store = np.uint64 if low == 0 else np.int64
    out = inside.astype(store)
    out = np.where(t >= float(high), store(high), np.where(t <= float(low), store(low), out))
    return out.astype(dtype) if dtypes.dtype(dtype).bits >= 8 else out.astype(np.int8).astype(dtype)


def exactly(f: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """reference of an op that NumPy gets right in the operand's own dtype (after ``compute``): ``exactly(np.add)``."""

    @functools.wraps(f)
    def reference(*xs: np.ndarray, **attrs: Any) -> np.ndarray:
        return back(f(*(compute(x) for x in xs), **attrs), xs[0].dtype)

    return reference


def widely(f: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """reference of an inexact float function: computed one precision up, rounded once: ``widely(np.exp)``."""

    @functools.wraps(f)
    def reference(*xs: np.ndarray, **attrs: Any) -> np.ndarray:
        return back(f(*(wide(x) for x in xs), **attrs), xs[0].dtype)

    return reference


def lowest(dtype: np.dtype) -> Any:
    """The neutral element of maximum: -inf (or the lowest finite), the lowest integer, False."""
    d = dtypes.dtype(dtype)
    if d.kind == "b":
        return False
    return -np.inf if d.kind == "f" else int_range(dtype)[0]


def highest(dtype: np.dtype) -> Any:
    """The neutral element of minimum: +inf, the highest integer, True."""
    d = dtypes.dtype(dtype)
    if d.kind == "b":
        return True
    return np.inf if d.kind == "f" else int_range(dtype)[1]
