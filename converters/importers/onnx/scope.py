"""Where names live while a model is imported.

A :class:`Body` is one Graph under construction (the model, a branch of ``if``, the body of ``loop``) with the values it
captures from the Body around it.  A :class:`Scope` is a table of ONNX names inside a Body: the body's own, or that of a
function inlined into it.  Names map to *items*: a Value, a :class:`Sequence` or :class:`Optional` that exists only
while importing, or MISSING for the result of a node that could not be imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.dtypes import DType
from deploykit.errors import DeploykitError
from deploykit.graph import Graph, Value
from deploykit.ops import GraphBuilder, get
from deploykit.ops.core import Spec

FOLD_LIMIT = 4096  # elements: larger results are left to the folding pass


@dataclass
class Sequence:
    """An ONNX sequence whose length is known while importing."""

    items: list[Any]
    dtype: DType | None = None


@dataclass
class Optional:
    """An ONNX optional whose state is known while importing; ``item`` None means empty."""

    item: Any = None


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Body:
    """One graph being built.  ``captures`` maps values of ``outer`` to the inputs that stand for them here."""

    def __init__(self, graph: Graph, outer: Body | None = None) -> None:
        self.builder = GraphBuilder(graph)
        self.graph = graph
        self.outer = outer
        self.captures: dict[Value, Value] = {}
        self.node_names: set[str] = set()
        self.reserved: set[str] = set()  # names the source gives to values still to come

    def reserve(self, names: Iterable[str]) -> None:
        """Keep these names for the values that the source calls so."""
        fresh = set(names) - self.builder._names - {""}
        self.reserved |= fresh
        self.builder._names |= fresh

    def input(self, name: str, dtype: DType, shape: Any) -> Value:
        """A graph input that keeps its exact name."""
        v = Value(name, dtype, shape)
        self.builder._names.add(name)
        self.graph.inputs.append(v)
        return v

    def constant(self, data: Any, name: str = "", dtype: Any = None) -> Value:
        """A constant; small ones made by handlers get a name of their own kind."""
        return self.builder.constant(data, name or "const", dtype)

    def capture(self, item: Any) -> Any:
        """Bring an item of the outer body into this one."""
        if isinstance(item, Sequence):
            return Sequence([self.capture(x) for x in item.items], item.dtype)
        if isinstance(item, Optional):
            return Optional(None if item.item is None else self.capture(item.item))
        if not isinstance(item, Value):
            return item
        if item not in self.captures:
            assert self.outer is not None
            spec = self.outer.builder.spec(item)
            if spec.value is not None and spec.value.dtype != object:
                inner = Value(self.builder.unique(item.name), data=np.asarray(spec.value))
            else:
                inner = Value(self.builder.unique(item.name), item.dtype, item.shape)
                if spec.value is not None:
                    self.builder.specs[inner] = Spec(spec.dtype, spec.shape, spec.value)
            self.captures[item] = inner
        return self.captures[item]

    def captured(self) -> list[tuple[Value, Value]]:
        """(outer, inner) of the captures that are real inputs, in order of first use."""
        return [(o, i) for o, i in self.captures.items() if not i.is_constant]

    def emit(self, name: str, inputs: list[Any], attrs: dict[str, Any], node: str, outputs: int | None = None) -> Any:
        """Append a node; a result known now and small becomes a constant instead."""
        b = self.builder
        p = get(name)
        ins = [x if x is None or isinstance(x, Value) else self.constant(x) for x in inputs]
        while len(ins) > 1 and ins[-1] is None:
            ins.pop()
        single = outputs is None and len(p.results) == 1 and not p.results[0].variadic
        folded = self._fold(p, ins, attrs, outputs)
        if folded is not None:
            values = [self.constant(a, node) for a in folded]
            return values[0] if single else values
        node = self.node_name(node)
        values = b.op(name, *ins, outputs=outputs, node=node, **attrs)
        many = values if isinstance(values, list) else [values]
        if "effect" not in p.flags and "random" not in p.flags:
            known = [b.known(v) for v in many]
            if many and all(k is not None and k.size <= FOLD_LIMIT for k in known):
                b.graph.nodes.pop()
                many = [self.constant(np.asarray(k, v.dtype.np), v.name) for k, v in zip(known, many, strict=True)]  # type: ignore
        return many[0] if single else many

    def _fold(
        self, p: Any, ins: list[Value | None], attrs: dict[str, Any], outputs: int | None
    ) -> list[np.ndarray] | None:
        if p.reference is None or {"effect", "random"} & p.flags or p.family == "control":
            return None
        arrays = []
        for v in ins:
            known = None if v is None else self.builder.known(v)
            if v is not None and (known is None or known.size > FOLD_LIMIT):
                return None
            arrays.append(known)
        if not any(a is not None for a in arrays):
            return None
        extra = {"n_outputs": outputs or 1} if "n_outputs" in p.extra else {}
        try:
            p.check_inputs(len(ins), lambda i: arrays[i] is None)
            with np.errstate(all="ignore"):
                got = p.reference(*arrays, **p.complete(attrs), **extra)
        except DeploykitError:
            return None  # let inference say what is wrong, with the node's name
        many = [np.asarray(a) for a in (got if isinstance(got, (tuple, list)) else [got])]
        if outputs is not None:
            many = many[:outputs]
        return many if all(a.size <= FOLD_LIMIT for a in many) else None

    def node_name(self, hint: str) -> str:
        """A node name not used yet in this body."""
        name, i = hint, 1
        while name in self.node_names:
            i += 1
            name = f"{hint}_{i}"
        self.node_names.add(name)
        return name

    def rename(self, v: Value, name: str) -> None:
        """Give a value its source name (numbered if it is taken: two inlined functions); its old name becomes free."""
        if v.name == name:
            return
        self.builder._names.discard(v.name)
        if name in self.reserved:
            self.reserved.discard(name)
            v.name = name
        else:
            v.name = self.builder.unique(name)


@dataclass
class Scope:
    """ONNX names of one graph or one inlined function.  ``outer`` is where names not found here are looked up."""

    body: Body
    opsets: dict[str, int]
    outer: Scope | None = None
    env: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)  # attributes of the call, for ref_attr_name
    prefix: str = ""  # before node and value names, "" outside functions

    def lookup(self, name: str) -> Any:
        """The item of that name; from outside it comes as a capture.  KeyError when nobody defines it."""
        if name in self.env:
            return self.env[name]
        if self.outer is None:
            raise KeyError(name)
        item = self.outer.lookup(name)
        if self.outer.body is not self.body:
            item = self.body.capture(item)
        self.env[name] = item
        return item
