"""The dtype table: one row per element type, shared with the engine by ``code`` (see ``runtime/src/base/dtype.h``).

Sub-byte types (int4, uint4, int2, uint2, float4_e2m1) are held unpacked, one element per byte, in NumPy arrays and in
the engine's tensors; only constants inside a ``.dk`` file may be packed later.  A DType is interned: compare with ``is``.

The narrow types that NumPy lacks come from ``ml_dtypes``, which is imported when one of them is first used: a program
that runs a float model does not pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy


@dataclass(frozen=True)
class DType:
    """One element type: ``name`` as in NumPy, ``code`` as in the file format, ``np`` the array type, ``kind`` as below.

    kind: 'f' float, 'i' signed, 'u' unsigned, 'b' bool, 's' string (never reaches the engine).
    """

    name: str
    code: int
    kind: str
    bits: int

    @cached_property
    def np(self) -> numpy.dtype:
        """The array type."""
        if hasattr(numpy, self.name):
            return numpy.dtype(self.name)
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, self.name))

    @property
    def itemsize(self) -> int:
        """Bytes of one element in a tensor (sub-byte types take one)."""
        return max(1, self.bits // 8)

    def __repr__(self) -> str:
        return self.name


_ROWS = [
    ("float32", 1, "f", 32),
    ("float64", 2, "f", 64),
    ("float16", 3, "f", 16),
    ("bfloat16", 4, "f", 16),
    ("int8", 5, "i", 8),
    ("uint8", 6, "u", 8),
    ("int16", 7, "i", 16),
    ("uint16", 8, "u", 16),
    ("int32", 9, "i", 32),
    ("uint32", 10, "u", 32),
    ("int64", 11, "i", 64),
    ("uint64", 12, "u", 64),
    ("bool", 13, "b", 8),
    ("int4", 14, "i", 4),
    ("uint4", 15, "u", 4),
    ("int2", 16, "i", 2),
    ("uint2", 17, "u", 2),
    ("float8_e4m3fn", 18, "f", 8),
    ("float8_e4m3fnuz", 19, "f", 8),
    ("float8_e5m2", 20, "f", 8),
    ("float8_e5m2fnuz", 21, "f", 8),
    ("float8_e8m0fnu", 22, "f", 8),
    ("float4_e2m1fn", 23, "f", 4),
]
ALL = tuple(DType(*row) for row in _ROWS)
BY_NAME = {d.name: d for d in ALL}
BY_CODE = {d.code: d for d in ALL}

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
        d = numpy.dtype(x)  # type: ignore[call-overload]
    except TypeError:
        d = None
    found = None if d is None else BY_NAME.get(d.name)
    if found is None or found.np != d:  # the name alone would let foreign byte orders through
        raise TypeError(f"no such dtype: {x!r}. Known: {', '.join(BY_NAME)}")
    return found


def dtype(x: object) -> DType:
    """Return the DType for a DType, a name ("float32"), a NumPy dtype, or a NumPy scalar type.

    >>> dtype("int8").bits
    8
    """
    return x if isinstance(x, DType) else _lookup(x)
