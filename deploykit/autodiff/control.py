"""Control flow on values: ``cond``, ``while_loop``, ``scan``.

On numbers they are plain Python.  In a trace they become the ops ``if`` and ``loop``, whose bodies are graphs of their
own: what a body reads from outside is captured, what it assigns to variables comes out as further results.  Gradients
of ``cond`` and ``scan`` run the body again on the captured tensors; a ``while_loop`` in a trace has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deploykit.autodiff import numeric, state, tree
from deploykit.autodiff.tape import GradientTape, TapeError, no_gradient
from deploykit.autodiff.tensor import Tensor, TraceError, convert_to_tensor, dtype_of
from deploykit.autodiff.trace import Trace
from deploykit.autodiff.variable import Variable
from deploykit.errors import InputError
from deploykit.graph.ir import Graph, Value
from deploykit.ops.core import F, get

Reads = dict[Variable, Tensor]


class _Body:
    """A traced body: results (leaves), the nest they came in, variables it assigned."""

    def __init__(
        self,
        name: str,
        f: Callable[..., Any],
        inputs: list[tuple[str, Any, Any]],
        args: Callable[..., Any],
        reads: Reads,
    ) -> None:
        outer = state.trace()
        assert outer is not None
        self.trace = Trace(name, outer)
        self.trace.reads.update(reads)
        with self.trace.active(), no_gradient():
            given = [self.trace.input(*i) for i in inputs]
            out = f(*args(given))
            leaves, self.build = tree.flatten(out)
            self.leaves = [None if x is None else convert_to_tensor(x) for x in leaves]
        self.nest = tree.structure(out)

    def close(self, extra: list[Tensor], order: list[Value]) -> Graph:
        """The graph with these results; captures become inputs in ``order``."""
        results = [x for x in self.leaves if x is not None] + extra
        g = self.trace.builder.graph
        for v in order:
            self.trace.localize(v)
        first = g.inputs[: len(g.inputs) - len(self.trace.captures)]
        g.inputs = first + [self.trace.captures[v] for v in order]
        for k, t in enumerate(results):
            with self.trace.active():
                v = self.trace.value(t)
                # a condition handed on as it came tells that the loop runs its full count
                if v.data is not None or (v in g.inputs and k) or v in g.outputs:
                    (v,) = self.trace.apply(get("identity"), [v], {})
            self.trace.builder.output(v, f"out{k}")
        return g


def _captured(*bodies: _Body) -> tuple[list[Value], list[Tensor]]:
    """Values and tensors that bodies take from outside, each once, in order."""
    values: dict[Value, None] = {}
    found: dict[int, Tensor] = {}
    for b in bodies:
        values.update(dict.fromkeys(b.trace.captures))
        found.update(b.trace.captured)
    return list(values), list(found.values())


def _announce(*bodies: _Body) -> Reads:
    """Tell the tapes which variables the bodies read; the tensors that stood for them."""
    outer = state.trace()
    reads: Reads = {}
    for b in bodies:
        for v, t in b.trace.reads.items():
            reads[v] = outer.read(v) if v in b.trace.assigned else t  # type: ignore[union-attr]
    for v, t in reads.items():
        for tape in state.current.tapes:
            tape.saw(v, t)
    return reads


def _record(inputs: list[Any], outs: Sequence[Tensor], backward: Callable[[list[Any]], Sequence[Any]]) -> None:
    for tape in state.current.tapes:
        tape.record(inputs, tuple(outs), backward)


def _floats(ts: Sequence[Any]) -> list[Tensor]:
    return [t for t in ts if isinstance(t, Tensor) and dtype_of(t).kind == "f"]


# ---------------------------------------------------------------- cond
def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """``true_fn(*operands)`` if pred holds, else ``false_fn(*operands)``.

    pred: a bool scalar.  Both functions must return the same nest with the same dtypes; they may read tensors and
    variables around them and assign variables.
    """
    p = numeric.cast(pred, "bool")
    if not p.traced:
        return true_fn(*operands) if bool(p) else false_fn(*operands)
    return _cond(p, true_fn, false_fn, operands, {})


def _cond(p: Tensor, true_fn: Any, false_fn: Any, operands: Any, reads: Reads) -> Any:
    outer = state.trace()
    assert outer is not None
    a, b = (_Body(n, f, [], lambda _: operands, reads) for n, f in (("then", true_fn), ("else", false_fn)))
    if a.nest != b.nest:
        raise TraceError(f"cond: true_fn gives {a.nest}, false_fn {b.nest}; both must return the same nest.")
    for i, (x, y) in enumerate(zip(a.leaves, b.leaves, strict=True)):
        if (x is None) != (y is None) or (x is not None and y is not None and x.dtype != y.dtype):
            raise TraceError(f"cond: result {i} is {x} in true_fn and {y} in false_fn; cast them to one dtype.")
    assigned = list(dict.fromkeys([*a.trace.assigned, *b.trace.assigned]))
    extra = []
    for body in (a, b):
        with body.trace.active():
            extra.append([body.trace.read(v) for v in assigned])
    for body, ts in zip((a, b), extra, strict=True):  # everything captured before the graphs are closed
        for t in [*(x for x in body.leaves if x is not None), *ts]:
            body.trace.value(t)
    values, found = _captured(a, b)
    graphs = [body.close(ts, values) for body, ts in zip((a, b), extra, strict=True)]
    n = len(graphs[0].outputs)
    attrs = dict(then_graph=graphs[0], else_graph=graphs[1], n_outputs=n)
    outs = outer.apply(get("if"), [outer.value(p), *(outer.localize(v) for v in values)], attrs) if n else ()
    outer.note([p, *found])
    results = [Tensor(v) for v in outs]
    k = sum(x is not None for x in a.leaves)
    for v, t in zip(assigned, results[k:], strict=True):
        outer.assign(v, t)
    seen = _announce(a, b)
    ins = _floats(found)

    def backward(gs: list[Any]) -> Sequence[Any]:
        given = [(y, g) for y, g in zip(results[:k], gs, strict=False) if g is not None]

        def back(f: Any) -> Callable[[], Any]:
            def run() -> Any:
                with GradientTape(watch_accessed_variables=False) as tape:
                    for t in ins:
                        tape.watch(t)
                    leaves = [x for x in tree.flatten(f(*operands))[0] if x is not None]
                at = {id(y): i for i, y in enumerate(results[:k])}
                pairs = [(leaves[at[id(y)]], g) for y, g in given]
                pairs = [(convert_to_tensor(y), g) for y, g in pairs]
                return tape.gradient([y for y, _ in pairs], ins, [g for _, g in pairs], unconnected_gradients="zero")

            return run

        return _cond(p, back(true_fn), back(false_fn), (), seen)

    _record(ins, results[:k], backward)
    it = iter(results[:k])
    return a.build([None if x is None else next(it) for x in a.leaves])


# ---------------------------------------------------------------- while
def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """``loop_vars = body(*loop_vars)`` while ``cond(*loop_vars)`` holds; the last loop_vars.

    loop_vars: a tuple or list (or one tensor) whose parts keep their dtypes and shapes.
    """
    single = not isinstance(loop_vars, (tuple, list))
    args = (loop_vars,) if single else tuple(loop_vars)

    def again(*xs: Any) -> tuple[Any, ...]:
        out = body(*xs)
        return (out,) if not isinstance(out, (tuple, list)) else tuple(out)

    leaves, build = tree.flatten(args)
    leaves = [convert_to_tensor(x) for x in leaves]
    go = numeric.cast(cond(*build(leaves)), "bool")
    if state.trace() is None or not (go.traced or any(x.traced for x in leaves)):
        now, count = build(leaves), 0
        while (maximum_iterations is None or count < maximum_iterations) and bool(go):
            now, count = again(*now), count + 1
            go = numeric.cast(cond(*now), "bool")
        return now[0] if single else type(loop_vars)(now)
    out = _while(cond, again, leaves, build, go, maximum_iterations)
    return out[0] if single else type(loop_vars)(out)


_HEAD: list[tuple[str, Any, Any]] = [("iteration", "int64", ()), ("go", "bool", ())]


def _specs(ts: Sequence[Tensor], prefix: str) -> list[tuple[str, Any, Any]]:
    return [(f"{prefix}{i}", dtype_of(t), t.shape) for i, t in enumerate(ts)]


def _while(cond: Any, again: Any, leaves: list[Tensor], build: Any, go: Tensor, limit: int | None) -> Any:
    outer = state.trace()
    assert outer is not None
    state_vars: list[Variable] = []
    while True:  # again with the variables carried that the body assigns
        carried = [*leaves, *(outer.read(v) for v in state_vars)]

        def step(*xs: Tensor, n: int = len(leaves), state_vars: list[Variable] = state_vars) -> Any:
            trace = state.trace()
            assert trace is not None
            for v, t in zip(state_vars, xs[n:], strict=True):
                trace.reads[v] = t
            new = again(*build(list(xs[:n])))
            ts = [convert_to_tensor(x) for x in tree.flatten(new)[0]]
            more = numeric.cast(cond(*new), "bool")
            return [numeric.reshape(more, ()), *ts, *(trace.read(v) for v in state_vars)]

        b = _Body("body", step, [*_HEAD, *_specs(carried, "carried")], lambda given: given[2:], {})
        new_vars = [v for v in b.trace.assigned if v not in state_vars]
        if not new_vars:
            break
        state_vars = [*state_vars, *new_vars]
    _check_carried("while_loop", carried, b.leaves[1:])
    outs, found = _loop(outer, b, None if limit is None else np.int64(limit), go, carried, len(carried))
    for v, t in zip(state_vars, outs[len(leaves) :], strict=True):
        outer.assign(v, t)
    _announce(b)

    def backward(gs: list[Any]) -> Sequence[Any]:
        raise TapeError("a traced while_loop has no gradient: its number of steps is unknown. Use dk.scan.")

    _record([*carried, *found], outs, backward)
    return build(list(outs[: len(leaves)]))


def _check_carried(what: str, old: Sequence[Tensor], new: Sequence[Any]) -> None:
    for i, (x, y) in enumerate(zip(old, new, strict=True)):
        if y is None or x.dtype != y.dtype or x.ndim != y.ndim:
            raise TraceError(
                f"{what}: loop variable {i} goes in as {x} and comes out as {y}; dtype and rank must stay."
            )


def _loop(
    outer: Trace, b: _Body, limit: Any, go: Tensor | None, carried: list[Tensor], n: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Emit the loop node for a body; its results and the tensors that it captured."""
    for t in b.leaves:
        if t is not None:
            b.trace.value(t)
    values, found = _captured(b)
    graph = b.close([], values)
    start = [outer.value(c) for c in carried]
    head = [limit, None if go is None else outer.value(numeric.reshape(go, ()))]
    attrs = dict(body=graph, carried=n, n_outputs=len(graph.outputs) - 1)
    outs = outer.apply(get("loop"), [*head, *start, *(outer.localize(v) for v in values)], attrs)
    outer.note([*carried, *found])
    return [Tensor(v) for v in outs], found


# ---------------------------------------------------------------- scan
def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """``carry, y = f(carry, x)`` for each slice x of xs along dim 0; (last carry, all y stacked).

    init, xs and the results are nests of tensors; xs may be None when ``length`` is given.  reverse: from the last
    slice to the first, y staying at its place.  As in JAX.
    """
    carry, build_carry = tree.flatten(init)
    carry = [convert_to_tensor(x) for x in carry]
    seqs, build_x = tree.flatten(xs) if xs is not None else ([], lambda _: None)
    seqs = [convert_to_tensor(x) for x in seqs]
    if not seqs and length is None:
        raise InputError("scan: give xs or length.")
    if state.trace() is None or not any(t.traced for t in [*carry, *seqs]):
        n = length if length is not None else len(seqs[0])
        now, rows = build_carry(carry), []
        for i in range(n - 1, -1, -1) if reverse else range(n):
            now, y = f(now, build_x([s[i] for s in seqs]))
            rows.append(y)
        rows = rows[::-1] if reverse else rows
        ys = (
            None if not rows or rows[0] is None else tree.map_structure(lambda *t: numeric.stack(t), rows[0], *rows[1:])
        )
        return now, ys
    return _scan(f, carry, build_carry, seqs, build_x, length, reverse, {})


def _scan(
    f: Any,
    carry: list[Tensor],
    build_carry: Any,
    seqs: list[Tensor],
    build_x: Any,
    length: Any,
    reverse: bool,
    reads: Reads,
) -> Any:
    outer = state.trace()
    assert outer is not None
    n: Any = length if length is not None else numeric.shape(seqs[0])[0]
    count = np.int64(n) if isinstance(n, int) else numeric.cast(n, "int64")
    kept = bool(state.current.tapes)  # the carries of every step, for the gradient
    k = len(carry)
    nests: dict[str, Any] = {}

    def step(i: Tensor, *now: Tensor) -> Any:
        at = F.sub(F.sub(count, np.int64(1)), i) if reverse else i
        x = build_x([F.gather(s, at, axis=0) for s in seqs])
        new, y = f(build_carry(list(now)), x)
        leaves, nests["y"] = tree.flatten(y) if y is not None else ([], lambda _: None)
        new_leaves = [convert_to_tensor(c) for c in tree.flatten(new)[0]]
        return [*new_leaves, *(convert_to_tensor(v) for v in leaves), *(now if kept else ())]

    def body(*given: Tensor) -> Any:
        return [given[1], *step(given[0], *given[2:])]

    b = _Body("scan", body, [*_HEAD, *_specs(carry, "carried")], lambda given: given, reads)
    if b.trace.assigned:
        raise TraceError("scan: the function assigns variables; carry them in init instead.")
    _check_carried("scan", carry, b.leaves[1 : 1 + k])
    outs, found = _loop(outer, b, count if not isinstance(count, Tensor) else outer.value(count), None, carry, k)
    seen = _announce(b)
    m = len(outs) - k - (k if kept else 0)
    finals, ys = outs[:k], outs[k : k + m]
    befores = outs[k + m :]  # in order of steps
    if reverse:
        ys = [numeric.flip(y, 0) for y in ys]
    captures = [t for t in _floats(found) if not any(t is s for s in seqs)]
    fixed = [c for c in captures if not any(c is t for t in carry)]
    build_y = nests["y"]

    def backward(gs: list[Any]) -> Sequence[Any]:
        with no_gradient():
            return _scan_backward(
                f, build_carry, build_x, (carry, seqs, fixed, finals, ys, befores), gs, count, reverse, seen
            )

    floats = [*carry, *seqs, *fixed]
    _record(floats, [*finals, *ys], backward)
    return build_carry(list(finals)), build_y(list(ys))


def _scan_backward(
    f: Any, build_carry: Any, build_x: Any, parts: Any, gs: list[Any], count: Any, reverse: bool, seen: Reads
) -> list[Any]:
    carry, seqs, fixed, finals, ys, befores = parts
    k = len(carry)
    isf = [dtype_of(t).kind == "f" for t in carry]
    xf = [dtype_of(t).kind == "f" for t in seqs]
    yf = [dtype_of(t).kind == "f" for t in ys]
    g_final = [g if g is not None else numeric.zeros_like(t) for g, t in zip(gs[:k], finals, strict=True)]
    g_ys = [g if g is not None else numeric.zeros_like(t) for g, t in zip(gs[k:], ys, strict=True)]
    befores = [numeric.flip(b, 0) for b in befores] if reverse else befores  # to the places of their slices
    start = [[g for g, q in zip(g_final, isf, strict=True) if q], [numeric.zeros_like(c) for c in fixed]]

    def step(now: Any, x: Any) -> Any:
        g_carry, total = now
        before, slices, g_y = x
        own = [Tensor(t.payload) for t in before]
        xs = [Tensor(t.payload) for t in slices]
        with GradientTape(watch_accessed_variables=False) as tape:
            sources = [t for t, q in zip(own, isf, strict=True) if q] + [t for t, q in zip(xs, xf, strict=True) if q]
            for t in [*sources, *fixed]:
                tape.watch(t)
            new, y = f(build_carry(own), build_x(xs))
            new_leaves = [convert_to_tensor(c) for c in tree.flatten(new)[0]]
            y_leaves = [] if y is None else [convert_to_tensor(v) for v in tree.flatten(y)[0]]
            targets = [t for t, q in zip(new_leaves, isf, strict=True) if q]
            targets += [t for t, q in zip(y_leaves, yf, strict=True) if q]
        given = [*g_carry, *(g for g, q in zip(g_y, yf, strict=True) if q)]
        got = tape.gradient(targets, [*sources, *fixed], given, unconnected_gradients="zero")
        c, rest = got[: sum(isf)], got[sum(isf) :]
        x_grads, fixed_grads = rest[: sum(xf)], rest[sum(xf) :]
        return [c, [F.add(a, b) for a, b in zip(total, fixed_grads, strict=True)]], x_grads

    n = int(count) if not isinstance(count, Tensor) else None
    flat, build = tree.flatten(start)
    leaves, build_slices = tree.flatten([befores, seqs, g_ys])
    (g_carry, total), g_seqs = _scan(
        step, flat, build, leaves, build_slices, n if n is not None else count, not reverse, seen
    )
    it, ix = iter(g_carry), iter(g_seqs)
    return [
        *(next(it) if q else None for q in isf),
        *(next(ix) if q else None for q in xf),
        *total,
    ]
