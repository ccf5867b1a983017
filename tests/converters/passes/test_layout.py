"""Layout: fewer bytes transposed, never another result.  Hand-made graphs for each rule, then random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploykit.converters.ir import views
from deploykit.converters.passes import common_subexpressions, dead_code, layout, simplify
from deploykit.graph import Dim, Graph, Value
from deploykit.ops import GraphBuilder
from tests.support.rewrites import build, input_f32, rewrite

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # NCHW -> NHWC and back


def i64(*v: int) -> np.ndarray:
    return np.array(v, np.int64)


def weights(o: int, k: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((o, k, k, c)).astype(np.float32) * 0.3


def conv(b: GraphBuilder, x: Value, o: int, k: int = 3, **attrs: Any) -> Value:
    """A convolution as an importer of a channels-first format writes it."""
    c = x.shape[1] // attrs.get("groups", 1)
    y = b.op("conv", b.op("transpose", x, perm=LAST), weights(o, k, c), pads=(k // 2,) * 4, **attrs)
    return b.op("transpose", y, perm=FIRST)


def transposes(g: Graph) -> int:
    return sum(n.op == "transpose" for n in g.nodes)


def test_only_the_edges_keep_a_transpose() -> None:
    def make(b: GraphBuilder) -> Value:
        x = input_f32(b, "x", "n", 3, 8, 8)
        y = b.op("relu", conv(b, x, 6))
        y = b.op(
            "add",
            b.op("mul", y, np.ones((6, 1, 1), np.float32) * 2),
            np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1),
        )
        z = conv(b, b.op("hard_swish", y), 6)
        s = b.op("sigmoid", conv(b, b.op("reduce_mean", z, i64(2, 3)), 6, 1))
        z = b.op("concat", b.op("mul", z, s), y, axis=1)
        return b.op("softmax", z, axis=1)

    g = build(make)
    assert transposes(g) == 6
    rewrite(g, layout.run, simplify.run)
    assert transposes(g) == 2
    assert g.nodes[0].op == "transpose" and g.nodes[-1].op == "transpose"


def _shuffle(b: GraphBuilder, x: Value, groups: int) -> Value:
    n, c, h, w = x.shape
    x = b.op("reshape", x, i64(-1, groups, c // groups, h, w))
    return b.op("reshape", b.op("transpose", x, perm=(0, 2, 1, 3, 4)), i64(-1, c, h, w))


def test_channel_shuffle_costs_one_transpose_and_stays_right() -> None:
    def make(b: GraphBuilder) -> Value:
        x = conv(b, input_f32(b, "x", "n", 4, 6, 6), 12)
        x = b.op("relu", _shuffle(b, x, 3))
        return conv(b, _shuffle(b, conv(b, x, 12, groups=4), 4), 2)

    g = build(make)
    rewrite(g, layout.run, simplify.run)
    assert transposes(g) == 4  # in, out, and one per shuffle: that one is the op's meaning


def test_transposes_move_to_the_smaller_side() -> None:
    def make(b: GraphBuilder) -> Value:
        x = b.op("transpose", input_f32(b, "x", 1, 4, 4, 8), perm=FIRST)
        y = b.op("resize", x, None, None, i64(1, 8, 16, 16), mode="linear")
        return b.op("transpose", b.op("reduce_max", y, i64(2)), perm=(0, 1, 3, 2))

    g = build(make)
    before = sum(int(np.prod(n.output.shape)) for n in g.nodes if n.op == "transpose")
    rewrite(g, layout.run)
    after = sum(int(np.prod(n.output.shape)) for n in g.nodes if n.op == "transpose")
    assert after < before


def test_one_copy_for_all_readers_of_another_order() -> None:
    def make(b: GraphBuilder) -> tuple[Value, ...]:
        x = input_f32(b, "x", 1, 3, 5, 5)
        return tuple(conv(b, x, 2, k) for k in (1, 3, 5))

    g = build(make)
    rewrite(g, common_subexpressions.run, layout.run)
    assert sum(n.op == "transpose" and n.inputs[0] is g.inputs[0] for n in g.nodes) == 1


def test_flatten_of_what_has_one_pixel_needs_no_transpose() -> None:
    def make(b: GraphBuilder) -> Value:
        x = conv(b, b.op("transpose", input_f32(b, "x", "n", 4, 4, 3), perm=FIRST), 8)
        y = b.op("flatten", b.op("reduce_mean", x, i64(2, 3)))
        return b.op("matmul", y, np.ones((8, 2), np.float32))

    g = build(make)
    rewrite(g, layout.run, simplify.run)
    assert transposes(g) == 0


def test_matmul_takes_a_transposed_operand_by_its_flag() -> None:
    def make(b: GraphBuilder) -> Value:
        q, k = input_f32(b, "q", 2, 5, 7), input_f32(b, "k", 2, 6, 7)
        return b.op("matmul", q, b.op("transpose", k, perm=(0, 2, 1)))

    g = build(make)
    assert rewrite(g, layout.run) == ["matmul"]
    assert g.nodes[0].attrs["transpose_b"] is True


def test_shape_of_a_moved_tensor_gives_the_old_shape() -> None:
    def make(b: GraphBuilder) -> tuple[Value, ...]:
        x = conv(b, b.op("transpose", input_f32(b, "x", "n", "h", 4, 3), perm=FIRST), 8)
        y = b.op("relu", x)
        return b.op("shape_of", y, start=1, end=-1), b.op("size_of", y), b.op("transpose", y, perm=LAST)

    g = build(make)
    rewrite(g, layout.run, dead_code.run)
    assert transposes(g) == 0


def test_nothing_to_win_nothing_changed() -> None:
    def make(b: GraphBuilder) -> Value:
        return b.op("cumsum", b.op("transpose", input_f32(b, "x", 3, 4), perm=(1, 0)), np.int64(0))

    g = build(make)
    nodes = list(g.nodes)
    assert layout.run(g) == {} and g.nodes == nodes


def test_view_transposes_become_views() -> None:
    g = build(lambda b: b.op("exp", b.op("transpose", input_f32(b, "x", "n", 1, "h", 4), perm=(0, 2, 3, 1))))
    assert "transpose" not in rewrite(g, layout.run)


def test_twice_is_once() -> None:
    def make(b: GraphBuilder) -> Value:
        return conv(b, b.op("relu", conv(b, input_f32(b, "x", 1, 3, 8, 8), 4)), 5)

    g = build(make)
    rewrite(g, layout.run)
    assert layout.run(g) == {}


def test_same_graph_same_result() -> None:
    from deploykit.graph.text import print_graph

    def make(b: GraphBuilder) -> Value:
        x = conv(b, input_f32(b, "x", "n", 4, 6, 6), 12)
        return conv(b, _shuffle(b, b.op("relu", x), 3), 2)

    texts = []
    for _ in range(2):
        g = build(make)
        layout.run(g)
        texts.append(print_graph(g))
    assert texts[0] == texts[1]


# ---------------------------------------------------------------- every rule, between transposes
def _const(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def _plus_swapped(b: GraphBuilder, x: Value) -> Value:
    """Both tiled to [2, 12, 12, 5]: one tensor under two orders meets itself."""
    y = b.op("transpose", x, perm=(0, 2, 1, 3))
    return b.op("add", b.op("tile", x, i64(1, 2, 3, 1)), b.op("tile", y, i64(1, 3, 2, 1)))


# x is [2, 6, 4, 5] in its own order; each lambda gets a builder and x
OPS: dict[str, Callable[[GraphBuilder, Value], Any]] = {
    "relu": lambda b, x: b.op("relu", x),
    "add vector": lambda b, x: b.op("add", x, _const(5)),
    "add channel": lambda b, x: b.op("add", _const(6, 1, 1), x),
    "add computed lower rank": lambda b, x: b.op("add", x, b.op("exp", input_f32(b, "z", 6, 1, 5))),
    "add scalar": lambda b, x: b.op("add", x, np.float32(2)),
    "where": lambda b, x: b.op("where", b.op("greater", x, np.float32(0)), x, _const(6, 4, 1)),
    "clip": lambda b, x: b.op("clip", x, np.float32(-1), np.float32(1)),
    "prelu": lambda b, x: b.op("prelu", x, _const(6, 1, 1)),
    "cast": lambda b, x: b.op("cast", x, dtype="float16"),
    "softmax": lambda b, x: b.op("softmax", x, axis=1),
    "log_softmax": lambda b, x: b.op("log_softmax", x, axis=-1),
    "reverse": lambda b, x: b.op("reverse", x, axes=(1, -1)),
    "top_k": lambda b, x: b.op("top_k", x, i64(2), axis=1)[0],
    "batch_norm": lambda b, x: b.op("batch_norm", x, _const(6), _const(6), _const(6), np.abs(_const(6)), axis=1),
    "quantize": lambda b, x: b.op("quantize", x, np.abs(_const(6)) + 0.1, np.zeros(6, np.int8), axis=1),
    "quantize all": lambda b, x: b.op("quantize", x, np.float32(0.1), np.int8(3)),
    "layer_norm": lambda b, x: b.op("layer_norm", x, _const(4, 5), axis=2),
    "rms_norm": lambda b, x: b.op("rms_norm", x, _const(5)),
    "reduce keep": lambda b, x: b.op("reduce_max", x, i64(1, -1)),
    "reduce drop": lambda b, x: b.op("reduce_mean", x, i64(2), keepdims=False),
    "reduce all": lambda b, x: b.op("reduce_sum", x),
    "arg_max": lambda b, x: b.op("arg_max", x, axis=1),
    "arg_max drop": lambda b, x: b.op("arg_max", x, axis=-1, keepdims=False),
    "cumsum": lambda b, x: b.op("cumsum", x, np.int64(-1)),
    "concat": lambda b, x: b.op("concat", x, _const(2, 3, 4, 5), b.op("neg", x), axis=1),
    "split": lambda b, x: b.op("split", x, i64(1, 5), axis=1, outputs=2)[1],
    "slice": lambda b, x: b.op("slice", x, i64(1, 0), i64(9, 3), i64(1, -1), i64(2, 1)),
    "slice first axes": lambda b, x: b.op("slice", x, i64(0, 1), i64(9, 3)),
    "pad": lambda b, x: b.op("pad", x, i64(0, 1, 2, 0, 0, 0, 0, 3)),
    "pad axes": lambda b, x: b.op("pad", x, i64(1, 2), np.float32(3), i64(-1), mode="constant"),
    "resize": lambda b, x: b.op("resize", x, None, np.array([1, 1, 2, 2], np.float32), mode="linear"),
    "resize axes": lambda b, x: b.op("resize", x, None, None, i64(7, 3), axes=(3, 1), mode="linear"),
    "expand": lambda b, x: b.op("expand", b.op("reduce_max", x, i64(1)), i64(6, 1, 1)),
    "tile": lambda b, x: b.op("tile", x, i64(1, 2, 1, 3)),
    "gather vector": lambda b, x: b.op("gather", x, i64(3, 0, 3), axis=1),
    "gather scalar": lambda b, x: b.op("gather", x, np.int64(-1), axis=2),
    "gather matrix": lambda b, x: b.op("gather", x, np.array([[0, 1]]), axis=2),
    "squeeze": lambda b, x: b.op("squeeze", b.op("reduce_max", x, i64(1, 2)), i64(1, 2)),
    "unsqueeze": lambda b, x: b.op("unsqueeze", x, i64(1, 5)),
    "split channels": lambda b, x: b.op("reshape", x, i64(2, 3, 2, 4, 5)),
    "merge space": lambda b, x: b.op("reshape", x, i64(2, 6, 20)),
    "merge all": lambda b, x: b.op("flatten", x),
    "matmul": lambda b, x: b.op("matmul", x, _const(5, 3)),
    "matmul bias": lambda b, x: b.op("matmul", x, _const(5, 3), _const(3)),
    "matmul self": lambda b, x: b.op("matmul", x, x, transpose_b=True),
    "self plus swapped": lambda b, x: _plus_swapped(b, x),
    "shape_of": lambda b, x: b.op("shape_of", x),
    "trilu": lambda b, x: b.op("trilu", x),
    "depth_to_space": lambda b, x: b.op("depth_to_space", b.op("slice", x, i64(0), i64(4), i64(3)), block=2),
    "scatter": lambda b, x: b.op("scatter_elements", x, np.zeros((1, 1, 1, 1), np.int64), _const(1, 1, 1, 1), axis=1),
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("perm", [LAST, FIRST, (0, 1, 3, 2), (3, 2, 1, 0)], ids=str)
def test_rule(name: str, perm: tuple[int, ...]) -> None:
    """The op between a transpose and its inverse (or the most similar thing when the rank changes)."""

    def make(b: GraphBuilder) -> Value:
        shape = views.permuted((2, 6, 4, 5), views.inverse(perm))
        x = b.op("transpose", b.op("abs", input_f32(b, "x", *shape)), perm=perm)
        y = OPS[name](b, x)
        if y.dtype.kind == "f" and y.rank == 4:
            y = b.op("sigmoid", b.op("transpose", y, perm=views.inverse(perm)))
        elif y.rank and y.rank > 1:
            y = b.op("transpose", y, perm=tuple(reversed(range(y.rank))))
        return y

    g = build(make)
    rewrite(g, layout.run, simplify.run, dead_code.run)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    """Chains and joins of random ops and transposes: equal results, no more transposed bytes than before."""
    rng = np.random.default_rng(seed)

    def make(b: GraphBuilder) -> list[Value]:
        pool = [input_f32(b, "x", "n", 4, 3, 5), input_f32(b, "y", "n", 5, 3, 4)]
        for _ in range(int(rng.integers(4, 16))):
            x = pool[int(rng.integers(len(pool)))]
            rank = x.rank
            axis = int(rng.integers(rank))
            kind = int(rng.integers(12))
            if kind < 4 and rank > 1:
                y = b.op("transpose", x, perm=tuple(int(p) for p in rng.permutation(rank)))
            elif kind == 4:
                others = [v for v in pool if v.shape == x.shape]
                y = b.op("add", x, others[int(rng.integers(len(others)))])
            elif kind == 5:
                y = b.op("tanh", x)
            elif kind == 6:
                y = b.op("reduce_mean", x, i64(axis), keepdims=bool(rng.integers(2))) if rank > 1 else b.op("neg", x)
            elif kind == 7:
                y = b.op("softmax", x, axis=axis)
            elif kind == 8:
                y = b.op("concat", x, b.op("sin", x), axis=axis)
            elif kind == 9 and rank > 1:
                a = int(rng.integers(rank - 1))
                dims = [-1 if not isinstance(d, int) else d for d in x.shape]
                if -1 in dims[a : a + 2]:
                    y = b.op("reshape", x, i64(*[0 if d == -1 else d for d in dims[:a]], -1, *dims[a + 2 :]))
                else:
                    y = b.op("reshape", x, i64(*dims[:a], dims[a] * dims[a + 1], *dims[a + 2 :]))
            elif kind == 10 and rank < 5:
                y = b.op("unsqueeze", x, i64(axis))
            else:
                y = b.op("slice", x, i64(0), i64(3), i64(axis))
            pool.append(y)
        return pool[-3:]

    g = build(make)
    before = sum(1 for n in g.nodes if n.op == "transpose")
    rewrite(g, simplify.run, dead_code.run, layout.run, simplify.run, dead_code.run, dims={"n": 2})
    assert layout.run(g) == {} or transposes(g) <= before


def test_inputs_keep_their_names() -> None:
    """Moves that undo each other leave the input itself as a conv's operand."""
    b = GraphBuilder()
    x = b.input("signal", "float32", (Dim.symbol("n"), 70, 1))
    moved = b.op("reshape", b.op("transpose", x, perm=(0, 2, 1)), np.array([-1, 70, 1]), out="inner")
    g = b.output(b.op("conv", moved, np.ones((3, 5, 1), np.float32)), "y")
    layout.run(g)
    assert [v.name for v in g.inputs] == ["signal"] and transposes(g) == 0
