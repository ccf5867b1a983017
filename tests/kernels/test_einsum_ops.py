"""The engine's einsum against numpy.einsum, fixed and random equations; det against numpy.linalg."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

rng = np.random.default_rng(29)
SIZE = {c: int(rng.integers(1, 6)) for c in "abcdefghijklmnopqrstuvwxyz"} | {"h": 40, "s": 33, "t": 20}


def data(shape, dtype=np.float32):
    x = rng.integers(-9, 9, shape) if np.dtype(dtype).kind in "iu" else rng.normal(size=shape)
    return x.astype(dtype)


def check(equation, xs, tolerance=1e-5):
    got, want = run_op("einsum", xs, {"equation": equation}), F.einsum(*xs, equation=equation)
    assert got.shape == want.shape and got.dtype == want.dtype
    if want.dtype.kind in "iu":
        return np.testing.assert_array_equal(got, want)
    scale = np.abs(want.astype(np.float64)).max(initial=1)
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=0, atol=tolerance * scale)


EQUATIONS = [
    "ij->ji",
    "ij->i",
    "ij->",
    "ii->i",
    "ii",
    "iij->j",
    "i,i",
    "i,j->ij",
    "ij,jk",
    "ij,jk->ki",
    "bij,bjk->bik",
    "bhid,bhjd->bhij",
    "bshd,bthd->bhst",
    "bhst,bthd->bshd",
    "hst,hdt->hds",
    "ij,ij->ij",
    "ij,j->ij",
    "ij,k->ij",
    "ijk,ilm,njm,nlk,abc->",
    "ab,bc,cd,de->ae",
    "abc,cd,def->abef",
    "h,hs,s->hs",
    "...ij,...jk->...ik",
    "...i->...",
    "i...,...j->j...i",
    "a...b->b...",
    "...,...",
    "bij , bjk -> bik",
    "iji,j->i",
    "sh,ht->st",
    "zyx,xw->zyw",
    "Ab,bC",
]


def operands(equation, dtype):
    xs = []
    lead = rng.integers(1, 4, 2)
    for term in equation.split("->")[0].replace(" ", "").split(","):
        before, dots, after = term.partition("...")
        hidden = [int(v) for v in lead[int(rng.integers(0, 2)) :]] if dots else []
        if hidden and rng.random() < 0.3:
            hidden[0] = 1
        xs.append(data([SIZE[c.lower()] for c in before] + hidden + [SIZE[c.lower()] for c in after], dtype))
    return xs


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equations(equation):
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-13), (np.int32, 0), (np.float16, 1e-2), (np.uint8, 0)):
        check(equation, operands(equation, dtype), tolerance)


def test_random_equations():
    for _ in range(150):
        letters = rng.permutation(list("abcdefg"))[: int(rng.integers(1, 7))].tolist()
        terms = ["".join(rng.choice(letters, int(rng.integers(0, 5)))) for _ in range(int(rng.integers(1, 4)))]
        used = sorted(set("".join(terms)))
        out = "".join(rng.permutation(used)[: int(rng.integers(0, len(used) + 1))].tolist())
        equation = ",".join(terms) + "->" + out
        check(equation, operands(equation, np.float32))


def test_sizes_of_one_broadcast():
    check("ij,ij->ij", [data((3, 1)), data((1, 4))])
    check("ij,jk->ik", [data((3, 1)), data((5, 4))])
    check("...ij,...jk", [data((1, 7, 3, 2)), data((6, 1, 2, 4))])


def test_large_in_parts():
    check("bij,bjk->bik", [data((3, 120, 64)), data((3, 64, 90))])
    check("ij,jk->ik", [data((200, 150)), data((150, 170))])
    check("ij->", [data((1000, 1000))], 1e-6)
    check("i,i->i", [data((100000,)), data((100000,))])


def test_empty():
    check("ij,jk->ik", [data((3, 0)), data((0, 4))])
    check("ij,jk->ik", [data((0, 3)), data((3, 4))])
    check("ij->i", [data((3, 0))])


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk", [(2, 3), (4, 5)]),
        ("ij", [(2, 3, 4)]),
        ("ij,jk", [(2, 3)]),
        ("i$", [(2, 3)]),
        ("ij->k", [(2, 3)]),
        ("ij->ii", [(2, 3)]),
        ("i..j", [(2, 3)]),
        ("ij,", [(2, 3)]),
        ("...i...", [(2, 3)]),
    ],
)
def test_wrong(equation, shapes):
    with pytest.raises(DeploykitError, match="DK-SHAPE"):
        run_op("einsum", [data(s) for s in shapes], {"equation": equation})


def test_det():
    for shape in [(1, 1), (2, 2), (3, 5, 5), (2, 3, 20, 20), (2, 0, 0), (0, 3, 3)]:
        for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
            x = data(shape, dtype)
            want = np.linalg.det(x.astype(np.float64)).astype(dtype)
            got = run_op("det", [x])
            assert got.shape == want.shape and got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    assert run_op("det", [np.zeros((3, 3), np.float32)]) == 0
    assert run_op("det", [np.array([[0, 1], [1, 0]], np.float32)]) == -1
    with pytest.raises(DeploykitError, match="DK-SHAPE"):
        run_op("det", [data((2, 3))])
