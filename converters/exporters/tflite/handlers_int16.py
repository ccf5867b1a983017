"""The operators of 16x8 layers (``sixteen.mark``): int16 in and out, int8 weights with a scale per output, int64 biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite import handlers_shape
from deploykit.converters.exporters.tflite.exporter import Site
from deploykit.converters.exporters.tflite.handlers_nn import geometry, padding
from deploykit.converters.exporters.tflite.sixteen import ACTS, MOVES, Wide
from deploykit.graph import QuantParams


def handler(wide: Wide) -> Callable[[Site], None]:
    """What writes a marked node."""
    return lambda s: (_move if s.node.op in MOVES else _WRITERS[s.node.op])(s, wide)


def _move(s: Site, _: Wide) -> None:
    {
        "transpose": handlers_shape.transpose,
        "concat": handlers_shape.concat,
        "slice": handlers_shape.slice_,
        "pad": handlers_shape.pad,
    }.get(s.node.op, handlers_shape.reshape)(s)


def _bias(s: Site, wide: Wide) -> int:
    assert wide.weights is not None and wide.bias is not None
    scale = np.float32(wide.scale) * wide.weights
    data = np.rint(wide.bias.astype(np.float64) / scale).astype(np.int64)
    return s.sub.constant(data, scale=QuantParams(scale, np.zeros(scale.shape, np.int64), 0))


def _weights(s: Site, wide: Wide, w: np.ndarray, axis: int) -> int:
    assert wide.weights is not None
    q = QuantParams(wide.weights, np.zeros(wide.weights.shape, np.int8), axis)
    return s.sub.constant(np.ascontiguousarray(w), s.x(1).name, scale=q)


def _conv(s: Site, wide: Wide) -> None:
    t, w = s.attrs, s.static(1, "the weights")
    g = geometry(s, w.shape[1:-1])
    pad, first = padding(s, g)
    x = s.get(0)
    if first is not None:
        n = len(first) // 2
        rows = [(0, 0), *zip(first[:n], first[n:], strict=True), (0, 0)]
        dims = [d + a + b if isinstance(d, int) else None for d, (a, b) in zip(s.shape(), rows, strict=True)]
        padded = s.temp(dtypes.int16, dims, scale=QuantParams(np.float32(wide.scale), np.int16(0)))
        s.emit("PAD", [x, s.sub.i32(rows)], [padded], "PadOptions")
        x = padded
    common: dict[str, Any] = dict(
        padding=pad, stride_h=g.strides[0], stride_w=g.strides[1], fused_activation_function=ACTS[t["act"]],
        dilation_h_factor=g.dilations[0], dilation_w_factor=g.dilations[1],
    )  # fmt: skip
    if t["groups"] == s.shape()[-1] and w.shape[-1] == 1:
        kind, k = "DepthwiseConv2DOptions", w.shape[0] // t["groups"]
        ins = [x, _weights(s, wide, w.transpose(3, 1, 2, 0), 3), _bias(s, wide)]
        s.emit("DEPTHWISE_CONV_2D", ins, [s.result()], kind, depth_multiplier=k, **common)
    else:
        s.emit("CONV_2D", [x, _weights(s, wide, w, 0), _bias(s, wide)], [s.result()], "Conv2DOptions", **common)


def _matmul(s: Site, wide: Wide) -> None:
    w = s.static(1, "the weights")
    weights = _weights(s, wide, w if s.attrs["transpose_b"] else w.T, 0)
    options: dict[str, Any] = dict(fused_activation_function=ACTS[s.attrs["act"]], keep_num_dims=len(s.shape()) > 2)
    s.emit("FULLY_CONNECTED", [s.get(0), weights, _bias(s, wide)], [s.result()], "FullyConnectedOptions", **options)


def _pool(s: Site, _: Wide) -> None:
    g = geometry(s, s.attrs["kernel"])
    name = "MAX_POOL_2D" if s.node.op == "max_pool" else "AVERAGE_POOL_2D"
    options = dict(stride_h=g.strides[0], stride_w=g.strides[1], filter_height=g.kernel[0], filter_width=g.kernel[1])
    s.emit(name, [s.get(0)], [s.result()], "Pool2DOptions", padding=padding(s, g)[0], **options)


def _mean(s: Site, _: Wide) -> None:
    axes = s.sub.i32([int(a) % len(s.shape()) for a in s.static(1, "the axes").reshape(-1)])
    s.emit("MEAN", [s.get(0), axes], [s.result()], "ReducerOptions", keep_dims=s.attrs["keepdims"])


def _direct(op: str, kind: str = "", inputs: int = 1, **fields: Any) -> Callable[[Site, Wide], None]:
    def write(s: Site, _: Wide) -> None:
        s.emit(op, [s.get(i) for i in range(inputs)], [s.result()], kind, **fields)

    return write


_WRITERS: dict[str, Callable[[Site, Wide], None]] = {
    "conv": _conv,
    "matmul": _matmul,
    "avg_pool": _pool,
    "max_pool": _pool,
    "reduce_mean": _mean,
    "add": _direct("ADD", "AddOptions", 2, pot_scale_int16=False),
    "sub": _direct("SUB", "SubOptions", 2, pot_scale_int16=False),
    "mul": _direct("MUL", "MulOptions", 2),
    "relu": _direct("RELU"),
    "relu6": _direct("RELU6"),
    "sigmoid": _direct("LOGISTIC"),
    "tanh": _direct("TANH"),
    "softmax": _direct("SOFTMAX", "SoftmaxOptions", beta=1.0),
    "leaky_relu": lambda s, _: s.emit(
        "LEAKY_RELU", [s.get(0)], [s.result()], "LeakyReluOptions", alpha=s.attrs["alpha"]
    ),
}
