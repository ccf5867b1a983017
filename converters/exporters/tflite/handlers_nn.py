"""Convolutions, pools, resizing, recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite.exporter import Site, exports
from deploykit.converters.exporters.tflite.handlers_math import real, tail
from deploykit.errors import UnsupportedError
from deploykit.graph import Dim
from deploykit.ops.core import F, get
from deploykit.ops.windows import Window, window

_ACTS = {"none": 0, "relu": 1, "relu6": 3}


def geometry(s: Site, kernel: tuple[int, ...], dilations: tuple[int, ...] = (), ceil: bool = False) -> Window:
    """The complete window of a conv or pool."""
    t = s.attrs
    return window(
        s.shape()[1:-1], kernel, t["strides"], dilations or t.get("dilations", ()), t["pads"], t["pad_mode"], ceil
    )


def padding(s: Site, w: Window) -> tuple[int, tuple[int, ...] | None]:
    """(0 SAME or 1 VALID, pads to make first or None): SAME where it means what we want."""
    n = len(w.kernel)
    size = s.shape()[1:-1]
    same = window(size, w.kernel, w.strides, w.dilations, (), "same_upper")
    if s.attrs["pad_mode"] == "same_upper" or (same.before == w.before and same.out == w.out):
        return 0, None
    reach = [
        (o - 1) * st + di * (k - 1) + 1 for o, st, di, k in zip(w.out, w.strides, w.dilations, w.kernel, strict=True)
    ]
    pads = (*w.before, *(r - d - b for r, d, b in zip(reach, size, w.before, strict=True)))  # what the windows see
    if not all(isinstance(p, int) for p in pads):
        if s.attrs["pad_mode"] != "explicit" or s.attrs.get("ceil_mode"):
            raise UnsupportedError(f"{s.attrs['pad_mode']} padding of open sizes; fix them with --input-shape")
        pads = tuple(s.attrs["pads"]) or (0,) * 2 * n
    pads = tuple(max(int(p), 0) for p in pads)  # type: ignore[arg-type]
    return 1, pads if any(pads) else None


def padded(s: Site, pads: tuple[int, ...], value: float | None = None) -> int:
    """Input 0 with its spatial dims padded."""
    n = len(pads) // 2
    rows = [(0, 0), *zip(pads[:n], pads[n:], strict=True), (0, 0)]
    shape = [d + a + b for d, (a, b) in zip(s.shape(), rows, strict=True)]
    x = s.x(0)
    assert x.dtype is not None
    scale = s.sub.exporter.scales.get(x)
    out = s.temp(x.dtype, [d if isinstance(d, int) else None for d in shape], scale=scale)
    if value is None:
        s.emit("PAD", [s.get(0), s.sub.i32(rows)], [out], "PadOptions")
    else:
        fill = s.sub.constant(np.array(value, x.dtype.np), scale=scale)
        s.emit("PADV2", [s.get(0), s.sub.i32(rows), fill], [out], "PadV2Options")
    return out


@exports("conv")
def conv(s: Site) -> None:
    real(s)
    t = s.attrs
    w = s.x(1)
    rank = len(s.shape())
    if w.data is None:
        raise UnsupportedError("weights computed at run time")
    if rank == 3:
        s.compose(lambda *xs: _conv_1d(t, *xs))
        return
    if t["act"] not in _ACTS or s.value(3) is not None:
        s.compose(lambda *xs: _split(t, *xs))
        return
    kernel = w.data.shape[1:-1]
    g = geometry(s, kernel)
    pad, first = padding(s, g)
    x = s.get(0) if first is None else padded(s, first)
    bias = s.get(2) if s.value(2) is not None else s.sub.constant(np.zeros(w.data.shape[0], np.float32))
    act = _ACTS[t["act"]]
    cin = s.shape()[-1]
    if rank == 5:
        if t["groups"] != 1:
            raise UnsupportedError("grouped convolution over three dims")
        d, h, wd = g.strides
        a, b, c = g.dilations
        weights = s.sub.constant(np.ascontiguousarray(w.data.transpose(1, 2, 3, 4, 0)), w.name)
        s.emit(
            "CONV_3D", [x, weights, bias], [s.result()], "Conv3DOptions",
            padding=pad, stride_d=d, stride_h=h, stride_w=wd, fused_activation_function=act,
            dilation_d_factor=a, dilation_h_factor=b, dilation_w_factor=c,
        )  # fmt: skip
        return
    common = dict(
        padding=pad, stride_h=g.strides[0], stride_w=g.strides[1], fused_activation_function=act,
        dilation_h_factor=g.dilations[0], dilation_w_factor=g.dilations[1],
    )  # fmt: skip
    if t["groups"] == cin and t["groups"] > 1 and w.data.shape[-1] == 1:
        weights = s.sub.constant(np.ascontiguousarray(w.data.transpose(3, 1, 2, 0)), w.name)
        multiplier = w.data.shape[0] // t["groups"]
        kind = "DepthwiseConv2DOptions"
        s.emit("DEPTHWISE_CONV_2D", [x, weights, bias], [s.result()], kind, depth_multiplier=multiplier, **common)
        return
    s.emit("CONV_2D", [x, s.get(1), bias], [s.result()], "Conv2DOptions", **common)


def _plain(t: dict[str, Any]) -> dict[str, Any]:
    return {k: t[k] for k in ("strides", "dilations", "pads", "pad_mode", "groups")}


def _split(t: dict[str, Any], x: Any, w: Any, bias: Any = None, residual: Any = None) -> Any:
    return tail(t, F.conv(x, w, bias, **_plain(t)), residual)


def _conv_1d(t: dict[str, Any], x: Any, w: Any, bias: Any = None, residual: Any = None) -> Any:
    """Over one dim: as an image of height 1."""
    p = _plain(t)
    wide = dict(
        p, strides=(1, *p["strides"]) if p["strides"] else (), dilations=(1, *p["dilations"]) if p["dilations"] else ()
    )
    if p["pads"]:
        wide["pads"] = (0, p["pads"][0], 0, p["pads"][1])
    y = F.conv(F.unsqueeze(x, [1]), np.ascontiguousarray(w.data[:, None]), bias, **wide)
    return tail(t, F.squeeze(y, [1]), residual)


@exports("conv_transpose")
def conv_transpose(s: Site) -> None:
    """TRANSPOSE_CONV knows SAME and VALID: other paddings are cut off a VALID result."""
    real(s)
    t = s.attrs
    w = s.x(1)
    rank = len(s.shape())
    if w.data is None:
        raise UnsupportedError("weights computed at run time")
    if rank == 3:
        s.compose(lambda *xs: _conv_transpose_1d(t, *xs))
        return
    if rank != 4 or t["groups"] != 1 or any(d != 1 for d in t["dilations"]):
        raise UnsupportedError("transposed convolution with groups, dilation or three spatial dims")
    if t["act"] not in _ACTS:
        plain = {k: v for k, v in t.items() if not k.startswith("act")}
        s.compose(lambda x, w, b=None: tail(t, F.conv_transpose(x, w, b, **plain), None))
        return
    size, out = s.shape()[1:3], s.sub.shape_of(s.node.output)
    if not all(isinstance(d, int) for d in (*size, *out[1:])):
        raise UnsupportedError("height and width are open; fix them with --input-shape")
    strides = tuple(t["strides"]) or (1, 1)
    kernel = w.data.shape[1:3]
    full = [(d - 1) * st + k for d, st, k in zip(size, strides, kernel, strict=True)]
    before = _transposed_pads(t, size, out, full)
    weights = s.sub.constant(np.ascontiguousarray(w.data.transpose(3, 1, 2, 0)), w.name)
    bias = [s.get(2)] if s.value(2) is not None else []
    act = _ACTS[t["act"]]
    same = all(-(-o // st) == d for o, st, d in zip(out[1:3], strides, size, strict=True)) and all(
        b == max((d - 1) * st + k - o, 0) // 2 and f >= o
        for b, d, st, k, o, f in zip(before, size, strides, kernel, out[1:3], full, strict=True)
    )
    common = dict(stride_h=strides[0], stride_w=strides[1], fused_activation_function=act)
    batch = out[0]
    if same or (before == [0, 0] and list(out[1:3]) == full):
        target = _target(s, [*out[1:3], out[3]], batch)
        pad = 0 if same and not (before == [0, 0] and list(out[1:3]) == full) else 1
        s.emit(
            "TRANSPOSE_CONV",
            [target, weights, s.get(0), *bias],
            [s.result()],
            "TransposeConvOptions",
            padding=pad,
            **common,
        )
        return
    if any(b + o > f for b, o, f in zip(before, out[1:3], full, strict=True)) and bias:
        raise UnsupportedError("output padding together with a bias")
    room = [max(b + o, f) for b, o, f in zip(before, out[1:3], full, strict=True)]
    whole = s.temp(dtypes.float32, [batch if isinstance(batch, int) else None, *room, out[3]])
    s.emit(
        "TRANSPOSE_CONV",
        [_target(s, [*room, out[3]], batch), weights, s.get(0), *bias],
        [whole],
        "TransposeConvOptions",
        padding=1,
        **common,
    )
    begin = s.sub.i32([0, *before, 0])
    s.emit("SLICE", [whole, begin, s.sub.i32([-1, *out[1:3], -1])], [s.result()], "SliceOptions")


def _transposed_pads(t: dict[str, Any], size: Any, out: Any, full: list[int]) -> list[int]:
    """What is cut off in front of each spatial dim."""
    extra = tuple(t["output_padding"]) or (0, 0)
    before = []
    for i in range(2):
        if t["output_shape"] or t["pad_mode"] != "explicit":
            total = max(full[i] + extra[i] - out[1 + i], 0)
            before.append(total // 2 if t["pad_mode"] == "same_upper" else total - total // 2)
        else:
            before.append(t["pads"][i] if t["pads"] else 0)
    return before


def _target(s: Site, sizes: list[Any], batch: Any) -> int:
    """The output shape as TRANSPOSE_CONV wants it; an open batch is read off the input."""
    if isinstance(batch, int):
        return s.sub.i32([batch, *sizes])
    shape = s.temp(dtypes.int32, [4])
    s.emit("SHAPE", [s.get(0)], [shape], "ShapeOptions", out_type=2)
    first = s.temp(dtypes.int32, [1])
    s.emit("SLICE", [shape, s.sub.i32([0]), s.sub.i32([1])], [first], "SliceOptions")
    whole = s.temp(dtypes.int32, [4])
    s.emit("CONCATENATION", [first, s.sub.i32(sizes)], [whole], "ConcatenationOptions", axis=0)
    return whole


def _conv_transpose_1d(t: dict[str, Any], x: Any, w: Any, bias: Any = None) -> Any:
    wide = {k: v for k, v in t.items() if not k.startswith("act")}
    for k, one in (("strides", 1), ("dilations", 1), ("output_padding", 0), ("output_shape", 1)):
        wide[k] = (one, *t[k]) if t[k] else ()
    if t["pads"]:
        wide["pads"] = (0, t["pads"][0], 0, t["pads"][1])
    y = F.conv_transpose(F.unsqueeze(x, [1]), np.ascontiguousarray(w.data[:, None]), bias, **wide)
    return tail(t, F.squeeze(y, [1]), None)


# ---- pools
@exports("max_pool", "avg_pool")
def pool(s: Site) -> None:
    t = s.attrs
    op = s.node.op
    if op != "max_pool" or s.x(0).dtype not in (dtypes.int8, dtypes.uint8):
        real(s)
    if op == "max_pool" and len(s.node.outputs) > 1 and s.node.outputs[1] is not None:
        raise UnsupportedError("positions of the largest")
    rank = len(s.shape())
    if rank == 3:
        s.compose(lambda x: F.squeeze(_one_row(op, t, F.unsqueeze(x, [1])), [1]))
        return
    if rank != 4:
        raise UnsupportedError(f"over {rank - 2} dims")
    if any(d != 1 for d in t["dilations"]):
        raise UnsupportedError("with dilation")
    g = geometry(s, t["kernel"], ceil=t["ceil_mode"])
    name = "MAX_POOL_2D" if op == "max_pool" else "AVERAGE_POOL_2D"
    options: dict[str, Any] = dict(
        stride_h=g.strides[0], stride_w=g.strides[1], filter_height=g.kernel[0], filter_width=g.kernel[1]
    )
    pad, first = padding(s, g)
    counted = op == "avg_pool" and t["count_include_pad"]
    if op == "avg_pool" and pad == 0 and counted and any(p != 0 for p in (*g.before, *g.after)):
        pads = (*g.before, *g.after)  # SAME does not count padding
        if not all(isinstance(p, int) for p in pads):
            raise UnsupportedError("counted padding of open sizes")
        pad, first = 1, tuple(max(int(p), 0) for p in pads)
    if first is None:
        s.emit(name, [s.get(0)], [s.result()], "Pool2DOptions", padding=pad, **options)
        return
    if op == "max_pool":
        d = s.x(0).dtype
        least = np.finfo(np.float32).min if d is dtypes.float32 else np.iinfo(d.np).min  # type: ignore[union-attr]
        x = padded(s, first, float(least))
        s.emit(name, [x], [s.result()], "Pool2DOptions", padding=1, **options)
        return
    factor = _counts(s, g, first, counted)
    x = padded(s, first)
    if factor is None:
        s.emit(name, [x], [s.result()], "Pool2DOptions", padding=1, **options)
        return
    y = s.temp(dtypes.float32, [d if isinstance(d, int) else None for d in s.sub.shape_of(s.node.output)])
    s.emit(name, [x], [y], "Pool2DOptions", padding=1, **options)
    s.emit("MUL", [y, s.sub.constant(factor)], [s.result()], "MulOptions")


def _one_row(op: str, t: dict[str, Any], x: Any) -> Any:
    wide = dict(t)
    for k in ("kernel", "strides", "dilations"):
        wide[k] = (1, *t[k]) if t[k] else ()
    if t["pads"]:
        wide["pads"] = (0, t["pads"][0], 0, t["pads"][1])
    if op == "max_pool":
        return F.max_pool(x, **wide)[0]
    return F.avg_pool(x, **wide)


def _counts(s: Site, g: Window, pads: tuple[int, ...], counted: bool) -> np.ndarray | None:
    """Kernel size / number of elements that count, per place; None where that is 1 everywhere."""
    size = s.shape()[1:-1]
    if not all(isinstance(d, int) for d in (*size, *g.out)):
        if counted and not s.attrs["ceil_mode"]:
            return None
        raise UnsupportedError("padding of an average over open sizes; fix them with --input-shape")
    explicit = tuple(s.attrs["pads"]) or (0,) * 4 if s.attrs["pad_mode"] == "explicit" else (*g.before, *g.after)
    rows = []
    for i in range(2):
        starts = np.arange(g.out[i]) * g.strides[i] - pads[i]
        low, high = (-explicit[i], size[i] + explicit[2 + i]) if counted else (0, size[i])
        n = np.minimum(starts + g.kernel[i], high) - np.maximum(starts, low)
        rows.append(g.kernel[i] / np.maximum(n, 1))
    factor = (rows[0][:, None] * rows[1][None, :])[None, :, :, None].astype(np.float32)
    return None if np.all(factor == 1) else factor


# ---- resizing
@exports("resize")
def resize(s: Site) -> None:
    real(s)
    t = s.attrs
    shape, out = s.shape(), s.sub.shape_of(s.node.output)
    if len(shape) != 4 or (t["axes"] and tuple(a % 4 for a in t["axes"]) != (1, 2)):
        if t["axes"] or len(shape) != 4 or shape[0] != out[0] or shape[3] != out[3]:
            raise UnsupportedError("of other dims than height and width")
    if t["aspect"] != "stretch":
        raise UnsupportedError(f"aspect {t['aspect']}")
    if t["mode"] == "cubic" or t["antialias"] or t["coordinates"] == "tf_crop_and_resize":
        raise UnsupportedError(f"mode {t['mode']}, coordinates {t['coordinates']}, antialias {t['antialias']}")
    size = s.static(3, "the size") if s.value(3) is not None else None
    sizes = [d if isinstance(d, int) else None for d in out[1:3]]
    if None in sizes:
        if s.value(3) is None:
            raise UnsupportedError("by a factor, of open sizes; fix them with --input-shape")
        target = s.as_i32(3)
    else:
        target = s.sub.i32(sizes)
    where = t["coordinates"]
    exact = _exact_scales(s, shape, out, size)
    if where == "pytorch_half_pixel" and all(isinstance(d, int) and d > 1 for d in out[1:3]):
        where = "half_pixel"
    if where == "half_pixel_symmetric" and exact:
        where = "half_pixel"
    if where not in ("half_pixel", "align_corners", "asymmetric") or not exact:
        raise UnsupportedError(f"coordinates {t['coordinates']} with these sizes")
    flags = dict(align_corners=where == "align_corners", half_pixel_centers=where == "half_pixel")
    if t["mode"] == "linear":
        s.emit("RESIZE_BILINEAR", [s.get(0), target], [s.result()], "ResizeBilinearOptions", **flags)
        return
    wanted = {"half_pixel": "round_prefer_ceil", "align_corners": "round_prefer_ceil", "asymmetric": "floor"}[where]
    if t["nearest"] != wanted and not _never_halves(s, shape, out, where):
        raise UnsupportedError(f"nearest element by {t['nearest']} with coordinates {where}")
    if t["nearest"] == "floor" and where != "asymmetric" or t["nearest"] == "ceil":
        raise UnsupportedError(f"nearest element by {t['nearest']} with coordinates {where}")
    if where == "asymmetric" and t["nearest"] not in ("floor",):
        raise UnsupportedError(f"nearest element by {t['nearest']} with coordinates asymmetric")
    s.emit("RESIZE_NEAREST_NEIGHBOR", [s.get(0), target], [s.result()], "ResizeNearestNeighborOptions", **flags)


def _exact_scales(s: Site, shape: Any, out: Any, size: Any) -> bool:
    """Whether output / input is the factor the op uses (factors that are cut to a size differ)."""
    scales = s.data(2)
    if s.value(2) is None:
        return True
    if scales is None:
        return False
    spatial = scales.reshape(-1)[-3:-1] if scales.size == 4 else scales.reshape(-1)
    pairs = zip(spatial, shape[1:3], out[1:3], strict=True)
    return all(isinstance(a, int) and isinstance(b, int) and abs(float(f) * a - b) < 1e-4 for f, a, b in pairs)


def _never_halves(s: Site, shape: Any, out: Any, where: str) -> bool:
    """Whether no coordinate lies halfway between two elements, so that all ways to round agree."""
    for a, b in zip(shape[1:3], out[1:3], strict=True):
        if isinstance(a, Dim) or isinstance(b, Dim):
            return False
        i = np.arange(b)
        x = (i + 0.5) * a / b - 0.5 if where == "half_pixel" else i * (a - 1) / max(b - 1, 1)
        if np.any(np.isclose(x - np.floor(x), 0.5)):
            return False
    return True


# ---- recurrent
MOST_STEPS = 256  # written out


@exports("gru", "rnn")
def unrolled(s: Site) -> None:
    """A recurrent layer that TFLite has no operator for, step by step as its passport decomposes it."""
    steps = s.shape()[1 if s.attrs["batch_first"] else 0]
    if not isinstance(steps, int) or steps > MOST_STEPS:
        raise UnsupportedError(
            f"over {steps} steps; known and at most {MOST_STEPS} are written out. Fix it with --input-shape"
        )
    take_apart = get(s.node.op).decompose
    assert take_apart is not None
    s.compose(lambda *xs: take_apart(*xs, **s.attrs))


@exports("lstm")
def lstm(s: Site) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM where it says all: one direction, default activations, state that starts at zero,
    sequence alone as a result.  Others are written out step by step."""
    real(s)
    t = s.attrs
    plain = t["activations"].lower() in ("", "sigmoid,tanh,tanh") and not t["clip"] and not t["input_forget"]
    zero = all(s.value(i) is None or (s.data(i) is not None and not np.any(s.data(i))) for i in (5, 6))
    alone = all(v is None for v in s.node.outputs[1:]) and t["direction"] != "bidirectional"
    if (
        not plain
        or not zero
        or not alone
        or any(s.value(i) is not None for i in (4, 7))
        or not isinstance(s.shape()[0 if t["batch_first"] else 1], int)
    ):
        unrolled(s)
        return
    w, r, b = s.static(1, "a weight"), s.static(2, "a weight"), s.data(3)
    x, h = s.shape(), r.shape[-1]
    if t["direction"] == "reverse" or not t["batch_first"]:
        flags = dict(batch_first=True)
        backwards = t["direction"] == "reverse"

        def f(x: Any, w: Any, r: Any, b: Any = None, *_: Any) -> Any:
            x = x if t["batch_first"] else F.transpose(x, perm=(1, 0, 2))
            x = F.reverse(x, axes=(1,)) if backwards else x
            y = F.lstm(x, w, r, b, **flags)[0]  # [batch, steps, 1, hidden]
            y = F.reverse(y, axes=(1,)) if backwards else y
            return y if t["batch_first"] else F.transpose(y, perm=(1, 2, 0, 3))

        s.compose(f)
        return
    order = (0, 2, 3, 1)  # ours i, o, f, c -> i, f, c, o
    ws, rs = (np.split(m[0], 4) for m in (w, r))
    bias = np.zeros(4 * h, np.float32) if b is None else b[0, : 4 * h] + b[0, 4 * h :]
    bs = np.split(bias, 4)
    const = s.sub.constant
    ins = [s.get(0)]
    ins += [const(np.ascontiguousarray(ws[k])) for k in order]
    ins += [const(np.ascontiguousarray(rs[k])) for k in order]
    ins += [-1, -1, -1]
    ins += [const(np.ascontiguousarray(bs[k])) for k in order]
    ins += [-1, -1]
    batch = x[0]
    for kind in ("h", "c"):
        state = s.temp(dtypes.float32, [batch, h], f"{s.sub.hint}/{kind}")
        s.sub.tensors[state].fields["is_variable"] = True
        ins.append(state)
    ins += [-1, -1, -1, -1]
    steps = x[1] if isinstance(x[1], int) else None
    flat = s.temp(dtypes.float32, [batch, steps, h])
    s.emit(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        ins,
        [flat],
        "UnidirectionalSequenceLSTMOptions",
        fused_activation_function=4,
        time_major=False,
    )
    s.emit("EXPAND_DIMS", [flat, s.sub.i32(2)], [s.result()], "ExpandDimsOptions")
