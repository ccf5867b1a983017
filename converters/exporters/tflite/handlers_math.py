"""Elementwise ops, activations, reductions, matmul, quantize."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite.exporter import Site, exports
from deploykit.converters.exporters.tflite.quant import params_of
from deploykit.errors import UnsupportedError
from deploykit.graph import QuantParams
from deploykit.ops.core import F, get

# ours -> (operator, options, dtypes that LiteRT's kernel takes)
_F, _FI = ("float32",), ("float32", "int32", "int64")
_DIRECT: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "add": ("ADD", "AddOptions", (*_FI, "int16")),
    "sub": ("SUB", "SubOptions", _FI),
    "mul": ("MUL", "MulOptions", (*_FI, "int16")),
    "div": ("DIV", "DivOptions", ("float32", "int32")),
    "minimum": ("MINIMUM", "MaximumMinimumOptions", (*_FI, "int8", "uint8", "int16")),
    "maximum": ("MAXIMUM", "MaximumMinimumOptions", (*_FI, "int8", "uint8", "int16")),
    "floor_div": ("FLOOR_DIV", "FloorDivOptions", ("float32", "int32")),
    "pow": ("POW", "PowOptions", ("float32", "int32")),
    "squared_difference": ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions", ("float32", "int32")),
    "atan2": ("ATAN2", "ATan2Options", ("float32", "float64")),
    "equal": ("EQUAL", "EqualOptions", (*_FI, "bool")),
    "not_equal": ("NOT_EQUAL", "NotEqualOptions", (*_FI, "bool")),
    "less": ("LESS", "LessOptions", _FI),
    "less_equal": ("LESS_EQUAL", "LessEqualOptions", _FI),
    "greater": ("GREATER", "GreaterOptions", _FI),
    "greater_equal": ("GREATER_EQUAL", "GreaterEqualOptions", _FI),
    "logical_and": ("LOGICAL_AND", "LogicalAndOptions", ("bool",)),
    "logical_or": ("LOGICAL_OR", "LogicalOrOptions", ("bool",)),
    "logical_not": ("LOGICAL_NOT", "LogicalNotOptions", ("bool",)),
    "bitwise_xor": ("BITWISE_XOR", "BitwiseXorOptions", ("int8", "uint8", "int16", "int32")),
    "abs": ("ABS", "AbsOptions", ("float32", "int32")),
    "neg": ("NEG", "NegOptions", _FI),
    "sign": ("SIGN", "SignOptions", ("float32", "float64", "int32")),
    "floor": ("FLOOR", "", _F),
    "ceil": ("CEIL", "", _F),
    "round": ("ROUND", "", _F),
    "sqrt": ("SQRT", "", _F),
    "rsqrt": ("RSQRT", "", _F),
    "square": ("SQUARE", "SquareOptions", _F),
    "exp": ("EXP", "ExpOptions", _F),
    "log": ("LOG", "", _F),
    "sin": ("SIN", "", _F),
    "cos": ("COS", "CosOptions", _F),
    "tanh": ("TANH", "", _F),
    "relu": ("RELU", "", _F),
    "relu6": ("RELU6", "", _F),
    "sigmoid": ("LOGISTIC", "", _F),
    "hard_swish": ("HARD_SWISH", "HardSwishOptions", _F),
    "prelu": ("PRELU", "", _F),
}


_COMPARE = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


@exports(*_DIRECT)
def direct(s: Site) -> None:
    """One operator of the same meaning."""
    op, kind, allowed = _DIRECT[s.node.op]
    x = s.x(0)
    if x.dtype is dtypes.bool_ and s.node.op in ("minimum", "maximum"):
        op, kind, allowed = ("LOGICAL_AND" if op == "MINIMUM" else "LOGICAL_OR"), "", ("bool",)
    if s.node.op in _COMPARE and x.dtype is not None and x.dtype.name in ("int8", "uint8", "int16"):
        f = getattr(F, s.node.op)  # as they are: TFLite would compare what they stand for
        s.compose(lambda a, b: f(F.cast(a, dtype="int32"), F.cast(b, dtype="int32")))
        return
    if x.dtype is None or x.dtype.name not in allowed:
        raise UnsupportedError(f"TFLite's {op} does not take {x.dtype} (it takes {', '.join(allowed)})")
    if any(v is not None and v.dtype is not x.dtype for v in s.node.inputs):
        raise UnsupportedError(f"TFLite's {op} takes operands of one dtype only")
    if op == "ATAN2" and s.shape(0) != s.shape(1):  # it does not broadcast
        shape = [d for d in s.sub.shape_of(s.node.output) if isinstance(d, int)]
        if len(shape) != len(s.sub.shape_of(s.node.output)):
            raise UnsupportedError("of operands that broadcast to open sizes")
        s.compose(lambda a, b: F.atan2(F.expand(a, shape), F.expand(b, shape)))
        return
    if s.node.op in ("relu", "relu6") and x.dtype is not dtypes.float32:
        raise UnsupportedError(f"of {x.dtype}")
    s.emit(op, [s.get(i) for i in range(len(s.node.inputs))], [s.result()], kind)


@exports("identity")
def identity(s: Site) -> None:
    s.alias(s.get(0))


@exports("logical_xor")
def logical_xor(s: Site) -> None:
    s.compose(F.not_equal)


def real(s: Site) -> None:
    """Raise unless the node computes in float32."""
    x = s.x(0)
    if x.dtype is not dtypes.float32:
        raise UnsupportedError(f"of {x.dtype}: only float32 can be put together from TFLite's operators")


_COMPOSED: dict[str, Any] = {
    "is_nan": lambda x: F.not_equal(x, x),
    "reciprocal": lambda x: F.div(np.float32(1), x),
    "trunc": lambda x: F.mul(F.sign(x), F.floor(F.abs(x))),
    "expm1": lambda x: F.sub(F.exp(x), 1.0),
    "log1p": lambda x: F.log(F.add(x, 1.0)),
    "tan": lambda x: F.div(F.sin(x), F.cos(x)),
    "asin": lambda x: F.atan2(x, _root(x)),
    "acos": lambda x: F.atan2(_root(x), x),
    "atan": lambda x: F.atan2(x, F.add(F.mul(F.sign(x), 0.0), 1.0)),
    "sinh": lambda x: F.mul(F.sub(F.exp(x), F.exp(F.neg(x))), 0.5),
    "cosh": lambda x: F.mul(F.add(F.exp(x), F.exp(F.neg(x))), 0.5),
    "asinh": lambda x: F.mul(F.sign(x), F.log(F.add(F.abs(x), F.sqrt(F.add(F.square(x), 1.0))))),
    "acosh": lambda x: F.log(F.add(x, F.mul(F.sqrt(F.sub(x, 1.0)), F.sqrt(F.add(x, 1.0))))),
    "atanh": lambda x: F.mul(F.log(F.div(F.add(x, 1.0), F.sub(np.float32(1), x))), 0.5),
    "softplus": lambda x: _softplus(x),
    "mish": lambda x: F.mul(x, F.tanh(_softplus(x))),
    "softsign": lambda x: F.div(x, F.add(F.abs(x), 1.0)),
}


def _root(x: Any) -> Any:
    return F.sqrt(F.sub(np.float32(1), F.square(x)))


def _softplus(x: Any) -> Any:
    """log(1 + exp(-|x|)) + max(x, 0)."""
    return F.add(F.relu(x), F.log(F.add(F.exp(F.neg(F.abs(x))), 1.0)))


@exports(*_COMPOSED)
def composed(s: Site) -> None:
    real(s)
    s.compose(_COMPOSED[s.node.op])


@exports("erf")
def erf(s: Site) -> None:
    """By GELU, which is x * Phi(x): erf(z) = 2 * gelu(z * sqrt 2) / (z * sqrt 2) - 1."""
    real(s)

    def f(z: Any) -> Any:
        t = F.mul(z, math.sqrt(2))
        small = F.less(F.abs(t), np.float32(1e-3))
        safe = F.where(small, np.float32(1), t)
        far = F.sub(F.mul(F.div(F.gelu(safe), safe), 2.0), 1.0)
        return F.where(small, F.mul(z, 2 / math.sqrt(math.pi)), far)

    s.compose(f)


@exports("is_inf")
def is_inf(s: Site) -> None:
    real(s)
    up, down = s.attrs["detect_positive"], s.attrs["detect_negative"]
    inf = np.float32(np.inf)

    def f(x: Any) -> Any:
        if up and down:
            return F.equal(F.abs(x), inf)
        return F.equal(x, inf if up else -inf)

    if not (up or down):
        raise UnsupportedError("that detects nothing")
    s.compose(f)


@exports("mod")
def mod(s: Site) -> None:
    x = s.x(0)
    if x.dtype is None or x.dtype.name not in _FI:
        raise UnsupportedError(f"TFLite's FLOOR_MOD does not take {x.dtype}")
    if s.attrs["fmod"]:
        real(s)
        s.compose(lambda x, y: F.sub(x, F.mul(y, F.trunc(F.div(x, y)))))
        return
    s.emit("FLOOR_MOD", [s.get(0), s.get(1)], [s.result()], "FloorModOptions")


# ---- activations
@exports("leaky_relu")
def leaky_relu(s: Site) -> None:
    real(s)
    s.emit("LEAKY_RELU", [s.get(0)], [s.result()], "LeakyReluOptions", alpha=s.attrs["alpha"])


@exports("elu")
def elu(s: Site) -> None:
    real(s)
    alpha = s.attrs["alpha"]
    if alpha == 1.0:
        s.emit("ELU", [s.get(0)], [s.result()])
    else:
        s.compose(lambda x: F.where(F.greater(x, 0.0), x, F.mul(F.elu(x), alpha)))


@exports("selu")
def selu(s: Site) -> None:
    real(s)
    s.compose(lambda x: F.mul(F.elu(x, alpha=s.attrs["alpha"]), s.attrs["gamma"]))


@exports("celu")
def celu(s: Site) -> None:
    real(s)
    a = s.attrs["alpha"]
    s.compose(lambda x: F.add(F.relu(x), F.minimum(F.mul(F.elu(F.div(x, a)), a), 0.0)) if a > 0 else _no("alpha <= 0"))


def _no(what: str) -> Any:
    raise UnsupportedError(what)


@exports("hard_sigmoid")
def hard_sigmoid(s: Site) -> None:
    real(s)
    a = s.attrs
    s.compose(lambda x: F.minimum(F.maximum(F.add(F.mul(x, a["alpha"]), a["beta"]), 0.0), 1.0))


@exports("silu")
def silu(s: Site) -> None:
    real(s)
    a = s.attrs["alpha"]
    s.compose(lambda x: F.mul(x, F.sigmoid(x if a == 1.0 else F.mul(x, a))))


@exports("gelu")
def gelu(s: Site) -> None:
    real(s)
    s.emit("GELU", [s.get(0)], [s.result()], "GeluOptions", approximate=s.attrs["approximate"])


@exports("thresholded_relu")
def thresholded_relu(s: Site) -> None:
    real(s)
    s.compose(lambda x: F.where(F.greater(x, s.attrs["alpha"]), x, np.zeros((), np.float32)))


@exports("shrink")
def shrink(s: Site) -> None:
    real(s)
    lam, bias = s.attrs["lambd"], s.attrs["bias"]

    def f(x: Any) -> Any:
        zero = np.zeros((), np.float32)
        upper = F.where(F.greater(x, lam), F.sub(x, bias), zero)
        return F.where(F.less(x, -lam), F.add(x, bias), upper)

    s.compose(f)


@exports("clip")
def clip(s: Site) -> None:
    low, high = s.value(1), s.value(2)

    def f(x: Any, *rest: Any) -> Any:
        y = x if low is None else F.maximum(x, rest[0])
        if high is None:
            return F.identity(y)
        return F.minimum(y, rest[1] if low is not None or len(rest) > 1 else rest[0])

    s.compose(f, [s.x(0), low, high])


@exports("softmax", "log_softmax")
def softmax(s: Site) -> None:
    real(s)
    rank = len(s.shape())
    axis = s.attrs["axis"] % rank
    op = s.node.op
    if axis != rank - 1:
        perm = [i for i in range(rank) if i != axis] + [axis]
        back = [perm.index(i) for i in range(rank)]
        f = getattr(F, op)
        s.compose(lambda x: F.transpose(f(F.transpose(x, perm=tuple(perm)), axis=-1), perm=tuple(back)))
    elif op == "softmax":
        s.emit("SOFTMAX", [s.get(0)], [s.result()], "SoftmaxOptions", beta=1.0)
    else:
        s.emit("LOG_SOFTMAX", [s.get(0)], [s.result()], "LogSoftmaxOptions")


# ---- selection, conversion
@exports("where")
def where(s: Site) -> None:
    x = s.x(1)
    allowed = ("float32", "int32", "int64", "int16", "int8", "uint8", "bool", "uint32")
    if x.dtype is None or x.dtype.name not in allowed:
        raise UnsupportedError(f"TFLite's SELECT_V2 does not take {x.dtype}")
    s.emit("SELECT_V2", [s.get(0), s.get(1), s.get(2)], [s.result()], "SelectV2Options")


_CASTS = ("float32", "int32", "int64", "int16", "int8", "uint8", "bool", "uint32", "uint16", "float16", "float64")


@exports("cast")
def cast(s: Site) -> None:
    x, y = s.x(0).dtype, dtypes.dtype(s.attrs["dtype"])
    assert x is not None
    for d in (x, y):
        if d.name not in _CASTS:
            raise UnsupportedError(f"from {x} to {y}: TFLite's CAST does not know {d}")
    if x is y:
        s.alias(s.get(0))
        return
    a, b = s.get(0), s.result()
    kinds = dict(in_data_type=s.sub.tensors[a].fields["type"], out_data_type=s.sub.tensors[b].fields["type"])
    s.emit("CAST", [a], [b], "CastOptions", **kinds)


def fixed_params(s: Site) -> QuantParams:
    """Scale and zero point of a quantize or dequantize node, which must be constant."""
    q = params_of(s.node)
    if q is None:
        raise UnsupportedError("with a scale or zero point computed at run time, or one per block")
    return q


@exports("quantize")
def quantize(s: Site) -> None:
    q = fixed_params(s)
    y = s.node.output
    assert y.dtype is not None
    if y.dtype.name not in ("int8", "uint8", "int16") or q.axis is not None:
        raise UnsupportedError(f"to {y.dtype}{' per axis' if q.axis is not None else ''}")
    agree(s, y, q)
    s.emit("QUANTIZE", [s.get(0)], [s.result()], "QuantizeOptions")


@exports("dequantize")
def dequantize(s: Site) -> None:
    """The scale stands at the integers' tensor; constants that TFLite cannot dequantize are written as real numbers."""
    q = fixed_params(s)
    x = s.x(0)
    if s.node.output.dtype is not dtypes.float32:
        raise UnsupportedError(f"to {s.node.output.dtype}")
    if x.dtype is None or x.dtype.name not in ("int8", "uint8", "int16") or q.axis is not None:
        if x.data is None:
            raise UnsupportedError(f"from {x.dtype}{' per axis' if q.axis is not None else ''}")
        reference = get("dequantize").reference
        assert reference is not None
        real_ = reference(x.data, s.static(1, "the scale"), s.data(2), **s.attrs)
        s.alias(s.sub.constant(np.asarray(real_, np.float32)))
        return
    if x.dtype is dtypes.int16 and q.zero_point.any():
        raise UnsupportedError("of int16 with a zero point")
    agree(s, x, q)
    s.emit("DEQUANTIZE", [s.get(0)], [s.result()], "DequantizeOptions")


def agree(s: Site, v: Any, q: QuantParams) -> None:
    """Raise when the integers are made or read elsewhere with another scale."""
    have = s.sub.exporter.scales.get(v)
    if have is not None and not (
        np.array_equal(have.scale, q.scale) and np.array_equal(have.zero_point, q.zero_point) and have.axis == q.axis
    ):
        raise UnsupportedError("integers that are moved about are read with two different scales")


# ---- reductions
_REDUCE = {
    "reduce_sum": "SUM",
    "reduce_mean": "MEAN",
    "reduce_max": "REDUCE_MAX",
    "reduce_min": "REDUCE_MIN",
    "reduce_prod": "REDUCE_PROD",
}


@exports(*_REDUCE)
def reduce(s: Site) -> None:
    x = s.x(0)
    allowed = ("float32", "int32", "int64")
    op = _REDUCE[s.node.op]
    if x.dtype is dtypes.bool_ and op in ("REDUCE_MAX", "REDUCE_MIN"):
        op = "REDUCE_ANY" if op == "REDUCE_MAX" else "REDUCE_ALL"
    elif x.dtype is None or x.dtype.name not in allowed:
        raise UnsupportedError(f"TFLite's {op} does not take {x.dtype}")
    rank = len(s.shape())
    if any(d == 0 for d in s.shape()):
        raise UnsupportedError("of an empty tensor")
    axes = s.value(1)
    if axes is None or (axes.data is not None and axes.data.size == 0):
        if s.attrs["noop_if_empty"]:
            s.alias(s.get(0))
            return
        t = s.sub.i32(list(range(rank)))
    elif axes.data is not None:
        t = s.sub.i32([int(a) % rank for a in axes.data.reshape(-1)])
    else:
        t = s.as_i32(1)
    if rank == 0:
        s.alias(s.get(0))
        return
    s.emit(op, [s.get(0), t], [s.result()], "ReducerOptions", keep_dims=s.attrs["keepdims"])


@exports("arg_max", "arg_min")
def arg_extreme(s: Site) -> None:
    x = s.x(0)
    if x.dtype is None or x.dtype.name not in ("float32", "int32", "int8", "uint8", "bool"):
        raise UnsupportedError(f"of {x.dtype}")
    if s.attrs["select_last"]:
        raise UnsupportedError("that takes the last of equals")
    op = s.node.op.upper()
    rank = len(s.shape())
    axis = s.attrs["axis"] % rank
    kind = "ArgMaxOptions" if op == "ARG_MAX" else "ArgMinOptions"
    y = s.node.output
    assert y.shape is not None
    out_type = 4  # int64
    if not s.attrs["keepdims"]:
        s.emit(op, [s.get(0), s.sub.i32(axis)], [s.result()], kind, output_type=out_type)
        return
    flat = s.temp(dtypes.int64, [d for i, d in enumerate(y.shape) if i != axis])
    s.emit(op, [s.get(0), s.sub.i32(axis)], [flat], kind, output_type=out_type)
    s.emit("EXPAND_DIMS", [flat, s.sub.i32(axis)], [s.result()], "ExpandDimsOptions")


@exports("cumsum")
def cumsum(s: Site) -> None:
    x = s.x(0)
    if x.dtype is None or x.dtype.name not in ("float32", "int32", "int64"):
        raise UnsupportedError(f"of {x.dtype}")
    axis = int(s.static(1, "the axis").reshape(-1)[0])
    flags = dict(exclusive=s.attrs["exclusive"], reverse=s.attrs["reverse"])
    s.emit("CUMSUM", [s.get(0), s.sub.i32(axis)], [s.result()], "CumsumOptions", **flags)


# ---- matmul
@exports("matmul")
def matmul(s: Site) -> None:
    """FULLY_CONNECTED with constant weights, else BATCH_MATMUL; bias, residual and activation as far as they fuse."""
    real(s)
    b = s.x(1)
    t = s.attrs
    rank_a, rank_b = len(s.shape(0)), len(s.shape(1))
    plain = t["act"] in ("none", "relu", "relu6") and s.value(3) is None
    if not plain or t["alpha"] != 1.0 or rank_a == 1 or rank_b == 1:
        s.compose(lambda *xs: split_matmul(t, rank_a, rank_b, *xs))
        return
    act = {"none": 0, "relu": 1, "relu6": 3}[t["act"]]
    bias = s.value(2)
    dense = b.data is not None and rank_b == 2 and not t["transpose_a"]
    units = None if b.data is None else b.data.shape[0 if t["transpose_b"] else -1]
    if dense and (bias is None or (bias.shape == (units,))):
        w = s.get(1) if t["transpose_b"] else s.sub.constant(np.ascontiguousarray(b.data.T), b.name)  # type: ignore
        ins = [s.get(0), w, s.get(2) if bias is not None else -1]
        s.emit(
            "FULLY_CONNECTED",
            ins,
            [s.result()],
            "FullyConnectedOptions",
            fused_activation_function=act,
            keep_num_dims=rank_a > 2,
        )
        return
    if bias is not None or act:
        rest = {**t, "act": "none"}
        s.compose(lambda *xs: _after(rest, t["act"], *xs))
        return
    s.emit(
        "BATCH_MATMUL",
        [s.get(0), s.get(1)],
        [s.result()],
        "BatchMatMulOptions",
        adj_x=t["transpose_a"],
        adj_y=t["transpose_b"],
    )


def _after(t: dict[str, Any], act: str, a: Any, b: Any, bias: Any = None, residual: Any = None) -> Any:
    y = F.matmul(a, b, transpose_a=t["transpose_a"], transpose_b=t["transpose_b"])
    y = y if bias is None else F.add(y, bias)
    return y if act == "none" else getattr(F, act)(y)


def split_matmul(
    t: dict[str, Any], rank_a: int, rank_b: int, a: Any, b: Any, bias: Any = None, residual: Any = None
) -> Any:
    """matmul with everything that TFLite cannot fuse beside it."""
    a = F.unsqueeze(a, [0]) if rank_a == 1 else a
    b = F.unsqueeze(b, [1]) if rank_b == 1 else b
    alone = t["alpha"] != 1.0 or rank_a == 1 or rank_b == 1
    flags = dict(transpose_a=t["transpose_a"] and rank_a > 1, transpose_b=t["transpose_b"] and rank_b > 1)
    y = F.matmul(a, b, None if alone else bias, **flags)
    if rank_b == 1:
        y = F.squeeze(y, [-1])
    if rank_a == 1:
        y = F.squeeze(y, [-2] if rank_b != 1 else [-1])
    if t["alpha"] != 1.0:
        y = F.mul(y, t["alpha"])
    if alone and bias is not None:
        y = F.add(y, bias)
    return tail(t, y, residual)


def tail(t: dict[str, Any], y: Any, residual: Any) -> Any:
    """Activation and residual in the order that ``act_after`` says."""
    if residual is not None and t.get("act_after"):
        return activation(t, F.add(y, residual))
    y = activation(t, y)
    return y if residual is None else F.add(y, residual)


def activation(t: dict[str, Any], y: Any) -> Any:
    """The fused activation as an op of its own."""
    act, a, b = t["act"], t["act_alpha"], t["act_beta"]
    if act == "none":
        return y
    if act == "clip":
        return F.clip(y, np.float32(a), np.float32(b))
    extra: dict[str, Any] = {"leaky_relu": dict(alpha=a), "elu": dict(alpha=a), "hard_sigmoid": dict(alpha=a, beta=b)}
    if act == "gelu_tanh":
        return F.gelu(y, approximate=True)
    return getattr(F, act)(y, **extra.get(act, {}))


@exports("attention")
def attention(s: Site) -> None:
    """Scores, mask, softmax, sum: in simple ops."""
    real(s)
    t = s.attrs
    q, k = s.shape(0), s.shape(1)
    mask = s.value(3)
    if t["causal"]:
        raise UnsupportedError("causal attention without a mask; give the mask as an input")
    if len(q) != len(k) or (len(q) > 2 and q[-3] != k[-3]):
        raise UnsupportedError("grouped heads")
    width = q[-1]
    if not isinstance(width, int):
        raise UnsupportedError("the width of a head is not known")
    scale = t["scale"] or 1 / math.sqrt(width)

    def f(q: Any, k: Any, v: Any, m: Any = None) -> Any:
        scores = F.mul(F.matmul(q, k, transpose_b=True), scale)
        if t["softcap"] > 0:
            scores = F.mul(F.tanh(F.div(scores, t["softcap"])), t["softcap"])
        if m is not None:
            if mask is not None and mask.dtype is dtypes.bool_:
                scores = F.where(m, scores, np.float32(-1e30))
            else:
                scores = F.add(scores, m)
        y = F.matmul(F.softmax(scores, axis=-1), v)
        if m is None:
            return y
        some = m if mask is not None and mask.dtype is dtypes.bool_ else F.greater(m, np.float32(-1e30))
        return F.where(F.reduce_max(some, [-1]), y, np.zeros((), np.float32))  # rows that forbid everything give zeros

    s.compose(f)


@exports("rotary_embedding")
def rotary(s: Site) -> None:
    real(s)
    if s.attrs["interleaved"]:
        raise UnsupportedError("interleaved pairs")
    width, n = s.shape(0)[-1], s.shape(1)[-1]
    if not isinstance(width, int) or not isinstance(n, int):
        raise UnsupportedError("the width of a head is not known")

    def f(x: Any, cos: Any, sin: Any) -> Any:
        cut = [F.slice(x, [i * n], [(i + 1) * n], [-1]) for i in range(2)]
        a = F.sub(F.mul(cut[0], cos), F.mul(cut[1], sin))
        b = F.add(F.mul(cut[0], sin), F.mul(cut[1], cos))
        rest = [F.slice(x, [2 * n], [width], [-1])] if width > 2 * n else []
        return F.concat(a, b, *rest, axis=-1)

    s.compose(f)
