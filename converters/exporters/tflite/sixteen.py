"""Which ops of a graph become TFLite's 16x8 operators: int16 activations, int8 weights, int64 biases.

A graph says them as float ops between ``dequantize`` and ``quantize`` nodes (docs/quantization-ir.md).  Where LiteRT has
a 16-bit kernel for such an op, the nodes around it go and the op reads and makes the integers themselves; all others stay
float operators between DEQUANTIZE and QUANTIZE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite.quant import params_of
from deploykit.converters.ir import quantized as ir
from deploykit.converters.ir.walk import attr, operand
from deploykit.graph import Graph, Node, QuantParams, Value

ACTS = {"none": 0, "relu": 1, "relu6": 3}
MOVES = frozenset(("reshape", "flatten", "squeeze", "unsqueeze", "transpose", "concat", "slice", "pad"))
UNIT = frozenset(("sigmoid", "tanh", "softmax"))  # LiteRT's kernels give these a scale of 2**-15
_SAME_SCALE = MOVES | {"avg_pool", "max_pool"}
_ONE_INPUT = UNIT | {"relu", "relu6", "leaky_relu", "avg_pool", "max_pool", "reduce_mean"} | MOVES - {"concat"}


@dataclass
class Wide:
    """A marked op: scale of its first operand; scale of its weights per output, and its bias, where it has them."""

    scale: float
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None


def mark(graph: Graph) -> tuple[dict[Node, Wide], dict[Value, QuantParams]]:
    """Let the ops that have 16-bit kernels read and make integers, in place: (what to know of each, scales)."""
    marked: dict[Node, Wide] = {}
    scales: dict[Value, QuantParams] = {}
    for g in (graph, *graph.signatures.values()):
        readers, outputs = g.consumers(), set(g.outputs)
        gone: set[Node] = set()
        same: dict[Value, Value] = {}  # integers quantized again with the scale they have
        for q in g.nodes:
            q.inputs[:] = [same.get(v, v) if v is not None else None for v in q.inputs]
            y, n = _made(q), None if q.op != "quantize" or q.inputs[0] is None else q.inputs[0].producer
            if y is None or n is None:
                continue
            if _read(n.output if n.op == "dequantize" else None) == (n.inputs[0], y) and q.output not in outputs:
                same[q.output] = n.inputs[0]  # type: ignore[assignment]
                gone.add(q)
                continue
            found = None
            if q.inputs[0] not in outputs and len(readers[n.outputs[0]]) == 1:  # type: ignore[index]
                found = _operands(n, y)
            if found is None:
                continue
            inputs, wide, mine = found
            n.inputs[: len(inputs)] = inputs
            n.outputs[0] = q.output
            q.output.producer = n
            marked[n] = wide
            scales |= {**mine, q.output: QuantParams(np.float32(y), np.int16(0))}
            gone.add(q)
        g.nodes[:] = [n for n in g.nodes if n not in gone]
        used = {v for n in g.nodes for v in n.inputs} | outputs
        g.nodes[:] = [n for n in g.nodes if n.op != "dequantize" or n.output in used]
    return marked, scales


def _made(n: Node) -> float | None:
    """The scale of a quantize node that makes int16 without a zero point."""
    if n.op != "quantize" or n.output.dtype is not dtypes.int16 or n.output.shape is None:
        return None
    p = params_of(n)
    return None if p is None or p.axis is not None or p.zero_point.any() else float(p.scale)


def _read(v: Value | None) -> tuple[Value, float] | None:
    """(int16 value, scale) behind a dequantize node without a zero point."""
    d = None if v is None else v.producer
    if d is None or d.op != "dequantize" or d.inputs[0] is None or d.inputs[0].dtype is not dtypes.int16:
        return None
    p = params_of(d)
    return None if p is None or p.axis is not None or p.zero_point.any() else (d.inputs[0], float(p.scale))


def _constant(v: Value | None) -> tuple[Value, float] | None:
    """A constant operand as int16 with a scale of its own."""
    if v is None or v.data is None or v.dtype is not dtypes.float32 or not v.data.size:
        return None
    scale = float(np.float32(np.abs(v.data).max() / 32767) or np.float32(1.0))
    data = np.clip(np.rint(v.data / np.float32(scale)), -32767, 32767).astype(np.int16)
    return Value(v.name, dtypes.int16, data.shape, data=data), scale


def _operands(n: Node, y: float) -> tuple[list[Value | None], Wide, dict[Value, QuantParams]] | None:
    """(inputs as integers, what to know, their scales) of an op whose result has the scale ``y``; None: it stays float."""
    x = _read(n.inputs[0] if n.inputs else None)
    if n.op in ("conv", "matmul"):
        return None if x is None else _product(n, *x)
    if n.op in ("add", "sub", "mul"):
        pair = [_read(v) or _constant(v) for v in n.inputs]
        if not any(_read(v) for v in n.inputs) or any(p is None for p in pair):
            return None
        return _found([p for p in pair if p is not None])
    if n.op == "concat":
        parts = [_read(v) for v in n.inputs]
        if any(p is None or p[1] != y for p in parts):
            return None
        return _found([p for p in parts if p is not None])
    if n.op not in _ONE_INPUT or x is None or (n.op in _SAME_SCALE and x[1] != y):
        return None
    rank = len(x[0].shape or ())
    fits = {
        "softmax": lambda: attr(n, "axis") % rank == rank - 1,
        "reduce_mean": lambda: operand(n, 1) is not None and n.inputs[1].data is not None and n.inputs[1].data.size,  # type: ignore[union-attr]
        "pad": lambda: attr(n, "mode") == "constant" and _zero(operand(n, 2)) and rank <= 5,
        "avg_pool": lambda: rank == 4 and _plain_pool(n),
        "max_pool": lambda: rank == 4 and _plain_pool(n) and len([o for o in n.outputs if o is not None]) == 1,
    }.get(n.op, lambda: rank > 0)
    if not fits() or (n.op in UNIT and y != 2.0**-15):
        return None
    return _found([x])


def _found(parts: list[tuple[Value, float]]) -> tuple[list[Value | None], Wide, dict[Value, QuantParams]]:
    scales = {v: QuantParams(np.float32(s), np.int16(0)) for v, s in parts}
    return [v for v, _ in parts], Wide(parts[0][1]), scales


def _zero(v: Value | None) -> bool:
    return v is None or (v.data is not None and not v.data.any())


def _plain_pool(n: Node) -> bool:
    """Whether TFLite's pooling needs no padding of its own making for it."""
    if any(d != 1 for d in attr(n, "dilations")) or attr(n, "ceil_mode"):
        return False
    padded = attr(n, "pad_mode") == "same_upper"
    if n.op == "avg_pool" and padded and attr(n, "count_include_pad"):
        return False
    return padded or (attr(n, "pad_mode") in ("explicit", "valid") and not any(attr(n, "pads")))


def _product(n: Node, x: Value, sx: float) -> tuple[list[Value | None], Wide, dict[Value, QuantParams]] | None:
    """A convolution or a product with constant int8 weights."""
    w = ir.weights(n.inputs[1])
    if w is None or w.zero_point.any() or np.abs(w.q).max(initial=0) > 127 or operand(n, 3) is not None:
        return None
    if attr(n, "act") not in ACTS or x.shape is None:
        return None
    if n.op == "conv":
        groups = attr(n, "groups")
        if w.q.ndim != 4 or not (groups == 1 or (groups == x.shape[-1] and w.q.shape[-1] == 1)):
            return None
        axis = 0
    else:
        if w.q.ndim != 2 or attr(n, "alpha") != 1.0 or attr(n, "transpose_a") or len(x.shape) < 2:
            return None
        axis = 0 if attr(n, "transpose_b") else 1
    units = w.q.shape[axis]
    if w.scale.size > 1 and w.axis != axis:
        return None
    bias = ir.constant(operand(n, 2)) if operand(n, 2) is not None else np.zeros(units, np.float32)
    if bias is None or bias.reshape(-1).shape != (units,):
        return None
    weight = Value(n.inputs[1].name, dtypes.int8, w.q.shape, data=w.q.astype(np.int8))  # type: ignore[union-attr]
    wide = Wide(sx, np.broadcast_to(w.scale, (units,)).astype(np.float32), bias.reshape(-1))
    return [x, weight], wide, {x: QuantParams(np.float32(sx), np.int16(0))}
