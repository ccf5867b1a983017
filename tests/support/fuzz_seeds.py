"""Small .dk files of all op families, control flow, variables and data-dependent shapes: what the fuzzer mutates.

python -m tests.support.fuzz_seeds FOLDER [per_op]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import deploykit.ops  # noqa: F401  registers the passports
from deploykit import dtypes
from deploykit.graph import Graph
from deploykit.graph.dims import Dim
from deploykit.graph.dkfile import to_bytes
from deploykit.graph.ir import Node, QuantParams, Value, Variable
from deploykit.ops.builder import GraphBuilder
from deploykit.ops.core import REGISTRY, Op
from deploykit.ops.samples import Sample, samples_of

F32 = np.float32
MAX_BYTES = 16384


def one_node(op: Op, sample: Sample, as_inputs: bool) -> Graph:
    """The sample as a graph: operands that are large or floats come as graph inputs, the others as constants."""
    g = Graph()
    values: list[Value | None] = []
    for i, x in enumerate(sample.inputs):
        if x is None:
            values.append(None)
        elif as_inputs and (i == 0 or x.dtype.kind == "f"):
            v = Value(f"x{i}", None, x.shape)
            v.dtype = dtypes.dtype(x.dtype)
            g.inputs.append(v)
            values.append(v)
        else:
            values.append(Value(f"c{i}", data=x))
    n = sample.n_outputs if op.variable_outputs else len(op.results)
    node = Node(op.name, values, [Value(f"y{k}") for k in range(n or 1)], sample.attrs, op.name)
    g.nodes.append(node)
    g.outputs = [v for v in node.outputs if v is not None]
    return g


def op_graphs(per_op: int) -> Iterator[tuple[str, Graph]]:
    """A few samples of every op that runs by itself."""
    for name, op in REGISTRY.items():
        if "effect" in op.flags or any(a.kind == "graph" for a in op.attrs.values()):
            continue
        cases = [s for s in samples_of(op) if sum(x.nbytes for x in s.inputs if x is not None) < MAX_BYTES]
        for k, sample in enumerate(cases[:: max(1, len(cases) // per_op)][:per_op]):
            yield f"op_{name}_{k}", one_node(op, sample, as_inputs=k % 2 == 0)


def network() -> Graph:
    """Convolutions, residual, pool, shape arithmetic, concat, softmax: symbolic batch and size."""
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"), Dim.symbol("h"), Dim.symbol("w"), 3))
    w1 = rng.standard_normal((8, 3, 3, 3)).astype(F32)
    y = b.op("conv", x, w1, rng.standard_normal(8).astype(F32), pads=(1, 1, 1, 1), act="relu")
    dw = rng.standard_normal((8, 3, 3, 1)).astype(F32)
    z = b.op("conv", y, dw, pads=(1, 1, 1, 1), groups=8)
    z = b.op("add", z, y)
    pool = b.op("reduce_mean", z, np.int64([1, 2]))
    size = b.op("shape_of", x)
    flat = b.op("reshape", pool, b.op("concat", b.op("gather", size, np.int64([0])), np.int64([-1]), axis=0))
    p = b.op("softmax", b.op("matmul", flat, rng.standard_normal((8, 5)).astype(F32)))
    g = b.output(b.op("concat", p, p, axis=1), "p")
    g.metadata["labels"] = ["a", "b"]
    g.outputs[0].quant = QuantParams(F32([0.5]), np.int32([3]))
    return g


def data_dependent() -> Graph:
    """non_zero and what hangs on it."""
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"),))
    at = b.op("squeeze", b.op("non_zero", x), np.int64([0]))
    y = b.op("gather", x, at)
    b.output(b.op("add", y, F32(1)), "y")
    b.output(b.op("shape_of", y), "n")
    return b.graph


def _body(**inputs: tuple[str, Any]) -> tuple[GraphBuilder, list[Value]]:
    b = GraphBuilder()
    return b, [b.input(k, d, s) for k, (d, s) in inputs.items()]


def branches(same_shape: bool) -> Graph:
    """`if` with equal or different shapes of its branches."""
    b = GraphBuilder()
    c, x = b.input("c", "bool", ()), b.input("x", "float32", (Dim.symbol("n"), 4))
    then, (tx,) = _body(tx=("float32", x.shape))
    then.output(then.op("relu", tx), "t")
    other, (ox,) = _body(ox=("float32", x.shape))
    other.output(other.op("neg", ox) if same_shape else other.op("concat", ox, ox, axis=0), "o")
    (y,) = b.op("if", c, x, outputs=1, then_graph=then.graph, else_graph=other.graph)
    b.output(b.op("mul", y, F32(2)), "y")
    return b.graph


def loops(growing: bool) -> Graph:
    """`loop` with carried values, a capture and a scanned output; shapes stay or grow."""
    b = GraphBuilder()
    n, x = b.input("n", "int64", ()), b.input("x", "float32", (2,))
    shape = (Dim.symbol("k"),) if growing else (2,)
    body, (i, c, acc, cap) = _body(i=("int64", ()), c=("bool", ()), acc=("float32", shape), cap=("float32", (2,)))
    nxt = body.op("concat", acc, cap, axis=0) if growing else body.op("add", acc, cap)
    body.output(body.op("less", i, np.int64(5)), "go")
    body.output(nxt, "next")
    body.output(body.op("reduce_sum", nxt), "sum")
    ys = b.op("loop", n, None, x, x, outputs=2, body=body.graph, carried=1)
    b.output(ys[0], "last")
    b.output(ys[1], "sums")
    return b.graph


def state() -> Graph:
    """Variables: read, assign, and an old value used after the assignment."""
    b = GraphBuilder()
    b.graph.variables = [Variable("v", F32([1, 2, 3])), Variable("w", np.zeros((2, 2), np.int64))]
    x = b.input("x", "float32", (3,))
    old = b.op("read_variable", variable="v")
    b.op("assign_variable", b.op("add", old, x), variable="v")
    b.output(b.op("mul", old, F32(2)), "y")
    return b.graph


def signatures() -> Graph:
    """Two entry points."""
    g = network()
    g.signatures["other"] = data_dependent()
    return g


def seeds(per_op: int = 2) -> Iterator[tuple[str, bytes]]:
    """All seeds as (name, bytes); what the writer refuses is left out."""
    whole = {
        "network": network,
        "data_dependent": data_dependent,
        "if_same": lambda: branches(True),
        "if_other": lambda: branches(False),
        "loop": lambda: loops(False),
        "loop_growing": lambda: loops(True),
        "state": state,
        "signatures": signatures,
    }
    for name, make in whole.items():
        yield name, to_bytes(make())
    for name, graph in op_graphs(per_op):
        yield name, to_bytes(graph)


def write(folder: Path, per_op: int = 2) -> list[Path]:
    """Write the seeds as files."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for name, data in seeds(per_op):
        out.append(folder / f"{name}.dk")
        out[-1].write_bytes(data)
    return out


if __name__ == "__main__":
    print(len(write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2)), "seeds")
