"""A model with state for tests of variables: what `deploykit.keras` exports in small."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.graph.dkfile import to_bytes
from deploykit.graph.ir import Variable
from deploykit.ops.builder import GraphBuilder


def counter(path: Path) -> Path:
    """``main``: v += x, y = v; ``twice``: v += v, on the same variable, which starts as 1, 2, 3."""
    main, other = GraphBuilder(), GraphBuilder()
    for b in (main, other):
        b.graph.variables = [Variable("v", np.array([1, 2, 3], np.float32))]
        x, v = b.input("x", "float32", (3,)), b.op("read_variable", variable="v")
        new = b.op("add", v, x if b is main else v)
        b.op("assign_variable", new, variable="v")
        b.output(new if b is main else b.op("add", new, b.op("mul", x, b.constant(np.float32(0)))), "y")
    other.graph.variables = []  # the file has one list for all entry points
    main.graph.signatures["twice"] = other.graph
    path.write_bytes(to_bytes(main.graph))
    return path
