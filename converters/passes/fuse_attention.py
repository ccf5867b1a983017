"""Find scaled dot-product attention: softmax(scale * q k' [+ mask]) v (Vaswani et al. 2017) becomes one op.

k' is either a ``transpose`` of k (its last two dims swapped, perhaps together with the split of heads) or the product's
own ``transpose_b``.  The scale may stand on the scores (mul, div), in the product's alpha, or on q before it (left there).
"""

from __future__ import annotations

from collections import Counter

from deploykit.converters.ir import walk
from deploykit.converters.ir.pattern import Match, OneOf, Op, Rule, Scalar, Var, apply_rules, is_float
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"


def _plain(rw: Rewriter, n: Node) -> bool:
    """A product without epilogue."""
    return walk.attr(n, "act") == "none" and not walk.attr(n, "transpose_a")


_QK = Op("matmul", Var("q", is_float), Var("k"), bind="qk", where=_plain)
_SCALED = OneOf(
    Op("mul", _QK, Scalar(name="scale")),
    Op("div", _QK, Scalar(name="over")),
    _QK,
)
_MASKED = OneOf(Op("add", _SCALED, Var("mask")), _SCALED)
_WEIGHTS = Op("softmax", _MASKED, bind="softmax")
ATTENTION = Op(
    "matmul", _WEIGHTS, Var("v"), bind="pv", where=lambda rw, n: _plain(rw, n) and not walk.attr(n, "transpose_b")
)


def _attention(rw: Rewriter, m: Match) -> Value | None:
    q, v = m["q"], m["v"]
    qk, pv, soft = m.node("qk"), m.node("pv"), m.node("softmax")
    rank = q.rank
    if rank is None or rank < 3 or v.rank != rank or m["k"].rank != rank:
        return None
    if walk.attr(soft, "axis") not in (-1, rank - 1) or walk.attr(pv, "alpha") != 1.0:
        return None
    scale = walk.attr(qk, "alpha")
    if "scale" in m:
        scale *= walk.scalar(m["scale"]) or 0.0
    elif "over" in m:
        scale /= walk.scalar(m["over"]) or 1.0
    if scale == 0.0:
        return None  # 0 means 1/sqrt(D) to the op
    if "mask" in m and (m["mask"].dtype is not q.dtype or m["mask"].rank is None or m["mask"].rank > rank):
        return None
    k = m["k"] if walk.attr(qk, "transpose_b") else _swapped(rw, m["k"])
    if k is None or q.shape is None or k.shape is None or v.shape is None:
        return None
    if not (q.shape[:-2] == k.shape[:-2] == v.shape[:-2] and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]):
        return None
    mask = m["mask"] if "mask" in m else None
    return rw.op("attention", q, k, v, mask, scale=scale, node=pv.name)


def _swapped(rw: Rewriter, kt: Value) -> Value | None:
    """k from k': joined with the transpose that made it, or by a transpose of its own."""
    assert kt.rank is not None
    swap = (*range(kt.rank - 2), kt.rank - 1, kt.rank - 2)
    node = kt.producer
    if node is not None and node.op == "transpose":
        perm = tuple(walk.attr(node, "perm")) or tuple(reversed(range(kt.rank)))
        joined = tuple(perm[i] for i in swap)
        source = node.inputs[0]
        assert source is not None
        return source if joined == tuple(range(kt.rank)) else rw.op("transpose", source, perm=joined)
    return rw.op("transpose", kt, perm=swap)


def run(graph: Graph) -> dict[str, int]:
    """Replace spelled-out attention by its op."""
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    rw = Rewriter(graph)
    counts = apply_rules(rw, [Rule("attention", ATTENTION, _attention)])
    rw.commit()
    return counts
