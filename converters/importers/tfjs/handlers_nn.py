"""Convolutions, dense layers and what the converter fuses into them, pools, normalisation, resizing."""

from __future__ import annotations

from typing import Any

from deploykit.converters.importers.tfjs.call import Call, handles
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import Value

_ACTIVATIONS = {"Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


def windows(c: Call, key: str = "strides", x: int = 0) -> tuple[int, ...]:
    """The spatial part of a per-dim attribute of an op over input ``x``; Conv1D has one number of its own instead."""
    if c.op_type == "Conv1D":
        return (int(c.attr(key.removesuffix("s"), 1)),)
    rank = c.rank(c.x(x))
    v = c.attr(key) or [1] * rank
    if not isinstance(v, list) or len(v) != rank or rank < 2:
        raise FormatError(f"{key} {v}; expected {rank} numbers, one per dim")
    if v[0] != 1 or v[-1] != 1:
        raise UnsupportedError(f"{key} {v}: steps along the batch or the channels")
    return tuple(v[1:-1])


def padding(c: Call) -> dict[str, Any]:
    """Our padding attrs."""
    kind = c.attr("padding", "VALID")
    if kind == "SAME":
        return {"pad_mode": "same_upper"}
    if kind == "VALID":
        return {"pad_mode": "explicit"}
    pads = c.attr("explicit_paddings") or []
    if kind != "EXPLICIT" or len(pads) < 6 or len(pads) % 2:
        raise FormatError(f"padding {kind!r} with {pads}; expected SAME, VALID or EXPLICIT with two numbers per dim")
    return {"pads": (*pads[2:-2:2], *pads[3:-2:2])}


def fused(c: Call, y_of: Any) -> Value:
    """What stands in ``fused_ops`` after the product: bias, then an activation."""
    ops = c.attr("fused_ops") or []
    bias = None
    at = 2
    if ops[:1] == ["BiasAdd"]:
        bias = c.x(at)
        bias = bias if c.rank(bias) == 1 else c.reshape(bias, -1)
        at += 1
        ops = ops[1:]
    y = y_of(bias)
    for op in ops:
        if op == "Prelu":
            y = c.op("prelu", y, c.x(at))
            at += 1
        elif op == "LeakyRelu":
            y = c.op("leaky_relu", y, alpha=float(c.attr("leakyrelu_alpha", 0.2)))
        elif op in _ACTIVATIONS:
            y = c.op(_ACTIVATIONS[op], y)
        else:
            raise UnsupportedError(f"fused op {op}")
    return y


@handles("Conv1D", "Conv2D", "Conv3D", "_FusedConv2D")
def conv(c: Call) -> Value:
    c.channels_last()
    x, w = c.x(0), c.x(1)  # weights [kernel..., in / groups, out]
    r = c.rank(w)
    if r < 3:
        raise FormatError(f"the weights have rank {r}; expected at least 3")
    cin, per_group = c.dims_of(x, r, "the input")[-1], c.shape(w)[-2]
    if not isinstance(cin, int) or not isinstance(per_group, int) or not per_group or cin % per_group:
        raise FormatError(f"weights take {per_group} channels, the input has {cin}")
    attrs = dict(strides=windows(c), dilations=windows(c, "dilations"), groups=cin // per_group, **padding(c))
    w = c.transpose(w, (r - 1, *range(r - 2), r - 2))
    return fused(c, lambda bias: c.op("conv", x, w, bias, **attrs))


@handles("DepthwiseConv2dNative", "DepthwiseConv2d", "FusedDepthwiseConv2dNative")
def depthwise(c: Call) -> Value:
    c.channels_last()
    x, w = c.x(0), c.x(1)  # weights [h, w, in, multiplier]
    h, k, cin, m = c.dims_of(w, 4, "the weights")
    attrs = dict(strides=windows(c), dilations=windows(c, "dilations"), groups=cin, **padding(c))
    w = c.transpose(c.reshape(w, h, k, 1, cin * m), (3, 0, 1, 2))
    return fused(c, lambda bias: c.op("conv", x, w, bias, **attrs))


@handles("Conv2DBackpropInput")
def conv_transpose(c: Call) -> Value:
    """Transposed convolution; inputs are the output's shape, weights [h, w, out, in], and the tensor."""
    c.channels_last()
    sizes = c.body.builder.spec(c.x(0)).value
    spatial = [] if sizes is None else list(sizes.reshape(-1))[1:-1]
    if len(spatial) != 2 or not all(hasattr(d, "__index__") for d in spatial):
        raise UnsupportedError("the output's height and width depend on the input; give them with --input-shape")
    x, w = c.x(2), c.x(1)
    out = tuple(int(d) for d in spatial)
    weight = c.transpose(w, (3, 0, 1, 2))
    if c.attr("padding") == "SAME":
        return c.op("conv_transpose", x, weight, None, strides=windows(c, x=2), output_shape=out, pad_mode="same_upper")
    if c.attr("padding") != "VALID":
        raise UnsupportedError("transposed convolution with explicit padding")
    y = c.op("conv_transpose", x, weight, None, strides=windows(c, x=2))
    over = [want - d for want, d in zip(out, c.shape(y)[1:-1], strict=True)]
    if any(over):
        if min(over) < 0:
            raise FormatError(f"an output of {out} is smaller than its kernels reach")
        y = c.op("pad", y, c.i64(0, 0, 0, 0, 0, *over, 0))
    return y


@handles("MatMul", "_FusedMatMul")
def matmul(c: Call) -> Value:
    flags = {f"transpose_{k}": bool(c.attr(f"transpose_{k}", False)) for k in "ab"}
    return fused(c, lambda bias: c.op("matmul", c.x(0), c.x(1), bias, **flags))


@handles("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D")
def pool(c: Call) -> Value:
    c.channels_last()
    attrs = dict(kernel=windows(c, "ksize"), strides=windows(c), **padding(c))
    if c.op_type.startswith("Max"):
        return c.op("max_pool", c.x(), outputs=1, **attrs)[0]
    return c.op("avg_pool", c.x(), **attrs)


@handles("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(c: Call) -> list[Any]:
    c.channels_last()
    if c.attr("is_training", False):
        raise UnsupportedError("batch normalisation in training mode; freeze the model before converting it")
    x, scale, offset, mean, variance = (c.x(i) for i in range(5))
    return [c.op("batch_norm", x, scale, offset, mean, variance, epsilon=float(c.attr("epsilon", 1e-3))), *[None] * 5]


@handles("Softmax")
def softmax(c: Call) -> Value:
    return c.op("softmax", c.x(), axis=-1)


@handles("LogSoftmax")
def log_softmax(c: Call) -> Value:
    return c.op("log_softmax", c.x(), axis=-1)


@handles("LRN")
def lrn(c: Call) -> Value:
    size = 2 * int(c.attr("depth_radius", 5)) + 1
    alpha, beta, bias = (float(c.attr(k, d)) for k, d in (("alpha", 1.0), ("beta", 0.5), ("bias", 1.0)))
    return c.op("lrn", c.x(), size=size, alpha=alpha * size, beta=beta, bias=bias)


@handles("ResizeBilinear", "ResizeNearestNeighbor")
def resize(c: Call) -> Value:
    nearest = c.op_type != "ResizeBilinear"
    align, half = bool(c.attr("align_corners", False)), bool(c.attr("half_pixel_centers", False))
    if align and half:
        raise UnsupportedError("align_corners together with half_pixel_centers")
    where = "align_corners" if align else "half_pixel" if half else "asymmetric"
    attrs: dict[str, Any] = dict(axes=(1, 2), mode="nearest" if nearest else "linear", coordinates=where)
    if nearest:
        attrs["nearest"] = "floor" if where == "asymmetric" else "round_prefer_ceil"
    x = c.x(0) if nearest else c.cast(c.x(0), "float32")
    return c.op("resize", x, None, None, c.i64_of(1), **attrs)
