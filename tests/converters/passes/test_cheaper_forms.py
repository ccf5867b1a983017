"""Each row of the table, and the nearest thing it must leave alone."""

import numpy as np
import pytest

from deploykit.converters.passes import cheaper_forms
from tests.support.rewrites import build, input_f32, rewrite


def f32(v):
    return np.array(v, np.float32)


CASES = {
    "power 1": (lambda b, x: b.op("pow", x, f32(1)), []),
    "power 2": (lambda b, x: b.op("pow", x, f32([2])), ["square"]),
    "power 2 as an integer": (lambda b, x: b.op("pow", x, np.int64(2)), ["square"]),
    "power 2 that enlarges": (lambda b, x: b.op("pow", x, f32([[[2]]])), ["pow"]),
    "power 3": (lambda b, x: b.op("pow", x, f32(3)), ["square", "mul"]),
    "power -1": (lambda b, x: b.op("pow", x, f32(-1)), ["reciprocal"]),
    "power 0.5 differs at -inf": (lambda b, x: b.op("pow", x, f32(0.5)), ["pow"]),
    "powers": (lambda b, x: b.op("pow", x, f32([2, 2, 3])), ["pow"]),
    "x times x": (lambda b, x: b.op("mul", x, x), ["square"]),
    "one over x": (lambda b, x: b.op("div", f32(1), x), ["reciprocal"]),
    "one over a root": (lambda b, x: b.op("div", f32(1), b.op("sqrt", x)), ["rsqrt"]),
    "reciprocal of a root": (lambda b, x: b.op("reciprocal", b.op("sqrt", x)), ["rsqrt"]),
    "two over x": (lambda b, x: b.op("div", f32(2), x), ["div"]),
    "nothing minus x": (lambda b, x: b.op("sub", f32(0), x), ["neg"]),
    "x minus nothing": (lambda b, x: b.op("sub", x, f32(0)), ["sub"]),
    "quarter": (lambda b, x: b.op("div", x, f32(4)), ["mul"]),
    "negative half": (lambda b, x: b.op("div", x, f32(-2)), ["mul"]),
    "third": (lambda b, x: b.op("div", x, f32(3)), ["div"]),
    "by zero": (lambda b, x: b.op("div", x, f32(0)), ["div"]),
    "by a vector": (lambda b, x: b.op("div", x, f32([2, 2, 2])), ["div"]),
}


@pytest.mark.parametrize("what", CASES)
def test_rule(what: str) -> None:
    make, want = CASES[what]
    graph = build(lambda b: make(b, input_f32(b, "x", 2, 3)))
    x = np.array([[0.3, 2.0, 1.7], [4.0, 0.01, 9.0]], np.float32)
    assert rewrite(graph, cheaper_forms.run, inputs={"x": x}) == want


def test_integers_are_left_alone() -> None:
    graph = build(lambda b: b.op("pow", b.input("x", "int32", (3,)), np.int32(2)))
    assert rewrite(graph, cheaper_forms.run) == ["pow"]
