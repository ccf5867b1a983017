"""Control flow and state: bodies read captures by the names they have outside; variables thread through the model."""

from __future__ import annotations

from typing import Any

from deploykit.converters.exporters.onnx.exporter import Site
from deploykit.converters.exporters.onnx.registry import exports
from deploykit.converters.exporters.onnx.writer import Writer, value_info
from deploykit.errors import UnsupportedError
from deploykit.graph import Graph, Value


def _body(s: Site, g: Graph, own: list[Value], captures: list[Value | None]) -> Any:
    """GraphProto of a body whose first inputs are ``own`` (declared) and whose others are captures."""
    from onnx import helper

    if any(n.op in ("read_variable", "assign_variable") for inner in g.walk() for n in inner.nodes):
        raise UnsupportedError("variables inside control flow; ONNX has no state")
    w = Writer(s.exporter.names, s.w.opset, outer=s.w)
    infos = []
    for v in own:
        w.own[v] = s.exporter.names.new(v.name)
        infos.append(value_info(w.own[v], v))
    for inner, outer in zip(g.inputs[len(own) :], captures, strict=True):
        w.own[inner] = s.w.get(outer)  # type: ignore[assignment]
    s.exporter.body(g, w)
    outs = []
    taken = set()
    for v in g.outputs:
        name = w.get(v)
        made_here = any(name in n.output for n in w.nodes)
        if not made_here or name in taken:  # outputs of a body must be results of its own nodes, each once
            name = w.node("Identity", name)
        taken.add(name)
        outs.append(value_info(str(name), v))
    return helper.make_graph(w.nodes, s.exporter.names.new(g.name or "body"), infos, outs, w.initializers)


@exports("if")
def _if(s: Site) -> None:
    captures = s.node.inputs[1:]
    for v in captures:
        s.w.get(v)  # whatever a branch needs must exist outside before it
    branches = {key: _body(s, s.attrs[attr], [], captures) for key, attr in
                (("then_branch", "then_graph"), ("else_branch", "else_graph"))}  # fmt: skip
    names = [s.w.names.new(f"{s.w.hint}:{i}") for i in range(len(s.node.outputs))]
    s.outs(s.w.node("If", s.get(0), outputs=names, **branches))


@exports("loop")
def _loop(s: Site) -> None:
    body, carried = s.attrs["body"], s.attrs["carried"]
    values = s.node.inputs[2:]
    for v in values:
        s.w.get(v)
    g = _body(s, body, body.inputs[: 2 + carried], values[carried:])
    names = [s.w.names.new(f"{s.w.hint}:{i}") for i in range(len(s.node.outputs))]
    trip = s.get(0)
    s.outs(s.w.node("Loop", trip, s.get(1), *(s.w.get(v) for v in values[:carried]), outputs=names, body=g))


@exports("read_variable")
def _read(s: Site) -> None:
    s.out(s.w.node("Identity", s.exporter.variables[s.attrs["variable"]]))


@exports("assign_variable")
def _assign(s: Site) -> None:
    name = s.w.node("Identity", s.get(0))
    s.exporter.variables[s.attrs["variable"]] = name
    s.out(s.w.node("Identity", name))
