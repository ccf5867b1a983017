"""Transposes before a fully connected layer go into its weights, and stay where that would be wrong."""

import numpy as np
import pytest

from deploykit.converters.passes import flatten_matmul
from tests.support.rewrites import build, input_f32, rewrite

W = np.random.default_rng(0).standard_normal((24, 5)).astype(np.float32)


def flat(b, x, perm, **how):
    moved = b.op("transpose", x, perm=perm)
    return b.op("reshape", moved, how["shape"]) if "shape" in how else b.op("flatten", moved, axis=how.get("axis", 1))


def i64(*v):
    return np.array(v, np.int64)


DONE = {
    "flatten": lambda b: b.op("matmul", flat(b, input_f32(b, "x", 2, 4, 2, 3), (0, 3, 1, 2)), W),
    "symbolic batch": lambda b: b.op("matmul", flat(b, input_f32(b, "x", "n", 4, 2, 3), (0, 3, 1, 2)), W),
    "another order": lambda b: b.op("matmul", flat(b, input_f32(b, "x", 2, 4, 2, 3), (0, 2, 3, 1)), W),
    "reshape": lambda b: b.op("matmul", flat(b, input_f32(b, "x", 2, 4, 6), (0, 2, 1), shape=i64(-1, 24)), W),
    "weights by rows": lambda b: b.op(
        "matmul",
        flat(b, input_f32(b, "x", 2, 4, 2, 3), (0, 3, 1, 2)),
        np.ascontiguousarray(W.T),
        np.ones(5, np.float32),
        transpose_b=True,
        act="relu",
    ),
    "two leading dims": lambda b: b.op(
        "matmul", flat(b, input_f32(b, "x", 2, 7, 4, 6), (0, 1, 3, 2), shape=i64(2, 7, 24)), W
    ),
}
REFUSED = {
    "the transpose moves the batch": lambda b: b.op(
        "matmul", flat(b, input_f32(b, "x", 4, 2, 6), (1, 0, 2), shape=i64(2, 24)), W
    ),
    "symbolic size": lambda b: b.op("matmul", flat(b, input_f32(b, "x", 2, "h", 6), (0, 2, 1), shape=i64(2, 24)), W),
    "weights that are not constant": lambda b: b.op(
        "matmul", flat(b, input_f32(b, "x", 2, 4, 6), (0, 2, 1)), input_f32(b, "w", 24, 5)
    ),
    "transposed a": lambda b: b.op("matmul", flat(b, input_f32(b, "x", 24, 4, 6), (0, 2, 1)), W, transpose_a=True),
}


@pytest.mark.parametrize("what", DONE)
def test_moves(what: str) -> None:
    left = rewrite(build(DONE[what]), flatten_matmul.run, dims={"n": 3})
    assert "transpose" not in left and left.count("matmul") == 1


@pytest.mark.parametrize("what", REFUSED)
def test_refuses(what: str) -> None:
    assert "transpose" in rewrite(build(REFUSED[what]), flatten_matmul.run, dims={"h": 4})


def test_shared_weights_stay_one() -> None:
    def make(b):
        w = b.constant(W)
        x = input_f32(b, "x", 2, 4, 6)
        return b.op("matmul", flat(b, x, (0, 2, 1)), w), b.op("matmul", b.op("flatten", x), w)

    assert "transpose" in rewrite(build(make), flatten_matmul.run)
