"""fold_forward: same numbers, fewer nodes, refusals where folding would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploykit.converters.passes import fold_forward
from deploykit.graph import Value
from deploykit.ops import GraphBuilder
from tests.converters.passes.test_fold_affine import check, f32, numbers

Layer = tuple[tuple[int, ...], Callable[[GraphBuilder, Value], Value]]


def conv(weight: tuple[int, ...], bias: bool = False, **attrs: Any) -> Callable[[GraphBuilder, Value], Value]:
    beta = [numbers(weight[0], seed=9)] if bias else []
    return lambda b, x: b.op("conv", x, numbers(*weight), *beta, **attrs)


PLAIN: dict[str, Layer] = {
    "pointwise": ((2, 5, 5, 4), conv((6, 1, 1, 4))),
    "pointwise, same": ((2, 5, 5, 4), conv((6, 1, 1, 4), pad_mode="same_upper", strides=(2, 2))),
    "valid, bias, act": ((2, 5, 5, 4), conv((6, 3, 3, 4), True, act="relu")),
    "depthwise": ((2, 5, 5, 4), conv((8, 3, 3, 1), groups=4)),
    "groups": ((2, 5, 5, 4), conv((6, 3, 3, 2), True, groups=2)),
    "matmul": ((2, 3, 4), lambda b, x: b.op("matmul", x, numbers(4, 6))),
    "transposed matmul": ((2, 3, 4), lambda b, x: b.op("matmul", x, numbers(6, 4), numbers(6), transpose_b=True)),
}
PADDED: dict[str, Layer] = {
    "pads": ((2, 5, 5, 4), conv((6, 3, 3, 4), True, pads=(1, 1, 1, 1))),
    "same": ((2, 5, 5, 4), conv((4, 3, 3, 1), pad_mode="same_lower", groups=4, act="hard_swish")),
}


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("affine", ["mul", "add", "sub", "div", "chain"])
@pytest.mark.parametrize("layer", PLAIN)
def test_folds_where_nothing_is_padded(layer: str, affine: str, one: bool) -> None:
    shape, build = PLAIN[layer]
    b = GraphBuilder()
    x, n = b.op("relu", b.input("x", "float32", shape)), 1 if one else 4
    y = (
        b.op("add", b.op("mul", x, numbers(n)), numbers(n, seed=3))
        if affine == "chain"
        else b.op(affine, x, numbers(n))
    )
    b.output(build(b, y), "y")
    assert len(check(b.graph, fold_forward.run).nodes) == 2


@pytest.mark.parametrize("layer", PADDED)
def test_before_padding_a_sum_remains(layer: str) -> None:
    shape, build = PADDED[layer]
    b = GraphBuilder()
    x = b.op("relu", b.input("x", "float32", shape))
    b.output(build(b, b.op("add", b.op("mul", x, f32(0.03)), f32(0.7))), "y")
    assert [n.op for n in check(b.graph, fold_forward.run).nodes] == ["relu", "add", "conv"]


def test_refuses_other_readers_and_uneven_factors() -> None:
    b = GraphBuilder()
    y = b.op("mul", b.input("x", "float32", (2, 5, 5, 4)), numbers(4))
    b.output(y, "seen")
    b.output(PLAIN["pointwise"][1](b, y), "y")
    assert fold_forward.run(b.graph) == {}
    for k in ([1, 1, 1, 9], [0, 0, 0, 0], [np.inf] * 4):
        b = GraphBuilder()
        b.output(PLAIN["pointwise"][1](b, b.op("mul", b.input("x", "float32", (2, 5, 5, 4)), np.float32(k))), "y")
        assert fold_forward.run(b.graph) == {}
    b = GraphBuilder()  # a factor per pixel
    b.output(PLAIN["pointwise"][1](b, b.op("mul", b.input("x", "float32", (2, 5, 5, 4)), numbers(5, 1))), "y")
    assert fold_forward.run(b.graph) == {}
