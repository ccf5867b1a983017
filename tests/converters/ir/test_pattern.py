"""Patterns match in both orders, refuse shared inner nodes, and rules replace."""

import numpy as np

from deploykit.converters.ir.pattern import Const, Match, OneOf, Op, Rule, Scalar, Through, Var, apply_rules, find
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.ops import GraphBuilder

X = Var("x")
SILU = Op("mul", X, Op("sigmoid", X))
RULE = Rule("silu", SILU, lambda rw, m: rw.op("silu", m["x"]))


def _silu(flip: bool, extra: bool = False, other: bool = False):
    b = GraphBuilder()
    x = b.input("x", "float32", (4,))
    z = b.input("z", "float32", (4,))
    s = b.op("sigmoid", z if other else x)
    y = b.op("mul", s, x) if flip else b.op("mul", x, s)
    g = b.output(y, "y")
    if extra:
        b.output(s, "s")
    return g


def test_rule_replaces_in_either_order() -> None:
    for flip in (False, True):
        g = _silu(flip)
        rw = Rewriter(g)
        assert apply_rules(rw, [RULE]) == {"silu": 1}
        rw.commit()
        assert [n.op for n in g.nodes] == ["silu"] and g.public_outputs == ["y"]


def test_same_name_means_same_value_and_inner_results_are_private() -> None:
    for kw in ({"other": True}, {"extra": True}):
        g = _silu(False, **kw)
        rw = Rewriter(g)
        assert not apply_rules(rw, [RULE])
        assert rw.commit() == 0


def test_shared_lifts_privacy() -> None:
    g = _silu(False, extra=True)
    rw = Rewriter(g)
    rule = Rule("silu", Op("mul", X, Op("sigmoid", X, shared=True)), lambda rw, m: rw.op("silu", m["x"]))
    assert apply_rules(rw, [rule]) == {"silu": 1}
    rw.commit()
    assert sorted(n.op for n in g.nodes) == ["sigmoid", "silu"]


def test_scalars_constants_and_choices() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (4,))
    y = b.op("add", b.op("mul", np.float32(0.5), x), np.ones(4, np.float32))
    g = b.output(y)
    rw = Rewriter(g)
    half = Op("mul", X, Scalar(0.5, name="half"))
    m = find(rw, Op("add", OneOf(Op("div", X, Scalar(2.0)), half), Const("c")), y)
    assert m is not None and m["x"] is x and m["c"].data.shape == (4,) and "half" in m
    assert find(rw, Op("add", Op("mul", X, Scalar(0.6)), Const("c")), y) is None


def test_refusal_leaves_the_graph_alone_and_attrs_are_compared() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (4, 4))
    y = b.op("leaky_relu", x, alpha=0.5)
    g = b.output(y)
    rw = Rewriter(g)
    assert find(rw, Op("leaky_relu", X, alpha=0.01), y) is None
    assert isinstance(find(rw, Op(("relu", "leaky_relu"), X, alpha=0.5, bind="act"), y), Match)
    assert not apply_rules(rw, [Rule("no", Op("leaky_relu", X), lambda rw, m: None)])
    assert rw.commit() == 0


def test_through_skips_views() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (2, 2))
    y = b.op("exp", b.op("reshape", x, np.array([4])))
    g = b.output(y)
    m = find(Rewriter(g), Op("exp", Through(("reshape",), X)), y)
    assert m is not None and m["x"] is y.producer.inputs[0]  # the nearest first
