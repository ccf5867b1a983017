"""The structural verifier: one broken graph per rule."""

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import GraphError
from deploykit.graph import Dim, Graph, Node, Value, Variable
from deploykit.graph.verify import enabled, verify_graph

F32 = dtypes.float32


def _chain() -> tuple[Graph, list[Value]]:
    x, y, z = (Value(n, F32, (2,)) for n in "xyz")
    return Graph("g", [x], [z], [Node("relu", [x], [y], name="r"), Node("exp", [y], [z])]), [x, y, z]


def test_good_graph_passes() -> None:
    g, _ = _chain()
    verify_graph(g)


def _late(g: Graph, v: list[Value]) -> None:
    g.nodes.reverse()


def _cycle(g: Graph, v: list[Value]) -> None:
    g.nodes[0].inputs[0] = v[2]


def _self_loop(g: Graph, v: list[Value]) -> None:
    g.nodes[1].inputs[0] = v[2]


def _twice(g: Graph, v: list[Value]) -> None:
    g.nodes.append(Node("exp", [v[0]], [v[2]]))


def _names(g: Graph, v: list[Value]) -> None:
    v[1].name = "x"


def _undefined_output(g: Graph, v: list[Value]) -> None:
    g.outputs.append(Value("nowhere", F32, ()))


def _output_names(g: Graph, v: list[Value]) -> None:
    g.output_names = ["a", "b"]


def _same_output_names(g: Graph, v: list[Value]) -> None:
    g.outputs, g.output_names = [v[2], v[1]], ["a", "a"]


def _producer(g: Graph, v: list[Value]) -> None:
    v[2].producer = g.nodes[0]


def _negative(g: Graph, v: list[Value]) -> None:
    v[1].shape = (-1,)


def _dim_name(g: Graph, v: list[Value]) -> None:
    v[1].shape = (Dim.symbol("two words"),)


def _constant(g: Graph, v: list[Value]) -> None:
    c = Value("c", data=np.zeros(3, np.float32))
    c.shape = (4,)
    g.nodes[1].inputs.append(c)


def _capture(g: Graph, v: list[Value]) -> None:
    body = Graph("body", [], [v[1]])
    g.nodes.append(Node("if", [v[0]], [Value("w")], {"then_graph": body, "else_graph": Graph("other", [], [v[0]])}))


def _shared_body(g: Graph, v: list[Value]) -> None:
    t = Value("t", F32, ())
    body = Graph("body", [t], [t])
    g.nodes.append(Node("if", [v[0], v[1]], [Value("w")], {"then_graph": body, "else_graph": body}))


def _variable(g: Graph, v: list[Value]) -> None:
    g.nodes.append(Node("read_variable", [], [Value("h")], {"variable": "state"}))


def _variable_twice(g: Graph, v: list[Value]) -> None:
    g.variables = [Variable("h", np.zeros(1)), Variable("h", np.zeros(1))]


@pytest.mark.parametrize(
    "breaks, message",
    [
        (_late, "comes later or in a cycle"),
        (_cycle, "comes later or in a cycle"),
        (_self_loop, "reads 'z' of itself"),
        (_twice, "'z' is defined twice"),
        (_names, "the name 'x' is used by the inputs and by relu 'r'"),
        (_undefined_output, "output 'nowhere' is not defined"),
        (_output_names, "1 outputs but 2 output names"),
        (_same_output_names, "output names are not unique: a, a"),
        (_producer, "names another producer"),
        (_negative, "has the dim -1"),
        (_dim_name, "cannot be read back"),
        (_constant, "constant 'c' says float32[4] but holds float32[3]"),
        (_capture, "output 'y' is not defined"),
        (_shared_body, "the same Graph object"),
        (_variable, "uses variable 'state'"),
        (_variable_twice, "variable 'h' is declared twice"),
    ],
)
def test_each_rule(breaks, message: str) -> None:
    g, values = _chain()
    breaks(g, values)
    with pytest.raises(GraphError) as e:
        verify_graph(g, when="a test")
    assert message in str(e.value) and "after a test" in str(e.value)


def test_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DK_CHECK", "1")
    assert enabled()
    monkeypatch.setenv("DK_CHECK", "0")
    assert not enabled()
