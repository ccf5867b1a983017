"""Convolution, pooling, normalisation, image sampling: NCHW in ONNX, channels last here.

Each handler moves the channels last, applies our op, and moves them back; the layout pass cancels the moves between
neighbours.  Constant weights are rearranged on the spot (as views).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.errors import FormatError
from deploykit.graph import Dim, Value

_PAD_MODE = {"SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}


def geometry(c: Call, spatial: int) -> dict[str, Any]:
    """strides, dilations, pads and pad_mode from the attributes."""
    auto = c.attr("auto_pad", "NOTSET")
    if auto not in ("", "NOTSET", "VALID", *_PAD_MODE):
        raise FormatError(f"auto_pad '{auto}'")
    out: dict[str, Any] = {}
    for name in ("strides", "dilations"):
        values = c.ints(name)
        if values is not None:
            if len(values) != spatial:
                raise FormatError(f"{name} {values} for {spatial} spatial dims")
            if any(v != 1 for v in values):
                out[name] = values
    pads = c.ints("pads")
    if auto in _PAD_MODE:
        out["pad_mode"] = _PAD_MODE[auto]
    elif pads is not None and auto != "VALID":
        if len(pads) != 2 * spatial:
            raise FormatError(f"pads {pads} for {spatial} spatial dims")
        if any(pads):
            out["pads"] = pads
    return out


def spatial_rank(c: Call, x: Value) -> int:
    """Number of spatial dims of an [N, C, spatial...] tensor."""
    rank = c.rank(x)
    if not 3 <= rank <= 5:
        raise c.unsupported(f"{rank - 2} spatial dims; supported are 1 to 3")
    return rank - 2


def assume_rank(c: Call, x: Value, like: Value) -> Value:
    """x, which must have the rank of ``like``: where it was not known (branches of an If may differ), it is now."""
    if x.shape is None and like.shape is not None and not x.is_constant:
        x.shape = tuple(Dim.fresh() for _ in like.shape)
        c.body.builder.specs.pop(x, None)
    return x


def filters(c: Call, w: Value) -> Value:
    """[O, I, k...] -> [O, k..., I]."""
    return c.transpose(w, (0, *range(2, c.rank(w)), 1))


# ---- convolution
@handles("Conv")
def conv(c: Call) -> Value:
    w = c.x(1)
    x = assume_rank(c, c.x(0), w)
    g = geometry(c, spatial_rank(c, x))
    return c.first(c.op("conv", c.last(x), filters(c, w), c.opt(2), groups=c.attr("group", 1), **g))


@handles("ConvTranspose")
def conv_transpose(c: Call) -> Value:
    w = c.x(1)
    x = assume_rank(c, c.x(0), w)
    n = spatial_rank(c, x)
    g = geometry(c, n)
    shape = c.ints("output_shape", ())
    extra = {"output_padding": c.ints("output_padding", ()), "output_shape": (shape or [])[-n:]}
    y = c.op("conv_transpose", c.last(x), filters(c, w), c.opt(2), groups=c.attr("group", 1), **g, **extra)
    return c.first(y)


@handles("ConvInteger")
def conv_integer(c: Call) -> Value:
    x, w = c.x(0), c.x(1)
    g = geometry(c, spatial_rank(c, x))
    zeros = [scalar_if_one(c, c.opt(i)) for i in (2, 3)]
    return c.first(c.op("conv_integer", c.last(x), filters(c, w), *zeros, groups=c.attr("group", 1), **g))


def scalar_if_one(c: Call, v: Value | None) -> Value | None:
    """A one-element vector as the scalar it stands for."""
    return c.op("reshape", v, c.i64()) if v is not None and v.shape == (1,) else v


@handles("DeformConv")
def deform_conv(c: Call) -> Value:
    x, w, offset, mask = c.x(0), c.x(1), c.x(2), c.opt(4)
    if spatial_rank(c, x) != 2:
        raise c.unsupported("deformable convolution in other than 2 spatial dims")
    g = geometry(c, 2)
    y = c.op(
        "deform_conv", c.last(x), filters(c, w), c.last(offset), c.opt(3), None if mask is None else c.last(mask),
        groups=c.attr("group", 1), offset_groups=c.attr("offset_group", 1), **g,
    )  # fmt: skip
    return c.first(y)


# ---- pooling
def _window(c: Call) -> dict[str, Any]:
    n = spatial_rank(c, c.x())
    kernel = c.ints("kernel_shape")
    if kernel is None or len(kernel) != n:
        raise FormatError(f"kernel_shape {kernel} for {n} spatial dims")
    return dict(kernel=kernel, ceil_mode=bool(c.attr("ceil_mode", 0)), **geometry(c, n))


@handles("MaxPool")
def max_pool(c: Call) -> Any:
    x, window = c.x(), _window(c)
    if not c.wants(1):
        return c.first(c.op("max_pool", c.last(x), outputs=1, **window)[0])
    nhwc = c.last(x)
    y, at = c.op("max_pool", nhwc, outputs=2, column_major=bool(c.attr("storage_order", 0)), **window)
    # ONNX counts positions over the whole [N, C, ...] tensor, we within one plane
    nc = c.op("shape_of", x, start=0, end=2)
    planes = c.op("range", c.const(np.int64(0)), c.op("reduce_prod", nc, None, keepdims=False), c.const(np.int64(1)))
    plane = c.op("reduce_prod", c.dims(x, 2), None, keepdims=False)
    ones = c.const(np.ones(c.rank(x) - 2, np.int64))
    base = c.op("reshape", c.op("mul", planes, plane), c.op("concat", nc, ones, axis=0))
    return [c.first(y), c.op("add", c.first(at), base)]


@handles("AveragePool")
def average_pool(c: Call) -> Value:
    window = _window(c)
    include = bool(c.attr("count_include_pad", 0))
    return c.first(c.op("avg_pool", c.last(c.x()), count_include_pad=include, **window))


@handles("LpPool")
def lp_pool(c: Call) -> Value:
    return c.first(c.op("lp_pool", c.last(c.x()), p=int(c.attr("p", 2)), **_window(c)))


@handles("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(c: Call) -> Value:
    x = c.x()
    rank = c.rank(x)
    if rank < 3:
        return x
    axes = c.i64(*range(1, rank - 1))
    if c.op_type != "GlobalLpPool":
        op = "reduce_mean" if c.op_type == "GlobalAveragePool" else "reduce_max"
        return c.first(c.op(op, c.last(x), axes))
    p = c.attr("p", 2)
    if p in (1, 2):
        return c.first(c.op("reduce_l1" if p == 1 else "reduce_l2", c.last(x), axes))
    powers = c.op("pow", c.op("abs", c.last(x)), c.scalar(p, x))
    return c.first(c.op("pow", c.op("reduce_sum", powers, axes), c.scalar(1 / p, x)))


@handles("MaxUnpool")
def max_unpool(c: Call) -> Value:
    x, at, shape = c.x(0), c.x(1), c.opt(2)
    n = spatial_rank(c, x)
    kernel = c.ints("kernel_shape") or []
    strides, pads = c.ints("strides") or [1] * n, c.ints("pads") or [0] * 2 * n
    if shape is not None:
        plane = c.op("reduce_prod", c.op("slice", shape, c.i64(2), c.i64(2 + n)), None, keepdims=False)
        shape = c.op("gather", shape, c.i64(0, *range(2, 2 + n), 1))
    else:
        sizes = c.op("mul", c.op("sub", c.dims(x, 2), c.i64(*[1] * n)), c.i64(*strides))
        if len(kernel) != n or len(pads) != 2 * n or len(strides) != n:
            raise FormatError(f"kernel_shape {kernel}, strides {strides}, pads {pads} for {n} spatial dims")
        left = [k - a - b for k, a, b in zip(kernel, pads[:n], pads[n:], strict=True)]
        plane = c.op("reduce_prod", c.op("add", sizes, c.i64(*left)), None, keepdims=False)
    at = c.op("mod", at, plane)  # ONNX counts positions over the whole tensor, we within one plane
    y = c.op("max_unpool", c.last(x), c.last(at), shape, kernel=kernel, strides=strides, pads=pads)
    return c.first(y)


# ---- normalisation
@handles("BatchNormalization", since=7)
def batch_norm(c: Call) -> Any:
    x, scale, bias, mean, var = (c.x(i) for i in range(5))
    epsilon = c.attr("epsilon", 1e-5)
    if c.attr("spatial", 1) == 0 and c.rank(x) > 2:
        raise c.unsupported("spatial = 0 (one mean per element); export with opset 9 or later")
    if not c.attr("training_mode", 0):
        return c.first(c.op("batch_norm", c.last(x), scale, bias, mean, var, epsilon=epsilon))
    rank = c.rank(x)
    y = c.last(x)
    axes = c.i64(*range(rank - 1))
    stat = c.cast(y, var.dtype)
    now_mean = c.op("reduce_mean", stat, axes, keepdims=False)
    now_var = c.op("reduce_mean", c.op("square", c.op("sub", stat, now_mean)), axes, keepdims=False)
    out = [c.first(c.op("batch_norm", y, scale, bias, now_mean, now_var, epsilon=epsilon))]
    momentum = c.attr("momentum", 0.9)
    for old, new in ((mean, now_mean), (var, now_var)):
        kept = c.op("mul", old, c.scalar(momentum, old))
        out.append(c.op("add", kept, c.op("mul", c.cast(new, old.dtype), c.scalar(1 - momentum, old))))
    return out


@handles("InstanceNormalization", since=6)
def instance_norm(c: Call) -> Value:
    x, scale, bias = c.x(0), c.x(1), c.x(2)
    if c.rank(x) < 2:
        raise FormatError(f"input 0 has shape {c.shape(x)}; expected images and channels at least")
    channels = c.shape(x)[1]
    if not isinstance(channels, int):
        channels = c.shape(scale)[0]
    if not isinstance(channels, int):
        raise c.unsupported(
            "the number of channels is not known. Give the shapes of the model's inputs (input_shapes=)"
        )
    return c.first(c.op("group_norm", c.last(x), scale, bias, groups=channels, epsilon=c.attr("epsilon", 1e-5)))


@handles("GroupNormalization")
def group_norm(c: Call) -> Value:
    x, scale, bias, groups = c.x(0), c.x(1), c.x(2), c.attr("num_groups")
    if c.since < 21:  # one scale per group
        scale, bias = (_per_channel(c, v, c.shape(x)[1], groups) for v in (scale, bias))
    return c.first(c.op("group_norm", c.last(x), scale, bias, groups=groups, epsilon=c.attr("epsilon", 1e-5)))


def _per_channel(c: Call, v: Value, channels: Any, groups: int) -> Value:
    if not isinstance(channels, int):
        raise c.unsupported(
            "the number of channels is not known. Give the shapes of the model's inputs (input_shapes=)"
        )
    wide = c.op("expand", c.op("unsqueeze", v, c.i64(1)), c.i64(groups, channels // groups))
    return c.reshape(wide, channels)


@handles("LayerNormalization", since=17)
def layer_norm(c: Call) -> Any:
    x, scale, bias = c.x(0), c.x(1), c.opt(2)
    axis, epsilon = c.attr("axis", -1), c.attr("epsilon", 1e-5)
    y = c.op("layer_norm", x, scale, bias, axis=axis, epsilon=epsilon)
    if not (c.wants(1) or c.wants(2)):
        return y
    axes = c.i64(*range(c.axis(axis, c.rank(x)), c.rank(x)))
    wide = c.cast(x, "float32") if c.attr("stash_type", 1) == 1 else x
    mean = c.op("reduce_mean", wide, axes)
    var = c.op("reduce_mean", c.op("square", c.op("sub", wide, mean)), axes)
    return [y, mean, c.op("rsqrt", c.op("add", var, c.scalar(epsilon, wide)))]


@handles("RMSNormalization")
def rms_norm(c: Call) -> Value:
    return c.op("rms_norm", c.x(0), c.x(1), axis=c.attr("axis", -1), epsilon=c.attr("epsilon", 1e-5))


@handles("LRN")
def lrn(c: Call) -> Value:
    attrs = dict(size=c.attr("size"), alpha=c.attr("alpha", 1e-4), beta=c.attr("beta", 0.75), bias=c.attr("bias", 1.0))
    return c.first(c.op("lrn", c.last(c.x()), **attrs))


# ---- sampling
@handles("GridSample")
def grid_sample(c: Call) -> Value:
    mode = c.attr("mode", "bilinear" if c.since < 20 else "linear")
    y = c.op(
        "grid_sample", c.last(c.x(0)), c.x(1), padding=c.attr("padding_mode", "zeros"),
        mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode), align_corners=bool(c.attr("align_corners", 0)),
    )  # fmt: skip
    return c.first(y)


@handles("RoiAlign")
def roi_align(c: Call) -> Value:
    coordinates = c.attr("coordinate_transformation_mode", "output_half_pixel" if c.since < 16 else "half_pixel")
    y = c.op(
        "roi_align", c.last(c.x(0)), c.x(1), c.x(2), mode=c.attr("mode", "avg"), half_pixel=coordinates == "half_pixel",
        output_height=c.attr("output_height", 1), output_width=c.attr("output_width", 1),
        sampling_ratio=c.attr("sampling_ratio", 0), spatial_scale=c.attr("spatial_scale", 1.0),
    )  # fmt: skip
    return c.first(y)
