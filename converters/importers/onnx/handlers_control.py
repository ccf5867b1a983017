"""If, Loop and Scan; sequences and optionals, which exist only while importing.

Bodies become closed graphs: what they read from outside arrives as captures after their own inputs.  An If whose
condition is known is replaced by its branch; a Loop that carries a sequence is unrolled when its trip count is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, Skip, handles
from deploykit.converters.importers.onnx.importer import symbol
from deploykit.converters.importers.onnx.scope import MISSING, Body, Optional, Scope, Sequence
from deploykit.dtypes import bool_, int64
from deploykit.errors import FormatError, LimitError
from deploykit.graph import Graph, Value, growth

UNROLL_LIMIT = 1024  # iterations of a loop that carries a sequence


# ---- bodies
def _inner_scope(c: Call, body: Body, prefix: str) -> Scope:
    return Scope(body, c.scope.opsets, outer=c.scope, attrs=c.scope.attrs, prefix=prefix)


def _run_body(c: Call, scope: Scope, g: Any) -> list[Any]:
    """Import the nodes of a body into ``scope``; its outputs as items."""
    c.importer.initializers(scope, g)
    if scope.body is not c.body:
        scope.body.reserve(n for node in g.node for n in node.output)
    c.importer.walk(scope, g.node)
    items = []
    for o in g.output:
        try:
            items.append(scope.lookup(o.name))
        except KeyError:
            raise FormatError(f"nothing in the body computes its output '{o.name}'") from None
    if any(i is MISSING for i in items):
        raise Skip
    return items


def _flatten(item: Any) -> list[Value]:
    if isinstance(item, Sequence):
        return [v for x in item.items for v in _flatten(x)]
    if isinstance(item, Optional):
        return [] if item.item is None else _flatten(item.item)
    return [item]


def _same_form(a: Any, b: Any) -> bool:
    if isinstance(a, Sequence):
        return isinstance(b, Sequence) and len(a.items) == len(b.items) and all(map(_same_form, a.items, b.items))
    if isinstance(a, Optional):
        return isinstance(b, Optional) and (a.item is None) == (b.item is None)
    return isinstance(b, Value)


def _rebuild(form: Any, values: Any) -> Any:
    if isinstance(form, Sequence):
        return Sequence([_rebuild(x, values) for x in form.items], form.dtype)
    if isinstance(form, Optional):
        return Optional(None if form.item is None else _rebuild(form.item, values))
    return next(values)


def _scalar(c: Call, v: Value | None) -> Value | None:
    """Trip counts and conditions may come as one-element vectors."""
    return c.op("reshape", v, c.i64()) if v is not None and v.shape != () else v


# ---- If
@handles("If")
def if_(c: Call) -> Any:
    condition = _scalar(c, c.x(0))
    known = c.known(condition)
    if known is not None:
        g = c.attr("then_branch" if known else "else_branch")
        return _run_body(c, _inner_scope(c, c.body, c.scope.prefix), g)
    bodies, forms = [], []
    for key in ("then_branch", "else_branch"):
        g = c.attr(key)
        body = Body(Graph(name=g.name or key), outer=c.body)
        forms.append(_run_body(c, _inner_scope(c, body, ""), g))
        bodies.append(body)
    if not all(map(_same_form, *forms)):
        raise c.unsupported("the branches return sequences or optionals of different form")
    captures: dict[Value, None] = dict.fromkeys(o for b in bodies for o, _ in b.captured())
    for body, items in zip(bodies, forms, strict=True):
        inner = dict(body.captured())
        for outer in captures:
            body.graph.inputs.append(
                inner.get(outer) or Value(body.builder.unique(outer.name), outer.dtype, outer.shape)
            )
        for item in items:
            for v in _flatten(item):
                body.builder.output(v)
    values = c.op(
        "if", condition, *captures,
        outputs=len(bodies[0].graph.outputs), then_graph=bodies[0].graph, else_graph=bodies[1].graph,
    )  # fmt: skip
    rest = iter(values)
    return [_rebuild(item, rest) for item in forms[0]]


# ---- Loop
@handles("Loop")
def loop(c: Call) -> Any:
    trip, condition = _scalar(c, c.opt(0)), _scalar(c, c.opt(1))
    g = c.attr("body")
    initial = [c.item(i) for i in range(2, c.n)]
    if any(isinstance(v, (Sequence, Optional)) for v in initial):
        return _unrolled(c, g, trip, condition, initial)
    initial = [c.x(i) for i in range(2, c.n)]

    def build(body: Body, scope: Scope, carried: list[Value]) -> list[Value]:
        for info, v in zip(g.input, [body.graph.inputs[0], body.graph.inputs[1], *carried], strict=True):
            scope.env[info.name] = v
        items = _run_body(c, scope, g)
        if not all(isinstance(i, Value) for i in items):
            raise c.unsupported("the body of a loop returns a sequence or optional")
        return items

    names = [i.name for i in g.input]
    if len(names) != 2 + len(initial):
        raise FormatError(f"the body takes {len(names)} inputs; expected {2 + len(initial)}")
    return run_loop(c, g.name, trip, condition, initial, names, build, len(c.outputs))


def run_loop(
    c: Call,
    name: str,
    trip: Value | None,
    condition: Value | None,
    initial: list[Value],
    names: list[str],
    build: Any,
    outputs: int,
) -> list[Value]:
    """Emit ``loop``.  ``build(body, scope, carried)`` imports the body once and returns (condition, carried, scanned).

    Dims of carried values that the body changes become symbols, found by importing the body until they settle.
    """
    shapes: list[Any] = [v.shape for v in initial]
    for _ in range(8):
        body = Body(Graph(name=name or "body"), outer=c.body)
        scope = _inner_scope(c, body, "")
        body.input(names[0], int64, ())
        body.input(names[1], bool_, ())
        carried = [body.input(n, v.dtype, s) for n, v, s in zip(names[2:], initial, shapes, strict=True)]  # type: ignore[arg-type]
        marked = c.importer.problems.mark()
        items = build(body, scope, carried)
        after = [_common(s, v.shape, names[2 + i]) for i, (s, v) in enumerate(zip(shapes, items[1:], strict=False))]
        if after == shapes:
            break
        shapes = after
        c.importer.problems.reset(marked)
    for i, (a, b) in enumerate(zip(initial, items[1:], strict=False)):
        if a.dtype is not b.dtype:
            raise FormatError(f"carried value {i} starts as {a.dtype} and becomes {b.dtype}")
    if items[0].shape != ():
        items[0] = body.emit("reshape", [items[0], body.constant(np.zeros(0, np.int64))], {}, "condition")
    captured = body.captured()
    body.graph.inputs += [i for _, i in captured]
    for v in items:
        body.builder.output(v)
    ins = [trip, condition, *initial, *(o for o, _ in captured)]
    return c.op("loop", *ins, outputs=outputs, body=body.graph, carried=len(initial))


def _common(a: Any, b: Any, owner: str) -> Any:
    """The shape that covers both: dims that differ become symbols of that value."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(p if p == q else symbol("", owner, i) for i, (p, q) in enumerate(zip(a, b, strict=True)))


def _unrolled(c: Call, g: Any, trip: Value | None, condition: Value | None, items: list[Any]) -> list[Any]:
    count = None if trip is None else c.known(trip)
    if count is None or int(count) > UNROLL_LIMIT:
        raise c.unsupported(
            "a loop that carries a sequence, with a trip count computed at run time. "
            "Fix the input shapes (input_shapes=), or collect the items as a scan output instead"
        )
    on = condition
    n_scan = len(g.output) - 1 - len(items)
    scans: list[list[Value]] = [[] for _ in range(n_scan)]
    for i in range(int(count)):
        value = c.known(on) if on is not None else np.True_
        if value is None:
            raise c.unsupported("a loop that carries a sequence and stops by a condition computed at run time")
        if not value.all():
            break
        scope = _inner_scope(c, c.body, f"{c.name}/{i}/")
        start = [c.const(np.int64(i)), on if on is not None else c.const(np.array(True)), *items]
        for info, item in zip(g.input, start, strict=True):
            scope.env[info.name] = item
        on, *rest = _run_body(c, scope, g)
        items = rest[: len(items)]
        for out, v in zip(scans, rest[len(items) :], strict=True):
            out.append(v)
    stacked = []
    for out in scans:
        if not out:
            raise c.unsupported("a loop that runs no iteration and still has scan outputs")
        parts = [c.op("unsqueeze", v, c.i64(0)) for v in out]
        stacked.append(c.op("concat", *parts, axis=0))
    return [*items, *stacked]


# ---- Scan
@handles("Scan", since=9)
def scan(c: Call) -> Any:
    g, n = c.attr("body"), c.attr("num_scan_inputs")
    n_state = c.n - n
    xs = c.xs()
    if not 0 < n <= len(xs):
        raise FormatError(f"num_scan_inputs is {n}, with {len(xs)} inputs")
    axes = c.ints("scan_input_axes", [0] * n) or []
    directions = c.ints("scan_input_directions", [0] * n) or []
    if not 0 < n == len(axes) <= len(xs):
        raise FormatError(f"num_scan_inputs is {n}, with {len(axes)} axes and {len(xs)} inputs")
    axes = [c.axis(a, c.rank(x)) for a, x in zip(axes, xs[n_state:], strict=True)]
    results = run_scan(c, g, xs[:n_state], xs[n_state:], axes, directions)
    n_out = len(g.output) - n_state
    back = c.ints("scan_output_directions", [0] * n_out) or []
    axes = c.ints("scan_output_axes", [0] * n_out) or []
    for k in range(n_state, len(results)):
        y = results[k]
        if back[k - n_state]:
            y = c.op("reverse", y, axes=[0])
        rank = c.rank(y)
        axis = c.axis(axes[k - n_state], rank)
        results[k] = c.transpose(y, [*range(1, axis + 1), 0, *range(axis + 1, rank)])
    return results


@handles("Scan", since=8, until=8)
def scan_8(c: Call) -> Any:
    """Opset 8 scans axis 1 and treats axis 0 of everything as a batch of independent scans."""
    g, n = c.attr("body"), c.attr("num_scan_inputs")
    if c.opt(0) is not None:
        raise c.unsupported("sequence_lens (opset 8 only); export with opset 9 or later")
    xs = [c.x(i) for i in range(1, c.n)]
    batch = c.shape(xs[-1])[0]
    if not isinstance(batch, int) or batch > UNROLL_LIMIT:
        raise c.unsupported("a batch size that is not known (opset 8 only); export with opset 9 or later")
    back = c.ints("directions", [0] * n) or []
    columns: list[list[Value]] = []
    for b in range(batch):
        own = [c.op("gather", x, c.const(np.int64(b))) for x in xs]
        columns.append(run_scan(c, g, own[:-n], own[-n:], [0] * n, back))
    rows = zip(*columns, strict=True)
    return [c.op("concat", *(c.op("unsqueeze", v, c.i64(0)) for v in row), axis=0) for row in rows]


def run_scan(c: Call, g: Any, state: list[Value], xs: list[Value], axes: list[int], backward: list[int]) -> list[Value]:
    """Emit a scan as a loop; scanned results are stacked along axis 0, in order of computation."""
    if not 0 < len(xs) == len(axes) == len(backward):
        raise FormatError(f"{len(xs)} scan inputs with {len(axes)} axes and {len(backward)} directions")
    trip = c.op("reshape", c.dims(xs[0], axes[0], axes[0] + 1), c.i64())
    last = c.op("sub", trip, c.const(np.int64(1))) if any(backward) else None

    def build(body: Body, scope: Scope, carried: list[Value]) -> list[Value]:
        at = body.graph.inputs[0]
        back = None if last is None else body.emit("sub", [body.capture(last), at], {}, "from_the_end")
        items = list(carried)
        for x, axis, reverse in zip(xs, axes, backward, strict=True):
            items.append(body.emit("gather", [body.capture(x), back if reverse else at], {"axis": axis}, "step"))
        for info, item in zip(g.input, items, strict=True):
            scope.env[info.name] = item
        got = _run_body(c, scope, g)
        return [body.graph.inputs[1], *got]

    names = [f"{c.name}/iteration", f"{c.name}/condition", *(i.name for i in g.input[: len(state)])]
    return run_loop(c, g.name, trip, None, state, names, build, len(g.output))


# ---- sequences
def _sequence(c: Call, i: int = 0) -> Sequence:
    s = c.item(i)
    if isinstance(s, Optional):
        s = s.item
    if not isinstance(s, Sequence):
        raise FormatError(f"input {i} is not a sequence")
    return s


def _position(c: Call, i: int, size: int, default: int | None = None, end: bool = False) -> int:
    """A place in a sequence of ``size``; ``end``: or behind its last element."""
    if c.opt(i) is None and default is not None:
        return default
    p = int(c.static(i, "the position in a sequence").reshape(()))
    q = p + size if p < 0 else p
    if not 0 <= q < size + end:
        raise FormatError(f"position {p} in a sequence of {size}")
    return q


@handles("SequenceEmpty")
def sequence_empty(c: Call) -> Sequence:
    return Sequence([])


@handles("SequenceConstruct")
def sequence_construct(c: Call) -> Sequence:
    return Sequence(c.xs())


@handles("SequenceInsert")
def sequence_insert(c: Call) -> Sequence:
    items = list(_sequence(c).items)
    items.insert(_position(c, 2, len(items), len(items), end=True), c.x(1))
    return Sequence(items)


@handles("SequenceErase")
def sequence_erase(c: Call) -> Sequence:
    items = list(_sequence(c).items)
    if items:
        del items[_position(c, 1, len(items), len(items) - 1)]
    return Sequence(items)


@handles("SequenceAt")
def sequence_at(c: Call) -> Any:
    items = _sequence(c).items
    return items[_position(c, 1, len(items))]


@handles("SequenceLength")
def sequence_length(c: Call) -> Value:
    return c.const(np.int64(len(_sequence(c).items)))


@handles("ConcatFromSequence")
def concat_from_sequence(c: Call) -> Value:
    items, axis = _sequence(c).items, c.attr("axis")
    if not items:
        raise c.unsupported("joining an empty sequence")
    if c.attr("new_axis", 0):
        items = [c.op("unsqueeze", v, c.i64(axis)) for v in items]
    return c.op("concat", *items, axis=axis)


@handles("SplitToSequence")
def split_to_sequence(c: Call) -> Sequence:
    x, axis = c.x(0), c.attr("axis", 0)
    axis = c.axis(axis, c.rank(x))
    size = c.shape(x)[axis]
    given, count = c.opt(1), None
    if given is not None and c.known(given) is None and given.shape is not None and len(given.shape) == 1:
        count = given.shape[0]  # how many pieces is known, their sizes are not
    if isinstance(count, int) and count > 0:
        return Sequence(list(c.op("split", x, given, outputs=count, axis=axis)))
    if given is None:
        if isinstance(size, int) and size > growth.NODES:
            raise LimitError(f"a sequence of {size} pieces is refused; at most {growth.NODES} are allowed.")
        sizes: list[int] = [1] * size if isinstance(size, int) else []
        drop = not c.attr("keepdims", 1)
    else:
        cut = c.static(1, "the sizes of the pieces")
        if cut.ndim:
            sizes = [int(v) for v in cut]
        else:
            step = int(cut)
            sizes = [min(step, size - i) for i in range(0, size, step)] if isinstance(size, int) else []
        drop = False
    if not sizes and not isinstance(size, int):
        raise c.unsupported(f"the number of pieces depends on dim {axis} of '{x.name}'. Fix it (input_shapes=)")
    parts = c.op("split", x, c.i64(*sizes), outputs=len(sizes), axis=axis) if len(sizes) > 1 else [x] * len(sizes)
    return Sequence([c.op("squeeze", p, c.i64(axis)) for p in parts] if drop else parts)


# ---- optionals
@handles("Optional")
def optional(c: Call) -> Optional:
    return Optional(c.item(0) if c.n else None)


@handles("OptionalHasElement")
def optional_has_element(c: Call) -> Value:
    item = c.item(0)
    return c.const(np.array(item is not None and not (isinstance(item, Optional) and item.item is None)))


@handles("OptionalGetElement")
def optional_get_element(c: Call) -> Any:
    item = c.item(0)
    if isinstance(item, Optional):
        item = item.item
    if item is None:
        raise FormatError("it reads an empty optional")
    return item
