"""Random ops: seeded, counter-based (Philox 4x32-10, Salmon et al. 2011), the same numbers on every platform.

The key is ``seed``.  Block b of the k-th run of a node in a session (both from 0) is Philox of the counter (b mod 2^32,
b >> 32, k mod 2^32, k >> 32): four 32-bit words.  Element i takes the words from i * n on, n words per element.  seed 0
draws a key from the OS once per session, and k counts the runs of all such nodes; any other value fixes the numbers.

A word w gives u = (w >> 8) / 2^24; float64 takes two words (high, low) and their upper 53 bits, float16 and bfloat16
the upper 11 and 8 bits of one: always u in [0, 1) without rounding.
"""

from __future__ import annotations

import itertools
import os

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim
from deploykit.ops.core import Spec, op
from deploykit.ops.numerics import float64
from deploykit.ops.rules import (
    error,
    fresh_shape,
    length_of,
    require_index,
    require_kind,
    require_rank,
    show,
    values_of,
)
from deploykit.ops.samples import Draw, Sample, i64

_SESSION = int.from_bytes(os.urandom(8), "little") | 1
_runs = itertools.count()


def philox(key: int, run: int, blocks: int) -> np.ndarray:
    """The first ``blocks`` blocks of a run as uint32 [blocks, 4].

    >>> [hex(w) for w in philox(0, 0, 1)[0]]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    b = np.arange(blocks, dtype=np.uint64)
    c = [b & low, b >> shift, np.full_like(b, run & 0xFFFFFFFF), np.full_like(b, run >> 32)]
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, -1).astype(np.uint32)


def philox_block(key: int, run: int, block: int = 0) -> tuple[int, int, int, int]:
    """One block of a run, in plain integers: a draw's key is needed before each draw.

    >>> [hex(w) for w in philox_block(0, 0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    low = 0xFFFFFFFF
    c0, c1, c2, c3 = block & low, block >> 32 & low, run & low, run >> 32 & low
    k0, k1 = key & low, key >> 32 & low
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & low, (p0 >> 32) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


def _words(seed: int, count: int) -> np.ndarray:
    """``count`` words of the next run of the op now running."""
    from deploykit.ops.reference import current_call

    key, run = (seed, current_call()) if seed else (_SESSION, next(_runs))
    return philox(key & 0xFFFFFFFFFFFFFFFF, run, -(-count // 4)).reshape(-1)[:count]


def _units(words: np.ndarray, bits: int = 24) -> np.ndarray:
    """Numbers in [0, 1) from the upper bits of words (53: of pairs of words), exact in float64."""
    if bits <= 32:
        return (words >> np.uint32(32 - bits)).astype(np.float64) * 2.0**-bits
    pairs = words.reshape(-1, 2).astype(np.uint64)
    return (((pairs[:, 0] << np.uint64(32)) | pairs[:, 1]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def _drawn(shape: Spec, dtype: str) -> Spec:
    if dtype not in _BITS:
        raise error("dtype", dtype, ", ".join(_BITS))
    require_index(shape, "shape")
    require_rank(shape, 1, what="shape")
    dims, count = values_of(shape), length_of(shape)
    if dims is not None and any(isinstance(d, int) and d < 0 for d in dims):
        raise error("shape", show(tuple(dims)), "no negative dims")
    if dims is None:
        return Spec(dtypes.dtype(dtype), None if count is None else fresh_shape(count))
    return Spec(dtypes.dtype(dtype), tuple(dims))


@op(
    260,
    "shape -> y",
    attrs=dict(low=0.0, high=1.0, seed=0, dtype="float32"),
    flags="random",
    not_differentiable="no input gradient",
)
class random_uniform:
    """Uniform numbers in [low, high): low + u * (high - low) in float64, rounded to dtype; low where it gives high."""

    def infer(shape, low, high, seed, dtype):
        return _drawn(shape, dtype)

    def reference(shape, low, high, seed, dtype):
        to = dtypes.dtype(dtype).np
        size = tuple(int(d) for d in shape)
        n = int(np.prod(size, dtype=np.int64))
        bits = _BITS[dtype]
        u = _units(_words(seed, n * (2 if bits == 53 else 1)), bits)
        y = (low + u * (high - low)).astype(to)
        y = np.where(y.astype(np.float64) >= high, np.asarray(low).astype(to), y) if high > low else y
        return y.reshape(size)

    def samples():
        out = [Sample([i64(*s)], {"seed": 7}) for s in ((2, 3), (), (0, 3), (67,), (1, 5, 1))]
        out += [Sample([i64(9)], {"seed": 2**40 + 3, "low": -3.0, "high": 5.5})]
        out += [Sample([np.array([3, 2], np.int32)], {"seed": -1})]
        return out + [Sample([i64(33)], {"seed": 5, "dtype": d, "low": -1.0}) for d in _BITS]


@op(
    261,
    "shape -> y",
    attrs=dict(mean=0.0, scale=1.0, seed=0, dtype="float32"),
    flags="random",
    tolerance="loose",
    not_differentiable="no input gradient",
)
class random_normal:
    """Normal numbers (Box and Muller, 1958): words (a, b) of a block give elements r cos(t) and r sin(t), where
    r = sqrt(-2 ln(((a >> 8) + 1) / 2^24)), t = 2 pi (b >> 8) / 2^24; times scale plus mean, for every dtype alike."""

    def infer(shape, mean, scale, seed, dtype):
        return _drawn(shape, dtype)

    def reference(shape, mean, scale, seed, dtype):
        size = tuple(int(d) for d in shape)
        n = int(np.prod(size, dtype=np.int64))
        u = _units(_words(seed, n + n % 2)).reshape(-1, 2)
        r, t = np.sqrt(-2 * np.log(u[:, 0] + 2.0**-24)), 2 * np.pi * u[:, 1]
        z = np.stack([r * np.cos(t), r * np.sin(t)], -1).reshape(-1)[:n]
        return (mean + z * scale).astype(dtypes.dtype(dtype).np).reshape(size)

    def samples():
        out = [Sample([i64(*s)], {"seed": 7}) for s in ((2, 3), (), (0, 3), (67,), (1, 5, 1))]
        out += [Sample([i64(9)], {"seed": 2**40 + 3, "mean": -3.0, "scale": 0.25})]
        return out + [Sample([i64(33)], {"seed": 5, "dtype": d}) for d in _BITS]


@op(
    262,
    "p -> y",
    attrs=dict(seed=0, dtype=""),
    flags="random",
    tolerance="exact",
    not_differentiable="discrete result",
)
class bernoulli:
    "1 where u < p (u of 24 bits, compared in float64), else 0; dtype by name, '' means p's."

    def infer(p, seed, dtype):
        require_kind(p, "f", "p")
        return Spec(dtypes.dtype(dtype) if dtype else p.dtype, p.shape)

    def reference(p, seed, dtype):
        hit = _units(_words(seed, p.size)).reshape(p.shape) < float64(p)
        return hit.astype(np.int8).astype(dtypes.dtype(dtype).np if dtype else p.dtype)

    def samples():
        r = Draw("bernoulli")
        out = [Sample([r(s, low=0, high=1)], {"seed": 3}) for s in ((2, 3), (), (0, 3), (67,))]
        out += [Sample([np.array([0, 1, 0.5, np.nan], np.float32)], {"seed": 4})]
        out += [Sample([r((9,), d, 0, 1)], {"seed": 5}) for d in ("float64", "float16")]
        return out + [Sample([r((9,), low=0, high=1)], {"seed": 6, "dtype": d}) for d in ("bool", "int32", "float64")]


@op(
    263,
    "logits -> y",
    attrs=dict(samples=1, seed=0, dtype="int32"),
    flags="random",
    tolerance="exact",
    not_differentiable="discrete result",
)
class multinomial:
    """Sample indices [B, samples] from unnormalised log probabilities [B, K], in float64: sample j of row b is the
    number of classes whose running sum of exp(logit - max) is <= u * total, with u from word b * samples + j."""

    def infer(logits, samples, seed, dtype):
        require_kind(logits, "f", "logits")
        require_rank(logits, 2, what="logits")
        if dtype not in ("int32", "int64"):
            raise error("dtype", dtype, "int32 or int64")
        if logits.shape is not None and logits.shape[1] == 0:
            raise error("logits have no classes to choose from", show(logits.shape))
        if samples < 1:
            raise error("samples", samples, "1 or more")
        rows = Dim.fresh() if logits.shape is None else logits.shape[0]
        return Spec(dtypes.dtype(dtype), (rows, samples))

    def reference(logits, samples, seed, dtype):
        x = float64(logits)
        u = _units(_words(seed, len(x) * samples)).reshape(len(x), samples)
        sums = np.cumsum(np.exp(x - x.max(-1, keepdims=True)), -1)
        y = [np.searchsorted(row, t * row[-1], side="right") for row, t in zip(sums, u, strict=True)]
        return np.array(y, dtype=dtype).reshape(len(x), samples)

    def samples():
        r = Draw("multinomial")
        out = [Sample([r((2, 5))], {"seed": 3, "samples": n}) for n in (1, 7, 40)]
        sure = np.array([[-np.inf, 0.0, -np.inf]], np.float32)
        out += [Sample([sure], {"seed": 9, "samples": 5}), Sample([r((0, 3))], {"seed": 2})]
        return out + [
            Sample([r((3, 4), d)], {"seed": 4, "samples": 3, "dtype": "int64"}) for d in ("float64", "float16")
        ]


@op(
    400,
    "seed, shape -> y",
    attrs=dict(dtype="float32"),
    tolerance="exact",
    not_differentiable="no input gradient",
)
class keyed_uniform:
    """Numbers in [0, 1) that two uint32 words fix: the first run of the key ``seed[0] + 2^32 * seed[1]``, without a
    session's counter.  For generators whose state is a tensor (Keras' SeedGenerator)."""

    def infer(seed, shape, dtype):
        if seed.dtype is not dtypes.uint32:
            raise error("dtype of seed", seed.dtype, "uint32")
        require_rank(seed, 1, what="seed")
        if seed.shape is not None and isinstance(seed.shape[0], int) and seed.shape[0] != 2:
            raise error("length of seed", seed.shape[0], 2)
        return _drawn(shape, dtype)

    def reference(seed, shape, dtype):
        size = tuple(int(d) for d in shape)
        n, bits = int(np.prod(size, dtype=np.int64)), _BITS[dtype]
        count = n * (2 if bits == 53 else 1)
        words = philox(int(seed[0]) | int(seed[1]) << 32, 0, -(-count // 4)).reshape(-1)[:count]
        return _units(words, bits).astype(dtypes.dtype(dtype).np).reshape(size)

    def samples():
        key = np.array([7, 0], np.uint32)
        out = [Sample([key, i64(*s)]) for s in ((2, 3), (), (0, 3), (67,), (1, 5, 1))]
        big = np.array([2**32 - 1, 3], np.uint32)
        return out + [Sample([big, i64(33)], {"dtype": d}) for d in _BITS]
