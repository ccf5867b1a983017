"""Which function writes which of our ops, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deploykit import dtypes
from deploykit.converters.exporters.onnx.writer import element_type
from deploykit.errors import UnsupportedError
from deploykit.graph import Value

if TYPE_CHECKING:
    from deploykit.converters.exporters.onnx.exporter import Site

HANDLERS: dict[str, Callable[[Site], None]] = {}


def exports(*names: str) -> Callable[[Any], Any]:
    """Register the decorated function for these ops of ours."""

    def register(f: Callable[[Site], None]) -> Callable[[Site], None]:
        HANDLERS.update(dict.fromkeys(names, f))
        return f

    return register


def as_int64(s: Site, i: int) -> str | None:
    """Input ``i`` as int64 (we accept int32 too)."""
    v = s.value(i)
    if v is None or v.dtype is dtypes.int64:
        return s.get(i)
    return s.w.node("Cast", s.get(i), to=element_type(dtypes.int64))


def swapped(s: Site, name: str | None, v: Value) -> str:
    """The last two dims exchanged."""
    if v.shape is None:
        raise UnsupportedError("an operand of unknown rank")
    r = len(v.shape)
    return s.w.node("Transpose", name, perm=[*range(r - 2), r - 1, r - 2]) if r >= 2 else str(name)
