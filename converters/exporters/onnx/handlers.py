"""Ops that are not 1:1 with ONNX: layouts, fused epilogues, arguments that live elsewhere, small decompositions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.onnx.exporter import Site, decomposed, elementwise, typed
from deploykit.converters.exporters.onnx.registry import HANDLERS, as_int64, exports, swapped
from deploykit.converters.exporters.onnx.writer import element_type
from deploykit.dtypes import DType
from deploykit.errors import UnsupportedError
from deploykit.graph import Value
from deploykit.ops.core import F, get
from deploykit.ops.grads import scalar

_NO_AXIS = 2147483647


# ---- elementwise
def _renamed(ours: str, theirs: str, **attrs: Any) -> None:
    HANDLERS[ours] = lambda s: elementwise(s, theirs, attrs)


_renamed("minimum", "Min")
_renamed("maximum", "Max")


def composed(ours: str) -> Callable[[Any], Any]:
    """Register f(writer, node, *names, **attrs) -> name for an elementwise op, in the layout at hand."""

    def register(f: Callable[..., str]) -> Callable[..., str]:
        def run(s: Site) -> None:
            from deploykit.converters.exporters.onnx.exporter import first_operands, keeps_layout

            names = None
            if keeps_layout(s) and any(v is not None and s.w.only_first(v) for v in s.node.inputs):
                names = first_operands(s)
            if names is not None:
                s.out_first(f(s, *names, **s.attrs))
            else:
                s.out(f(s, *(s.w.get(v) for v in s.node.inputs), **s.attrs))

        HANDLERS[ours] = run
        return f

    return register


@composed("mod")
def _mod(s: Site, x: str, y: str, *, fmod: bool) -> str:
    dtype = s.x().dtype
    if dtype is None or dtype.kind != "f" or fmod:
        return s.w.node("Mod", x, y, fmod=int(fmod))
    r = s.w.node("Mod", x, y, fmod=1)  # sign of x; shift it where the signs differ
    zero = s.w.scalar(0, s.x())
    wrong = s.w.node("Xor", s.w.node("Less", r, zero), s.w.node("Less", y, zero))
    fix = s.w.node("And", wrong, s.w.node("Not", s.w.node("Equal", r, zero)))
    return s.w.node("Where", fix, s.w.node("Add", r, y), r)


@composed("shift_left")
def _shift_left(s: Site, x: str, y: str) -> str:
    return _shift(s, x, y, "LEFT")


@composed("shift_right")
def _shift_right(s: Site, x: str, y: str) -> str:
    return _shift(s, x, y, "RIGHT")


def _shift(s: Site, x: str, y: str, direction: str) -> str:
    """ONNX shifts unsigned numbers; a signed x >> n is ~(~x >> n) where x is negative."""
    w, dtype = s.w, s.x().dtype
    assert dtype is not None
    if dtype.kind == "u":
        return w.node("BitShift", x, y, direction=direction)
    unsigned, back = element_type(dtypes.dtype("u" + dtype.name)), element_type(dtype)
    count = w.node("Cast", y, to=unsigned)
    if direction == "LEFT":
        return w.node("Cast", w.node("BitShift", w.node("Cast", x, to=unsigned), count, direction="LEFT"), to=back)
    negative = w.node("Less", x, w.scalar(0, dtype))
    folded = w.node("Where", negative, w.node("BitwiseNot", x), x)
    shifted = w.node("BitShift", w.node("Cast", folded, to=unsigned), count, direction="RIGHT")
    shifted = w.node("Cast", shifted, to=back)
    return w.node("Where", negative, w.node("BitwiseNot", shifted), shifted)


@composed("neg")
def _neg(s: Site, x: str) -> str:
    dtype = s.x().dtype
    unsigned = dtype is not None and dtype.kind == "u"
    return s.w.node("Sub", s.w.scalar(0, s.x()), x) if unsigned else s.w.node("Neg", x)


@composed("atan2")
def _atan2(s: Site, y: str, x: str) -> str:
    w, like = s.w, s.x()
    zero, pi = w.scalar(0, like), w.scalar(np.pi, like)
    far = w.node("And", w.node("IsInf", x), w.node("IsInf", y))  # inf / inf says nothing, their signs do
    x, y = w.node("Where", far, w.node("Sign", x), x), w.node("Where", far, w.node("Sign", y), y)

    def negative(v: str) -> str:  # also -0, whose reciprocal is -inf
        return w.node("Or", w.node("Less", v, zero), w.node("Less", w.node("Reciprocal", v), zero))

    turn = w.node("Where", negative(y), w.node("Neg", pi), pi)
    origin = w.node("And", w.node("Equal", x, zero), w.node("Equal", y, zero))
    base = w.node("Where", origin, zero, w.node("Atan", w.node("Div", y, x)))
    return w.node("Where", negative(x), w.node("Add", base, turn), base)


@composed("floor_div")
def _floor_div(s: Site, x: str, y: str) -> str:
    w, dtype = s.w, s.x().dtype
    assert dtype is not None
    q = w.node("Div", x, y)
    if dtype.kind == "f":
        return w.node("Floor", q)
    if dtype.kind == "u":
        return q
    zero = w.scalar(0, dtype)
    rest = w.node("Not", w.node("Equal", w.node("Mod", x, y), zero))
    below = w.node("And", rest, w.node("Xor", w.node("Less", x, zero), w.node("Less", y, zero)))
    return w.node("Sub", q, w.node("Cast", below, to=element_type(dtype)))


@composed("squared_difference")
def _squared_difference(s: Site, x: str, y: str) -> str:
    d = s.w.node("Sub", x, y)
    return s.w.node("Mul", d, d)


@composed("not_equal")
def _not_equal(s: Site, x: str, y: str) -> str:
    return s.w.node("Not", s.w.node("Equal", x, y))


@composed("trunc")
def _trunc(s: Site, x: str) -> str:
    return s.w.node("Mul", s.w.node("Sign", x), s.w.node("Floor", s.w.node("Abs", x)))


@composed("rsqrt")
def _rsqrt(s: Site, x: str) -> str:
    return s.w.node("Reciprocal", s.w.node("Sqrt", x))


@composed("square")
def _square(s: Site, x: str) -> str:
    return s.w.node("Mul", x, x)


def _near_zero(s: Site, x: str, near: str, far: str) -> str:
    small = s.w.node("Less", s.w.node("Abs", x), s.w.scalar(0.5, s.x()))
    return s.w.node("Where", small, near, far)


@composed("expm1")
def _expm1(s: Site, x: str) -> str:
    w, one = s.w, s.w.scalar(1, s.x())
    half = w.node("Mul", x, w.scalar(0.5, s.x()))  # 2 e^(x/2) sinh(x/2) does not cancel near 0
    near = w.node("Mul", w.scalar(2, s.x()), w.node("Mul", w.node("Exp", half), w.node("Sinh", half)))
    return _near_zero(s, x, near, w.node("Sub", w.node("Exp", x), one))


@composed("log1p")
def _log1p(s: Site, x: str) -> str:
    w, two = s.w, s.w.scalar(2, s.x())
    ratio = w.node("Div", x, w.node("Add", x, two))  # log(1 + x) = 2 atanh(x / (2 + x)), which does not cancel near 0
    near = w.node("Mul", two, w.node("Atanh", ratio))
    return _near_zero(s, x, near, w.node("Log", w.node("Add", x, w.scalar(1, s.x()))))


@composed("cast")
def _cast(s: Site, x: str, *, dtype: str, saturate: bool) -> str:
    target = dtypes.dtype(dtype)
    if target.kind in "iu" and s.x().dtype is not None and s.x().dtype.kind == "f":  # type: ignore[union-attr]
        x = _clamped(s, x, target)
    narrow = {} if saturate else {"saturate": 0}
    return s.w.node("Cast", x, to=element_type(target), **narrow)


def _clamped(s: Site, x: str, target: DType) -> str:
    """Float to integer out of range is undefined in ONNX and clamps here; 64-bit targets are left alone."""
    source = s.x().dtype
    assert source is not None
    if target.bits >= 32 or source.bits < 32:
        return x
    info = ml_dtypes.iinfo(target.np)
    low, high = s.w.scalar(info.min, source), s.w.scalar(info.max, source)
    whole = s.w.node("Where", s.w.node("IsNaN", x), s.w.scalar(0, source), x)
    return s.w.node("Clip", whole, low, high)


@composed("bitcast")
def _bitcast(s: Site, x: str, *, dtype: str) -> str:
    if s.w.opset < 26:
        raise UnsupportedError("needs ONNX opset 26 (BitCast)")
    return s.w.node("BitCast", x, to=element_type(dtypes.dtype(dtype)))


# ---- activations
@composed("relu6")
def _relu6(s: Site, x: str) -> str:
    return s.w.node("Clip", x, s.w.scalar(0, s.x()), s.w.scalar(6, s.x()))


@composed("silu")
def _silu(s: Site, x: str, *, alpha: float) -> str:
    inner = x if alpha == 1.0 else s.w.node("Mul", x, s.w.scalar(alpha, s.x()))
    return s.w.node("Mul", x, s.w.node("Sigmoid", inner))


@composed("gelu")
def _gelu(s: Site, x: str, *, approximate: bool) -> str:
    return s.w.node("Gelu", x, approximate="tanh" if approximate else "none")


@composed("softplus")
def _softplus(s: Site, x: str) -> str:
    return s.w.node("Softplus", x)


def activation(s: Site, name: str, like: Value, act: str, alpha: float, beta: float) -> str:
    """The fused activation of conv and matmul on a named tensor."""
    w = s.w
    if act == "none":
        return name
    simple = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus", "mish": "Mish"}
    if act in simple:
        return w.node(simple[act], name)
    if act == "relu6":
        return w.node("Clip", name, w.scalar(0, like), w.scalar(6, like))
    if act == "clip":
        return w.node("Clip", name, w.scalar(alpha, like), w.scalar(beta, like))
    if act == "leaky_relu":
        return w.node("LeakyRelu", name, alpha=alpha)
    if act == "silu":
        return w.node("Mul", name, w.node("Sigmoid", name))
    if act in ("gelu", "gelu_tanh"):
        return w.node("Gelu", name, approximate="tanh" if act == "gelu_tanh" else "none")
    if act == "hard_sigmoid":
        return w.node("HardSigmoid", name, alpha=alpha, beta=beta)
    if act == "hard_swish":
        return w.node("HardSwish", name)
    if act == "elu":
        return w.node("Elu", name, alpha=alpha)
    raise UnsupportedError(f"fused activation '{act}'")


def epilogue(s: Site, y: str, residual: str | None) -> str:
    """Activation and residual of conv and matmul."""
    a = s.attrs
    act = (a["act"], a["act_alpha"], a["act_beta"])
    if residual is not None and a.get("act_after"):
        return activation(s, s.w.node("Add", y, residual), s.y, *act)
    y = activation(s, y, s.y, *act)
    return y if residual is None else s.w.node("Add", y, residual)


@exports("softmax", "log_softmax")
def _softmax(s: Site) -> None:
    op_type = "Softmax" if s.node.op == "softmax" else "LogSoftmax"
    s.outs(typed(s, op_type, [s.get(0)], axis=s.attrs["axis"]))


# ---- reductions
_REDUCE = {
    "reduce_sum": "ReduceSum", "reduce_mean": "ReduceMean", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd", "reduce_l1": "ReduceL1", "reduce_l2": "ReduceL2", "reduce_log_sum": "ReduceLogSum",
    "reduce_sum_square": "ReduceSumSquare", "reduce_log_sum_exp": "ReduceLogSumExp",
}  # fmt: skip


@exports(*_REDUCE)
def _reduce(s: Site) -> None:
    w, x, axes = s.w, s.x(), s.data(1)
    keep = bool(s.attrs["keepdims"])
    flags = dict(keepdims=int(keep), noop_with_empty_axes=int(s.attrs["noop_if_empty"]))
    if w.only_first(x) and x.shape is not None and axes is not None and axes.size and keep:
        rank = len(x.shape)
        to = {0: 0, rank - 1: 1, **{i: i + 1 for i in range(1, rank - 1)}}
        moved = w.i64(*(to[int(a) % rank] for a in axes.reshape(-1)))
        s.out_first(w.node(_REDUCE[s.node.op], s.first(0), moved, **flags))
        return
    s.outs(typed(s, _REDUCE[s.node.op], [s.get(0), as_int64(s, 1)][: len(s.node.inputs)], **flags))


# ---- products
@exports("matmul")
def _matmul(s: Site) -> None:
    w, a = s.w, s.attrs
    left, right = s.x(0), s.x(1)
    x, y = s.get(0), s.get(1)
    bias, residual = s.value(2), s.get(3)
    ranks = [None if v.shape is None else len(v.shape) for v in (left, right)]
    flat = ranks == [2, 2] and left.dtype is not None and left.dtype.kind == "f"
    if flat and (a["transpose_a"] or a["transpose_b"] or (bias is not None and a["alpha"] == 1.0)):
        c = bias if bias is not None and bias.shape is not None and len(bias.shape) <= 2 else None
        flags = dict(transA=int(a["transpose_a"]), transB=int(a["transpose_b"]), alpha=a["alpha"])
        z = w.node("Gemm", x, y, w.get(c), **flags)
        if bias is not None and c is None:
            z = w.node("Add", z, w.get(bias))
    else:
        x = swapped(s, x, left) if a["transpose_a"] else x
        y = swapped(s, y, right) if a["transpose_b"] else y
        z = w.node("MatMul", x, y)
        if a["alpha"] != 1.0:
            z = w.node("Mul", z, w.scalar(a["alpha"], s.y))
        if bias is not None:
            z = w.node("Add", z, w.get(bias))
    s.out(epilogue(s, z, residual))


# ---- convolutions and pools
def _window(s: Site, n: int) -> dict[str, Any]:
    a = s.attrs
    auto = {"explicit": None, "same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER"}[a.get("pad_mode", "explicit")]
    out = dict(
        strides=list(a["strides"]) or [1] * n,
        pads=(list(a["pads"]) or [0] * 2 * n) if auto is None else None,
        auto_pad=auto,
    )
    if "dilations" in a:
        out["dilations"] = list(a["dilations"]) or [1] * n
    return out


def _spatial(s: Site) -> int:
    shape = s.x().shape
    if shape is None:
        raise UnsupportedError("an input of unknown rank")
    return len(shape) - 2


@exports("conv")
def _conv(s: Site) -> None:
    y = s.w.node("Conv", s.first(0), s.first(1), s.get(2), group=s.attrs["groups"], **_window(s, _spatial(s)))
    s.out_first(epilogue(s, y, s.first(3)))


@exports("conv_transpose")
def _conv_transpose(s: Site) -> None:
    a = s.attrs
    extra = {k: list(a[k]) or None for k in ("output_padding", "output_shape")}
    window = _window(s, _spatial(s))
    y = s.w.node("ConvTranspose", s.first(0), s.first(1), s.get(2), group=a["groups"], **window, **extra)
    s.out_first(epilogue(s, y, None))


@exports("conv_integer")
def _conv_integer(s: Site) -> None:
    window = _window(s, _spatial(s))
    s.out_first(s.w.node("ConvInteger", s.first(0), s.first(1), s.get(2), s.get(3), group=s.attrs["groups"], **window))


@exports("deform_conv")
def _deform_conv(s: Site) -> None:
    a = s.attrs
    y = s.w.node(
        "DeformConv", s.first(0), s.first(1), s.first(2), s.get(3), s.first(4),
        group=a["groups"], offset_group=a["offset_groups"], **_window(s, _spatial(s)),
    )  # fmt: skip
    s.out_first(y)


def _plane(s: Site, v: Value) -> str:
    """Number of positions of one plane of a channels-last value, int64 scalar."""
    assert v.shape is not None
    size = v.shape[1:-1]
    if all(isinstance(d, int) for d in size):
        return s.w.const(np.int64(np.prod([int(d) for d in size])))  # type: ignore[arg-type]
    dims = s.w.node("Shape", s.w.get(v), start=1, end=len(v.shape) - 1)
    return s.w.node("ReduceProd", dims, keepdims=0)


@exports("max_pool")
def _max_pool(s: Site) -> None:
    a = s.attrs
    flags = dict(kernel_shape=list(a["kernel"]), ceil_mode=int(a["ceil_mode"]), **_window(s, _spatial(s)))
    if len(s.node.outputs) < 2 or s.node.outputs[1] is None:
        s.out_first(s.w.node("MaxPool", s.first(0), **flags))
        return
    y, at = s.w.node("MaxPool", s.first(0), outputs=2, storage_order=int(a["column_major"]), **flags)
    s.out_first(y)
    s.w.set_first(s.node.outputs[1], s.w.node("Mod", at, _plane(s, s.x())))


@exports("max_pool_gradient")
def _max_pool_gradient(s: Site) -> None:
    """As its passport takes it apart; a NaN wins in our pools and loses in ONNX runtimes, so infinity stands for it there
    (and the largest number for infinity: the place is asked for, not the value)."""

    def parts(x: Any, *rest: Any, **attrs: Any) -> Any:
        most = F.minimum(x, scalar(float(np.finfo(x.dtype.np).max), x))
        return get("max_pool_gradient").decompose(F.where(F.is_nan(x), scalar(np.inf, x), most), *rest, **attrs)  # type: ignore[misc]

    decomposed(s, parts)


@exports("avg_pool")
def _avg_pool(s: Site) -> None:
    a = s.attrs
    flags = dict(kernel_shape=list(a["kernel"]), ceil_mode=int(a["ceil_mode"]), **_window(s, _spatial(s)))
    if set(flags["dilations"]) <= {1}:  # onnxruntime's quantizer copies it to an op of its own that does not know it
        del flags["dilations"]
    s.out_first(s.w.node("AveragePool", s.first(0), count_include_pad=int(a["count_include_pad"]), **flags))


@exports("lp_pool")
def _lp_pool(s: Site) -> None:
    a = s.attrs
    flags = dict(kernel_shape=list(a["kernel"]), ceil_mode=int(a["ceil_mode"]), **_window(s, _spatial(s)))
    s.out_first(s.w.node("LpPool", s.first(0), p=a["p"], **flags))


@exports("max_unpool")
def _max_unpool(s: Site) -> None:
    w, a, x, y = s.w, s.attrs, s.x(), s.y
    if x.shape is None or y.shape is None or not all(isinstance(d, int) for d in (*x.shape, *y.shape)):
        raise UnsupportedError("sizes known only at run time")
    n, c, plane = int(x.shape[0]), int(x.shape[-1]), int(np.prod([int(d) for d in y.shape[1:-1]]))  # type: ignore[arg-type]
    rank = len(x.shape)
    base = (np.arange(n * c) * plane).reshape((n, c) + (1,) * (rank - 2))
    at = w.node("Add", s.first(1), w.const(base))
    full = w.i64(*(int(y.shape[i]) for i in (0, rank - 1, *range(1, rank - 1))))  # type: ignore[arg-type]
    k = rank - 2
    flags = dict(kernel_shape=list(a["kernel"]), strides=list(a["strides"]) or [1] * k, pads=list(a["pads"]) or None)
    s.out_first(w.node("MaxUnpool", s.first(0), at, full, **flags))


# ---- normalisation
@exports("batch_norm")
def _batch_norm(s: Site) -> None:
    shape, axis = s.x().shape, s.attrs["axis"]
    if shape is None or axis % len(shape) not in (1, len(shape) - 1):
        raise UnsupportedError("a channel axis that is neither 1 nor the last")
    last = axis % len(shape) == len(shape) - 1 and len(shape) > 2
    names = [s.get(i) for i in range(1, 5)]
    y = s.w.node("BatchNormalization", s.first(0) if last else s.get(0), *names, epsilon=s.attrs["epsilon"])
    s.out_first(y) if last else s.out(y)


def _ones(s: Site, v: Value, start: int) -> str:
    shape = (v.shape or ())[start:]
    if v.shape is None or not all(isinstance(d, int) for d in shape):
        raise UnsupportedError("a missing scale for dims known only at run time")
    assert v.dtype is not None
    return s.w.const(np.ones([int(d) for d in shape], v.dtype.np))  # type: ignore[arg-type]


@exports("layer_norm")
def _layer_norm(s: Site) -> None:
    x, axis = s.x(), s.attrs["axis"]
    scale = s.get(1) or _ones(s, x, axis)
    s.out(s.w.node("LayerNormalization", s.get(0), scale, s.get(2), axis=axis, epsilon=s.attrs["epsilon"]))


@exports("rms_norm")
def _rms_norm(s: Site) -> None:
    w, x, axis = s.w, s.x(), s.attrs["axis"]
    if x.shape is None:
        raise UnsupportedError("an input of unknown rank")
    axes = w.i64(*range(axis % len(x.shape), len(x.shape)))
    name = s.get(0)
    mean = w.node("ReduceMean", w.node("Mul", name, name), axes)
    y = w.node("Div", name, w.node("Sqrt", w.node("Add", mean, w.scalar(s.attrs["epsilon"], x))))
    s.out(y if s.value(1) is None else w.node("Mul", y, s.get(1)))


@exports("group_norm")
def _group_norm(s: Site) -> None:
    w, x, groups = s.w, s.x(), s.attrs["groups"]
    ones = _ones(s, x, -1) if s.value(1) is None else ""
    scale = s.get(1) or ones
    bias = s.get(2) or w.node("Sub", scale, scale)
    each = x.shape is not None and x.shape[-1] == groups
    op = "InstanceNormalization" if each else "GroupNormalization"
    extra = {} if each else {"num_groups": groups}
    s.out_first(w.node(op, s.first(0), scale, bias, epsilon=s.attrs["epsilon"], **extra))


@exports("lrn")
def _lrn(s: Site) -> None:
    s.out_first(s.w.node("LRN", s.first(0), **s.attrs))


# ---- index
@exports("unique")
def _unique(s: Site) -> None:
    axis = s.attrs["axis"]
    n = len(s.node.outputs)
    names = [s.w.names.new(f"{s.w.hint}:{i}") for i in range(n)]
    flags = dict(axis=None if axis == _NO_AXIS else axis, sorted=int(s.attrs["sorted"]))
    s.outs(s.w.node("Unique", s.get(0), outputs=names, **flags))


@exports("compress")
def _compress(s: Site) -> None:
    axis = s.attrs["axis"]
    s.out(s.w.node("Compress", s.get(0), s.get(1), axis=None if axis == _NO_AXIS else axis))


@exports("top_k")
def _top_k(s: Site) -> None:
    k = as_int64(s, 1)
    if s.x(1).rank != 1:  # ONNX wants a vector of one
        k = s.w.node("Reshape", k, s.w.const(np.array([1], np.int64)))
    flags = {name: int(s.attrs[name]) for name in ("axis", "largest", "sorted")}
    s.outs(typed(s, "TopK", [s.get(0), k], **flags))


@exports("non_max_suppression")
def _nms(s: Site) -> None:
    names = [s.get(i) for i in range(len(s.node.inputs))]
    s.out(s.w.node("NonMaxSuppression", *names, center_point_box=int(s.attrs["center_box"])))


# ---- images
@exports("resize")
def _resize(s: Site) -> None:
    w, a, x = s.w, s.attrs, s.x()
    rank = len(x.shape or ())
    axes = [i % rank for i in a["axes"]] if a["axes"] else list(range(rank))
    roi = s.get(1)
    flags = dict(
        mode=a["mode"], coordinate_transformation_mode=a["coordinates"], nearest_mode=a["nearest"],
        keep_aspect_ratio_policy=a["aspect"], cubic_coeff_a=a["cubic_a"], exclude_outside=int(a["exclude_outside"]),
        antialias=int(a["antialias"]), extrapolation_value=a["extrapolation"],
    )  # fmt: skip
    sizes = as_int64(s, 3)
    if rank >= 3 and all(1 <= i <= rank - 2 for i in axes):
        s.out_first(w.node("Resize", s.first(0), roi, s.get(2), sizes, axes=[i + 1 for i in axes], **flags))
    else:
        s.out(w.node("Resize", s.get(0), roi, s.get(2), sizes, axes=axes if a["axes"] else None, **flags))


@exports("grid_sample")
def _grid_sample(s: Site) -> None:
    a = s.attrs
    flags = dict(mode=a["mode"], padding_mode=a["padding"], align_corners=int(a["align_corners"]))
    s.out_first(s.w.node("GridSample", s.first(0), s.get(1), **flags))


@exports("roi_align")
def _roi_align(s: Site) -> None:
    a = s.attrs
    mode = "half_pixel" if a["half_pixel"] else "output_half_pixel"
    same = {k: a[k] for k in ("mode", "output_height", "output_width", "sampling_ratio", "spatial_scale")}
    s.out_first(s.w.node("RoiAlign", s.first(0), s.get(1), as_int64(s, 2), coordinate_transformation_mode=mode, **same))


# ---- quantization
@exports("quantize")
def _quantize(s: Site) -> None:
    a, zero = s.attrs, s.value(2)
    flags: dict[str, Any] = dict(axis=a["axis"], block_size=a["block_size"] or None, saturate=int(a["saturate"]))
    if zero is None:
        flags["output_dtype"] = element_type(dtypes.dtype(a["dtype"]))
    s.out(s.w.node("QuantizeLinear", s.get(0), s.get(1), s.get(2), **flags))


@exports("dequantize")
def _dequantize(s: Site) -> None:
    a, scale = s.attrs, s.x(1)
    assert scale.dtype is not None
    flags = dict(axis=a["axis"], block_size=a["block_size"] or None)
    y = s.w.node("DequantizeLinear", s.get(0), s.get(1), s.get(2), **flags)
    want = dtypes.dtype(a["dtype"]) if a["dtype"] else scale.dtype
    s.out(y if want is scale.dtype else s.w.node("Cast", y, to=element_type(want)))
