"""QUANTIZE, DEQUANTIZE, FAKE_QUANT, DENSIFY, CAST: between integers and real numbers."""

from __future__ import annotations

import numpy as np

from deploykit.converters.importers.tflite.call import Call, handles, quantized
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
