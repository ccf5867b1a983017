"""Take composite ops apart into simpler ones, as their passports tell (``decompose``).

Not part of the default way: the engine runs every op whole, and other passes look for composites to put together.  It
serves exporters and builds that lack an op, which name the ops they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Node
from deploykit.ops import get

TOLERANCE = "float"
ROUNDS = 8  # parts of parts: deeper nesting than any passport has


def run(graph: Graph, has: Callable[[Node], bool] = lambda n: False) -> dict[str, int]:
    """Take apart every node that ``has`` refuses and whose passport can, until nothing is left to do.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> g = b.output(b.op("softsign", b.input("x", "float32", (3,))), "y")
    >>> run(g), [n.op for n in g.nodes]
    ({'softsign': 1}, ['abs', 'add', 'div'])
    """
    total: Counter[str] = Counter()
    for _ in range(ROUNDS):
        counts = walk.each_graph(graph, lambda g: _one(g, has))
        if not counts:
            break
        total.update(counts)
    return dict(total)


def _one(graph: Graph, has: Callable[[Node], bool]) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        parts = get(n.op).decompose
        if parts is None or has(n):
            continue
        with rw.before(n), rw.tracing():
            got = parts(*n.inputs, **walk.attrs(n))
        for old, new in zip(n.outputs, got if isinstance(got, (tuple, list)) else (got,), strict=False):
            if old is not None:
                rw.replace(old, new)
        counts[n.op] += 1
    rw.commit()
    return counts
