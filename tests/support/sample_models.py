"""A passport's sample as a model of one op."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.graph import Graph, Variable
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import Op
from deploykit.ops.samples import Sample


def model_of(op: Op, sample: Sample, *, constants: bool = False) -> Graph:
    """input -> copy -> op -> copy -> output, for every operand and result.

    With ``constants`` only the first operand is an input; the others are baked in, as weights are, so that the engine
    packs them when it loads the model.
    """
    g = Graph(op.name)
    g.variables = [Variable(k, v) for k, v in sample.variables.items()]
    b = GraphBuilder(g)

    def copy(v):
        return b.op("cast", v, dtype=v.dtype.name)

    def operand(i: int, x: np.ndarray | None):
        if x is None:
            return None
        if constants and i:
            return b.constant(x)
        return copy(b.input(f"x{i}", dtypes.dtype(x.dtype), x.shape))

    ins = [operand(i, x) for i, x in enumerate(sample.inputs)]
    outs = b.op(op.name, *ins, outputs=sample.n_outputs, node=op.name, **sample.attrs)
    for i, y in enumerate(outs if isinstance(outs, list) else [outs]):
        b.output(copy(y), f"y{i}")
    return g


def feeds_of(sample: Sample, *, constants: bool = False) -> list[np.ndarray]:
    """What the model of a sample is given, in order."""
    inputs = sample.inputs[:1] if constants else sample.inputs
    return [np.asarray(x) for x in inputs if x is not None]
