"""Weights that no integer op took: dequantize nodes on constants become float constants where a later pass may want the
numbers (to fold batch norm in, or arithmetic on them), and stay narrow where an op only reads them: a kernel takes them
as they are (fuse_weight_only), or the engine widens them once when the model is loaded.
"""

from __future__ import annotations

from collections import Counter

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.passes import fuse_weight_only
from deploykit.graph import Graph, Node, Value
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
        if users and not rw.is_output(n.output) and all(_only_reads(rw, u, n.output) for u in users):
            continue
        op = get(n.op)
        (y,) = run_reference(op, [walk.data(v) for v in n.inputs], op.complete(n.attrs))
        rw.replace(n.output, rw.constant(y, n.output.name))
        counts["weights"] += 1
    rw.commit()
    return counts


READERS = {"conv": 1, "conv_transpose": 1, "lstm": (1, 2), "gru": (1, 2), "rnn": (1, 2)}  # and which input is a weight
AFFINE = ("batch_norm", "mul", "div", "add", "sub")


def _only_reads(rw: Rewriter, u: Node, v: Value) -> bool:
    """Whether this reader leaves a weight as it is."""
    if fuse_weight_only.takes(u, v):
        return True
    places = READERS.get(u.op)
    if places is None:
        return False
    allowed = places if isinstance(places, tuple) else (places,)
    if any(x is v and i not in allowed for i, x in enumerate(u.inputs)):
        return False
    following = rw.sole_user(u.output)
    return following is None or following.op not in AFFINE or not any(_is_constant(x) for x in following.inputs)


def _is_constant(v: Value | None) -> bool:
    return v is not None and v.is_constant
