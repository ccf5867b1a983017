"""The graph IR: Graph, Node, Value, and what hangs on them.

* A **Value** is an edge: a name, a dtype, a shape (``None`` for unknown rank; dims are ``int`` or :class:`Dim`).
  Exactly one of three things defines it: a node (``producer``), the graph's inputs, or baked data (``data``: then it is
  a *constant*; the array may be a read-only memory map and is never copied by the IR).
* A **Node** applies one op (by passport name) to Values.  Missing optional inputs and unwanted outputs are ``None``.
* A **Graph** holds nodes in execution order.  Subgraphs (bodies of ``if`` and ``loop``) are attrs whose value is a
  Graph.  They are *closed*: everything a body reads from outside is passed to the node as an input (a *capture*), so
  every graph can be read, rewritten, planned and verified alone.
* **Variables** are mutable state: declared in ``graph.variables`` of the outermost graph, read by ``read_variable`` and
  written by ``assign_variable``, which keep their order.

Nothing here knows a file format or an op: shapes are inferred by ``deploykit.ops.infer``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.errors import GraphError
from deploykit.graph.dims import Shape


@dataclass
class QuantParams:
    """real = scale * (q - zero_point).  ``axis`` is None for per-tensor parameters."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None


class Value:
    """One edge of a graph; identity matters, names are for people and for graph inputs and outputs."""

    __slots__ = ("data", "dtype", "name", "producer", "quant", "shape")

    def __init__(
        self,
        name: str,
        dtype: DType | None = None,
        shape: Shape | None = None,
        *,
        data: np.ndarray | None = None,
        quant: QuantParams | None = None,
    ) -> None:
        self.name = name
        self.data = data
        if data is not None:
            dtype = dtypes.dtype(data.dtype)
            shape = tuple(int(d) for d in data.shape)
        self.dtype = dtype
        self.shape = None if shape is None else tuple(shape)
        self.producer: Node | None = None
        self.quant = quant

    @property
    def is_constant(self) -> bool:
        """True when the data is baked into the graph."""
        return self.data is not None

    @property
    def rank(self) -> int | None:
        """Number of dims, or None when unknown."""
        return None if self.shape is None else len(self.shape)

    def __repr__(self) -> str:
        dims = "?" if self.shape is None else ",".join(map(str, self.shape))
        return f"%{self.name}:{self.dtype}[{dims}]"


class Node:
    """One application of an op.  ``attrs`` holds only what differs from the passport's defaults, or all: both are
    legal; read through :func:`deploykit.ops.attr`."""

    __slots__ = ("attrs", "inputs", "name", "op", "outputs")

    def __init__(
        self,
        op: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value | None],
        attrs: dict[str, Any] | None = None,
        name: str = "",
    ) -> None:
        self.op = op
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.attrs = dict(attrs or {})
        self.name = name
        for v in self.outputs:
            if v is not None:
                v.producer = self

    @property
    def output(self) -> Value:
        """The first output."""
        v = self.outputs[0]
        assert v is not None
        return v

    def subgraphs(self) -> list[tuple[str, Graph]]:
        """The (attr name, Graph) pairs among the attrs."""
        return [(k, v) for k, v in self.attrs.items() if isinstance(v, Graph)] if self.attrs else []

    def __repr__(self) -> str:
        outs = ", ".join("_" if v is None else repr(v) for v in self.outputs)
        ins = ", ".join("_" if v is None else "%" + v.name for v in self.inputs)
        return f"{outs} = {self.op}({ins})"


@dataclass
class Variable:
    """Mutable state of a model: ``initial`` is its value after load (kept memory-mapped where it came so)."""

    name: str
    initial: np.ndarray


@dataclass
class Graph:
    """A model or a body: nodes in execution order between named inputs and outputs.

    ``signatures`` (outermost graph only) holds further entry points by name; this graph itself is the signature
    ``main``.  ``metadata`` is a flat dict of JSON-able values: labels, preprocessing, provenance.
    """

    name: str = "main"
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    signatures: dict[str, Graph] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    output_names: list[str] = field(default_factory=list)  # the public names, in order; default: names of the values
    fold_budget: int | None = field(default=None, compare=False, repr=False)  # bytes that folding may still make

    @property
    def public_outputs(self) -> list[str]:
        """Names by which ``run`` returns the outputs (two names may lead to one value)."""
        return self.output_names or [v.name for v in self.outputs]

    def constants(self) -> list[Value]:
        """Constants used by this graph's own nodes and outputs, in order of first use, each once."""
        seen: dict[int, Value] = {}
        for v in self.used():
            if v.is_constant:
                seen.setdefault(id(v), v)
        return list(seen.values())

    def used(self) -> Iterator[Value]:
        """All values read by nodes (in order) and by the outputs, with repeats."""
        for n in self.nodes:
            for v in n.inputs:
                if v is not None:
                    yield v
        yield from self.outputs

    def consumers(self) -> dict[Value, list[Node]]:
        """Map from value to the nodes that read it (a node that reads it twice stands twice)."""
        out: dict[Value, list[Node]] = {}
        for n in self.nodes:
            for v in n.inputs:
                if v is not None:
                    out.setdefault(v, []).append(n)
        return out

    def walk(self) -> Iterator[Graph]:
        """This graph and all graphs inside it (bodies of its nodes, recursively; then signatures)."""
        yield self
        for n in self.nodes:
            for _, g in n.subgraphs():
                yield from g.walk()
        for g in self.signatures.values():
            yield from g.walk()

    def sort(self) -> None:
        """Bring ``nodes`` into execution order, stably; raises GraphError with the nodes of a cycle."""
        done: set[int] = set()
        order: list[Node] = []
        own = {id(n) for n in self.nodes}
        state: dict[int, int] = {}
        for root in self.nodes:
            stack: list[tuple[Node, int]] = [(root, 0)]
            while stack:
                node, i = stack.pop()
                if id(node) in done:
                    continue
                deps = [v.producer for v in node.inputs if v is not None and v.producer is not None]
                if i == 0:
                    state[id(node)] = 1
                while i < len(deps):
                    dep = deps[i]
                    i += 1
                    if id(dep) in done or id(dep) not in own:
                        continue
                    if state.get(id(dep)) == 1:
                        raise GraphError(f"cycle through node '{dep.name or dep.op}' and '{node.name or node.op}'.")
                    stack.append((node, i))
                    stack.append((dep, 0))
                    break
                else:
                    done.add(id(node))
                    state[id(node)] = 2
                    order.append(node)
        self.nodes = order

    def summary(self) -> str:
        """The text form (see :mod:`deploykit.graph.text`)."""
        from deploykit.graph.text import print_graph

        return print_graph(self)

    def save(self, path: str) -> None:
        """Write the graph as a ``.dk`` file (to a temporary name first, then renamed)."""
        from deploykit.graph.dkfile import save

        save(self, path)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs)"


def replace_uses(graph: Graph, old: Value, new: Value) -> None:
    """Make every reader of ``old`` in this graph (nodes and outputs) read ``new``; public output names stay."""
    if not graph.output_names:
        graph.output_names = [v.name for v in graph.outputs]
    for n in graph.nodes:
        n.inputs = [new if v is old else v for v in n.inputs]
    graph.outputs = [new if v is old else v for v in graph.outputs]
