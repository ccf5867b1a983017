"""The gradient of an op through its decomposition: run it under a recorder, then walk the record backward.

This is the small, local form of the tape in ``deploykit.autodiff``, for passports whose gradient has no better closed
form.  It works eagerly and while tracing, and what it does is itself written in ops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import UnsupportedError
from deploykit.ops import dispatch
from deploykit.ops.core import F, Op
from deploykit.ops.grads import zeros_like


class _Recorder:
    """Applies ops through the interpreter below and remembers them."""

    def __init__(self, inner: dispatch.Interpreter) -> None:
        self.inner = inner
        self.steps: list[tuple[Op, list[Any], tuple[Any, ...], dict[str, Any]]] = []

    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        inputs = dispatch.coerce(op, inputs)
        out = self.inner.apply(op, inputs, attrs)
        self.steps.append((op, inputs, out if isinstance(out, tuple) else (out,), attrs))
        return out


def _is_float(x: Any) -> bool:
    return x is not None and dtypes.dtype(x.dtype).kind == "f"


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else F.add(a, b)


def gradients(op: Op, g: Sequence[Any], y: Sequence[Any], inputs: Sequence[Any], attrs: dict[str, Any]) -> tuple:
    """Gradients of one applied op, one per input (None where there is none), by its ``vjp`` or its ``decompose``.

    ``g`` has one entry per result, None for results that nothing depends on.
    """
    if op.vjp is not None and len(g) == 1 and not op.results[0].variadic:
        return op.vjp(g[0], y[0], *inputs, **attrs)
    if op.vjp is None:
        if op.decompose is not None and not op.not_differentiable:
            return vjp_through(op.decompose, g, inputs, attrs)
        if op.not_differentiable:
            return (None,) * len(inputs)
        raise UnsupportedError(f"op '{op.name}' has no gradient.")
    if op.extra.get("none_gradients"):  # its rule spares what nothing depends on
        return op.vjp(tuple(g), tuple(y), *inputs, **attrs)
    filled = tuple(zeros_like(t) if d is None and _is_float(t) else d for d, t in zip(g, y, strict=True))
    return op.vjp(filled, tuple(y), *inputs, **attrs)


def vjp_through(
    function: Callable[..., Any], g: Sequence[Any], inputs: Sequence[Any], attrs: dict[str, Any]
) -> tuple[Any, ...]:
    """Gradients of ``function(*inputs, **attrs)``, one per input, None for inputs that are absent or not float.

    >>> x = np.array([1.0, 3.0])
    >>> vjp_through(lambda x: F.mul(x, x), (np.ones(2),), (x,), {})
    (array([2., 6.]),)
    """
    # one object per input, also when a caller passes the same tensor twice
    own: list[Any] = []
    for x in inputs:
        if isinstance(x, np.ndarray):
            x = x.view()
        elif x is not None and any(x is o for o in own):
            x = F.identity(x)
        own.append(x)
    tape = _Recorder(dispatch.current())
    with dispatch.use(tape):
        out = function(*own, **attrs)
    outs = out if isinstance(out, tuple) else (out,)
    # keyed by identity; the tape keeps every tensor alive
    total: dict[int, Any] = {}
    for t, d in zip(outs, g, strict=False):
        if d is not None:
            total[id(t)] = _plus(total.get(id(t)), d)
    for op, ins, results, given in reversed(tape.steps):
        ds = [total.pop(id(t), None) for t in results]
        if all(d is None for d in ds):
            continue
        for x, d in zip(ins, gradients(op, ds, results, ins, given), strict=False):
            if d is not None and _is_float(x):
                total[id(x)] = _plus(total.get(id(x)), d)
    return tuple(total.get(id(x)) if _is_float(x) else None for x in own)
