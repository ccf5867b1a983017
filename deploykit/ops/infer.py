"""Shape inference over passports: one node, or a whole graph with symbolic dims and known values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.dtypes import DType
from deploykit.errors import DeploykitError, ShapeError
from deploykit.graph.dims import Dim, dim_max, dim_min, is_non_negative
from deploykit.graph.ir import Graph, Node, Value, Variable
from deploykit.ops.core import Op, Spec, get
from deploykit.ops.rules import product, show

# Ops whose result is computed when every input value is known and small: shape arithmetic, on numbers or on Dims.
VALUE_OPS = frozenset(
    """add sub mul div floor_div mod minimum maximum neg abs floor ceil round trunc
    equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not where cast clip
    gather concat slice squeeze unsqueeze reshape identity transpose flatten expand tile fill range reverse split
    reduce_prod reduce_sum reduce_max reduce_min""".split()
)
MAX_VALUE = 256  # elements


# ---- the model's variables, which read_variable asks for
_variables: list[Mapping[str, Spec]] = []


def variable_specs(variables: Iterable[Variable]) -> dict[str, Spec]:
    """dtype and shape of each, by name."""
    return {v.name: Spec(dtypes.dtype(v.initial.dtype), tuple(v.initial.shape)) for v in variables}


def asks_for_variables(op: Op) -> bool:
    """Whether the op's shape rule looks at declared variables, itself or in a body: the others spare the declaration."""
    return "effect" in op.flags or any(a.kind == "graph" for a in op.attrs.values())


@contextlib.contextmanager
def declare_variables(variables: Iterable[Variable] | Mapping[str, Spec]) -> Iterator[None]:
    """Inside this block ``read_variable`` knows these variables (and those of the blocks around it)."""
    _variables.append(variables if isinstance(variables, Mapping) else variable_specs(variables))
    try:
        yield
    finally:
        _variables.pop()


def variable_spec(name: str) -> Spec | None:
    """dtype and shape of a declared variable, or None."""
    return next((known[name] for known in reversed(_variables) if name in known), None)


def known_variables() -> list[str]:
    """Names of the declared variables."""
    return list(dict.fromkeys(name for known in _variables for name in known))


def spec_of(v: Value | None) -> Spec | None:
    """The Spec of a graph Value (constants carry their data)."""
    if v is None:
        return None
    if v.dtype is None:
        raise ShapeError(f"value '{v.name}' has no dtype yet.")
    return Spec(v.dtype, v.shape, v.data)


def infer_op(op: Op, specs: list[Spec | None], attrs: dict[str, Any]) -> tuple[Spec, ...]:
    """Specs of the outputs; ``attrs`` complete.  Known values flow through shape arithmetic."""
    if op.infer is None:
        raise ShapeError(f"op '{op.name}' has no shape rule.")
    try:
        out = op.infer(*specs, **attrs)
    except ShapeError as e:
        if e.message.startswith(op.name + ":"):
            raise
        raise ShapeError(f"{op.name}: {e.message}", code=e.code) from None
    except (ArithmeticError, AssertionError, IndexError, TypeError, ValueError) as e:
        # a rule that did not foresee this; the user still learns which node has which inputs
        given = ", ".join("_" if s is None else f"{s.dtype}{show(s.shape)}" for s in specs)
        raise ShapeError(f"{op.name}: inputs ({given}) do not fit: {e or type(e).__name__}.") from e
    outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    for s in outs:
        if s.shape is not None and any(isinstance(d, int) and d < 0 for d in s.shape):
            raise ShapeError(f"{op.name}: the result would have negative sizes; got {show(s.shape)}.")
    if op.name in VALUE_OPS and all(s is None or s.value is not None for s in specs):
        values = [None if s is None else s.value for s in specs]
        if all(v is None or v.size <= MAX_VALUE for v in values) and all(_small(s) for s in outs):
            got = evaluate(op, values, attrs)
            if got is not None and len(got) == len(outs):
                for s, g in zip(outs, got, strict=True):
                    s.value = g
    return outs


def _small(spec: Spec) -> bool:
    if spec.shape is None:
        return False
    size = product(spec.shape)
    return isinstance(size, int) and size <= MAX_VALUE


def evaluate(op: Op, values: list[np.ndarray | None], attrs: dict[str, Any]) -> list[np.ndarray] | None:
    """Results of an op on known values, each an array of numbers or an object array of ``int | Dim``; None where an
    expression is out of reach (comparison of unknown sizes, a fraction) or the op refuses."""
    from deploykit.ops.dispatch import run_reference

    try:
        if any(v is not None and v.dtype == object for v in values):
            return _on_dims(op, values, attrs)
        return list(run_reference(op, values, attrs))
    except (ArithmeticError, IndexError, TypeError, ValueError, DeploykitError):
        return None


def _undecided(*_: Any) -> Any:
    raise TypeError("an expression decides")


def _floor_div(a: Any, b: Any) -> Any:
    return 0 if isinstance(b, int) and b == 0 else a // b


def _div(a: Any, b: Any) -> Any:  # truncation is floor for sizes; numbers may be negative
    if isinstance(a, int) and isinstance(b, int):
        return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return _floor_div(a, b)


def _mod(a: Any, b: Any) -> Any:
    return 0 if isinstance(b, int) and b == 0 else a % b


def _sign(a: Any, b: Any) -> int:
    """Sign of a - b where all sizes agree on it: 1, 0, -1; raises TypeError where they do not."""
    if a == b:
        return 0
    if is_non_negative(a - b - 1):
        return 1
    return -1 if is_non_negative(b - a - 1) else _undecided()


def _less_equal(a: Any, b: Any) -> bool:
    if is_non_negative(b - a):
        return True
    return False if is_non_negative(a - b - 1) else _undecided()


_ON_DIMS = {
    "floor_div": _floor_div,
    "div": _div,
    "mod": _mod,
    "minimum": dim_min,
    "maximum": dim_max,
    "equal": lambda a, b: _sign(a, b) == 0,
    "not_equal": lambda a, b: _sign(a, b) != 0,
    "less": lambda a, b: not _less_equal(b, a),
    "less_equal": _less_equal,
    "greater": lambda a, b: not _less_equal(a, b),
    "greater_equal": lambda a, b: _less_equal(b, a),
}
_ROUNDING = ("floor", "ceil", "round", "trunc", "identity")
_REDUCTIONS = {"reduce_sum": lambda a, b: a + b, "reduce_prod": lambda a, b: a * b, "reduce_max": dim_max}
_REDUCTIONS["reduce_min"] = dim_min
_MOVES = frozenset(
    "gather concat slice squeeze unsqueeze reshape transpose flatten expand tile fill reverse split".split()
)


def _integral(v: np.ndarray | None) -> np.ndarray:
    """Numbers as Python ints in an object array; sizes kept as floats are welcome as long as they are whole."""
    if v is None:
        raise TypeError("absent")
    if v.dtype == object:
        return v
    whole = v.astype(np.float64) if dtypes.dtype(v.dtype).kind == "f" else v
    if not np.all(np.isfinite(whole)) or np.any(whole != np.trunc(whole)):
        raise TypeError("a fraction")
    out = np.empty(v.shape, dtype=object)
    out[...] = np.frompyfunc(int, 1, 1)(whole)
    return out


def _numbers(v: np.ndarray | None) -> np.ndarray | None:
    """A shape-like argument, which must be all numbers here."""
    return v.astype(np.int64) if v is not None and v.dtype == object else v


def _on_dims(op: Op, values: list[np.ndarray | None], attrs: dict[str, Any]) -> list[np.ndarray] | None:
    first = values[0]
    many: list[Any]
    if op.name in ("add", "sub", "mul"):
        a, b = (_integral(v) for v in values)
        many = [a + b if op.name == "add" else a - b if op.name == "sub" else a * b]
    elif op.name == "neg":
        many = [np.frompyfunc(lambda a: -a, 1, 1)(_integral(first))]
    elif op.name in _ON_DIMS:
        many = [np.frompyfunc(_ON_DIMS[op.name], 2, 1)(*(_integral(v) for v in values))]
    elif op.name in _ROUNDING:
        many = [first]
    elif op.name == "abs":
        many = [np.frompyfunc(lambda a: a if _less_equal(0, a) else _undecided(), 1, 1)(first)]
    elif op.name == "cast":
        if dtypes.dtype(attrs["dtype"]).kind not in "fiu" or dtypes.dtype(attrs["dtype"]).bits < 32:
            return None
        many = [first]
    elif op.name == "where":
        if first is None or first.dtype == object:
            return None
        many = [np.where(first, *(_integral(v) for v in values[1:]))]
    elif op.name == "clip":
        y = _integral(first)
        for v, f in zip(values[1:], (dim_max, dim_min), strict=False):
            y = y if v is None else np.frompyfunc(f, 2, 1)(y, _integral(v))
        many = [y]
    elif op.name in _REDUCTIONS:
        many = [_reduce(_REDUCTIONS[op.name], op.name, _integral(first), _numbers((values + [None])[1]), **attrs)]
    elif op.name in _MOVES:
        assert op.reference is not None
        if op.name == "concat":
            args: list[Any] = [_integral(v) for v in values]
        elif op.name == "fill":
            args = [_numbers(first), values[1]]
        else:
            args = [first, *(_numbers(v) for v in values[1:])]
        got = op.reference(*args, **attrs)
        many = list(got) if isinstance(got, (tuple, list)) else [got]
    else:
        return None
    out = []
    for y in many:
        a = np.empty(np.shape(y), dtype=object)
        a[...] = y
        out.append(a)
    return out


def _reduce(
    f: Any, name: str, x: np.ndarray, axes: np.ndarray | None, *, keepdims: bool, noop_if_empty: bool
) -> np.ndarray:
    if axes is None or axes.size == 0:
        if noop_if_empty:
            return x
        axes = np.arange(x.ndim)
    if x.size == 0 and name in ("reduce_max", "reduce_min"):
        raise ValueError("nothing to choose from")
    gone = sorted(int(a) % x.ndim for a in axes) if x.ndim else []
    kept = [i for i in range(x.ndim) if i not in gone]
    rows = x.transpose(kept + gone).reshape([x.shape[i] for i in kept] + [-1 if x.size else 0])
    y = (
        np.frompyfunc(f, 2, 1).reduce(rows, axis=-1)
        if rows.shape[-1]
        else np.full(rows.shape[:-1], int("prod" in name), object)
    )
    return np.expand_dims(y, tuple(gone)) if keepdims else y


def fold_value(spec: Spec) -> Spec:
    """A spec whose symbolic value holds only numbers gets a real array of its dtype."""
    if spec.value is not None and spec.value.dtype == object and not any(isinstance(x, Dim) for x in spec.value.flat):
        spec.value = spec.value.astype(spec.dtype.np)
    return spec


def infer_node(node: Node, specs: list[Spec | None]) -> tuple[Spec, ...]:
    """Specs of a node's outputs from specs of its inputs; errors name the node."""
    op = get(node.op)
    try:
        op.check_inputs(len(specs), lambda i: specs[i] is None)
        attrs = op.complete(node.attrs)
        if op.variable_outputs:
            attrs["n_outputs"] = len(node.outputs)
        return tuple(fold_value(s) for s in infer_op(op, specs, attrs))
    except DeploykitError as e:
        raise type(e)(
            f"{op.name} '{node.name}': {e.message.removeprefix(op.name + ':').strip()}", code=e.code
        ) from None


def infer_graph(graph: Graph, *, specs: dict[Value, Spec] | None = None) -> dict[Value, Spec]:
    """Infer the whole graph in place (dtype and shape of every Value) and return specs with known values.

    Bodies of control flow are inferred by the ``if`` and ``loop`` passports themselves, signatures after the graph.
    Values that are already in ``specs`` keep what stands there (that is how a body learns of its inputs).
    """
    known: dict[Value, Spec] = specs if specs is not None else {}

    def spec(v: Value | None) -> Spec | None:
        if v is None:
            return None
        if v not in known:
            known[v] = spec_of(v)  # type: ignore[assignment]
        return known[v]

    with declare_variables(graph.variables):
        for node in graph.nodes:
            outs = infer_node(node, [spec(v) for v in node.inputs])
            for v, s in zip(node.outputs, outs, strict=False):
                if v is not None:
                    known[v] = s
                    v.dtype, v.shape = s.dtype, s.shape
        for v in graph.outputs:
            spec(v)
        for signature in graph.signatures.values():
            infer_graph(signature)
    return known


def spec_like(shape: tuple | None, dtype: str | DType) -> Spec:
    """Shorthand for tests."""
    return Spec(dtypes.dtype(dtype), shape)
