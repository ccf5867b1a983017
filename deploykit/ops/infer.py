"""Shape inference over passports: one node, or a whole graph with symbolic dims and known values."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import DeploykitError, ShapeError
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Graph, Node, Value
from deploykit.ops.core import Op, Spec, get

# Ops whose result is computed symbolically when every input value is known and small: shape arithmetic.
VALUE_OPS = frozenset(
    "add sub mul div minimum maximum neg gather concat slice squeeze unsqueeze reshape cast identity transpose "
    "flatten expand reduce_prod reduce_sum reduce_max reduce_min split".split()
)
MAX_VALUE = 256  # elements


def spec_of(v: Value | None) -> Spec | None:
    """The Spec of a graph Value (constants carry their data)."""
    if v is None:
        return None
    if v.dtype is None:
        raise ShapeError(f"value '{v.name}' has no dtype yet.")
    return Spec(v.dtype, v.shape, v.data)


def infer_op(op: Op, specs: list[Spec | None], attrs: dict[str, Any]) -> tuple[Spec, ...]:
    """Specs of the outputs; ``attrs`` complete.  Symbolic values flow through shape arithmetic."""
    if op.infer is None:
        raise ShapeError(f"op '{op.name}' has no shape rule.")
    out = op.infer(*specs, **attrs)
    outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    if op.name in VALUE_OPS and specs and all(s is None or s.value is not None for s in specs):
        values = [None if s is None else s.value for s in specs]
        if all(v is None or v.size <= MAX_VALUE for v in values) and any(
            v is not None and v.dtype == object for v in values
        ):
            got = _object_eval(op, values, attrs)
            if got is not None and len(got) == len(outs):
                for s, g in zip(outs, got, strict=True):
                    s.value = g
    return outs


def _object_eval(op: Op, values: list[np.ndarray | None], attrs: dict[str, Any]) -> list[np.ndarray] | None:
    """Run the reference on arrays of int | Dim; None where an expression is out of reach."""
    try:
        if op.name == "cast":
            if attrs["dtype"] not in ("int64", "int32"):
                return None
            res: Any = values[0]
        elif op.name == "div":
            res = np.floor_divide(values[0], values[1])  # sizes are non-negative
        elif op.name in ("minimum", "maximum"):
            from deploykit.graph.dims import dim_max, dim_min

            res = np.frompyfunc(dim_min if op.name == "minimum" else dim_max, 2, 1)(*values)
        else:
            assert op.reference is not None
            first = values[0]
            rest = [
                v if v is None or v.dtype != object or op.name in ("add", "sub", "mul", "concat") else v.astype(np.int64)
                for v in values[1:]
            ]
            res = op.reference(first, *rest, **attrs)
    except (TypeError, ValueError, ZeroDivisionError, DeploykitError):
        return None
    many = list(res) if isinstance(res, (tuple, list)) else [res]
    return [np.asarray(r, dtype=object) for r in many]


def fold_value(spec: Spec) -> Spec:
    """A spec whose symbolic value holds only numbers gets a real int64 array."""
    if spec.value is not None and spec.value.dtype == object and not any(isinstance(x, Dim) for x in spec.value.flat):
        spec.value = spec.value.astype(spec.dtype.np)
    return spec


def infer_node(node: Node, specs: list[Spec | None]) -> tuple[Spec, ...]:
    """Specs of a node's outputs from specs of its inputs; errors name the node."""
    op = get(node.op)
    try:
        op.check_inputs(len(specs), lambda i: specs[i] is None)
        attrs = op.complete(node.attrs)
        if "n_outputs" in op.extra:
            attrs["n_outputs"] = len(node.outputs)
        return tuple(fold_value(s) for s in infer_op(op, specs, attrs))
    except DeploykitError as e:
        raise type(e)(f"node '{node.name}' ({node.op}): {e.message}") from None


def infer_graph(graph: Graph, *, specs: dict[Value, Spec] | None = None) -> dict[Value, Spec]:
    """Infer the whole graph in place (dtype and shape of every Value) and return specs with known values.

    Bodies of control flow are inferred by the ``if`` and ``loop`` passports themselves.
    """
    known: dict[Value, Spec] = specs if specs is not None else {}

    def spec(v: Value | None) -> Spec | None:
        if v is None:
            return None
        if v not in known:
            known[v] = spec_of(v)  # type: ignore[assignment]
        return known[v]

    for node in graph.nodes:
        outs = infer_node(node, [spec(v) for v in node.inputs])
        for v, s in zip(node.outputs, outs, strict=False):
            if v is not None:
                known[v] = s
                v.dtype, v.shape = s.dtype, s.shape
    for v in graph.outputs:
        spec(v)
    return known


def spec_like(shape: tuple | None, dtype: Any) -> Spec:
    """Shorthand for tests."""
    return Spec(dtypes.dtype(dtype), shape)
