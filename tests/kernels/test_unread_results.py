"""Kernels of several results do without those that nobody reads, as passes drop them (a gradient with respect to data, the
moments of a batch): each alone is the same as among all.  In a process of its own: a kernel that writes anyway ends it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploykit import native
from deploykit.graph import Graph, dkfile
from deploykit.ops.core import REGISTRY
from deploykit.ops.samples import Sample, graph_of, samples_of
from tests.support import child
from tests.support.sample_matrix import difference, flushed, runnable

NAMES = [
    n for n, op in REGISTRY.items() if runnable(op) and not op.flags & {"random", "effect"} and len(op.results) > 1
]


def only(graph: Graph, kept: int) -> Graph:
    """The graph with one of its node's results."""
    node = graph.nodes[-1]
    node.outputs = [v if i == kept else None for i, v in enumerate(node.outputs)]
    while node.outputs[-1] is None:
        node.outputs.pop()
    graph.outputs, graph.output_names = [graph.outputs[kept]], [graph.output_names[kept]]
    return graph


def run(graph: Graph, sample: Sample) -> list:
    model = native.NativeModel(dkfile.to_bytes(graph))
    session = native.NativeSession(model, threads=1)
    return session(*(flushed(x) for x in sample.inputs if x is not None))


def check(name: str) -> None:
    op = REGISTRY[name]
    for sample in samples_of(op):
        whole = run(graph_of(op, sample), sample)
        for i, want in enumerate(whole):
            print(f"{sample!r}, result {i} alone", flush=True)
            (got,) = run(only(graph_of(op, sample), i), sample)
            assert difference(got, want, op.tolerance) is None, f"result {i} alone of {sample!r}"


@pytest.mark.parametrize("name", NAMES)
def test_each_result_alone(name: str) -> None:
    done = subprocess.run(child.command("tests.kernels.test_unread_results", name), capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode} after: {done.stdout.splitlines()[-1:]}\n{done.stderr[-1500:]}"


if __name__ == "__main__":
    check(sys.argv[1])
