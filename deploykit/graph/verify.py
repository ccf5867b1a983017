"""Structural verifier: every rule of the IR that can be checked without knowing the ops.

Run it after an import, and between passes when ``DK_CHECK=1`` (see :func:`enabled`).  What needs passports (attrs,
operands, shape rules) is checked by ``converters/ir/verify.py`` on top of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from deploykit import dtypes
from deploykit.errors import GraphError
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Graph, Node, Value

MAX_PROBLEMS = 20  # listed in one message


def enabled() -> bool:
    """True when the environment asks for checks between passes (``DK_CHECK`` set and not 0)."""
    return os.environ.get("DK_CHECK", "0") not in ("", "0")


def verify_graph(graph: Graph, *, when: str = "", node_check: Callable[[Node], Iterator[str]] | None = None) -> None:
    """Raise GraphError with all problems of a graph, its bodies and signatures; ``when`` says after what ("pass cse").

    Checked: values are defined once, before use, and know their producer; bodies are closed and belong to one node;
    names of inputs, node results and public outputs are unique; dims are non-negative numbers or expressions that can
    be written and read back; constants agree with their data; variables are declared once, in the outermost graph.

    >>> from deploykit.graph import Graph, Node, Value
    >>> x = Value("x")
    >>> verify_graph(Graph(inputs=[x], outputs=[x], nodes=[Node("relu", [x], [Value("y")])]))
    """
    problems = list(find_problems(graph, node_check=node_check))
    if problems:
        head = f"graph '{graph.name}' is broken{' after ' + when if when else ''}: "
        more = f" (and {len(problems) - MAX_PROBLEMS} more)" if len(problems) > MAX_PROBLEMS else ""
        raise GraphError(head + "; ".join(problems[:MAX_PROBLEMS]) + more + ".")


def find_problems(graph: Graph, *, node_check: Callable[[Node], Iterator[str]] | None = None) -> Iterator[str]:
    """The problems, one text each, without raising."""
    seen: dict[int, str] = {}
    owners: dict[Value, str] = {}

    def visit(g: Graph, path: str) -> Iterator[str]:
        if id(g) in seen:
            yield f"{path}: the same Graph object is already {seen[id(g)]}"
            return
        seen[id(g)] = path
        yield from _one(g, path, owners)
        for n in g.nodes:
            if node_check is not None:
                yield from (f"{path}: {p}" for p in node_check(n))
            for key, body in n.subgraphs():
                yield from _inner(body, f"{path}/{_label(n)}.{key}")
                yield from visit(body, f"{path}/{_label(n)}.{key}")
        for key, s in g.signatures.items():
            if path != graph.name:
                yield f"{path}: only the outermost graph may have signatures"
            yield from _inner(s, f"{path}@{key}")
            yield from visit(s, f"{path}@{key}")

    yield from visit(graph, graph.name)
    names = [v.name for v in graph.variables]
    yield from (f"variable '{n}' is declared twice" for n in sorted({n for n in names if names.count(n) > 1}))
    declared = set(names)
    for g in graph.walk():
        for n in g.nodes:
            name = n.attrs.get("variable")
            if isinstance(name, str) and name not in declared:
                yield f"{g.name}: {_label(n)} uses variable '{name}', which the outermost graph does not declare"


def _inner(g: Graph, path: str) -> Iterator[str]:
    if g.variables:
        yield f"{path}: only the outermost graph may declare variables"


def _label(n: Node) -> str:
    return f"{n.op} '{n.name}'" if n.name else n.op


def _one(g: Graph, path: str, owners: dict[Value, str]) -> Iterator[str]:
    defined: set[Value] = set()
    names: dict[str, str] = {}
    produced = {v: n for n in g.nodes for v in n.outputs if v is not None}

    def define(v: Value, by: str) -> Iterator[str]:
        if not isinstance(v.name, str):
            yield f"{path}: a value of {by} has the name {v.name!r}, which is no text"
            return
        if v in defined:
            yield f"{path}: value '{v.name}' is defined twice, also by {by}"
        elif v in owners:
            yield f"{path}: value '{v.name}' already belongs to {owners[v]}"
        defined.add(v)
        owners[v] = path
        if v.name in names:
            yield f"{path}: the name '{v.name}' is used by {names[v.name]} and by {by}"
        names[v.name] = by
        if v.data is not None:
            yield f"{path}: '{v.name}' is a constant and cannot be defined by {by}"
        yield from _shape(v, path)

    for v in g.inputs:
        if v.producer is not None:
            yield f"{path}: input '{v.name}' has a producer, {_label(v.producer)}"
        yield from define(v, "the inputs")
    for n in g.nodes:
        if not isinstance(n.op, str) or not n.op:
            yield f"{path}: a node without an op"
        for v in filter(None, n.inputs):
            if v in defined:
                continue
            if v.is_constant:
                yield from _constant(v, path)
            elif v in produced:
                why = "itself" if produced[v] is n else f"{_label(produced[v])}, which comes later or in a cycle"
                yield f"{path}: {_label(n)} reads '{v.name}' of {why}"
            else:
                yield f"{path}: {_label(n)} reads '{v.name}', which nothing here defines (bodies take captures)"
        for v in filter(None, n.outputs):
            if v.producer is not n:
                yield f"{path}: '{v.name}' is a result of {_label(n)} but names another producer"
            yield from define(v, _label(n))
    for v in g.outputs:
        if v not in defined:
            if v.is_constant:
                yield from _constant(v, path)
            else:
                yield f"{path}: output '{v.name}' is not defined"
    if g.output_names and len(g.output_names) != len(g.outputs):
        yield f"{path}: {len(g.outputs)} outputs but {len(g.output_names)} output names"
    public = g.public_outputs
    if not all(isinstance(n, str) for n in public):
        yield f"{path}: an output's name is no text: {public}"
    elif path == g.name and len(set(public)) != len(public):
        yield f"{path}: output names are not unique: {', '.join(public)}"


def _constant(v: Value, path: str) -> Iterator[str]:
    assert v.data is not None
    if v.producer is not None:
        yield f"{path}: constant '{v.name}' has a producer"
    if v.dtype is not dtypes.dtype(v.data.dtype) or v.shape != tuple(v.data.shape):
        held = f"{v.data.dtype}{list(v.data.shape)}"
        yield f"{path}: constant '{v.name}' says {v.dtype}{list(v.shape or ())} but holds {held}"


def _shape(v: Value, path: str) -> Iterator[str]:
    for d in v.shape or ():
        if isinstance(d, Dim):
            try:
                good = Dim.parse(str(d)) == d
            except ValueError:
                good = False
            if not good:
                yield f"{path}: '{v.name}' has a dim that cannot be read back from its text: {d}"
        elif not isinstance(d, int) or isinstance(d, bool) or d < 0:
            yield f"{path}: '{v.name}' has the dim {d!r}; expected a non-negative int or a Dim"
