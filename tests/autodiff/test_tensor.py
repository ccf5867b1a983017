"""Tensors against NumPy: operators, indexing, functions, dtype promotion; the same eager and traced."""

import numpy as np
import pytest

import deploykit as dk
from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.autodiff.promote import promote
from deploykit.errors import DeploykitError

A = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
B = np.random.default_rng(1).uniform(0.5, 2, (4, 5)).astype(np.float32)

KEYS = [
    0, -1, (1, 2), (slice(1, 3),), (slice(None), 2), (Ellipsis, 1), (None, slice(0, 2)), (slice(None, None, -1),),
    (slice(None), slice(3, 0, -2)), (0, slice(None), None, -1), (slice(None), [0, 3, 1]), ([2, 0], slice(1, 3)),
    ([0, 2], [1, 3]), ([0, 2], [1, 3], 2), (slice(1, 2), slice(None), np.array([[0, 1], [2, 2]])), Ellipsis,
    (slice(-2, None), Ellipsis, slice(0, -1)),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(key) -> None:
    want = A[key]
    np.testing.assert_array_equal(dk.convert_to_tensor(A)[key].numpy(), want)
    np.testing.assert_array_equal(dk.function(lambda x: x[key])(A).numpy(), want)


def test_bool_masks_outside_traces() -> None:
    t = dk.convert_to_tensor(A)
    np.testing.assert_array_equal(t[A > 0].numpy(), A[A > 0])
    np.testing.assert_array_equal(t[[True, False, True]].numpy(), A[[True, False, True]])
    with pytest.raises(DeploykitError, match="DK-TRACE"):
        dk.function(lambda x: x[x > 0])(A)


FUNCTIONS = {
    "arithmetic": (lambda x, y: (x + y) * 2 - x / y, lambda a, b: (a + b) * 2 - a / b),
    "reflected": (lambda x, y: 1 - (2 / y) ** 2, lambda a, b: 1 - (2 / b) ** 2),
    "floor": (lambda x, y: x // y + x % y, lambda a, b: a // b + a % b),
    "compare": (lambda x, y: (x > y) & ~(x < 0.5) | (y == y), lambda a, b: (a > b) & ~(a < 0.5) | (b == b)),
    "matmul": (lambda x, y: x @ N.transpose(y), lambda a, b: a @ b.T),
    "reductions": (
        lambda x, y: N.sum(x, 1) + N.mean(x, (0, 1)) - N.max(x, 0, keepdims=True)[0, :1] * N.var(y),
        lambda a, b: a.sum(1) + a.mean((0, 1)) - a.max(0, keepdims=True)[0, :1] * b.var(),
    ),
    "stack": (lambda x, y: N.stack([y, y * 2], 1), lambda a, b: np.stack([b, b * 2], 1)),
    "concatenate": (lambda x, y: N.concatenate([x, y[None]], 0), lambda a, b: np.concatenate([a, b[None]], 0)),
    "split": (lambda x, y: N.split(x, [1, 3], 1)[1], lambda a, b: np.split(a, [1, 3], 1)[1]),
    "where": (lambda x, y: N.where(x > 0, x, 0), lambda a, b: np.where(a > 0, a, 0)),
    "tensordot": (lambda x, y: N.tensordot(x, y, ([1, 2], [0, 1])), lambda a, b: np.tensordot(a, b, ([1, 2], [0, 1]))),
    "moveaxis": (lambda x, y: N.moveaxis(x, 0, -1), lambda a, b: np.moveaxis(a, 0, -1)),
    "pad": (lambda x, y: N.pad(y, ((1, 0), (2, 3))), lambda a, b: np.pad(b, ((1, 0), (2, 3)))),
    "tile": (lambda x, y: N.tile(y, (2, 1)), lambda a, b: np.tile(b, (2, 1))),
    "repeat": (lambda x, y: N.repeat(y, 2, 1), lambda a, b: np.repeat(b, 2, 1)),
    "roll": (lambda x, y: N.roll(y, 2, 0), lambda a, b: np.roll(b, 2, 0)),
    "sort": (lambda x, y: N.sort(x, 1), lambda a, b: np.sort(a, 1)),
    "argmax": (lambda x, y: N.argmax(x, 2), lambda a, b: a.argmax(2)),
    "take": (lambda x, y: N.take(x, [1, -1], 1), lambda a, b: np.take(a, [1, -1], 1)),
    "clip": (lambda x, y: N.clip(x, -0.5, 0.5), lambda a, b: np.clip(a, -0.5, 0.5)),
    "einsum": (lambda x, y: N.einsum("abc,bc->a", x, y), lambda a, b: np.einsum("abc,bc->a", a, b)),
    "any": (lambda x, y: N.any(x > 1, 2), lambda a, b: (a > 1).any(2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    want = theirs(A, B)
    for f in (lambda x, y: ours(dk.convert_to_tensor(x), dk.convert_to_tensor(y)), dk.function(ours)):
        got = f(A, B).numpy()
        assert got.shape == want.shape and got.dtype.kind == want.dtype.kind
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_one_hot_outside_is_zero() -> None:
    got = N.one_hot(np.array([0, 2, -1, 3]), 3).numpy()
    np.testing.assert_array_equal(got, np.eye(4, 3)[[0, 2, 3, 3]])


def test_promotion() -> None:
    import itertools

    for a, b in itertools.product(dtypes.ALL[:13], repeat=2):
        assert promote(a, b) is promote(b, a)
    assert promote(dtypes.int64, dtypes.float16) is dtypes.float16
    assert promote(dtypes.uint8, dtypes.int8) is dtypes.int16
    assert promote(dtypes.uint32, dtypes.int32) is dtypes.int64
    assert promote(dtypes.float16, dtypes.bfloat16) is dtypes.float32
    assert promote(dtypes.bool_, dtypes.uint8) is dtypes.uint8
    half = dk.convert_to_tensor(np.float16([1]))
    assert (half * 2.5).dtype == np.float16 and (dk.convert_to_tensor([1]) * 2.5).dtype == np.float32
    assert (dk.convert_to_tensor([1]) / 2).dtype == np.float32


def test_traced_tensors_have_no_numbers() -> None:
    for ask in (bool, float, lambda x: x.numpy(), np.asarray, lambda x: [0][x]):
        with pytest.raises(DeploykitError, match="DK-TRACE.*dk.cond"):
            dk.function(ask)(np.float32(1))


def test_variables() -> None:
    v = dk.Variable([1.0, 2.0], name="w")
    before = v.value
    v.assign_add([1, 1])
    v[0] + 1
    np.testing.assert_array_equal(before.numpy(), [1, 2])  # a value read stays what it was
    np.testing.assert_array_equal(v.numpy(), [2, 3])
    assert v.buffer.ctypes.data % 64 == 0
    with pytest.raises(DeploykitError, match=r"variable 'w': assign; got shape \(3,\), expected \(2,\)"):
        v.assign([1, 2, 3])
