"""LSTM, GRU, RNN, signal ops, quantization."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.converters.importers.onnx.handlers_nn import filters, geometry, scalar_if_one, spatial_rank
from deploykit.converters.importers.onnx.reader import dtype_of
from deploykit.dtypes import float32
from deploykit.graph import Value


# ---- recurrent
def recurrent_attrs(c: Call) -> dict[str, Any]:
    """Attributes common to the three, in our form."""
    out: dict[str, Any] = dict(direction=c.attr("direction", "forward"), batch_first=bool(c.attr("layout", 0)))
    out["activations"] = ",".join(c.attr("activations", ()))
    for name in ("activation_alpha", "activation_beta"):
        out[name] = tuple(c.attr(name, ()))
    out["clip"] = c.attr("clip", 0.0)
    return out


@handles("LSTM", since=7)
def lstm(c: Call) -> Any:
    ins = [c.opt(i) for i in range(8)]
    attrs = recurrent_attrs(c)
    return c.op("lstm", *ins, outputs=len(c.outputs), input_forget=bool(c.attr("input_forget", 0)), **attrs)


@handles("GRU", since=7)
def gru(c: Call) -> Any:
    ins = [c.opt(i) for i in range(6)]
    reset = bool(c.attr("linear_before_reset", 0))
    return c.op("gru", *ins, outputs=len(c.outputs), linear_before_reset=reset, **recurrent_attrs(c))


@handles("RNN", since=7)
def rnn(c: Call) -> Any:
    ins = [c.opt(i) for i in range(6)]
    return c.op("rnn", *ins, outputs=len(c.outputs), **recurrent_attrs(c))


# ---- signal
@handles("DFT")
def dft(c: Call) -> Value:
    axis = c.const(np.int64(c.attr("axis", 1))) if c.since < 20 else c.opt(2)
    flags = dict(inverse=bool(c.attr("inverse", 0)), onesided=bool(c.attr("onesided", 0)))
    return c.op("dft", c.x(), c.opt(1), axis, **flags)


@handles("MelWeightMatrix")
def mel_weight_matrix(c: Call) -> Value:
    return c.op("mel_weights", *c.xs(), dtype=dtype_of(c.attr("output_datatype", 1), "the result").name)


# ---- quantization
@handles("QuantizeLinear")
def quantize_linear(c: Call) -> Value:
    x, scale, zero = c.x(0), c.x(1), c.opt(2)
    if zero is not None and zero.dtype is not None:
        dtype = zero.dtype.name
    else:
        dtype = dtype_of(c.attr("output_dtype", 0) or 2, "the result").name
    attrs = dict(axis=c.attr("axis", 1), block_size=c.attr("block_size", 0), saturate=bool(c.attr("saturate", 1)))
    if not attrs["block_size"]:
        scale, zero = scalar_if_one(c, scale), scalar_if_one(c, zero)
    return c.op("quantize", x, scale, zero, dtype=dtype, **attrs)


@handles("DequantizeLinear")
def dequantize_linear(c: Call) -> Value:
    x, scale, zero = c.x(0), c.x(1), c.opt(2)
    dtype = dtype_of(c.attr("output_dtype"), "the result").name if c.attr("output_dtype", 0) else ""
    attrs = dict(axis=c.attr("axis", 1), block_size=c.attr("block_size", 0))
    if not attrs["block_size"]:
        scale, zero = scalar_if_one(c, scale), scalar_if_one(c, zero)
    return c.op("dequantize", x, scale, zero, dtype=dtype, **attrs)


def requantize(c: Call, acc: Value, scale: Value, y_scale: Value, y_zero: Value) -> Value:
    """int32 sums of products, worth ``scale`` each, as y_scale * (q - y_zero)."""
    real = c.op("mul", c.cast(acc, float32), c.cast(scale, float32))
    y_scale = c.op("reshape", y_scale, c.i64()) if y_scale.shape == (1,) else y_scale
    y_zero = c.op("reshape", y_zero, c.i64()) if y_zero.shape == (1,) else y_zero
    assert y_zero.dtype is not None
    return c.op("quantize", real, c.cast(y_scale, float32), y_zero, dtype=y_zero.dtype.name)


def dequantized(c: Call, x: Value, scale: Value, zero: Value | None, axis: int = 0) -> Value:
    """x as the numbers its integers stand for: one scale, or one per index of ``axis``."""
    return c.op("dequantize", x, c.cast(scalar_if_one(c, scale), float32), scalar_if_one(c, zero), axis=axis)


def quantized(c: Call, y: Value, scale: Value, zero: Value) -> Value:
    """Numbers as integers of one scale."""
    assert zero.dtype is not None
    scale, point = scalar_if_one(c, scale), scalar_if_one(c, zero)
    return c.op("quantize", y, c.cast(scale, float32), point, dtype=zero.dtype.name)


def _per_tensor(*vs: Value | None) -> bool:
    return all(v is None or v.shape in ((), (1,)) for v in vs)


@handles("QLinearMatMul")
def qlinear_matmul(c: Call) -> Value:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (c.x(i) for i in range(8))
    fixed = all(c.known(v) is not None for v in (a_scale, a_zero, b_scale, b_zero, y_scale, y_zero))
    columns = _per_tensor(b_scale, b_zero) or (c.rank(b) == 2 and c.rank(b_scale) == 1)
    if (fixed and _per_tensor(a_scale, a_zero) and columns) or (
        a.dtype is not None and a.dtype.kind == "f"
    ):  # float8 too
        left, right = dequantized(c, a, a_scale, a_zero), dequantized(c, b, b_scale, b_zero, axis=1)
        return quantized(c, c.op("matmul", left, right), y_scale, y_zero)
    acc = c.op("matmul_integer", a, b, scalar_if_one(c, a_zero), scalar_if_one(c, b_zero))
    a_scale = c.cast(a_scale, float32)
    if c.rank(a_scale) == 1 and a_scale.shape != (1,):  # one per row
        a_scale = c.op("unsqueeze", a_scale, c.i64(1))
    scale = c.op("mul", a_scale, c.cast(b_scale, float32))
    return requantize(c, acc, scale, y_scale, y_zero)


def qlinear_conv_of(c: Call, bias: Value | None, last: bool = False) -> Value:
    """QLinearConv as a float convolution between dequantize and quantize; fuse_quantized makes it integer again."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (c.x(i) for i in range(8))
    g = geometry(c, spatial_rank(c, x))
    if bias is not None:
        unit = c.op("mul", c.cast(scalar_if_one(c, x_scale), float32), c.cast(scalar_if_one(c, w_scale), float32))
        bias = c.op("dequantize", bias, unit, axis=0)
    real = dequantized(c, x if last else c.last(x), x_scale, x_zero)
    y = c.op("conv", real, filters(c, dequantized(c, w, w_scale, w_zero)), bias, groups=c.attr("group", 1), **g)
    y = quantized(c, y, y_scale, y_zero)
    return y if last else c.first(y)


@handles("QLinearConv")
def qlinear_conv(c: Call) -> Value:
    return qlinear_conv_of(c, c.opt(8))
