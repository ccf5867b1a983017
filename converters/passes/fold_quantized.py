"""Weights that no integer op took: dequantize and cast nodes on constants become float constants.

Runs after the fusions that want such nodes (fuse_quantized, fuse_weight_only); fold_constants leaves them alone.
"""

from __future__ import annotations

from collections import Counter

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.passes import fuse_weight_only
from deploykit.graph import Graph
from deploykit.ops import get
from deploykit.ops.dispatch import run_reference

TOLERANCE = "exact"


def run(graph: Graph) -> dict[str, int]:
    """Evaluate dequantize nodes whose inputs are constants."""
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        if n.op != "dequantize" or not all(v is None or v.is_constant for v in n.inputs):
            continue
        users = rw.users(n.output)
        if users and not rw.is_output(n.output) and all(fuse_weight_only.takes(u, n.output) for u in users):
            continue
        op = get(n.op)
        (y,) = run_reference(op, [walk.data(v) for v in n.inputs], op.complete(n.attrs))
        rw.replace(n.output, rw.constant(y, n.output.name))
        counts["weights"] += 1
    rw.commit()
    return counts
