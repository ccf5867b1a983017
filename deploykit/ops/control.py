"""Control flow and state.  Bodies are closed graphs: what they need from outside comes as inputs (captures)."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import GraphError
from deploykit.graph.dims import Dim, DimLike, Shape
from deploykit.graph.ir import Graph, Value
from deploykit.ops.core import Required, Spec, op
from deploykit.ops.rules import error, merge_shapes, require_kind, scalar_of, show, unify_shapes
from deploykit.ops.samples import Draw, Sample, i64, s64


# ---- inferring bodies
def _infer_body(body: Graph, inputs: list[Spec | None], what: str) -> list[Spec]:
    """Specs of a body's outputs, given those of its inputs; writes dtypes and shapes into the body."""
    from deploykit.ops.infer import infer_graph

    if len(inputs) != len(body.inputs):
        raise error(f"number of inputs of {what}", len(body.inputs), len(inputs))
    known: dict[Value, Spec] = {}
    for v, s in zip(body.inputs, inputs, strict=True):
        if s is None:
            raise error(f"input '{v.name}' of {what} is absent")
        v.dtype, v.shape = s.dtype, s.shape
        known[v] = Spec(s.dtype, s.shape, s.value)
    specs = infer_graph(body, specs=known)
    return [specs[v] for v in body.outputs]


def _is_scalar(spec: Spec | None, kind: str, what: str) -> None:
    require_kind(spec, kind, what)
    if spec is not None and spec.shape is not None and any(d != 1 for d in spec.shape if isinstance(d, int)):
        raise error(f"shape of {what}", show(spec.shape), "a scalar")


def _known_bool(spec: Spec | None) -> bool | None:
    if spec is None or spec.value is None or spec.value.size != 1:
        return None
    return bool(spec.value.reshape(-1)[0])


@op(
    270,
    "condition, captures* -> ys*",
    attrs=dict(then_graph=Required("graph"), else_graph=Required("graph")),
    n_outputs=lambda *_, then_graph, **__: len(then_graph.outputs),
    not_differentiable="differentiated body by body",
)
class if_:
    "Run one of two graphs; both take the captures as inputs, in order, and give the node's outputs, in order."

    def infer(condition, *captures, then_graph, else_graph, n_outputs):
        _is_scalar(condition, "b", "condition")
        a = _infer_body(then_graph, list(captures), "then_graph")
        b = _infer_body(else_graph, list(captures), "else_graph")
        if len(a) != n_outputs or len(b) != n_outputs:
            raise error("number of outputs of then_graph and else_graph", f"{len(a)} and {len(b)}", n_outputs)
        out = []
        sure = _known_bool(condition)
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            if x.dtype is not y.dtype:
                raise error(f"dtypes of output {i} of then_graph and else_graph differ", f"{x.dtype} and {y.dtype}")
            shape = merge_shapes(x.shape, y.shape) if sure is None else x.shape if sure else y.shape
            out.append(Spec(x.dtype, shape))
        return tuple(out)

    def reference(condition, *captures, then_graph, else_graph, n_outputs):
        from deploykit.ops.reference import run_graph

        return tuple(run_graph(then_graph if condition.reshape(-1)[0] else else_graph, captures))

    def samples():
        return _if_samples()


@op(
    271,
    "trip_count?, condition?, values* -> ys*",
    attrs=dict(body=Required("graph"), carried=Required("int")),
    n_outputs=lambda *_, body, **__: len(body.outputs) - 1,
    not_differentiable="differentiated body by body",
)
class loop:
    """values = ``carried`` loop-carried values, then captures.  body(iteration int64 scalar, condition bool scalar,
    carried..., captures...) -> (condition, carried..., scanned...).  Runs while the condition holds and iteration <
    trip_count (absent: no limit).  Outputs: final carried values, then each scanned value stacked along a new axis 0.
    A scanned value of a loop without a run has the dims that are known beforehand, 0 for the others.
    """

    def infer(trip_count=None, condition=None, *values, body, carried, n_outputs):
        _is_scalar(trip_count, "iu", "trip_count")
        _is_scalar(condition, "b", "condition")
        if not 0 <= carried <= len(values) or len(body.outputs) != n_outputs + 1 or n_outputs < carried:
            raise error(
                f"body has {len(body.outputs)} outputs",
                f"{carried} carried, {len(values)} values, {n_outputs} outputs of the loop",
                "a condition, the carried and the scanned ones",
            )
        state = [None if v is None else Spec(v.dtype, v.shape) for v in values[:carried]]
        first = [Spec(dtypes.int64, ()), Spec(dtypes.bool_, ())]
        widened: set[tuple[int, int]] = set()
        while True:  # each round gives up a dim or a rank for good, so this ends
            out = _infer_body(body, [*first, *state, *values[carried:]], "body")
            changed = False
            for i, (old, new) in enumerate(zip(state, out[1:], strict=False)):
                assert old is not None
                if new.dtype is not old.dtype:
                    raise error(f"dtype of carried value {i} changes in the body", f"{old.dtype} to {new.dtype}")
                shape = _widen(i, old.shape, new.shape, widened)
                if shape != old.shape:
                    state[i] = Spec(old.dtype, shape)
                    changed = True
            if not changed:
                break
        _is_scalar(out[0], "b", "the condition that body gives")
        finals = [Spec(s.dtype, _outside(i, s.shape, widened)) for i, s in enumerate(state) if s is not None]
        runs = _runs(trip_count, condition, body, out[0])
        scanned = [Spec(s.dtype, None if s.shape is None else (runs, *s.shape)) for s in out[1 + carried :]]
        return (*finals, *scanned)

    def reference(trip_count=None, condition=None, *values, body, carried, n_outputs):
        from deploykit.ops.reference import run_graph

        limit = None if trip_count is None else int(trip_count.reshape(-1)[0])
        go = True if condition is None else bool(condition.reshape(-1)[0])
        state, captures = list(values[:carried]), list(values[carried:])
        rows: list[list[np.ndarray]] = [[] for _ in range(n_outputs - carried)]
        i = 0
        while go and (limit is None or i < limit):
            out = run_graph(body, [s64(i), np.array(go), *state, *captures])
            go, state = bool(out[0].reshape(-1)[0]), out[1 : 1 + carried]
            for row, y in zip(rows, out[1 + carried :], strict=True):
                row.append(y)
            i += 1
        return (*state, *(_stacked(r, v) for r, v in zip(rows, body.outputs[1 + carried :], strict=True)))

    def samples():
        return _loop_samples()


def _widen(i: int, old: Shape | None, new: Shape | None, widened: set[tuple[int, int]]) -> Shape | None:
    """What is known of a carried value's shape in every iteration: dims that change become unknown, once."""
    if old is None or new is None or len(old) != len(new):
        return None
    out: list[DimLike] = []
    for k, (a, b) in enumerate(zip(old, new, strict=True)):
        if a != b and (i, k) not in widened:
            widened.add((i, k))
            a = Dim.fresh("loop")
        out.append(a)
    return tuple(out)


def _outside(i: int, shape: Shape | None, widened: set[tuple[int, int]]) -> Shape | None:
    """Shape after the loop: a dim that changes has another size there than in any one iteration."""
    if shape is None:
        return None
    return tuple(Dim.fresh("loop") if (i, k) in widened else d for k, d in enumerate(shape))


def _runs(trip_count: Spec | None, condition: Spec | None, body: Graph, last: Spec) -> DimLike:
    """The number of iterations, where the condition never changes its mind."""
    constant = body.outputs[0] is body.inputs[1] or _known_bool(last) is True
    start = True if condition is None else _known_bool(condition)
    n = None if trip_count is None else scalar_of(trip_count, "trip_count")
    if start is False:
        return 0
    if n is None or start is None or not constant:
        return Dim.fresh("loop")
    return max(n, 0) if isinstance(n, int) else n


def _stacked(rows: list[np.ndarray], v: Value) -> np.ndarray:
    if rows:
        if any(r.shape != rows[0].shape for r in rows):
            raise error(
                f"loop: scanned value '{v.name}' changes its shape", " then ".join(show(r.shape) for r in rows[:4])
            )
        return np.stack(rows)
    if v.dtype is None:
        raise GraphError(f"loop: the dtype of '{v.name}' is not known; infer the graph first.")
    dims = () if v.shape is None else tuple(d if isinstance(d, int) else 0 for d in v.shape)
    return np.zeros((0, *dims), v.dtype.np)


@op(272, " -> y", attrs=dict(variable=Required("str")), flags="effect", not_differentiable="state")
class read_variable:
    "Current value of a variable of the model (attr: its name)."

    def infer(variable):
        return _declared(variable)

    def reference(variable):
        from deploykit.ops.reference import current_state

        variables = current_state().variables
        if variable not in variables:
            raise _unknown(variable, variables)
        return variables[variable]

    def samples():
        r = Draw("variable")
        values = [r((2, 3)), r(()), r((0, 4), "int8")]
        return [Sample([], {"variable": "v"}, variables={"v": v}, differentiable=False) for v in values]


@op(273, "x -> y", attrs=dict(variable=Required("str")), flags="effect", not_differentiable="state")
class assign_variable:
    "Set a variable; gives x.  dtype and shape are the variable's for ever."

    def infer(x, variable):
        v = _declared(variable)
        if v.dtype is not x.dtype:
            raise error(f"dtype for variable '{variable}'", x.dtype, v.dtype)
        return Spec(x.dtype, unify_shapes(x.shape, v.shape, f"shapes of x and of variable '{variable}'"))

    def reference(x, variable):
        from deploykit.ops.reference import current_state

        variables = current_state().variables
        if variable not in variables:
            raise _unknown(variable, variables)
        if variables[variable].shape != x.shape or variables[variable].dtype != x.dtype:
            old = variables[variable]
            raise error(f"assign_variable: '{variable}'", f"{x.dtype}{show(x.shape)}", f"{old.dtype}{show(old.shape)}")
        variables[variable] = np.array(x)
        return x

    def samples():
        r = Draw("variable")
        pairs = [(r((2, 3)), r((2, 3))), (r(()), r(())), (r((4,), "int8"), r((4,), "int8"))]
        return [Sample([x], {"variable": "v"}, variables={"v": v}, differentiable=False) for x, v in pairs]


def _unknown(variable: str, known: Any) -> GraphError:
    return GraphError(f"no variable '{variable}'; declared: {', '.join(known) or 'none'}.")


def _declared(variable: str) -> Spec:
    from deploykit.ops.infer import known_variables, variable_spec

    spec = variable_spec(variable)
    if spec is None:
        raise _unknown(variable, known_variables())
    return Spec(spec.dtype, spec.shape)


# ---- samples: bodies are built anew for each, since inference writes into them
def _body(inputs: list[tuple[str, str, Any]], make: Any) -> Graph:
    from deploykit.ops.builder import GraphBuilder

    b = GraphBuilder(Graph("body"))
    for i, v in enumerate(make(b, *(b.input(n, d, s) for n, d, s in inputs))):
        b.output(v, f"out{i}")
    return b.graph


def _if_samples() -> list[Sample]:
    r = Draw("if")
    two = [("x", "float32", (2, 3)), ("y", "float32", (2, 3))]

    def graphs() -> dict[str, Graph]:
        return dict(
            then_graph=_body(two, lambda b, x, y: [b.op("add", x, y), b.op("reduce_sum", x)]),
            else_graph=_body(two, lambda b, x, y: [b.op("mul", x, y), b.op("reduce_max", y)]),
        )

    def lengths() -> dict[str, Graph]:
        one = [("x", "float32", (3,))]
        return dict(
            then_graph=_body(one, lambda b, x: [b.op("concat", x, x, axis=0)]),
            else_graph=_body(one, lambda b, x: [x]),
        )

    def constants() -> dict[str, Graph]:
        return dict(
            then_graph=_body([], lambda b: [b.constant(i64(1, 2))]),
            else_graph=_body([], lambda b: [b.constant(i64(3))]),
        )

    out = []
    for c in (True, False):
        out.append(Sample([np.array(c), r((2, 3)), r((2, 3))], graphs(), 2, differentiable=False))
        out.append(Sample([np.array([c]), r((3,))], lengths(), 1, differentiable=False))
        out.append(Sample([np.array(c)], constants(), 1, differentiable=False))
    return out


def _loop_samples() -> list[Sample]:
    r = Draw("loop")
    head: list[tuple[str, str, Any]] = [("i", "int64", ()), ("go", "bool", ())]
    vector = ("s", "float32", (3,))

    def sums() -> Graph:  # s += x; scan s
        def make(b: Any, i: Any, go: Any, s: Any, x: Any) -> list[Any]:
            t = b.op("add", s, x)
            return [go, t, t]

        return _body([*head, vector, ("x", "float32", (3,))], make)

    def until() -> Graph:  # s *= 2 while sum(s) < limit; scan the iteration
        def make(b: Any, i: Any, go: Any, s: Any, limit: Any) -> list[Any]:
            t = b.op("add", s, s)
            return [b.op("less", b.op("reduce_sum", t, keepdims=False), limit), t, i]

        return _body([*head, vector, ("limit", "float32", ())], make)

    def growing() -> Graph:  # s = concat(s, x): its length changes
        def make(b: Any, i: Any, go: Any, s: Any, x: Any) -> list[Any]:
            return [go, b.op("concat", s, x, axis=0)]

        return _body([*head, ("s", "float32", None), ("x", "float32", (2,))], make)

    def nested() -> Graph:  # for each i: s += x, i times
        inner = sums()

        def make(b: Any, i: Any, go: Any, s: Any, x: Any) -> list[Any]:
            t, rows = b.op("loop", i, None, s, x, outputs=2, body=inner, carried=1)
            return [go, t, b.op("reduce_sum", rows, i64(0), keepdims=False)]

        return _body([*head, vector, ("x", "float32", (3,))], make)

    def sample(inputs: list[Any], body: Graph, n: int) -> Sample:
        return Sample(inputs, dict(body=body, carried=1), n, differentiable=False)

    start, x, true = r((3,), low=0.5), r((3,), low=0.5), np.array(True)
    return [
        sample([s64(4), true, start, x], sums(), 2),
        sample([s64(4), None, start, x], sums(), 2),
        sample([s64(0), true, start, x], sums(), 2),
        sample([s64(4), np.array(False), start, x], sums(), 2),
        sample([i64(1), np.array([True]), start, x], sums(), 2),
        sample([None, true, start, np.array(40, np.float32)], until(), 2),
        sample([s64(2), true, start, np.array(1e9, np.float32)], until(), 2),
        sample([s64(3), None, r((1,)), r((2,))], growing(), 1),
        sample([s64(4), true, start, x], nested(), 2),
    ]
