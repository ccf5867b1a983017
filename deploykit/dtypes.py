"""The dtype table: one row per element type, shared with the engine by ``code`` (see ``runtime/src/base/dtype.h``).

Sub-byte types (int4, uint4, int2, uint2, float4_e2m1) are held unpacked, one element per byte, in NumPy arrays and in
the engine's tensors; only constants inside a ``.dk`` file may be packed later.  A DType is interned: compare with ``is``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class DType:
    """One element type: ``name`` as in NumPy, ``code`` as in the file format, ``np`` the array type, ``kind`` as below.

    kind: 'f' float, 'i' signed, 'u' unsigned, 'b' bool, 's' string (never reaches the engine).
    """

    name: str
    code: int
    np: np.dtype
    kind: str
    bits: int

    @property
    def itemsize(self) -> int:
        """Bytes of one element in a tensor (sub-byte types take one)."""
        return self.np.itemsize

    def __repr__(self) -> str:
        return self.name


_ROWS = [
    ("float32", 1, np.float32, "f", 32),
    ("float64", 2, np.float64, "f", 64),
    ("float16", 3, np.float16, "f", 16),
    ("bfloat16", 4, ml_dtypes.bfloat16, "f", 16),
    ("int8", 5, np.int8, "i", 8),
    ("uint8", 6, np.uint8, "u", 8),
    ("int16", 7, np.int16, "i", 16),
    ("uint16", 8, np.uint16, "u", 16),
    ("int32", 9, np.int32, "i", 32),
    ("uint32", 10, np.uint32, "u", 32),
    ("int64", 11, np.int64, "i", 64),
    ("uint64", 12, np.uint64, "u", 64),
    ("bool", 13, np.bool_, "b", 8),
    ("int4", 14, ml_dtypes.int4, "i", 4),
    ("uint4", 15, ml_dtypes.uint4, "u", 4),
    ("int2", 16, ml_dtypes.int2, "i", 2),
    ("uint2", 17, ml_dtypes.uint2, "u", 2),
    ("float8_e4m3fn", 18, ml_dtypes.float8_e4m3fn, "f", 8),
    ("float8_e4m3fnuz", 19, ml_dtypes.float8_e4m3fnuz, "f", 8),
    ("float8_e5m2", 20, ml_dtypes.float8_e5m2, "f", 8),
    ("float8_e5m2fnuz", 21, ml_dtypes.float8_e5m2fnuz, "f", 8),
    ("float8_e8m0fnu", 22, ml_dtypes.float8_e8m0fnu, "f", 8),
    ("float4_e2m1fn", 23, ml_dtypes.float4_e2m1fn, "f", 4),
]
ALL = tuple(DType(n, c, np.dtype(t), k, b) for n, c, t, k, b in _ROWS)
BY_NAME = {d.name: d for d in ALL}
BY_CODE = {d.code: d for d in ALL}
_BY_NP = {d.np: d for d in ALL}

float32, float64, float16, bfloat16 = ALL[0:4]
int8, uint8, int16, uint16, int32, uint32, int64, uint64, bool_ = ALL[4:13]
int4, uint4, int2, uint2 = ALL[13:17]
FLOATS = (float32, float64, float16, bfloat16)
INTS = (int8, uint8, int16, uint16, int32, uint32, int64, uint64)


@cache
def _lookup(x: object) -> DType:
    if isinstance(x, str) and x in BY_NAME:
        return BY_NAME[x]
    try:
        return _BY_NP[np.dtype(x)]  # type: ignore[call-overload]
    except (KeyError, TypeError):
        raise TypeError(f"no such dtype: {x!r}. Known: {', '.join(BY_NAME)}") from None


def dtype(x: object) -> DType:
    """Return the DType for a DType, a name ("float32"), a NumPy dtype, or a NumPy scalar type.

    >>> dtype("int8").bits
    8
    """
    return x if isinstance(x, DType) else _lookup(x)
