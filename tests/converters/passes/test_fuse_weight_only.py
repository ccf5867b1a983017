"""fuse_weight_only, fuse_dynamic, fold_quantized: narrow weights stay narrow where a kernel reads them, else become float."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploykit.converters.passes import fold_quantized, fuse_dynamic, fuse_epilogue, fuse_weight_only
from deploykit.dtypes import dtype
from deploykit.ops import GraphBuilder
from tests.support.rewrites import build, input_f32, rewrite

RNG = np.random.default_rng(3)
F32 = np.float32


def weights(b: GraphBuilder, shape: tuple[int, int], name: str, axis: int, block: int = 0) -> Any:
    low, high = (
        (-8, 7) if name == "int4" else (0, 15) if name == "uint4" else (-128, 127) if name == "int8" else (0, 255)
    )
    q = RNG.integers(low, high, shape, endpoint=True).astype(np.int16).astype(dtype(name).np)
    grid = list(shape)
    grid[axis] = -(-grid[axis] // block) if block else 1
    scale = RNG.uniform(0.01, 0.02, grid if block else shape[axis]).astype(F32)
    zero = np.full(scale.shape, 2).astype(dtype(name).np)
    return b.op("dequantize", b.constant(q), scale, zero, axis=axis, block_size=block)


@pytest.mark.parametrize("name", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("block", [0, 32])
def test_integers(name: str, turned: bool, block: int) -> None:
    def make(b: GraphBuilder) -> Any:
        shape, axis = ((7, 64), 0) if turned else ((64, 7), 1)
        w = weights(b, shape, name, 1 - axis if block else axis, block)
        return b.op("matmul", input_f32(b, "x", 3, 64), w, np.ones(7, F32), act="relu", transpose_b=turned)

    assert rewrite(build(make), fold_quantized.run, fuse_weight_only.run) == ["matmul_weight_only"]


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_floats(name: str) -> None:
    def make(b: GraphBuilder) -> Any:
        w = b.constant(RNG.normal(size=(64, 7)).astype(dtype(name).np))
        return b.op("matmul", input_f32(b, "x", 2, 3, 64), b.op("cast", w, dtype="float32"))

    assert rewrite(build(make), fuse_weight_only.run) == ["matmul_weight_only"]


def test_other_readers_get_floats() -> None:
    def make(b: GraphBuilder) -> Any:
        w = weights(b, (8, 3), "int8", 1)
        return b.op("matmul", input_f32(b, "x", 2, 8), w), b.op("exp", w)

    assert rewrite(build(make), fold_quantized.run, fuse_weight_only.run) == ["matmul", "exp"]


def test_scales_along_the_sum_are_folded() -> None:
    def make(b: GraphBuilder) -> Any:
        return b.op("matmul", input_f32(b, "x", 2, 8), weights(b, (8, 3), "int8", 0))

    assert rewrite(build(make), fold_quantized.run, fuse_weight_only.run) == ["matmul"]


@pytest.mark.parametrize("zero", [None, 0, 100])
def test_dynamic(zero: int | None) -> None:
    def make(b: GraphBuilder) -> Any:
        x = input_f32(b, "x", 2, 3, 16)
        q, s, z = b.op("dynamic_quantize", x, outputs=3)
        w = RNG.integers(-20, 127, (16, 5), endpoint=True)
        w = (w + (zero or 0)).astype(np.uint8 if zero else np.int8)
        wz = None if zero is None else np.asarray(zero, w.dtype)
        acc = b.op("cast", b.op("matmul_integer", q, w, z, wz), dtype="float32")
        y = b.op("mul", acc, b.op("mul", s, RNG.uniform(0.01, 0.02, 5).astype(F32)))
        y = b.op("add", y, np.arange(5, dtype=F32))
        return b.op("add", b.op("relu", y), input_f32(b, "r", 2, 3, 5))

    runs = (fuse_dynamic.run, fuse_epilogue.run, fuse_epilogue.run, fuse_epilogue.run)
    assert rewrite(build(make), *runs) == ["dynamic_matmul"]


def test_dynamic_with_asymmetric_weights_is_left() -> None:
    def make(b: GraphBuilder) -> Any:
        q, s, z = b.op("dynamic_quantize", input_f32(b, "x", 3, 16), outputs=3)
        w = RNG.integers(0, 255, (16, 5), endpoint=True).astype(np.uint8)
        acc = b.op("cast", b.op("matmul_integer", q, w, z, np.uint8(3)), dtype="float32")
        return b.op("mul", acc, b.op("mul", s, np.float32(0.1)))

    assert "matmul_integer" in rewrite(build(make), fuse_dynamic.run)


@pytest.mark.parametrize("then, ops", [("relu", ["dequantize", "conv", "relu"]), ("mul", ["conv", "mul"])])
def test_convolutions_keep_what_nobody_folds_into(then: str, ops: list[str]) -> None:
    def make(b: GraphBuilder) -> Any:
        q = b.constant(RNG.integers(-127, 127, (5, 1, 1, 8)).astype(np.int8))
        w = b.op("dequantize", q, np.full(5, 0.01, F32), None, axis=0)
        y = b.op("conv", input_f32(b, "x", 1, 3, 3, 8), w)
        return b.op(then, y, *([np.full(5, 2, F32)] if then == "mul" else []))

    assert rewrite(build(make), fold_quantized.run) == ops
