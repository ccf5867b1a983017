"""Let conv, matmul and conv_transpose apply what follows them while the result is still in registers: an activation, a
residual, a bias that is computed.

    act(product + bias)                      any activation of ops.activation.ACTIVATIONS
    act(product + bias) + residual           the residual has the shape of the result
    act(product + bias + residual)           the ResNet form (act_after)

The product must have no other reader.  The fused node stands where the last of its parts stood, so the residual is there.
"""

from __future__ import annotations

import math

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter, each_node
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"
# Where an op has its bias and its residual; conv_transpose has none.
BIAS = {"conv": 2, "matmul": 2, "conv_transpose": 2, "dynamic_matmul": 3}
RESIDUAL = {"conv": 3, "matmul": 3, "dynamic_matmul": 4}
PRODUCERS = tuple(BIAS)

PLAIN = ("relu", "relu6", "sigmoid", "tanh", "hard_swish", "softplus", "mish")


def run(graph: Graph) -> dict[str, int]:
    """Fuse in every graph; counts by kind.

    >>> import numpy as np
    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 3))
    >>> g = b.output(b.op("relu", b.op("matmul", x, np.ones((3, 4), np.float32))), "y")
    >>> run(g), [n.op for n in g.nodes]
    ({'activation': 1}, ['matmul'])
    """
    return each_node(graph, _visit)


def _visit(rw: Rewriter, node: Node) -> str:
    if node.op == "add":
        return _bias(rw, node) or _residual(rw, node)
    found = activation(node)
    return _activation(rw, node, *found) if found else ""


def activation(node: Node) -> tuple[str, float, float] | None:
    """(act, act_alpha, act_beta) for a node that is an activation the epilogue knows."""
    if node.op in PLAIN:
        return node.op, 0.0, 0.0
    match node.op:
        case "leaky_relu" | "elu":
            return node.op, walk.attr(node, "alpha"), 0.0
        case "hard_sigmoid":
            return node.op, walk.attr(node, "alpha"), walk.attr(node, "beta")
        case "silu" if walk.attr(node, "alpha") == 1.0:
            return "silu", 0.0, 0.0
        case "gelu":
            return ("gelu_tanh" if walk.attr(node, "approximate") else "gelu"), 0.0, 0.0
        case "clip":
            low, high = walk.operand(node, 1), walk.operand(node, 2)
            bounds = (-math.inf if low is None else walk.scalar(low), math.inf if high is None else walk.scalar(high))
            if bounds[0] is None or bounds[1] is None or math.isnan(bounds[0]) or math.isnan(bounds[1]):
                return None
            return "clip", bounds[0], bounds[1]
    return None


def _producer(rw: Rewriter, v: Value | None, user: Node) -> Node | None:
    """The fusable node behind a float value that only ``user`` reads."""
    if v is None or v.dtype is None or v.dtype.kind != "f":
        return None
    p = v.producer
    if p is None or p.op not in PRODUCERS or not rw.alive(p) or rw.sole_user(v) is not user:
        return None
    return p


def _activation(rw: Rewriter, node: Node, act: str, alpha: float, beta: float) -> str:
    p = _producer(rw, node.inputs[0], node)
    if p is None or walk.attr(p, "act") != "none":
        return ""
    attrs = {**p.attrs, "act": act, "act_alpha": alpha, "act_beta": beta}
    if p.op in RESIDUAL and walk.operand(p, RESIDUAL[p.op]) is not None:
        attrs["act_after"] = True
    with rw.before(node):
        rw.replace(node.output, rw.op(p.op, *p.inputs, node=p.name, **attrs))
    return "activation"


def _residual(rw: Rewriter, node: Node) -> str:
    # the later of two candidates: what comes before it stays as it is and is ready by then
    for i in (1, 0):
        p = _producer(rw, node.inputs[i], node)
        other = node.inputs[1 - i]
        if p is None or p.op not in RESIDUAL or other is None or other is node.inputs[i]:
            continue
        if walk.operand(p, RESIDUAL[p.op]) is not None or walk.attr(p, "act_after"):
            continue
        if not walk.same_shape(other, p.output) or other.dtype is not p.output.dtype or other.is_constant:
            continue
        inputs = [*p.inputs, None, None][: RESIDUAL[p.op]]
        with rw.before(node):
            rw.replace(node.output, rw.op(p.op, *inputs, other, node=p.name, **p.attrs))
        return "residual"
    return ""


def _bias(rw: Rewriter, node: Node) -> str:
    """A vector along the last dim that is computed, not constant (constants are folded by fold_affine)."""
    for i in (0, 1):
        p = _producer(rw, node.inputs[i], node)
        other = node.inputs[1 - i]
        if p is None or other is None or other.rank != 1 or p.output.rank in (None, 1):
            continue
        at = BIAS[p.op]
        if walk.operand(p, at) is not None or walk.operand(p, at + 1) is not None or walk.attr(p, "act") != "none":
            continue
        if p.output.shape is None or other.shape is None or other.shape[0] != p.output.shape[-1]:
            continue
        if other.dtype is not p.output.dtype:
            continue
        with rw.before(node):
            inputs = [*p.inputs, None, None][:at]
            rw.replace(node.output, rw.op(p.op, *inputs, other, node=p.name, **p.attrs))
        return "bias"
    return ""
