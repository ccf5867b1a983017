"""Convolutions, pools, dense layers, normalisation, resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, handles
from deploykit.converters.importers.tflite.handlers_quant import UP
from deploykit.converters.ir.tflite_schema import ACTIVATIONS
from deploykit.dtypes import DType
from deploykit.errors import FormatError
from deploykit.graph import QuantParams, Value
from deploykit.graph.dims import DimLike

_PADDING = ("same_upper", "explicit")


def padding(c: Call, code: int) -> str:
    """Our pad_mode of SAME or VALID."""
    if not 0 <= code < len(_PADDING):
        raise FormatError(f"padding {code} is neither SAME (0) nor VALID (1)")
    return _PADDING[code]


def channels(c: Call, v: Value, what: str) -> int:
    """The size of the last dim, which must be a number."""
    d = c.shape(v)[-1] if c.rank(v) else None
    if not isinstance(d, int):
        raise c.unsupported(f"the number of channels of {what} is not known. Give the input shapes (--input-shape)")
    return d


def bias(c: Call, i: int, x: int = 0, w: int = 1) -> Value | None:
    """An optional bias of any number of dims as a vector.

    An integer bias counts in units of input scale times weight scale, whatever scale its own tensor claims: the runtime
    adds it to the sums as it is, and converters write wrong ones where layers share a bias.
    """
    if c.item(i) is None:
        return None
    xq, wq = c.quant(x), c.quant(w)
    v = c.raw(i)
    if xq is not None and wq is not None and xq.axis is None and v.dtype is not None and v.dtype.kind == "i":
        scale = (xq.scale * wq.scale).astype(np.float32)
        axis = None if wq.axis is None or scale.ndim == 0 else 0
        v = v if c.rank(v) == 1 else c.reshape(v, -1)
        return c.dequantized(v, QuantParams(scale, np.zeros(scale.shape, np.int32), axis))
    b = c.x(i)
    return b if c.rank(b) == 1 else c.reshape(b, -1)


@handles("CONV_2D")
def conv_2d(c: Call) -> Value:
    o = c.options("Conv2DOptions")
    x, w = c.x(0), c.x(1)
    cin, per_group = channels(c, x, "the input"), channels(c, w, "the weights")
    if not per_group or cin % per_group:
        raise FormatError(f"weights take {per_group} channels, the input has {cin}")
    y = c.op(
        "conv",
        x,
        w,
        bias(c, 2),
        strides=(o.stride_h, o.stride_w),
        dilations=(o.dilation_h_factor, o.dilation_w_factor),
        pad_mode=padding(c, o.padding),
        groups=cin // per_group,
    )
    return c.act(y, o.fused_activation_function)


@handles("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(c: Call) -> Value:
    o = c.options("DepthwiseConv2DOptions")
    x, w = c.x(0), c.x(1)
    y = c.op(
        "conv",
        x,
        c.transpose(w, (3, 1, 2, 0)),
        bias(c, 2),
        strides=(o.stride_h, o.stride_w),
        dilations=(o.dilation_h_factor, o.dilation_w_factor),
        pad_mode=padding(c, o.padding),
        groups=channels(c, x, "the input"),
    )
    return c.act(y, o.fused_activation_function)


@handles("CONV_3D")
def conv_3d(c: Call) -> Value:
    o = c.options("Conv3DOptions")
    x, w = c.x(0), c.x(1)  # weights [kd, kh, kw, in / groups, out]
    cin, per_group = channels(c, x, "the input"), int(c.dims_of(w, 5, "the weights")[3])
    if not per_group or cin % per_group:
        raise FormatError(f"weights take {per_group} channels, the input has {cin}")
    y = c.op(
        "conv",
        x,
        c.transpose(w, (4, 0, 1, 2, 3)),
        bias(c, 2),
        strides=(o.stride_d, o.stride_h, o.stride_w),
        dilations=(o.dilation_d_factor, o.dilation_h_factor, o.dilation_w_factor),
        pad_mode=padding(c, o.padding),
        groups=cin // per_group,
    )
    return c.act(y, o.fused_activation_function)


def spatial_sizes(c: Call, i: int, n: int) -> tuple[int, ...]:
    """The spatial part of an output shape given as a tensor."""
    sizes: list[DimLike | None] | None = c.sizes(c.raw(i))
    if sizes is None or len(sizes) != n + 2:
        raise c.unsupported("the output shape is computed at run time; only known height and width are supported")
    out = []
    for d in sizes[1:-1]:
        if not isinstance(d, int):
            raise c.unsupported("the output's height and width depend on the input; give them with --input-shape")
        out.append(d)
    return tuple(out)


def transposed(c: Call, x: Value, w: Value, b: Value | None, out: tuple[int, ...], strides: Any, mode: str) -> Value:
    """Transposed convolution to the spatial sizes ``out``; w [in, kernel..., out channels].

    SAME spreads what the kernels overhang evenly, the odd one at the end.  VALID begins at the start: what is beyond the
    last kernel is bias alone, what overhangs is cut off at the end.
    """
    if mode == "same_upper":
        return c.op("conv_transpose", x, w, b, strides=strides, output_shape=out, pad_mode="same_upper")
    full = c.op("conv_transpose", x, w, b, strides=strides)
    sizes = c.shape(full)[1:-1]
    n = len(out)
    if not all(isinstance(d, int) for d in sizes):
        raise c.unsupported("height and width of the input are not known; give them with --input-shape")
    if any(d > want for d, want in zip(sizes, out, strict=True)):
        axes = c.i64(*range(1, n + 1))
        full = c.op("slice", full, c.i64(*[0] * n), c.i64(*out), axes)
    over = [max(want - d, 0) for d, want in zip(sizes, out, strict=True)]
    if any(over):
        if b is not None:
            raise c.unsupported(f"an output of {out} is larger than its kernels reach ({tuple(sizes)})")
        full = c.op("pad", full, c.i64(*[0] * (n + 2), 0, *over, 0))
    return full


@handles("TRANSPOSE_CONV")
def transpose_conv(c: Call) -> Value:
    o = c.options("TransposeConvOptions")
    x, w = c.x(2), c.x(1)  # weights [out, kh, kw, in]
    out = spatial_sizes(c, 0, 2)
    y = transposed(
        c,
        x,
        c.transpose(w, (3, 1, 2, 0)),
        bias(c, 3, 2),
        out,
        (o.stride_h, o.stride_w),
        padding(c, o.padding),
    )
    return c.act(y, o.fused_activation_function)


@handles("CONV_3D_TRANSPOSE")
def conv_3d_transpose(c: Call) -> Value:
    o = c.options("Conv3DOptions")
    x, w = c.x(2), c.x(1)  # weights [kd, kh, kw, out, in]
    if (o.dilation_d_factor, o.dilation_h_factor, o.dilation_w_factor) != (1, 1, 1):
        raise c.unsupported("dilated transposed convolution")
    out = spatial_sizes(c, 0, 3)
    strides = (o.stride_d, o.stride_h, o.stride_w)
    y = transposed(c, x, c.transpose(w, (4, 0, 1, 2, 3)), bias(c, 3, 2), out, strides, padding(c, o.padding))
    return c.act(y, o.fused_activation_function)


@handles("CUSTOM:Convolution2DTransposeBias")
def convolution_2d_transpose_bias(c: Call) -> Value:
    """MediaPipe's transposed convolution with a bias; options are three int32: padding (1 SAME, 2 VALID), strides."""
    raw = c.proto.custom_options
    if raw is None or raw.size < 12:
        raise FormatError("options are missing")
    pad, stride_w, stride_h = (int(v) for v in np.frombuffer(raw[:12].tobytes(), "<i4"))
    x, w = c.x(0), c.x(1)  # weights [out, kh, kw, in]
    size = c.shape(x)[1:3]
    kernel = c.shape(w)[1:3]
    if not all(isinstance(d, int) for d in size):
        raise c.unsupported("height and width of the input are not known; give them with --input-shape")
    strides = (stride_h, stride_w)
    if pad == 1:
        out = tuple(d * s for d, s in zip(size, strides, strict=True))
    else:
        out = tuple((d - 1) * s + k for d, s, k in zip(size, strides, kernel, strict=True))
    mode = "same_upper" if pad == 1 else "explicit"
    return transposed(c, x, c.transpose(w, (3, 1, 2, 0)), bias(c, 2), out, strides, mode)


# ---- pools
def pool_attrs(c: Call) -> tuple[Any, dict[str, Any]]:
    """Options and our attrs of a 2-D pool."""
    o = c.options("Pool2DOptions")
    return o, dict(
        kernel=(o.filter_height, o.filter_width), strides=(o.stride_h, o.stride_w), pad_mode=padding(c, o.padding)
    )


@handles("AVERAGE_POOL_2D")
def average_pool_2d(c: Call) -> Value:
    o, attrs = pool_attrs(c)
    q = c.out_quant()
    dtype = c.importer.source.dtype(c.tensor(0))
    if dtype.name not in ("int8", "uint8") or q is None or not c.same(0, q) or math.prod(attrs["kernel"]) > 1 << 16:
        return c.act(c.op("avg_pool", c.x(), **attrs), o.fused_activation_function)
    # the mean of the bytes themselves, halves away from zero
    low, high = bounds(c, q, dtype, o.fused_activation_function)
    how = dict(multiplier=UP, x_zero_point=0, y_zero_point=0, low=low, high=high, dtype=dtype.name)
    return c.op("qavg_pool", c.raw(0), **attrs, **how)


def bounds(c: Call, q: QuantParams, dtype: DType, code: int) -> tuple[int, int]:
    """The bytes that a fused activation lets through."""
    info = np.iinfo(dtype.np)
    kind = ACTIVATIONS[code] if 0 <= code < len(ACTIVATIONS) else f"code {code}"
    known = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}
    if kind not in known:
        raise c.unsupported(f"fused activation {kind}")
    ends = (np.round(e / float(q.scale)) + int(q.zero_point) for e in known[kind])
    low, high = (int(min(max(e, info.min), info.max)) for e in ends)
    return low, high


@handles("MAX_POOL_2D")
def max_pool_2d(c: Call) -> Value:
    o, attrs = pool_attrs(c)
    x = c.moved() if not o.fused_activation_function else c.x()
    return c.act(c.op("max_pool", x, outputs=1, **attrs)[0], o.fused_activation_function)


@handles("L2_POOL_2D")
def l2_pool_2d(c: Call) -> Value:
    o, attrs = pool_attrs(c)
    y = c.op("sqrt", c.op("avg_pool", c.op("square", c.x()), **attrs))
    return c.act(y, o.fused_activation_function)


# ---- dense
@handles("FULLY_CONNECTED")
def fully_connected(c: Call) -> Value:
    o = c.options("FullyConnectedOptions")
    if o.weights_format:
        raise c.unsupported("weights in the shuffled 4x16 format")
    x, w = c.x(0), c.x(1)
    units, width = c.dims_of(w, 2, "the weights")
    if not (o.keep_num_dims and c.rank(x) >= 2) and (c.rank(x) != 2 or c.shape(x)[-1] != width):
        x = c.reshape(x, -1, width)
    y = c.op("matmul", x, w, bias(c, 2), transpose_b=True)
    return c.act(y, o.fused_activation_function)


@handles("BATCH_MATMUL")
def batch_matmul(c: Call) -> Value:
    o = c.options("BatchMatMulOptions")
    return c.op("matmul", c.x(0), c.x(1), transpose_a=o.adj_x, transpose_b=o.adj_y)


# ---- activations with options, and those of several numbers
@handles("SOFTMAX")
def softmax(c: Call) -> Value:
    o, x = c.options("SoftmaxOptions"), c.x()
    if o.beta != 1.0:
        x = c.op("mul", x, c.scalar(o.beta, x))
    return c.op("softmax", x, axis=-1)


@handles("LOG_SOFTMAX")
def log_softmax(c: Call) -> Value:
    return c.op("log_softmax", c.x(), axis=-1)


@handles("LEAKY_RELU")
def leaky_relu(c: Call) -> Value:
    return c.op("leaky_relu", c.x(), alpha=float(c.options("LeakyReluOptions").alpha))


@handles("GELU")
def gelu(c: Call) -> Value:
    return c.op("gelu", c.x(), approximate=c.options("GeluOptions").approximate)


@handles("RELU_N1_TO_1", "RELU_0_TO_1")
def clipped_relu(c: Call) -> Value:
    x = c.x()
    return c.op("clip", x, c.scalar(-1 if c.op_type == "RELU_N1_TO_1" else 0, x), c.scalar(1, x))


# ---- normalisation
@handles("L2_NORMALIZATION")
def l2_normalization(c: Call) -> Value:
    """x / max(|x|, 1e-6) along the last dim."""
    x = c.x()
    norm = c.op("reduce_l2", x, c.i64(-1))
    y = c.op("div", x, c.op("maximum", norm, c.scalar(1e-6, x)))
    return c.act(y, c.options("L2NormOptions").fused_activation_function)


@handles("LOCAL_RESPONSE_NORMALIZATION")
def local_response_normalization(c: Call) -> Value:
    o = c.options("LocalResponseNormalizationOptions")
    size = 2 * o.radius + 1
    return c.op("lrn", c.x(), size=size, alpha=o.alpha * size, beta=o.beta, bias=o.bias)


# ---- resizing
@handles("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(c: Call) -> Value:
    nearest = c.op_type != "RESIZE_BILINEAR"
    o = c.options("ResizeNearestNeighborOptions" if nearest else "ResizeBilinearOptions")
    if o.align_corners and o.half_pixel_centers:
        raise c.unsupported("align_corners together with half_pixel_centers")
    where = "align_corners" if o.align_corners else "half_pixel" if o.half_pixel_centers else "asymmetric"
    attrs: dict[str, Any] = dict(axes=(1, 2), mode="nearest" if nearest else "linear", coordinates=where)
    if nearest:
        attrs["nearest"] = "floor" if where == "asymmetric" else "round_prefer_ceil"
    x = c.moved(0) if nearest else c.x(0)
    return c.op("resize", x, None, None, c.i64_of(1), **attrs)
