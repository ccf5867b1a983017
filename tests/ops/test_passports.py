"""Checks generated from the passports: shape rules against references, tracing against eager, gradients against finite
differences, decompositions against references.  The cases are the passports' own samples."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import dtypes
from deploykit.errors import ShapeError
from deploykit.graph import Dim
from deploykit.ops import REGISTRY, F, GraphBuilder
from deploykit.ops.infer import declare_variables, infer_graph, infer_op
from deploykit.ops.reference import State, run_graph
from deploykit.ops.samples import Sample, graph_of, samples_of
from tests.support.passports import complete, mismatch, run, same, specs

OPS = list(REGISTRY.values())
IDS = [op.name for op in OPS]
each_op = pytest.mark.parametrize("op", OPS, ids=IDS)


def cases(op):
    for i, s in enumerate(samples_of(op)):
        yield f"{op.name}[{i}]{s}", s


@each_op
def test_is_complete(op):
    assert op.doc and op.infer and op.reference, "every op has a meaning, a shape rule and a reference"
    assert bool(op.vjp) != bool(op.not_differentiable), "a gradient, or a reason why there is none"
    assert samples_of(op), "samples"


@each_op
def test_infer_agrees_with_reference(op):
    for what, s in cases(op):
        with declare_variables(graph_variables(s)):
            got = outputs(op, s)
            for values in (True, False):
                inferred = infer_op(op, specs(s, values=values), complete(op, s))
                assert len(inferred) == len(got), what
                for spec, y in zip(inferred, got, strict=True):
                    assert not mismatch(spec, y), f"{what} values known: {values}: {mismatch(spec, y)}"


@each_op
def test_infer_holds_for_symbolic_sizes(op):
    for what, s in cases(op):
        sizes = {f"s{n}": n for x in s.inputs if x is not None for n in x.shape}
        with declare_variables(graph_variables(s)):
            got = outputs(op, s)
            for values in (True, False):
                inferred = infer_op(op, specs(s, values=values, symbolic=True), complete(op, s))
                for spec, y in zip(inferred, got, strict=True):
                    assert not mismatch(spec, y, sizes), f"{what}: {mismatch(spec, y, sizes)} with {sizes}"


@each_op
def test_infer_survives_unknown_ranks(op):
    for what, s in cases(op):
        with declare_variables(graph_variables(s)):
            got = outputs(op, s)
            for values in (True, False):
                inferred = infer_op(op, specs(s, values=values, ranks=False), complete(op, s))
                for spec, y in zip(inferred, got, strict=True):
                    assert not mismatch(spec, y), f"{what}: {mismatch(spec, y)}"


@each_op
def test_traced_graph_agrees_with_eager(op):
    for what, s in cases(op):
        g = graph_of(op, s)
        infer_graph(g)
        want = outputs(op, s)
        got = run_graph(g, [x for x in s.inputs if x is not None])
        assert len(got) == len(want), what
        for a, b in zip(got, want, strict=True):
            assert same(a, b), what


@each_op
def test_decomposition_agrees_with_reference(op):
    if op.decompose is None:
        pytest.skip("not composite")
    for what, s in cases(op):
        got = op.decompose(*s.inputs, **complete(op, s))
        got = got if isinstance(got, tuple) else (got,)
        for a, b in zip(got, outputs(op, s), strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape, what
            assert close(a, b), f"{what}: {a} against {b}"


# ---- gradients
@each_op
def test_gradient_agrees_with_finite_differences(op):
    if op.vjp is None:
        pytest.skip(op.not_differentiable)
    checked = 0
    for what, s in cases(op):
        if s.differentiable and (f64 := in_float64(s)):
            function = partial_of(op, f64)
            start = [f64.inputs[i] for i in float_inputs(f64)]
            check_gradient(function, start, f"{what} first order", np.random.default_rng(7))
            if all(x.size <= 64 for x in start):
                check_gradient(gradient_of(op, f64), start, f"{what} second order", np.random.default_rng(8))
            checked += 1
    assert checked, "no differentiable sample"


@each_op
def test_gradient_traces_with_symbolic_sizes(op):
    """The vjp recorded into a graph, with every size a symbol, gives what it gives eagerly."""
    if op.vjp is None:
        pytest.skip(op.not_differentiable)
    traced = 0
    for what, s in cases(op):
        if not s.differentiable or any(isinstance(v, str) and v == "graph" for v in s.attrs):
            continue
        floats = float_inputs(s)
        if not floats or not any(is_float(y) for y in outputs(op, s)):
            continue
        for symbolic in (False, True):
            b = GraphBuilder()
            args = []
            for i, x in enumerate(s.inputs):
                if i not in floats:
                    args.append(None if x is None else b.constant(x))
                else:
                    shape = tuple(Dim.symbol(f"s{n}") if symbolic and n != 1 else n for n in x.shape)
                    args.append(b.input(f"x{i}", dtypes.dtype(x.dtype), shape))
            attrs = complete(op, s)
            try:
                with b.tracing():
                    y = op(*args, **{k: v for k, v in attrs.items() if k != "n_outputs"}, **n_outputs(op, attrs))
                    ys = y if isinstance(y, tuple) else (y,)
                    gs = [F.add(v, v) if is_float(v) else None for v in ys]
                    grads = op.vjp(*packed(op, gs, ys), *args, **attrs)
            except ValueError:
                if symbolic:
                    continue  # this gradient says that it needs to know a size
                raise
            wanted = [i for i in floats if i < len(grads) and grads[i] is not None]
            for i in wanted:
                b.output(b._values(op, [grads[i]])[0], f"g{i}")
            want_y = outputs(op, s)
            want = op.vjp(*packed(op, [v + v if is_float(v) else None for v in want_y], want_y), *s.inputs, **attrs)
            got = run_graph(b.graph, [s.inputs[i] for i in floats])
            for i, g in zip(wanted, got, strict=True):
                assert g.shape == s.inputs[i].shape and g.dtype == s.inputs[i].dtype, f"{what}: gradient {i}: {g.shape}"
                assert same(g, np.asarray(want[i])), f"{what}: gradient {i}, symbolic: {symbolic}"
            traced += 1
    assert traced


# ---- helpers
def graph_variables(s: Sample):
    from deploykit.graph import Variable

    return [Variable(k, v) for k, v in s.variables.items()]


def outputs(op, s: Sample):
    if s.variables or op.flags & {"effect"}:
        return tuple(run_graph(graph_of(op, s), [x for x in s.inputs if x is not None], state=State(dict(s.variables))))
    return run(op, s)


def n_outputs(op, attrs):
    return {"n_outputs": attrs["n_outputs"]} if op.variable_outputs else {}


def is_float(v) -> bool:
    return dtypes.dtype(v.dtype).kind == "f"


def packed(op, gs, ys):
    """g and y as the vjp wants them: single for one result, else tuples."""
    single = len(op.results) == 1 and not op.results[0].variadic
    return (gs[0], ys[0]) if single else (tuple(gs), tuple(ys))


def close(a, b) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if not is_float(a):
        return bool(np.all(a == b))
    eps = {32: 1e-5, 64: 1e-10}.get(dtypes.dtype(a.dtype).bits, 2e-2)
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = b[np.isfinite(b)]
    scale = max(1e-30, float(np.max(np.abs(finite), initial=0)))
    with np.errstate(invalid="ignore"):
        return bool(np.all((np.abs(a - b) <= eps * scale) | (a == b) | (np.isnan(a) & np.isnan(b))))


def float_inputs(s: Sample) -> list[int]:
    return [i for i, x in enumerate(s.inputs) if x is not None and is_float(x) and i not in s.fixed]


def in_float64(s: Sample) -> Sample | None:
    """The sample with its float32 inputs in float64, or None when it has other floats."""
    floats = float_inputs(s)
    if not floats or any(s.inputs[i].dtype not in (np.float32, np.float64) for i in floats):
        return None
    inputs = [x.astype(np.float64) if i in floats else x for i, x in enumerate(s.inputs)]
    return Sample(inputs, s.attrs, s.n_outputs, s.differentiable, s.variables, s.fixed)


def partial_of(op, s: Sample):
    """The op as a function of its float inputs, giving its float results."""
    floats, attrs = float_inputs(s), complete(op, s)

    def f(*xs):
        inputs = list(s.inputs)
        for i, x in zip(floats, xs, strict=True):
            inputs[i] = x
        y = op(*inputs, **attrs)
        return tuple(v for v in (y if isinstance(y, tuple) else (y,)) if is_float(v))

    def gradient(gs, *xs):
        inputs = list(s.inputs)
        for i, x in zip(floats, xs, strict=True):
            inputs[i] = x
        y = op(*inputs, **attrs)
        ys = y if isinstance(y, tuple) else (y,)
        it = iter(gs)
        full = [next(it) if is_float(v) else None for v in ys]
        grads = op.vjp(*packed(op, full, ys), *inputs, **attrs)
        return [zero_if_none(grads[i] if i < len(grads) else None, inputs[i]) for i in floats]

    f.gradient = gradient
    return f


def zero_if_none(g, x):
    return np.zeros_like(x) if g is None else np.asarray(g)


def gradient_of(op, s: Sample):
    """The gradient with a fixed incoming one, as a function of the float inputs; its own gradient comes by tracing
    the vjp and walking the graph backward."""
    f = partial_of(op, s)
    shapes = [y.shape for y in f(*[s.inputs[i] for i in float_inputs(s)])]
    rng = np.random.default_rng(3)
    gs = [np.asarray(rng.standard_normal(shape)) for shape in shapes]

    def h(*xs):
        return tuple(f.gradient(gs, *xs))

    def gradient(hs, *xs):
        floats, attrs = float_inputs(s), complete(op, s)
        b = GraphBuilder()
        args = [None if x is None else b.constant(x) for x in s.inputs]
        for i, x in zip(floats, xs, strict=True):
            args[i] = b.input(f"x{i}", "float64", np.shape(x))
        sources = [args[i] for i in floats]
        with b.tracing():
            y = op(*args, **attrs)
            ys = y if isinstance(y, tuple) else (y,)
            it = iter(gs)
            full = [b.constant(next(it)) if is_float(v) else None for v in ys]
            first = op.vjp(*packed(op, full, ys), *args, **attrs)
            pairs = [(first[i], g) for i, g in zip(floats, hs, strict=True) if i < len(first) and first[i] is not None]
            for x, g in zip(sources, backward(b, pairs, sources), strict=True):
                b.output(b._values(op, [np.zeros(x.shape) if g is None else g])[0], f"g_{x.name}")
        return run_graph(b.graph, list(xs))

    h.gradient = gradient
    return h


def backward(b: GraphBuilder, pairs, sources):
    """Reverse mode over the nodes recorded so far: gradients of sum(value * g) with respect to the sources."""
    grads: dict = {}

    def give(v, g):
        if g is not None and hasattr(v, "name"):
            grads[v] = F.add(grads[v], g) if v in grads else g

    for v, g in pairs:
        give(v, b.constant(np.asarray(g)))
    for node in reversed(list(b.graph.nodes)):
        gs = [grads.get(v) for v in node.outputs]
        op = REGISTRY[node.op]
        if all(g is None for g in gs):
            continue
        if op.vjp is None:
            assert not any(is_float(v) for v, g in zip(node.outputs, gs, strict=True) if g is not None), node
            continue
        attrs = op.complete(node.attrs)
        if op.variable_outputs:
            attrs["n_outputs"] = len(node.outputs)
        inputs = list(node.inputs) + [None] * 0
        for v, g in zip(inputs, op.vjp(*packed(op, gs, node.outputs), *inputs, **attrs), strict=False):
            if v is not None:
                give(v, g)
    return [grads.get(x) for x in sources]


def check_gradient(f, xs, what: str, rng) -> None:
    """Compare the gradient along one random direction with a central difference."""
    eps = 1e-6
    direction = [np.asarray(rng.standard_normal(x.shape)) for x in xs]
    up = f(*[x + eps * d for x, d in zip(xs, direction, strict=True)])
    down = f(*[x - eps * d for x, d in zip(xs, direction, strict=True)])
    weights = [np.asarray(rng.standard_normal(y.shape)) for y in up]
    numeric = sum(float(np.sum((u - d) * w)) for u, d, w in zip(up, down, weights, strict=True)) / (2 * eps)
    grads = f.gradient(weights, *xs)
    for x, g in zip(xs, grads, strict=True):
        assert np.shape(g) == x.shape and np.asarray(g).dtype == x.dtype, f"{what}: gradient {np.shape(g)} of {x.shape}"
    analytic = sum(float(np.sum(g * d)) for g, d in zip(grads, direction, strict=True))
    scale = max(1.0, abs(numeric), sum(float(np.sum(np.abs(g))) for g in grads) / 10)
    assert abs(numeric - analytic) < 2e-5 * scale, f"{what}: finite difference {numeric}, gradient {analytic}"


def test_errors_name_the_op():
    with pytest.raises(ShapeError, match=r"add: shapes do not broadcast; got \[2, 3\] and \[4\]"):
        infer_op(REGISTRY["add"], specs(Sample([np.zeros((2, 3)), np.zeros(4)])), {})
