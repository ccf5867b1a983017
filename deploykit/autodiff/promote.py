"""Which dtype an operation on two dtypes has.

| | rule |
|---|---|
| equal dtypes | that dtype |
| Python number beside a tensor | the tensor's; an int makes bool int32, a float makes bool and integers float32 |
| bool beside anything | the other |
| integers | the smallest that holds both (uint64 with a signed one: float32) |
| integer beside float | the float |
| floats | the wider; float16 with bfloat16 gives float32 |
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.errors import ShapeError


@cache
def promote(a: DType, b: DType) -> DType:
    """The common dtype of two tensors.

    >>> promote(dtypes.int32, dtypes.float16)
    float16
    """
    if a is b:
        return a
    if a.kind == "b" or b.kind == "b":
        return b if a.kind == "b" else a
    if a.kind == "f" or b.kind == "f":
        if a.kind != b.kind:
            return a if a.kind == "f" else b
        if min(a.bits, b.bits) < 16:
            raise ShapeError(f"dtypes {a} and {b} have no common dtype; cast one of them.")
        return dtypes.float32 if a.bits == b.bits else max(a, b, key=lambda d: d.bits)
    if a.kind == b.kind:
        return max(a, b, key=lambda d: d.bits)
    u, i = (a, b) if a.kind == "u" else (b, a)
    if i.bits > u.bits:
        return i
    if u.bits >= 64:
        return dtypes.float32
    return {8: dtypes.int16, 16: dtypes.int32, 32: dtypes.int64}[max(u.bits, 8)]


def common(*xs: Any) -> DType:
    """The dtype that an operation on tensors and Python numbers has."""
    strong = [dtypes.dtype(x.dtype) for x in xs if hasattr(x, "dtype")]
    weak = [x for x in xs if not hasattr(x, "dtype")]
    d = reduce(promote, strong) if strong else None
    for x in weak:
        if isinstance(x, bool):
            d = d or dtypes.bool_
        elif isinstance(x, int):
            d = dtypes.int32 if d is None or d.kind == "b" else d
        elif isinstance(x, float):
            d = d if d is not None and d.kind == "f" else dtypes.float32
    return d or dtypes.float32
