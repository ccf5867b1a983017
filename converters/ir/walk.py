"""Reading graphs: attrs with defaults, copies, sizes, the way through bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deploykit.graph import Dim, Graph, Node, QuantParams, Value, Variable
from deploykit.ops import get
from deploykit.ops.infer import declare_variables

NARROW_LIMIT = 4096  # elements: smaller float16 constants are not worth a node


def unfolded(op: str, x: np.ndarray | None, attrs: Mapping[str, Any]) -> bool:
    """Not evaluated early although the inputs are constant: integer ops want quantized weights (passes/fuse_quantized),
    fold_quantized folds the rest of those; float16 weights stay narrow in the file, the engine widens them at load."""
    if op == "dequantize":
        return True
    if op != "cast" or x is None or attrs.get("dtype") != "float32":
        return False
    return x.dtype.name in ("float16", "bfloat16") and x.size >= NARROW_LIMIT


def attr(node: Node, name: str) -> Any:
    """An attr of a node, from its passport's default where the node does not say."""
    if name in node.attrs:
        return node.attrs[name]
    return get(node.op).attrs[name].default


def attrs(node: Node) -> dict[str, Any]:
    """All attrs of a node, completed and checked."""
    return get(node.op).complete(node.attrs)


def operand(node: Node, i: int) -> Value | None:
    """Input ``i`` of a node, None where absent."""
    return node.inputs[i] if i < len(node.inputs) else None


def data(v: Value | None) -> np.ndarray | None:
    """The array of a constant, None for anything else."""
    return None if v is None else v.data


def scalar(v: Value | None) -> float | None:
    """The number in a constant of one element, None for anything else."""
    if v is None or v.data is None or v.data.size != 1:
        return None
    return float(v.data.reshape(-1)[0])


def inner_first(graph: Graph) -> Iterator[Graph]:
    """All graphs of a model, bodies before the graph that holds them, signatures last before the outermost."""
    for n in graph.nodes:
        for _, g in n.subgraphs():
            yield from inner_first(g)
    for g in graph.signatures.values():
        yield from inner_first(g)
    yield graph


def op_counts(graph: Graph) -> dict[str, int]:
    """How often each op occurs, bodies and signatures included; most frequent first."""
    counts = Counter(n.op for g in graph.walk() for n in g.nodes)
    return dict(sorted(counts.items(), key=lambda t: (-t[1], t[0])))


def weight_bytes(graph: Graph) -> int:
    """Bytes of all distinct constant arrays."""
    seen: dict[int, int] = {}
    for g in graph.walk():
        for v in g.constants():
            assert v.data is not None
            seen[id(v.data)] = v.data.nbytes
    return sum(seen.values())


def is_effect(node: Node) -> bool:
    """True for nodes that must stay, once and in order: writes and reads of variables, bodies that hold such."""
    if "effect" in get(node.op).flags:
        return True
    return any(is_effect(n) for _, g in node.subgraphs() for n in g.nodes) if node.attrs else False


def is_random(node: Node) -> bool:
    """True for nodes whose result differs from call to call, bodies included."""
    if "random" in get(node.op).flags:
        return True
    return any(is_random(n) for _, g in node.subgraphs() for n in g.nodes) if node.attrs else False


def clone(graph: Graph) -> Graph:
    """A deep copy of nodes, values and bodies; arrays are shared, never copied.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> g = b.output(b.input("x", "float32", (2,)))
    >>> clone(g).inputs[0] is g.inputs[0], clone(g).inputs[0].name
    (False, 'x')
    """
    values: dict[Value, Value] = {}

    def copy(v: Value | None) -> Value | None:
        if v is None:
            return None
        if v not in values:
            new = Value(v.name, v.dtype, v.shape, data=v.data)
            if v.quant is not None:
                new.quant = QuantParams(v.quant.scale, v.quant.zero_point, v.quant.axis)
            values[v] = new
        return values[v]

    def run(g: Graph) -> Graph:
        out = Graph(g.name)
        out.inputs = [copy(v) for v in g.inputs]  # type: ignore[misc]
        for n in g.nodes:
            attrs = {k: run(a) if isinstance(a, Graph) else a for k, a in n.attrs.items()}
            out.nodes.append(Node(n.op, [copy(v) for v in n.inputs], [copy(v) for v in n.outputs], attrs, n.name))
        out.outputs = [copy(v) for v in g.outputs]  # type: ignore[misc]
        out.output_names = list(g.output_names)
        out.variables = [Variable(v.name, v.initial) for v in g.variables]
        out.signatures = {k: run(s) for k, s in g.signatures.items()}
        out.metadata = dict(g.metadata)
        return out

    return run(graph)


def freeze_names(graph: Graph) -> None:
    """Write the public output names down, so that no later rename of a value can change them."""
    for g in graph.walk():
        if not g.output_names:
            g.output_names = [v.name for v in g.outputs]


def estimate(dim: int | Dim, unknown: int = 16, batch: int = 1) -> int:
    """A number for a dim, for costs only: unknown sizes count as ``unknown``, names that say batch as ``batch``."""
    if isinstance(dim, int):
        return dim
    got = dim.subs({n: batch if n.lower() in ("n", "b", "batch", "batch_size", "bs") else unknown for n in dim.names})
    return max(int(got), 1) if isinstance(got, int) else unknown


def estimated_bytes(v: Value) -> int:
    """Bytes of a value, unknown dims estimated (costs only)."""
    size = v.dtype.itemsize if v.dtype is not None else 4
    for d in v.shape if v.shape is not None else (64,):
        size *= estimate(d)
    return size


def each_graph(graph: Graph, edit: Callable[[Graph], Mapping[str, int]]) -> dict[str, int]:
    """Apply ``edit`` to the graph, its bodies and signatures, inner ones first; the sum of the counts it returns."""
    total: Counter[str] = Counter()
    with declare_variables(graph.variables):
        for g in list(inner_first(graph)):
            total.update(edit(g))
    return {k: n for k, n in total.items() if n}


def same_shape(a: Value, b: Value) -> bool:
    """True when two values have provably equal dims."""
    return a.shape is not None and a.shape == b.shape


def static_shape(v: Value) -> tuple[int, ...] | None:
    """The shape when all dims are numbers, else None."""
    if v.shape is None or any(isinstance(d, Dim) for d in v.shape):
        return None
    return v.shape  # type: ignore[return-value]
