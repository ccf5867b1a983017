"""Control flow and state: what inference learns from bodies, and what the reference does with variables."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.errors import DeploykitError, GraphError, InputError, ShapeError
from deploykit.graph import Dim, Graph, Variable
from deploykit.ops import GraphBuilder, infer_graph
from deploykit.ops.reference import State, run_graph
from deploykit.ops.samples import i64, s64

n = Dim.symbol("n")


def body(inputs, make) -> Graph:
    b = GraphBuilder(Graph("body"))
    for k, v in enumerate(make(b, *(b.input(*i) for i in inputs))):
        b.output(v, f"out{k}")
    return b.graph


LOOP_HEAD = [("i", "int64", ()), ("go", "bool", ())]


def test_branches_merge_what_they_share():
    b = GraphBuilder()
    c, x = b.input("c", "bool", ()), b.input("x", "float32", (n, 4))
    one = [("x", "float32", None)]
    then = body(one, lambda g, v: [g.op("reduce_sum", v, i64(1)), v])
    other = body(one, lambda g, v: [g.op("relu", v), g.op("reduce_sum", v, keepdims=False)])
    a, d = b.op("if", c, x, outputs=2, then_graph=then, else_graph=other)
    assert a.shape[0] == n and isinstance(a.shape[1], Dim), "rows agree, columns are 1 or 4"
    assert d.shape is None, "ranks differ"
    assert then.inputs[0].shape == (n, 4), "the body learned of its input"
    (y, _) = b.op("if", np.array(True), x, outputs=2, then_graph=then, else_graph=other)
    assert y.shape == (n, 1), "a known condition decides"


def test_branches_must_agree_on_dtypes():
    b = GraphBuilder()
    same = body([], lambda g: [g.constant(np.float32(1))])
    other = body([], lambda g: [g.constant(np.int64(1))])
    with pytest.raises(ShapeError, match=r"if: dtypes of output 0 .* differ; got float32 and int64"):
        b.op("if", b.input("c", "bool", ()), outputs=1, then_graph=same, else_graph=other)


def test_loop_keeps_dims_that_do_not_change():
    b = GraphBuilder()
    x = b.input("x", "float32", (n, 3))
    g = body([*LOOP_HEAD, ("s", "float32", None)], lambda g, i, go, s: [go, g.op("concat", s, s, axis=0), s])
    s, rows = b.op("loop", s64(5), None, x, outputs=2, body=g, carried=1)
    assert len(s.shape) == 2 and s.shape[1] == 3
    assert isinstance(s.shape[0], Dim) and s.shape[0] != n, "its length doubles every time"
    assert s.shape[0] != g.inputs[2].shape[0], "after the loop it is not what it is inside"
    assert rows.shape[0] == 5 and rows.shape[2] == 3


def test_loop_gives_up_a_rank_that_changes():
    b = GraphBuilder()
    g = body([*LOOP_HEAD, ("s", "float32", None)], lambda g, i, go, s: [go, g.op("unsqueeze", s, i64(0))])
    (s,) = b.op("loop", s64(2), None, b.input("x", "float32", (n,)), outputs=1, body=g, carried=1)
    assert s.shape is None
    assert run_graph(b.output(s, "y"), [np.ones(3, np.float32)])[0].shape == (1, 1, 3)


def test_loop_refuses_a_changing_dtype():
    b = GraphBuilder()
    g = body([*LOOP_HEAD, ("s", "float32", None)], lambda g, i, go, s: [go, g.op("cast", s, dtype="float64")])
    with pytest.raises(ShapeError, match="carried value 0 changes in the body; got float32 to float64"):
        b.op("loop", s64(2), None, b.input("x", "float32", ()), outputs=1, body=g, carried=1)


def test_loop_with_a_computed_condition_has_an_unknown_length():
    b = GraphBuilder()
    g = body([*LOOP_HEAD, ("s", "int64", ())], lambda g, i, go, s: [g.op("less", s, 9), g.op("add", s, 2), s])
    s, rows = b.op("loop", None, None, s64(0), outputs=2, body=g, carried=1)
    assert isinstance(rows.shape[0], Dim)
    b.output(s), b.output(rows)
    last, seen = run_graph(b.graph, [])
    assert last == 12 and seen.tolist() == [0, 2, 4, 6, 8, 10]


def counter() -> Graph:
    b = GraphBuilder(Graph(variables=[Variable("count", np.zeros((), np.int64))]))
    new = b.op("add", b.op("read_variable", variable="count"), 1)
    return b.output(b.op("assign_variable", new, variable="count"), "count")


def test_variables_live_in_the_state():
    g = counter()
    assert g.nodes[0].output.dtype.name == "int64" and g.nodes[0].output.shape == ()
    state = State.of(g)
    assert [int(run_graph(g, [], state=state)[0]) for _ in range(3)] == [1, 2, 3]
    assert int(run_graph(g, [])[0]) == 1, "without a state each run starts anew"
    assert int(g.variables[0].initial) == 0, "initial values are never touched"


def test_variables_are_reachable_from_bodies():
    g = Graph(variables=[Variable("count", np.zeros((), np.int64))])
    b = GraphBuilder(g)

    def step(inner, i, go):
        new = inner.op("add", inner.op("read_variable", variable="count"), 2)
        return [go, inner.op("assign_variable", new, variable="count")]

    with_variables = GraphBuilder(Graph("body", variables=[Variable("count", np.zeros((), np.int64))]))
    for k, v in enumerate(step(with_variables, *(with_variables.input(*i) for i in LOOP_HEAD))):
        with_variables.output(v, f"out{k}")
    with_variables.graph.variables = []  # bodies declare none; the model around them does
    (rows,) = b.op("loop", s64(3), None, outputs=1, body=with_variables.graph, carried=0)
    b.output(rows, "rows")
    infer_graph(g)
    assert run_graph(g, [])[0].tolist() == [2, 4, 6]


def test_unknown_variables_are_named():
    g = counter()
    g.variables = [Variable("other", np.zeros((), np.int64))]
    with pytest.raises(GraphError, match="no variable 'count'; declared: other"):
        infer_graph(g)


def test_inputs_are_checked_by_name():
    b = GraphBuilder()
    x, y = b.input("x", "float32", (n, 2)), b.input("y", "float32", (n, 1))
    g = b.output(b.op("add", x, y), "z")
    one = np.ones((3, 2), np.float32)
    with pytest.raises(InputError, match=r"got inputs \['x'\], expected \['x', 'y'\]"):
        run_graph(g, {"x": one})
    with pytest.raises(InputError, match="dtype of input 'y'; got float64, expected float32"):
        run_graph(g, {"x": one, "y": np.ones((3, 1))})
    with pytest.raises(InputError, match=r"shape of input 'y'; got \[4, 1\], .* where n is 3 already"):
        run_graph(g, {"x": one, "y": np.ones((4, 1), np.float32)})


def test_errors_inside_a_run_name_the_node():
    b = GraphBuilder()
    i = b.input("i", "int64", ())
    g = b.output(b.op("gather", np.arange(3), i, node="pick"), "y")
    with pytest.raises(DeploykitError, match="gather 'pick': an index is out of range; got 7, expected -3 to 2") as e:
        run_graph(g, [s64(7)])
    assert e.value.code == "DK-INDEX"
