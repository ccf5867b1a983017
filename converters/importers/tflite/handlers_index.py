"""Gathering, scattering, sorting, sets, boxes, random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.tflite.call import Call, handles
from deploykit.errors import FormatError
from deploykit.graph import Value


@handles("GATHER")
def gather(c: Call) -> Value:
    o = c.options("GatherOptions")
    x, at = c.moved(), c.i64_of(1)
    rank = c.rank(x)
    axis, batch = c.axis(o.axis, rank), o.batch_dims
    if batch < 0:
        batch += c.rank(at)
    if not 0 <= batch <= min(axis, c.rank(at)):
        raise FormatError(
            f"batch_dims is {o.batch_dims}; expected at most the axis {axis} and the {c.rank(at)} dims of places"
        )
    if not batch:
        return c.op("gather", x, at, axis=axis)
    # bring the axis right behind the batch dims, gather there, put the dims between them back in front
    between = list(range(batch, axis))
    x = c.transpose(x, (*range(batch), axis, *between, *range(axis + 1, rank)))
    y = c.op("gather_nd", x, c.op("unsqueeze", at, c.i64(-1)), batch_dims=batch)
    k, m = c.rank(at) - batch, len(between)
    order = (
        *range(batch),
        *range(batch + k, batch + k + m),
        *range(batch, batch + k),
        *range(batch + k + m, rank - 1 + k),
    )
    return c.transpose(y, order)


@handles("GATHER_ND")
def gather_nd(c: Call) -> Value:
    return c.op("gather_nd", c.moved(), c.i64_of(1))


@handles("EMBEDDING_LOOKUP")
def embedding_lookup(c: Call) -> Value:
    return c.op("gather", c.x(1) if not c.same(1, c.out_quant()) else c.raw(1), c.i64_of(0), axis=0)


@handles("SCATTER_ND")
def scatter_nd(c: Call) -> Value:
    """Updates added up into zeros."""
    updates = c.raw(1)
    zeros = c.op("fill", c.i64_of(2), c.scalar(0, updates))
    return c.op("scatter_nd", zeros, c.i64_of(0), updates, reduction="add")


@handles("SPARSE_TO_DENSE")
def sparse_to_dense(c: Call) -> Value:
    at, shape, values, default = c.i64_of(0), c.i64_of(1), c.raw(2), c.raw(3)
    if c.rank(at) == 0:
        at = c.reshape(at, 1, 1)
    elif c.rank(at) == 1:
        at = c.reshape(at, -1, 1)
    base = c.op("fill", shape, default if c.rank(default) == 0 else c.reshape(default))
    if c.rank(values) == 0:
        values = c.op("expand", values, c.dims(at, 0, 1))
    return c.op("scatter_nd", base, at, values)


@handles("ONE_HOT")
def one_hot(c: Call) -> Value:
    """Negative indices give no hot element here, while ours count from the end: they are put out of range."""
    at, depth = c.i64_of(0), c.i64_of(1)
    depth = depth if c.rank(depth) == 0 else c.reshape(depth)
    known = c.known(at)
    if known is None or (known < 0).any():
        at = c.op("where", c.op("less", at, c.const(np.int64(0))), depth, at)
    on, off = (v if c.rank(v) == 1 else c.reshape(v, 1) for v in (c.raw(2), c.raw(3)))
    values = c.op("concat", off, on, axis=0)
    return c.op("one_hot", at, depth, values, axis=c.options("OneHotOptions").axis)


@handles("DYNAMIC_UPDATE_SLICE")
def dynamic_update_slice(c: Call) -> Value:
    """A copy of x with ``update`` written at ``start``, moved inwards where it would leave x."""
    x, update, start = c.moved(0), c.raw(1), c.i64_of(2)
    rank = c.rank(x)
    if rank == 0:
        return c.op("identity", update)
    room = c.op("sub", c.dims(x), c.dims(update))
    start = c.op("maximum", c.op("minimum", start, room), c.i64(*[0] * rank))
    size = c.dims(update)
    each = []
    for i in range(rank):
        n = c.reshape(c.op("slice", size, c.i64(i), c.i64(i + 1), c.i64(0)))
        first = c.reshape(c.op("slice", start, c.i64(i), c.i64(i + 1), c.i64(0)))
        steps = c.op("range", first, c.op("add", first, n), c.const(np.int64(1)))
        along = c.reshape(steps, *[1] * i, -1, *[1] * (rank - 1 - i), 1)
        each.append(c.op("expand", along, c.op("concat", size, c.i64(1), axis=0)))
    at = each[0] if rank == 1 else c.op("concat", *each, axis=-1)
    return c.op("scatter_nd", x, at, update)


# ---- segments
_SEGMENT = {"SUM": ("add", 0), "PROD": ("mul", 1), "MAX": ("max", None), "MIN": ("min", None)}


@handles("SEGMENT_SUM", *(f"UNSORTED_SEGMENT_{k}" for k in _SEGMENT))
def segment(c: Call) -> Value:
    """Rows folded by their segment's number; negative numbers are left out, empty segments hold the neutral element."""
    x, ids = c.x(0), c.i64_of(1)
    kind = c.op_type.rsplit("_", 1)[1]
    reduction, neutral = _SEGMENT[kind]
    assert x.dtype is not None
    if neutral is None:
        t = x.dtype.np
        low = kind == "MAX"
        if x.dtype.kind == "f":
            neutral = np.finfo(t).min if low else np.finfo(t).max
        else:
            neutral = np.iinfo(t).min if low else np.iinfo(t).max
    if c.op_type == "SEGMENT_SUM":
        count = c.op("add", c.op("reduce_max", ids, None, keepdims=True), c.i64(1))
        count = c.reshape(count, 1)
    else:
        count = c.reshape(c.i64_of(2), 1)
    k = c.rank(ids)
    room = c.op("add", count, c.i64(1))  # one more, for rows left out
    shape = c.op("concat", room, c.dims(x, k), axis=0) if c.rank(x) > k else room
    base = c.op("fill", shape, c.const(np.array(neutral, x.dtype.np)))
    ids = c.op("where", c.op("less", ids, c.const(np.int64(0))), c.reshape(count), ids)
    y = c.op("scatter_nd", base, c.op("unsqueeze", ids, c.i64(-1)), x, reduction=reduction)
    return c.op("slice", y, c.i64(0), c.i64(-1), c.i64(0))


# ---- order
@handles("TOPK_V2")
def top_k(c: Call) -> Any:
    x = c.moved()
    k = c.i64_of(1)
    return c.op("top_k", x, k if c.rank(k) == 1 else c.reshape(k, 1), outputs=2, axis=-1)


@handles("WHERE")
def where(c: Call) -> Value:
    x = c.raw()
    if x.dtype is not dtypes.bool_:
        x = c.op("not_equal", x, c.scalar(0, x))
    return c.op("transpose", c.op("non_zero", x), perm=(1, 0))


@handles("UNIQUE")
def unique(c: Call) -> list[Value]:
    y, _, inverse, _ = c.op("unique", c.raw(), outputs=4, sorted=False)
    return [y, inverse]


@handles("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def non_max_suppression(c: Call) -> list[Value]:
    """Indices of the boxes kept, padded with zeros to the largest number, (V5: their scores,) and how many they are."""
    boxes, scores, most = c.x(0), c.x(1), c.i64_of(2)
    sigma = float(c.static(5, "the sigma of soft NMS").reshape(-1)[0]) if c.op_type.endswith("5") else 0.0
    iou, low = (v if c.rank(v) == 0 else c.reshape(v) for v in (c.x(3), c.x(4)))
    if sigma > 0:
        return soft_suppression(c, boxes, scores, c.reshape(most), iou, low, sigma)
    most1 = c.reshape(most, 1)
    kept = c.op(
        "non_max_suppression",
        c.op("unsqueeze", boxes, c.i64(0)),
        c.op("unsqueeze", scores, c.i64(0, 1)),
        c.reshape(most),
        iou,
        low,
    )
    at = c.reshape(c.op("slice", kept, c.i64(2), c.i64(3), c.i64(1)), -1)
    count = c.dims(at, 0, 1)
    pads = c.op("concat", c.i64(0), c.op("sub", most1, count), axis=0)
    full = c.op("reshape", c.op("pad", at, pads), most1)
    out = [full]
    if c.op_type.endswith("5"):
        chosen = c.op("gather", scores, at, axis=0)
        out.append(c.op("reshape", c.op("pad", chosen, pads), most1))
    return [*out, c.reshape(count)]


def soft_suppression(
    c: Call, boxes: Value, scores: Value, most: Value, iou: Value, low: Value, sigma: float
) -> list[Value]:
    """Boxes kept, scores and count: round by round the best box, whose overlap lowers the scores of the others (Bodla et
    al., Soft-NMS, ICCV 2017), to nothing from ``iou`` on."""
    a, b = (c.op("slice", boxes, c.i64(k), c.i64(k + 2), c.i64(1)) for k in (0, 2))
    top, bottom = c.op("minimum", a, b), c.op("maximum", a, b)
    area = c.op("reduce_prod", c.op("sub", bottom, top), c.i64(1), keepdims=False)
    none = c.const(np.float32(-np.inf))
    alive = c.op("where", c.op("greater", scores, low), scores, none)
    body = c.inside("round")
    body.graph.inputs = [
        Value(body.builder.unique("number"), dtypes.int64, ()),
        Value(body.builder.unique("going"), dtypes.bool_, ()),
        Value(body.builder.unique("scores"), dtypes.float32, alive.shape),
    ]
    inner = Call(c.importer, body, c.scope, c.proto, c.op_type, c.version, c.name)
    op, now = inner.op, body.graph.inputs[2]
    top, bottom, area, iou, low = (body.capture(v) for v in (top, bottom, area, iou, low))
    best = op("arg_max", now, axis=0, keepdims=True)
    score = op("gather", now, best, axis=0)
    first, last, size = (op("gather", v, best, axis=0) for v in (top, bottom, area))
    sides = op("maximum", op("sub", op("minimum", bottom, last), op("maximum", top, first)), np.float32(0))
    common = op("reduce_prod", sides, inner.i64(1), keepdims=False)
    whole = op("sub", op("add", area, size), common)
    real = op("greater", op("minimum", area, size), np.float32(0))
    overlap = op("where", real, op("div", common, whole), np.float32(0))
    softer = op("mul", now, op("exp", op("mul", op("square", overlap), np.float32(-0.5 / sigma))))
    itself = op("equal", op("range", np.int64(0), op("reshape", op("shape_of", now), inner.i64()), np.int64(1)), best)
    gone = op("logical_or", op("logical_or", op("greater_equal", overlap, iou), itself), op("less_equal", softer, low))
    following = op("where", gone, np.float32(-np.inf), softer)
    found = op("greater", score, np.float32(-np.inf))
    flat = [op("squeeze", v, inner.i64(0)) for v in (op("cast", best, dtype="int32"), score, found)]
    captured = body.captured()
    body.graph.inputs += [i for _, i in captured]
    body.graph.outputs = [op("identity", body.graph.inputs[1]), following, *flat]
    body.graph.variables = []
    outer = [o for o, _ in captured]
    _, at, kept, there = c.op("loop", most, None, alive, *outer, outputs=4, body=body.graph, carried=1)
    at, kept = c.op("where", there, at, np.int32(0)), c.op("where", there, kept, np.float32(0))
    return [at, kept, c.op("reduce_sum", c.cast(there, "int32"), c.i64(0), keepdims=False)]


# ---- random numbers: of the right kind, not the same as another runtime's
@handles("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL")
def random(c: Call) -> Value:
    o = c.options("RandomOptions")
    op = "random_uniform" if c.op_type == "RANDOM_UNIFORM" else "random_normal"
    return c.op(op, c.i64_of(0), seed=int(o.seed or o.seed2))


@handles("MULTINOMIAL")
def multinomial(c: Call) -> Value:
    o = c.options("RandomOptions")
    (samples,) = c.ints(1, "the number of samples")
    dtype = c.importer.source.dtype(c.out_tensor()).name
    return c.op("multinomial", c.x(0), samples=samples, seed=int(o.seed or o.seed2), dtype=dtype)
