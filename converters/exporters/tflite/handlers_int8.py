"""Integer ops (qconv, qmatmul, ...) as TFLite's int8 operators.

TFLite writes a scale at every tensor and derives multipliers from them; our ops hold the multipliers.  Where the real
scale of a tensor is known (it enters or leaves the model, or a quantize or dequantize node names it) that one is
written.  Others get the scale that their first reader or writer suggests, else 1: only ratios matter, and those are exact.
``uint8`` tensors are computed as ``int8`` with both bytes and zero point lowered by 128, as TFLite's kernels want it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite.exporter import Site, exports
from deploykit.converters.exporters.tflite.handlers_nn import geometry, padding
from deploykit.converters.exporters.tflite.quant import is_raw_mean
from deploykit.errors import UnsupportedError
from deploykit.graph import QuantParams, Value


def shift(v: Value) -> int:
    """What is taken from bytes and zero points to make them signed."""
    return 128 if v.dtype is dtypes.uint8 else 0


def scale_of(s: Site, t: int) -> float | None:
    """Scale of a tensor, where it has one."""
    q = s.sub.tensors[t].fields.get("quantization")
    return None if q is None else float(q.scale[0])


def signed(s: Site, i: int, zero: int, scale: float | None = None) -> tuple[int, float]:
    """Input ``i`` as an int8 tensor with this zero point (of its own dtype) and a scale; returns (tensor, scale)."""
    v = s.x(i)
    sub = s.sub
    low = shift(v)
    t = sub.own8.get(v) if low else sub.get(v)
    if t is None:
        t = _lowered(s, v)
    have = sub.tensors[t].fields.get("quantization")
    if have is None:
        scale = 1.0 if scale is None else scale
        sub.tensors[t].fields["quantization"] = params(scale, zero - low)
        return t, scale
    known = float(have.scale[0])
    want = known if scale is None else scale
    if int(have.zero_point[0]) == zero - low and np.float32(want) == np.float32(known):
        return t, known
    if low == 0 and v in sub.own8 and v.data is None:  # relabelled before
        other = sub.own8[v]
        q = sub.tensors[other].fields["quantization"]
        if int(q.zero_point[0]) == zero and np.float32(q.scale[0]) == np.float32(want):
            return other, want
    copy = s.temp(dtypes.int8, s.dims(t), scale=QuantParams(np.float32(want), np.int8(zero - low)))
    target = [d if isinstance(d, int) else -1 for d in sub.shape_of(v)]
    if target.count(-1) > 1:
        raise UnsupportedError("integers of several open dims that are read with two scales")
    s.emit("RESHAPE", [t, sub.i32(target)], [copy], "ReshapeOptions", new_shape=target)
    if low == 0:
        sub.own8[v] = copy
    return copy, want


def _lowered(s: Site, v: Value) -> int:
    """A uint8 value as an int8 tensor."""
    sub = s.sub
    if v.data is not None:
        t = sub.constant((v.data.astype(np.int16) - 128).astype(np.int8), v.name)
    else:
        source = sub.get(v)
        q = sub.tensors[source].fields.get("quantization")
        if q is None:
            q = sub.tensors[source].fields["quantization"] = params(1.0, 128)
        p = QuantParams(np.float32(q.scale[0]), np.int8(int(q.zero_point[0]) - 128))
        t = s.temp(dtypes.int8, s.dims(source), scale=p)
        s.emit("QUANTIZE", [source], [t], "QuantizeOptions")
    sub.own8[v] = t
    return t


def params(scale: float, zero: int) -> Any:
    """A table of quantization parameters."""
    from deploykit.converters.exporters.tflite.writer import Table

    return Table("QuantizationParameters", scale=np.array([scale], np.float32), zero_point=np.array([zero], np.int64))


def finish(s: Site, suggested: float = 1.0) -> tuple[int, float, int, int, Any]:
    """(tensor to write, its scale, low, high, what to do at the end) for the result, int8 in any case."""
    v, t = s.node.output, s.attrs
    if v.dtype not in (dtypes.int8, dtypes.uint8):
        raise UnsupportedError(f"with a result of {v.dtype}; convert from the source, not from a .dk file in integers")
    low = shift(v)
    zero = t["y_zero_point"] - low
    known = s.sub.exporter.scales.get(v)
    scale = suggested if known is None or np.ndim(known.scale) else float(known.scale)
    bounds = max(t["low"] - low, -128), min(t["high"] - low, 127)
    q = QuantParams(np.float32(scale), np.int8(zero))
    sub = s.sub
    if low:
        out = s.temp(dtypes.int8, [d if isinstance(d, int) else None for d in sub.shape_of(v)], scale=q)
        sub.own8[v] = out
        sub.lazy[v] = (out, QuantParams(np.float32(scale), np.uint8(zero + 128)))
    else:
        sub.exporter.scales.setdefault(v, q)
        have = sub.exporter.scales[v]
        if int(have.zero_point) != zero:
            raise UnsupportedError("integers written with one zero point and read with another")
        out = s.result()
    return out, scale, *bounds, q


def clamped(s: Site, low: int, high: int, q: QuantParams, out: int) -> tuple[int, int]:
    """(fused activation, tensor to write): other bounds than RELU's are cut in operators of their own, later."""
    if (low, high) == (-128, 127):
        return 0, out
    if (low, high) == (int(q.zero_point), 127):
        return 1, out
    return 0, s.temp(dtypes.int8, s.dims(out), scale=q)


def cut(s: Site, low: int, high: int, q: QuantParams, inner: int, out: int) -> None:
    """Cut to bounds, from ``inner`` into ``out``; nothing when they are one."""
    if inner == out:
        return
    steps = [(op, v) for op, v in (("MAXIMUM", low), ("MINIMUM", high)) if v not in (-128, 127)]
    for k, (op, v) in enumerate(steps):
        target = out if k == len(steps) - 1 else s.temp(dtypes.int8, s.dims(out), scale=q)
        bound = s.sub.constant(np.array(v, np.int8), scale=q)
        s.emit(op, [inner, bound], [target], "MaximumMinimumOptions")
        inner = target


def weight_tensor(s: Site, w: np.ndarray, scales: np.ndarray, axis: int, name: str) -> int:
    """Constant int8 weights with a scale per output channel."""
    one = scales.size == 1
    q = QuantParams(
        scales.reshape(()) if one else scales, np.zeros((() if one else scales.shape), np.int8), None if one else axis
    )
    return s.sub.constant(np.ascontiguousarray(w), name, scale=q)


Target = tuple[int, float, int, int, Any]


def stage(s: Site, suggested: float) -> tuple[Target, Target | None]:
    """Where the product goes, and where the sum with the residual goes after it (None without one).

    A residual is added to the product as rounded (``mid_scale``): the product gets a tensor of its own, whose zero point
    puts the lowest value it may have at -128.
    """
    final = finish(s, suggested)
    if s.value(4) is None:
        return final, None
    t = s.attrs
    zero = -128 - t["mid_low"]
    if not t["mid_scale"] or not -128 <= zero <= 127 or zero + t["mid_high"] > 127:
        raise UnsupportedError("a residual added before the product is rounded; convert from the source")
    scale = float(np.float32(t["mid_scale"] * final[1]))
    q = QuantParams(np.float32(scale), np.int8(zero))
    mid = s.temp(dtypes.int8, s.dims(final[0]), scale=q)
    return (mid, scale, -128, zero + t["mid_high"], q), final


def add_residual(s: Site, mid: int, final: Target | None) -> None:
    """The product plus the residual."""
    if final is None:
        return
    out, sy, low, high, q = final
    t = s.attrs
    r, _ = signed(s, 4, t["residual_zero_point"], float(np.float32(t["residual_scale"] * sy)))
    act, inner = clamped(s, low, high, q, out)
    s.emit("ADD", [mid, r], [inner], "AddOptions", fused_activation_function=act)
    cut(s, low, high, q, inner, out)


def bias_tensor(s: Site, scales: np.ndarray, units: int) -> int:
    """The int32 bias, or zeros."""
    b = np.zeros(units, np.int32) if s.value(3) is None else s.static(3, "the bias")
    if b.size != units:
        b = np.broadcast_to(b.reshape(-1), units).copy()
    one = scales.size == 1
    q = QuantParams(
        scales.reshape(()) if one else scales, np.zeros(() if one else scales.shape, np.int32), None if one else 0
    )
    return s.sub.constant(b, scale=q)


@exports("qconv")
def qconv(s: Site) -> None:
    t = s.attrs
    w = s.static(1, "the weights")
    m = s.static(2, "the multiplier").reshape(-1)
    if w.ndim != 4 or w.dtype != np.int8:
        raise UnsupportedError(f"over {w.ndim - 2} dims, or weights of {w.dtype}")
    g = geometry(s, w.shape[1:-1])
    pad, first = padding(s, g)
    x, sx = signed(s, 0, t["x_zero_point"])
    (out, sy, low, high, q), final = stage(s, sx)
    scales = (m.astype(np.float64) * sy / sx).astype(np.float32)
    units = w.shape[0]
    if first is not None:
        n = len(first) // 2
        rows = [(0, 0), *zip(first[:n], first[n:], strict=True), (0, 0)]
        dims = [d + a + b if isinstance(d, int) else None for d, (a, b) in zip(s.shape(), rows, strict=True)]
        p = QuantParams(np.float32(sx), np.int8(t["x_zero_point"] - shift(s.x(0))))
        wide = s.temp(dtypes.int8, dims, scale=p)
        s.emit("PAD", [x, s.sub.i32(rows)], [wide], "PadOptions")
        x = wide
    act, inner = clamped(s, low, high, q, out)
    common = dict(
        padding=pad, stride_h=g.strides[0], stride_w=g.strides[1], fused_activation_function=act,
        dilation_h_factor=g.dilations[0], dilation_w_factor=g.dilations[1],
    )  # fmt: skip
    bias = bias_tensor(s, (scales * np.float32(sx)).astype(np.float32), units)
    name = s.x(1).name
    if t["groups"] == s.shape()[-1] and w.shape[-1] == 1:
        wt = weight_tensor(s, w.transpose(3, 1, 2, 0), scales, 3, name)
        kind = "DepthwiseConv2DOptions"
        s.emit("DEPTHWISE_CONV_2D", [x, wt, bias], [inner], kind, depth_multiplier=units // t["groups"], **common)
    else:
        s.emit("CONV_2D", [x, weight_tensor(s, w, scales, 0, name), bias], [inner], "Conv2DOptions", **common)
    cut(s, low, high, q, inner, out)
    add_residual(s, out, final)


@exports("qmatmul")
def qmatmul(s: Site) -> None:
    t = s.attrs
    m = s.static(2, "the multiplier").reshape(-1)
    x, sx = signed(s, 0, t["x_zero_point"])
    b = s.data(1)
    (out, sy, low, high, q), final = stage(s, sx)
    act, inner = clamped(s, low, high, q, out)
    scales = (m.astype(np.float64) * sy / sx).astype(np.float32)
    if b is not None and b.ndim == 2 and b.dtype == np.int8 and t["b_zero_point"] == 0 and not t["transpose_a"]:
        w = b if t["transpose_b"] else b.T
        wt = weight_tensor(s, w, scales, 0, s.x(1).name)
        bias = bias_tensor(s, (scales * np.float32(sx)).astype(np.float32), w.shape[0])
        keep = len(s.shape()) > 2
        kind = "FullyConnectedOptions"
        s.emit("FULLY_CONNECTED", [x, wt, bias], [inner], kind, fused_activation_function=act, keep_num_dims=keep)
    else:
        if m.size != 1 or s.value(3) is not None or act:
            raise UnsupportedError("of two computed tensors with bias, bounds or a scale per column")
        y, _ = signed(s, 1, t["b_zero_point"], float(scales[0]))
        flags = dict(adj_x=t["transpose_a"], adj_y=t["transpose_b"])
        s.emit("BATCH_MATMUL", [x, y], [inner], "BatchMatMulOptions", **flags)
    cut(s, low, high, q, inner, out)
    add_residual(s, out, final)


@exports("qadd")
def qadd(s: Site) -> None:
    t = s.attrs
    a, sa = signed(s, 0, t["a_zero_point"])
    out, sy, low, high, q = finish(s, abs(sa / t["a_scale"]))
    minus = t["b_scale"] < 0
    if t["a_scale"] < 0 or max(t["a_scale"], abs(t["b_scale"])) > 2**16:
        raise UnsupportedError("that negates its first operand, or with scales beyond 2^16 times the result's")
    a, _ = signed(s, 0, t["a_zero_point"], float(np.float32(t["a_scale"] * sy)))
    b, _ = signed(s, 1, t["b_zero_point"], float(np.float32(abs(t["b_scale"]) * sy)))
    act, inner = clamped(s, low, high, q, out)
    op, kind = ("SUB", "SubOptions") if minus else ("ADD", "AddOptions")
    s.emit(op, [a, b], [inner], kind, fused_activation_function=act)
    cut(s, low, high, q, inner, out)


@exports("qmul")
def qmul(s: Site) -> None:
    t = s.attrs
    a, sa = signed(s, 0, t["a_zero_point"])
    b, sb = signed(s, 1, t["b_zero_point"])
    out, sy, low, high, q = finish(s, sa * sb / t["multiplier"])
    if np.float32(sa * sb / t["multiplier"]) != np.float32(sy):
        b, _ = signed(s, 1, t["b_zero_point"], float(np.float32(t["multiplier"] * sy / sa)))
    act, inner = clamped(s, low, high, q, out)
    s.emit("MUL", [a, b], [inner], "MulOptions", fused_activation_function=act)
    cut(s, low, high, q, inner, out)


@exports("qlut")
def qlut(s: Site) -> None:
    """A table is a gather: positions are the bytes, raised by 128 where they are signed."""
    table = s.static(1, "the table")
    if table.dtype not in (np.int8, np.uint8):
        raise UnsupportedError(f"a table of {table.dtype}")
    v = s.x(0)
    at = s.cast(s.sub.get(v), dtypes.int32)
    if v.dtype is dtypes.int8:
        moved = s.temp(dtypes.int32, s.dims(at))
        s.emit("ADD", [at, s.sub.constant(np.array(128, np.int32))], [moved], "AddOptions")
        at = moved
        table = np.concatenate([table[128:], table[:128]])
    out = s.result()
    q = s.sub.exporter.scales.get(s.node.output)
    values = s.sub.constant(np.ascontiguousarray(table), scale=q)
    s.emit("GATHER", [values, at], [out], "GatherOptions", axis=0)


@exports("qavg_pool", "qmean")
def qaverage(s: Site) -> None:
    t = s.attrs
    if is_raw_mean(s.node):
        q = s.sub.exporter.scales.get(s.x(0))
        zero = 0 if q is None else int(q.zero_point)
        t.update(x_zero_point=zero, y_zero_point=zero, multiplier=1.0)
    x, sx = signed(s, 0, t["x_zero_point"])
    out, sy, low, high, q = finish(s, sx / t["multiplier"])
    if np.float32(sx) != np.float32(t["multiplier"] * sy):
        x, sx = signed(s, 0, t["x_zero_point"], float(np.float32(t["multiplier"] * sy)))
    if s.node.op == "qmean":
        axes = s.sub.i32([a % len(s.shape()) for a in t["axes"]] or list(range(len(s.shape()))))
        inner = out if (low, high) == (-128, 127) else s.temp(dtypes.int8, s.dims(out), scale=q)
        s.emit("MEAN", [x, axes], [inner], "ReducerOptions", keep_dims=t["keepdims"])
        cut(s, low, high, q, inner, out)
        return
    if len(s.shape()) != 4:
        raise UnsupportedError(f"an average over {len(s.shape()) - 2} dims")
    g = geometry(s, t["kernel"], ceil=t["ceil_mode"])
    pad, first = padding(s, g)
    if first is not None or (pad == 0 and t["count_include_pad"]) or q.zero_point != t["x_zero_point"] - shift(s.x(0)):
        raise UnsupportedError("an average with explicit padding or another scale than its input")
    if np.float32(sx) != np.float32(sy):
        raise UnsupportedError("an average with another scale than its input")
    act, inner = clamped(s, low, high, q, out)
    options = dict(stride_h=g.strides[0], stride_w=g.strides[1], filter_height=g.kernel[0], filter_width=g.kernel[1])
    s.emit("AVERAGE_POOL_2D", [x], [inner], "Pool2DOptions", padding=pad, fused_activation_function=act, **options)
    cut(s, low, high, q, inner, out)


@exports("qsoftmax")
def qsoftmax(s: Site) -> None:
    """TFLite's softmax gives 1/256 steps from -128; the scale of its input stands in our table."""
    table = s.static(1, "the table").astype(np.float64)
    sx = float(-np.log(table[1] / table[0])) if table[1] else 20.0
    x, _ = signed(s, 0, s.sub.exporter_zero(s.x(0)), sx)
    out, sy, low, high, q = finish(s, 1 / s.attrs["multiplier"])
    if abs(sy * 256 - 1) > 1e-3 or int(q.zero_point) != -128 or (low, high) != (-128, 127):
        raise UnsupportedError("a softmax with another scale than 1/256 or other bounds")
    s.emit("SOFTMAX", [x], [out], "SoftmaxOptions", beta=1.0)
