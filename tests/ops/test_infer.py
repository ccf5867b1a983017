"""Shape inference: exact expressions of symbolic sizes, shape arithmetic that folds, errors that say what is wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from deploykit.errors import ShapeError
from deploykit.graph import Dim
from deploykit.ops import GraphBuilder, infer_graph
from deploykit.ops.samples import i64

n, m = Dim.symbol("n"), Dim.symbol("m")


def build(shape=(n, 3, m), dtype="float32"):
    b = GraphBuilder()
    return b, b.input("x", dtype, shape)


def size_of(dim, **sizes):
    """The dim's value for these sizes, or None where it is not known."""
    value = dim.subs(sizes) if isinstance(dim, Dim) else dim
    return None if isinstance(value, Dim) else value


# ---- exactness, by trying sizes
def slices():
    ends = (-7, -3, -1, 0, 1, 2, 5, 2**31 - 1, -(2**31), 2**63 - 1)
    return itertools.product(ends, ends, (1, 2, 3, -1, -2))


def test_slices_of_a_symbol_are_exact_for_every_size():
    checked = 0
    for start, end, step in slices():
        b, x = build((n,))
        y = b.op("slice", x, i64(start), i64(end), i64(0), i64(step))
        for size in range(9):
            want = len(range(size)[start:end:step])
            assert size_of(y.shape[0], n=size) == want, f"x[{start}:{end}:{step}] of {size}: {y.shape[0]}"
            checked += 1
    assert checked == 4500


@pytest.mark.parametrize(
    "start, end, step, text",
    [
        (0, 2**31 - 1, 1, "n"),
        (0, 10**9, 1, "n"),
        (0, 2**63 - 1, 2, "((n + 1) // 2)"),
        (-1, -(2**63), -1, "n"),
        (0, -1, 1, "max((n - 1), 0)"),
        (-3, 2**31 - 1, 1, "min(n, 3)"),
        (2, 2**31 - 1, 1, "max((n - 2), 0)"),
        (0, 4, 1, "min(n, 4)"),
        (5, 2, 1, "0"),
    ],
)
def test_slices_of_a_symbol_read_well(start, end, step, text):
    b, x = build((n,))
    assert str(b.op("slice", x, i64(start), i64(end), i64(0), i64(step)).shape[0]) == text


def test_slices_with_ends_computed_from_shapes():
    b, x = build((n, m))
    rows, cols = b.op("shape_of", x, end=1), b.op("shape_of", x, start=1)
    for end, stop in (
        (rows, lambda r, c: r),
        (b.op("sub", rows, i64(1)), lambda r, c: r - 1),
        (cols, lambda r, c: c),
        (b.op("add", cols, i64(2)), lambda r, c: c + 2),
    ):
        length = b.op("slice", x, i64(0), end, i64(0)).shape[0]
        for r, c in itertools.product(range(5), range(5)):
            assert size_of(length, n=r, m=c) == len(range(r)[0 : stop(r, c)]), f"{length} for {r}, {c}"


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_equal_splits_of_a_symbol_are_exact(pieces):
    b, x = build((n,))
    ys = b.op("split", x, outputs=pieces)
    for size in range(12):
        chunk = -(-size // pieces)
        want = [max(min(chunk, size - i * chunk), 0) for i in range(pieces)]
        assert [size_of(y.shape[0], n=size) for y in ys] == want


def test_ranges_of_a_symbol_are_exact():
    for start, delta in itertools.product((0, 2, -3), (1, 2, -1, -2)):
        b, x = build((n,))
        limit = b.op("squeeze", b.op("shape_of", x))
        y = b.op("range", np.int64(start), limit, np.int64(delta))
        for size in range(8):
            assert size_of(y.shape[0], n=size) == len(range(start, size, delta)), (start, delta, size)


# ---- chains of shape arithmetic, as exporters write them
def test_reshape_by_a_computed_shape():
    b, x = build((n, 3, 4, m))
    shape = b.op("shape_of", x)
    batch, last = b.op("gather", shape, np.int64(0)), b.op("gather", shape, i64(-1))
    target = b.op("concat", b.op("unsqueeze", batch, i64(0)), i64(-1), last, axis=0)
    assert b.op("reshape", x, target).shape == (n, 12, m)
    assert b.op("reshape", x, b.op("concat", i64(-1), last, axis=0)).shape == (n * 12, m)
    heads = b.op("concat", b.op("unsqueeze", batch, i64(0)), i64(2), b.op("div", last, i64(2)), i64(-1), axis=0)
    assert b.op("reshape", x, heads).shape[:3] == (n, 2, m // 2)


def test_static_chains_fold_to_numbers():
    b, x = build((2, 3, 4))
    shape = b.op("shape_of", x)
    total = b.op("reduce_prod", b.op("slice", shape, i64(1), i64(3)), keepdims=False)
    assert b.known(total) == 12
    half = b.op("cast", b.op("floor", b.op("mul", b.op("cast", total, dtype="float32"), 0.3)), dtype="int64")
    assert b.known(half) == 3
    assert b.op("fill", b.op("unsqueeze", half, i64(0)), np.float32(0)).shape == (3,)


def test_expand_as_torch_exports_it():
    b, x = build((n, 1, 1))
    shape = b.op("shape_of", x)
    want = b.op("concat", b.op("gather", shape, i64(0)), i64(5, -1), axis=0)
    ones = b.op("fill", b.op("shape_of", want), np.int64(1))
    keep = b.op("equal", want, b.op("mul", ones, np.int64(-1)))
    assert b.op("expand", x, b.op("where", keep, ones, want)).shape == (n, 5, 1)


def test_sizes_through_floats():
    b, x = build((n, 3))
    size = b.op("cast", b.op("gather", b.op("shape_of", x), i64(0)), dtype="float32")
    double = b.op("cast", b.op("floor", b.op("mul", size, 2.0)), dtype="int64")
    assert b.op("fill", double, np.float32(0)).shape == (n * 2,)
    uneven = b.op("cast", b.op("mul", size, 1.5), dtype="int64")
    assert isinstance(b.op("fill", uneven, np.float32(0)).shape[0], Dim)


def test_comparisons_of_sizes_fold_only_where_all_sizes_agree():
    b, x = build((n, m))
    rows, cols = b.op("gather", b.op("shape_of", x), i64(0)), b.op("gather", b.op("shape_of", x), i64(1))
    for op, other, value in (
        ("equal", i64(-1), False),
        ("greater_equal", i64(0), True),
        ("less", i64(0), False),
        ("equal", rows, True),
        ("equal", i64(1), None),
        ("greater", i64(0), None),
        ("less", cols, None),
    ):
        got = b.known(b.op(op, rows, other))
        assert (None if got is None else bool(got[0])) == value, (op, other)


def test_values_do_not_flow_through_what_is_too_large():
    b = GraphBuilder()
    big = b.op("range", np.int64(0), np.int64(1000), np.int64(1))
    assert big.shape == (1000,) and b.known(big) is None


# ---- what cannot be known
def test_unknown_ranks_and_values_give_what_is_left():
    b = GraphBuilder()
    x, shape = b.input("x", "float32", None), b.input("shape", "int64", (3,))
    assert b.op("relu", x).shape is None
    assert len(b.op("reshape", x, shape).shape) == 3
    assert b.op("add", x, b.input("y", "float32", (2, n))).shape is None
    assert b.op("shape_of", x).rank == 1
    assert b.op("reduce_sum", x, keepdims=False).shape == ()
    y = b.input("z", "float32", (n, 4))
    axes = b.input("axes", "int64", (1,))
    assert b.op("reduce_sum", y, axes, keepdims=False).rank == 1
    assert b.op("reduce_sum", y, axes).rank == 2
    assert b.op("expand", y, b.input("s2", "int64", (2,))).shape[1] == 4
    assert b.op("squeeze", y).shape is None, "n may be 1"


def test_different_symbols_do_not_broadcast_to_a_guess():
    b, x = build((n, 1, 3))
    y = b.op("add", x, b.input("y", "float32", (m, 4, 1)))
    assert y.shape[1:] == (4, 3)
    assert y.shape[0] not in (n, m)
    assert b.op("add", x, b.input("z", "float32", (5, 1, 3))).shape == (5, 1, 3), "n is 5 or 1"
    assert b.op("add", x, b.input("w", "float32", (m + 2, 1, 3))).shape == (m + 2, 1, 3), "n is m + 2 or 1"


def test_infer_graph_is_repeatable_and_fills_shapes_in():
    b, x = build((n, 3, 8))
    y = b.op("transpose", b.op("concat", x, x, axis=1), perm=(0, 2, 1))
    g = b.output(y, "y")
    for node in g.nodes:
        for v in node.outputs:
            v.shape = v.dtype = None
    infer_graph(g)
    assert g.outputs[0].shape == (n, 8, 6) and g.outputs[0].dtype.name == "float32"
    x.shape = (2, 3, 8)
    infer_graph(g)
    assert g.outputs[0].shape == (2, 8, 6)


# ---- errors
@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda b, x: b.op("add", x, np.zeros((2, 4, 7), np.float32)),
            r"add: shapes do not broadcast; got \[2, 3, 7\]",
        ),
        (lambda b, x: b.op("add", x, np.zeros(7, np.float64)), "add: dtypes of inputs differ; got float32, float64"),
        (lambda b, x: b.op("logical_and", x, x), "logical_and: dtype of inputs; got float32, expected bool"),
        (lambda b, x: b.op("softmax", x, axis=3), "softmax: axis is out of range; got 3, expected -3 to 2"),
        (lambda b, x: b.op("reshape", x, i64(4, -1)), r"reshape: cannot reshape .*expected a multiple of 4"),
        (lambda b, x: b.op("reshape", x, i64(-1, -1)), "reshape: target shape; .* at most one -1"),
        (lambda b, x: b.op("transpose", x, perm=(0, 1)), r"transpose: perm; got \(0, 1\), expected 3 axes"),
        (lambda b, x: b.op("transpose", x, perm=(0, 1, 1)), r"transpose: perm: a dim is named twice; got \(0, 1, 1\)"),
        (
            lambda b, x: b.op("squeeze", x, i64(1)),
            r"squeeze: dim 1 of \[2, 3, 7\] cannot be squeezed; got 3, expected 1",
        ),
        (lambda b, x: b.op("concat", x, np.zeros((2, 3), np.float32), axis=0), "concat: ranks differ"),
        (
            lambda b, x: b.op("concat", x, np.zeros((2, 4, 7), np.float32), axis=0),
            "concat: .* dims other than axis 0 diff",
        ),
        (lambda b, x: b.op("split", x, i64(1, 2), outputs=2), "split: .* do not add up to dim 0"),
        (lambda b, x: b.op("top_k", x, i64(9)), "top_k: k; got 9, expected 0 to 7"),
        (lambda b, x: b.op("slice", x, i64(0), i64(1), i64(0), i64(0)), "slice: step; got 0, expected not 0"),
        (lambda b, x: b.op("pad", x, i64(1, 1)), "pad: number of pads; got 2, expected 6"),
        (lambda b, x: b.op("tile", x, i64(1, 1)), "tile: number of repeats"),
        (lambda b, x: b.op("expand", x, i64(5, 7)), "expand: shapes do not broadcast"),
        (
            lambda b, x: b.op("gather", x, np.zeros(2, np.float32)),
            "gather: dtype of indices; got float32, expected int64",
        ),
        (
            lambda b, x: b.op("depth_to_space", x, block=2),
            r"depth_to_space: shape of x; got \[2, 3, 7\], expected rank 4",
        ),
        (lambda b, x: b.op("bitcast", x, dtype="int16"), "bitcast: bits can only be read .*; got float32 to int16"),
        (lambda b, x: b.op("prelu", x, np.zeros(3, np.float32)), "prelu: shapes do not broadcast"),
        (lambda b, x: b.op("clip", x, np.zeros(3, np.float32)), r"clip: shape of low; got \[3\], expected a scalar"),
    ],
)
def test_errors_say_what_came_and_what_is_allowed(make, text):
    b, x = build((2, 3, 7))
    with pytest.raises(ShapeError, match=text):
        make(b, x)
