"""Bits: other readings of the same bytes, hashes of them, and generators of random ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, handles
from deploykit.dtypes import DType, dtype
from deploykit.errors import FormatError
from deploykit.graph import Value


def unsigned(c: Call, x: Value) -> Value:
    """The bits of x as an unsigned integer."""
    assert x.dtype is not None
    if x.dtype.name == "bool":
        return c.cast(x, "uint8")
    name = f"uint{x.dtype.bits}"
    return x if x.dtype.name == name else c.op("bitcast", x, dtype=name)


def parts(c: Call, x: Value, bits: int) -> Value:
    """Unsigned [...] in pieces of so many bits [..., n], the lowest first, as they lie in memory."""
    assert x.dtype is not None
    n = x.dtype.bits // bits
    if n == 1:
        return c.op("unsqueeze", x, c.i64(-1))
    by = c.const((np.arange(n) * bits).astype(x.dtype.np))
    return c.cast(c.op("shift_right", c.op("unsqueeze", x, c.i64(-1)), by), f"uint{bits}")


def joined(c: Call, x: Value, bits: int) -> Value:
    """Unsigned pieces [..., n] as one number of so many bits [...]."""
    assert x.dtype is not None
    to = dtype(f"uint{bits}")
    by = c.const((np.arange(bits // x.dtype.bits) * x.dtype.bits).astype(to.np))
    return c.op("reduce_sum", c.op("shift_left", c.cast(x, to), by), c.i64(-1), keepdims=False)


@handles("BITCAST")
def bitcast(c: Call) -> Value:
    """Wider elements take up the last dim, narrower ones add one."""
    to: DType = c.importer.source.dtype(c.out_tensor())
    x = c.raw(0)
    assert x.dtype is not None
    if to.bits == x.dtype.bits:
        return c.op("bitcast", x, dtype=to.name)
    if "bool" in (to.name, x.dtype.name) or min(to.bits, x.dtype.bits) < 8:
        raise c.unsupported(f"{x.dtype} read as {to}, which has another width")
    x = unsigned(c, x)
    if to.bits < x.dtype.bits:  # type: ignore[union-attr]
        y = parts(c, x, to.bits)
    else:
        if c.rank(x) < 1 or c.shape(x)[-1] != to.bits // x.dtype.bits:  # type: ignore[union-attr]
            raise FormatError(f"the last dim of {c.shape(x)} does not hold one {to}")
        y = joined(c, x, to.bits)
    return y if to.kind == "u" else c.op("bitcast", y, dtype=to.name)


class Word:
    """An expression of unsigned integers that wrap."""

    def __init__(self, c: Call, v: Any, bits: int = 64) -> None:
        self.c, self.bits = c, bits
        self.v = v if isinstance(v, Value) else c.const(np.array(v).astype(np.uint64).astype(f"u{bits // 8}"))

    def _with(self, op: str, other: Any) -> Word:
        o = other.v if isinstance(other, Word) else Word(self.c, other % 2**self.bits, self.bits).v
        return Word(self.c, self.c.op(op, self.v, o), self.bits)

    def __add__(self, other: Any) -> Word:
        return self._with("add", other)

    def __mul__(self, other: Any) -> Word:
        return self._with("mul", other)

    def __xor__(self, other: Any) -> Word:
        return self._with("bitwise_xor", other)

    def __lshift__(self, by: int) -> Word:
        return self._with("shift_left", by)

    def __rshift__(self, by: int) -> Word:
        return self._with("shift_right", by)

    def right(self, by: int) -> Word:
        """Rotated."""
        return self._with("shift_right", by)._with("bitwise_or", self << (self.bits - by))


# ---- FarmHash: Fingerprint64 (google/farmhash, farmhashna), over the bytes of the last axis
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def fingerprint(c: Call, x: Value) -> Value:
    """uint8 [..., n] to uint64 [...]; n is 4 or more."""
    n = c.shape(x)[-1]
    if not isinstance(n, int):
        raise c.unsupported("a hash of a number of bytes that is not known")

    def fetch(at: int, size: int = 8) -> Word:
        part = c.op("slice", x, c.i64(at), c.i64(at + size), c.i64(-1))
        return Word(c, c.cast(joined(c, part, 8 * size), "uint64"))

    def mix(v: Word) -> Word:
        return v ^ (v >> 47)

    def pair(u: Word, v: Word, by: Any) -> Word:
        a = mix((u ^ v) * by)
        return mix((a ^ v) * by) * by

    def weak(at: int, a: Word, b: Word) -> tuple[Word, Word]:
        w, x, y, z = (fetch(at + 8 * i) for i in range(4))
        a = a + w
        b = (b + a + z).right(21)
        d = a + x + y
        return d + z, b + d.right(44) + a

    by = _K2 + 2 * n
    if n < 8:
        return pair((fetch(0, 4) << 3) + n, fetch(n - 4, 4), by).v
    if n <= 16:
        a, b = fetch(0) + _K2, fetch(n - 8)
        return pair(b.right(37) * by + a, (a.right(25) + b) * by, by).v
    if n <= 64:
        a, b, d, e = fetch(0) * (_K1 if n <= 32 else _K2), fetch(8), fetch(n - 8) * by, fetch(n - 16) * _K2
        y = (a + b).right(43) + d.right(30) + e
        z = a + (b + _K2).right(18) + d
        if n <= 32:
            return pair(y, z, by).v
        z = pair(y, z, by)
        e, f = fetch(16) * by, fetch(24)
        g, h = (y + fetch(n - 32)) * by, (z + fetch(n - 24)) * by
        return pair((e + f).right(43) + g.right(30) + h, e + (f + a).right(18) + g, by).v
    zero = Word(c, 0)
    x_, y = fetch(0) + 81 * _K2, Word(c, (81 * _K1 + 113) % 2**64)
    z, v, w = mix(y * _K2 + 113) * _K2, (zero, zero), (zero, zero)
    for at in [*range(0, (n - 1) // 64 * 64, 64), -1]:
        end = at < 0
        k: Any = (z ^ (z >> 8 << 8)) * 2 + _K1 if end else _K1
        if end:
            at = n - 64
            w0 = w[0] + (n - 1) % 64
            v = v[0] + w0, v[1]
            w = w0 + v[0], w[1]
        x_ = (x_ + y + v[0] + fetch(at + 8)).right(37) * k
        y = (y + v[1] + fetch(at + 48)).right(42) * k
        x_ = x_ ^ (w[1] * 9 if end else w[1])
        y = y + (v[0] * 9 if end else v[0]) + fetch(at + 40)
        z = (z + w[0]).right(33) * k
        v = weak(at, v[1] * k, x_ + w[0])
        w = weak(at + 32, z + w[1], y + fetch(at + 16))
        z, x_ = x_, z
    return pair(pair(v[0], w[0], k) + mix(y) * _K0 + z, pair(v[1], w[1], k) + x_, k).v


@handles("LSH_PROJECTION")
def lsh_projection(c: Call) -> Value:
    """Signs of sums of hashes of the rows, each behind a seed (locality-sensitive hashing: Charikar, STOC 2002)."""
    kind = int(c.options("LSHProjectionOptions").type)
    if kind not in (1, 2):
        raise FormatError(f"projection of kind {kind}")
    seeds, x = c.static(0, "the seeds").astype(np.float32), c.raw(1)
    if c.rank(x) < 1 or seeds.ndim != 2 or seeds.shape[1] > 32:
        raise FormatError(f"seeds {list(seeds.shape)} for rows of {c.rank(x)} dims")
    rows = parts(c, unsigned(c, x), 8)
    rows = c.op("reshape", rows, c.op("concat", c.dims(x, 0, 1), c.i64(_row_bytes(c, x)), axis=0))
    heads = seeds.reshape(-1, 1, 1).view(np.uint8)  # [seeds, 1, 4]
    none = c.op("slice", rows, c.i64(0), c.i64(0), c.i64(1))
    head = c.op("add", c.op("pad", none, c.i64(0, 0, 0, 4), c.scalar(0, rows)), c.const(heads))  # [seeds, rows, 4]
    body = c.op("add", rows, c.const(np.zeros((len(heads), 1, 1), np.uint8)))
    hashed = fingerprint(c, c.op("concat", head, body, axis=-1))  # [seeds, rows]
    value = c.cast(c.op("bitcast", hashed, dtype="int64"), "float64")
    weight = c.opt(2)
    if weight is not None:
        value = c.op("mul", value, c.cast(weight, "float64"))
    bit = c.op("greater", c.op("reduce_sum", value, c.i64(-1), keepdims=False), c.const(np.float64(0)))
    bit = c.cast(bit, "int32")
    if kind == 2:
        return bit
    count, bits = seeds.shape
    bit = c.op("shift_left", c.reshape(bit, count, bits), c.const(np.arange(bits, dtype=np.int32)[::-1].copy()))
    y = c.op("reduce_sum", bit, c.i64(-1), keepdims=False)
    return c.op("add", y, c.const((np.arange(count, dtype=np.int64) << bits).astype(np.int32)))


def _row_bytes(c: Call, x: Value) -> int:
    shape = c.shape(x)[1:]
    if not all(isinstance(d, int) for d in shape):
        raise c.unsupported("rows of a size that is not known")
    assert x.dtype is not None
    return int(np.prod(shape, dtype=np.int64)) * max(x.dtype.bits // 8, 1)


# ---- counter-based generators: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011)
def _philox(c: Call, key: list[Word], ctr: list[Word]) -> list[Word]:
    for i in range(10):
        p, q = (Word(c, c.cast(x.v, "uint64")) * by for x, by in ((ctr[0], 0xD2511F53), (ctr[2], 0xCD9E8D57)))
        high, low = ([Word(c, c.cast(v.v, "uint32"), 32) for v in (a, b)] for a, b in ((p >> 32, q >> 32), (p, q)))
        a, b = key[0] + i * 0x9E3779B9, key[1] + i * 0xBB67AE85
        ctr = [high[1] ^ ctr[1] ^ a, low[1], high[0] ^ ctr[3] ^ b, low[0]]
    return ctr


def _threefry(c: Call, key: list[Word], ctr: list[Word]) -> list[Word]:
    key = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = ctr[0] + key[0], ctr[1] + key[1]
    for i in range(5):
        for by in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x = x + y
            y = y.right(32 - by) ^ x
        x, y = x + key[(i + 1) % 3], y + key[(i + 2) % 3] + (i + 1)
    return [x, y]


@handles("STABLEHLO_RNG_BIT_GENERATOR")
def rng_bit_generator(c: Call) -> list[Value]:
    """The next state, and bits: of Philox4x32-10 or Threefry2x32-20, whose counter is the state's second number."""
    kind, t = int(c.options("StablehloRngBitGeneratorOptions").algorithm), c.out_tensor(1)
    to, state = c.importer.source.dtype(t), c.raw(0)
    size = c.shape(state)
    if kind not in (0, 1, 2) or size not in ((2,), *([] if kind == 2 else [(3,)])) or to.bits not in (32, 64):
        raise FormatError(f"generator {kind} with a state of {list(size)} and results of {to}")
    shape = [int(d) for d in (t.shape if t.shape is not None else ())]
    per, needed = (2 if kind == 2 else 4), int(np.prod(shape, dtype=np.int64)) * to.bits // 32
    blocks = -(-needed // per)
    words = c.op("reshape", parts(c, state, 32), c.i64(-1))

    def word(i: int) -> Word:
        return Word(c, c.op("slice", words, c.i64(i), c.i64(i + 1), c.i64(0)), 32)

    def halves(v: Word) -> list[Word]:
        return [Word(c, c.cast(h.v, "uint32"), 32) for h in (v, v >> 32)]

    def whole(i: int) -> Word:
        return Word(c, c.op("slice", state, c.i64(i), c.i64(i + 1), c.i64(0)))

    counter = Word(c, c.op("add", whole(1).v, c.const(np.arange(blocks, dtype=np.uint64))))
    key = [word(0), word(1)]
    if kind == 2:
        made = _threefry(c, key, halves(counter))
    else:
        made = _philox(c, key, [*halves(counter), *([word(4), word(5)] if size == (3,) else key)])
    y = c.op("concat", *(c.op("unsqueeze", v.v, c.i64(-1)) for v in made), axis=-1)
    y = c.op("slice", c.op("reshape", y, c.i64(-1)), c.i64(0), c.i64(needed), c.i64(0))
    if to.bits == 64:
        y = joined(c, c.op("reshape", y, c.i64(-1, 2)), 64)
    y = y if to.kind == "u" else c.op("bitcast", y, dtype=to.name)
    rest = [c.op("slice", state, c.i64(2), c.i64(3), c.i64(0))] if size == (3,) else []
    after = c.op("concat", whole(0).v, (whole(1) + blocks).v, *rest, axis=0)
    return [after, c.reshape(y, *shape)]
