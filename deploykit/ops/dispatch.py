"""The stack of interpreters: what applying an op means, eager NumPy (default) or recording into a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from deploykit import dtypes
from deploykit.errors import UnsupportedError
from deploykit.ops.core import INTERPRETERS, Op


class Interpreter(Protocol):
    """Gives meaning to ``op(*inputs, **attrs)``; attrs arrive complete and checked."""

    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        """Return the op's output, or a tuple of outputs when the op has several results."""
        ...


_NUMBERS = (bool, int, float)


def coerce(op: Op, inputs: list[Any]) -> list[Any]:
    """Python numbers and lists among the inputs become arrays.

    In elementwise ops and activations a number takes the dtype of the first tensor beside it (``F.mul(x, 0.5)``) unless
    that would cut off its fraction; elsewhere numbers are int64 or float64, and an empty list is an empty int64 vector.
    """
    for x in inputs:
        if x is not None and not hasattr(x, "dtype"):
            break
    else:
        return inputs
    weak = None
    if op.family in ("elementwise", "unary", "convert", "activation"):
        names = [o.name for o in op.operands]
        weak = next(
            (x.dtype for n, x in zip(names, inputs, strict=False) if n != "condition" and hasattr(x, "dtype")), None
        )

    def array(x: Any) -> Any:
        if x is None or hasattr(x, "dtype"):
            return x
        if weak is not None and isinstance(x, _NUMBERS):
            d = dtypes.dtype(weak)
            if d.kind == "f" or (d.kind in "iu" and not isinstance(x, float)):
                return np.asarray(x).astype(d.np)
        a = np.asarray(x)
        return a.astype(np.int64) if a.size == 0 and isinstance(x, (list, tuple)) else a

    return [array(x) for x in inputs]


def run_reference(op: Op, arrays: list[np.ndarray | None], attrs: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """The op's results on arrays by its NumPy reference; ``attrs`` complete (with n_outputs where the op has it)."""
    if op.reference is None:
        raise UnsupportedError(f"op '{op.name}' has no reference implementation.")
    op.check_inputs(len(arrays), lambda i: arrays[i] is None)
    with np.errstate(all="ignore"):
        got = op.reference(*arrays, **attrs)
    return tuple(np.asarray(y) for y in (got if isinstance(got, (tuple, list)) else (got,)))


class Eager:
    """Run the reference on arrays.  An input whose class has ``__dk_apply__(op, inputs, attrs)`` decides itself what
    applying an op means: so tensors record themselves (:mod:`deploykit.autodiff`)."""

    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        for x in inputs:
            own = getattr(type(x), "__dk_apply__", None)
            if own is not None:
                return own(op, inputs, attrs)
        arrays = [None if x is None else np.asarray(x) for x in coerce(op, inputs)]
        outs = run_reference(op, arrays, attrs)
        return outs[0] if len(op.results) == 1 and not op.results[0].variadic else outs


_stack: list[Interpreter] = INTERPRETERS
_stack.append(Eager())


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
