"""Pointwise and depthwise convolutions computed together row by row: the bits of the layers by themselves, in less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.graph import Graph
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder
from deploykit.ops.reference import run_graph

CASES: dict[str, dict[str, Any]] = {
    "expand": dict(post=False),
    "expand, stride 2": dict(post=False, stride=2),
    "project": dict(pre=False),
    "project, stride 3": dict(pre=False, stride=3, size=200),
    "block": dict(),
    "block, residual": dict(cin=24, residual=True),
    "block, stride 2, odd size": dict(stride=2, size=75),
    "block, 5 x 5, two images": dict(kernel=5, n=2, act="hard_swish"),
    "block, dilated, uneven channels": dict(dilation=3, mid=77, cin=7, act="silu"),
    "block, wide": dict(size=16, width=700, mid=40),
}


def block(
    pre: bool = True, post: bool = True, stride: int = 1, size: int = 64, width: int = 0, cin: int = 16, mid: int = 96,
    out: int = 24, n: int = 1, kernel: int = 3, dilation: int = 1, residual: bool = False, act: str = "relu6",
) -> Graph:  # fmt: skip
    r = np.random.default_rng([mid, kernel, stride])

    def weight(*shape: int) -> np.ndarray:
        return (r.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    b = GraphBuilder()
    x = y = b.input("x", "float32", (n, size, width or size, cin if pre else mid))
    if pre:
        y = b.op("conv", y, weight(mid, 1, 1, cin), weight(mid), act=act)
    pad = (kernel - 1) // 2 * dilation
    y = b.op(
        "conv", y, weight(mid, kernel, kernel, 1), weight(mid), groups=mid, act=act,
        strides=(stride, stride), dilations=(dilation, dilation), pads=(pad,) * 4,
    )  # fmt: skip
    if post:
        y = b.op("conv", y, weight(out, 1, 1, mid), weight(out), *([x] if residual else []))
    b.output(y, "y")
    return b.graph


@pytest.mark.parametrize("case", CASES)
def test_same_bits_in_less_memory(case: str) -> None:
    graph = block(**CASES[case])
    data = to_bytes(graph)
    apart = dk.Interpreter(data, threads=1, keep_values=True)  # every value has its memory
    x = np.random.default_rng(1).normal(0, 1, apart.inputs[0].shape).astype(np.float32)  # type: ignore[arg-type]
    want = apart.run({"x": x})["y"]
    np.testing.assert_allclose(want, run_graph(graph, {"x": x})[0], rtol=1e-4, atol=1e-5)
    for threads in (1, 2, 3, 5):
        model = dk.Interpreter(data, threads=threads)
        for _ in range(2):
            np.testing.assert_array_equal(model.run({"x": x})["y"], want)
        if threads == 1:
            assert model.memory.arena < 0.8 * apart.memory.arena, "the layers were not joined"


def test_not_joined_where_another_node_reads() -> None:
    b = GraphBuilder()
    y = b.op("conv", b.input("x", "float32", (1, 64, 64, 16)), np.full((96, 1, 1, 16), 0.1, np.float32))
    z = b.op("conv", y, np.full((96, 3, 3, 1), 0.1, np.float32), groups=96)
    b.output(b.op("reduce_max", y, np.array([1, 2], np.int64)), "top")
    b.output(z, "z")
    x = np.random.default_rng(2).normal(0, 1, (1, 64, 64, 16)).astype(np.float32)
    got = dk.Interpreter(to_bytes(b.graph), threads=1).run({"x": x})
    for name, want in zip(("top", "z"), run_graph(b.graph, {"x": x}), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5)
