"""A transpose before the flattening in front of a fully connected layer moves into the layer's weights.

    matmul(flatten(transpose(x, perm)), w)   ->   matmul(flatten(x), rows of w in the order of x)

Channels-first models flatten [N, C, H, W]; channels last, that is a transpose of a whole activation on every run, where
a permutation of constant rows at convert time serves.  Refused when the transpose moves a dim that is not flattened,
when a flattened dim is symbolic, and when another node reads the weights (they would be stored twice).
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from deploykit.converters.ir import views, walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr
from deploykit.graph import Dim, Graph, Node, Value

TOLERANCE = "float"  # the same products, added up in another order


def run(graph: Graph) -> dict[str, int]:
    """Move transposes into weights, in a graph and its bodies.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 4, 4, 3))
    >>> flat = b.op("flatten", b.op("transpose", x, perm=(0, 3, 1, 2)), axis=1)
    >>> g = b.output(b.op("matmul", flat, np.ones((48, 5), np.float32)), "y")
    >>> run(g), [n.op for n in g.nodes]
    ({'matmul': 1}, ['reshape', 'matmul'])
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        if n.op != "matmul" or attr(n, "transpose_a"):
            continue
        found = _flattened(rw, n)
        if found is None:
            continue
        x, sizes, order = found
        flat, w = n.inputs[0], n.inputs[1]
        assert flat is not None and flat.shape is not None and w is not None and w.data is not None
        with rw.before(n):
            new = views.view(rw, x, flat.shape)
            if new is None:
                continue
            rw.set_input(n, 0, new)
            rw.set_input(n, 1, rw.constant(_reorder(w.data, sizes, order, attr(n, "transpose_b")), w.name))
        counts["matmul"] += 1
    rw.commit()
    return counts


def _flattened(rw: Rewriter, n: Node) -> tuple[Value, tuple[int, ...], tuple[int, ...]] | None:
    """(x before the transpose, sizes of the flattened dims after it, for each of x's dims its place among them)."""
    flat, w = n.inputs[0], n.inputs[1]
    if flat is None or w is None or w.data is None or w.data.ndim != 2 or rw.sole_user(w) is not n:
        return None
    view = flat.producer
    if view is None or view.op not in views.VIEWS or view.inputs[0] is None:
        return None
    moved = view.inputs[0]
    t = moved.producer
    if t is None or t.op != "transpose" or t.inputs[0] is None or moved.shape is None or flat.shape is None:
        return None
    lead = len(flat.shape) - 1
    perm = tuple(attr(t, "perm")) or tuple(reversed(range(len(moved.shape))))
    sizes = moved.shape[lead:]
    if moved.shape[:lead] != flat.shape[:lead] or perm[:lead] != tuple(range(lead)):
        return None
    if any(isinstance(d, Dim) for d in sizes) or len(sizes) < 2 or math.prod(sizes) != flat.shape[-1]:  # type: ignore[arg-type]
        return None
    order = tuple(int(i) for i in np.argsort([p - lead for p in perm[lead:]]))
    return t.inputs[0], sizes, order  # type: ignore[return-value]


def _reorder(w: np.ndarray, sizes: tuple[int, ...], order: tuple[int, ...], rows_last: bool) -> np.ndarray:
    """The rows of [K, N] weights (columns of [N, K]) from the transposed order to that of x."""
    if rows_last:
        return np.ascontiguousarray(_reorder(w.T, sizes, order, False).T)
    parts = w.reshape(*sizes, w.shape[1])
    return np.ascontiguousarray(parts.transpose(*order, len(sizes))).reshape(w.shape)
