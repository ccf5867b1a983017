"""Ops of domain com.microsoft (and its older use of the default domain) that exported and optimized models contain.

Their meaning is documented in onnxruntime's ContribOperators.md; most are combinations of standard ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, find_handler, handles
from deploykit.converters.importers.onnx.dynamic_lstm import dynamic_lstm, expressible
from deploykit.converters.importers.onnx.handlers_nn import filters, geometry, scalar_if_one, spatial_rank
from deploykit.converters.importers.onnx.handlers_rnn import dequantized, qlinear_conv_of, quantized, recurrent_attrs
from deploykit.dtypes import float32
from deploykit.errors import FormatError
from deploykit.graph import Value

MS = "com.microsoft"


def standard(op_type: str, since: int) -> None:
    """Let the com.microsoft op of this name mean the standard one in that version."""

    @handles(op_type, domain=MS)
    def run(c: Call) -> Any:
        c.since = since
        handler = find_handler("", op_type, since)
        assert handler is not None
        return handler.run(c)


for _name, _since in (
    ("QuantizeLinear", 21), ("DequantizeLinear", 21), ("GridSample", 16), ("Pad", 18), ("Unique", 11),
    ("MaxpoolWithMask", 12),
):  # fmt: skip
    if find_handler("", _name, _since):
        standard(_name, _since)


# ---- activations
def activation(c: Call, y: Value, name: str, values: list[float]) -> Value:
    """The activation that a Fused… op names, with its parameters."""

    def p(i: int, default: float) -> float:
        return values[i] if i < len(values) else default

    simple = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus"}
    if name in ("", "Identity"):
        return y
    if name in simple:
        return c.op(simple[name], y)
    if name == "LeakyRelu":
        return c.op("leaky_relu", y, alpha=p(0, 0.01))
    if name == "Clip":
        return c.op("clip", y, c.scalar(p(0, -np.inf), y), c.scalar(p(1, np.inf), y))
    if name == "HardSigmoid":
        return c.op("hard_sigmoid", y, alpha=p(0, 0.2), beta=p(1, 0.5))
    if name == "Elu":
        return c.op("elu", y, alpha=p(0, 1.0))
    raise c.unsupported(f"fused activation '{name}'")


@handles("Gelu", domain=MS)
def gelu(c: Call) -> Value:
    return c.op("gelu", c.x())


@handles("FastGelu", domain=MS)
def fast_gelu(c: Call) -> Value:
    x = c.x() if c.opt(1) is None else c.op("add", c.x(), c.opt(1))
    return c.op("gelu", x, approximate=True)


@handles("BiasGelu", domain=MS)
def bias_gelu(c: Call) -> Value:
    return c.op("gelu", c.op("add", c.x(0), c.x(1)))


@handles("QuickGelu", domain=MS)
def quick_gelu(c: Call) -> Value:
    return c.op("silu", c.x(), alpha=c.attr("alpha", 1.702))


@handles("BiasSoftmax", domain=MS)
def bias_softmax(c: Call) -> Value:
    x, bias, axis = c.x(0), c.x(1), c.attr("axis", 1)
    rank = c.rank(x)
    if c.axis(axis, rank) != rank - 1 or not c.attr("is_inner_broadcast", 1):
        raise c.unsupported("softmax over more than the last dim, or a bias broadcast from outside")
    return c.op("softmax", c.op("add", x, bias))


# ---- products and convolutions
@handles("FusedMatMul", "TransposeMatMul", domain=MS)
def fused_matmul(c: Call) -> Value:
    if c.attr("transBatchA", 0) or c.attr("transBatchB", 0):
        raise c.unsupported("transBatchA, transBatchB")
    flags = dict(transpose_a=bool(c.attr("transA", 0)), transpose_b=bool(c.attr("transB", 0)))
    return c.op("matmul", c.x(0), c.x(1), alpha=c.attr("alpha", 1.0), **flags)


@handles("FusedGemm", domain=MS)
def fused_gemm(c: Call) -> Value:
    handler = find_handler("", "Gemm", 13)
    assert handler is not None
    values = [c.attr(k) for k in ("activation_alpha", "activation_beta") if c.has(k)]
    return activation(c, handler.run(c), c.attr("activation", ""), values)


@handles("FusedConv", domain=MS)
def fused_conv(c: Call) -> Value:
    x, w, z = c.x(0), c.x(1), c.opt(3)
    g = geometry(c, spatial_rank(c, x))
    y = c.op("conv", c.last(x), filters(c, w), c.opt(2), groups=c.attr("group", 1), **g)
    if z is not None:
        y = c.op("add", y, c.last(z))
    return c.first(activation(c, y, c.attr("activation", ""), c.attr("activation_params", [])))


@handles("MatMulIntegerToFloat", domain=MS)
def matmul_integer_to_float(c: Call) -> Value:
    a, b, a_scale, b_scale = (c.x(i) for i in range(4))
    acc = c.op("matmul_integer", a, b, scalar_if_one(c, c.opt(4)), scalar_if_one(c, c.opt(5)))
    y = c.op("mul", c.cast(acc, float32), c.op("mul", a_scale, b_scale))
    return y if c.opt(6) is None else c.op("add", y, c.opt(6))


@handles("DynamicQuantizeMatMul", domain=MS)
def dynamic_quantize_matmul(c: Call) -> Value:
    a, b, b_scale = c.x(0), c.x(1), c.x(2)
    q, scale, zero = c.op("dynamic_quantize", a, outputs=3)
    acc = c.op("matmul_integer", q, b, zero, scalar_if_one(c, c.opt(3)))
    y = c.op("mul", c.cast(acc, float32), c.op("mul", scale, b_scale))
    return y if c.opt(4) is None else c.op("add", y, c.opt(4))


# ---- normalisation
def _layer_norm(c: Call, x: Value, scale: Value, bias: Value | None, rms: bool) -> Value:
    epsilon = c.attr("epsilon", 1e-5 if c.domain == "" else 1e-12)
    if rms:
        y = c.op("rms_norm", x, scale, axis=c.attr("axis", -1), epsilon=epsilon)
        return y if bias is None else c.op("add", y, bias)
    return c.op("layer_norm", x, scale, bias, axis=c.attr("axis", -1), epsilon=epsilon)


@handles("LayerNormalization", until=16)
def old_layer_norm(c: Call) -> Value:
    return _layer_norm(c, c.x(0), c.x(1), c.opt(2), rms=False)


@handles("SimplifiedLayerNormalization")
def simplified_layer_norm(c: Call) -> Value:
    return _layer_norm(c, c.x(0), c.x(1), None, rms=True)


@handles("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MS)
def skip_layer_norm(c: Call) -> Any:
    rms = "Simplified" in c.op_type
    beta, bias = (None, c.opt(3)) if rms else (c.opt(3), c.opt(4))
    total = c.op("add", c.x(0), c.x(1))
    if bias is not None:
        total = c.op("add", total, bias)
    y = _layer_norm(c, total, c.x(2), beta, rms)
    if c.wants(1) or c.wants(2):
        raise c.unsupported("outputs mean and inv_std_var (training only)")
    return [y, None, None, total] if len(c.outputs) > 3 else y


@handles("EmbedLayerNormalization", domain=MS)
def embed_layer_norm(c: Call) -> Any:
    ids, segments = c.x(0), c.opt(1)
    words, positions, kinds = c.x(2), c.x(3), c.opt(4)
    total = c.op("gather", words, ids)
    if c.opt(8) is not None:
        where = c.op("gather", positions, c.x(8))
    else:
        count = c.op("reshape", c.dims(ids, 1, 2), c.i64())
        where = c.op("gather", positions, c.op("range", c.const(np.int64(0)), count, c.const(np.int64(1))))
    total = c.op("add", total, where)
    if kinds is not None and segments is not None:
        total = c.op("add", total, c.op("gather", kinds, segments))
    y = _layer_norm(c, total, c.x(5), c.opt(6), rms=False)
    if c.opt(7) is not None:
        lengths = c.op("cast", c.op("reduce_sum", c.x(7), c.i64(1), keepdims=False), dtype="int32")
    else:
        lengths = c.op("fill", c.dims(ids, 0, 1), c.const(np.int32(0)))
    return [y, lengths, total]


# ---- attention
def _heads(c: Call, x: Value, heads: int) -> Value:
    """[B, L, heads * D] -> [B, heads, L, D]; four dims pass."""
    if c.rank(x) == 4:
        return x
    return c.transpose(c.op("reshape", x, c.i64(0, 0, heads, -1)), (0, 2, 1, 3))


def _merge(c: Call, y: Value) -> Value:
    return c.op("reshape", c.transpose(y, (0, 2, 1, 3)), c.i64(0, 0, -1))


@handles("MultiHeadAttention", domain=MS)
def multi_head_attention(c: Call) -> Any:
    q, k, v, bias = c.x(0), c.opt(1), c.opt(2), c.opt(3)
    mask, extra, past_k, past_v = (c.opt(i) for i in range(4, 8))
    heads = c.attr("num_heads")
    if k is None or v is None or c.rank(q) != 3:
        raise c.unsupported("packed query, key and value")
    if mask is not None and c.rank(mask) not in (2, 3):
        raise c.unsupported("a key_padding_mask of lengths")
    if any(c.opt(i) is not None for i in range(8, c.n)):
        raise c.unsupported("inputs after past_value")
    if bias is not None:
        sizes = [c.shape(t)[-1] for t in (q, k, v)]
        if not all(isinstance(s, int) for s in sizes):
            raise c.unsupported("a bias for hidden sizes that are not known")
        parts = c.op("split", bias, c.i64(*sizes), outputs=3, axis=0)
        q, k = c.op("add", q, parts[0]), (c.op("add", k, parts[1]) if c.rank(k) == 3 else k)
        v = c.op("add", v, parts[2]) if c.rank(v) == 3 else v
    q, k, v = (_heads(c, t, heads) for t in (q, k, v))
    if past_k is not None and past_v is not None:
        k, v = c.op("concat", past_k, k, axis=2), c.op("concat", past_v, v, axis=2)
    total = extra
    if mask is not None:
        low = c.scalar(c.attr("mask_filter_value", -10000.0), q)
        allowed = c.op("not_equal", mask, c.scalar(0, mask))
        axes = c.i64(1, 2) if c.rank(mask) == 2 else c.i64(1)
        added = c.op("where", c.op("unsqueeze", allowed, axes), c.scalar(0, q), low)
        total = added if total is None else c.op("add", total, added)
    causal = bool(c.attr("unidirectional", 0))
    y = c.op("attention", q, k, v, total, scale=c.attr("scale", 0.0), causal=causal)
    return [_merge(c, y), k, v][: max(1, len(c.outputs))]


@handles("Attention", domain=MS)
def packed_attention(c: Call) -> Any:
    x, weights, bias, mask = c.x(0), c.x(1), c.opt(2), c.opt(3)
    if c.opt(4) is not None or c.wants(1) or c.opt(6) is not None or c.attr("do_rotary", 0):
        raise c.unsupported("past keys and values, or rotary positions")
    if mask is not None and c.rank(mask) not in (2, 3):
        raise c.unsupported("a mask_index of lengths")
    heads = c.attr("num_heads")
    packed = c.op("matmul", x, weights, bias)
    width = c.shape(weights)[1]
    if not isinstance(width, int):
        raise c.unsupported("weights of unknown size")
    sizes = c.ints("qkv_hidden_sizes") or [width // 3] * 3
    q, k, v = (_heads(c, t, heads) for t in c.op("split", packed, c.i64(*sizes), outputs=3, axis=-1))
    total = c.opt(5)
    if mask is not None:
        low = c.scalar(c.attr("mask_filter_value", -10000.0), x)
        allowed = c.op("not_equal", mask, c.scalar(0, mask))
        axes = c.i64(1, 2) if c.rank(mask) == 2 else c.i64(1)
        added = c.op("where", c.op("unsqueeze", allowed, axes), c.scalar(0, x), low)
        total = added if total is None else c.op("add", total, added)
    causal = bool(c.attr("unidirectional", 0))
    return _merge(c, c.op("attention", q, k, v, total, scale=c.attr("scale", 0.0), causal=causal))


# ---- quantized
def _dequantized(c: Call, i: int) -> Value:
    """Inputs i, i + 1, i + 2: a quantized tensor, its scale and zero point."""
    scale = scalar_if_one(c, c.x(i + 1))
    return c.op("dequantize", c.x(i), scale, scalar_if_one(c, c.opt(i + 2)))


def _quantized(c: Call, y: Value, scale: Value, zero: Value | None, like: Value) -> Value:
    dtype = (zero or like).dtype
    assert dtype is not None
    return c.op("quantize", y, scalar_if_one(c, scale), scalar_if_one(c, zero), dtype=dtype.name)


def _unary(op_type: str, f: Callable[[Call, Value], Value]) -> None:
    """Ops of the form (x, x_scale, x_zero, y_scale, y_zero)."""

    @handles(op_type, domain=MS)
    def run(c: Call) -> Value:
        return _quantized(c, f(c, _dequantized(c, 0)), c.x(3), c.opt(4), c.x(0))


def _mean_of_image(c: Call, x: Value) -> Value:
    rank = c.rank(x)
    axes = range(1, rank - 1) if c.attr("channels_last", 0) else range(2, rank)
    return c.op("reduce_mean", x, c.i64(*axes))


def _quantized_softmax(c: Call, x: Value) -> Value:
    axis = c.axis(c.attr("axis", -1), c.rank(x))
    if c.attr("opset", 13) >= 13 or axis == c.rank(x) - 1:
        return c.op("softmax", x, axis=axis)
    return c.op("reshape", c.op("softmax", c.op("flatten", x, axis=axis)), c.dims(x))


_unary("QLinearLeakyRelu", lambda c, x: c.op("leaky_relu", x, alpha=c.attr("alpha", 0.01)))
_unary("QLinearSigmoid", lambda c, x: c.op("sigmoid", x))
_unary("QLinearGlobalAveragePool", _mean_of_image)
_unary("QLinearSoftmax", _quantized_softmax)


@handles("QLinearAdd", "QLinearMul", domain=MS)
def qlinear_binary(c: Call) -> Value:
    y = c.op("add" if c.op_type == "QLinearAdd" else "mul", _dequantized(c, 0), _dequantized(c, 3))
    return _quantized(c, y, c.x(6), c.opt(7), c.x(0))


@handles("QLinearConcat", domain=MS)
def qlinear_concat(c: Call) -> Value:
    parts = [_dequantized(c, i) for i in range(2, c.n, 3)]
    return _quantized(c, c.op("concat", *parts, axis=c.attr("axis")), c.x(0), c.opt(1), c.x(2))


@handles("QLinearConv", domain=MS)
def qlinear_conv(c: Call) -> Value:
    return qlinear_conv_of(c, c.opt(8), last=bool(c.attr("channels_last", 0)))


@handles("QGemm", domain=MS)
def qgemm(c: Call) -> Value:
    a, a_scale, a_zero, b, b_scale, b_zero = (c.x(i) for i in range(6))
    turned = bool(c.attr("transB", 0))
    left, right = dequantized(c, a, a_scale, a_zero), dequantized(c, b, b_scale, b_zero, axis=0 if turned else 1)
    alpha, bias = c.attr("alpha", 1.0), c.opt(6)
    if bias is not None:
        unit = c.op("mul", scalar_if_one(c, a_scale), scalar_if_one(c, b_scale))
        bias = c.op("dequantize", bias, c.op("mul", unit, c.const(np.float32(alpha))), axis=0)
    flags = dict(transpose_a=bool(c.attr("transA", 0)), transpose_b=turned, alpha=alpha)
    y = c.op("matmul", left, right, bias, **flags)
    return y if c.opt(7) is None else quantized(c, y, c.x(7), c.x(8))


@handles("MatMulNBits", domain=MS)
def matmul_nbits(c: Call) -> Value:
    """Weights of 4 or 8 bits in blocks along K, packed low nibble first: [N, blocks, bytes of a block]."""
    a = c.x(0)
    k, n, bits, block = (c.attr(name) for name in ("K", "N", "bits", "block_size"))
    if bits not in (4, 8) or c.opt(4) is not None:
        raise c.unsupported(f"{bits}-bit weights, or a group index")
    packed, scales = c.static(1, "the weight"), c.x(2)
    blocks = -(-k // block)
    q = _fields(packed.reshape(n, blocks, -1), bits).reshape(n, blocks * block)[:, :k]
    zero: Any = np.full((n, blocks), 1 << (bits - 1), np.uint8)
    if c.opt(3) is not None:
        stored = c.static(3, "the zero point")
        if stored.dtype != np.uint8:
            raise c.unsupported("zero points that are not packed integers")
        zero = _fields(stored.reshape(n, -1), bits)[:, :blocks]
    scales = c.op("reshape", scales, c.i64(n, blocks))
    w = c.op("dequantize", c.const(q), scales, c.const(zero), axis=1, block_size=block)
    return c.op("matmul", a, w, c.opt(5), transpose_b=True)


def _fields(packed: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


@handles("DynamicQuantizeLSTM", domain=MS)
def dynamic_quantize_lstm(c: Call) -> Any:
    """LSTM with 8-bit weights [D, I, 4H] and one scale per direction, or per direction and column.

    x and h are quantized at run time, as onnxruntime does; forms that :mod:`dynamic_lstm` does not cover are computed
    with the dequantized weights in float, which is closer to the network that was quantized.
    """
    if expressible(c):
        return dynamic_lstm(c)[: len(c.outputs)]
    w, r = (_lstm_weight(c, c.x(i), c.x(s), c.opt(s + 1)) for i, s in ((1, 8), (2, 10)))
    ins = [c.x(0), w, r, *(c.opt(i) for i in range(3, 8))]
    attrs = recurrent_attrs(c)
    return c.op("lstm", *ins, outputs=len(c.outputs), input_forget=bool(c.attr("input_forget", 0)), **attrs)


def _lstm_weight(c: Call, w: Value, scale: Value, zero: Value | None) -> Value:
    directions = c.shape(w)[0]
    flat = c.transpose(w, (0, 2, 1))  # [D, 4H, I]
    per_column = c.rank(scale) == 2
    if per_column and directions == 1:
        scale, zero = (None if v is None else c.op("squeeze", v, c.i64(0)) for v in (scale, zero))  # type: ignore[assignment]
        return c.op("dequantize", flat, scale, zero, axis=1)
    if not per_column:
        return c.op("dequantize", flat, scale, zero, axis=0)
    if zero is None or zero.dtype is None:
        raise FormatError("the zero points are missing")
    wide = c.op(
        "sub", c.op("cast", flat, dtype="int32"), c.op("unsqueeze", c.op("cast", zero, dtype="int32"), c.i64(2))
    )
    return c.op("mul", c.cast(wide, float32), c.op("unsqueeze", scale, c.i64(2)))
