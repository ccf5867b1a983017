"""Operators of the StableHLO set that LiteRT runs, windows of any rank, and lookups by key."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, handles
from deploykit.converters.importers.tflite.handlers_control import tensors
from deploykit.errors import FormatError
from deploykit.graph import Value

_SAME = {
    "ADD": "add",
    "MULTIPLY": "mul",
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
    "AND": "bitwise_and",
    "SHIFT_LEFT": "shift_left",
}


@handles(*(f"STABLEHLO_{k}" for k in _SAME))
def same(c: Call) -> Value:
    a, b = c.x(0), c.x(1)
    name = _SAME[c.op_type.removeprefix("STABLEHLO_")]
    if name == "bitwise_and" and a.dtype is not None and a.dtype.name == "bool":
        name = "logical_and"
    return c.op(name, a, b)


@handles("STABLEHLO_CASE")
def case(c: Call) -> Any:
    """The branch of this number; the last one for numbers that are none."""
    graphs = [int(i) for i in c.options("StablehloCaseOptions").branch_subgraph_indices]
    at, items = c.reshape(c.i64_of(0)), [c.item(i) for i in range(1, c.n)]

    def bring(body: Any, v: Any) -> Any:
        return v if body is c.body else body.capture(bring(body.outer, v))

    def run(body: Any, k: int) -> list[Value]:
        return tensors(c, c.importer.inline(body, graphs[k], [bring(body, i) for i in items]))

    def pick(body: Any, k: int) -> list[Value]:
        if k == len(graphs) - 1:
            return run(body, k)
        inner = Call(c.importer, body, c.scope, c.proto, c.op_type, c.version, c.name)
        here = body.emit("equal", [bring(body, at), np.int64(k)], {}, f"{c.name}/is_{k}")
        return inner.branch(here, [("then", lambda b: run(b, k)), ("else", lambda b: pick(b, k + 1))])

    return pick(c.body, 0)


# ---- windows
def _list(v: Any) -> list[int]:
    return [] if v is None else [int(i) for i in v]


def _padded(c: Call, x: Value, fill: Value, low: list[int], high: list[int], inner: list[int]) -> Value:
    """Elements between others, and at the ends, which are cut where that is negative."""
    for a, k in enumerate(inner):
        if k:
            size = c.dims(x, a, a + 1)
            wide = c.op("unsqueeze", x, c.i64(a + 1))
            rank = c.rank(wide)
            wide = c.op("pad", wide, c.i64(*[0] * (rank + a + 1), k, *[0] * (rank - a - 2)), fill)
            rest = [c.dims(x, 0, a), c.op("mul", size, c.i64(k + 1)), c.dims(x, a + 1)]
            x = c.op("reshape", wide, c.op("concat", *rest, axis=0), allow_zero=True)
            x = c.op("slice", x, c.i64(0), c.i64(-k), c.i64(a))
    x = c.op("pad", x, c.i64(*(max(v, 0) for v in (*low, *high))), fill) if any(v > 0 for v in low + high) else x
    for a, (p, q) in enumerate(zip(low, high, strict=True)):
        if p < 0 or q < 0:
            x = c.op("slice", x, c.i64(max(-p, 0)), c.i64(min(q, 0) or 1 << 31), c.i64(a))
    return x


@handles("STABLEHLO_PAD")
def pad(c: Call) -> Value:
    o = c.options("StablehloPadOptions")
    return _padded(
        c, c.raw(0), c.reshape(c.raw(1)), *map(_list, (o.edge_padding_low, o.edge_padding_high, o.interior_padding))
    )


_REDUCE = ("", "add", "mul", "minimum", "maximum", "logical_and", "logical_or")
_BODIES = {"ADD": "add", "MUL": "mul", "MULTIPLY": "mul", "MINIMUM": "minimum", "MAXIMUM": "maximum",
           "AND": "logical_and", "LOGICAL_AND": "logical_and", "LOGICAL_OR": "logical_or"}  # fmt: skip


def _windows(c: Call, x: Value, start: Value, op: str, size: list[int], step: list[int], spread: list[int]) -> Value:
    """Every window of x folded by ``op``, one place of the window after the other."""
    rank = c.rank(x)
    if not len(size) == len(step) == len(spread) == rank or min(size, default=1) < 1:
        raise FormatError(
            f"windows {size}, steps {step}, dilation {spread} for rank {rank}; expected {rank} numbers each"
        )
    if math.prod(size) > 1024:
        raise c.unsupported(f"windows of {math.prod(size)} elements")
    y = start
    for at in itertools.product(*map(range, size)):
        first = [i * d for i, d in zip(at, spread, strict=True)]
        left = [(n - 1 - i) * d for i, n, d in zip(at, size, spread, strict=True)]
        ends = [-v if v else 1 << 31 for v in left]
        y = c.op(op, y, c.op("slice", x, c.i64(*first), c.i64(*ends), c.i64(*range(rank)), c.i64(*step)))
    return y


@handles("REDUCE_WINDOW")
def reduce_window(c: Call) -> Value:
    kind = c.options("ReduceWindowOptions").reduce_function
    if not 0 < kind < len(_REDUCE):
        raise c.unsupported(f"function {kind}")
    how = [c.ints(i, what) for i, what in ((2, "the window"), (3, "its steps"), (4, "its dilation"))]
    return _windows(c, c.raw(0), c.reshape(c.raw(1)), _REDUCE[kind], *how)


def _folder(c: Call, index: int) -> str:
    """The one operator that a body with two inputs consists of."""
    row = type(c.scope)(c.importer, c.body, index).row
    names = [c.importer.source.op_name(o.opcode_index)[0].removeprefix("STABLEHLO_") for o in row.operators]
    if len(names) != 1 or names[0] not in _BODIES:
        raise c.unsupported(f"a body of {', '.join(names) or 'nothing'}")
    return _BODIES[names[0]]


@handles("STABLEHLO_REDUCE_WINDOW")
def reduce_window_padded(c: Call) -> Value:
    o = c.options("StablehloReduceWindowOptions")
    x, start, size = c.raw(0), c.reshape(c.raw(1)), _list(o.window_dimensions)
    ones = [1] * len(size)
    base = _list(o.base_dilations) or ones
    edges = _list(o.padding) or [0] * (2 * len(size))
    x = _padded(c, x, start, edges[0::2], edges[1::2], [b - 1 for b in base])
    return _windows(
        c, x, start, _folder(c, o.body_subgraph_index), size, _list(o.window_strides) or ones,
        _list(o.window_dilations) or ones,
    )  # fmt: skip


# ---- lookups
@handles("EMBEDDING_LOOKUP_SPARSE")
def embedding_lookup_sparse(c: Call) -> Value:
    """Rows of a table, weighted and added up by the place that a sparse tensor has them at; or their mean."""
    ids, places, shape, weights, table = c.i64_of(0), c.i64_of(1), c.i64_of(2), c.x(3), c.x(4)
    kind = c.options("EmbeddingLookupSparseOptions").combiner
    k, rest = c.rank(places), c.rank(table) - 1
    if c.shape(places)[1:] == (1,) or k != 2:
        raise c.unsupported("places of one dim")
    last = c.i64(-1)
    outer = c.op("slice", shape, c.i64(0), last, c.i64(0))
    at = c.op("slice", places, c.i64(0), last, c.i64(1))
    zero = c.scalar(0, table)
    wide = c.op("unsqueeze", weights, c.i64(*range(1, 1 + rest)))
    rows = c.op("mul", c.op("gather", table, ids, axis=0), wide)
    zeros = c.op("fill", c.op("concat", outer, c.dims(table, 1), axis=0), zero)
    y = c.op("scatter_nd", zeros, at, rows, reduction="add")
    if kind:
        each = c.op("square", weights) if kind == 2 else weights
        total = c.op("scatter_nd", c.op("fill", outer, zero), at, each, reduction="add")
        total = c.op("sqrt", total) if kind == 2 else total
        one = c.op("equal", total, zero)
        total = c.op("where", one, c.scalar(1, table), total)
        axes = c.i64(*range(-rest, 0))
        y = c.op("div", y, c.op("unsqueeze", total, axes))
    return y


@handles("HASHTABLE_LOOKUP")
def hashtable_lookup(c: Call) -> list[Value]:
    """Rows of a table by key, zeros where there is none; whether there is one."""
    wanted, keys, table = c.raw(0), c.raw(1), c.x(2)
    hit = c.op("equal", c.op("unsqueeze", wanted, c.i64(1)), keys)
    found = c.op("reduce_max", c.cast(hit, "uint8"), c.i64(1), keepdims=False)
    rows = c.op("gather", table, c.op("arg_max", c.cast(hit, "uint8"), axis=1, keepdims=False), axis=0)
    there = c.op("unsqueeze", c.cast(found, "bool"), c.i64(*range(1, c.rank(table)))) if c.rank(table) > 1 else found
    return [c.op("where", c.cast(there, "bool"), rows, c.scalar(0, table)), found]


# ---- gathering and scattering of windows
def _coordinates(c: Call, dim: int, to: list[int], sizes: list[Any], inside: Value | None) -> tuple[Value, int]:
    """Places [batch ..., window ..., rank] of windows of these sizes, which begin where input 1 says along its ``dim``;
    how many batch dims.  Windows are moved into a tensor of the dims ``inside``, where that is given."""
    at, rank = c.i64_of(1), len(sizes)
    n = c.rank(at)
    at = c.op("unsqueeze", at, c.i64(-1)) if dim == n else c.transpose(at, [*(i for i in range(n) if i != dim), dim])
    n = c.rank(at)
    if not all(isinstance(s, int) for s in sizes) or math.prod(sizes) > 1 << 20:
        raise c.unsupported(f"windows of {sizes}")
    at = c.op("pad", at, c.i64(*[0] * (2 * n - 1), 1))  # the start along dims that no index is for
    at = c.op("gather", at, c.i64(*(to.index(d) if d in to else len(to) for d in range(rank))), axis=-1)
    if inside is not None:
        room = c.op("sub", inside, c.i64(*sizes))
        at = c.op("minimum", c.op("maximum", at, c.const(np.int64(0))), room)
    grid = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1)
    return c.op("add", c.op("unsqueeze", at, c.i64(*range(n - 1, n - 1 + rank))), c.const(grid)), n - 1


@handles("STABLEHLO_GATHER")
def gather(c: Call) -> Value:
    o, x = c.options("StablehloGatherOptions"), c.moved(0)
    places, n = _coordinates(c, int(o.index_vector_dim), _list(o.start_index_map), _list(o.slice_sizes), c.dims(x))
    y, dropped = c.op("gather_nd", x, places), _list(o.collapsed_slice_dims)
    y = c.op("squeeze", y, c.i64(*(n + d for d in dropped))) if dropped else y
    inner, batch = iter(range(n, c.rank(y))), iter(range(n))
    return c.transpose(y, [next(inner if i in _list(o.offset_dims) else batch) for i in range(c.rank(y))])


@handles("STABLEHLO_SCATTER")
def scatter(c: Call) -> Value:
    o, x, updates = c.options("StablehloScatterOptions"), c.raw(0), c.raw(2)
    window, added = _list(o.update_window_dims), _list(o.inserted_window_dims)
    updates = c.transpose(updates, [*(i for i in range(c.rank(updates)) if i not in window), *window])
    n = c.rank(updates) - len(window)
    updates = c.op("unsqueeze", updates, c.i64(*(n + d for d in added))) if added else updates
    sizes = list(c.shape(updates)[n:])
    places, _ = _coordinates(c, int(o.index_vector_dim), _list(o.scatter_dims_to_operand_dims), sizes, None)
    index = int(o.update_computation_subgraph_index)
    if not type(c.scope)(c.importer, c.body, index).row.operators:
        how = "none"
    else:
        how = {"maximum": "max", "minimum": "min"}.get(found := _folder(c, index), found)
    return c.op("scatter_nd", x, places, updates, reduction=how)
