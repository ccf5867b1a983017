"""Find normalisations and softmax spelled out in reductions and arithmetic: layer norm, RMS norm, softmax, log softmax.

Layer norm: d = x - mean(x); y = d / sqrt(mean(d * d) + epsilon) [* scale] [+ bias] (Ba et al. 2016); also in the form
x * s + (bias - mean * s) with s = scale / sqrt(var + epsilon).  RMS norm: x / sqrt(mean(x * x) + epsilon) [* scale]
(Zhang and Sennrich 2019).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.pattern import Const, Match, OneOf, Op, Pattern, Rule, Scalar, Var, apply_rules, is_float
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Node, Value

TOLERANCE = "float"

X = Var("x", is_float)


def _mean(x: Pattern, bind: str, shared: bool = False) -> Pattern:
    return OneOf(Op("reduce_mean", x, Const(bind + "_axes"), keepdims=True, bind=bind, shared=shared))


def _squared(d: Pattern, shared: bool = False) -> Pattern:
    return OneOf(Op("pow", d, Scalar(2)), Op("mul", d, d), Op("square", d))


def _normalised(d: Pattern, variance: Pattern) -> Pattern:
    """d over the root of variance + epsilon."""
    inside = Op("add", variance, Scalar(name="epsilon"))
    root = Op("sqrt", inside)
    return OneOf(
        Op("div", d, root),
        Op(
            "mul",
            d,
            OneOf(
                Op("reciprocal", root), Op("rsqrt", inside), Op("div", Scalar(1), root), Op("pow", inside, Scalar(-0.5))
            ),
        ),
    )


_D = Op("sub", X, _mean(X, "m1"))
_D_SQUARED_MEAN = OneOf(
    _mean(_squared(_D), "m2"),
    _mean(Op("squared_difference", X, _mean(X, "m1")), "m2"),
)
LAYER_NORM = _normalised(_D, _D_SQUARED_MEAN)
RMS_NORM = _normalised(X, _mean(_squared(X), "m2"))

# x * s + (bias - mean * s), s = scale * rsqrt(var + epsilon)
_INSIDE = Op("add", OneOf(_D_SQUARED_MEAN), Scalar(name="epsilon"))
_S = Op("mul", OneOf(Op("rsqrt", _INSIDE), Op("reciprocal", Op("sqrt", _INSIDE))), Const("scale"), shared=True)
LAYER_NORM_FLAT = Op("add", Op("mul", X, _S), Op("sub", Const("bias"), Op("mul", _mean(X, "m1"), _S)))


def _axis(rw: Rewriter, m: Match, bind: str) -> int | None:
    """The first of the normalised axes as a negative number when they are the last dims, else None."""
    x = m["x"]
    axes = walk.data(m[bind + "_axes"])
    if x.rank is None or axes is None or axes.size == 0:
        return None
    got = sorted(int(a) % x.rank for a in axes.reshape(-1))
    if got != list(range(x.rank - len(got), x.rank)):
        return None
    return got[0] - x.rank


def _layer_norm(rw: Rewriter, m: Match) -> Value | None:
    axis = _axis(rw, m, "m2")
    if axis is None or ("m1_axes" in m and _axis(rw, m, "m1") != axis):
        return None
    kw = {"axis": axis, "epsilon": walk.scalar(m["epsilon"]), "node": m.root.name if m.root else ""}
    if "scale" in m:
        scale, bias = (_trailing(m[k], m["x"], axis) for k in ("scale", "bias"))
        if scale is None or bias is None:
            return None
        return rw.op("layer_norm", m["x"], rw.constant(scale, "scale"), rw.constant(bias, "bias"), **kw)
    return rw.op("layer_norm", m["x"], **kw)


def _rms_norm(rw: Rewriter, m: Match) -> Value | None:
    axis = _axis(rw, m, "m2")
    if axis is None:
        return None
    return rw.op("rms_norm", m["x"], axis=axis, epsilon=walk.scalar(m["epsilon"]), node=m.root.name if m.root else "")


def _trailing(v: Value, x: Value, axis: int) -> np.ndarray | None:
    """The constant as an array of exactly the normalised dims of x, or None when it does not fit them."""
    data = walk.data(v)
    if data is None or x.shape is None:
        return None
    dims = x.shape[axis:]
    if not all(isinstance(d, int) for d in dims):
        return None
    while data.ndim > len(dims):
        if data.shape[0] != 1:
            return None
        data = data[0]
    try:
        return np.ascontiguousarray(np.broadcast_to(data, dims))  # type: ignore[arg-type]
    except ValueError:
        return None


# ---- scale and bias behind a norm that has none yet
_PLAIN = Op(
    ("layer_norm", "rms_norm"),
    X,
    bind="norm",
    where=lambda rw, n: walk.operand(n, 1) is None and walk.operand(n, 2) is None,
)
SCALE = Op("mul", _PLAIN, Const("scale"))
_SCALED = Op("layer_norm", X, Const("scale"), bind="norm", where=lambda rw, n: walk.operand(n, 2) is None)
BIAS = Op("add", OneOf(_SCALED, Op("layer_norm", X, bind="norm")), Const("bias"))


def _kw(norm: Node) -> dict[str, float]:
    return {k: walk.attr(norm, k) for k in ("axis", "epsilon")} | {"node": norm.name}


def _scale(rw: Rewriter, m: Match) -> Value | None:
    norm = m.node("norm")
    scale = _trailing(m["scale"], m["x"], walk.attr(norm, "axis"))
    return None if scale is None else rw.op(norm.op, m["x"], rw.constant(scale, m["scale"].name), **_kw(norm))


def _bias(rw: Rewriter, m: Match) -> Value | None:
    norm = m.node("norm")
    bias = _trailing(m["bias"], m["x"], walk.attr(norm, "axis"))
    if bias is None:
        return None
    return rw.op("layer_norm", m["x"], walk.operand(norm, 1), rw.constant(bias, m["bias"].name), **_kw(norm))


# ---- softmax
_MAX = Op("reduce_max", X, Const("max_axes"), keepdims=True)
_E = OneOf(Op("exp", Op("sub", X, _MAX)), Op("exp", X))
SOFTMAX = Op("div", _E, Op("reduce_sum", _E, Const("sum_axes"), keepdims=True))
LOG_SOFTMAX = Op("log", Op("softmax", X, bind="softmax"))


def _softmax(rw: Rewriter, m: Match) -> Value | None:
    axes = walk.data(m["sum_axes"])
    rank = m["x"].rank
    if axes is None or axes.size != 1 or rank is None:
        return None
    axis = int(axes.reshape(-1)[0]) % rank
    if "max_axes" in m:
        other = walk.data(m["max_axes"])
        if other is None or [int(a) % rank for a in other.reshape(-1)] != [axis]:
            return None
    return rw.op("softmax", m["x"], axis=axis - rank, node=m.root.name if m.root else "")


def _log_softmax(rw: Rewriter, m: Match) -> Value:
    return rw.op("log_softmax", m["x"], axis=walk.attr(m.node("softmax"), "axis"), node=m.root.name if m.root else "")


RULES = [
    Rule("layer_norm", LAYER_NORM_FLAT, _layer_norm),
    Rule("layer_norm", LAYER_NORM, _layer_norm),
    Rule("rms_norm", RMS_NORM, _rms_norm),
    Rule("norm_scale", SCALE, _scale),
    Rule("norm_bias", BIAS, _bias),
    Rule("softmax", SOFTMAX, _softmax),
    Rule("log_softmax", LOG_SOFTMAX, _log_softmax),
]


def run(graph: Graph) -> dict[str, int]:
    """Replace spelled-out normalisations by their op.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 4))
    >>> e = b.op("exp", x)
    >>> import numpy as np
    >>> g = b.output(b.op("div", e, b.op("reduce_sum", e, np.array([1]))), "y")
    >>> run(g), g.nodes[0].op
    ({'softmax': 1}, 'softmax')
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    rw = Rewriter(graph)
    counts = apply_rules(rw, RULES)
    rw.commit()
    return counts
