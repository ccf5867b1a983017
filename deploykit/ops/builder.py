"""GraphBuilder: the interpreter that records nodes, and the tool by which importers and passes make them."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np

from deploykit.dtypes import DType
from deploykit.graph.dims import Shape
from deploykit.graph.ir import Graph, Node, Value
from deploykit.ops import dispatch
from deploykit.ops.core import Op, Spec, get
from deploykit.ops.infer import asks_for_variables, declare_variables, fold_value, infer_op, spec_of


class GraphBuilder:
    """Append nodes to a graph; shapes are inferred as they come.

    >>> import numpy as np
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 3))
    >>> b.output(b.op("relu", x), "y").nodes[0].op
    'relu'
    """

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = graph if graph is not None else Graph()
        self.specs: dict[Value, Spec] = {}
        self._count = 0

    @functools.cached_property
    def _names(self) -> set[str]:
        """Gathered when a new one is first wanted, which many passes never do."""
        return self._taken()

    def _taken(self) -> set[str]:
        names = {v.name for v in self.graph.inputs}
        for n in self.graph.nodes:
            names.update([v.name for v in n.outputs if v is not None])
        return names

    def unique(self, hint: str) -> str:
        """A value name not used yet in this graph: the hint, or the hint with a number."""
        name = hint or "v"
        while name in self._names or not name:
            self._count += 1
            name = f"{hint or 'v'}_{self._count}"
        self._names.add(name)
        return name

    def input(self, name: str, dtype: str | DType, shape: Shape | None) -> Value:
        """Declare a graph input."""
        from deploykit import dtypes

        v = Value(self.unique(name), dtypes.dtype(dtype), shape)
        self.graph.inputs.append(v)
        return v

    def constant(self, data: Any, name: str = "c", dtype: str | DType | None = None) -> Value:
        """A baked constant (not copied when it is an array of the right dtype)."""
        from deploykit import dtypes

        array = np.asarray(data, dtype=None if dtype is None else dtypes.dtype(dtype).np)
        return Value(self.unique(name), data=array)

    def op(
        self, name: str, *inputs: Any, outputs: int | None = None, node: str = "", out: Any = (), **attrs: Any
    ) -> Any:
        """Append one node; returns its output Value, or a list when the op has several results or ``outputs`` is given.

        ``inputs`` may be Values, None, or arrays and numbers (which become constants).  ``node`` names the node,
        ``out`` the outputs.  ``outputs`` is the number of outputs of a variadic op, or how many results are wanted.
        """
        p = get(name)
        ins = self._values(p, inputs)
        while ins and ins[-1] is None and len(ins) > 1:
            ins.pop()
        values = self._append(p, ins, p.complete(attrs), outputs, node, [out] if isinstance(out, str) else list(out))
        return values if outputs is not None or len(p.results) != 1 or p.results[0].variadic else values[0]

    def _values(self, p: Op, inputs: Any) -> list[Value | None]:
        ins = dispatch.coerce(p, list(inputs))
        return [x if x is None or isinstance(x, Value) else self.constant(x) for x in ins]

    def _append(
        self, p: Op, ins: list[Value | None], attrs: dict[str, Any], outputs: int | None, node: str, out: list[str]
    ) -> list[Value]:
        p.check_inputs(len(ins), lambda i: ins[i] is None)
        specs = [None if v is None else self.spec(v) for v in ins]
        extra: dict[str, int] = {}
        if p.variable_outputs:
            extra = p.count_outputs(
                [None if v is None else v if v.data is None else v.data for v in ins], attrs, outputs
            )
        with declare_variables(self.graph.variables) if asks_for_variables(p) else contextlib.nullcontext():
            got = [fold_value(s) for s in infer_op(p, specs, {**attrs, **extra})]
        if outputs is not None:
            got = got[:outputs]
        values = []
        for i, s in enumerate(got):
            v = Value(self.unique(out[i] if i < len(out) and out[i] else f"{node or p.name}"), s.dtype, s.shape)
            self.specs[v] = s
            values.append(v)
        kept = {k: a for k, a in attrs.items() if p.attrs[k].required or a != p.attrs[k].default}
        self.graph.nodes.append(Node(p.name, ins, values, kept, node))
        return values

    def spec(self, v: Value) -> Spec:
        """Spec of a value, with its data or symbolic value where known."""
        if v not in self.specs:
            self.specs[v] = spec_of(v)  # type: ignore[assignment]
        return self.specs[v]

    def known(self, v: Value | None) -> np.ndarray | None:
        """The value's data when it is fully known at build time (constants and folded shape arithmetic)."""
        if v is None:
            return None
        value = self.spec(v).value
        return value if value is not None and value.dtype != object else None

    def output(self, v: Value, name: str | None = None) -> Graph:
        """Declare a graph output under a public name."""
        self.graph.outputs.append(v)
        self.graph.output_names.append(name or v.name)
        return self.graph

    # ---- the interpreter protocol: ops called as functions record here
    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> Any:
        """Record ``op(*inputs, **attrs)``."""
        attrs = dict(attrs)
        values = self._append(op, self._values(op, inputs), attrs, attrs.pop("n_outputs", None), "", [])
        return values[0] if len(op.results) == 1 and not op.results[0].variadic else tuple(values)

    def tracing(self):
        """``with builder.tracing(): y = ops.add(x, 1.0)`` records into this builder."""
        return dispatch.use(self)
