"""Products whose activations are quantized at run time, as onnxruntime's dynamic quantizer writes them:

    q, s, z = dynamic_quantize(x);  cast(matmul_integer(q, w, z)) * (s * w_scale)  ->  dynamic_matmul(x, w, w_scale)

Weights must be constant and symmetric (or fit int8 once their zero point is taken off).  The result has the same bits.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.pattern import Match, OneOf, Op, Rule, Var, apply_rules
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Value

TOLERANCE = "float"


def run(graph: Graph) -> dict[str, int]:
    """Fuse in every graph."""
    return walk.each_graph(graph, _one)


_PRODUCT = OneOf(
    Op("matmul_integer", Var("q"), Var("w"), Var("z")),
    Op("matmul_integer", Var("q"), Var("w"), Var("z"), Var("wz")),
)
_PATTERN = Op("mul", Op("cast", _PRODUCT, dtype="float32"), Op("mul", Var("s"), Var("ws"), shared=True))


def _build(rw: Rewriter, m: Match) -> Value | None:
    q, s, z = m["q"].producer, m["s"], m["z"]
    if q is None or q.op != "dynamic_quantize" or q.outputs[0] is not m["q"] or s.producer is not q:
        return None
    if z.producer is not q or [v is not None for v in q.outputs] != [True] * 3 or q.outputs[1] is not s:
        return None
    x, w, ws = q.inputs[0], walk.data(m["w"]), walk.data(m["ws"])
    if x is None or x.rank is None or x.rank < 2 or w is None or w.ndim != 2 or ws is None:
        return None
    if ws.size not in (1, w.shape[1]) or ws.dtype != np.float32:
        return None
    wide = w.astype(np.int32)
    if "wz" in m:
        wz = walk.data(m["wz"])
        if wz is None or wz.size not in (1, w.shape[1]):
            return None
        wide = wide - wz.astype(np.int32).reshape(-1)
    if wide.size and (wide.min() < -128 or wide.max() > 127):
        return None
    node = m.root.name if m.root is not None else ""
    return rw.op("dynamic_matmul", x, wide.astype(np.int8), ws.reshape(-1), node=node, per_row=False)


def _one(graph: Graph) -> Counter[str]:
    rw = Rewriter(graph)
    counts = apply_rules(rw, [Rule("dynamic_matmul", _PATTERN, _build)])
    rw.commit()
    return counts
