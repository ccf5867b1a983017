"""The engine's shape ops against NumPy: random shapes, all element sizes, empty tensors and scalars."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.errors import DeploykitError
from tests.support.engine import run_op

DTYPES = [np.uint8, np.float16, np.float32, np.int64]
rng = np.random.default_rng(7)


def data(shape, dtype=np.float32):
    n = int(np.prod(shape))
    return rng.integers(0, 250, n).astype(dtype).reshape(shape)


def shape_of_rank(rank, high=7):
    return tuple(int(v) for v in rng.integers(1, high, rank))


def check(name, inputs, attrs, want):
    got = run_op(name, inputs, attrs)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", range(9))
def test_transpose(rank, dtype):
    for _ in range(6):
        x = data(shape_of_rank(rank, 7 if rank < 6 else 4), dtype)
        perm = tuple(int(p) for p in rng.permutation(rank))
        check("transpose", [x], dict(perm=perm), x.transpose(perm) if rank else x)


@pytest.mark.parametrize("dtype", [*DTYPES, np.complex128])
@pytest.mark.parametrize(
    "shape", [(17, 33), (64, 48), (5, 100), (100, 3), (3, 100), (2, 65), (1, 9), (4, 16), (257, 31)]
)
def test_transpose_blocks(shape, dtype):
    if dtype is np.complex128:  # elements of 16 bytes: two doubles that stay together
        x = rng.normal(size=(*shape, 2))
        return check("transpose", [x], dict(perm=(1, 0, 2)), x.transpose(1, 0, 2))
    x = data((3, *shape), dtype)
    check("transpose", [x], dict(perm=(0, 2, 1)), x.transpose(0, 2, 1))
    check("transpose", [x], dict(perm=(2, 1, 0)), x.transpose(2, 1, 0))
    check("transpose", [x], dict(perm=()), x.T)


def test_transpose_large_in_parts():
    x = data((2, 300, 410))
    check("transpose", [x], dict(perm=(0, 2, 1)), x.transpose(0, 2, 1))
    x = data((1000, 1000), np.uint8)
    check("transpose", [x], dict(perm=(1, 0)), x.T)


def test_transpose_wrong():
    with pytest.raises(DeploykitError, match="DK-SHAPE.*perm"):
        run_op("transpose", [data((2, 3))], dict(perm=(0,)))
    with pytest.raises(DeploykitError, match="DK-SHAPE.*twice"):
        run_op("transpose", [data((2, 3))], dict(perm=(1, 1)))


def test_shape_of_and_size_of():
    x = data((2, 0, 4))
    check("shape_of", [x], {}, np.array([2, 0, 4]))
    check("shape_of", [x], dict(start=-2), np.array([0, 4]))
    check("shape_of", [x], dict(start=-9, end=-1), np.array([2, 0]))
    check("shape_of", [x], dict(start=2, end=1), np.zeros(0, np.int64))
    check("shape_of", [np.float32(1)], {}, np.zeros(0, np.int64))
    check("size_of", [x], {}, np.array(0))
    check("size_of", [data((3, 5))], {}, np.array(15))


@pytest.mark.parametrize(
    ("shape", "to", "zero", "want"),
    [
        ((2, 3, 4), [4, -1], False, (4, 6)),
        ((2, 3, 4), [0, -1], False, (2, 12)),
        ((2, 3, 4), [-1], False, (24,)),
        ((1,), [], False, ()),
        ((), [1, 1], False, (1, 1)),
        ((0, 3), [0, -1], False, (0, 3)),
        ((0, 3), [3, 0], True, (3, 0)),
        ((2, 3, 4), [2, 0, 4], False, (2, 3, 4)),
        ((2, 0), [5, 0, 7], True, (5, 0, 7)),
    ],
)
def test_reshape(shape, to, zero, want):
    x = data(shape)
    check("reshape", [x, np.array(to, np.int64)], dict(allow_zero=zero), x.reshape(want))


@pytest.mark.parametrize(
    ("shape", "to"),
    [((2, 3), [7]), ((2, 3), [-1, -1]), ((2, 3), [4, -1]), ((2, 3), [2, 3, 0]), ((0, 3), [2]), ((2,), [-2])],
)
def test_reshape_wrong(shape, to):
    with pytest.raises(DeploykitError, match="DK-SHAPE"):
        run_op("reshape", [data(shape), np.array(to, np.int64)])


def test_views():
    x = data((2, 3, 4))
    check("flatten", [x], dict(axis=2), x.reshape(6, 4))
    check("flatten", [x], dict(axis=0), x.reshape(1, 24))
    check("flatten", [x], dict(axis=-1), x.reshape(6, 4))
    y = data((1, 3, 1, 2))
    check("squeeze", [y], {}, y.reshape(3, 2))
    check("squeeze", [y, np.array([-2])], {}, y.reshape(1, 3, 2))
    check("unsqueeze", [x, np.array([0, -1])], {}, x[None, ..., None])
    with pytest.raises(DeploykitError, match="DK-SHAPE.*dropped"):
        run_op("squeeze", [y, np.array([1])])
    with pytest.raises(DeploykitError, match="rank 9"):
        run_op("unsqueeze", [data((1,) * 8), np.array([0])])


@pytest.mark.parametrize("dtype", DTYPES)
def test_concat_and_split(dtype):
    for _ in range(30):
        rank = int(rng.integers(1, 6))
        axis = int(rng.integers(-rank, rank))
        base = list(shape_of_rank(rank))
        parts = []
        for _ in range(int(rng.integers(1, 5))):
            base[axis] = int(rng.integers(0, 6))
            parts.append(data(base, dtype))
        want = np.concatenate(parts, axis)
        check("concat", parts, dict(axis=axis), want)
        sizes = np.array([p.shape[axis] for p in parts], np.int64)
        got = run_op("split", [want, sizes], dict(axis=axis), len(parts))
        for g, p in zip(got if len(parts) > 1 else [got], parts, strict=True):
            np.testing.assert_array_equal(g, p)
    big = [data((40, 50, k), dtype) for k in (64, 3, 1, 130)]
    check("concat", big, dict(axis=2), np.concatenate(big, 2))
    check("concat", big[:1] * 3, dict(axis=0), np.concatenate(big[:1] * 3, 0))


def test_split_even():
    got = run_op("split", [np.arange(7.0)], {}, 3)
    assert [g.tolist() for g in got] == [[0, 1, 2], [3, 4, 5], [6]]
    got = run_op("split", [np.arange(3.0)], {}, 5)
    assert [g.size for g in got] == [1, 1, 1, 0, 0]
    with pytest.raises(DeploykitError, match="add up to 5"):
        run_op("split", [np.arange(7.0), np.array([2, 3])], {}, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slice(dtype):
    for _ in range(120):
        rank = int(rng.integers(1, 6))
        x = data(shape_of_rank(rank, 9), dtype)
        n = int(rng.integers(1, rank + 1))
        axes = rng.permutation(rank)[:n] - rank * rng.integers(0, 2, n)
        starts, ends = rng.integers(-12, 12, n), rng.integers(-12, 12, n)
        steps = rng.choice([-3, -2, -1, 1, 2, 3, 20, -20], n)
        cut = [slice(None)] * rank
        for a, s, e, t in zip(axes, starts, ends, steps, strict=True):
            cut[a] = slice(int(s), int(e), int(t))
        check("slice", [x, starts, ends, axes, steps], {}, x[tuple(cut)])


def test_slice_extremes():
    x = data((5, 4))
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    check("slice", [x, np.array([high]), np.array([low]), np.array([0]), np.array([-1])], {}, x[::-1])
    check("slice", [x, np.array([0, 1]), np.array([high, high])], {}, x[:, 1:])
    check("slice", [x, np.array([-1]), np.array([low]), np.array([1]), np.array([low])], {}, x[:, -1:])
    check("slice", [x, np.array([low]), np.array([high]), np.array([1]), np.array([high])], {}, x[:, :1])
    check("slice", [data((0, 3)), np.array([0]), np.array([2])], {}, data((0, 3)))
    check("slice", [x, np.array([1], np.int32), np.array([3], np.int32)], {}, x[1:3])
    with pytest.raises(DeploykitError, match="step 0 is 0"):
        run_op("slice", [x, np.array([0]), np.array([2]), np.array([0]), np.array([0])])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pad(mode, dtype):
    for _ in range(60):
        rank = int(rng.integers(1, 5))
        x = data(shape_of_rank(rank, 6), dtype)
        before, after = rng.integers(0, 5, rank), rng.integers(0, 5, rank)
        keep = rng.integers(0, 2, rank)
        before, after = before * keep, after * keep
        extra = dict(constant_values=9) if mode == "constant" else {}
        want = np.pad(x, list(zip(before, after, strict=True)), mode=mode, **extra)
        value = np.array(9, dtype) if mode == "constant" else None
        check("pad", [x, np.concatenate([before, after]), value], dict(mode=mode), want)


def test_pad_axes_crop_and_empty():
    x = data((4, 5, 2))
    check("pad", [x, np.array([1, -2, 0, 1]), None, np.array([0, -2])], {}, np.pad(x, [(1, 0), (0, 1), (0, 0)])[:, 2:])
    check("pad", [x, np.array([-1, -1]), None, np.array([0])], dict(mode="reflect"), x[1:-1])
    check(
        "pad",
        [x, np.array([-1, 2]), None, np.array([0])],
        dict(mode="edge"),
        np.pad(x[1:], [(0, 2), (0, 0), (0, 0)], "edge"),
    )
    check("pad", [x, np.array([-6, 4]), None, np.array([0])], {}, np.zeros((2, 5, 2), np.float32))
    check("pad", [data((0, 2)), np.array([1, 0, 1, 0]), np.float32(3)], {}, np.full((2, 2), 3, np.float32))
    check("pad", [np.float32(4), np.zeros(0, np.int64)], {}, np.float32(4))
    with pytest.raises(DeploykitError, match="no element"):
        run_op("pad", [data((0,)), np.array([1, 1])], dict(mode="edge"))
    with pytest.raises(DeploykitError, match="cropped"):
        run_op("pad", [data((2,)), np.array([-2, -1])])


@pytest.mark.parametrize("dtype", DTYPES)
def test_expand_and_tile(dtype):
    for _ in range(60):
        rank = int(rng.integers(0, 5))
        shape = shape_of_rank(rank, 5)
        x = data(tuple(d if k else 1 for d, k in zip(shape, rng.integers(0, 2, rank), strict=True)), dtype)
        lead = shape_of_rank(int(rng.integers(0, 3)), 4)
        want = np.broadcast_to(x, lead + shape)
        to = np.array(
            [1 if k else d for d, k in zip(lead + shape, rng.integers(0, 2, rank + len(lead)), strict=True)], np.int64
        )
        check("expand", [x, to], {}, np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(to)))))
        check("expand", [x, np.array(lead + shape, np.int64)], {}, np.array(want))
        repeats = rng.integers(0, 4, rank)
        check("tile", [x, repeats], {}, np.tile(x, tuple(repeats)) if rank else x)
    with pytest.raises(DeploykitError, match="DK-SHAPE"):
        run_op("expand", [data((2, 3)), np.array([4])])


def test_fill_and_range():
    check("fill", [np.array([2, 3]), np.float16(1.5)], {}, np.full((2, 3), 1.5, np.float16))
    check("fill", [np.array([70000]), np.int32(-3)], {}, np.full(70000, -3, np.int32))
    check("fill", [np.array([2, 0]), np.array([True])], {}, np.zeros((2, 0), bool))
    check("fill", [np.zeros(0, np.int64), np.int64(7)], {}, np.array(7))
    for t in (np.int32, np.int64, np.int16, np.float32, np.float64):
        for a, b, d in [(0, 5, 1), (10, 0, -3), (5, 5, 1), (5, 0, 1), (-3, 9, 4)]:
            check("range", [t(a), t(b), t(d)], {}, np.arange(t(a), t(b), t(d), dtype=t))
    big = np.iinfo(np.int64)
    check(
        "range", [np.int64(big.min), np.int64(big.max), np.int64(2**62)], {}, np.array([-(2**63), -(2**62), 0, 2**62])
    )
    with pytest.raises(DeploykitError, match="delta is 0"):
        run_op("range", [np.int64(0), np.int64(3), np.int64(0)])
    with pytest.raises(DeploykitError):
        run_op("range", [np.int64(big.min), np.int64(big.max), np.int64(1)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["dcr", "crd"])
def test_depth_and_space(mode, dtype):
    n, h, w, c, b = 2, 3, 4, 5, 2
    x = data((n, h, w, c * b * b), dtype)
    if mode == "dcr":
        want = x.reshape(n, h, w, b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, c)
    else:
        want = x.reshape(n, h, w, c, b, b).transpose(0, 1, 4, 2, 5, 3).reshape(n, h * b, w * b, c)
    check("depth_to_space", [x], dict(block=b, mode=mode), np.array(want))
    check("space_to_depth", [np.ascontiguousarray(want)], dict(block=b, mode=mode), x)
    with pytest.raises(DeploykitError, match="DK-SHAPE"):
        run_op("depth_to_space", [x], dict(block=3, mode=mode))


@pytest.mark.parametrize("k", [-9, -2, -1, 0, 1, 3, 9, 2**62, -(2**62)])
def test_trilu_and_eye(k):
    x = data((2, 4, 6)) + 1
    check("trilu", [x, np.int64(k)], dict(upper=True), np.triu(x, max(min(k, 99), -99)))
    check("trilu", [x, np.int64(k)], dict(upper=False), np.tril(x, max(min(k, 99), -99)))
    if abs(k) < 99:
        check("eye_like", [x[0]], dict(k=k), np.eye(4, 6, k, np.float32))
        check("eye_like", [x[0]], dict(k=k, dtype="int32"), np.eye(4, 6, k, np.int32))
        check("eye_like", [x[0]], dict(k=k, dtype="float16"), np.eye(4, 6, k, np.float16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_reverse(dtype):
    for _ in range(40):
        rank = int(rng.integers(1, 5))
        x = data(shape_of_rank(rank), dtype)
        axes = tuple(int(a) for a in rng.permutation(rank)[: rng.integers(0, rank + 1)])
        check("reverse", [x], dict(axes=axes), np.flip(x, axes))


@pytest.mark.parametrize(("batch", "time"), [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_reverse_sequence(batch, time):
    x = data((4, 5, 3, 2))
    lengths = rng.integers(0, x.shape[time] + 1, x.shape[batch])
    want = np.moveaxis(x.copy(), (batch, time), (0, 1))
    for b, n in enumerate(lengths):
        want[b, :n] = want[b, :n][::-1].copy()
    want = np.ascontiguousarray(np.moveaxis(want, (0, 1), (batch, time)))
    check("reverse_sequence", [x, lengths], dict(batch_axis=batch, time_axis=time), want)
    lengths[0] = x.shape[time] + 1
    with pytest.raises(DeploykitError, match="DK-INDEX"):
        run_op("reverse_sequence", [x, lengths], dict(batch_axis=batch, time_axis=time))
