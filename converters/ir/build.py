"""What all importers build with: a graph under construction, the means to emit ops into it, and a list of problems."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.ir.walk import unfolded
from deploykit.dtypes import DType
from deploykit.errors import DeploykitError, FormatError, UnsupportedError
from deploykit.graph import Graph, Value
from deploykit.graph.dims import DimLike
from deploykit.ops import GraphBuilder, get
from deploykit.ops.core import Spec
from deploykit.ops.infer import infer_op

FOLD_LIMIT = 4096  # elements: larger results are left to the folding pass


def _large(s: Spec) -> bool:
    """Whether a result is known to be beyond FOLD_LIMIT; before it is computed, for it may be beyond all memory too."""
    sizes = [d for d in s.shape or () if isinstance(d, int)]
    return s.shape is not None and len(sizes) == len(s.shape) and math.prod(sizes) > FOLD_LIMIT


@dataclass
class Text:
    """A tensor of strings while importing: code points in one more dim (``ir/text.py``)."""

    codes: Any


class Body:
    """One graph being built.  ``captures`` maps values of ``outer`` to the inputs that stand for them here."""

    def __init__(self, graph: Graph, outer: Body | None = None) -> None:
        self.builder = GraphBuilder(graph)
        self.graph = graph
        self.outer = outer
        self.captures: dict[Value, Value] = {}
        self.node_names: set[str] = set()
        self.numbers: dict[str, int] = {}  # the last number given to a node name
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
        """Bring an item of the outer body into this one; what is neither Value nor Text stays as it is."""
        if isinstance(item, Text):
            return Text(self.capture(item.codes))
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
        if unfolded(p.name, self.builder.known(ins[0]) if ins else None, attrs):
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
            specs = [None if v is None else self.builder.spec(v) for v in ins]
            if any(_large(s) for s in infer_op(p, specs, p.complete(attrs) | extra)):
                return None
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
        name = hint
        while name in self.node_names:
            i = self.numbers[hint] = self.numbers.get(hint, 1) + 1
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


class Emitter:
    """Emits ops into a body; handlers of importers see one of these per source node, whose ``name`` starts all names."""

    body: Body
    name: str

    def known(self, v: Value | None) -> np.ndarray | None:
        """The data of a value where it is known while importing."""
        return self.body.builder.known(v)

    def fixed(self, v: Value, what: str) -> np.ndarray:
        """The data of a value that must be known while importing."""
        data = self.known(v)
        if data is None:
            raise UnsupportedError(
                f"{what} is computed at run time; only a constant is supported. "
                "Fix the input shapes (--input-shape) if it is computed from them"
            )
        return np.asarray(data)

    def rank(self, v: Value) -> int:
        """Rank of a value, which must be known."""
        if v.shape is None:
            raise UnsupportedError(
                f"the rank of '{v.name}' is not known. Give the shapes of the model's inputs (input_shapes=)"
            )
        return len(v.shape)

    def shape(self, v: Value) -> tuple:
        """Shape of a value; its rank must be known, its dims may be symbolic."""
        self.rank(v)
        return v.shape  # type: ignore[return-value]

    def dims_of(self, v: Value, rank: int, what: str) -> tuple:
        """Shape of a value that must have this rank; FormatError otherwise."""
        shape = self.shape(v)
        if len(shape) != rank:
            raise FormatError(f"{what} has rank {len(shape)}; expected {rank}")
        return shape

    def axis(self, value: int, rank: int) -> int:
        """A non-negative axis; raises FormatError when out of range."""
        if not -rank <= value < rank:
            raise FormatError(f"axis {value} is out of range for rank {rank}")
        return value % rank

    def op(self, name: str, *inputs: Any, outputs: int | None = None, **attrs: Any) -> Any:
        """Append one of our ops; see :meth:`Body.emit`."""
        return self.body.emit(name, list(inputs), attrs, f"{self.name}/{name}", outputs)

    def const(self, data: Any, dtype: Any = None) -> Value:
        """A constant."""
        return self.body.constant(data, f"{self.name}/const", dtype)

    def i64(self, *values: int) -> Value:
        """A constant int64 vector."""
        if any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in values):
            raise FormatError(f"the numbers {str(values)[:80]} do not fit 64 bits")
        return self.const(np.array(values, np.int64))

    def scalar(self, value: float, like: Value | DType) -> Value:
        """A constant scalar of the dtype of ``like``."""
        dtype = like if isinstance(like, DType) else like.dtype
        assert dtype is not None
        return self.const(np.array(value).astype(dtype.np))

    def cast(self, x: Value, dtype: Any) -> Value:
        """x converted to dtype, or x itself when it has it."""
        return x if x.dtype is dtypes.dtype(dtype) else self.op("cast", x, dtype=dtypes.dtype(dtype).name)

    def transpose(self, x: Value, perm: Iterable[int]) -> Value:
        """Transposed x; constants are viewed, not copied; nothing for the identity."""
        p = tuple(perm)
        if p == tuple(range(len(p))):
            return x
        if x.is_constant:
            assert x.data is not None
            self.dims_of(x, len(p), f"'{x.name}'")
            return self.body.constant(x.data.transpose(p), x.name)
        return self.op("transpose", x, perm=p)

    def last(self, x: Value) -> Value:
        """[N, C, spatial...] -> [N, spatial..., C]."""
        r = self.rank(x)
        return x if r <= 2 else self.transpose(x, (0, *range(2, r), 1))

    def first(self, x: Value) -> Value:
        """[N, spatial..., C] -> [N, C, spatial...]."""
        r = self.rank(x)
        return x if r <= 2 else self.transpose(x, (0, r - 1, *range(1, r - 1)))

    def reshape(self, x: Value, *shape: Any) -> Value:
        """x in another shape: ints, one of them may be -1."""
        return self.op("reshape", x, self.i64(*shape), allow_zero=0 in shape and -1 not in shape)

    def dims(self, x: Value, start: int = 0, end: int | None = None) -> Value:
        """int64 vector of dims [start:end] of x."""
        return self.op("shape_of", x, start=start, **({} if end is None else {"end": end}))

    def sizes(self, v: Value) -> list[DimLike | None] | None:
        """A shape-like value where it is known while importing: numbers, symbols, or None per entry."""
        value = self.body.builder.spec(v).value
        return None if value is None else [d if not hasattr(d, "__index__") else int(d) for d in value.reshape(-1)]

    def inside(self, name: str) -> Body:
        """A body within the present one: a branch, or the round of a loop."""
        body = type(self.body)(Graph(name), self.body)
        body.graph.variables = self.body.graph.variables
        return body

    def branch(self, condition: Value, makers: list[tuple[str, Callable[[Body], list[Value]]]]) -> list[Value]:
        """An ``if`` node: two (name, function that fills a body and returns its results), then and else."""
        made = []
        for name, make in makers:
            body = self.inside(name)
            made.append((body, make(body)))
        outer: dict[Value, None] = {}
        for body, _ in made:
            outer |= dict.fromkeys(o for o, _ in body.captured())
        for body, outs in made:
            close(body, list(outer), outs)
        then, other = (b.graph for b, _ in made)
        return self.op("if", condition, *outer, outputs=len(made[0][1]), then_graph=then, else_graph=other)


def handler_table() -> tuple[dict[str, Callable[[Any], Any]], Callable[..., Callable[[Any], Any]]]:
    """A table of handlers by operator name, and the decorator that enters a function under one or more names; it gets
    the importer's call and returns the output item, or a list of them."""
    table: dict[str, Callable[[Any], Any]] = {}

    def handles(*names: str) -> Callable[[Any], Any]:
        def register(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
            for name in names:
                assert name not in table, name
                table[name] = f
            return f

        return register

    return table, handles


def close(body: Body, outer: list[Value], outs: list[Value]) -> None:
    """Give a body one input per captured value, in a common order, and its outputs."""
    for o in outer:
        inner = body.captures.get(o)
        if inner is None or inner.is_constant:
            inner = Value(body.builder.unique(o.name), o.dtype, o.shape)
        body.graph.inputs.append(inner)
    body.graph.outputs = list(outs)
    body.graph.variables = []


class Problems:
    """Everything that stands in the way of an import, gathered so that it can be told at once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: dict[str, list[str]] = defaultdict(list)  # what -> names of the nodes
        self.kinds: set[type] = set()

    def note(self, error: DeploykitError, node: str, op: str = "") -> None:
        """Note a problem and go on."""
        self.kinds.add(type(error))
        text = error.message.rstrip(".")
        self.found[f"{op}: {text}" if op else text].append(node)

    def mark(self) -> Any:
        """The problems noted so far, for :meth:`reset`."""
        return {k: list(v) for k, v in self.found.items()}, set(self.kinds)

    def reset(self, marked: Any) -> None:
        """Forget the problems of an attempt that is made again."""
        self.found = defaultdict(list, marked[0])
        self.kinds = marked[1]

    def fail(self) -> None:
        """Raise one error with all problems, if there are any."""
        if not self.found:
            return
        lines = []
        for what, nodes in self.found.items():
            unique = list(dict.fromkeys(n for n in nodes if n))
            shown = ", ".join(f"'{n}'" for n in unique[:3]) + (", …" if len(unique) > 3 else "")
            count = f"{len(nodes)} nodes" if len(nodes) > 1 else "node"
            lines.append(f"{what} ({count} {shown})" if shown else what)
        kind = UnsupportedError if UnsupportedError in self.kinds or len(self.kinds) > 1 else next(iter(self.kinds))
        head = f"{self.source} cannot be imported; {len(lines)} problem{'s' * (len(lines) > 1)}:"
        text = "\n  ".join([head, *lines])
        raise UnsupportedError(text, problems=lines) if kind is UnsupportedError else kind(text)
