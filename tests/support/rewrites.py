"""Run a pass on a graph, check that it is legal and computes the same, and tell which ops are left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.converters.ir import verify, walk
from deploykit.graph import Graph
from deploykit.graph.text import print_graph
from deploykit.ops import GraphBuilder


def build(make: Callable[[GraphBuilder], Any]) -> Graph:
    """A graph from a function that gets a builder and returns its outputs (one value or a tuple)."""
    b = GraphBuilder()
    outs = make(b)
    for i, v in enumerate(outs if isinstance(outs, (tuple, list)) else (outs,)):
        b.output(v, f"out{i}")
    return b.graph


def rewrite(
    graph: Graph,
    *runs: Callable[[Graph], dict[str, int]],
    tolerance: str = "float",
    inputs: dict[str, np.ndarray] | None = None,
    dims: dict[str, int] | None = None,
) -> list[str]:
    """Apply passes in order; the graph must stay legal and equal.  Returns the ops left, in order.

    A second application must find nothing more to do when it changes nothing (passes end).
    """
    before = walk.clone(graph)
    names = graph.public_outputs
    for run in runs:
        run(graph)
        verify.check_graph(graph, when=getattr(run, "__module__", "a pass"))
    assert graph.public_outputs == names
    given = inputs or verify.make_inputs(before, dims=dims, unknown=5)
    wrong = verify.compare(before, graph, given, tolerance=tolerance)
    assert wrong is None, f"{wrong}\n{print_graph(before)}\n{print_graph(graph)}"
    return [n.op for n in graph.nodes]


def input_f32(b: GraphBuilder, name: str, *shape: Any) -> Any:
    """A float32 input; dims given as text are symbolic."""
    from deploykit.graph import Dim

    return b.input(name, "float32", tuple(Dim.parse(d) if isinstance(d, str) else d for d in shape))
