"""Optimizer steps of domain ai.onnx.preview.training, in plain arithmetic.

Inputs: R (learning rate), T (steps done), then X..., their gradients G..., then the optimizer's states, in groups of as
many tensors as there are X.  Outputs: the new X..., then the new states.
"""

from __future__ import annotations

from typing import Any

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.dtypes import float32
from deploykit.graph import Value

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
