"""Let convolutions and pools do the padding before them: pad(x) -> conv becomes conv with larger ``pads``.

Only spatial dims may be padded, by non-negative constants, in constant mode.  The value must be what the op itself pads
with: 0 for conv and for an avg_pool that counts its padding (or has none of its own and is made to count it), -inf for
max_pool.  A max_pool of values that are never negative takes zeros as well: a window holds at least one real element,
so a zero of the padding never decides.
"""

from __future__ import annotations

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter, each_node
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"


def run(graph: Graph) -> dict[str, int]:
    """Fold in every graph; the number of pads that disappeared into each op."""
    return each_node(graph, _visit)


def _visit(rw: Rewriter, node: Node) -> str:
    return node.op if node.op in ("conv", "avg_pool", "max_pool") and _fold(rw, node) else ""


def _fold(rw: Rewriter, node: Node) -> bool:
    x = node.inputs[0]
    pad = None if x is None else x.producer
    if pad is None or pad.op != "pad" or x is None or x.rank is None or walk.attr(node, "pad_mode") != "explicit":
        return False
    n = x.rank - 2
    more = spatial_pads(pad, x.rank)
    if more is None or not _value_fits(pad, node):
        return False
    own = walk.attr(node, "pads") or (0,) * (2 * n)
    attrs = {**node.attrs, "pads": tuple(int(a + b) for a, b in zip(own, more, strict=True))}
    if node.op == "avg_pool" and not walk.attr(node, "count_include_pad"):
        if any(own):
            return False  # its own padding does not count, the pad's does: no attr says that
        attrs["count_include_pad"] = True
    if node.op != "conv" and not _windows_stay_inside(node, attrs["pads"], n):
        return False
    with rw.before(node):
        made = rw.op(node.op, pad.inputs[0], *node.inputs[1:], node=node.name, outputs=len(node.outputs), **attrs)
    for old, new in zip(node.outputs, made, strict=True):
        if old is not None:
            rw.replace(old, new)
    return True


def spatial_pads(pad: Node, rank: int) -> list[int] | None:
    """Befores then afters of the spatial dims; None unless the node pads only those, with known, non-negative sizes."""
    pads, axes = walk.data(walk.operand(pad, 1)), walk.operand(pad, 3)
    if pads is None or walk.attr(pad, "mode") != "constant" or rank < 3:
        return None
    named = range(rank) if axes is None else walk.data(axes)
    if named is None:
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, [int(a) % rank for a in named]] = pads.reshape(2, -1)
    if (full < 0).any() or full[:, [0, -1]].any():
        return None
    return [int(v) for v in full[:, 1:-1].reshape(-1)]


def _value_fits(pad: Node, node: Node) -> bool:
    value = walk.operand(pad, 2)
    number = 0.0 if value is None else walk.scalar(value)
    if node.op == "max_pool":
        # with indices, a zero of the padding may win the tie for the position
        wants_indices = len(node.outputs) > 1 and node.outputs[1] is not None
        return number == -np.inf or (number == 0.0 and not wants_indices and _never_negative(pad.inputs[0]))
    return number == 0.0


def _never_negative(v: Value | None) -> bool:
    p = None if v is None else v.producer
    if p is None:
        return False
    if p.op in ("conv", "matmul", "conv_transpose"):
        last = p.op == "conv_transpose" or walk.operand(p, 3) is None or walk.attr(p, "act_after")
        return last and walk.attr(p, "act") in ("relu", "relu6", "sigmoid")
    return p.op in ("relu", "relu6", "sigmoid", "abs", "square", "exp", "softplus")


def _windows_stay_inside(node: Node, pads: tuple[int, ...], n: int) -> bool:
    """Pools: less padding than kernel, so that every window holds a real element, and no rounding up of sizes."""
    kernel = walk.attr(node, "kernel")
    return not walk.attr(node, "ceil_mode") and all(p < kernel[i % n] for i, p in enumerate(pads))
