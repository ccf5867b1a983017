"""Remove ops that do nothing; merge neighbours that one op can do: views, transposes, casts, slices, pads, arithmetic.

Each rule looks at one node and returns the value that replaces its result, or None.  Rules run until none applies; new
nodes are looked at again in the next round of the pipeline's stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from deploykit.converters.ir import views, walk
from deploykit.converters.ir.rewriter import Rewriter
from deploykit.converters.ir.walk import attr, operand, same_shape, scalar
from deploykit.dtypes import DType
from deploykit.graph import Dim, Graph, Node, Value

TOLERANCE = "float"  # -0 + 0 is 0; all else is exact

Rule = Callable[[Rewriter, Node], Value | None]
RULES: dict[str, list[Rule]] = {}


def run(graph: Graph) -> dict[str, int]:
    """Apply the rules to a graph and its bodies.

    >>> from deploykit.ops import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.input("x", "float32", (2, 3))
    >>> y = b.op("transpose", b.op("transpose", x, perm=(1, 0)), perm=(1, 0))
    >>> g = b.output(y, "y")
    >>> run(g), len(g.nodes)
    ({'transpose': 1}, 0)
    """
    return walk.each_graph(graph, _one)


def _one(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    rw = Rewriter(graph)
    for n in rw.nodes():
        if not n.outputs or n.outputs[0] is None or any(v is not None and v.quant is not None for v in n.outputs):
            continue
        for rule in RULES.get(n.op, ()):
            with rw.before(n):
                new = rule(rw, n)
            if new is not None:
                rw.replace(n.outputs[0], new)
                counts[n.op] += 1
                break
    rw.commit()
    return counts


def _rule(*ops: str) -> Callable[[Rule], Rule]:
    def add(f: Rule) -> Rule:
        for op in ops:
            RULES.setdefault(op, []).append(f)
        return f

    return add


def _source(v: Value | None, *ops: str) -> Node | None:
    """The producer of a value when it is one of these ops and this its first result."""
    n = None if v is None else v.producer
    return n if n is not None and n.op in ops and n.outputs[0] is v else None


# ---------------------------------------------------------------- ops that change nothing
@_rule("identity")
def _identity(rw: Rewriter, n: Node) -> Value | None:
    return n.inputs[0]


@_rule("reshape", "flatten", "squeeze", "unsqueeze", "expand", "tile")
def _same_shape(rw: Rewriter, n: Node) -> Value | None:
    x = n.inputs[0]
    return x if x is not None and same_shape(x, n.output) else None


@_rule("slice")
def _whole_slice(rw: Rewriter, n: Node) -> Value | None:
    """Positive steps and as many elements as before: the slice is everything."""
    x, steps = n.inputs[0], operand(n, 4)
    if x is None or not same_shape(x, n.output):
        return None
    known = rw.known(steps)
    return x if steps is None or (known is not None and (known > 0).all()) else None


@_rule("pad")
def _no_pad(rw: Rewriter, n: Node) -> Value | None:
    pads = rw.known(n.inputs[1])
    return n.inputs[0] if pads is not None and not pads.any() else None


@_rule("concat")
def _concat_parts(rw: Rewriter, n: Node) -> Value | None:
    """One part is itself; empty parts go; a concat of concats along one axis is one concat."""
    rank = n.output.rank
    if rank is None:
        return None
    axis = attr(n, "axis") % rank
    parts: list[Value] = []
    for v in n.inputs:
        assert v is not None
        inner = _source(v, "concat")
        if v.shape is not None and v.shape[axis] == 0:
            continue
        if inner is not None and attr(inner, "axis") % rank == axis and rw.sole_user(v) is n and n.inputs.count(v) == 1:
            parts += inner.inputs  # type: ignore[arg-type]
        else:
            parts.append(v)
    if len(parts) == 1:
        return parts[0]
    if len(parts) == len(n.inputs) or not parts:
        return None
    return rw.like(n, parts)  # type: ignore[arg-type]


@_rule("split")
def _one_piece(rw: Rewriter, n: Node) -> Value | None:
    return n.inputs[0] if len(n.outputs) == 1 and same_shape(n.inputs[0], n.output) else None  # type: ignore[arg-type]


@_rule("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod")
def _reduce_nothing(rw: Rewriter, n: Node) -> Value | None:
    """Over axes of size 1 (or no axes) a reduction is at most a view."""
    x = n.inputs[0]
    axes = rw.known(operand(n, 1))
    if x is None or x.shape is None or axes is None:
        return None
    if axes.size == 0 and not attr(n, "noop_if_empty"):
        return None
    if not all(x.shape[int(a)] == 1 for a in axes.reshape(-1)):
        return None
    if same_shape(x, n.output):
        return x
    return rw.op("squeeze", x, axes.reshape(-1).astype(np.int64)) if axes.size else x


@_rule("add", "sub", "mul", "div")
def _neutral(rw: Rewriter, n: Node) -> Value | None:
    """x + 0, x - 0, x * 1, x / 1, where the constant does not enlarge x."""
    neutral = 0 if n.op in ("add", "sub") else 1
    pairs = [(0, 1)] if n.op in ("sub", "div") else [(0, 1), (1, 0)]
    for i, j in pairs:
        x, c = n.inputs[i], n.inputs[j]
        if x is not None and c is not None and c.data is not None and same_shape(x, n.output) and c.data.size:
            if x.dtype is n.output.dtype and (c.data == neutral).all():
                return x
    return None


# ---------------------------------------------------------------- casts
@_rule("cast")
def _cast(rw: Rewriter, n: Node) -> Value | None:
    """A cast to the dtype that is there already, or through a wider dtype that keeps every value."""
    x = n.inputs[0]
    if x is None or x.dtype is None or n.output.dtype is None:
        return None
    if x.dtype is n.output.dtype:
        return x
    inner = _source(x, "cast")
    if inner is None:
        return None
    first = inner.inputs[0]
    if first is None or first.dtype is None or not _holds(x.dtype, first.dtype):
        return None
    if first.dtype is n.output.dtype:
        return first
    # float -> int casts saturate and to bool they test: the first dtype must go the same way as the middle one
    if n.output.dtype.kind == "f" or (first.dtype.kind == x.dtype.kind and n.output.dtype.kind != "b"):
        return rw.op("cast", first, dtype=n.output.dtype.name)
    return None


def _holds(wide: DType, narrow: DType) -> bool:
    """Every value of ``narrow`` is a value of ``wide``."""
    if narrow.kind == "b" or wide is narrow:
        return wide.kind in "fiu" or wide is narrow
    digits = {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}
    if wide.kind == "f" and wide.name in digits:
        if narrow.kind in "iu":
            return narrow.bits <= digits[wide.name]
        small = {"float16": ("float32", "float64"), "bfloat16": ("float32", "float64"), "float32": ("float64",)}
        return wide.name in small.get(narrow.name, ())
    if wide.kind == "i":
        return narrow.kind in "iu" and narrow.bits < wide.bits
    return wide.kind == "u" and narrow.kind == "u" and narrow.bits < wide.bits


# ---------------------------------------------------------------- views
@_rule("reshape", "flatten", "squeeze", "unsqueeze")
def _merge_views(rw: Rewriter, n: Node) -> Value | None:
    """A view of a view is one view of the source; a shape computed at run time becomes a constant if one can say it."""
    x, y = n.inputs[0], n.output
    assert x is not None
    inner = _source(x, *views.VIEWS)
    if inner is not None and inner.inputs[0] is not None and y.shape is not None:
        source = inner.inputs[0]
        if same_shape(source, y):
            return source
        new = _direct(rw, source, y)
        if new is not None:
            return new
    if n.op == "reshape" and not n.inputs[1].is_constant:  # type: ignore[union-attr]
        return _direct(rw, x, y)
    return None


def _direct(rw: Rewriter, x: Value, y: Value) -> Value | None:
    """``x`` under ``y``'s shape by one op."""
    if x.shape is None or y.shape is None:
        return None
    target = views.reshape_target(x.shape, y.shape)
    if target is not None:
        return rw.op("reshape", x, target)
    return None


@_rule("gather")
def _gather_view(rw: Rewriter, n: Node) -> Value | None:
    """The only element along an axis: gather with a scalar index drops a dim of size 1."""
    x, i = n.inputs
    index = rw.known(i)
    if x is None or x.shape is None or index is None or index.ndim > 0 or not x.rank:
        return None
    axis = attr(n, "axis") % x.rank
    return rw.op("squeeze", x, np.array([axis], np.int64)) if x.shape[axis] == 1 else None


# ---------------------------------------------------------------- transposes
def perm_of(n: Node) -> tuple[int, ...]:
    """The perm of a transpose, written out."""
    perm = tuple(attr(n, "perm"))
    rank = n.output.rank
    return perm or tuple(reversed(range(rank or 0)))


@_rule("transpose")
def _transpose(rw: Rewriter, n: Node) -> Value | None:
    """Transposes that change nothing, or that undo or follow another."""
    x = n.inputs[0]
    assert x is not None
    perm = perm_of(n)
    inner = _source(x, "transpose")
    if inner is not None:
        x, perm = inner.inputs[0], views.compose(perm_of(inner), perm)
        assert x is not None
    if perm == views.identity(len(perm)):
        return x
    return rw.op("transpose", x, perm=perm) if inner is not None else None


# ---------------------------------------------------------------- slices and pads
def slice_ranges(rw: Rewriter, n: Node) -> dict[int, tuple[int, int, int]] | None:
    """axis -> (start, end, step) of a slice with known operands, as written; None when something is unknown."""
    x = n.inputs[0]
    parts = [rw.known(operand(n, i)) for i in range(1, 5)]
    if x is None or x.rank is None or parts[0] is None or parts[1] is None:
        return None
    if any(operand(n, i) is not None and parts[i - 1] is None for i in (3, 4)):
        return None
    starts, ends = parts[0].reshape(-1), parts[1].reshape(-1)
    axes = parts[2].reshape(-1) if parts[2] is not None else np.arange(len(starts))
    steps = parts[3].reshape(-1) if parts[3] is not None else np.ones(len(starts), np.int64)
    return {int(a) % x.rank: (int(s), int(e), int(t)) for a, s, e, t in zip(axes, starts, ends, steps, strict=True)}


@_rule("slice")
def _merge_slices(rw: Rewriter, n: Node) -> Value | None:
    """A slice of a slice: other axes join, the same axis composes where both count up from known places."""
    inner = _source(n.inputs[0], "slice")
    if inner is None:
        return None
    outer_ranges, inner_ranges = slice_ranges(rw, n), slice_ranges(rw, inner)
    x = inner.inputs[0]
    if outer_ranges is None or inner_ranges is None or x is None or x.shape is None:
        return None
    merged = dict(inner_ranges)
    for axis, b in outer_ranges.items():
        if axis not in merged:
            merged[axis] = b
            continue
        size, middle = x.shape[axis], inner.output.shape[axis]  # type: ignore[index]
        a = merged[axis]
        if isinstance(size, Dim) or isinstance(middle, Dim) or a[2] < 1 or b[2] < 1:
            return None
        ra = range(size)[a[0] : a[1] : a[2]]
        rb = ra[b[0] : b[1] : b[2]]
        merged[axis] = (rb.start, rb.stop, rb.step)
    if merged == outer_ranges:
        return None
    return make_slice(rw, x, merged)


def make_slice(rw: Rewriter, x: Value, ranges: dict[int, tuple[int, int, int]]) -> Value:
    """A slice node over these ranges."""
    axes = sorted(ranges)
    columns = [np.array([ranges[a][k] for a in axes], np.int64) for k in range(3)]
    steps = None if (columns[2] == 1).all() else columns[2]
    return rw.op("slice", x, columns[0], columns[1], np.array(axes, np.int64), steps)


@_rule("concat")
def _zeros_are_padding(rw: Rewriter, n: Node) -> Value | None:
    """Constant zeros joined before or after a tensor are padding: no zeros in the file, and no copy of them."""
    shape = n.output.shape
    if shape is None:
        return None
    axis = attr(n, "axis") % len(shape)
    live = [i for i, v in enumerate(n.inputs) if not _zeros(v)]
    if len(live) != 1 or len(n.inputs) < 2:
        return None
    x = n.inputs[live[0]]
    if x is None or x.dtype is None or x.dtype.kind != "f" or not x.dtype.name.startswith(("float32", "float16")):
        return None
    sizes = [v.shape[axis] for v in n.inputs]  # type: ignore[union-attr, index]
    before, after = sum(sizes[: live[0]]), sum(sizes[live[0] + 1 :])
    if isinstance(before, Dim) or isinstance(after, Dim):
        return None
    return rw.op("pad", x, np.array([before, after], np.int64), None, np.array([axis], np.int64))


def _zeros(v: Value | None) -> bool:
    if v is None or v.shape is None:
        return False
    if v.data is not None:
        return bool((v.data == 0).all()) and not np.signbit(v.data).any()
    fill = _source(v, "fill")
    return fill is not None and scalar(fill.inputs[1]) == 0.0


@_rule("pad")
def _merge_pads(rw: Rewriter, n: Node) -> Value | None:
    """Two constant pads with the same value, both with known sizes and none negative."""
    inner = _source(n.inputs[0], "pad")
    if inner is None or attr(n, "mode") != "constant" or attr(inner, "mode") != "constant":
        return None
    a, b = pad_amounts(rw, inner), pad_amounts(rw, n)
    x = inner.inputs[0]
    if a is None or b is None or x is None or pad_value(n) is None or pad_value(n) != pad_value(inner):
        return None
    if rw.sole_user(inner.output) is not n or (a < 0).any() or (b < 0).any():
        return None
    return rw.op("pad", x, (a + b).reshape(-1), operand(n, 2))


def pad_amounts(rw: Rewriter, n: Node) -> np.ndarray | None:
    """[2, rank] befores and afters of a pad with known operands."""
    x = n.inputs[0]
    pads, axes = rw.known(n.inputs[1]), operand(n, 3)
    if x is None or x.rank is None or pads is None:
        return None
    out = np.zeros((2, x.rank), np.int64)
    if axes is None:
        out[:] = pads.reshape(2, -1)
        return out
    known = rw.known(axes)
    if known is None:
        return None
    for k, a in enumerate(known.reshape(-1)):
        out[:, int(a) % x.rank] = pads.reshape(2, -1)[:, k]
    return out


def pad_value(n: Node) -> float | None:
    """The value a pad writes, None when it is not known."""
    v = operand(n, 2)
    return 0.0 if v is None else scalar(v)


# ---------------------------------------------------------------- small algebra
@_rule("relu", "abs", "floor", "ceil", "round", "trunc", "sign", "relu6")
def _idempotent(rw: Rewriter, n: Node) -> Value | None:
    return n.inputs[0] if _source(n.inputs[0], n.op) is not None else None


@_rule("neg", "logical_not", "bitwise_not", "reciprocal")
def _involution(rw: Rewriter, n: Node) -> Value | None:
    inner = _source(n.inputs[0], n.op)
    return inner.inputs[0] if inner is not None and n.op != "reciprocal" else None


@_rule("relu", "abs")
def _already_positive(rw: Rewriter, n: Node) -> Value | None:
    inner = _source(
        n.inputs[0], "relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exp", "square", "abs", "softmax"
    )
    return n.inputs[0] if inner is not None else None


@_rule("clip")
def _clip(rw: Rewriter, n: Node) -> Value | None:
    """Clip without limits, or to [0, inf) and [0, 6]."""
    x, low, high = n.inputs[0], operand(n, 1), operand(n, 2)
    if x is None or x.dtype is None or x.dtype.kind != "f":
        return None
    lowest = -np.inf if low is None else scalar(low)
    highest = np.inf if high is None else scalar(high)
    if lowest is None or highest is None:
        return None
    top = float(np.finfo(np.float32).max) if x.dtype.name != "float16" else 65504.0
    if lowest <= -top and highest >= top and (lowest == -np.inf and highest == np.inf):
        return x
    if lowest == 0 and highest == np.inf:
        return rw.op("relu", x)
    if lowest == 0 and highest == 6:
        return rw.op("relu6", x)
    return None


@_rule("maximum", "minimum")
def _limits(rw: Rewriter, n: Node) -> Value | None:
    """max(x, c) and min(x, c) with a scalar are clips; one clip for both."""
    for x, c in (n.inputs, n.inputs[::-1]):
        limit = scalar(c)
        if limit is None or x is None or x.is_constant or not same_shape(x, n.output) or np.isnan(limit):
            continue
        if x.dtype is None or x.dtype.kind != "f":
            return None
        c = _as_scalar(rw, c)  # type: ignore[arg-type]
        if n.op == "maximum":
            return rw.op("clip", x, c, None)
        inner = _source(x, "clip", "relu")
        if inner is not None and rw.sole_user(x) is n and operand(inner, 2) is None:
            low = operand(inner, 1) if inner.op == "clip" else rw.constant(np.zeros((), x.dtype.np))
            return rw.op("clip", inner.inputs[0], low, c)
        return rw.op("clip", x, None, c)
    return None


def _as_scalar(rw: Rewriter, c: Value) -> Value:
    assert c.data is not None
    return c if c.data.ndim == 0 else rw.constant(c.data.reshape(()), c.name)
