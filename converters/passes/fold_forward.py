"""Fold products and sums with constants into the weights after them: the other direction of :mod:`fold_affine`.

For z = conv(k * x + c, w) + b, with k and c numbers or vectors per channel: z = conv(x, w k) + (b + sum(w c)), k along the
input channels of w.  A sum goes in only where nothing is padded, for the border has no c; before a convolution with
padding k * x + c becomes k * (x + c / k), so that at least the product goes.  The same for products with a constant
matrix.  Networks that scale and shift behind each activation (PP-LCNet's learnable affine blocks) lose three of four such
nodes.  Refused where the product or sum has other readers, and for factors that differ so much that some channels' weights
would drown in an integer format.
"""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter, each_node
from deploykit.converters.passes.fold_affine import affine, per_channel
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"
CONSUMERS = ("conv", "matmul")
SPREAD = 4.0  # the largest factor over the smallest
LEAST = 1e-6  # of |k|: below, c / k loses its meaning


def run(graph: Graph) -> dict[str, int]:
    """Fold in every graph; counts by kind."""
    return each_node(graph, _visit)


def _visit(rw: Rewriter, node: Node) -> str:
    if node.op in CONSUMERS:
        return _fold(rw, node)
    return _shift_first(rw, node) if node.op in ("add", "sub") else ""


def _fold(rw: Rewriter, node: Node) -> str:
    found = _before(rw, node, node.inputs[0])
    if found is None or not _fixed(node):
        return ""
    x, k, c = found
    if c is not None and _padded(node):
        return ""
    w, channels = _weights(node)
    bias = walk.operand(node, 2)
    inputs: list[Value | None] = [x, node.inputs[1], bias, *node.inputs[3:]]
    if c is not None:
        more = _shift(node, w * c[channels])
        old = np.zeros_like(more) if bias is None else per_channel(bias, more.size)
        if old is None:
            return ""
        inputs[2] = rw.constant((old + more).astype(np.float32), bias.name if bias is not None else f"{node.name}/bias")
    if k is not None:
        assert inputs[1] is not None
        inputs[1] = rw.constant((w * k[channels]).astype(np.float32), inputs[1].name)
    with rw.before(node):
        new = rw.like(node, inputs)
    rw.replace(node.output, new)
    return "scale" if c is None else "bias" if k is None else "scale and bias"


def _before(rw: Rewriter, node: Node, y: Value | None) -> tuple[Value, np.ndarray | None, np.ndarray | None] | None:
    """(x, k, c) where y = k * x + c has no other reader than ``node``."""
    p = None if y is None else y.producer
    if y is None or p is None or p.op not in ("mul", "div", "add", "sub") or rw.sole_user(y) is not node:
        return None
    found = affine(p)
    if found is None or y.dtype is not dtypes.float32 or found[0].shape != y.shape:
        return None
    return found if found[1] is None or _even(found[1]) else None


def _even(k: np.ndarray) -> bool:
    size = np.abs(k)
    return k.size > 0 and bool(np.isfinite(k).all() and LEAST <= size.min() and size.max() <= SPREAD * size.min())


def _fixed(node: Node) -> bool:
    """Whether the weights are constants of the usual form; they are not read yet, for they may be large."""
    data = walk.data(node.inputs[1])
    if data is None or data.dtype != np.float32:
        return False
    return node.op == "conv" or (
        data.ndim == 2 and not walk.attr(node, "transpose_a") and walk.attr(node, "alpha") == 1.0
    )


def _weights(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """The weights as float64, and for each of their elements (broadcast) its input channel."""
    data = walk.data(node.inputs[1])
    assert data is not None
    w = data.astype(np.float64)
    if node.op == "matmul":
        rows = np.arange(w.shape[1 if walk.attr(node, "transpose_b") else 0])
        return w, rows if walk.attr(node, "transpose_b") else rows[:, None]
    groups = walk.attr(node, "groups")
    first = np.arange(groups).repeat(w.shape[0] // groups) * w.shape[-1]
    return w, first.reshape(-1, *[1] * (w.ndim - 1)) + np.arange(w.shape[-1])


def _shift(node: Node, products: np.ndarray) -> np.ndarray:
    """What each output gains."""
    if node.op == "matmul":
        return products.sum(1 if walk.attr(node, "transpose_b") else 0)
    return products.sum(tuple(range(1, products.ndim)))


def _padded(node: Node) -> bool:
    if node.op == "matmul":
        return False
    w = node.inputs[1]
    assert w is not None and w.data is not None
    automatic = walk.attr(node, "pad_mode") != "explicit" and any(k != 1 for k in w.data.shape[1:-1])
    return automatic or any(walk.attr(node, "pads") or ())


def _shift_first(rw: Rewriter, node: Node) -> str:
    """k * x + c before a padded convolution, as k * (x + c / k)."""
    user = rw.sole_user(node.output)
    if user is None or user.op != "conv" or user.inputs[0] is not node.output or not (_fixed(user) and _padded(user)):
        return ""
    outer = affine(node)
    inner = None if outer is None else _before(rw, node, outer[0])
    if (
        outer is None
        or inner is None
        or inner[1] is None
        or inner[2] is not None
        or node.output.dtype is not dtypes.float32
    ):
        return ""
    c = outer[2]
    assert c is not None
    k = inner[1]
    one = bool(np.all(k == k[0]) and np.all(c == c[0]))
    shift, scale = (v[:1] if one else v for v in (c / k, k))
    if not np.isfinite(shift.astype(np.float32)).all():
        return ""
    with rw.before(node):
        moved = rw.op("add", inner[0], rw.constant(shift.astype(np.float32), f"{node.name}/shift"))
        new = rw.op("mul", moved, rw.constant(scale.astype(np.float32), f"{node.name}/scale"))
    rw.replace(node.output, new)
    return "order"
