"""Which scale the integers of a graph have: TFLite writes it at every tensor, we only where they are made and read.

``quantize`` and ``dequantize`` nodes name a scale; ops that only move elements, and variables, pass it on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.ir import walk
from deploykit.graph import Graph, Node, QuantParams, Value

_BYTES = ("int8", "uint8", "int16")
# ops whose result holds elements of these inputs (None: of all inputs)
_MOVING: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(
        ("identity", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "slice", "split", "expand", "tile",
         "gather", "gather_nd", "reverse", "reverse_sequence", "depth_to_space", "space_to_depth", "max_pool",
         "assign_variable", "clip", "top_k", "resize"),
        (0,),
    ),
    "pad": (0, 2),
    "concat": None,
    "where": (1, 2),
    "maximum": None,
    "minimum": None,
}  # fmt: skip


class _Groups:
    """Union-find over values and variables that hold the same kind of integers."""

    def __init__(self) -> None:
        self.parent: dict[Any, Any] = {}

    def find(self, x: Any) -> Any:
        while self.parent.setdefault(x, x) is not x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x

    def join(self, a: Any, b: Any) -> None:
        self.parent[self.find(a)] = self.find(b)


def params_of(node: Node) -> QuantParams | None:
    """Scale and zero point of a quantize or dequantize node; None when they are computed, or per block."""
    scale, zero = walk.data(walk.operand(node, 1)), walk.data(walk.operand(node, 2))
    t = walk.attrs(node)
    integers = node.inputs[0] if node.op == "dequantize" else node.output
    if scale is None or t["block_size"] or (zero is None and walk.operand(node, 2) is not None):
        return None
    assert integers is not None and integers.dtype is not None
    if zero is None:
        zero = np.zeros(scale.shape, integers.dtype.np)
    if scale.size == 1:
        return QuantParams(scale.reshape(()), zero.reshape(-1)[:1].reshape(()))
    if integers.shape is None:
        return None
    return QuantParams(scale, np.broadcast_to(zero, scale.shape), t["axis"] % len(integers.shape))


def is_raw_mean(n: Node) -> bool:
    """Whether an average is taken of the bytes themselves: result and operand have the same scale, whatever it is."""
    if n.op != "qavg_pool":
        return False
    t = walk.attrs(n)
    return t["x_zero_point"] == t["y_zero_point"] == 0 and abs(t["multiplier"] - 1) < 1e-5


def _zeros(n: Node) -> list[tuple[Value, int]]:
    """(value, zero point) of the operands and the result of an integer op, as its attrs say."""
    if not n.op.startswith("q") or n.op in ("quantize", "qlut") or is_raw_mean(n):
        return []
    t = walk.attrs(n)
    places = {"qadd": ("a_zero_point", "b_zero_point"), "qmul": ("a_zero_point", "b_zero_point")}
    names = places.get(n.op, ("x_zero_point",) if "x_zero_point" in t else ())
    out = [(v, t[name]) for v, name in zip(n.inputs, names, strict=False) if v is not None and not v.is_constant]
    y = n.output
    return [*out, (y, t["y_zero_point"])] if y.dtype is not None and y.dtype.name in _BYTES else out


def scales(graph: Graph) -> dict[Value, QuantParams]:
    """The scale of every integer value that has one, in a graph and its signatures (bodies apart)."""
    groups = _Groups()
    named: list[tuple[Any, QuantParams]] = []
    values: list[Value] = []
    for g in (graph, *graph.signatures.values()):
        for n in g.nodes:
            if n.op in ("quantize", "dequantize"):
                v = n.output if n.op == "quantize" else n.inputs[0]
                q = params_of(n)
                if q is not None and v is not None:
                    named.append((v, q))
                    values.append(v)
                continue
            if n.op in ("read_variable", "assign_variable"):
                groups.join(n.output, n.attrs["variable"])
            if n.op in _MOVING or is_raw_mean(n):
                which = _MOVING.get(n.op, (0,))
                ins = [v for i, v in enumerate(n.inputs) if v is not None and (which is None or i in which)]
                for v in (*ins, *(o for o in n.outputs[: None if n.op == "split" else 1] if o is not None)):
                    if v.dtype is not None and v.dtype.name in _BYTES:
                        groups.join(v, n.output)
                        values.append(v)
    for g in (graph, *graph.signatures.values()):
        for v in (*g.inputs, *g.outputs):  # what enters and leaves may carry its scale itself
            if v.quant is not None and v.quant.axis is None and v.dtype is not None and v.dtype.name in _BYTES:
                q = QuantParams(np.asarray(v.quant.scale).reshape(()), np.asarray(v.quant.zero_point).reshape(()))
                named.append((v, q))
                values.append(v)
    # integer ops name zero points only: a scale of 1 there, unless something else says more
    for g in (graph, *graph.signatures.values()):
        for n in g.nodes:
            for v, zero in _zeros(n):
                named.append((v, QuantParams(np.float32(1), np.array(zero, v.dtype.np if v.dtype else np.int8))))
                values.append(v)
    found: dict[Any, QuantParams] = {}
    for v, q in named:
        found.setdefault(groups.find(v), q)
    return {v: found[groups.find(v)] for v in values if groups.find(v) in found}
