"""``dk.function``: a Python function traced once per signature into a Graph, which the engine runs.

The whole of it is one graph: forward pass, gradients of tapes inside, assignments to variables.  Nothing is compiled:
the graph goes through the same passes as a converted model, is planned once and replayed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit import dtypes, hooks
from deploykit.autodiff import numeric, state, tree
from deploykit.autodiff.tape import GradientTape, no_gradient
from deploykit.autodiff.tensor import Tensor, convert_to_tensor, dtype_of
from deploykit.autodiff.trace import Trace
from deploykit.autodiff.variable import Variable
from deploykit.errors import InputError
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Graph


@dataclass(frozen=True)
class Spec:
    """dtype and shape of an argument without its data; a dim is a size, a name, or None (any size)."""

    shape: tuple[int | str | None, ...]
    dtype: str = "float32"
    name: str = ""


@dataclass
class Concrete:
    """A traced function: its graph, the nest of its results, the variables it uses, and the engine's session."""

    graph: Graph
    variables: dict[Variable, str]
    assigned: list[Variable]
    build: Callable[[list[Any]], Any]
    results: list[Any]  # per leaf: None where an output of the graph stands, else the static result
    session: Any = None
    model: Any = None

    def open(self, threads: int | None) -> None:
        """Plan the graph on the engine; variables are bound to the engine in place."""
        from deploykit.graph.dkfile import to_bytes
        from deploykit.native import NativeModel, NativeSession

        data = np.frombuffer(to_bytes(self.graph, names=False), np.uint8)
        self.model = NativeModel(data)
        self.session = NativeSession(self.model, threads=threads or 0)
        for v, name in self.variables.items():
            self.session.bind_variable(name, v.buffer)

    def __call__(self, arrays: Sequence[np.ndarray]) -> Any:
        for v in self.assigned:
            v.keep_snapshot()
        outs = iter(self.session(*arrays))
        return self.build([Tensor(next(outs)) if r is None else r.value for r in self.results])


@dataclass
class _Static:
    value: Any


class Function:
    """What ``dk.function`` returns: call it like the Python function that it traces.

    Tensors and arrays among the arguments (also inside lists, tuples, dicts) are inputs; everything else is part of
    the signature, so another value traces again.
    """

    def __init__(
        self, f: Callable[..., Any], *, optimize: Callable[[Graph], Graph] | None = None, threads: int | None = None
    ) -> None:
        functools.update_wrapper(self, f)
        self.python = f
        self.optimize = optimize
        self.threads = threads
        self._known: dict[Any, Concrete] = {}
        self._gradients: dict[Any, Function] = {}

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        bound = Function(functools.partial(self.python, instance), optimize=self.optimize, threads=self.threads)
        setattr(instance, self.python.__name__, bound)  # one set of traces per object
        return bound

    @property
    def traces(self) -> int:
        """How many signatures were traced."""
        return len(self._known)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.trace() is not None:
            return self.python(*args, **kwargs)
        leaves, build = tree.flatten((args, kwargs))
        tensors, key = self._split(leaves, (args, kwargs))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._trace(leaves, build)
            known.open(self.threads)
        out = known([t.numpy() for t in tensors])
        if state.current.tapes:
            self._record(known, key, leaves, build, tensors, out)
        return out

    def concrete(self, *args: Any, constants: bool = False, **kwargs: Any) -> Concrete:
        """Trace for arguments of which any tensor may be a :class:`Spec`; not yet opened.  constants: bake the values
        that variables have now."""
        leaves, build = tree.flatten((args, kwargs))
        return self._trace(leaves, build, constants)

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """The graph for these arguments (tensors may be Specs with named or unknown dims)."""
        return self.concrete(*args, **kwargs).graph

    # ---- tracing
    @staticmethod
    def _split(leaves: list[Any], nest: Any) -> tuple[list[Tensor], Any]:
        tensors: list[Tensor] = []
        parts: list[Any] = []
        for x in leaves:
            if isinstance(x, (Tensor, np.ndarray, np.generic)):
                t = convert_to_tensor(x)
                tensors.append(t)
                parts.append((t.dtype.num, t.shape))
            elif isinstance(x, Variable):
                parts.append((id(x),))
            else:
                parts.append((type(x), x if _hashable(x) else id(x)))
        return tensors, (tree.structure(nest), tuple(parts))

    def _trace(self, leaves: list[Any], build: Any, constants: bool = False) -> Concrete:
        trace = Trace(getattr(self.python, "__name__", "function"), frozen=constants)
        with trace.active(), no_gradient():
            given, k = [], 0
            for x in leaves:
                if isinstance(x, (Tensor, np.ndarray, np.generic, Spec)):
                    given.append(trace.input(*_input(x, k)))
                    k += 1
                else:
                    given.append(x)
            args, kwargs = build(given)
            out = self.python(*args, **kwargs)
            results, rebuild = tree.flatten(out)
            outputs: list[tuple[Any, str]] = []
            kept: list[_Static | None] = []
            for r in results:
                if isinstance(r, (Tensor, Variable)):
                    outputs.append((r, f"output_{len(outputs)}"))
                    kept.append(None)
                else:
                    kept.append(_Static(r))
            graph = trace.finish(outputs)
        optimize = self.optimize or hooks.optimize()
        if optimize is not None:
            graph = optimize(graph)
        return Concrete(graph, trace.variables, list(trace.assigned), rebuild, kept)

    # ---- gradient through a call
    def _record(
        self, known: Concrete, key: Any, leaves: list[Any], build: Any, tensors: list[Tensor], out: Any
    ) -> None:
        results = [t for t in tree.flatten(out)[0] if isinstance(t, Tensor)]
        read = [v for v in known.variables if v not in known.assigned]
        values = [v.read() for v in read]
        at = [i for i, x in enumerate(leaves) if isinstance(x, (Tensor, np.ndarray, np.generic))]
        originals = [leaves[i] if isinstance(leaves[i], Tensor) else tensors[k] for k, i in enumerate(at)]
        sources = [t for t in originals if dtype_of(t).kind == "f"]

        def vjp(xs: list[Any], gs: list[Any]) -> list[Any]:
            given = list(leaves)
            for i, x in zip(at, xs, strict=True):
                given[i] = x
            args, kwargs = build(given)
            wanted = [x for x in xs if dtype_of(x).kind == "f"]
            with GradientTape() as tape:
                for v in read:
                    tape.watch(v)
                for x in wanted:
                    tape.watch(x)
                ys = [t for t in tree.flatten(self.python(*args, **kwargs))[0] if isinstance(t, Tensor)]
            return tape.gradient(ys, [*wanted, *read], gs, unconnected_gradients="zero")

        def backward(gs: list[Any]) -> Sequence[Any]:
            if key not in self._gradients:
                self._gradients[key] = Function(vjp, optimize=self.optimize, threads=self.threads)
            filled = [numeric.zeros_like(y) if g is None else g for g, y in zip(gs, results, strict=True)]
            return self._gradients[key](originals, filled)

        for tape in state.current.tapes:
            tape.record([*sources, *values], tuple(results), backward)


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _input(x: Any, k: int) -> tuple[str, Any, Any]:
    if isinstance(x, Spec):
        name = x.name or f"input_{k}"
        dims = [
            Dim.symbol(f"{name}_{i}") if d is None else Dim.symbol(d) if isinstance(d, str) else d
            for i, d in enumerate(x.shape)
        ]
        return name, dtypes.dtype(x.dtype), tuple(dims)
    if isinstance(x, Tensor) and x.traced:
        raise InputError("a traced tensor cannot be an argument of a function that is not being traced.")
    return f"input_{k}", dtypes.dtype(x.dtype), tuple(np.shape(x) if not isinstance(x, Tensor) else x.shape)


def function(f: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Trace a Python function into a graph for the engine, once per signature; a decorator.

    threads: lanes of the engine (default: DK_THREADS or all allowed CPUs).  optimize: graph to graph, default the
    converter's passes.  Python side effects happen while tracing only; ``dk.cond``, ``dk.while_loop`` and ``dk.scan``
    are control flow on values.

    >>> @function
    ... def double(x):
    ...     return x * 2
    >>> double(np.float32([1, 2])).numpy()
    array([2., 4.], dtype=float32)
    """
    return (lambda g: Function(g, **options)) if f is None else Function(f, **options)
