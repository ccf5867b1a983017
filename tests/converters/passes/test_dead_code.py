"""Dead code: nodes, results, captures, loop state; effects stay."""

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir.verify import check_graph
from deploykit.converters.passes import dead_code
from deploykit.graph import Graph, Node, Value, Variable
from deploykit.ops import GraphBuilder

F32 = dtypes.float32


def _value(name: str, dtype=F32, shape=(2,)) -> Value:
    return Value(name, dtype, shape)


def test_unread_chain_goes_and_names_stay() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    b.op("exp", b.op("abs", x))
    g = b.output(b.op("neg", x), "y")
    assert dead_code.run(g) == {"nodes": 2}
    assert [n.op for n in g.nodes] == ["neg"] and g.public_outputs == ["y"]
    assert dead_code.run(g) == {}


def test_unread_results_become_none() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 4, 4, 1))
    y, _ = b.op("max_pool", x, kernel=(2, 2), outputs=2)
    g = b.output(y)
    assert dead_code.run(g) == {"results": 1}
    assert len(g.nodes[0].outputs) == 1
    p = b.op("top_k", x, np.array([1]))
    g2 = b.output(p[1])
    dead_code.run(g2)
    assert g2.nodes[-1].outputs[0] is None and g2.nodes[-1].outputs[1] is p[1]


def test_split_keeps_its_count() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (6,))
    parts = b.op("split", x, outputs=3)
    g = b.output(parts[0])
    dead_code.run(g)
    assert len(g.nodes[0].outputs) == 3 and g.nodes[0].outputs[1:] == [None, None]
    check_graph(g)


def test_if_loses_results_and_captures() -> None:
    c, x, z = _value("c", dtypes.bool_, ()), _value("x"), _value("z")
    bodies = []
    for _ in range(2):
        a, b = _value("a"), _value("b")
        r, s = _value("r"), _value("s")
        bodies.append(Graph("body", [a, b], [r, s], [Node("exp", [a], [r]), Node("exp", [b], [s])]))
    y, w = _value("y"), _value("w")
    n = Node("if", [c, x, z], [y, w], {"then_graph": bodies[0], "else_graph": bodies[1]})
    g = Graph("g", [c, x, z], [w], [n])
    dead_code.run(g)
    check_graph(g, shapes=False)
    assert n.inputs == [c, z] and n.outputs == [w]
    assert all(len(b.inputs) == len(b.outputs) == len(b.nodes) == 1 for b in bodies)


def _loop(condition_reads_b: bool) -> tuple[Graph, Node, Graph]:
    i, keep = _value("i", dtypes.int64, ()), _value("keep", dtypes.bool_, ())
    a, b, cap = _value("a"), _value("b"), _value("cap")
    a2, b2, scan, flag = _value("a2"), _value("b2"), _value("scan"), _value("flag", dtypes.bool_, ())
    nodes = [Node("exp", [a], [a2]), Node("add", [b, cap], [b2]), Node("neg", [a], [scan])]
    if condition_reads_b:
        nodes.append(Node("use", [keep, b], [flag]))
    else:
        nodes.append(Node("logical_not", [keep], [flag]))
    body = Graph("body", [i, keep, a, b, cap], [flag, a2, b2, scan], nodes)
    x, y, z = _value("x"), _value("y"), _value("z")
    n_trips = Value("trips", data=np.array(3))
    outs = [_value("xo"), _value("yo"), _value("so", shape=(3, 2))]
    n = Node("loop", [n_trips, None, x, y, z], outs, {"body": body, "carried": 2})
    return Graph("g", [x, y, z], [outs[0]], [n]), n, body


def test_loop_state_that_serves_itself_goes(monkeypatch) -> None:
    g, n, body = _loop(False)
    dead_code.run(g)
    check_graph(g, shapes=False)
    assert [v.name for v in n.inputs if v] == ["trips", "x"] and n.attrs["carried"] == 1
    assert [v.name for v in body.inputs] == ["i", "keep", "a"] and [v.name for v in body.outputs] == ["flag", "a2"]
    assert sorted(m.op for m in body.nodes) == ["exp", "logical_not"]


def test_loop_state_read_by_the_condition_stays() -> None:
    from deploykit.ops import REGISTRY

    g, n, body = _loop(True)
    for node in body.nodes:
        if node.op == "use":
            node.op = "logical_and"  # arity is what matters here
    assert "logical_and" in REGISTRY
    dead_code.run(g)
    assert n.attrs["carried"] == 2 and len(n.outputs) == 2 and len(body.inputs) == 5


def test_effects_stay_also_inside_bodies() -> None:
    c, x = _value("c", dtypes.bool_, ()), _value("x")
    bodies = []
    for _ in range(2):
        a, r = _value("a"), _value("r")
        bodies.append(Graph("body", [a], [r], [Node("assign_variable", [a], [r], {"variable": "h"})]))
    n = Node("if", [c, x], [_value("y")], {"then_graph": bodies[0], "else_graph": bodies[1]})
    g = Graph("g", [c, x], [x], [n], variables=[Variable("h", np.zeros(2, np.float32))])
    assert dead_code.run(g) == {}
    assert g.nodes == [n]
