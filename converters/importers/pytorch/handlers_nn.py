"""Convolutions, pools, norms, recurrent layers, attention, resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.pytorch.call import Call, handles
from deploykit.errors import UnsupportedError
from deploykit.graph import Value


def spread(values: list[int], n: int) -> tuple[int, ...]:
    """One number for all spatial dims, or one each."""
    return tuple(values * n if len(values) == 1 else values)


def batched(c: Call, x: Value, n: int) -> tuple[Value, bool]:
    """x with a batch dim, and whether it had to be added."""
    return (x, False) if c.rank(x) == n + 2 else (c.op("unsqueeze", x, c.i64(0)), True)


def unbatched(c: Call, y: Value, added: bool) -> Value:
    """y without the batch dim that was added."""
    return c.op("squeeze", y, c.i64(0)) if added else y


# ---- convolution
@handles("convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def convolution(c: Call) -> Value:
    w = c.x("weight")
    n = c.rank(w) - 2
    x, added = batched(c, c.x("input"), n)
    target = str(c.node.target)
    transposed = bool(c.args.get("transposed")) or "conv_transpose" in target
    groups = int(c.arg("groups"))
    attrs: dict[str, Any] = dict(
        strides=spread(c.ints("stride"), n), dilations=spread(c.ints("dilation"), n), groups=groups
    )
    pad = c.args["padding"]
    if isinstance(pad, str):
        if pad == "same":
            attrs["pad_mode"] = "same_upper"
    else:
        attrs["pads"] = spread(c.ints("padding"), n) * 2
    b = c.opt("bias")
    if not transposed:
        y = c.op("conv", c.last(x), c.last(w), b, **attrs)
    else:
        attrs["output_padding"] = spread(c.ints("output_padding"), n)
        y = c.op("conv_transpose", c.last(x), c.last(w), b, **attrs)
    return unbatched(c, c.first(y), added)


# ---- pools
@handles("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
         "max_pool1d_with_indices")  # fmt: skip
def max_pool(c: Call) -> Any:
    n = int(str(c.node.target).split("pool")[1][0])
    x, added = batched(c, c.x(), n)
    kernel = spread(c.ints("kernel_size"), n)
    attrs = dict(
        kernel=kernel,
        strides=spread(c.ints("stride"), n) or kernel,
        pads=spread(c.ints("padding"), n) * 2,
        dilations=spread(c.ints("dilation"), n),
        ceil_mode=bool(c.arg("ceil_mode")),
    )
    with_places = "indices" in str(c.node.target)
    got = c.op("max_pool", c.last(x), outputs=2 if with_places else 1, **attrs)
    out = [unbatched(c, c.first(g), added) for g in got]
    return out if with_places else out[0]


@handles("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(c: Call) -> Value:
    n = int(str(c.node.target).split("pool")[1][0])
    x, added = batched(c, c.x(), n)
    if c.args.get("divisor_override") is not None:
        raise UnsupportedError("divisor_override")
    kernel = spread(c.ints("kernel_size"), n)
    y = c.op(
        "avg_pool",
        c.last(x),
        kernel=kernel,
        strides=spread(c.ints("stride"), n) or kernel,
        pads=spread(c.ints("padding"), n) * 2,
        ceil_mode=bool(c.arg("ceil_mode")),
        count_include_pad=bool(c.arg("count_include_pad")),
    )
    return unbatched(c, c.first(y), added)


@handles("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
         "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool1d")  # fmt: skip
def adaptive_pool(c: Call) -> Any:
    """Window i covers [floor(i * n / out), ceil((i + 1) * n / out))."""
    target = str(c.node.target)
    n = int(target.split("pool")[1][0])
    largest = "max" in target
    x, added = batched(c, c.x(), n)
    out = spread(c.ints("output_size"), n)
    y = c.last(x)
    if all(o == 1 for o in out):
        y = c.op("reduce_max" if largest else "reduce_mean", y, c.i64(*range(1, n + 1)))
    else:
        size = c.shape(y)[1:-1]
        if not all(isinstance(s, int) for s in size):
            raise UnsupportedError("adaptive pooling of open sizes to more than 1; export with fixed sizes")
        if all(s % o == 0 for s, o in zip(size, out, strict=True)):
            k = tuple(s // o for s, o in zip(size, out, strict=True))
            pool = (
                c.op("max_pool", y, outputs=1, kernel=k, strides=k)
                if largest
                else c.op("avg_pool", y, kernel=k, strides=k)
            )
            y = pool[0] if largest else pool
        elif largest:
            raise UnsupportedError("adaptive max pooling to a size that does not divide the input")
        else:  # each dim by a small matrix of averages
            for i, (s, o) in enumerate(zip(size, out, strict=True)):
                y = averaged(c, y, i + 1, s, o)
    y = unbatched(c, c.first(y), added)
    return [y, None] if largest else y


def averaged(c: Call, x: Value, axis: int, size: int, out: int) -> Value:
    """One dim pooled adaptively: x times a [size, out] matrix of window weights."""
    m = np.zeros((size, out), np.float32)
    for i in range(out):
        a, b = i * size // out, -(-(i + 1) * size // out)
        m[a:b, i] = 1 / (b - a)
    r = c.rank(x)
    perm = [i for i in range(r) if i != axis] + [axis]
    back = [perm.index(i) for i in range(r)]
    y = c.op("matmul", c.op("transpose", x, perm=tuple(perm)), c.cast(c.const(m), x.dtype))
    return c.op("transpose", y, perm=tuple(back))


# ---- norms
@handles(
    "_native_batch_norm_legit_no_training", "batch_norm", "_batch_norm_with_update_functional", "native_batch_norm",
    "_native_batch_norm_legit",
)  # fmt: skip
def batch_norm(c: Call) -> Any:
    if c.args.get("training"):
        raise UnsupportedError("batch norm in training mode; call model.eval() before the export")
    x = c.x("input")
    mean, var = c.x("running_mean"), c.x("running_var")
    one, zero = (c.const(np.full(c.shape(mean), v, np.float32)) for v in (1, 0))
    w, b = c.opt("weight") or c.cast(one, x.dtype), c.opt("bias") or c.cast(zero, x.dtype)
    y = c.op("batch_norm", c.last(x), w, b, mean, var, epsilon=float(c.arg("eps")))
    y = c.first(y)
    return y if ".batch_norm." in str(c.node.target) else [y, None, None]


@handles("_native_batch_norm_legit.no_stats")
def batch_norm_of_batch(c: Call) -> list[Value]:
    """By the mean and variance of what comes in, whatever the mode; (result, mean, 1 / deviation)."""
    x = c.x("input")
    axes = c.i64(*(i for i in range(c.rank(x)) if i != 1))
    mean = c.op("reduce_mean", x, axes, keepdims=True)
    d = c.op("sub", x, mean)
    variance = c.op("reduce_mean", c.op("square", d), axes, keepdims=True)
    scale = c.op("rsqrt", c.op("add", variance, c.scalar(c.arg("eps"), x)))
    y = c.op("mul", d, scale)
    for name, op in (("weight", "mul"), ("bias", "add")):
        v = c.opt(name)
        if v is not None:
            y = c.op(op, y, c.reshape(v, -1, *[1] * (c.rank(x) - 2)))
    return [y, c.reshape(mean, -1), c.reshape(scale, -1)]


@handles("native_layer_norm", "layer_norm")
def layer_norm(c: Call) -> Any:
    x = c.x("input")
    axis = c.rank(x) - len(c.arg("normalized_shape"))
    y = c.op("layer_norm", x, c.opt("weight"), c.opt("bias"), axis=axis, epsilon=float(c.arg("eps")))
    return y if ".layer_norm." in str(c.node.target) else [y, None, None]


@handles("rms_norm", "_fused_rms_norm")
def rms_norm(c: Call) -> Any:
    x = c.x("input")
    axis = c.rank(x) - len(c.arg("normalized_shape"))
    eps = c.args.get("eps")
    assert x.dtype is not None
    eps = float(np.finfo(x.dtype.np).eps) if eps is None else float(eps)
    y = c.op("rms_norm", x, c.opt("weight"), axis=axis, epsilon=eps)
    return [y, None] if "_fused" in str(c.node.target) else y


@handles("native_group_norm", "group_norm")
def group_norm(c: Call) -> Any:
    x = c.x("input")
    groups = c.number("group" if "group" in c.args else "num_groups")
    y = c.op("group_norm", c.last(x), c.opt("weight"), c.opt("bias"), groups=groups, epsilon=float(c.arg("eps")))
    y = c.first(y)
    return y if ".group_norm." in str(c.node.target) else [y, None, None]


@handles("instance_norm")
def instance_norm(c: Call) -> Value:
    x = c.x("input")
    if not c.arg("use_input_stats"):
        raise UnsupportedError("instance norm with running statistics")
    channels = c.shape(x)[1]
    if not isinstance(channels, int):
        raise UnsupportedError("an open number of channels")
    y = c.op("group_norm", c.last(x), c.opt("weight"), c.opt("bias"), groups=channels, epsilon=float(c.arg("eps")))
    return c.first(y)


@handles("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax")
def softmax(c: Call) -> Value:
    op = "log_softmax" if "log_softmax" in str(c.node.target) else "softmax"
    x = c.x("self", c.dtype)
    return x if c.rank(x) == 0 else c.op(op, x, axis=c.dim())


@handles("dropout", "native_dropout", "feature_dropout", "alpha_dropout")
def dropout(c: Call) -> Any:
    if c.args.get("train"):
        raise UnsupportedError("dropout in training mode; call model.eval() before the export")
    x = c.x("input")
    return [x, None] if "native" in str(c.node.target) else x


# ---- attention
@handles("scaled_dot_product_attention")
def attention(c: Call) -> Value:
    """Causal masks count from the first key here, and from the last in our op: the same for equal lengths."""
    q, k, v = c.x("query"), c.x("key"), c.x("value")
    mask = c.opt("attn_mask")
    scale = c.args.get("scale")
    if c.arg("dropout_p"):
        raise UnsupportedError("dropout in attention; call model.eval() before the export")
    causal = bool(c.arg("is_causal"))
    if causal:
        rows, cols = c.shape(q)[-2], c.shape(k)[-2]
        if rows != cols:
            if not isinstance(rows, int) or not isinstance(cols, int):
                raise UnsupportedError(
                    "is_causal with query and key of different open lengths; give the mask as an input"
                )
            mask, causal = c.const(np.tri(rows, cols, dtype=bool)), False
    if mask is not None and mask.dtype is not dtypes.bool_ and mask.dtype is not q.dtype:
        mask = c.cast(mask, q.dtype)
    return c.op("attention", q, k, v, mask, scale=0.0 if scale is None else float(scale), causal=causal)


# ---- recurrent
def stacked(c: Call, gates: list[Value], order: tuple[int, ...]) -> Value:
    """Weights of the directions [D, gates * H, ...] with torch's gates in our order."""
    out = []
    for w in gates:
        if w.data is None:
            raise UnsupportedError("recurrent weights computed at run time")
        parts = np.split(w.data, len(order))
        out.append(np.concatenate([parts[i] for i in order]))
    return c.const(np.stack(out))


_KINDS = {"lstm": (8, (0, 3, 1, 2)), "gru": (6, (1, 0, 2)), "rnn_tanh": (2, (0,)), "rnn_relu": (2, (0,))}


@handles("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def recurrent(c: Call) -> list[Value]:
    """Layers one after the other; torch's gates are i f g o (LSTM) and r z n (GRU, reset after the product)."""
    kind = str(c.node.target).split(".")[1]
    order = _KINDS[kind][1]
    x = c.x("input")
    if c.rank(x) != 3:
        raise UnsupportedError("recurrent layers without a batch dim")
    first, both = bool(c.arg("batch_first")), bool(c.arg("bidirectional"))
    layers, biases = c.number("num_layers"), bool(c.arg("has_biases"))
    if c.arg("train") and c.arg("dropout"):
        raise UnsupportedError("dropout between layers in training mode; call model.eval() before the export")
    state = c.arg("hx")
    state = state if isinstance(state, list) else [state]
    weights: list[Value] = c.arg("params")
    ways = 2 if both else 1
    per = 4 if biases else 2
    if len(weights) != layers * ways * per:
        raise UnsupportedError("LSTM with projections")
    if first:
        x = c.op("transpose", x, perm=(1, 0, 2))
    last: list[list[Value]] = [[] for _ in state]
    for layer in range(layers):
        group = weights[layer * ways * per : (layer + 1) * ways * per]
        parts = [group[d * per : (d + 1) * per] for d in range(ways)]
        w, r = (stacked(c, [p[i] for p in parts], order) for i in (0, 1))
        b = None
        if biases:
            bi, bh = (stacked(c, [p[i] for p in parts], order) for i in (2, 3))
            assert bi.data is not None and bh.data is not None
            b = c.const(np.concatenate([bi.data, bh.data], 1))
        cut = [
            c.op("slice", s, c.i64(layer * ways), c.i64((layer + 1) * ways), c.i64(0)) if layers > 1 else s
            for s in state
        ]
        direction = "bidirectional" if both else "forward"
        if kind == "lstm":
            y, *ends = c.op("lstm", x, w, r, b, None, *cut, outputs=3, direction=direction)
        elif kind == "gru":
            y, *ends = c.op("gru", x, w, r, b, None, *cut, outputs=2, direction=direction, linear_before_reset=True)
        else:
            act = ",".join(["Relu" if kind == "rnn_relu" else "Tanh"] * ways)
            y, *ends = c.op("rnn", x, w, r, b, None, *cut, outputs=2, direction=direction, activations=act)
        for store, e in zip(last, ends, strict=True):
            store.append(e)
        # [steps, D, batch, hidden] -> [steps, batch, D * hidden]
        hidden = c.shape(r)[-1]
        x = c.op("reshape", c.op("transpose", y, perm=(0, 2, 1, 3)), c.i64(0, 0, ways * hidden))
    if first:
        x = c.op("transpose", x, perm=(1, 0, 2))
    return [x, *(s[0] if len(s) == 1 else c.op("concat", *s, axis=0) for s in last)]


# ---- resizing
@handles("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d",
         "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa")  # fmt: skip
def upsample(c: Call) -> Value:
    target = str(c.node.target)
    x = c.x("self" if "self" in c.args else "input")
    n = c.rank(x) - 2
    if "_aa" in target:
        raise UnsupportedError("antialiased resizing")
    cubic, nearest = "bicubic" in target, "nearest" in target
    attrs: dict[str, Any] = dict(
        mode="cubic" if cubic else "nearest" if nearest else "linear", axes=tuple(range(1, n + 1))
    )
    if nearest:
        exact = "exact" in target
        attrs |= (
            dict(coordinates="half_pixel", nearest="round_prefer_ceil")
            if exact
            else dict(coordinates="asymmetric", nearest="floor")
        )
    else:
        attrs["coordinates"] = "align_corners" if c.arg("align_corners") else "half_pixel"
    if cubic:
        attrs["cubic_a"] = -0.75
    factors = c.args.get("scale_factors")
    if factors is None and "scales_h" in c.args and c.args["scales_h"] is not None:
        factors = [c.args["scales_h"], c.args["scales_w"]]
    size = c.args.get("output_size")
    y = c.last(x)
    if size is not None and not factors:
        y = c.op("resize", y, None, None, c.vector(c.arg("output_size")), **attrs)
    else:
        y = c.op("resize", y, None, c.const(np.array(factors, np.float32)), **attrs)
    return c.first(y)


@handles("pixel_shuffle")
def pixel_shuffle(c: Call) -> Value:
    return c.first(c.op("depth_to_space", c.last(c.x()), block=c.number("upscale_factor"), mode="crd"))


@handles("pixel_unshuffle")
def pixel_unshuffle(c: Call) -> Value:
    return c.first(c.op("space_to_depth", c.last(c.x()), block=c.number("downscale_factor"), mode="crd"))


@handles("grid_sampler_2d", "grid_sampler")
def grid_sampler(c: Call) -> Value:
    mode = {0: "linear", 1: "nearest", 2: "cubic"}[c.number("interpolation_mode")]
    padding = {0: "zeros", 1: "border", 2: "reflection"}[c.number("padding_mode")]
    y = c.op(
        "grid_sample",
        c.last(c.x("input")),
        c.x("grid"),
        mode=mode,
        padding=padding,
        align_corners=bool(c.arg("align_corners")),
    )
    return c.first(y)


@handles("embedding")
def embedding(c: Call) -> Value:
    return c.op("gather", c.x("weight"), c.x("indices"), axis=0)


@handles("im2col")
def im2col(c: Call) -> Value:
    """torch's unfold: [N, C * kh * kw, L], channels before the places of the kernel."""
    x = c.x()
    kernel = tuple(c.ints("kernel_size"))
    y = c.op(
        "im2col",
        c.last(x),
        kernel=kernel,
        strides=spread(c.ints("stride"), 2),
        pads=spread(c.ints("padding"), 2) * 2,
        dilations=spread(c.ints("dilation"), 2),
    )  # [N, OH, OW, k * C], C innermost
    channels = c.shape(x)[1]
    if not isinstance(channels, int):
        raise UnsupportedError("an open number of channels")
    k = math.prod(kernel)
    y = c.reshape(y, 0, -1, k, channels)
    return c.reshape(c.op("transpose", y, perm=(0, 3, 2, 1)), 0, k * channels, -1)


@handles("col2im")
def col2im(c: Call) -> Value:
    return c.op(
        "col2im",
        c.x(),
        c.vector(c.arg("output_size")),
        c.vector(c.arg("kernel_size")),
        dilations=spread(c.ints("dilation"), 2),
        pads=spread(c.ints("padding"), 2) * 2,
        strides=spread(c.ints("stride"), 2),
    )


@handles("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(c: Call) -> list[Any]:
    """Rows folded bag by bag: a bag begins at each offset."""
    weight, at, offsets = c.x("weight"), c.x("indices"), c.x("offsets")
    if c.args.get("padding_idx", -1) not in (None, -1):
        raise UnsupportedError("a padding index in bags")
    if c.args.get("include_last_offset"):
        offsets = c.op("slice", offsets, c.i64(0), c.i64(-1), c.i64(0))
    rows = c.op("gather", weight, at, axis=0)
    mode = c.number("mode")
    if c.args.get("per_sample_weights") is not None:
        rows = c.op("mul", rows, c.op("unsqueeze", c.x("per_sample_weights"), c.i64(-1)))
    places = c.op("range", c.const(np.int64(0)), c.reshape(c.dims(at, 0, 1)), c.const(np.int64(1)))
    begun = c.op("less_equal", c.cast(offsets, "int64"), c.op("unsqueeze", places, c.i64(-1)))
    bag = c.op("sub", c.op("reduce_sum", c.cast(begun, "int64"), c.i64(1)), c.const(np.int64(1)))  # [n, 1]
    shape = c.op("concat", c.dims(offsets, 0, 1), c.dims(rows, 1, 2), axis=0)
    zeros = c.op("fill", shape, c.scalar(0, rows))
    if mode == 2:
        low = c.op("fill", shape, c.scalar(-np.inf, rows))
        y = c.op("scatter_nd", low, bag, rows, reduction="max")
        return [c.op("where", c.op("is_inf", y), zeros, y), None, None, None]
    y = c.op("scatter_nd", zeros, bag, rows, reduction="add")
    if mode == 1:
        ones = c.op("fill", c.dims(at, 0, 1), c.scalar(1, rows))
        counts = c.op("scatter_nd", c.op("fill", c.dims(offsets, 0, 1), c.scalar(0, rows)), bag, ones, reduction="add")
        y = c.op("div", y, c.op("unsqueeze", c.op("maximum", counts, c.scalar(1, rows)), c.i64(-1)))
    return [y, None, None, None]
