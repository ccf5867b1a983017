"""Keep narrow weights narrow: matmul(x, dequantize(constant)) and matmul(x, cast(constant)) -> matmul_weight_only.

Constants are int8, uint8, int4 or uint4 with scales per output column or per block along the summed axis, or float16
and bfloat16.  Bias, activation and residual of the matmul go along.  Runs last, when epilogues are fused.
"""

from __future__ import annotations

from collections import Counter

from deploykit import dtypes
from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr, operand
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"
INTEGERS = ("int8", "uint8", "int4", "uint4")
FLOATS = ("float16", "bfloat16")


def run(graph: Graph) -> dict[str, int]:
    """Fuse in every graph.

    >>> import numpy as np
    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 3))
    >>> w = b.op("cast", b.constant(np.ones((3, 4), np.float16)), dtype="float32")
    >>> g = b.output(b.op("matmul", x, w), "y")
    >>> run(g), [n.op for n in g.nodes]
    ({'float16': 1}, ['matmul_weight_only'])
    """
    return walk.each_graph(graph, _one)


def takes(n: Node, v: Value) -> bool:
    """Whether this node can read ``v``, a dequantized or widened constant, in its narrow form."""
    return n.op == "matmul" and operand(n, 1) is v and n.inputs[0] is not v and _narrow(n) is not None


def _narrow(n: Node) -> list[Value | None] | None:
    """[weight, scale, zero_point] of the second operand."""
    x, w, bias = n.inputs[0], n.inputs[1], operand(n, 2)
    if x is None or w is None or w.producer is None or x.dtype is not dtypes.float32 or w.dtype is not x.dtype:
        return None
    if x.rank is None or x.rank < 2 or w.rank != 2 or attr(n, "transpose_a") or attr(n, "alpha") != 1.0:
        return None
    if bias is not None and bias.rank != 1:
        return None
    p = w.producer
    q = operand(p, 0)  # a variable that is read has no operands
    if q is None or q.data is None or q.dtype is None or any(v is not None and v.data is None for v in p.inputs):
        return None
    if p.op == "cast":
        return [q, None, None] if q.dtype.name in FLOATS else None
    if p.op != "dequantize" or q.dtype.name not in INTEGERS:
        return None
    scale, zero, block = p.inputs[1], operand(p, 2), attr(p, "block_size")
    assert scale is not None and scale.data is not None
    if scale.dtype not in (dtypes.float32, dtypes.float16):
        return None
    turned = bool(attr(n, "transpose_b"))
    summed = 1 if turned else 0
    axis = attr(p, "axis") % 2
    if scale.data.size > 1 and axis != (summed if block else 1 - summed):
        return None
    return [q, scale, zero]


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        found = _narrow(n) if n.op == "matmul" else None
        if found is None:
            continue
        q, scale, zero = found
        assert q is not None and q.dtype is not None
        w = n.inputs[1].producer  # type: ignore[union-attr]
        block = attr(w, "block_size") if w is not None and w.op == "dequantize" else 0
        how = {k: attr(n, k) for k in ("act", "act_alpha", "act_beta", "act_after")}
        with rw.before(n):
            if scale is not None and scale.data is not None and scale.data.ndim == 0:
                scale = rw.constant(scale.data.reshape(1), scale.name)
                zero = None if zero is None or zero.data is None else rw.constant(zero.data.reshape(1), zero.name)
            y = rw.op(
                "matmul_weight_only",
                n.inputs[0],
                q,
                scale,
                zero,
                operand(n, 2),
                operand(n, 3),
                node=n.name,
                transpose_b=attr(n, "transpose_b"),
                block_size=block,
                **how,
            )
            rw.replace(n.output, y)
        counts[q.dtype.name] += 1
    rw.commit()
    return counts
