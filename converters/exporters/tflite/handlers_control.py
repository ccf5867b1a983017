"""If, loop, variables."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite.exporter import Site, Sub, exports
from deploykit.converters.exporters.tflite.writer import Table
from deploykit.errors import UnsupportedError
from deploykit.graph import Graph, Value


@exports("read_variable")
def read_variable(s: Site) -> None:
    s.emit("READ_VARIABLE", [s.sub.handle(s.attrs["variable"])], [s.result()], "ReadVariableOptions")


@exports("assign_variable")
def assign_variable(s: Site) -> None:
    t = s.get(0)
    s.emit("ASSIGN_VARIABLE", [s.sub.handle(s.attrs["variable"]), t], [], "AssignVariableOptions")
    s.alias(t)


def body(s: Site, graph: Graph, name: str) -> int:
    """A body as a subgraph; returns its index."""
    e = s.sub.exporter
    e.subgraphs.append(Table("SubGraph"))
    at = len(e.subgraphs) - 1
    e.subgraphs[at] = e.subgraph(graph, f"{s.sub.hint}/{name}", None, renamed=False)
    return at


@exports("if")
def if_(s: Site) -> None:
    then, other = body(s, s.attrs["then_graph"], "then"), body(s, s.attrs["else_graph"], "else")
    ins = [s.get(i) for i in range(len(s.node.inputs))]
    outs = []
    for k, v in enumerate(s.node.outputs):
        if v is None:
            raise UnsupportedError("a result of its branches is not used")
        outs.append(s.result(k))
    s.emit("IF", ins, outs, "IfOptions", then_subgraph_index=then, else_subgraph_index=other)


@exports("loop")
def loop(s: Site) -> None:
    """WHILE over (iteration, condition, carried..., captures...); collected results have no place in it."""
    g: Graph = s.attrs["body"]
    carried = s.attrs["carried"]
    if len(g.outputs) - 1 > carried:
        raise UnsupportedError("results collected over the rounds")
    trips = s.value(0)
    state = [v for v in s.node.inputs[2:] if v is not None]
    sub = s.sub
    first = sub.get(s.value(1)) if s.value(1) is not None else sub.constant(np.array(True))
    start = sub.constant(np.array(0, np.int64))
    limit = sub.get(trips) if trips is not None else sub.constant(np.array(2**62, np.int64))
    if sub.dtype(limit) is not dtypes.int64:
        limit = s.cast(limit, dtypes.int64)
    e = sub.exporter
    # the condition
    e.subgraphs.append(Table("SubGraph"))
    cond_at = len(e.subgraphs) - 1
    w = Sub(e, f"{sub.hint}/cond")
    w.hint = "cond"
    kinds: list[tuple[object, object]] = [(dtypes.int64, ()), (dtypes.bool_, ()), (dtypes.int64, ())]
    kinds += [(v.dtype, v.shape) for v in g.inputs[2:]]
    ins = [w.tensor(d, sh) for d, sh in kinds]  # type: ignore[arg-type]
    early, both = w.tensor(dtypes.bool_, ()), w.tensor(dtypes.bool_, ())
    w.emit("LESS", [ins[0], ins[2]], [early], "LessOptions")
    w.emit("LOGICAL_AND", [early, ins[1]], [both], "LogicalAndOptions")
    e.subgraphs[cond_at] = w.table(ins, [both])
    # the body
    e.subgraphs.append(Table("SubGraph"))
    body_at = len(e.subgraphs) - 1
    w = Sub(e, f"{sub.hint}/body")
    w.hint = "body"
    head = [w.input(v) for v in g.inputs[:2]]
    stop = w.tensor(dtypes.int64, (), "limit")
    rest = [w.input(v) for v in g.inputs[2:]]
    w.nodes(g)
    after = w.tensor(dtypes.int64, (), "next")
    w.emit("ADD", [head[0], w.constant(np.array(1, np.int64))], [after], "AddOptions")
    outs = [after, _scalar(w, g.outputs[0]), stop, *(w.get(v) for v in g.outputs[1:]), *rest[carried:]]
    e.subgraphs[body_at] = w.table([head[0], head[1], stop, *rest], outs)
    results = [s.temp(dtypes.int64, ()), s.temp(dtypes.bool_, ()), s.temp(dtypes.int64, ())]
    for k, v in enumerate(s.node.outputs):
        results.append(s.result(k) if v is not None else _like(s, state[k]))
    results += [_like(s, v) for v in state[carried:]]
    s.emit(
        "WHILE",
        [start, first, limit, *(sub.get(v) for v in state)],
        results,
        "WhileOptions",
        cond_subgraph_index=cond_at,
        body_subgraph_index=body_at,
    )


def _scalar(w: Sub, v: Value) -> int:
    t = w.get(v)
    if w.shape(t) == []:
        return t
    out = w.tensor(dtypes.bool_, ())
    w.emit("RESHAPE", [t, w.i32(np.zeros(0))], [out], "ReshapeOptions")
    return out


def _like(s: Site, v: Value) -> int:
    assert v.dtype is not None
    return s.temp(v.dtype, s.sub.shape_of(v))
