"""The fused epilogue of conv and matmul, ``act(y + bias) + residual``, for references and for gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.ops.core import F, get
from deploykit.ops.grads import scalar, sum_to
from deploykit.ops.numerics import back, wide
from deploykit.ops.through import vjp_through

# activations whose gradient can be read off their result
_FROM_RESULT = ("relu", "relu6", "sigmoid", "tanh")

# act attr -> (op, how act_alpha and act_beta become that op's attrs); "clip" takes its bounds as inputs, see below
_OPS: dict[str, tuple[str, Any]] = {
    "relu": ("relu", lambda a, b: {}),
    "relu6": ("relu6", lambda a, b: {}),
    "leaky_relu": ("leaky_relu", lambda a, b: dict(alpha=a)),
    "sigmoid": ("sigmoid", lambda a, b: {}),
    "tanh": ("tanh", lambda a, b: {}),
    "silu": ("silu", lambda a, b: {}),
    "gelu": ("gelu", lambda a, b: {}),
    "gelu_tanh": ("gelu", lambda a, b: dict(approximate=True)),
    "hard_sigmoid": ("hard_sigmoid", lambda a, b: dict(alpha=a, beta=b)),
    "hard_swish": ("hard_swish", lambda a, b: {}),
    "elu": ("elu", lambda a, b: dict(alpha=a)),
    "softplus": ("softplus", lambda a, b: {}),
    "mish": ("mish", lambda a, b: {}),
}


def apply_activation(y: np.ndarray, act: str, act_alpha: float = 0.0, act_beta: float = 0.0) -> np.ndarray:
    """The activation that the attrs ``act``, ``act_alpha``, ``act_beta`` name (see ACT_ATTRS), by its op's reference.

    >>> apply_activation(np.array([-1.0, 2.0]), "leaky_relu", 0.5)
    array([-0.5,  2. ])
    """
    if act == "none":
        return y
    if act == "clip":
        return np.clip(y, np.asarray(act_alpha, y.dtype), np.asarray(act_beta, y.dtype))
    name, attrs = _OPS[act]
    op = get(name)
    assert op.reference is not None
    return op.reference(y, **op.complete(attrs(act_alpha, act_beta)))


def epilogue(
    y: np.ndarray,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    act: str,
    act_alpha: float,
    act_beta: float,
    act_after: bool,
    dtype: np.dtype,
) -> np.ndarray:
    """``act(y + bias) + residual``, or ``act(y + bias + residual)`` when act_after, rounded once to ``dtype``."""
    if bias is not None:
        y = y + wide(bias)
    if residual is not None and act_after:
        y = y + wide(residual)
    y = apply_activation(y, act, act_alpha, act_beta)
    if residual is not None and not act_after:
        y = y + wide(residual)
    return back(y, dtype)


def activation_op(y: Any, act: str, act_alpha: float = 0.0, act_beta: float = 0.0) -> Any:
    """The same in ops: what gradients and decompositions apply."""
    if act == "none":
        return y
    if act == "clip":
        return F.clip(y, scalar(act_alpha, y), scalar(act_beta, y))
    name, attrs = _OPS[act]
    return get(name)(y, **attrs(act_alpha, act_beta))


def unfuse(
    y: Any, bias: Any, residual: Any, act: str, act_alpha: float, act_beta: float, act_after: bool = False
) -> Any:
    """The epilogue on the linear part ``y``, in ops."""
    y = y if bias is None else F.add(y, bias)
    y = y if residual is None or not act_after else F.add(y, residual)
    y = activation_op(y, act, act_alpha, act_beta)
    return y if residual is None or act_after else F.add(y, residual)


def epilogue_gradient(
    g: Any,
    y: Any,
    bias: Any,
    residual: Any,
    act: str,
    act_alpha: float,
    act_beta: float,
    act_after: bool,
    linear: Callable[[], Any],
) -> tuple[Any, Any, Any]:
    """Gradients of the linear part, of bias and of residual.

    ``linear()`` computes the linear part again; it is called only for activations whose gradient needs it.
    """
    inner = g
    if act in _FROM_RESULT and (residual is None or act_after):
        vjp = get(act).vjp
        assert vjp is not None
        (inner,) = vjp(g, y, y)
    elif act != "none":
        z = unfuse(linear(), bias, residual if act_after else None, "none", 0.0, 0.0, True)
        (inner,) = vjp_through(activation_op, (g,), (z,), dict(act=act, act_alpha=act_alpha, act_beta=act_beta))
    of_residual = None if residual is None else inner if act_after else g
    return inner, None if bias is None else sum_to(inner, bias), of_residual
