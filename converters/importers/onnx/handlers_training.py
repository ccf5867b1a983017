"""Domain ai.onnx.preview.training: optimizer steps in plain arithmetic, gradients by the rules of our passports.

Inputs of a step: R (learning rate), T (steps done), then X..., their gradients G..., then the optimizer's states, in groups of as
many tensors as there are X.  Outputs: the new X..., then the new states.
"""

from __future__ import annotations

from typing import Any

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.dtypes import float32
from deploykit.graph import Value
from deploykit.ops import get
from deploykit.ops.core import F
from deploykit.ops.grads import zeros_like
from deploykit.ops.through import gradients

TRAINING = "ai.onnx.preview.training"


def _groups(c: Call, size: int) -> list[tuple[Value, ...]]:
    """(X, G, state...) of each optimized tensor."""
    n = (c.n - 2) // size
    return [tuple(c.x(2 + k * n + i) for k in range(size)) for i in range(n)]


def _outputs(rows: list[tuple[Value, ...]]) -> list[Value]:
    return [v for column in zip(*rows, strict=True) for v in column]


def _scaled(c: Call, x: Value, by: float) -> Value:
    return c.op("mul", x, c.scalar(by, x))


def _regularized(c: Call, x: Value, g: Value) -> Value:
    norm = c.attr("norm_coefficient", 0.0)
    return c.op("add", g, _scaled(c, x, norm)) if norm else g


@handles("Adagrad", domain=TRAINING)
def adagrad(c: Call) -> Any:
    rate, steps = c.x(0), c.cast(c.x(1), float32)
    slow = c.op("add", _scaled(c, steps, c.attr("decay_factor", 0.0)), c.scalar(1, float32))
    r = c.op("div", rate, c.cast(slow, rate.dtype))
    rows = []
    for x, g, h in _groups(c, 3):
        g = _regularized(c, x, g)
        h = c.op("add", h, c.op("square", g))
        root = c.op("add", c.op("sqrt", h), c.scalar(c.attr("epsilon", 0.0), h))
        rows.append((c.op("sub", x, c.op("div", c.op("mul", r, g), root)), h))
    return _outputs(rows)


@handles("Momentum", domain=TRAINING)
def momentum(c: Call) -> Any:
    r, alpha = c.x(0), c.attr("alpha")
    first = c.op("equal", c.x(1), c.scalar(0, c.x(1)))
    rows = []
    for x, g, v in _groups(c, 3):
        g = _regularized(c, x, g)
        beta = c.op("where", first, c.scalar(1, g), c.scalar(c.attr("beta"), g))
        v = c.op("add", _scaled(c, v, alpha), c.op("mul", beta, g))
        step = c.op("add", g, _scaled(c, v, alpha)) if c.attr("mode") == "nesterov" else v
        rows.append((c.op("sub", x, c.op("mul", r, step)), v))
    return _outputs(rows)


@handles("Adam", domain=TRAINING)
def adam(c: Call) -> Any:
    rate, steps = c.x(0), c.cast(c.x(1), float32)
    alpha, beta = c.attr("alpha", 0.9), c.attr("beta", 0.999)
    one = c.scalar(1, float32)
    low, high = (c.op("sub", one, c.op("pow", c.scalar(b, float32), steps)) for b in (alpha, beta))
    started = c.op("greater", steps, c.scalar(0, float32))
    corrected = c.op("where", started, c.op("div", c.op("sqrt", high), low), one)
    r = c.op("mul", rate, c.cast(corrected, rate.dtype))
    keep = 1 - c.attr("norm_coefficient_post", 0.0)
    rows = []
    for x, g, v, h in _groups(c, 4):
        g = _regularized(c, x, g)
        v = c.op("add", _scaled(c, v, alpha), _scaled(c, g, 1 - alpha))
        h = c.op("add", _scaled(c, h, beta), _scaled(c, c.op("square", g), 1 - beta))
        root = c.op("add", c.op("sqrt", h), c.scalar(c.attr("epsilon", 0.0), h))
        new = c.op("sub", x, c.op("div", c.op("mul", r, v), root))
        rows.append((new if keep == 1 else _scaled(c, new, keep), v, h))
    return _outputs(rows)


@handles("Gradient", domain=TRAINING)
def gradient(c: Call) -> Any:
    """Of the tensor ``y`` by the tensors ``xs`` (``zs`` are held), backward through the nodes imported so far."""
    names = [*(c.attr("xs") or []), *(c.attr("zs") or [])]
    held, y = [c.scope.lookup(n) for n in names], c.scope.lookup(c.attr("y"))
    if held != c.xs():
        raise c.unsupported("a gradient taken at other values than those that its y was computed from")
    xs, b = held[: len(c.attr("xs") or [])], c.body.builder
    if any(v.is_constant for v in xs):
        raise c.unsupported("a gradient by a constant; make it an input of the model")
    nodes = list(c.body.graph.nodes)
    with b.tracing():
        total = {y: F.add(zeros_like(y), c.scalar(1, y))}
        for n in reversed(nodes):
            ds = [None if v is None or v in held else total.pop(v, None) for v in n.outputs]
            if all(d is None for d in ds):
                continue
            op = get(n.op)
            attrs = op.complete(n.attrs) | ({"n_outputs": len(n.outputs)} if op.variable_outputs else {})
            for x, d in zip(n.inputs, gradients(op, ds, n.outputs, n.inputs, attrs), strict=False):
                if x is not None and d is not None:
                    total[x] = F.add(total[x], d) if x in total else d
        return [total[x] if x in total else zeros_like(x) for x in xs]
