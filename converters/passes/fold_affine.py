"""Fold what is affine per output channel into the weights before it: batch norm, and products and sums with constants.

For y = conv(x, w) + b and z = k * y + c (k, c per channel): z = conv(x, k * w) + (k * b + c).  The same for transposed
convolutions and for products with a constant matrix.  Refused where the producer has an activation or a residual, or
other readers.  A product with one number after a product of two computed operands goes into ``alpha``.
"""

from __future__ import annotations

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter, each_node
from deploykit.graph import Graph, Node, Value
from deploykit.graph.mapped import in_file, release

TOLERANCE = "float"
MOST_CHANNELS = 1 << 24
PRODUCERS = ("conv", "conv_transpose", "matmul")


def run(graph: Graph) -> dict[str, int]:
    """Fold in every graph; counts by kind."""
    return each_node(graph, _visit)


def _visit(rw: Rewriter, node: Node) -> str:
    return _fold(rw, node) if node.op in ("batch_norm", "mul", "div", "add", "sub") else ""


def _fold(rw: Rewriter, node: Node) -> str:
    found = affine(node)
    if found is None:
        return ""
    y, k, c = found
    p = y.producer
    if p is None or p.op not in PRODUCERS or rw.sole_user(y) is not node or p.outputs[0] is not y:
        return ""
    if walk.attr(p, "act") != "none" or walk.operand(p, 3) is not None or not _weights_fixed(p, k):
        return ""
    with rw.before(node):
        new = _rebuild(rw, p, k, c)
    if new is None:
        return ""
    rw.replace(node.output, new)
    return "batch_norm" if node.op == "batch_norm" else "scale" if k is not None else "bias"


def affine(node: Node) -> tuple[Value, np.ndarray | None, np.ndarray | None] | None:
    """(y, k, c) such that the node computes k * y + c with constants k, c along the last dim of y."""
    out = node.output
    if (
        out.dtype is None
        or out.dtype.kind != "f"
        or out.shape is None
        or not out.shape
        or not isinstance(out.shape[-1], int)
    ):
        return None
    n = out.shape[-1]
    a = node.inputs[0]
    assert a is not None
    if node.op == "batch_norm":
        axis = walk.attr(node, "axis")
        parts = [walk.data(v) for v in node.inputs[1:5]]
        if axis % len(out.shape) != len(out.shape) - 1 or any(v is None for v in parts):
            return None
        scale, bias, mean, variance = (np.asarray(v, np.float64) for v in parts)
        k = scale / np.sqrt(variance + walk.attr(node, "epsilon"))
        return a, k, bias - mean * k
    b = node.inputs[1]
    assert b is not None
    if a.is_constant and node.op in ("mul", "add"):
        a, b = b, a
    v = per_channel(b, n)
    if v is None or a.shape != out.shape:
        return None
    match node.op:
        case "mul":
            return a, v, None
        case "div":
            return (a, 1 / v, None) if np.all(v != 0) else None
        case "add":
            return a, None, v
    return a, None, -v


def per_channel(v: Value, n: int) -> np.ndarray | None:
    """A constant as float64 [n] when it is one number or varies along the last dim only, else None."""
    data = walk.data(v)
    if data is None or data.dtype.kind not in "fV" and data.dtype != np.float16:
        return None
    if data.size == 1:
        if n > MOST_CHANNELS:
            return None  # no layer has so many: a file that is after the memory
        return np.full(n, float(data.reshape(-1)[0]))
    if data.shape[-1] != n or data.size != n:
        return None
    return data.reshape(-1).astype(np.float64)


def _weights_fixed(p: Node, k: np.ndarray | None) -> bool:
    """Scaling needs constant weights, or for products one factor for all (then alpha takes it)."""
    w, bias = p.inputs[1], walk.operand(p, 2)
    assert w is not None
    if bias is not None and not bias.is_constant:
        return False
    if k is None:
        return True
    if w.is_constant:
        # a matrix with batch dims scales along its own last dim all the same
        return True
    return p.op == "matmul" and bool(np.all(k == k[0]))


def _rebuild(rw: Rewriter, p: Node, k: np.ndarray | None, c: np.ndarray | None) -> Value | None:
    w, bias = p.inputs[1], walk.operand(p, 2)
    assert w is not None and p.output.dtype is not None
    np_dtype = p.output.dtype.np
    n = int(p.output.shape[-1])  # type: ignore[index,arg-type]
    old = None if bias is None else per_channel(bias, n)
    if bias is not None and old is None:
        return None
    attrs = dict(p.attrs)
    if k is not None:
        if w.is_constant:
            scaled = _scaled(p, k)
            if scaled is None:
                return None
            if w.data is not None:
                release(w.data)
            w = rw.constant(in_file(scaled.astype(np_dtype, copy=False)), w.name)
        else:
            attrs["alpha"] = walk.attr(p, "alpha") * float(k[0])
        old = None if old is None else old * k
    total = old if c is None else c if old is None else old + c
    inputs: list[Value | None] = [p.inputs[0], w]
    if total is not None:
        inputs.append(rw.constant(total.astype(np_dtype), bias.name if bias is not None else f"{p.name or p.op}/bias"))
    return rw.op(p.op, *inputs, node=p.name, **attrs)


def _scaled(p: Node, k: np.ndarray) -> np.ndarray | None:
    """The producer's weights with each output channel times its factor."""
    data = walk.data(p.inputs[1])
    assert data is not None
    if p.op == "conv":  # channel by channel: the whole of it in float64 would be twice the memory
        out = np.empty(data.shape, p.output.dtype.np)  # type: ignore[union-attr]
        for row, w, factor in zip(out, data, k, strict=True):
            row[...] = w.astype(np.float64) * factor
        return out
    w = data.astype(np.float64)
    if p.op == "conv_transpose":
        groups = walk.attr(p, "groups")
        per_group = k.reshape(groups, *[1] * (w.ndim - 2), w.shape[-1])
        return w * np.repeat(per_group, w.shape[0] // groups, axis=0)
    if w.ndim < 2:
        return None
    return w * (k[:, None] if walk.attr(p, "transpose_b") else k)
