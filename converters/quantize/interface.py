"""Integer inputs and outputs of a quantized model: for apps that hold bytes anyway, and for chips without floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploykit import dtypes
from deploykit.errors import InputError
from deploykit.graph import Graph, Node, QuantParams, Value

IO_DTYPES = ("uint8", "int8", "int16")


def integer_interface(graph: Graph, dtype: str) -> None:
    """Let float32 inputs and outputs come and go as the integers that the model computes with; edits in place.

    The graph is what ``quantize_static`` left.  Inputs and outputs keep their names and get scale and zero point
    (``Value.quant``).  Raises InputError with all that the quantizer left in float.
    """
    users = graph.consumers()
    public = graph.public_outputs
    at: list[Callable[[], None]] = []
    problems: list[str] = []
    done: dict[Value, Value] = {}
    for i, v in enumerate(graph.inputs):
        if v.dtype is not dtypes.float32:
            continue
        readers = users.get(v, [])
        if len(readers) != 1 or readers[0].op != "quantize" or {v, readers[0].output} & set(graph.outputs):
            problems.append(f"input '{v.name}'")
        else:
            at.append(lambda i=i, v=v, q=readers[0]: _input(graph, i, v, q, dtype, users))  # type: ignore[misc]
    for k, (v, name) in enumerate(zip(graph.outputs, public, strict=True)):
        if v.dtype is not dtypes.float32:
            continue
        d = v.producer
        q = d.inputs[0].producer if d is not None and d.op == "dequantize" and d.inputs[0] is not None else None
        if q is None or q.op != "quantize" or d is None:
            problems.append(f"output '{name}'")
        else:
            at.append(lambda k=k, q=q: _output(graph, k, q, dtype, users, done))  # type: ignore[misc]
    if problems:
        raise InputError(
            f"io_dtype={dtype!r}: {', '.join(problems)}: stays float32, because no op of the int8 scheme reads or makes "
            "it (it may be kept in float). Leave io_dtype out, or keep fewer nodes in float."
        )
    for change in at:
        change()
    graph.output_names = public


def _zero(q: Node, dtype: str) -> np.ndarray:
    """The zero point of a quantize node for bytes of this dtype."""
    zero = q.inputs[2].data  # type: ignore[union-attr]
    assert zero is not None
    return (zero.astype(np.int16) - (128 if dtype == "int8" and zero.dtype == np.uint8 else 0)).astype(dtype)


def _retype(q: Node, dtype: str, readers: list[Node]) -> Value:
    """Zero point of another sign for a quantize node's bytes and whoever turns them into floats."""
    old = q.inputs[2]
    zero = _zero(q, dtype)
    made = Value(f"{old.name}/{dtype}" if old is not None else "zero", dtypes.dtype(dtype), zero.shape, data=zero)
    for n in readers:
        n.inputs[2] = made
    return made


def _params(q: Node, dtype: str) -> QuantParams:
    scale = q.inputs[1].data  # type: ignore[union-attr]
    assert scale is not None
    return QuantParams(scale.reshape(-1), _zero(q, dtype).reshape(-1))


def _input(graph: Graph, i: int, v: Value, q: Node, dtype: str, users: dict[Value, list[Node]]) -> None:
    new = Value(v.name, dtypes.dtype(dtype), v.shape, quant=_params(q, dtype))
    readers = users.get(q.output, [])
    _retype(q, dtype, readers)
    for n in readers:
        n.inputs[0] = new
    graph.inputs[i] = new
    graph.nodes.remove(q)


def _output(
    graph: Graph, k: int, q: Node, dtype: str, users: dict[Value, list[Node]], done: dict[Value, Value]
) -> None:
    y = q.output
    if y not in done:
        params = _params(q, dtype)
        q.inputs[2] = _retype(q, dtype, users.get(y, []))
        y.dtype, y.quant, done[y] = dtypes.dtype(dtype), params, y
    graph.outputs[k] = y
