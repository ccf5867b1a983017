"""The fused epilogue of conv and matmul, ``act(y + bias) + residual``, for references and for gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.ops.core import F, get
from deploykit.ops.grads import scalar
from deploykit.ops.numerics import back, wide

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
