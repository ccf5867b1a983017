"""All passports' samples as models: ``.dk`` bytes with one op between copies, so that its operands are intermediates
that the plan may overwrite, and what its shape depends on is known only while running."""

from __future__ import annotations

import numpy as np
import pytest

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import dtypes, native
from deploykit.graph import Graph, Variable, dkfile
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import REGISTRY, Op
from deploykit.ops.dispatch import run_reference
from deploykit.ops.samples import Sample, samples_of
from tests.support.sample_matrix import difference, flushed, runnable

NAMES = [n for n, op in REGISTRY.items() if runnable(op) and samples_of(op)]


def model_of(op: Op, sample: Sample) -> Graph:
    """input -> copy -> op -> copy -> output, for every operand and result."""
    g = Graph(op.name)
    g.variables = [Variable(k, v) for k, v in sample.variables.items()]
    b = GraphBuilder(g)

    def copy(v):
        return b.op("cast", v, dtype=v.dtype.name)

    ins = [
        None if x is None else copy(b.input(f"x{i}", dtypes.dtype(x.dtype), x.shape))
        for i, x in enumerate(sample.inputs)
    ]
    outs = b.op(op.name, *ins, outputs=sample.n_outputs, node=op.name, **sample.attrs)
    for i, y in enumerate(outs if isinstance(outs, list) else [outs]):
        b.output(copy(y), f"y{i}")
    return g


@pytest.mark.parametrize("name", NAMES)
def test_samples_in_models(name: str) -> None:
    op = REGISTRY[name]
    for sample in samples_of(op):
        inputs = [flushed(x) for x in sample.inputs]
        attrs = op.complete(sample.attrs)
        if op.variable_outputs:
            attrs["n_outputs"] = sample.n_outputs
        want = run_reference(op, list(inputs), attrs)
        model = native.NativeModel(dkfile.to_bytes(model_of(op, sample)))
        session = native.NativeSession(model, threads=1)
        for _ in range(1 if "random" in op.flags else 2):  # the second run reuses the plan and the arena
            got = session(*(np.asarray(x) for x in inputs if x is not None))
            for i, (g, w) in enumerate(zip(got, want, strict=True)):
                wrong = difference(g, w, op.tolerance)
                assert wrong is None, f"{sample!r}, output {i}: {wrong}"
        session.close()
        model.close()
