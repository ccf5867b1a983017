"""Replace an op by a cheaper one that says the same: powers with a small constant exponent, quotients of one, squares.

| before | after | |
|---|---|---|
| pow(x, 1) | x | |
| pow(x, 2), mul(x, x) | square(x) | exact |
| pow(x, 3) | mul(square(x), x) | one rounding more |
| pow(x, -1), div(1, x) | reciprocal(x) | exact |
| reciprocal(sqrt(x)), div(1, sqrt(x)) | rsqrt(x) | one rounding less |
| sub(0, x) | neg(x) | -0 for 0 |
| div(x, c), c a power of two | mul(x, 1 / c) | exact |

pow(x, 0.5) is not sqrt(x): they differ at -inf and -0.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import same_shape, scalar
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"


def run(graph: Graph) -> dict[str, int]:
    """Apply the table above to a graph and its bodies.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (3,))
    >>> g = b.output(b.op("pow", x, np.float32(2)), "y")
    >>> run(g), g.nodes[0].op
    ({'pow': 1}, 'square')
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        rule = _RULES.get(n.op)
        if rule is None or n.output.dtype is None or n.output.dtype.kind != "f" or n.output.quant is not None:
            continue
        with rw.before(n):
            new = rule(rw, n)
        if new is not None:
            rw.replace(n.output, new)
            counts[n.op] += 1
    rw.commit()
    return counts


def _whole(x: Value | None, n: Node) -> Value | None:
    """``x`` when it has the result's dtype and shape: the other operand does not enlarge it."""
    return x if x is not None and x.dtype is n.output.dtype and same_shape(x, n.output) else None


def _pow(rw: Rewriter, n: Node) -> Value | None:
    x, exponent = _whole(n.inputs[0], n), scalar(n.inputs[1])
    if x is None:
        return None
    if exponent == 1:
        return x
    if exponent == 2:
        return rw.op("square", x)
    if exponent == 3:
        return rw.op("mul", rw.op("square", x), x)
    return rw.op("reciprocal", x) if exponent == -1 else None


def _mul(rw: Rewriter, n: Node) -> Value | None:
    return rw.op("square", n.inputs[0]) if n.inputs[0] is n.inputs[1] else None


def _div(rw: Rewriter, n: Node) -> Value | None:
    a, b = n.inputs
    if scalar(a) == 1 and (x := _whole(b, n)) is not None:
        return _inverse(rw, x)
    by = scalar(b)
    x = _whole(a, n)
    if x is None or by is None or by == 0 or not np.isfinite(by) or x.is_constant:
        return None
    mantissa, exponent = np.frexp(by)
    if abs(mantissa) != 0.5 or not -14 < exponent < 15:  # far inside every float's range
        return None
    return rw.op("mul", x, np.asarray(1 / by).astype(x.dtype.np))  # type: ignore[union-attr]


def _reciprocal(rw: Rewriter, n: Node) -> Value | None:
    x = n.inputs[0]
    root = None if x is None else x.producer
    return rw.op("rsqrt", root.inputs[0]) if root is not None and root.op == "sqrt" else None


def _inverse(rw: Rewriter, x: Value) -> Value:
    root = x.producer
    if root is not None and root.op == "sqrt":
        return rw.op("rsqrt", root.inputs[0])
    return rw.op("reciprocal", x)


def _sub(rw: Rewriter, n: Node) -> Value | None:
    x = _whole(n.inputs[1], n)
    return rw.op("neg", x) if x is not None and scalar(n.inputs[0]) == 0 else None


_RULES = {"pow": _pow, "mul": _mul, "div": _div, "reciprocal": _reciprocal, "sub": _sub}
