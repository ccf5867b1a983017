"""``run_graph``: a plain interpreter of a whole Graph by the passports' NumPy references; the oracle for all others.

Nothing is planned or fused: nodes run in order, every value is a fresh array, and dtypes and shapes of results are
checked against the graph, symbolic dims included (they are bound by the inputs).  State (variables, how often a random
node has run) lives in a :class:`State` that the caller may keep between runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import DeploykitError, EngineError, GraphError, InputError, UnsupportedError
from deploykit.graph.dims import Dim, Shape
from deploykit.graph.ir import Graph, Node, Value
from deploykit.ops.core import get
from deploykit.ops.dispatch import run_reference
from deploykit.ops.rules import show

OnValue = Callable[[Value, np.ndarray], Any]


@dataclass
class State:
    """Mutable state of a model: its variables by name, and the number of runs of each random node."""

    variables: dict[str, np.ndarray] = field(default_factory=dict)
    calls: Counter = field(default_factory=Counter)

    @staticmethod
    def of(graph: Graph) -> State:
        """The state after load: the variables at their initial values."""
        return State({v.name: np.array(v.initial) for v in graph.variables})


@dataclass
class _Frame:
    state: State
    on_value: OnValue | None
    dims: dict[str, int]  # sizes of the symbols that the inputs told
    call: int = 0


_frames: list[_Frame] = []


def current_state() -> State:
    """The state of the run in progress (for read_variable and assign_variable)."""
    if not _frames:
        raise UnsupportedError("variables exist only inside a graph; use run_graph.")
    return _frames[-1].state


def current_call() -> int:
    """How often the random node now running ran before in this state (0 in eager mode)."""
    return _frames[-1].call if _frames else 0


def run_graph(
    graph: Graph,
    inputs: Mapping[str, Any] | Sequence[Any],
    *,
    state: State | None = None,
    on_value: OnValue | None = None,
) -> list[np.ndarray]:
    """Run a graph on arrays, given by input name or in order; returns its outputs in order.

    ``state`` is read and updated; by default each run starts from the initial values (bodies of control flow share the
    state of the run around them).  ``on_value(value, array)`` is called for inputs and for every computed value, those
    inside bodies included.  Raises InputError for wrong inputs and the op's own error, with the node's name.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> g = b.output(b.op("add", b.input("x", "float32", (2,)), 1.0), "y")
    >>> run_graph(g, {"x": np.zeros(2, np.float32)})
    [array([1., 1.], dtype=float32)]
    """
    arrays = _inputs(graph, inputs)
    values: dict[Value, np.ndarray] = dict(zip(graph.inputs, arrays, strict=True))
    if state is None:
        state = _frames[-1].state if _frames and not graph.variables else State.of(graph)
    if on_value is None and _frames:
        on_value = _frames[-1].on_value
    frame = _Frame(state, on_value, _bind(graph, arrays))
    _frames.append(frame)
    try:
        if on_value is not None:
            for v, a in values.items():
                on_value(v, a)
        last_use = _last_uses(graph)
        for i, node in enumerate(graph.nodes):
            outs = _run_node(node, [_get(v, values, node) for v in node.inputs], frame)
            for out, a in zip(node.outputs, outs, strict=False):
                if out is not None:
                    values[out] = a
                    if on_value is not None:
                        on_value(out, a)
            for v in last_use.get(i, ()):
                values.pop(v, None)
        return [_get(v, values, None) for v in graph.outputs]  # type: ignore[misc]
    finally:
        _frames.pop()


def _inputs(graph: Graph, given: Mapping[str, Any] | Sequence[Any]) -> list[np.ndarray]:
    names = [v.name for v in graph.inputs]
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise InputError(f"{graph.name}: got inputs {sorted(given)}, expected {sorted(names)}.")
        given = [given[n] for n in names]
    if len(given) != len(names):
        raise InputError(f"{graph.name}: got {len(given)} inputs, expected {len(names)}: {', '.join(names)}.")
    arrays = [np.asarray(a) for a in given]
    for v, a in zip(graph.inputs, arrays, strict=True):
        if v.dtype is not None and dtypes.dtype(a.dtype) is not v.dtype:
            raise InputError(f"{graph.name}: dtype of input '{v.name}'; got {a.dtype}, expected {v.dtype}.")
        if not _fits(a.shape, v.shape, {}):
            raise InputError(f"{graph.name}: shape of input '{v.name}'; got {list(a.shape)}, expected {show(v.shape)}.")
    return arrays


def _last_uses(graph: Graph) -> dict[int, list[Value]]:
    last: dict[Value, int] = {}
    for i, n in enumerate(graph.nodes):
        for v in (*n.inputs, *n.outputs):
            if v is not None:
                last[v] = i
    for v in graph.outputs:
        last.pop(v, None)
    out: dict[int, list[Value]] = {}
    for v, i in last.items():
        out.setdefault(i, []).append(v)
    return out


def _get(v: Value | None, values: dict[Value, np.ndarray], node: Node | None) -> np.ndarray | None:
    if v is None:
        return None
    if v.data is not None:
        return v.data
    if v not in values:
        reader = f"node '{node.name}' ({node.op})" if node else "a graph output"
        raise GraphError(f"value '{v.name}' is read by {reader} before anything computes it.")
    return values[v]


def _run_node(node: Node, arrays: list[np.ndarray | None], frame: _Frame) -> tuple[np.ndarray, ...]:
    op = get(node.op)
    attrs = op.complete(node.attrs)
    if op.variable_outputs:
        attrs["n_outputs"] = len(node.outputs)
    if "random" in op.flags:
        frame.call = frame.state.calls[id(node)]
        frame.state.calls[id(node)] += 1
    try:
        outs = run_reference(op, arrays, attrs)
    except DeploykitError as e:
        raise type(e)(f"{op.name} '{node.name}': {e.message.removeprefix(op.name + ':').strip()}", code=e.code) from e
    except (ArithmeticError, IndexError, MemoryError, TypeError, ValueError) as e:
        given = ", ".join("_" if a is None else f"{dtypes.dtype(a.dtype)}{list(a.shape)}" for a in arrays)
        raise EngineError(f"{op.name} '{node.name}': inputs ({given}) do not fit: {e}.") from e
    for v, a in zip(node.outputs, outs, strict=False):
        if v is not None and v.dtype is not None and dtypes.dtype(a.dtype) is not v.dtype:
            raise GraphError(f"{op.name} '{node.name}': '{v.name}' should be {v.dtype}, the reference gave {a.dtype}.")
        if v is not None and not _fits(a.shape, v.shape, frame.dims):
            raise GraphError(
                f"{op.name} '{node.name}': '{v.name}' should have shape {show(v.shape)}, "
                f"the reference gave {list(a.shape)} (with {frame.dims})."
            )
    return outs


def _bind(graph: Graph, arrays: list[np.ndarray]) -> dict[str, int]:
    """Sizes of the symbols that stand alone as a dim of an input."""
    dims: dict[str, int] = {}
    for v, a in zip(graph.inputs, arrays, strict=True):
        for want, size in zip(v.shape or (), a.shape, strict=False):
            if isinstance(want, Dim) and {str(want)} == want.names and dims.setdefault(str(want), size) != size:
                raise InputError(
                    f"{graph.name}: shape of input '{v.name}'; got {list(a.shape)}, expected {show(v.shape)} "
                    f"where {want} is {dims[str(want)]} already."
                )
    return dims


def _fits(got: tuple[int, ...], want: Shape | None, dims: dict[str, int]) -> bool:
    if want is None:
        return True
    if len(got) != len(want):
        return False
    sizes = (w.subs(dims) if isinstance(w, Dim) and dims else w for w in want)
    return all(g == w for g, w in zip(got, sizes, strict=True) if isinstance(w, int))
