"""Patterns over the values of a graph, and rules that replace what they match.

A pattern is a small tree written from the result upward::

    x = Var("x")
    SILU = Op("mul", x, Op("sigmoid", x))

    def build(rw, m):                       # m: name -> Value
        return rw.op("silu", m["x"])        # or None to refuse

    apply_rules(rw, [Rule("silu", SILU, build)])

``Var`` takes any value (the same one wherever the name stands), ``Const`` a constant, ``Scalar`` a constant that holds
one number, ``Op`` the result of a node.  Operands of add, mul, maximum, minimum, equal and the logic ops match in
either order.  Results of inner nodes must have no other reader, or fusing would compute them twice; ``shared=True`` on
an ``Op`` lifts that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.converters.ir import walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.graph import Node, Value

COMMUTATIVE = frozenset(
    "add mul maximum minimum equal not_equal logical_and logical_or logical_xor".split()
    + "bitwise_and bitwise_or bitwise_xor".split()
)


@dataclass
class Match:
    """What a pattern bound: values by name, the nodes inside, and ``root``, the node that gives the result."""

    values: dict[str, Value] = field(default_factory=dict)
    nodes: dict[Node, bool] = field(default_factory=dict)  # node -> may have other readers
    names: dict[str, Node] = field(default_factory=dict)
    root: Node | None = None

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def node(self, name: str) -> Node:
        """The node matched by ``Op(..., bind=name)``."""
        return self.names[name]

    def copy(self) -> Match:
        """For backtracking."""
        return Match(dict(self.values), dict(self.nodes), dict(self.names), self.root)


class Pattern:
    """Base: ``match`` gives all ways in which a value fits, each as an extended copy of the bindings."""

    def match(self, rw: Rewriter, v: Value | None, m: Match) -> Iterator[Match]:
        """Yield extended matches."""
        raise NotImplementedError


@dataclass
class Var(Pattern):
    """Any value; ``where`` narrows it."""

    name: str
    where: Callable[[Rewriter, Value], bool] | None = None

    def match(self, rw: Rewriter, v: Value | None, m: Match) -> Iterator[Match]:
        if v is None:
            return
        if self.name in m.values:
            if m.values[self.name] is v:
                yield m
            return
        if self.where is None or self.where(rw, v):
            m = m.copy()
            m.values[self.name] = v
            yield m


def Const(name: str) -> Var:
    """Any constant."""
    return Var(name, lambda rw, v: v.is_constant)


@dataclass
class Scalar(Pattern):
    """A constant of one element; near ``value`` when that is given, bound to ``name`` when that is given."""

    value: float | None = None
    name: str = ""
    rtol: float = 1e-5

    def match(self, rw: Rewriter, v: Value | None, m: Match) -> Iterator[Match]:
        x = walk.scalar(v)
        if x is None or (self.value is not None and not math.isclose(x, self.value, rel_tol=self.rtol, abs_tol=1e-12)):
            return
        if self.name:
            m = m.copy()
            m.values[self.name] = v  # type: ignore[assignment]
        yield m


class Op(Pattern):
    """The result of a node of one of these ops with these inputs (as many as given; further ones must be absent)."""

    def __init__(
        self,
        op: str | tuple[str, ...],
        *inputs: Pattern | None,
        bind: str = "",
        shared: bool = False,
        where: Callable[[Rewriter, Node], bool] | None = None,
        **attrs: Any,
    ) -> None:
        self.ops = (op,) if isinstance(op, str) else op
        self.inputs = inputs
        self.bind = bind
        self.shared = shared
        self.where = where
        self.attrs = attrs

    def match(self, rw: Rewriter, v: Value | None, m: Match) -> Iterator[Match]:
        node = None if v is None else v.producer
        if node is None or node.op not in self.ops or node.outputs[0] is not v or not rw.alive(node):
            return
        for key, want in self.attrs.items():
            if walk.attr(node, key) != want:
                return
        if any(x is not None for x in node.inputs[len(self.inputs) :]) or len(node.inputs) < len(self.inputs):
            return
        if self.where is not None and not self.where(rw, node):
            return
        m = m.copy()
        m.nodes[node] = m.nodes.get(node, False) or self.shared
        if self.bind:
            m.names[self.bind] = node
        yield from self._operands(rw, list(zip(self.inputs, node.inputs, strict=False)), m)
        if node.op in COMMUTATIVE and len(self.inputs) == 2:
            a, b = self.inputs
            yield from self._operands(rw, [(a, node.inputs[1]), (b, node.inputs[0])], m)

    def _operands(self, rw: Rewriter, pairs: list[tuple[Pattern | None, Value | None]], m: Match) -> Iterator[Match]:
        if not pairs:
            yield m
            return
        (pattern, v), rest = pairs[0], pairs[1:]
        if pattern is None:
            if v is None:
                yield from self._operands(rw, rest, m)
            return
        for got in pattern.match(rw, v, m):
            yield from self._operands(rw, rest, got)


class OneOf(Pattern):
    """The first of several patterns that fits (others are tried when the rest of the tree fails)."""

    def __init__(self, *choices: Pattern) -> None:
        self.choices = choices

    def match(self, rw: Rewriter, v: Value | None, m: Match) -> Iterator[Match]:
        for c in self.choices:
            yield from c.match(rw, v, m)


class Through(Pattern):
    """The pattern, or the pattern under one node of these ops (views, casts): ``Through(("reshape",), p)``."""

    def __init__(self, ops: tuple[str, ...], inner: Pattern) -> None:
        self.ops = ops
        self.inner = inner

    def match(self, rw: Rewriter, v: Value | None, m: Match) -> Iterator[Match]:
        yield from self.inner.match(rw, v, m)
        node = None if v is None else v.producer
        if node is not None and node.op in self.ops and node.outputs[0] is v:
            m = m.copy()
            m.nodes.setdefault(node, False)
            yield from self.inner.match(rw, node.inputs[0], m)


def find(rw: Rewriter, pattern: Pattern, v: Value) -> Match | None:
    """The first match whose inner results are read only inside the match."""
    for m in pattern.match(rw, v, Match()):
        root = v.producer
        if all(shared or n is root or _private(rw, n, m) for n, shared in m.nodes.items()):
            m.root = root
            return m
    return None


def _private(rw: Rewriter, node: Node, m: Match) -> bool:
    return not any(
        v is not None and (rw.is_output(v) or any(u not in m.nodes for u in rw.users(v))) for v in node.outputs
    )


@dataclass
class Rule:
    """Replace the value that ``pattern`` matches by what ``build(rw, match)`` returns; None refuses."""

    name: str
    pattern: Pattern
    build: Callable[[Rewriter, Match], Value | None]

    @property
    def roots(self) -> frozenset[str]:
        """Ops at which a match can end (empty: any)."""
        return _roots(self.pattern)


def _roots(p: Pattern) -> frozenset[str]:
    if isinstance(p, Op):
        return frozenset(p.ops)
    if isinstance(p, OneOf):
        parts = [_roots(c) for c in p.choices]
        return frozenset().union(*parts) if all(parts) else frozenset()
    return frozenset()


def apply_rules(rw: Rewriter, rules: Iterable[Rule]) -> Counter[str]:
    """Try each rule at each node, in graph order, once; the number of replacements by rule name."""
    counts: Counter[str] = Counter()
    rules = [(r, r.roots) for r in rules]  # type: ignore[misc]
    for node in rw.nodes():
        for rule, roots in rules:  # type: ignore[misc]
            if roots and node.op not in roots:
                continue
            if not node.outputs or node.outputs[0] is None or rw.unused(node.outputs[0]):
                break
            m = find(rw, rule.pattern, node.outputs[0])
            if m is None:
                continue
            with rw.before(node):
                new = rule.build(rw, m)
            if new is not None:
                rw.replace(node.outputs[0], new)
                counts[rule.name] += 1
                break
    return counts


def is_float(rw: Rewriter, v: Value) -> bool:
    """For ``where``: a floating-point value."""
    return v.dtype is not None and v.dtype.kind == "f"


def array_like(v: Value, x: Any) -> np.ndarray:
    """A NumPy array of a value's dtype."""
    assert v.dtype is not None
    return np.asarray(x, v.dtype.np)
