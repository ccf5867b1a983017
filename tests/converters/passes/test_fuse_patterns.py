"""fuse_activations, fuse_norms, fuse_attention: each form is found, gives the same numbers, and near misses are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from deploykit.converters.ir import walk
from deploykit.converters.passes import fuse_activations, fuse_attention, fuse_norms
from deploykit.graph import Graph, Value
from deploykit.ops import GraphBuilder
from deploykit.ops.reference import run_graph

f32 = np.float32


def build(make: Callable[[GraphBuilder, Value], Value], shape: tuple[int, ...] = (3, 8)) -> Graph:
    b = GraphBuilder()
    return b.output(make(b, b.input("x", "float32", shape)), "y")


def fused(graph: Graph, run: Callable[[Graph], dict[str, int]]) -> Graph:
    out = walk.clone(graph)
    for _ in range(4):
        if not run(out):
            break
    r = np.random.default_rng(0)
    feeds = {v.name: r.normal(0, 2, v.shape).astype(f32) for v in graph.inputs}  # type: ignore[arg-type]
    np.testing.assert_allclose(run_graph(out, feeds)[0], run_graph(graph, feeds)[0], rtol=2e-5, atol=2e-6)
    return out


def gelu_erf(order: int) -> Callable[[GraphBuilder, Value], Value]:
    def make(b: GraphBuilder, x: Value) -> Value:
        arg = b.op("div", x, f32(math.sqrt(2))) if order % 2 else b.op("mul", x, f32(math.sqrt(0.5)))
        e = b.op("add", b.op("erf", arg), f32(1))
        if order < 2:
            return b.op("mul", b.op("mul", x, e), f32(0.5))
        if order < 4:
            return b.op("mul", b.op("mul", x, f32(0.5)), e)
        return b.op("mul", f32(0.5), b.op("mul", e, x))

    return make


def gelu_tanh(b: GraphBuilder, x: Value) -> Value:
    inner = b.op("mul", b.op("add", x, b.op("mul", b.op("pow", x, f32(3)), f32(0.044715))), f32(math.sqrt(2 / math.pi)))
    return b.op("mul", b.op("mul", x, f32(0.5)), b.op("add", b.op("tanh", inner), f32(1)))


ACTIVATIONS = {
    "silu": lambda b, x: b.op("mul", b.op("sigmoid", x), x),
    "quick_gelu->silu": lambda b, x: b.op("mul", x, b.op("sigmoid", b.op("mul", f32(1.702), x))),
    "spelled->silu": lambda b, x: b.op("mul", x, b.op("div", f32(1), b.op("add", b.op("exp", b.op("neg", x)), f32(1)))),
    "hard_swish": lambda b, x: b.op(
        "div", b.op("mul", x, b.op("clip", b.op("add", x, f32(3)), f32(0), f32(6))), f32(6)
    ),
    "gate->hard_swish": lambda b, x: b.op("mul", b.op("hard_sigmoid", x, alpha=1 / 6), x),
    "late->hard_swish": lambda b, x: b.op(
        "mul", x, b.op("div", b.op("clip", b.op("add", x, f32(3)), f32(0), f32(6)), f32(6))
    ),
    "hard_sigmoid": lambda b, x: b.op("clip", b.op("add", b.op("mul", x, f32(0.2)), f32(0.5)), f32(0), f32(1)),
    "mish": lambda b, x: b.op("mul", x, b.op("tanh", b.op("log", b.op("add", b.op("exp", x), f32(1))))),
    "relu": lambda b, x: b.op("maximum", x, f32(0)),
    "relu6": lambda b, x: b.op("clip", x, f32(0), f32(6)),
    "leaky_relu": lambda b, x: b.op("maximum", b.op("mul", x, f32(0.1)), x),
    **{f"{i}->gelu": gelu_erf(i) for i in range(6)},
    "tanh->gelu": gelu_tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_found(name: str) -> None:
    out = fused(build(ACTIVATIONS[name]), fuse_activations.run)
    assert [n.op for n in out.nodes] == [name.split("->")[-1]]


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("mul", x, b.op("sigmoid", b.op("neg", x))),
        lambda b, x: b.op("maximum", b.op("mul", x, f32(2)), x),
        lambda b, x: b.op("maximum", b.op("mul", x, f32(-0.1)), x),
        lambda b, x: b.op("clip", x, f32(0), f32(5)),
        lambda b, x: b.op("div", b.op("mul", x, b.op("clip", b.op("add", x, f32(3)), f32(0), f32(6))), f32(5)),
    ],
)
def test_near_misses_stay(make: Callable[[GraphBuilder, Value], Value]) -> None:
    graph = build(make)
    assert len(fused(graph, fuse_activations.run).nodes) == len(graph.nodes)


def test_shared_inner_results_are_not_computed_twice() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (4,))
    s = b.op("sigmoid", x)
    b.output(b.op("mul", x, s), "y")
    b.output(s, "s")
    assert fuse_activations.run(b.graph) == {}


def layer_norm(form: str, affine: bool, axes: tuple[int, ...] = (-1,)) -> Callable[[GraphBuilder, Value], Value]:
    def make(b: GraphBuilder, x: Value) -> Value:
        a = np.array(axes)
        d = b.op("sub", x, b.op("reduce_mean", x, a))
        square = {"pow": lambda: b.op("pow", d, f32(2)), "mul": lambda: b.op("mul", d, d)}.get(
            form, lambda: b.op("square", d)
        )()
        inside = b.op("add", b.op("reduce_mean", square, a), f32(1e-6))
        y = b.op("mul", d, b.op("rsqrt", inside)) if form == "rsqrt" else b.op("div", d, b.op("sqrt", inside))
        if affine:
            y = b.op("add", b.op("mul", y, np.linspace(1, 2, 8, dtype=f32)), np.linspace(-1, 1, 8, dtype=f32))
        return y

    return make


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("form", ["pow", "mul", "rsqrt"])
def test_layer_norm(form: str, affine: bool) -> None:
    out = fused(build(layer_norm(form, affine)), fuse_norms.run)
    assert [n.op for n in out.nodes] == ["layer_norm"] and len(out.nodes[0].inputs) == (3 if affine else 1)


def test_layer_norm_over_two_axes() -> None:
    out = fused(build(layer_norm("mul", False, (1, 2)), (2, 3, 8)), fuse_norms.run)
    assert [n.op for n in out.nodes] == ["layer_norm"] and walk.attr(out.nodes[0], "axis") == -2


def test_norm_over_a_leading_axis_stays() -> None:
    assert "layer_norm" not in [n.op for n in fused(build(layer_norm("mul", False, (0,))), fuse_norms.run).nodes]


def test_flat_layer_norm() -> None:
    def make(b: GraphBuilder, x: Value) -> Value:
        axes = np.array([-1])
        mean = b.op("reduce_mean", x, axes)
        inside = b.op("add", b.op("reduce_mean", b.op("squared_difference", x, mean), axes), f32(1e-3))
        s = b.op("mul", b.op("rsqrt", inside), np.linspace(1, 2, 8, dtype=f32))
        return b.op("add", b.op("mul", x, s), b.op("sub", np.linspace(-1, 1, 8, dtype=f32), b.op("mul", mean, s)))

    assert [n.op for n in fused(build(make), fuse_norms.run).nodes] == ["layer_norm"]


def test_rms_norm() -> None:
    def make(b: GraphBuilder, x: Value) -> Value:
        inside = b.op("add", b.op("reduce_mean", b.op("mul", x, x), np.array([-1])), f32(1e-6))
        return b.op("mul", b.op("mul", x, b.op("rsqrt", inside)), np.linspace(1, 2, 8, dtype=f32))

    assert [n.op for n in fused(build(make), fuse_norms.run).nodes] == ["rms_norm"]


def test_softmax_and_its_logarithm() -> None:
    def make(b: GraphBuilder, x: Value) -> Value:
        axes = np.array([1])
        e = b.op("exp", b.op("sub", x, b.op("reduce_max", x, axes)))
        return b.op("log", b.op("div", e, b.op("reduce_sum", e, axes)))

    assert [n.op for n in fused(build(make), fuse_norms.run).nodes] == ["log_softmax"]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("heads_from_transpose", [False, True])
def test_attention(mask: bool, heads_from_transpose: bool) -> None:
    b = GraphBuilder()
    shape = (2, 5, 3, 4) if heads_from_transpose else (2, 3, 5, 4)
    x = [b.input(n, "float32", shape) for n in "qkv"]
    if heads_from_transpose:  # [B, L, H, D] as projections give it
        q, v = (b.op("transpose", t, perm=(0, 2, 1, 3)) for t in (x[0], x[2]))
        kt = b.op("transpose", x[1], perm=(0, 2, 3, 1))
    else:
        q, v = x[0], x[2]
        kt = b.op("transpose", x[1], perm=(0, 1, 3, 2))
    scores = b.op("div", b.op("matmul", q, kt), f32(2))
    if mask:
        scores = b.op("add", scores, b.input("mask", "float32", (2, 1, 1, 5)))
    b.output(b.op("matmul", b.op("softmax", scores), v), "y")
    ops = [n.op for n in fused(b.graph, fuse_attention.run).nodes]
    assert ops == ["transpose"] * (3 if heads_from_transpose else 0) + ["attention"]
