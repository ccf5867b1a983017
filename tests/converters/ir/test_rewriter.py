"""The rewriter keeps users, order, names and shapes right."""

import numpy as np
import pytest

from deploykit.converters.ir.rewriter import Rewriter
from deploykit.errors import GraphError
from deploykit.graph import Dim, Graph
from deploykit.graph.verify import verify_graph
from deploykit.ops import GraphBuilder


def _graph() -> Graph:
    b = GraphBuilder()
    x = b.input("x", "float32", (2, 3))
    y = b.op("relu", x, out="y", node="first")
    z = b.op("exp", y, out="z")
    w = b.op("add", y, z, out="w")
    return b.output(w)


def test_replace_takes_name_and_place() -> None:
    g = _graph()
    rw = Rewriter(g)
    relu, exp, add = rw.nodes()
    with rw.before(relu):
        rw.replace(relu.output, rw.op("abs", relu.inputs[0]))
    assert rw.commit() > 0
    verify_graph(g)
    assert [n.op for n in g.nodes] == ["abs", "exp", "add"]
    assert g.nodes[0].output.name == "y" and g.nodes[0].name == "first"
    assert add.inputs[0] is g.nodes[0].output


def test_public_names_survive_replacing_an_output() -> None:
    g = _graph()
    rw = Rewriter(g)
    add = list(rw.nodes())[-1]
    rw.replace(add.output, add.inputs[1])
    rw.commit()
    verify_graph(g)
    assert g.public_outputs == ["w"] and [n.op for n in g.nodes] == ["relu", "exp"]


def test_users_and_sole_user() -> None:
    g = _graph()
    rw = Rewriter(g)
    relu, exp, add = rw.nodes()
    assert rw.users(relu.output) == [exp, add]
    assert rw.sole_user(relu.output) is None
    assert rw.sole_user(exp.output) is add
    assert rw.sole_user(add.output) is None  # read by the outside
    rw.set_input(add, 0, exp.output)
    assert rw.sole_user(relu.output) is exp and rw.sole_user(exp.output) is add


def test_erase_refuses_what_is_read() -> None:
    rw = Rewriter(_graph())
    with pytest.raises(GraphError, match="still read"):
        rw.erase(next(rw.nodes()))


def test_sweep_keeps_effects() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    b.op("exp", b.op("neg", x))
    from deploykit.graph import Node, Value, Variable

    b.graph.variables.append(Variable("h", np.zeros(2, np.float32)))
    b.graph.nodes.append(Node("assign_variable", [x], [Value("a", x.dtype, x.shape)], {"variable": "h"}))
    g = b.output(x)
    rw = Rewriter(g)
    assert rw.sweep() == 2
    rw.commit()
    assert [n.op for n in g.nodes] == ["assign_variable"]


def test_after_and_unchanged_readers() -> None:
    g = _graph()
    rw = Rewriter(g)
    relu = next(rw.nodes())
    with rw.after(relu):
        new = rw.op("neg", relu.output)
    rw.replace(relu.output, new, but=new.producer)
    rw.commit()
    verify_graph(g)
    assert [n.op for n in g.nodes] == ["relu", "neg", "exp", "add"]


def test_known_shape_arithmetic() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"), 3))
    s = b.op("shape_of", x)
    last = b.op("gather", s, np.int64(1))
    first = b.op("gather", s, np.int64(0))
    g = b.output(last)
    b.output(first)
    rw = Rewriter(g)
    assert int(rw.known(last)) == 3
    assert rw.known(first) is None and rw.spec(first).value.item() == Dim.symbol("n")
