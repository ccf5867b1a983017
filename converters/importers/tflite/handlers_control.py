"""If, While, Call; variables.  Subgraphs that are called are inlined, bodies become closed graphs with captures."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.tflite.call import MISSING, Call, Handle, Item, handles
from deploykit.converters.ir.build import Body
from deploykit.errors import FormatError
from deploykit.graph import Graph, Value


# ---- variables
@handles("VAR_HANDLE")
def var_handle(c: Call) -> Handle:
    o = c.options("VarHandleOptions")
    container, name = o.container or "", o.shared_name or c.name
    return Handle(f"{container}/{name}" if container else name)


@handles("READ_VARIABLE")
def read_variable(c: Call) -> Value:
    h = handle(c)
    if h.name not in c.importer.variables:
        raise c.unsupported(f"variable '{h.name}' is read, but nothing gives it a first value (CALL_ONCE)")
    return c.op("read_variable", variable=h.name)


@handles("ASSIGN_VARIABLE")
def assign_variable(c: Call) -> list[Value]:
    h, v = handle(c), c.raw(1)
    if c.importer.initialising:
        data = v.data if v.data is not None else c.known(v)
        if data is None:
            raise c.unsupported(f"the first value of variable '{h.name}' is not a constant")
        c.importer.declare(h.name, np.asarray(data))
        return []
    if h.name not in c.importer.variables:
        if not all(isinstance(d, int) for d in c.shape(v)):
            raise c.unsupported(f"variable '{h.name}' has no first value (CALL_ONCE), and its shape is not known")
        c.importer.declare(h.name, np.zeros(c.shape(v), v.dtype.np))  # type: ignore[union-attr]
    c.op("assign_variable", v, variable=h.name)
    return []


def handle(c: Call) -> Handle:
    """Input 0, which must be a variable's handle."""
    h = c.item(0)
    if not isinstance(h, Handle):
        raise FormatError("input 0 is no handle of a variable")
    return h


@handles("CALL_ONCE")
def call_once(c: Call) -> list[Value]:
    """Initialisation: run while importing; what it assigns are the first values of the variables."""
    index = c.options("CallOnceOptions").init_subgraph_index
    outer = c.importer.initialising
    c.importer.initialising = True
    try:
        c.importer.inline(Body(Graph("init"), None), index, [])
    finally:
        c.importer.initialising = outer
    return []


# ---- calls
@handles("CALL")
def call(c: Call) -> list[Item]:
    return c.importer.inline(c.body, c.options("CallOptions").subgraph, [c.item(i) for i in range(c.n)])


@handles("STABLEHLO_COMPOSITE")
def composite(c: Call) -> list[Item]:
    """A named group of ops: what it consists of says everything."""
    o = c.options("StableHLOCompositeOptions")
    return c.importer.inline(c.body, o.decomposition_subgraph_index, [c.item(i) for i in range(c.n)])


@handles("IF")
def if_(c: Call) -> Any:
    o = c.options("IfOptions")
    cond = c.raw(0)
    cond = cond if c.rank(cond) == 0 else c.reshape(cond)
    items = [c.item(i) for i in range(1, c.n)]
    known = c.known(cond)
    if known is not None:
        index = o.then_subgraph_index if known.reshape(-1)[0] else o.else_subgraph_index
        return c.importer.inline(c.body, index, items)

    def branch(index: int) -> Any:
        return lambda body: tensors(c, c.importer.inline(body, index, [body.capture(i) for i in items]))

    return c.branch(cond, [("then", branch(o.then_subgraph_index)), ("else", branch(o.else_subgraph_index))])


def tensors(c: Call, items: list[Item]) -> list[Value]:
    """The results of a body, which must be tensors."""
    for i in items:
        if i is MISSING:
            raise c.unsupported("a body holds an operator that is not supported")
        if not isinstance(i, Value):
            raise c.unsupported("a body gives something that is no tensor")
    return items


@handles("WHILE")
def while_(c: Call) -> Any:
    """The condition is asked once before the loop and at the end of each round."""
    o = c.options("WhileOptions")
    items = [c.item(i) for i in range(c.n)]
    state = [v for v in items if isinstance(v, Value)]
    first = scalar_bool(c, c.importer.inline(c.body, o.cond_subgraph_index, items))
    shapes: list[Any] = [v.shape for v in state]
    for _ in range(4):
        body = c.inside("body")
        body.graph.inputs = [
            Value(body.builder.unique("iteration"), dtypes.int64, ()),
            Value(body.builder.unique("condition"), dtypes.bool_, ()),
        ]
        carried = [Value(body.builder.unique(v.name), v.dtype, s) for v, s in zip(state, shapes, strict=True)]
        body.graph.inputs += carried
        queue = list(carried)
        inner = [queue.pop(0) if isinstance(v, Value) else v for v in items]
        marked = c.importer.problems.mark()
        results = c.importer.inline(body, o.body_subgraph_index, inner)
        outs = tensors(c, [r for r in results if not isinstance(r, Handle)])
        if len(outs) != len(state):
            raise FormatError(f"the body gives {len(outs)} values for {len(state)}")
        widened = [widest(a, b.shape) for a, b in zip(shapes, outs, strict=True)]
        if widened == shapes:
            break
        shapes = widened  # a value changes its shape on the way: import the body again, knowing less
        c.importer.problems.reset(marked)
    queue = list(outs)
    following = [queue.pop(0) if isinstance(v, Value) else v for v in results]
    again = scalar_bool(c, c.importer.inline(body, o.cond_subgraph_index, following), body)
    captured = body.captured()
    body.graph.inputs += [i for _, i in captured]
    body.graph.outputs = [again, *outs]
    body.graph.variables = []
    got = c.op(
        "loop", None, first, *state, *(o for o, _ in captured), outputs=len(state), body=body.graph, carried=len(state)
    )
    queue = list(got)
    return [queue.pop(0) if isinstance(v, Value) else v for v in items]


def widest(a: Any, b: Any) -> Any:
    """What two rounds' shapes have in common; fresh symbols elsewhere."""
    from deploykit.graph import Dim

    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y or str(x).startswith("?while") else Dim.fresh("while") for x, y in zip(a, b, strict=True))


def scalar_bool(c: Call, outs: list[Item], body: Body | None = None) -> Value:
    """The one result of a condition as a scalar."""
    (v,) = tensors(c, outs)
    body = body or c.body
    if v.shape == ():
        return v
    return body.emit("reshape", [v, np.zeros(0, np.int64)], {}, f"{c.name}/condition")
