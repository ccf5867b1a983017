"""Evaluate early: nodes on constants, shape arithmetic that became known, branches and loops with known conditions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import VALUED, Rewriter
from deploykit.errors import DeploykitError
from deploykit.graph import Dim, Graph, Node, Value
from deploykit.graph.mapped import in_file
from deploykit.ops import get
from deploykit.ops.dispatch import run_reference

TOLERANCE = "float"  # a reference may round in another order than the engine

# A result is kept when it is small, or not much larger than what it was made from: fill and expand stay ops.
BIG = 1 << 20
GROWTH = 4
# All results of one graph together: joining a constant to itself thirty times stays under the limit of each step.
TOTAL = 256 << 20
WORK = 1 << 32  # products for one result: some seconds of NumPy
_HEAVY = frozenset(("attention", "conv", "dynamic", "matmul", "quantized", "recurrent", "signal"))


def run(graph: Graph) -> dict[str, int]:
    """Fold what is known.

    >>> import numpy as np
    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2,))
    >>> g = b.output(b.op("add", x, b.op("exp", np.zeros(2, np.float32))))
    >>> run(g), len(g.nodes)
    ({'nodes': 1}, 1)
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    if graph.fold_budget is None:
        graph.fold_budget = TOTAL + GROWTH * walk.weight_bytes(graph)
    for n in rw.nodes():
        if n.op == "if":
            counts["captures"] += _sink_constants(rw, n)
            counts["branches"] += _inline_branch(rw, n)
        elif n.op == "loop":
            counts["captures"] += _sink_constants(rw, n)
            counts["loops"] += _skip_loop(rw, n)
        elif not walk.is_effect(n) and not walk.is_random(n):
            counts["nodes"] += _fold(rw, n, graph)
    rw.commit()
    return counts


def _fold(rw: Rewriter, n: Node, graph: Graph) -> bool:
    constant = all(v is None or v.is_constant for v in n.inputs)
    if not constant and n.op not in VALUED:
        return False
    outs = [v for v in n.outputs if v is not None]
    if (
        not outs
        or any(v.quant is not None for v in outs)
        or walk.unfolded(n.op, walk.data(walk.operand(n, 0)), n.attrs)
    ):
        return False
    if constant:
        results = _evaluate(n, graph)
    else:  # shape arithmetic: the op's own rule knows the values
        known = [rw.known(v) for v in outs]
        results = None if any(k is None for k in known) else dict(zip(outs, known, strict=True))  # type: ignore[arg-type]
    if results is None:
        return False
    for v, a in results.items():
        assert v.dtype is not None
        c = rw.constant(in_file(np.asarray(a, v.dtype.np)), v.name)
        c.name, v.name = v.name, c.name
        rw.replace(v, c)
    rw.erase(n)
    return True


def _evaluate(n: Node, graph: Graph) -> dict[Value, np.ndarray] | None:
    op = get(n.op)
    outs = [v for v in n.outputs if v is not None]
    given = sum(v.data.nbytes for v in n.inputs if v is not None and v.data is not None)
    limit = min(max(BIG, GROWTH * given), graph.fold_budget or 0)
    if op.reference is None or sum(_bytes(v) for v in outs) > limit:
        return None
    attrs = op.complete(n.attrs)
    if _work(n, op.family, attrs) > WORK:
        return None
    if "n_outputs" in op.extra:
        attrs["n_outputs"] = len(n.outputs)
    try:
        got = run_reference(op, [walk.data(v) for v in n.inputs], attrs)
    except (ArithmeticError, IndexError, TypeError, ValueError, DeploykitError):
        return None  # left for run time, where it is reported
    results = {v: np.asarray(a) for v, a in zip(n.outputs, got, strict=False) if v is not None}
    if sum(a.nbytes for a in results.values()) > limit or len(results) < len(outs):
        return None
    graph.fold_budget = (graph.fold_budget or 0) - sum(a.nbytes for a in results.values())
    return results


def _work(n: Node, family: str, attrs: dict[str, Any]) -> int:
    """About how many products the NumPy reference computes, for ops where they are many more than elements."""
    shapes = [walk.static_shape(v) or () for v in n.inputs if v is not None]
    out = sum(math.prod(walk.static_shape(v) or ()) for v in n.outputs if v is not None)
    if family == "conv" and len(shapes) > 1:
        return out * math.prod(shapes[1][1:])
    if family == "pool":
        return out * math.prod(attrs.get("kernel") or (1,))
    if n.op in ("matmul", "matmul_integer") and shapes[0]:
        return out * shapes[0][-1]
    return out * max(map(math.prod, shapes), default=1) if family in _HEAVY else 0


def _bytes(v: Value) -> int:
    shape = walk.static_shape(v)
    return 0 if shape is None or v.dtype is None else math.prod(shape) * v.dtype.itemsize


# ---------------------------------------------------------------- control flow
def _sink_constants(rw: Rewriter, n: Node) -> int:
    """Captures that are constants become constants of the bodies."""
    if n.op == "if":
        bodies, first, shift = [n.attrs["then_graph"], n.attrs["else_graph"]], 1, 1
    else:
        bodies, first, shift = [n.attrs["body"]], 2 + n.attrs["carried"], 0
    sunk = [i for i in range(first, len(n.inputs)) if n.inputs[i] is not None and n.inputs[i].is_constant]  # type: ignore[union-attr]
    for i in reversed(sunk):
        outer = n.inputs[i]
        assert outer is not None
        for b in bodies:
            inner = Rewriter(b)
            v = b.inputs[i - shift]
            inner.replace(v, Value(inner.unique(outer.name), data=outer.data, quant=outer.quant))
            inner.commit(sweep=False)
            del b.inputs[i - shift]
        rw.set_input(n, i, None)
        del n.inputs[i]
    return len(sunk)


def _inline_branch(rw: Rewriter, n: Node) -> bool:
    """An ``if`` whose condition is known becomes the nodes of its branch."""
    condition = rw.known(n.inputs[0])
    if condition is None:
        return False
    body: Graph = n.attrs["then_graph" if condition.reshape(-1)[0] else "else_graph"]
    inline(rw, n, body, n.inputs[1:])
    return True


def inline(rw: Rewriter, n: Node, body: Graph, arguments: list[Value | None]) -> None:
    """Put a body's nodes in the place of the node that holds it."""
    env: dict[Value, Value | None] = dict(zip(body.inputs, arguments, strict=True))
    with rw.before(n):
        for inner in body.nodes:
            for v in inner.outputs:
                if v is not None:
                    v.name = rw.unique(v.name)
            inner.inputs = [env.get(v, v) if v is not None else None for v in inner.inputs]
            rw.insert(inner)
        for old, new in zip(n.outputs, body.outputs, strict=True):
            if old is not None:
                rw.replace(old, env.get(new, new))  # type: ignore[arg-type]
    rw.erase(n)


def _skip_loop(rw: Rewriter, n: Node) -> bool:
    """A loop that never runs gives its initial values and empty scans."""
    trips, condition = rw.known(walk.operand(n, 0)), rw.known(walk.operand(n, 1))
    never = (trips is not None and int(trips.reshape(-1)[0]) <= 0) or (
        condition is not None and not bool(condition.reshape(-1)[0])
    )
    carried = n.attrs["carried"]
    scans = [v for v in n.outputs[carried:] if v is not None]
    if not never or any(
        v.dtype is None or v.shape is None or any(isinstance(d, Dim) for d in v.shape[1:]) for v in scans
    ):
        return False
    for v, first in zip(n.outputs[:carried], n.inputs[2 : 2 + carried], strict=True):
        if v is not None:
            assert first is not None
            rw.replace(v, first)
    for v in scans:
        assert v.dtype is not None and v.shape is not None
        rw.replace(v, rw.constant(np.zeros((0, *v.shape[1:]), v.dtype.np), v.name))
    rw.erase(n)
    return True
