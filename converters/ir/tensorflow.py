"""What importers of TensorFlow's formats share: operators that mean the same in TFLite and TensorFlow.js."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.ir.build import Emitter
from deploykit.errors import UnsupportedError
from deploykit.graph import Value

END = 2**31 - 1  # behind the last element of any dim


def add_n(c: Emitter, xs: list[Value]) -> Value:
    """The sum of one or more tensors."""
    y = xs[0]
    for x in xs[1:]:
        y = c.op("add", y, x)
    return y


def split_sizes(c: Emitter, x: Value, sizes: list[int], axis: int) -> Any:
    """x cut into parts of these sizes, one of which may be -1: all that is left."""
    axis = c.axis(axis, c.rank(x))
    if sizes.count(-1) == 1:
        total = c.shape(x)[axis]
        if not isinstance(total, int):
            raise UnsupportedError(
                f"a size of -1 along dim {axis}, which is not known. Give the input shapes (--input-shape)"
            )
        at = sizes.index(-1)
        sizes = [*sizes[:at], total - sum(sizes) - 1, *sizes[at + 1 :]]
    if len(sizes) == 1:
        return c.op("identity", x)
    return c.op("split", x, c.i64(*sizes), outputs=len(sizes), axis=axis)


def slice_sized(c: Emitter, x: Value, begin: Value, size: Value) -> Value:
    """x[begin : begin + size]; a size of -1 means all that is left."""
    known = c.known(size)
    end = c.op("add", begin, size)
    if known is None or (known < 0).any():
        end = c.op("where", c.op("less", size, c.const(np.int64(0))), c.const(np.int64(END)), end)
    return c.op("slice", x, begin, end, c.i64(*range(c.rank(x))))
