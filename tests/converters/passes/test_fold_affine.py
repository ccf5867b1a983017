"""fold_affine and fuse_epilogue: same numbers, fewer nodes, refusals where fusing would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploykit.converters.ir import walk
from deploykit.converters.passes import fold_affine, fuse_epilogue
from deploykit.graph import Graph, Value
from deploykit.ops import GraphBuilder
from deploykit.ops.reference import run_graph

f32 = np.float32


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(0.2, 1.5, shape).astype(f32)


def product(b: GraphBuilder, kind: str, bias: bool) -> Value:
    """A node of each kind with 6 output channels."""
    beta = [numbers(6, seed=9)] if bias else []
    match kind:
        case "conv":
            return b.op("conv", b.input("x", "float32", (2, 5, 5, 4)), numbers(6, 3, 3, 4), *beta)
        case "depthwise":
            return b.op("conv", b.input("x", "float32", (2, 5, 5, 6)), numbers(6, 3, 3, 1), *beta, groups=6)
        case "conv_transpose":
            x = b.input("x", "float32", (2, 3, 3, 4))
            return b.op("conv_transpose", x, numbers(4, 2, 2, 3), *beta, groups=2, strides=(2, 2))
        case "matmul":
            return b.op("matmul", b.input("x", "float32", (2, 3, 5)), numbers(5, 6), *beta)
    return b.op("matmul", b.input("x", "float32", (2, 3, 5)), numbers(6, 5), *beta, transpose_b=True)


KINDS = ["conv", "depthwise", "conv_transpose", "matmul", "transposed"]
AFFINE: dict[str, Callable[[GraphBuilder, Value], Value]] = {
    "batch_norm": lambda b, y: b.op("batch_norm", y, *(numbers(6, seed=i) for i in range(4))),
    "mul": lambda b, y: b.op("mul", y, numbers(6)),
    "mul_scalar": lambda b, y: b.op("mul", f32(2), y),
    "div": lambda b, y: b.op("div", y, numbers(1, 6)),
    "add": lambda b, y: b.op("add", numbers(6), y),
    "sub": lambda b, y: b.op("sub", y, numbers(6)),
    "chain": lambda b, y: b.op("add", b.op("mul", y, numbers(6)), numbers(6, seed=3)),
}


def check(graph: Graph, *runs: Callable[[Graph], dict[str, int]]) -> Graph:
    out = walk.clone(graph)
    for run in runs:
        for _ in range(4):
            if not run(out):
                break
    feeds = {v.name: numbers(*v.shape, seed=5) for v in graph.inputs}  # type: ignore[misc,arg-type]
    for a, b in zip(run_graph(out, feeds), run_graph(graph, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
    return out


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize("kind", KINDS)
def test_folds(kind: str, affine: str, bias: bool) -> None:
    b = GraphBuilder()
    b.output(AFFINE[affine](b, product(b, kind, bias)), "y")
    assert len(check(b.graph, fold_affine.run).nodes) == 1


def test_refuses_other_readers_activations_and_other_axes() -> None:
    b = GraphBuilder()
    y = product(b, "conv", False)
    b.output(b.op("mul", y, numbers(6)), "y")
    b.output(y, "seen")
    assert fold_affine.run(b.graph) == {}
    b = GraphBuilder()
    b.output(b.op("mul", b.op("relu", product(b, "conv", False)), numbers(6)), "y")
    assert fold_affine.run(b.graph) == {}
    b = GraphBuilder()
    b.output(b.op("mul", product(b, "conv", False), numbers(3, 1, 1)), "y")
    assert fold_affine.run(b.graph) == {}


def test_scale_of_computed_operands_becomes_alpha() -> None:
    b = GraphBuilder()
    p, q = (b.input(n, "float32", (2, 4, 4)) for n in "pq")
    b.output(b.op("div", b.op("matmul", p, q), f32(8)), "y")
    out = check(b.graph, fold_affine.run)
    assert [n.attrs for n in out.nodes] == [{"alpha": 0.125}]


ACTS: dict[str, dict[str, Any]] = {
    **{k: {} for k in fuse_epilogue.PLAIN},
    "leaky_relu": {"alpha": 0.2},
    "elu": {"alpha": 0.7},
    "hard_sigmoid": {"alpha": 0.3, "beta": 0.4},
    "silu": {},
    "gelu": {},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ACTS)
def test_activation(act: str, kind: str) -> None:
    b = GraphBuilder()
    b.output(b.op(act, b.op("sub", product(b, kind, True), numbers(6, seed=2) * 3), **ACTS[act]), "y")
    out = check(b.graph, fold_affine.run, fuse_epilogue.run)
    assert [n.attrs["act"] for n in out.nodes] == [act]


def test_clip_and_tanh_gelu() -> None:
    b = GraphBuilder()
    b.output(b.op("gelu", b.op("clip", product(b, "conv", True), None, f32(6)), approximate=True), "y")
    out = check(b.graph, fuse_epilogue.run)
    assert [n.op for n in out.nodes] == ["conv", "gelu"]
    assert out.nodes[0].attrs["act_alpha"] == -np.inf and out.nodes[0].attrs["act_beta"] == 6


@pytest.mark.parametrize("form", ["act_then_add", "add_then_act", "add"])
def test_residual(form: str) -> None:
    b = GraphBuilder()
    y = product(b, "conv", True)
    r = b.input("r", "float32", (2, 3, 3, 6))
    if form == "act_then_add":
        y = b.op("relu", y)
    y = b.op("add", r, y)
    if form == "add_then_act":
        y = b.op("relu", y)
    b.output(y, "y")
    out = check(b.graph, fuse_epilogue.run)
    assert [n.op for n in out.nodes] == ["conv"]
    assert walk.attr(out.nodes[0], "act_after") == (form == "add_then_act")


def test_two_products_added() -> None:
    """The downsampling block of ResNet: one product becomes the other's residual."""
    b = GraphBuilder()
    x = b.input("x", "float32", (1, 4, 4, 3))
    y = b.op("add", b.op("conv", x, numbers(6, 1, 1, 3)), b.op("conv", x, numbers(6, 1, 1, 3, seed=1)))
    b.output(b.op("relu", y), "y")
    out = check(b.graph, fuse_epilogue.run)
    assert [n.op for n in out.nodes] == ["conv", "conv"]


def test_broadcast_add_is_no_residual() -> None:
    b = GraphBuilder()
    b.output(b.op("add", product(b, "conv", True), b.input("r", "float32", (2, 1, 1, 6))), "y")
    assert fuse_epilogue.run(b.graph) == {}


def test_computed_bias() -> None:
    b = GraphBuilder()
    b.output(b.op("relu", b.op("add", product(b, "matmul", False), b.input("beta", "float32", (6,)))), "y")
    assert [n.op for n in check(b.graph, fuse_epilogue.run).nodes] == ["matmul"]
