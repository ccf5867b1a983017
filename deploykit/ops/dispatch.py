"""The stack of interpreters that decides what applying an op means: eager NumPy (default), or recording into a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from deploykit.errors import UnsupportedError
from deploykit.ops.core import Op


class Interpreter(Protocol):
    """Gives meaning to ``op(*inputs, **attrs)``; attrs arrive complete and checked."""

    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        """Return the op's output, or a tuple of outputs when the op has several results."""
        ...


class Eager:
    """Run the reference on arrays."""

    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        if op.reference is None:
            raise UnsupportedError(f"op '{op.name}' has no reference implementation.")
        arrays = [None if x is None else np.asarray(x) for x in inputs]
        op.check_inputs(len(arrays), lambda i: arrays[i] is None)
        with np.errstate(all="ignore"):
            return op.reference(*arrays, **attrs)


_stack: list[Interpreter] = [Eager()]


def current() -> Interpreter:
    """The interpreter in force."""
    return _stack[-1]


@contextlib.contextmanager
def use(interpreter: Interpreter) -> Iterator[Interpreter]:
    """Put an interpreter on top of the stack inside a ``with`` block."""
    _stack.append(interpreter)
    try:
        yield interpreter
    finally:
        _stack.pop()
