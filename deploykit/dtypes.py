"""The dtype table: one row per element type, shared with the engine by ``code`` (see ``runtime/src/base/dtype.h``).

Sub-byte types (int4, uint4, int2, uint2, float4_e2m1) are held unpacked, one element per byte, in NumPy arrays and in
the engine's tensors; 4-bit integers lie two a byte in ``.dk`` files only.  A DType is interned: compare with ``is``.

The narrow types that NumPy lacks come from ``ml_dtypes``, which is imported when one of them is first used: a program
that runs a float model does not pay for it.
"""

from __future__ import annotations

from functools import cache

import numpy


class DType:
    """One element type: ``name`` as in NumPy, ``code`` as in the file format, ``np`` the array type, ``kind`` as below.

    kind: 'f' float, 'i' signed, 'u' unsigned, 'b' bool, 's' string (never reaches the engine).
    """

    __slots__ = ("_np", "bits", "code", "kind", "name")
    _np: numpy.dtype | None

    def __init__(self, name: str, code: int, kind: str, bits: int) -> None:
        self.name, self.code, self.kind, self.bits, self._np = name, code, kind, bits, None

    @property
    def np(self) -> numpy.dtype:
        """The array type."""
        if self._np is None:
            holder = numpy
            if not hasattr(numpy, self.name):
                import ml_dtypes as holder  # type: ignore[no-redef]
            self._np = numpy.dtype(getattr(holder, self.name))
        return self._np

    @property
    def itemsize(self) -> int:
        """Bytes of one element in a tensor (sub-byte types take one)."""
        return max(1, self.bits // 8)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:  # copies are the same one
        return _lookup, (self.name,)


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
