"""Find activations that exporters spell out in arithmetic: sigmoid, softplus, relu, relu6, leaky relu, hard sigmoid,
hard swish, SiLU, mish, GELU by erf and by tanh.

Run it until nothing changes: larger patterns are written over the smaller ones (SiLU over sigmoid).
"""

from __future__ import annotations

import math
from collections import Counter

from deploykit.converters.ir import walk
from deploykit.converters.ir.pattern import Match, OneOf, Op, Pattern, Rule, Scalar, Var, apply_rules, is_float
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Graph, Value

TOLERANCE = "float"

X = Var("x", is_float)


def _times(a: Pattern, b: Pattern, c: Pattern) -> Pattern:
    """a * b * c in any order and association."""
    return OneOf(
        Op("mul", a, Op("mul", b, c)),
        Op("mul", b, Op("mul", a, c)),
        Op("mul", c, Op("mul", a, b)),
    )


def _scaled(x: Pattern, factor: float) -> Pattern:
    """x * factor, as a product or a quotient."""
    return OneOf(Op("mul", x, Scalar(factor)), Op("div", x, Scalar(1 / factor)))


def _unary(name: str, **attrs: float):  # type: ignore[no-untyped-def]
    def build(rw: Rewriter, m: Match) -> Value:
        return rw.op(name, m["x"], node=_name(m), **attrs)

    return build


def _name(m: Match) -> str:
    return m.root.name if m.root is not None else ""


# ---- the small ones
_EXP_NEG = Op("exp", Op("neg", X))
SIGMOID = OneOf(
    Op("reciprocal", Op("add", _EXP_NEG, Scalar(1))),
    Op("div", Scalar(1), Op("add", _EXP_NEG, Scalar(1))),
)
SOFTPLUS = OneOf(Op("log", Op("add", Op("exp", X), Scalar(1))), Op("log1p", Op("exp", X)))
RELU = OneOf(Op("maximum", X, Scalar(0)), Op("clip", X, Scalar(0)), Op("clip", X, Scalar(0), Scalar(math.inf)))
RELU6 = OneOf(
    Op("clip", X, Scalar(0), Scalar(6)),
    Op("minimum", Op(("relu",), X), Scalar(6)),
    Op("clip", Op("relu", X), None, Scalar(6)),
)
LEAKY = Op("maximum", X, Op("mul", X, Scalar(name="slope")))
_RELU6_OF_X3 = OneOf(
    Op("relu6", Op("add", X, Scalar(3))),
    Op("clip", Op("add", X, Scalar(3)), Scalar(0), Scalar(6)),
)
HARD_SIGMOID = OneOf(
    _scaled(_RELU6_OF_X3, 1 / 6),
    Op("clip", Op("add", OneOf(Op("mul", X, Scalar(name="alpha")), Op("div", X, Scalar(name="over"))), Scalar(name="beta")), Scalar(0), Scalar(1)),  # noqa: E501
)  # fmt: skip


def _leaky(rw: Rewriter, m: Match) -> Value | None:
    slope = walk.scalar(m["slope"])
    if slope is None or not 0 <= slope <= 1:
        return None  # max(x, slope * x) is leaky relu only then
    return rw.op("leaky_relu", m["x"], alpha=slope, node=_name(m))


def _hard_sigmoid(rw: Rewriter, m: Match) -> Value | None:
    if "beta" not in m:
        return rw.op("hard_sigmoid", m["x"], alpha=1 / 6, beta=0.5, node=_name(m))
    beta = walk.scalar(m["beta"])
    alpha = walk.scalar(m["alpha"]) if "alpha" in m else 1 / (walk.scalar(m["over"]) or math.inf)
    return rw.op("hard_sigmoid", m["x"], alpha=alpha, beta=beta, node=_name(m))


SMALL = [
    Rule("sigmoid", SIGMOID, _unary("sigmoid")),
    Rule("softplus", SOFTPLUS, _unary("softplus")),
    Rule("relu6", RELU6, _unary("relu6")),
    Rule("relu", RELU, _unary("relu")),
    Rule("leaky_relu", LEAKY, _leaky),
]

# ---- the gated ones: x times a function of x
_HARD = Op("hard_sigmoid", X, bind="gate", where=lambda rw, n: _is_hard_swish_gate(n))


def _is_hard_swish_gate(node) -> bool:  # type: ignore[no-untyped-def]
    alpha, beta = walk.attr(node, "alpha"), walk.attr(node, "beta")
    # exporters write 1/6 with few digits (0.1666667, 0.16666)
    return math.isclose(alpha, 1 / 6, rel_tol=1e-4) and math.isclose(beta, 0.5, rel_tol=1e-6)


HARD_SWISH = OneOf(
    Op("mul", X, _HARD),
    _scaled(Op("mul", X, _RELU6_OF_X3), 1 / 6),
    Op("mul", _scaled(X, 1 / 6), _RELU6_OF_X3),
)
SILU = Op("mul", X, Op("sigmoid", X))
QUICK_GELU = Op("mul", X, Op("sigmoid", Op("mul", X, Scalar(name="alpha"))))
MISH = Op("mul", X, Op("tanh", Op("softplus", X)))

_ERF = Op("add", Op("erf", _scaled(X, math.sqrt(0.5))), Scalar(1))
GELU_ERF = OneOf(
    _times(X, Scalar(0.5), _ERF), Op("mul", _ERF, Op("div", X, Scalar(2))), Op("div", Op("mul", X, _ERF), Scalar(2))
)
_CUBE = OneOf(Op("pow", X, Scalar(3)), Op("mul", X, OneOf(Op("mul", X, X), Op("square", X))))
_INNER = Op("mul", Op("add", X, Op("mul", _CUBE, Scalar(0.044715))), Scalar(math.sqrt(2 / math.pi)))
_INNER2 = _times(
    X,
    Scalar(math.sqrt(2 / math.pi)),
    Op("add", Op("mul", OneOf(Op("mul", X, X), Op("square", X)), Scalar(0.044715)), Scalar(1)),
)
_TANH = Op("add", Op("tanh", OneOf(_INNER, _INNER2)), Scalar(1))
GELU_TANH = OneOf(_times(X, Scalar(0.5), _TANH), Op("mul", X, Op("mul", _TANH, Scalar(0.5))))


def _quick_gelu(rw: Rewriter, m: Match) -> Value | None:
    return rw.op("silu", m["x"], alpha=walk.scalar(m["alpha"]), node=_name(m))


def _gelu_tanh(rw: Rewriter, m: Match) -> Value:
    return rw.op("gelu", m["x"], approximate=True, node=_name(m))


GATED = [
    Rule("hard_swish", HARD_SWISH, _unary("hard_swish")),
    Rule("silu", SILU, _unary("silu")),
    Rule("silu", QUICK_GELU, _quick_gelu),
    Rule("mish", MISH, _unary("mish")),
    Rule("gelu", GELU_ERF, _unary("gelu")),
    Rule("gelu", GELU_TANH, _gelu_tanh),
    Rule("hard_sigmoid", HARD_SIGMOID, _hard_sigmoid),
]


def run(graph: Graph) -> dict[str, int]:
    """Replace spelled-out activations by their op.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (4,))
    >>> g = b.output(b.op("mul", x, b.op("sigmoid", x)), "y")
    >>> run(g), g.nodes[0].op
    ({'silu': 1}, 'silu')
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    rw = Rewriter(graph)
    # the gated forms first: a hard swish contains a relu6, a mish a softplus
    counts = apply_rules(rw, GATED)
    counts.update(apply_rules(rw, SMALL))
    rw.commit()
    return counts
