"""Let batch normalisation of a training step apply the activation behind it, forward and backward.

    relu(batch_norm_train(x, ...))                                      act="relu", also relu6
    batch_norm_train_gradient(where(y > 0, g, 0), x, ...)               g itself; y is the fused result

The forward step must have no other reader of the normalised tensor.  On the way back the slope is found again from x,
which is read anyway, so neither y nor the masked gradient passes through memory once more.
"""

from __future__ import annotations

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter, each_node
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"


def run(graph: Graph) -> dict[str, int]:
    """Fuse in every graph; counts by kind.

    >>> import numpy as np
    >>> from deploykit.ops import GraphBuilder
    >>> b, one = GraphBuilder(), np.ones(3, np.float32)
    >>> y, mean, variance = b.op("batch_norm_train", b.input("x", "float32", (4, 3)), one, one)
    >>> g = b.output(b.op("relu", y), "y")
    >>> run(g), [n.op for n in g.nodes]
    ({'activation': 1}, ['batch_norm_train'])
    """
    return each_node(graph, _visit)


def _visit(rw: Rewriter, node: Node) -> str:
    if node.op in ("relu", "relu6"):
        return _activation(rw, node)
    return _gradient(rw, node) if node.op == "batch_norm_train_gradient" else ""


def _activation(rw: Rewriter, node: Node) -> str:
    y = node.inputs[0]
    p = None if y is None else y.producer
    if p is None or p.op != "batch_norm_train" or not rw.alive(p) or y is not p.outputs[0]:
        return ""
    if rw.sole_user(y) is not node or walk.attr(p, "act") != "none":
        return ""
    with rw.before(p):
        new = rw.op(p.op, *p.inputs, node=p.name, **{**p.attrs, "act": node.op})
    rw.replace(node.output, new[0])
    for old, now in zip(p.outputs[1:], new[1:], strict=True):
        rw.replace(old, now)
    return "activation"


def _gradient(rw: Rewriter, node: Node) -> str:
    g = node.inputs[0]
    where = None if g is None else g.producer
    if where is None or where.op != "where" or rw.sole_user(g) is not node or walk.attr(node, "act") != "none":
        return ""
    inside, kept, otherwise = where.inputs
    if (
        inside is None
        or kept is None
        or otherwise is None
        or walk.scalar(otherwise) != 0
        or not walk.same_shape(kept, g)
    ):
        return ""
    y, act = _condition(inside)
    p = None if y is None else y.producer
    if p is None or p.op != "batch_norm_train" or y is not p.outputs[0] or walk.attr(p, "act") != act:
        return ""
    same = list(p.inputs) == list(node.inputs[1:4]) and list(p.outputs[1:]) == list(node.inputs[4:6])
    if not same or any(walk.attr(p, k) != walk.attr(node, k) for k in ("epsilon", "axis")):
        return ""
    with rw.before(node):
        new = rw.op(node.op, kept, *node.inputs[1:], node=node.name, **{**node.attrs, "act": act})
    for old, now in zip(node.outputs, new, strict=True):
        rw.replace(old, now)
    return "gradient"


def _condition(inside: Value) -> tuple[Value | None, str]:
    """(y, act) of ``y > 0`` or ``y > 0 and y < 6``."""
    n = inside.producer
    if n is None:
        return None, ""
    if n.op == "greater" and walk.scalar(n.inputs[1]) == 0:
        return n.inputs[0], "relu"
    if n.op == "logical_and":
        a, b = (v.producer if v is not None else None for v in n.inputs)
        if a is not None and b is not None and (a.op, b.op) == ("greater", "less"):
            if a.inputs[0] is b.inputs[0] and walk.scalar(a.inputs[1]) == 0 and walk.scalar(b.inputs[1]) == 6:
                return a.inputs[0], "relu6"
    return None, ""
