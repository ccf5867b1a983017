"""The engine's matrix products against the passports' references: shapes, transposes, broadcasts, epilogues, dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import DeploykitError
from deploykit.native import run_op
from deploykit.ops.activation import ACTIVATIONS
from deploykit.ops.core import get

TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}


def normal(rng, shape, dtype="float32"):
    return rng.normal(size=shape).astype(dtypes.dtype(dtype).np)


def check(name, inputs, attrs=None, threads=1):
    attrs = attrs or {}
    op = get(name)
    want = op.reference(*inputs, **op.complete(attrs))
    got = run_op(name, inputs, attrs, threads=threads)[0]
    assert got.dtype == want.dtype and got.shape == want.shape, (got.shape, want.shape)
    if dtypes.dtype(want.dtype).kind in "iu":
        np.testing.assert_array_equal(got, want)
    elif want.size:
        g, w = got.astype(np.float64), want.astype(np.float64)
        error = np.abs(g - w).max() / max(np.abs(w).max(), 0.5)
        assert error <= TOLERANCE[dtypes.dtype(want.dtype).name], f"{error:.2e} {attrs} {[np.shape(i) for i in inputs]}"
    return got


def operands(rng, m, n, k, batch_a=(), batch_b=(), attrs=None, dtype="float32"):
    attrs = attrs or {}
    a = (*batch_a, k, m) if attrs.get("transpose_a") else (*batch_a, m, k)
    b = (*batch_b, n, k) if attrs.get("transpose_b") else (*batch_b, k, n)
    return normal(rng, a, dtype), (normal(rng, b) / np.sqrt(max(k, 1))).astype(dtypes.dtype(dtype).np)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_sizes(transpose_a, transpose_b):
    rng = np.random.default_rng(1)
    attrs = dict(transpose_a=transpose_a, transpose_b=transpose_b)
    for m in (1, 2, 5, 6, 7, 13, 31):
        for n in (1, 7, 8, 9, 16, 17, 24, 25, 33, 40, 63):
            k = int(rng.integers(1, 60))
            check("matmul", operands(rng, m, n, k, attrs=attrs), attrs)
    for m, n, k in ((200, 300, 150), (1, 1000, 700), (700, 1, 33), (65, 64, 1000)):
        check("matmul", operands(rng, m, n, k, attrs=attrs), attrs)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_batches(transpose_a, transpose_b):
    rng = np.random.default_rng(2)
    attrs = dict(transpose_a=transpose_a, transpose_b=transpose_b)
    pairs = [
        ((3,), ()),
        ((), (3,)),
        ((3,), (3,)),
        ((2, 1), (3,)),
        ((1, 3), (2, 1)),
        ((2, 3, 1), (1, 1, 4)),
        ((0,), (1,)),
    ]
    for batch_a, batch_b in pairs:
        check("matmul", operands(rng, 9, 21, 14, batch_a, batch_b, attrs), attrs)
        check("matmul", operands(rng, 40, 21, 14, batch_a, batch_b, attrs), attrs)


def test_rows_4_kb_apart_give_the_same_numbers():
    """They are taken in smaller tiles; a row alone, which is not, shows that the sums are the same."""
    rng = np.random.default_rng(3)
    for m, n, k in ((2, 40, 1024), (8, 33, 1024), (29, 70, 2048), (57, 16, 3072)):
        a, b = operands(rng, m, n, k)
        whole = check("matmul", [a, b])
        rows = np.concatenate([run_op("matmul", [a[i : i + 2], b])[0] for i in range(m - 1)] + [whole[-1:]])
        np.testing.assert_array_equal(whole[:-1], rows[: 2 * (m - 1) : 2])


def test_vectors():
    rng = np.random.default_rng(3)
    check("matmul", [normal(rng, 9), normal(rng, 9)])
    check("matmul", [normal(rng, 9), normal(rng, (9, 5))])
    check("matmul", [normal(rng, (5, 9)), normal(rng, 9)])
    check("matmul", [normal(rng, (2, 3, 5, 9)), normal(rng, 9)])
    check("matmul", [normal(rng, 9), normal(rng, (2, 3, 9, 5))])
    check("matmul", [normal(rng, 9), normal(rng, (2, 5, 9))], dict(transpose_b=True, transpose_a=True))
    check("matmul", [normal(rng, (0, 4)), normal(rng, (4, 3))])
    check("matmul", [normal(rng, (2, 0)), normal(rng, (0, 3)), normal(rng, 3)])
    check("matmul", [normal(rng, (2, 0)), normal(rng, (0, 3)), normal(rng, 3)], dict(alpha=2.0, act="relu"))


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_epilogue(act):
    rng = np.random.default_rng(4)
    attrs = dict(act=act, act_alpha=0.2, act_beta=0.8)
    for alpha in (1.0, 0.37):
        for after in (False, True):
            a, b = operands(rng, 13, 21, 30, (2,))
            for bias in (None, (21,), (1,), (13, 1), (13, 21), (2, 13, 21), (2, 1, 21), (2, 1, 1), ()):
                for residual in (None, normal(rng, (2, 13, 21))):
                    inputs = [a, b, None if bias is None else normal(rng, bias), residual]
                    check("matmul", inputs, dict(attrs, alpha=alpha, act_after=after))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
def test_bias_that_stretches(dtype):
    rng = np.random.default_rng(5)
    for a, b, bias in (
        ((1, 4), (4, 5), (3, 5)),
        ((3, 4), (4, 1), (3, 5)),
        ((3, 4), (4, 5), (2, 1, 5)),
        ((4,), (4, 5), (2, 5)),
        ((4,), (4,), (7,)),
        ((2, 4), (4,), (3, 2)),
        ((2, 3, 4), (4,), (5, 1, 3)),
    ):
        xs = [(rng.normal(size=s) * (9 if dtype == "int32" else 1)).astype(dtype) for s in (a, b, bias)]
        y = check("matmul", xs, {} if dtype == "int32" else dict(alpha=0.5, act="tanh"))
        check("matmul", [*xs, y])


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_floats(dtype):
    rng = np.random.default_rng(6)
    for attrs in ({}, dict(transpose_a=True), dict(transpose_b=True, alpha=0.5, act="gelu")):
        a, b = operands(rng, 11, 19, 33, (2, 1), (3,), attrs, dtype)
        check("matmul", [a, b], attrs)
        check("matmul", [a, b, normal(rng, 19, dtype), normal(rng, (2, 3, 11, 19), dtype)], attrs)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_wrap(dtype):
    rng = np.random.default_rng(7)
    info = np.iinfo(dtype)

    def ints(shape):
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)

    check("matmul", [ints((2, 5, 9)), ints((9, 7))])
    check("matmul", [ints((5, 9)), ints((7, 9)), ints(7), ints((5, 7))], dict(transpose_b=True))
    check("matmul", [ints((5, 9)), ints((9, 7))], dict(alpha=3.0))


def test_threads_agree():
    rng = np.random.default_rng(8)
    for m, n, k, batch in (
        (200, 300, 70, ()),
        (4, 900, 300, ()),
        (900, 10, 300, ()),
        (30, 40, 50, (7,)),
        (1, 2000, 400, ()),
    ):
        inputs = [*operands(rng, m, n, k, batch, batch), normal(rng, n)]
        one = check("matmul", inputs, dict(act="relu"))
        for threads in (2, 3):
            np.testing.assert_array_equal(one, run_op("matmul", inputs, dict(act="relu"), threads=threads)[0])


@pytest.mark.parametrize("ta", ["int8", "uint8"])
@pytest.mark.parametrize("tb", ["int8", "uint8"])
def test_matmul_integer(ta, tb):
    rng = np.random.default_rng(9)

    def ints(dtype, *shape):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)

    for za in ((), (1,), (5,), (5, 1), (1, 1), (2, 5, 1)):
        for zb in ((), (1,), (7,), (1, 7), (3, 1, 7)):
            a = ints(ta, 2, 5, 9) if len(za) == 3 else ints(ta, 5, 9)
            b = ints(tb, 3, 9, 7) if len(zb) == 3 else ints(tb, 9, 7)
            if len(za) == 3 and len(zb) == 3:
                b, zb = b[:1], (1, 1, 7)
            if len(za) == 1 and za != (1,) and a.ndim > 2:
                continue
            check("matmul_integer", [a, b, ints(ta, *za), ints(tb, *zb)])
    check("matmul_integer", [ints(ta, 4, 700), ints(tb, 700, 33)])
    check("matmul_integer", [ints(ta, 7), ints(tb, 7), ints(ta), None])


def test_errors():
    a, b = np.zeros((3, 4), np.float32), np.zeros((4, 5), np.float32)
    for inputs, attrs in (
        ([a, b[:3]], {}),
        ([a, b], dict(transpose_a=True)),
        ([a, b.astype(np.float64)], {}),
        ([a, b, np.zeros(4, np.float32)], {}),
        ([a, b, None, np.zeros((3, 4), np.float32)], {}),
        ([np.float32(1), b], {}),
        ([a.astype(np.int32), b.astype(np.int32)], dict(act="relu")),
        ([a.astype(bool), b.astype(bool)], {}),
        ([np.zeros((2, 3, 4), np.float32), np.zeros((3, 4, 5), np.float32)], {}),
    ):
        with pytest.raises(DeploykitError):
            run_op("matmul", inputs, attrs)
    with pytest.raises(DeploykitError):
        run_op("matmul_integer", [a, b])
    with pytest.raises(DeploykitError):
        run_op("matmul_integer", [a.astype(np.int8), b.astype(np.int8), np.zeros(4, np.int8)])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8", "uint64"])
def test_einsum(dtype):
    rng = np.random.default_rng(10)
    for equation, *shapes in (
        ("ij,jk->ik", (5, 7), (7, 9)),
        ("ij,jk", (5, 7), (7, 9)),
        ("ij,kj", (5, 7), (9, 7)),
        ("bij,bjk->bik", (3, 5, 7), (3, 7, 9)),
        ("bhid,bhjd->bhij", (2, 3, 5, 8), (2, 3, 6, 8)),
        ("bhij,bhjd->bihd", (2, 3, 5, 6), (2, 3, 6, 8)),
        ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
        ("...ij,...jk", (2, 3, 4), (3, 1, 4, 5)),
        ("i...,i...->...", (4, 3, 2), (4, 3, 2)),
        ("ii->i", (6, 6)),
        ("ii", (6, 6)),
        ("iij->j", (4, 4, 3)),
        ("ij->ji", (4, 6)),
        ("ji", (4, 6)),
        ("ij->", (4, 6)),
        ("i,i->", (9,), (9,)),
        ("i,j->ij", (4,), (6,)),
        (",ij->ij", (), (2, 3)),
        ("ijk,il,kl->jl", (3, 4, 5), (3, 6), (5, 6)),
        ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 5), (5, 6)),
        ("ij,ij,ij->i", (3, 4), (3, 4), (1, 4)),
        (" i j , j k -> i k ", (2, 3), (3, 4)),
        ("ij,jk->ik", (0, 3), (3, 4)),
        ("ij,jk->ik", (2, 0), (0, 4)),
        ("ab,cd->ac", (3, 4), (5, 6)),
    ):
        xs = [(rng.normal(size=s) * (1 if dtype[0] == "f" else 9)).astype(np.float64) for s in shapes]
        xs = [(np.abs(x) if dtype[0] == "u" else x).astype(dtype) for x in xs]
        check("einsum", xs, dict(equation=equation))


def test_einsum_errors():
    a = np.zeros((3, 4), np.float32)
    for equation, xs in (
        ("ij,jk->ik", [a, a]),
        ("ij->ik", [a]),
        ("ij->ii", [a]),
        ("ijk", [a]),
        ("ij,jk", [a]),
        ("ij", [a, a]),
        ("i?", [a]),
        ("ij-ik", [a]),
        ("i..j", [a]),
    ):
        with pytest.raises(DeploykitError):
            run_op("einsum", xs, dict(equation=equation))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_det(dtype):
    rng = np.random.default_rng(11)
    for shape in ((1, 1), (2, 2), (3, 5, 5), (2, 2, 4, 4), (0, 3, 3), (12, 12), (0, 0)):
        check("det", [normal(rng, shape, dtype)])
    check("det", [np.ones((3, 3), dtype)])


@pytest.mark.parametrize(("k", "m", "n"), [(300, 200, 70), (2, 97, 5), (129, 2, 33), (1000, 96, 1)])
def test_weight_gradients(k, m, n):
    """The left side transposed and nothing besides: sums in the order of the terms, whatever the threads."""
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((k, m), (k, n)))
    got = run_op("matmul", [a, b], dict(transpose_a=True))[0]
    want = a.T.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.sqrt(k) * 4)
    for threads in (2, 3):
        assert np.array_equal(run_op("matmul", [a, b], dict(transpose_a=True), threads=threads)[0], got)
