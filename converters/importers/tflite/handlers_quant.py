"""QUANTIZE, DEQUANTIZE, FAKE_QUANT, DENSIFY, CAST: between integers and real numbers; and operators whose integers LiteRT
rounds in a way of their own."""

from __future__ import annotations

import math

import numpy as np

from deploykit.converters.importers.tflite.call import Call, handles, quantized
from deploykit.errors import FormatError
from deploykit.graph import Value


@handles("DEQUANTIZE")
def dequantize(c: Call) -> Value:
    v = c.x()  # an integer with a scale becomes real here; a 16-bit float is widened
    return c.cast(v, "float32")


@handles("QUANTIZE")
def quantize(c: Call) -> Value:
    """Real to integer, or integer with one scale to integer with another."""
    q = c.out_quant()
    if q is None:
        raise c.unsupported("the result has no scale")
    return quantized(c, c.x(), q, c.importer.source.dtype(c.out_tensor()).name)


@handles("CAST")
def cast(c: Call) -> Value:
    """Integers with a scale are cast as the integers that they are."""
    v, dtype = c.raw(), c.importer.source.dtype(c.out_tensor())
    return c.op("cast", v, dtype=dtype.name) if v.dtype is not dtype else c.op("identity", v)


@handles("DENSIFY")
def densify(c: Call) -> Value:
    """Block-sparse weights are spread out when they are read; nothing is left to do."""
    return c.op("identity", c.x())


@handles("FAKE_QUANT")
def fake_quant(c: Call) -> Value:
    """Rounded to the grid of ``num_bits`` between min and max, the grid nudged so that zero is on it."""
    o = c.options("FakeQuantOptions")
    bits = o.num_bits or 8
    if not 2 <= bits <= 16:
        raise FormatError(f"num_bits is {bits}; expected 2 to 16")
    low_q, high_q = (1.0 if o.narrow_range else 0.0), float(2**bits - 1)
    if not o.min < o.max:
        raise c.unsupported(f"a range from {o.min} to {o.max}")
    scale = np.float32((np.float32(o.max) - np.float32(o.min)) / np.float32(high_q - low_q))
    zero = low_q - o.min / float(scale)
    zero = low_q if zero < low_q else high_q if zero > high_q else float(np.floor(zero + 0.5))
    low, high = np.float32((low_q - zero) * scale), np.float32((high_q - zero) * scale)
    x = c.x()
    y = c.op("clip", x, c.const(low), c.const(high))
    steps = c.op("mul", c.op("sub", y, c.const(low)), c.const(np.float32(1) / scale))
    grid = c.op("floor", c.op("add", steps, c.const(np.float32(0.5))))
    return c.op("add", c.op("mul", grid, c.const(scale)), c.const(low))


# ---- roundings of LiteRT's integer kernels
UP = (
    1 + 2.0**-20
)  # a factor that lifts exact halves over the edge: rint then rounds them away from zero, as LiteRT does
_PRODUCT = 64  # factors of a product that are multiplied one by one


def fixed(c: Call, v: Value, factor: float) -> Value:
    """Whole numbers times a factor as gemmlowp has it: rounded after the multiplication by its mantissa, and again after
    the shift (Jacob et al., Quantization and Training of Neural Networks, 2018, section 2.2)."""
    mantissa, exponent = math.frexp(factor)
    if exponent >= 0:
        return c.op("round", c.op("mul", v, c.scalar(factor, v)))
    v = c.op("round", c.op("mul", v, c.scalar(mantissa, v)))
    return c.op("round", c.op("mul", v, c.scalar(2.0**exponent * UP, v)))


def whole_bytes(c: Call, *numbers: int) -> bool:
    """Whether these inputs and the output are int8 with one scale each."""
    found = [(c.importer.source.dtype(c.tensor(i)), c.quant(i)) for i in numbers]
    found.append((c.importer.source.dtype(c.out_tensor()), c.out_quant()))
    return all(t.name == "int8" and q is not None and q.axis is None for t, q in found)


def scale(c: Call, i: int) -> float:
    """Scale of an input."""
    q = c.quant(i)
    assert q is not None
    return float(q.scale)


@handles("SQRT")
def sqrt(c: Call) -> Value:
    """In int8 the fraction is cut off."""
    y = c.op("sqrt", c.x())
    q = c.out_quant()
    if not whole_bytes(c, 0) or q is None:
        return y
    return c.op("mul", c.op("floor", c.op("div", y, c.const(q.scale))), c.const(q.scale))


@handles("SQUARED_DIFFERENCE")
def squared_difference(c: Call) -> Value:
    """In int8 on a grid of 1/64 of the larger scale."""
    if not whole_bytes(c, 0, 1):
        return c.op("squared_difference", c.x(0), c.x(1))
    step = 2 * max(scale(c, 0), scale(c, 1))

    def placed(i: int) -> Value:
        steps = c.op("round", c.op("mul", c.x(i), c.const(np.float32(128 / scale(c, i)))))
        return fixed(c, steps, scale(c, i) / step)

    d = c.op("squared_difference", placed(0), placed(1))
    return c.op("mul", d, c.const(np.float32(step * step / 2**14)))


def product(c: Call, axes: list[int], keep: bool) -> Value | None:
    """REDUCE_PROD in int8: rounded after every factor, by a multiplier of 15 bits; None where it is not known how many."""
    shape, q = c.shape(c.raw(0)), c.out_quant()
    axes = sorted({c.axis(a, len(shape)) for a in axes})
    sizes = [shape[a] for a in axes]
    n = math.prod(sizes) if all(isinstance(s, int) for s in sizes) else 0
    if not whole_bytes(c, 0) or q is None or not 0 < n <= _PRODUCT:
        return None
    kept = [a for a in range(len(shape)) if a not in axes]
    factor = (scale(c, 0) ** n / float(q.scale)) ** (1 / n)
    mantissa, exponent = math.frexp(factor)
    short = min(int(mantissa * 2**31 + 0.5) + 2**15 >> 16, 0x7FFF) * 2.0 ** (exponent - 15)
    x = c.cast(c.op("round", c.op("mul", c.x(0), c.const(np.float32(1 / scale(c, 0))))), "float64")
    x = c.op("transpose", x, perm=(*kept, *axes))
    head = c.dims(x, 0, len(kept))
    x = c.op("reshape", x, c.op("concat", head, c.i64(n), axis=0), allow_zero=True)
    parts = c.op("split", x, c.i64(*[1] * n), axis=-1, outputs=n) if n > 1 else [x]
    y, half = parts[0], c.const(np.float64(0.5))
    for p in parts[1:]:
        y = c.op("floor", c.op("add", c.op("mul", c.op("mul", y, p), c.const(np.float64(short))), half))
    y = c.op("floor", c.op("add", c.op("mul", y, c.const(np.float64(factor))), half))
    y = c.op("squeeze", c.cast(y, "float32"), c.i64(-1))
    y = c.op("mul", y, c.const(q.scale))
    return c.op("unsqueeze", y, c.i64(*axes)) if keep else y
