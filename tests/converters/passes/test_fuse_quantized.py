"""fuse_quantized: which patterns become integer ops, that numbers stay within a step, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploykit.converters.ir import verify, walk
from deploykit.converters.passes import dead_code, fold_constants, fuse_quantized
from deploykit.graph import Graph, Value
from deploykit.ops import GraphBuilder
from deploykit.ops.reference import run_graph

RNG = np.random.default_rng(5)
F32 = np.float32


class Builder(GraphBuilder):
    """Shorthands for quantized tensors; dtype uint8 or int8 throughout."""

    def __init__(self, dtype: str = "uint8") -> None:
        super().__init__()
        self.dtype = np.dtype(dtype)

    def real(self, name: str, *shape: int, scale: float = 0.05, zero: int = 7) -> Value:
        return self.dq(self.input(name, self.dtype.name, shape), scale, zero)

    def dq(self, v: Value, scale: float = 0.05, zero: int = 7) -> Value:
        return self.op("dequantize", v, F32(scale), np.asarray(zero, self.dtype))

    def q(self, v: Value, scale: float = 0.1, zero: int = 11) -> Value:
        return self.op("quantize", v, F32(scale), np.asarray(zero, self.dtype), dtype=self.dtype.name)

    def weight(self, *shape: int, axis: int | None = 0, dtype: str = "int8", zero: int = 0) -> Value:
        info = np.iinfo(dtype)
        w = self.constant(RNG.integers(info.min, info.max, shape, endpoint=True).astype(dtype))
        n = () if axis is None else (shape[axis],)
        scale = RNG.uniform(0.001, 0.004, n).astype(F32)
        return self.op("dequantize", w, scale, np.full(n, zero, dtype), axis=axis or 0)

    def bias(self, n: int) -> Value:
        return self.constant(RNG.normal(0, 0.2, n).astype(F32))


def fused(b: Builder, *outs: Value, steps: int = 1) -> Graph:
    """The graph after the pass; its integer outputs are within ``steps`` of the graph before."""
    for v in outs:
        b.output(v)
    before, after = walk.clone(b.graph), b.graph
    for _ in range(2):
        fuse_quantized.run(after)
        fold_constants.run(after)
        dead_code.run(after)
        verify.check_graph(after, when="fuse_quantized")
    assert not fuse_quantized.run(after)
    for seed in range(2):
        feeds = verify.make_inputs(before, seed=seed, unknown=3)
        for x, y in zip(run_graph(before, feeds), run_graph(after, feeds), strict=True):
            assert x.dtype == y.dtype and x.shape == y.shape
            if x.dtype == np.float32:
                np.testing.assert_allclose(y, x, atol=2e-5 * max(1.0, np.abs(x).max(initial=0)))
            else:
                assert np.abs(x.astype(int) - y.astype(int)).max(initial=0) <= steps
    return after


def ops(g: Graph) -> list[str]:
    return [n.op for n in g.nodes]


DTYPES = pytest.mark.parametrize("dtype", ["uint8", "int8"])
ACTS: dict[str, Any] = {
    "none": lambda b, y: y,
    "relu": lambda b, y: b.op("relu", y),
    "relu6": lambda b, y: b.op("relu6", y),
    "clip": lambda b, y: b.op("clip", y, F32(-0.3), F32(0.7)),
    "relu of clip": lambda b, y: b.op("relu", b.op("clip", y, F32(-1), F32(0.5))),
}


@DTYPES
@pytest.mark.parametrize("act", ACTS)
def test_conv(dtype: str, act: str) -> None:
    b = Builder(dtype)
    y = b.op("conv", b.real("x", 1, 5, 6, 4), b.weight(8, 3, 3, 4), b.bias(8), pads=(1, 1, 1, 1), strides=(2, 1))
    assert ops(fused(b, b.q(ACTS[act](b, y)))) == ["qconv"]


@DTYPES
def test_conv_with_integer_bias_and_float_reader(dtype: str) -> None:
    b = Builder(dtype)
    w = b.weight(6, 1, 1, 4, axis=None)
    scale = w.producer.inputs[1].data * F32(0.05)  # type: ignore[union-attr, index, operator]
    bias = b.op("dequantize", b.constant(np.arange(6, dtype=np.int32) * 90), scale)
    y = b.op("conv", b.real("x", 1, 3, 3, 4), w, bias)
    g = fused(b, b.op("gelu", y))
    assert ops(g) == ["qconv", "gelu"]
    np.testing.assert_array_equal(g.nodes[0].inputs[3].data, np.arange(6) * 90)  # type: ignore[union-attr]


def test_unsigned_weights_are_shifted() -> None:
    b = Builder()
    y = b.op("conv", b.real("x", 1, 3, 3, 4), b.weight(6, 1, 1, 4, dtype="uint8", zero=128))
    assert ops(fused(b, b.q(y))) == ["qconv"]


def test_asymmetric_weights_are_refused_with_the_reason() -> None:
    b = Builder()
    y = b.op("conv", b.real("x", 1, 3, 3, 4), b.weight(6, 1, 1, 4, dtype="uint8", zero=3))
    g = fused(b, b.q(y))
    assert "conv" in ops(g)
    assert fuse_quantized.leftovers(g) == {"conv: its weights are not symmetric": 1}


def test_a_channel_of_scale_zero_stays_float() -> None:
    """Its bias would have no units."""
    b = Builder()
    w = b.weight(6, 1, 1, 4)
    w.producer.inputs[1].data[2] = 0  # type: ignore[union-attr, index]
    y = b.op("conv", b.real("x", 1, 3, 3, 4), w, b.bias(6))
    with np.errstate(all="raise"):
        assert "conv" in ops(fused(b, b.q(y)))


@DTYPES
@pytest.mark.parametrize("rounded", [False, True])
def test_residual(dtype: str, rounded: bool) -> None:
    b = Builder(dtype)
    y = b.op("conv", b.real("x", 1, 4, 4, 8), b.weight(8, 1, 1, 8), b.bias(8))
    y = b.dq(b.q(y, 0.07, 5), 0.07, 5) if rounded else y
    assert ops(fused(b, b.q(b.op("relu", b.op("add", y, b.real("r", 1, 4, 4, 8)))))) == ["qconv"]


@DTYPES
@pytest.mark.parametrize("form", ["constant", "transposed", "computed", "batched", "asymmetric"], ids=lambda f: f)
def test_matmul(dtype: str, form: str) -> None:
    b = Builder(dtype)
    if form == "computed":
        y = b.op("matmul", b.real("x", 2, 3, 5), b.real("w", 2, 5, 4, zero=3), alpha=0.5)
    elif form == "batched":
        y = b.op("matmul", b.real("x", 2, 3, 5), b.weight(5, 4, axis=1), b.bias(4))
    elif form == "transposed":
        y = b.op("matmul", b.real("x", 3, 5), b.weight(4, 5, axis=0), b.bias(4), transpose_b=True)
    elif form == "asymmetric":
        y = b.op("matmul", b.real("x", 3, 5), b.weight(5, 4, axis=None, dtype="uint8", zero=9))
    else:
        y = b.op("matmul", b.real("x", 3, 5), b.weight(5, 4, axis=1), b.bias(4))
    assert ops(fused(b, b.q(y))) == ["qmatmul"]


@DTYPES
def test_pairs(dtype: str) -> None:
    for op, want in (("add", "qadd"), ("sub", "qadd"), ("mul", "qmul")):
        b = Builder(dtype)
        y = b.op("relu6", b.op(op, b.real("x", 2, 3, 4), b.real("z", 3, 1, scale=0.03, zero=2)))
        assert ops(fused(b, b.q(y))) == [want]


@DTYPES
def test_tables(dtype: str) -> None:
    b = Builder(dtype)
    x = b.real("x", 2, 30)
    gate = b.dq(b.q(b.op("sigmoid", x), 1 / 128, 0), 1 / 128, 0)  # x * sigmoid(x) as quantizers spell it
    assert ops(fused(b, b.q(b.op("mul", x, gate)))) == ["qlut"]
    b = Builder(dtype)
    assert ops(fused(b, b.q(b.op("tanh", b.op("mul", b.real("x", 7), F32(0.3)))))) == ["qlut"]
    b = Builder(dtype)
    assert ops(fused(b, b.q(b.real("x", 7)))) == ["qlut"]  # another scale
    b = Builder(dtype)
    assert ops(fused(b, b.q(b.op("softmax", b.real("x", 3, 9)), 1 / 256, 0))) == ["qsoftmax"]


@DTYPES
def test_pools(dtype: str) -> None:
    how = dict(kernel=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2))
    b = Builder(dtype)
    assert ops(fused(b, b.q(b.op("avg_pool", b.real("x", 1, 6, 5, 3), **how)))) == ["qavg_pool"]
    b = Builder(dtype)
    assert ops(fused(b, b.q(b.op("reduce_mean", b.real("x", 2, 4, 5, 3), np.array([1, 2]), keepdims=False)))) == [
        "qmean"
    ]
    b = Builder(dtype)
    y = b.op("max_pool", b.real("x", 1, 6, 5, 3), outputs=1, **how)[0]
    assert ops(fused(b, b.q(y, 0.05, 7))) == ["max_pool"]
    b = Builder(dtype)
    y = b.op("max_pool", b.real("x", 1, 6, 5, 3), outputs=1, **how)[0]
    assert ops(fused(b, b.q(y))) == ["max_pool", "qlut"]
    b = Builder(dtype)
    y = b.op("resize", b.real("x", 1, 3, 3, 2), None, np.array([1, 2, 2, 1], F32), mode="linear")
    assert ops(fused(b, b.q(y, 0.05, 7))) == ["resize"]


@DTYPES
def test_moves(dtype: str) -> None:
    b = Builder(dtype)
    x = b.op("pad", b.op("transpose", b.real("x", 2, 3, 4), perm=(2, 0, 1)), np.array([0, 1, 0, 0, 0, 1]))
    g = fused(b, b.q(b.op("reshape", x, np.array([4, -1])), 0.05, 7))
    assert ops(g) == ["transpose", "pad", "reshape"]
    assert int(g.nodes[1].inputs[2].data) == 7  # type: ignore[union-attr, arg-type]


@DTYPES
def test_concat_with_other_scales(dtype: str) -> None:
    b = Builder(dtype)
    parts = b.real("x", 2, 3), b.real("z", 2, 4, scale=0.1, zero=11)
    assert sorted(ops(fused(b, b.q(b.op("concat", *parts, axis=1))))) == ["concat", "qlut"]


def test_transposed_weights_keep_their_axis() -> None:
    b = Builder()
    w = b.op("transpose", b.weight(8, 4, 3, 3), perm=(0, 2, 3, 1))
    assert ops(fused(b, b.q(b.op("conv", b.real("x", 1, 5, 5, 4), w)))) == ["qconv"]


def test_activations_without_quantize_stay_float() -> None:
    b = Builder()
    y = b.op("conv", b.real("x", 1, 3, 3, 4), b.weight(6, 1, 1, 4))
    g = fused(b, b.q(b.op("silu", y)))
    assert ops(g) == ["qconv", "silu", "quantize"]
    assert fuse_quantized.leftovers(g) == {"silu: no integer form": 1}


def test_dynamic_parameters_are_left_alone() -> None:
    b = Builder()
    x = b.op("dequantize", b.input("x", "uint8", (1, 3, 3, 4)), b.input("s", "float32", ()), np.uint8(3))
    g = fused(b, b.q(b.op("conv", x, b.weight(6, 1, 1, 4))))
    assert ops(g) == ["dequantize", "dequantize", "conv", "quantize"]
    assert fuse_quantized.leftovers(g)["conv: its input is not quantized per tensor"] == 1
