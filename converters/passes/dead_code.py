"""Remove what nobody reads: nodes, results of nodes, captures and results of bodies."""

from __future__ import annotations

from collections import Counter

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Node, Value
from deploykit.ops import get

TOLERANCE = "exact"


def run(graph: Graph) -> dict[str, int]:
    """Drop unread nodes, results and captures, effects excepted.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2,))
    >>> unread = b.op("exp", x)
    >>> run(b.output(b.op("abs", x)))
    {'nodes': 1}
    """
    total: Counter[str] = Counter()
    while True:  # a capture dropped from a body can make a node outside dead, and the other way round
        counts = walk.each_graph(graph, _one)
        total.update(counts)
        if not counts:
            return dict(total)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    counts["nodes"] = rw.sweep()
    for n in rw.nodes():
        if n.op == "if":
            counts["results"] += _if_results(rw, n)
            counts["captures"] += _captures(rw, n, [n.attrs["then_graph"], n.attrs["else_graph"]], 1)
        elif n.op == "loop":
            counts["results"] += _loop_results(rw, n)
            counts["captures"] += _captures(rw, n, [n.attrs["body"]], 2 + n.attrs["carried"])
        elif len(n.outputs) > 1:
            counts["results"] += _plain_results(rw, n)
    rw.commit()
    return counts


def _plain_results(rw: Rewriter, n: Node) -> int:
    dead = [i for i, v in enumerate(n.outputs) if v is not None and rw.unused(v)]
    for i in dead:
        n.outputs[i].producer = None  # type: ignore[union-attr]
        n.outputs[i] = None
    if not any(r.variadic for r in get(n.op).results):
        while n.outputs[-1] is None:
            n.outputs.pop()
    return len(dead)


def _drop(items: list, indices: list[int]) -> None:
    for i in sorted(indices, reverse=True):
        del items[i]


def _drop_outputs(g: Graph, indices: list[int]) -> None:
    walk.freeze_names(g)
    _drop(g.outputs, indices)
    _drop(g.output_names, indices)


def _if_results(rw: Rewriter, n: Node) -> int:
    dead = [i for i, v in enumerate(n.outputs) if rw.unused(v)]
    if len(dead) == len(n.outputs):
        dead = dead[1:]  # a node keeps one result
    for key in ("then_graph", "else_graph"):
        _drop_outputs(n.attrs[key], dead)
    _drop(n.outputs, dead)
    return len(dead)


def _loop_results(rw: Rewriter, n: Node) -> int:
    """Scanned results nobody reads; carried values that serve only themselves."""
    body: Graph = n.attrs["body"]
    carried = n.attrs["carried"]
    needed = {i for i, v in enumerate(n.outputs) if not rw.unused(v)}
    state = {v: i for i, v in enumerate(body.inputs[2 : 2 + carried])}
    while True:
        reached = _reached(body, [body.outputs[0], *(body.outputs[1 + i] for i in sorted(needed))])
        more = {i for v, i in state.items() if v in reached} - needed
        if not more:
            break
        needed |= more
    dead = [i for i in range(len(n.outputs)) if i not in needed]
    if len(dead) == len(n.outputs):
        dead = dead[1:]
    lost = [i for i in dead if i < carried]
    if not dead:
        return 0
    _drop_outputs(body, [i + 1 for i in dead])
    Rewriter(body).commit()  # nothing may read the inputs that go now
    sweeper = Rewriter(body)
    sweeper.sweep()
    sweeper.commit()
    _drop(body.inputs, [2 + i for i in lost])
    _drop_inputs(rw, n, [2 + i for i in lost])
    _drop(n.outputs, dead)
    n.attrs["carried"] = carried - len(lost)
    return len(dead)


def _reached(g: Graph, roots: list[Value]) -> set[Value]:
    """All values from which the roots, or effects, are computed."""
    seen: set[Value] = set()
    stack = [*roots, *(v for n in g.nodes if walk.is_effect(n) for v in n.inputs if v is not None)]
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        if v.producer is not None:
            stack += [i for i in v.producer.inputs if i is not None]
    return seen


def _drop_inputs(rw: Rewriter, n: Node, indices: list[int]) -> None:
    for i in indices:
        rw.set_input(n, i, None)
    _drop(n.inputs, indices)


def _captures(rw: Rewriter, n: Node, bodies: list[Graph], first: int) -> int:
    """Inputs from ``first`` on that no body reads (input i of a body is input i of a loop, i + 1 of an if)."""
    shift = 1 if n.op == "if" else 0
    dead = []
    for i in range(first, len(n.inputs)):
        if not any(v is b.inputs[i - shift] for b in bodies for v in b.used()):
            dead.append(i)
    for b in bodies:
        _drop(b.inputs, [i - shift for i in dead])
    _drop_inputs(rw, n, dead)
    return len(dead)
