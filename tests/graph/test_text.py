"""Text form: print, parse back, print again; nothing may be lost."""

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import GraphError
from deploykit.graph import Dim, Graph, Node, QuantParams, Value, Variable
from deploykit.graph.text import constant_data, parse_graph, print_graph

F32 = dtypes.float32


def _everything() -> Graph:
    n = Dim.symbol("n")
    x = Value("x:0", F32, (n, 3, (n + 2) // 2, 4))
    big = Value("w", data=np.arange(40, dtype=np.float32).reshape(10, 4))
    small = Value("w", data=np.array([0.1, -np.inf, np.nan, 1e-30], np.float32))
    flag = Value("flag", dtypes.bool_, ())
    q = Value("q", dtypes.int8, (3,))
    q.quant = QuantParams(np.array([0.5, 0.25, 3.0], np.float32), np.zeros(3, np.int8), axis=0)
    a, unused, c = Value("a", F32, None), None, Value("c\n", None, None)
    t_in, t_out = Value("t", F32, (n,)), Value("u", F32, (n,))
    then = Graph("then", [t_in], [t_out], [Node("relu", [t_in], [t_out])])
    e_in = Value("t", F32, (n,))
    orelse = Graph("else", [e_in], [e_in])
    attrs = {"act": "clip", "act_alpha": 0.1, "strides": (2, 1), "scales": (1.0, float("inf")), "b": True, "none": None}
    g = Graph(
        "main",
        [x, flag, q],
        [c, a],
        [
            Node("conv", [x, big, None, small], [a, unused], attrs, "node one"),
            Node("if", [flag, a], [c], {"then_graph": then, "else_graph": orelse}),
            Node("assign_variable", [a], [], {"variable": "h"}),
        ],
        variables=[Variable("h", np.zeros((2, 3), np.float16))],
        metadata={"labels": ["ä", "b"], "n": 1.5},
        output_names=["first", "second"],
    )
    s_in = Value("s", F32, (1,))
    g.signatures["encode"] = Graph("encode", [s_in], [s_in])
    return g


def test_round_trip_is_lossless() -> None:
    g = _everything()
    text = print_graph(g)
    back = parse_graph(text, data=constant_data(g))
    assert print_graph(back) == text
    assert [v.name for v in back.inputs] == ["x:0", "flag", "q"]
    assert back.inputs[0].shape == g.inputs[0].shape
    assert [v.name for v in back.nodes[0].inputs if v] == ["x:0", "w", "w"]
    assert back.nodes[0].attrs == g.nodes[0].attrs
    assert back.nodes[1].attrs["then_graph"].nodes[0].op == "relu"
    assert back.nodes[1].outputs[0].producer is back.nodes[1]
    np.testing.assert_array_equal(back.inputs[2].quant.scale, [0.5, 0.25, 3.0])
    assert back.inputs[2].quant.axis == 0
    assert back.variables[0].initial.dtype == np.float16
    assert back.metadata == g.metadata and back.output_names == ["first", "second"]
    assert back.nodes[2].attrs == {"variable": "h"} and back.signatures["encode"].name == "encode"


def test_embedded_data_needs_no_mapping() -> None:
    g = _everything()
    back = parse_graph(print_graph(g, embed=True))
    np.testing.assert_array_equal(back.nodes[0].inputs[1].data, g.nodes[0].inputs[1].data)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 40)])
def test_constants_of_every_dtype_keep_their_bits(dtype: dtypes.DType, shape: tuple) -> None:
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 256, int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
    if dtype.kind == "b" or dtype.bits < 8:
        raw %= 2**dtype.bits if dtype.bits < 8 else 2
    c = Value("c", data=raw.view(dtype.np).reshape(shape))
    g = Graph(outputs=[c])
    for text in (print_graph(g, embed=True), print_graph(g, inline=1000, embed=True)):
        got = parse_graph(text).outputs[0].data
        assert got.dtype == dtype.np and got.shape == shape
        if dtype.bits >= 8:
            assert got.tobytes() == c.data.tobytes()
        else:  # unused high bits of an unpacked sub-byte element carry nothing
            np.testing.assert_array_equal(got.astype(np.float32), c.data.astype(np.float32))


@pytest.mark.parametrize(
    "text, message",
    [
        ("graph g(%x: float32[2]) -> (%y) {}", "line 1: value %y is not defined"),
        ("graph g() -> () {\n %a: float32[1] = relu(%b)\n}", "line 2: value %b is not defined"),
        ("graph g() -> () {\n const %a: float32[2] = (1.0)\n}", "1 values for 2 elements"),
        ("graph g() -> () {\n const %a: float99[2] = (1.0)\n}", "no dtype float99"),
        ("graph g() -> () { const %a: float32[20] = sha256:" + "0" * 64 + " }", "pass data="),
        ("graph g() -> () {} more", "text after the graph"),
        ("graph g() -> () {\n\n %x: int8[1] = relu(%x", "line 3"),
    ],
)
def test_errors_say_where(text: str, message: str) -> None:
    with pytest.raises(GraphError, match="text line") as e:
        parse_graph(text)
    assert message in str(e.value)
