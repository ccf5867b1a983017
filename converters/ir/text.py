"""Tensors of strings while importing: code points with one more dim, rows filled up with zeros (see :mod:`deploykit.strings`);
and lookups by key, of strings or of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.ir.build import Emitter, Text
from deploykit.dtypes import int32, uint8
from deploykit.graph import Value
from deploykit.strings import encode

__all__ = ["Text", "all_of", "any_of", "concat", "equal", "find", "length", "padded", "to_left", "words"]

_FEW = 64  # so many keys are compared one by one; more are found by a hash


def words(e: Emitter, text: Any) -> Value:
    """Constant strings as code points."""
    return e.const(encode(text))


def length(e: Emitter, x: Value) -> Value:
    """How many letters the rows have room for, int64 [1]."""
    rank = e.rank(x)
    return e.dims(x, rank - 1, rank)


def padded(e: Emitter, x: Value, by: Value) -> Value:
    """``by`` more zeros at the end of every string."""
    pads = e.op("concat", e.i64(*[0] * (2 * e.rank(x) - 1)), by, axis=0)
    return e.op("pad", x, pads, e.scalar(0, int32))


def all_of(e: Emitter, x: Value) -> Value:
    """Whether all along the last axis are true."""
    return e.op("reduce_min", x, e.i64(-1), keepdims=False)


def any_of(e: Emitter, x: Value, keep: bool = False) -> Value:
    """Whether one along the last axis is true."""
    return e.op("reduce_max", x, e.i64(-1), keepdims=keep)


def equal(e: Emitter, a: Value, b: Value) -> Value:
    """Whether strings are equal, element by element."""
    a, b = padded(e, a, length(e, b)), padded(e, b, length(e, a))
    return all_of(e, e.op("equal", a, b))


def concat(e: Emitter, first: Value, second: Value) -> Value:
    """Strings joined, element by element: the second begins where the first one's zeros do."""
    zero = e.scalar(0, int32)

    def nothing(x: Value) -> Value:  # a zero per string: brings the other into the common shape
        return e.op("mul", e.op("reduce_sum", x, e.i64(-1), keepdims=True), zero)

    a, b = e.op("add", first, nothing(second)), e.op("add", second, nothing(first))
    both = e.op("concat", a, b, nothing(a), axis=-1)
    la, lb = length(e, a), length(e, b)
    total = e.op("add", la, lb)
    used = e.cast(e.op("not_equal", a, zero), "int64")
    used = e.op("reduce_sum", used, e.i64(-1), keepdims=True)
    at = e.op("range", e.const(np.int64(0)), e.op("reshape", total, e.i64()), e.const(np.int64(1)))
    later = e.op("minimum", e.op("add", e.op("sub", at, used), la), total)
    at = e.op("where", e.op("less", at, used), at, later)
    return e.op("gather_elements", both, at, axis=-1)


def to_left(e: Emitter, x: Value, first: Value) -> Value:
    """Rows moved so that they begin at ``first`` (int64, one for each row, dim 1 kept)."""
    size = e.op("reshape", length(e, x), e.i64())
    nil, step = e.const(np.int64(0)), e.const(np.int64(1))
    at = e.op("minimum", e.op("add", first, e.op("range", nil, size, step)), e.op("sub", size, step))
    return e.op("gather_elements", x, at, axis=-1)


# ---- lookups
def find(e: Emitter, x: Value, keys: np.ndarray) -> tuple[Value, Value]:
    """The place of each element of x among the keys (the first of equal ones; 0 where it is none), and whether it is one.

    x: strings as code points where the keys are such (dtype object), else numbers.
    """
    text = keys.dtype.kind in "OU"
    if len(keys) <= _FEW or not (text or keys.dtype.kind in "iu"):
        at = e.i64(-2 if text else -1)
        x = e.op("unsqueeze", x, at)
        hit = equal(e, x, words(e, keys)) if text else e.op("equal", x, e.const(keys.astype(x.dtype.np)))  # type: ignore[union-attr]
        if keys.dtype.kind == "f" and np.isnan(keys).any():
            nan = e.op("logical_and", e.op("is_nan", x), e.const(np.isnan(keys)))
            hit = e.op("logical_or", hit, nan)
        return e.op("arg_max", e.cast(hit, uint8), axis=-1, keepdims=False), any_of(e, hit)
    codes = encode(keys) if text else keys.astype(np.int64)[:, None]
    if text:  # one letter more than the longest key has: what is longer still differs in it
        codes = np.pad(codes, ((0, 0), (0, 1)))
        x = padded(e, x, e.i64(codes.shape[1]))
        x = e.op("slice", x, e.i64(0), e.i64(codes.shape[1]), e.i64(-1))
    else:
        x = e.op("unsqueeze", e.cast(x, "int64"), e.i64(-1))
    factors = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, codes.shape[1]) | 1
    buckets, shift = _buckets(codes, factors)
    h = e.op("reduce_sum", e.op("mul", e.cast(x, "int64"), e.const(factors)), e.i64(-1), keepdims=False)
    h = e.cast(e.op("shift_right", e.cast(h, "uint64"), e.const(np.uint64(shift))), "int64")
    maybe = e.op("gather", e.const(buckets), h, axis=0)  # [..., keys of a bucket]
    theirs = e.op("gather", e.const(codes.astype(x.dtype.np)), maybe, axis=0)  # type: ignore[union-attr]
    hit = all_of(e, e.op("equal", e.op("unsqueeze", x, e.i64(-2)), theirs))
    which = e.op("arg_max", e.cast(hit, uint8), axis=-1, keepdims=True)
    place = e.op("squeeze", e.op("gather_elements", maybe, which, axis=-1), e.i64(-1))
    return place, any_of(e, hit)


def _buckets(codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, int]:
    """Keys by the upper bits of their hash (multiplicative: Knuth, The Art of Computer Programming, 6.4): numbers of keys
    [buckets, most in one], filled up with the bucket's last, and how far to shift."""
    with np.errstate(over="ignore"):
        h = (codes.astype(np.int64) * factors).sum(-1).view(np.uint64)
    bits = max(1, (2 * len(codes) - 1).bit_length())
    bucket = (h >> np.uint64(64 - bits)).astype(np.int64)
    order = np.argsort(bucket, kind="stable")
    count = np.bincount(bucket, minlength=1 << bits)
    start = np.cumsum(count) - count
    column = np.minimum(np.arange(max(count.max(), 1)), np.maximum(count[:, None] - 1, 0))
    return order[np.minimum(start[:, None] + column, len(order) - 1)].astype(np.int64), 64 - bits
