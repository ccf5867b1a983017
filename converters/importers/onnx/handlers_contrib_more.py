"""More of onnxruntime's own ops (com.microsoft): rotary positions, grouped-query attention, group norm, quantized pools,
4-bit weights by table, and small ones that exporters and its optimizer leave behind."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.converters.importers.onnx.handlers_contrib import MS, _dequantized, _heads, _merge, _quantized
from deploykit.converters.importers.onnx.handlers_nn import geometry
from deploykit.errors import FormatError
from deploykit.graph import Value


# ---- attention
def rotated(c: Call, x: Value, cos: Value, sin: Value, positions: Value, interleaved: bool) -> Value:
    """x [B, heads, L, D] turned by the rows of the caches that ``positions`` [B or 1, L] name."""
    tables = [c.op("unsqueeze", c.op("gather", t, positions, axis=0), c.i64(1)) for t in (cos, sin)]
    return c.op("rotary_embedding", x, *tables, interleaved=interleaved)


@handles("RotaryEmbedding", domain=MS)
def rotary_embedding(c: Call) -> Value:
    x, positions, cos, sin = (c.x(i) for i in range(4))
    if c.attr("is_packed_batching", 0) or c.attr("scale", 1.0) != 1.0:
        raise c.unsupported("packed batching or a scale")
    flat = c.rank(x) == 3
    if flat:
        heads = c.attr("num_heads", 0)
        if not heads:
            width, half = c.shape(x)[-1], c.shape(cos)[-1]
            if not isinstance(width, int) or not isinstance(half, int):
                raise c.unsupported("a number of heads that is not known")
            heads = width // (2 * half)
        x = _heads(c, x, heads)
    if c.rank(positions) == 1:  # one number: where the sequence starts
        steps = c.op("range", c.const(np.int64(0)), c.reshape(c.dims(x, 2, 3)), c.const(np.int64(1)))
        positions = c.op("unsqueeze", c.op("add", c.reshape(positions), steps), c.i64(0))
    y = rotated(c, x, cos, sin, positions, bool(c.attr("interleaved", 0)))
    return _merge(c, y) if flat else y


@handles("GroupQueryAttention", domain=MS)
def group_query_attention(c: Call) -> list[Value]:
    """Keys and values of the past in front, causal; sequences of a batch may end early (seqlens_k)."""
    heads, kv_heads = c.attr("num_heads"), c.attr("kv_num_heads")
    q, k, v, past_k, past_v, last = (c.opt(i) for i in range(6))
    if any(c.opt(i) is not None for i in range(11, c.n)) or c.attr("smooth_softmax", 0):
        raise c.unsupported("head sinks, quantized caches or norms inside")
    if last is None or q is None:
        raise FormatError("seqlens_k is missing")
    if k is None or v is None:
        width = c.shape(q)[-1]
        if not isinstance(width, int):
            raise c.unsupported("a packed query of unknown size")
        size = width // (heads + 2 * kv_heads)
        q, k, v = c.op("split", q, c.i64(heads * size, kv_heads * size, kv_heads * size), outputs=3, axis=-1)
    q, k, v = _heads(c, q, heads), _heads(c, k, kv_heads), _heads(c, v, kv_heads)
    before = c.i64(0) if past_k is None else c.dims(past_k, 2, 3)
    length = c.dims(q, 2, 3)
    total = c.op("add", before, length)
    one = c.const(np.int64(1))
    rows = c.op("range", c.reshape(before), c.reshape(total), one)
    if c.attr("do_rotary", 0):
        cos, sin = c.x(7), c.x(8)
        positions = c.opt(9)
        positions = c.op("unsqueeze", rows, c.i64(0)) if positions is None else positions
        turn = bool(c.attr("rotary_interleaved", 0))
        q, k = rotated(c, q, cos, sin, positions, turn), rotated(c, k, cos, sin, positions, turn)
    if past_k is not None and past_v is not None:
        k, v = c.op("concat", past_k, k, axis=2), c.op("concat", past_v, v, axis=2)
    columns = c.op("range", c.const(np.int64(0)), c.reshape(total), one)
    rows = c.op("unsqueeze", rows, c.i64(-1))
    allowed = c.op("less_equal", columns, rows)
    window = c.attr("local_window_size", -1)
    if window > 0:
        allowed = c.op("logical_and", allowed, c.op("greater", columns, c.op("sub", rows, c.const(np.int64(window)))))
    ends = c.op("unsqueeze", c.cast(last if c.rank(last) == 1 else c.reshape(last, -1), "int64"), c.i64(1, 2, 3))
    allowed = c.op("logical_and", allowed, c.op("less_equal", columns, ends))
    mask: Value = allowed
    if c.opt(10) is not None:
        mask = c.op("where", allowed, c.x(10), c.scalar(-np.inf, q))
    y = c.op("attention", q, k, v, mask, scale=c.attr("scale", 0.0), softcap=c.attr("softcap", 0.0))
    return [_merge(c, y), k, v][: max(1, len(c.outputs))]


@handles("QAttention", domain=MS)
def quantized_attention(c: Call) -> Value:
    """Attention whose first product is quantized: in numbers."""
    if c.opt(8) is not None or c.wants(1):
        raise c.unsupported("past keys and values")
    mask = c.opt(5)
    if mask is not None and c.rank(mask) != 2:
        raise c.unsupported("a mask_index of lengths")
    x = c.op("dequantize", c.x(0), c.reshape(c.x(3)), c.reshape(c.x(6)) if c.opt(6) is not None else None)
    scale, zero = c.x(4), c.opt(7)
    one = c.shape(scale) in ((), (1,))
    if one:
        scale, zero = c.reshape(scale), c.reshape(zero) if zero is not None else None
    w = c.op("dequantize", c.x(1), scale, zero, axis=1)
    packed = c.op("matmul", x, w, c.opt(2))
    heads = c.attr("num_heads")
    q, k, v = (_heads(c, t, heads) for t in c.op("split", packed, outputs=3, axis=-1))
    added = None
    if mask is not None:
        low = c.scalar(c.attr("mask_filter_value", -10000.0), x)
        added = c.op(
            "where", c.op("unsqueeze", c.op("not_equal", mask, c.scalar(0, mask)), c.i64(1, 2)), c.scalar(0, x), low
        )
    y = c.op("attention", q, k, v, added, scale=c.attr("scale", 0.0), causal=bool(c.attr("unidirectional", 0)))
    return _merge(c, y)


# ---- norms of images
@handles("GroupNorm", "SkipGroupNorm", domain=MS)
def group_norm(c: Call) -> list[Value]:
    """Group norm, with SiLU when ``activation``; the second form adds a skip (and a bias) before."""
    x = c.x(0)
    last = bool(c.attr("channels_last", 1))
    x = x if last else c.last(x)
    total = None
    if c.op_type == "SkipGroupNorm":
        skip = c.x(3)
        if c.rank(skip) == 4:
            skip = skip if last else c.last(skip)
        elif c.rank(skip) == 2:
            skip = c.op("unsqueeze", skip, c.i64(1, 2))
        x = c.op("add", x, skip)
        if c.opt(4) is not None:
            x = c.op("add", x, c.x(4))
        total = x
    gamma, beta = (c.cast(c.x(i), x.dtype) for i in (1, 2))
    y = c.op("group_norm", x, gamma, beta, groups=c.attr("groups"), epsilon=c.attr("epsilon", 1e-5))
    if c.attr("activation"):
        y = c.op("silu", y)
    out = [y] if total is None else [y, total]
    return [v if last else c.first(v) for v in out]


# ---- quantized
@handles("QLinearAveragePool", domain=MS)
def qlinear_average_pool(c: Call) -> Value:
    x = _dequantized(c, 0)
    kernel = tuple(c.ints("kernel_shape") or ())
    last = bool(c.attr("channels_last", 0))
    attrs = geometry(c, len(kernel))
    attrs.pop("dilations", None)
    flags = dict(ceil_mode=bool(c.attr("ceil_mode", 0)), count_include_pad=bool(c.attr("count_include_pad", 0)))
    y = c.op("avg_pool", x if last else c.last(x), kernel=kernel, **attrs, **flags)
    return _quantized(c, y if last else c.first(y), c.x(3), c.opt(4), c.x(0))


@handles("QLinearReduceMean", domain=MS)
def qlinear_reduce_mean(c: Call) -> Value:
    axes = c.ints("axes") or list(range(c.rank(c.x(0))))
    y = c.op("reduce_mean", _dequantized(c, 0), c.i64(*axes), keepdims=bool(c.attr("keepdims", 1)))
    return _quantized(c, y, c.x(3), c.opt(4), c.x(0))


@handles("QLinearWhere", domain=MS)
def qlinear_where(c: Call) -> Value:
    y = c.op("where", c.x(0), _dequantized(c, 1), _dequantized(c, 4))
    return _quantized(c, y, c.x(7), c.opt(8), c.x(1))


@handles("NhwcMaxPool", domain=MS)
def nhwc_max_pool(c: Call) -> Value:
    kernel = tuple(c.ints("kernel_shape") or ())
    attrs = geometry(c, len(kernel))
    return c.op("max_pool", c.x(), outputs=1, kernel=kernel, ceil_mode=bool(c.attr("ceil_mode", 0)), **attrs)[0]


# the 16 numbers that 4 bits stand for, times the block's largest (Dettmers et al. 2023, "QLoRA")
_FP4 = [0, 0.00520833, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25]
_NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


@handles("MatMulBnb4", domain=MS)
def matmul_bnb4(c: Call) -> Value:
    """Weights as 4-bit positions in a table: spread out while importing."""
    b, largest = c.static(1, "the weights"), c.static(2, "the scales")
    n, k, block = c.attr("N"), c.attr("K"), c.attr("block_size")
    table = np.array(_NF4 if c.attr("quant_type") == 1 else [*_FP4, *(-v for v in _FP4)], np.float32)
    q = np.stack([b.reshape(-1) >> 4, b.reshape(-1) & 15], -1).reshape(-1)[: n * k]
    w = table[q] * np.repeat(largest.reshape(-1).astype(np.float32), block)[: n * k]
    x = c.x(0)
    return c.op("matmul", x, c.cast(c.const(w.reshape(n, k)), x.dtype), transpose_b=True)


# ---- small ones
@handles("BiasAdd", domain=MS)
def bias_add(c: Call) -> Value:
    return c.op("add", c.op("add", c.x(0), c.x(1)), c.x(2))


@handles("BiasSplitGelu", domain=MS)
def bias_split_gelu(c: Call) -> Value:
    left, right = c.op("split", c.op("add", c.x(0), c.x(1)), outputs=2, axis=-1)
    return c.op("mul", left, c.op("gelu", right))


@handles("CDist", domain=MS)
def cdist(c: Call) -> Value:
    a, b = c.op("unsqueeze", c.x(0), c.i64(1)), c.op("unsqueeze", c.x(1), c.i64(0))
    square = c.op("reduce_sum", c.op("squared_difference", a, b), c.i64(-1), keepdims=False)
    return square if c.attr("metric", "sqeuclidean") == "sqeuclidean" else c.op("sqrt", square)


@handles("IsAllFinite", domain=MS)
def is_all_finite(c: Call) -> Value:
    inf_only, nan_only = c.attr("isinf_only", 0), c.attr("isnan_only", 0)
    bad = None
    for x in c.xs():
        kinds = [k for k, skip in (("is_inf", nan_only), ("is_nan", inf_only)) if not skip]
        for k in kinds:
            hit = c.op("reduce_max", c.op(k, x), None, keepdims=False)
            bad = hit if bad is None else c.op("logical_or", bad, hit)
    assert bad is not None
    return c.op("logical_not", bad)


@handles("ExpandDims", domain=MS)
def expand_dims(c: Call) -> Value:
    return c.op("unsqueeze", c.x(0), c.i64(int(c.static(1, "the axis").reshape(-1)[0])))


@handles("Trilu", domain=MS)
def trilu(c: Call) -> Value:
    return c.op("trilu", c.x(0), c.opt(1), upper=bool(c.attr("upper", 1)))


@handles("GatherND", domain=MS)
def gather_nd(c: Call) -> Value:
    return c.op("gather_nd", c.x(0), c.x(1))


@handles("Pad", domain=MS)
def pad(c: Call) -> Value:
    pads = c.x(1) if c.rank(c.x(1)) == 1 else c.reshape(c.x(1), -1)
    value = c.opt(2)
    value = c.reshape(value) if value is not None and c.rank(value) else value
    return c.op("pad", c.x(0), pads, value, mode=c.attr("mode", "constant"))


@handles("ComplexMul", "ComplexMulConj", domain=MS)
def complex_mul(c: Call) -> Value:
    """Products of numbers whose parts stand in a last dim of 2."""

    def parts(x: Value) -> Any:
        return (c.op("slice", x, c.i64(i), c.i64(i + 1), c.i64(-1)) for i in (0, 1))

    (a, b), (x, y) = parts(c.x(0)), parts(c.x(1))
    y = c.op("neg", y) if c.op_type == "ComplexMulConj" else y
    real = c.op("sub", c.op("mul", a, x), c.op("mul", b, y))
    imaginary = c.op("add", c.op("mul", a, y), c.op("mul", b, x))
    return c.op("concat", real, imaginary, axis=-1)
