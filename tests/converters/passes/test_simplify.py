"""Each rule of simplify, on what it removes and on the nearest thing it must leave alone."""

from typing import Any

import numpy as np
import pytest

from deploykit.converters.passes import dead_code, fold_constants, simplify
from deploykit.ops import GraphBuilder
from tests.support.rewrites import build, input_f32, rewrite


def i64(*v: int) -> np.ndarray:
    return np.array(v, np.int64)


def f32(v: Any) -> np.ndarray:
    return np.array(v, np.float32)


def _x(b: GraphBuilder, *shape: Any) -> Any:
    return input_f32(b, "x", *(shape or (2, 3, 4)))


CASES = {
    "identity": (lambda b: b.op("identity", _x(b)), []),
    "same reshape": (lambda b: b.op("reshape", _x(b), i64(2, -1, 4)), []),
    "symbolic same reshape": (lambda b: b.op("reshape", _x(b, "n", 3, 4), i64(-1, 3, 4)), []),
    "other reshape": (lambda b: b.op("reshape", _x(b), i64(2, 12)), ["reshape"]),
    "reshape there and back": (lambda b: b.op("reshape", b.op("reshape", _x(b), i64(24)), i64(2, 3, 4)), []),
    "reshape twice": (lambda b: b.op("reshape", b.op("reshape", _x(b), i64(24)), i64(4, 6)), ["reshape"]),
    "squeeze of unsqueeze": (lambda b: b.op("squeeze", b.op("unsqueeze", _x(b), i64(1)), i64(1)), []),
    "flatten of unsqueeze": (lambda b: b.op("flatten", b.op("unsqueeze", _x(b), i64(0)), axis=2), ["reshape"]),
    "expand to itself": (lambda b: b.op("expand", _x(b), i64(1, 3, 1)), []),
    "expand": (lambda b: b.op("expand", _x(b, 2, 1), i64(1, 3)), ["expand"]),
    "tile once": (lambda b: b.op("tile", _x(b), i64(1, 1, 1)), []),
    "tile twice": (lambda b: b.op("tile", _x(b), i64(1, 2, 1)), ["tile"]),
    "whole slice": (lambda b: b.op("slice", _x(b), i64(0), i64(99), i64(1)), []),
    "reversing slice": (lambda b: b.op("slice", _x(b), i64(-1), i64(-99), i64(1), i64(-1)), ["slice"]),
    "no pad": (lambda b: b.op("pad", _x(b), i64(0, 0, 0, 0, 0, 0)), []),
    "two pads": (
        lambda b: b.op("pad", b.op("pad", _x(b), i64(0, 1, 0, 0, 0, 2)), i64(3, 4), None, i64(2)),
        ["pad"],
    ),
    "two pads of two values": (
        lambda b: b.op("pad", b.op("pad", _x(b), i64(1, 1), f32(1), i64(2)), i64(3, 4), f32(2), i64(2)),
        ["pad", "pad"],
    ),
    "concat of one": (lambda b: b.op("concat", _x(b), axis=0), []),
    "concat of concat": (
        lambda b: b.op("concat", b.op("concat", _x(b), input_f32(b, "y", 2, 1, 4), axis=1), b.graph.inputs[0], axis=-2),
        ["concat"],
    ),
    "concat of another axis": (
        lambda b: b.op("concat", b.op("concat", _x(b), b.graph.inputs[0], axis=1), input_f32(b, "y", 2, 6, 4), axis=0),
        ["concat", "concat"],
    ),
    "concat with nothing": (lambda b: b.op("concat", _x(b), np.zeros((2, 0, 4), np.float32), axis=1), []),
    "concat with zeros": (lambda b: b.op("concat", _x(b), np.zeros((2, 5, 4), np.float32), axis=1), ["pad"]),
    "concat with ones": (lambda b: b.op("concat", _x(b), np.ones((2, 5, 4), np.float32), axis=1), ["concat"]),
    "split in one": (lambda b: b.op("split", _x(b), axis=1, outputs=1)[0], []),
    "reduce of ones": (lambda b: b.op("reduce_mean", _x(b, 2, 1, 4), i64(1)), []),
    "reduce of ones, squeezed": (lambda b: b.op("reduce_max", _x(b, 2, 1, 4), i64(1), keepdims=False), ["squeeze"]),
    "reduce": (lambda b: b.op("reduce_max", _x(b), i64(1)), ["reduce_max"]),
    "plus zero": (lambda b: b.op("add", f32(0), _x(b)), []),
    "plus enlarging zeros": (lambda b: b.op("add", np.zeros((5, 1, 1, 1), np.float32), _x(b)), ["add"]),
    "times one": (lambda b: b.op("mul", _x(b), np.ones((3, 1), np.float32)), []),
    "one over": (lambda b: b.op("div", f32(1), _x(b)), ["div"]),
    "by one": (lambda b: b.op("div", _x(b), f32([1.0])), []),
    "minus": (lambda b: b.op("sub", f32(0), _x(b)), ["sub"]),
    "cast to itself": (lambda b: b.op("cast", _x(b), dtype="float32"), []),
    "cast up and down": (lambda b: b.op("cast", b.op("cast", _x(b), dtype="float64"), dtype="float32"), []),
    "cast down and up": (
        lambda b: b.op("cast", b.op("cast", _x(b), dtype="float16"), dtype="float32"),
        ["cast", "cast"],
    ),
    "cast through float64": (lambda b: b.op("cast", b.op("cast", _x(b), dtype="float64"), dtype="float16"), ["cast"]),
    "cast of a fraction to bool through int": (
        lambda b: b.op("cast", b.op("cast", _x(b), dtype="int32"), dtype="bool"),
        ["cast", "cast"],
    ),
    "transposes cancel": (lambda b: b.op("transpose", b.op("transpose", _x(b), perm=(2, 0, 1)), perm=(1, 2, 0)), []),
    "transposes compose": (
        lambda b: b.op("transpose", b.op("transpose", _x(b), perm=(2, 0, 1)), perm=(2, 0, 1)),
        ["transpose"],
    ),
    "default perm twice": (lambda b: b.op("transpose", b.op("transpose", _x(b))), []),
    "transpose of ones": (lambda b: b.op("transpose", _x(b, 2, 1, 4), perm=(1, 0, 2)), ["transpose"]),
    "real transpose": (lambda b: b.op("transpose", _x(b), perm=(0, 2, 1)), ["transpose"]),
    "slices of two axes": (
        lambda b: b.op("slice", b.op("slice", _x(b), i64(1), i64(2), i64(0)), i64(0), i64(2), i64(2)),
        ["slice"],
    ),
    "slices of one axis": (
        lambda b: b.op("slice", b.op("slice", _x(b), i64(1), i64(4), i64(2)), i64(-2), i64(9), i64(2)),
        ["slice"],
    ),
    "slices of an unknown axis": (
        lambda b: b.op("slice", b.op("slice", _x(b, "n"), i64(1), i64(4), i64(0)), i64(-2), i64(9), i64(0)),
        ["slice", "slice"],
    ),
    "gather of the only one": (lambda b: b.op("gather", _x(b, 2, 1, 4), np.int64(0), axis=1), ["squeeze"]),
    "relu twice": (lambda b: b.op("relu", b.op("relu", _x(b))), ["relu"]),
    "neg twice": (lambda b: b.op("neg", b.op("neg", _x(b))), []),
    "abs of square": (lambda b: b.op("abs", b.op("square", _x(b))), ["square"]),
    "clip to six": (lambda b: b.op("clip", _x(b), f32(0), f32(6)), ["relu6"]),
    "clip from zero": (lambda b: b.op("clip", _x(b), f32(0)), ["relu"]),
    "clip": (lambda b: b.op("clip", _x(b), f32(-1), f32(1)), ["clip"]),
    "max and min": (lambda b: b.op("minimum", b.op("maximum", _x(b), f32(-1)), f32([2])), ["clip"]),
    "max": (lambda b: b.op("maximum", f32(0.5), _x(b)), ["clip"]),
    "max of two": (lambda b: b.op("maximum", _x(b), input_f32(b, "y", 4)), ["maximum"]),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    make, left = CASES[name]
    g = build(make)
    assert rewrite(g, *[simplify.run] * 4, tolerance="exact") == left


def test_shape_computed_at_run_time_becomes_constant() -> None:
    def make(b: GraphBuilder) -> Any:
        x = _x(b, "n", 3, "h", 4)
        s = b.op("shape_of", x)
        first = b.op("unsqueeze", b.op("gather", s, np.int64(0)), i64(0))
        return b.op("reshape", x, b.op("concat", first, i64(3), i64(-1), axis=0))

    g = build(make)
    assert rewrite(g, fold_constants.run, simplify.run, dead_code.run) == ["reshape"]


def test_quantized_results_are_left_alone() -> None:
    from deploykit.graph import QuantParams

    g = build(lambda b: b.op("identity", _x(b)))
    g.nodes[0].output.quant = QuantParams(np.array(1.0), np.array(0))
    assert simplify.run(g) == {}
