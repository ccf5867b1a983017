"""com.microsoft::DynamicQuantizeLSTM in our ops, with the arithmetic that onnxruntime uses for it: the input of all
steps is quantized as one tensor, the hidden state anew in each step, products are exact integers, gates are float.

The steps are a ``loop``, so the result is the same on every instruction set and thread count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call
from deploykit.dtypes import float32
from deploykit.graph import Graph, Value
from deploykit.ops import GraphBuilder

NAMES = ("sigmoid", "tanh", "tanh")


def expressible(c: Call) -> bool:
    """Whether this node uses only what :func:`dynamic_lstm` covers: constant recurrent weights, default activations, no
    lengths, peepholes, clipping or coupled gates."""
    acts = [a.lower() for a in c.attr("activations", ())]
    plain = all(a == NAMES[i % 3] for i, a in enumerate(acts))
    options = c.attr("clip", 0.0) == 0 and not c.attr("input_forget", 0) and not c.attr("layout", 0)
    fixed = all(c.known(c.opt(i)) is not None for i in (1, 2, 8, 9, 10, 11))
    return plain and options and fixed and c.opt(4) is None and c.opt(7) is None


def dynamic_lstm(c: Call) -> list[Value]:
    """y [T, D, B, H], y_h and y_c [D, B, H] of x [T, B, I]."""
    x, bias = c.x(0), c.opt(3)
    w, r, ws, wz, rs, rz = (np.asarray(c.known(c.x(i))) for i in (1, 2, 8, 9, 10, 11))
    directions, hidden = r.shape[0], r.shape[1]
    xq, x_scale, x_zero = c.op("dynamic_quantize", x, outputs=3)
    batch = c.op("concat", c.dims(x, 1, 2), c.i64(hidden), axis=0)
    steps = c.op("reshape", c.dims(x, 0, 1), c.i64())
    zeros = c.op("fill", batch, c.scalar(0, float32))
    results = []
    for d in range(directions):
        backwards = c.attr("direction", "forward") == "reverse" or d == 1
        products = c.op("matmul_integer", xq, c.const(w[d]), x_zero, c.const(_zero(wz[d])))
        gates = c.op("mul", c.cast(products, float32), c.op("mul", x_scale, c.const(ws[d])))
        if bias is not None:
            both = c.op("gather", bias, c.const(np.int64(d)))
            halves = c.op("split", both, None, outputs=2)
            gates = c.op("add", gates, c.op("add", *halves))
        if backwards:
            gates = c.op("reverse", gates, axes=(0,))
        initial = [zeros if c.opt(i) is None else c.op("gather", c.opt(i), c.const(np.int64(d))) for i in (5, 6)]
        body = _step(gates, initial, r[d], rs[d], rz[d])
        h, cell, ys = c.op("loop", steps, None, *initial, gates, outputs=3, body=body, carried=2)
        results.append((c.op("reverse", ys, axes=(0,)) if backwards else ys, h, cell))
    y, h, cell = zip(*results, strict=True)
    return [
        c.op("concat", *(c.op("unsqueeze", v, c.i64(1)) for v in y), axis=1),
        *(c.op("concat", *(c.op("unsqueeze", v, c.i64(0)) for v in vs), axis=0) for vs in (h, cell)),
    ]


def _zero(z: np.ndarray) -> np.ndarray:
    """A zero point per tensor as the scalar it stands for."""
    return z.reshape(()) if z.size == 1 else z


def _step(gates: Value, initial: list[Value], r: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> Graph:
    b = GraphBuilder(Graph(name="lstm_step"))
    t = b.input("t", "int64", ())
    go = b.input("go", "bool", ())
    h, cell = (b.input(n, "float32", v.shape) for n, v in zip(("h", "c"), initial, strict=True))
    projected = b.input("gates", "float32", gates.shape)
    hq, h_scale, h_zero = b.op("dynamic_quantize", h)
    products = b.op("matmul_integer", hq, b.constant(r, "r"), h_zero, b.constant(_zero(zero), "r_zero"))
    recurrent: Any = b.op(
        "mul", b.op("cast", products, dtype="float32"), b.op("mul", h_scale, b.constant(scale, "r_scale"))
    )
    total = b.op("add", b.op("gather", projected, t), recurrent)
    i, o, f, z = b.op("split", total, None, axis=-1, outputs=4)
    new_cell = b.op("add", b.op("mul", b.op("sigmoid", f), cell), b.op("mul", b.op("sigmoid", i), b.op("tanh", z)))
    new_h = b.op("mul", b.op("sigmoid", o), b.op("tanh", new_cell))
    for v in (go, new_h, new_cell, new_h):
        b.output(v)
    return b.graph
