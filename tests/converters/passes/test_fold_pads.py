"""fold_pads: same numbers with the pad inside the op, and refusals where the op pads with something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploykit.converters.ir import walk
from deploykit.converters.passes import fold_pads
from deploykit.graph import Graph, Value
from deploykit.ops import GraphBuilder
from deploykit.ops.reference import run_graph

f32 = np.float32
WEIGHT = np.random.default_rng(1).normal(size=(4, 3, 3, 2)).astype(f32)
SPATIAL = [0, 1, 2, 0, 0, 2, 0, 0]  # befores, then afters of [N, H, W, C]


def padded(
    b: GraphBuilder, pads: Any = SPATIAL, value: Any = None, mode: str = "constant", positive: bool = False
) -> Value:
    x = b.input("x", "float32", (2, 6, 5, 2))
    x = b.op("relu", x) if positive else x
    return b.op("pad", x, np.array(pads), None if value is None else f32(value), mode=mode)


def folded(graph: Graph) -> list[str]:
    """Ops after the pass, once the numbers were seen to be the same."""
    out = walk.clone(graph)
    fold_pads.run(out)
    feeds = {v.name: np.random.default_rng(0).normal(size=v.shape).astype(f32) for v in graph.inputs}  # type: ignore
    for a, c in zip(run_graph(out, feeds), run_graph(graph, feeds), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-6)
    return [n.op for n in out.nodes]


def graph(b: GraphBuilder, y: Value) -> Graph:
    return b.output(y, "y")


@pytest.mark.parametrize("own", [(), (1, 0, 1, 1)])
@pytest.mark.parametrize("value", [None, 0.0])
def test_conv_takes_zeros(own: tuple[int, ...], value: float | None) -> None:
    b = GraphBuilder()
    assert folded(graph(b, b.op("conv", padded(b, value=value), WEIGHT, pads=own, strides=(2, 1)))) == ["conv"]


def test_named_axes() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2, 6, 5, 2))
    y = b.op("pad", x, np.array([1, 2]), None, np.array([-2]))
    assert folded(graph(b, b.op("conv", y, WEIGHT))) == ["conv"]


def test_pools() -> None:
    window = dict(kernel=(3, 3), strides=(2, 2))
    b = GraphBuilder()
    assert folded(graph(b, b.op("max_pool", padded(b, value=-np.inf), outputs=1, **window)[0])) == ["max_pool"]
    b = GraphBuilder()
    assert folded(graph(b, b.op("max_pool", padded(b, positive=True), outputs=1, **window)[0])) == ["relu", "max_pool"]
    b = GraphBuilder()
    assert folded(graph(b, b.op("avg_pool", padded(b), **window))) == ["avg_pool"]
    b = GraphBuilder()
    y = b.op("avg_pool", padded(b), pads=(1, 1, 0, 0), count_include_pad=True, kernel=(4, 4))
    assert folded(graph(b, y)) == ["avg_pool"]
    b = GraphBuilder()
    y = b.op("avg_pool", padded(b), pads=(1, 1, 0, 0), count_include_pad=True, **window)  # 2 + 1 is the whole kernel
    assert folded(graph(b, y)) == ["pad", "avg_pool"]


@pytest.mark.parametrize(
    "pad",
    [
        dict(value=1.0),
        dict(mode="reflect"),
        dict(mode="edge"),
        dict(pads=[0, 0, 0, 1, 0, 0, 0, 0]),
        dict(pads=[0, 1, 0, 0, 1, 0, 0, 0]),
        dict(pads=[0, -1, 0, 0, 0, 0, 0, 0]),
    ],
    ids=str,
)
def test_refusals(pad: dict[str, Any]) -> None:
    b = GraphBuilder()
    y = padded(b, **pad)
    weight = WEIGHT if y.shape[-1] == 2 else np.ones((4, 3, 3, 3), f32)  # type: ignore[index]
    assert folded(graph(b, b.op("conv", y, weight))) == ["pad", "conv"]


def test_pools_refuse_what_would_change() -> None:
    window = dict(kernel=(2, 2))
    b = GraphBuilder()
    assert "pad" in folded(graph(b, b.op("max_pool", padded(b), outputs=1, **window)[0]))  # may be negative
    b = GraphBuilder()
    y = padded(b, positive=True)
    g = graph(b, b.op("max_pool", y, outputs=2, kernel=(3, 3))[0])
    b.output(g.nodes[-1].outputs[1], "at")  # type: ignore[arg-type]
    assert "pad" in folded(g)
    b = GraphBuilder()
    assert "pad" in folded(graph(b, b.op("avg_pool", padded(b), pads=(1, 0, 0, 0), **window)))
    b = GraphBuilder()
    assert "pad" in folded(graph(b, b.op("avg_pool", padded(b), **window)))  # a window of padding alone


def test_a_pad_with_other_readers_stays_for_them() -> None:
    b = GraphBuilder()
    y = padded(b)
    b.output(b.op("conv", y, WEIGHT), "y")
    b.output(y, "p")
    assert sorted(folded(b.graph)) == ["conv", "pad"]
