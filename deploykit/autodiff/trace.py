"""Recording a Python function as a graph: inputs, captured values of outer traces, reads and writes of variables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import state
from deploykit.autodiff.tensor import Tensor
from deploykit.graph.ir import Graph, Value
from deploykit.graph.ir import Variable as GraphVariable
from deploykit.ops import GraphBuilder
from deploykit.ops.core import Op, Spec
from deploykit.ops.infer import declare_variables

if TYPE_CHECKING:
    from deploykit.autodiff.variable import Variable


class Trace:
    """One graph in the making.  A body of ``dk.cond`` and the like is a trace of its own with ``outer`` set: what it
    reads from outside becomes an input (``captures``), what it assigns is handed out as further outputs."""

    def __init__(self, name: str = "main", outer: Trace | None = None, frozen: bool = False) -> None:
        self.builder = GraphBuilder(Graph(name))
        self.outer = outer
        self.frozen = frozen  # variables are constants
        self.own: set[Value] = set()
        self.captures: dict[Value, Value] = {}  # value of an outer trace -> input of this one
        self.captured: dict[int, Tensor] = {}  # the tensors behind them, by id: gradients go to tensors, not values
        self.reads: dict[Variable, Tensor] = {}  # current value of each variable, as a tensor of this trace
        self.assigned: dict[Variable, Tensor] = {}
        self.variables: dict[Variable, str] = {} if outer is None else outer.variables
        self.graph_variables: list[GraphVariable] = [] if outer is None else outer.graph_variables
        self.specs: dict[str, Spec] = {} if outer is None else outer.specs  # of the graph's variables

    @contextmanager
    def active(self) -> Iterator[Trace]:
        """Ops on tensors record here inside a ``with`` block."""
        state.current.traces.append(self)
        try:
            yield self
        finally:
            state.current.traces.pop()

    def input(self, name: str, dtype: Any, shape: Any) -> Tensor:
        """A new input of the graph."""
        v = self.builder.input(name, dtype, shape)
        self.own.add(v)
        return Tensor(v)

    @staticmethod
    def forced(op: Op) -> bool:
        """Ops that must not run at trace time even on known inputs."""
        return bool(op.flags & {"random", "effect"})

    def apply(self, op: Op, inputs: list[Any], attrs: dict[str, Any]) -> tuple[Value, ...]:
        """Record an op; its results."""
        ins = [self.localize(x) if isinstance(x, Value) else x for x in inputs]
        if "effect" in op.flags:  # only these ask which variables there are
            with declare_variables(self.specs):
                out = self.builder.apply(op, ins, attrs)
        else:
            out = self.builder.apply(op, ins, attrs)
        outs = out if isinstance(out, tuple) else (out,)
        self.own.update(outs)
        return outs

    def localize(self, v: Value) -> Value:
        """A value as this trace sees it: its own, a constant, or a capture from outside."""
        if v in self.own or v.data is not None:
            return v
        if self.outer is None:
            raise state_error(v)
        if v not in self.captures:
            inside = self.builder.input(f"{v.name}.in", v.dtype, v.shape)  # type: ignore[arg-type]
            self.own.add(inside)
            self.captures[v] = inside
        return self.captures[v]

    def note(self, tensors: list[Any]) -> None:
        """Remember tensors that come from outside a body."""
        if self.outer is not None:
            for t in tensors:
                if isinstance(t, Tensor) and isinstance(t.payload, Value) and t.payload not in self.own:
                    self.captured.setdefault(id(t), t)

    def value(self, x: Any) -> Value:
        """Anything as a value of this trace."""
        if hasattr(x, "__dk_read__"):
            x = x.read()
        self.note([x])
        p = x.payload if isinstance(x, Tensor) else np.asarray(x)
        return self.localize(p) if isinstance(p, Value) else self.builder.constant(p)

    # ---- variables
    def name_of(self, variable: Variable) -> str:
        """The variable's name in the graph, declared on first use."""
        name = self.variables.get(variable)
        if name is None:
            name, k = variable.path, 1
            while name in self.specs:
                name, k = f"{variable.path}_{k}", k + 1
            self.variables[variable] = name
            self.specs[name] = Spec(dtypes.dtype(variable.dtype), variable.shape)
            self.graph_variables.append(GraphVariable(name, variable.buffer))
        return name

    def read(self, variable: Variable) -> Tensor:
        """The variable's current value in this trace."""
        if variable not in self.reads:
            if self.outer is not None:
                self.reads[variable] = self.outer.read(variable)
            elif self.frozen:
                data = variable.buffer.copy() if variable.buffer.flags.writeable else variable.buffer
                self.reads[variable] = Tensor(self.builder.constant(data, variable.path))
            else:
                (v,) = self.apply(_op("read_variable"), [], {"variable": self.name_of(variable)})
                self.reads[variable] = Tensor(v)
        return self.reads[variable]

    def assign(self, variable: Variable, value: Tensor) -> None:
        """Give the variable another value from here on."""
        if not value.traced:  # known numbers: a constant of the graph
            v = self.builder.constant(value.payload)
            value = Tensor(v)
        self.read(variable)  # declared, also when it is written only
        self.reads[variable] = self.assigned[variable] = value

    def finish(self, outputs: list[tuple[Any, str]]) -> Graph:
        """Close the outermost graph: assignments at the end, outputs by name."""
        assert self.outer is None
        for variable, value in () if self.frozen else self.assigned.items():
            v = self.value(value)
            self.apply(_op("assign_variable"), [v], {"variable": self.name_of(variable)})
        for x, name in outputs:
            v = self.value(x)
            if v.data is not None or v in self.builder.graph.inputs or any(v is o for o in self.builder.graph.outputs):
                (v,) = self.apply(_op("identity"), [v], {})
            self.builder.output(v, name)
        graph = self.builder.graph
        graph.variables = self.graph_variables
        return graph


def _op(name: str) -> Op:
    from deploykit.ops import get

    return get(name)


def state_error(v: Value) -> Exception:
    """A tensor that outlived its trace."""
    from deploykit.autodiff.tensor import TraceError

    return TraceError(
        f"tensor '{v.name}' belongs to a trace that has ended. Return it from the function instead of storing it aside."
    )
