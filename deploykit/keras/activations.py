"""Activation functions by Keras' names; layers take them as ``activation="relu"`` or as functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.autodiff.tensor import Tensor
from deploykit.keras.serialize import lookup
from deploykit.ops.core import F


def linear(x: Any) -> Any:
    """x."""
    return x


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """max(x, 0), with a slope below the threshold and a limit above where asked for."""
    if not negative_slope and threshold == 0:
        return F.relu(x) if max_value is None else F.relu6(x) if max_value == 6 else N.clip(x, 0.0, float(max_value))
    y = N.where(x >= threshold, x, negative_slope * (x - threshold))
    return y if max_value is None else N.minimum(y, max_value)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """x above 0, negative_slope * x below."""
    return F.leaky_relu(x, alpha=negative_slope)


def softmax(x: Any, axis: Any = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along one or several dims."""
    if isinstance(axis, int):
        return N.softmax(x, axis)
    e = N.exp(x - N.max(x, axis, keepdims=True))
    return e / N.sum(e, axis, keepdims=True)


def gelu(x: Any, approximate: bool = False) -> Tensor:
    """x * Phi(x)."""
    return F.gelu(x, approximate=approximate)


def selu(x: Any) -> Tensor:
    """scale * elu(x, alpha), with the constants of self-normalising networks."""
    return F.selu(x)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha * (exp(x) - 1) below."""
    return F.elu(x, alpha=alpha)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)."""
    return N.maximum(x, 0.0) + N.minimum(alpha * N.expm1(N.minimum(x, 0.0) / alpha), 0.0)


def hard_sigmoid(x: Any) -> Tensor:
    """relu6(x + 3) / 6."""
    return F.hard_sigmoid(x, alpha=1 / 6, beta=0.5)


def hard_silu(x: Any) -> Tensor:
    """x * hard_sigmoid(x)."""
    return F.hard_swish(x)


def mish(x: Any) -> Tensor:
    """x * tanh(softplus(x))."""
    return F.mish(x)


def exponential(x: Any) -> Tensor:
    """exp(x)."""
    return N.exp(x)


def log_sigmoid(x: Any) -> Tensor:
    """log(sigmoid(x))."""
    return -F.softplus(-x)


def glu(x: Any, axis: int = -1) -> Tensor:
    """First half times the sigmoid of the second."""
    a, b = N.split(x, 2, axis)
    return a * F.sigmoid(b)


def hard_tanh(x: Any) -> Tensor:
    """clip(x, -1, 1)."""
    return N.clip(x, -1.0, 1.0)


def hard_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """x where |x| > threshold, else 0."""
    return N.where(N.abs(x) > threshold, x, 0.0)


def soft_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """x moved towards 0 by threshold."""
    return N.where(x > threshold, x - threshold, N.where(x < -threshold, x + threshold, 0.0))


def tanh_shrink(x: Any) -> Tensor:
    """x - tanh(x)."""
    return x - F.tanh(x)


def threshold(x: Any, threshold: float = 1.0, default_value: float = 0.0) -> Tensor:
    """x above the threshold, else default_value."""
    return N.where(x > threshold, x, default_value)


def squareplus(x: Any, b: float = 4.0) -> Tensor:
    """(x + sqrt(x^2 + b)) / 2."""
    return (x + N.sqrt(x * x + b)) / 2.0


def sparse_plus(x: Any) -> Tensor:
    """0 below -1, x above 1, (x + 1)^2 / 4 between."""
    return N.where(x <= -1.0, 0.0, N.where(x < 1.0, 0.25 * N.square(x + 1.0), x))


def sparse_sigmoid(x: Any) -> Tensor:
    """0 below -1, 1 above 1, (x + 1) / 2 between."""
    return N.clip((x + 1.0) * 0.5, 0.0, 1.0)


def sparsemax(x: Any, axis: int = -1) -> Tensor:
    """Euclidean projection onto the simplex (Martins and Astudillo, 2016)."""
    z = N.moveaxis(x, axis, -1)
    order = N.flip(N.sort(z, -1), -1)
    k = N.arange(1, int(z.shape[-1]) + 1, dtype="float32")
    total = N.cumsum(order, -1) - 1.0
    inside = N.cast(order * k > total, "float32")
    count = N.sum(inside, -1, keepdims=True)
    tau = N.sum(N.where(k == count, total, 0.0), -1, keepdims=True) / count
    return N.moveaxis(N.maximum(z - tau, 0.0), -1, axis)


sigmoid, tanh, softplus, softsign, relu6 = N.sigmoid, N.tanh, N.softplus, N.softsign, N.relu6
silu = swish = N.silu
log_softmax = N.log_softmax
for _f, _name in ((sigmoid, "sigmoid"), (tanh, "tanh"), (softplus, "softplus"), (softsign, "softsign"), (silu, "silu")):
    _f.__name__ = _name

ALL: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        linear, relu, leaky_relu, softmax, gelu, selu, elu, celu, hard_sigmoid, hard_silu, mish, exponential, log_sigmoid,
        glu, hard_tanh, hard_shrink, soft_shrink, tanh_shrink, threshold, squareplus, sparse_plus, sparse_sigmoid,
        sparsemax, sigmoid, tanh, softplus, softsign, silu,
    )
} | {"swish": silu, "relu6": relu6, "log_softmax": log_softmax, "hard_swish": hard_silu}  # fmt: skip


def get(identifier: Any) -> Callable[..., Any]:
    """A function by its name, or itself; None is ``linear``."""
    return linear if identifier is None else lookup("activation", ALL, identifier, make=False)


def serialize(f: Callable[..., Any]) -> str:
    """Its name."""
    return f.__name__


del math
