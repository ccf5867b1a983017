"""``keras.ops``: functions on tensors by Keras' names (those of the numeric layer, and of neural networks)."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.autodiff import numeric, random  # noqa: F401
from deploykit.autodiff.control import cond, scan, while_loop
from deploykit.autodiff.numeric import *  # noqa: F403
from deploykit.autodiff.numeric import (  # noqa: F401  named like builtins, which a star leaves to the reader
    abs,
    all,
    any,
    log_softmax,
    max,
    mean,
    min,
    round,
    softmax,
    square,
    sum,
)
from deploykit.autodiff.tape import custom_gradient, stop_gradient
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.keras.activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
)
from deploykit.keras.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    ctc_loss,
    sparse_categorical_crossentropy,
)

__all__ = [
    "Tensor", "binary_crossentropy", "categorical_crossentropy", "celu", "cond", "convert_to_numpy", "convert_to_tensor", "ctc_loss",
    "custom_gradient", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "relu",
    "relu6", "scan", "selu", "sigmoid", "silu", "softplus", "softsign", "sparse_categorical_crossentropy", "stop_gradient",
    "while_loop",
]  # fmt: skip


def convert_to_numpy(x: Any) -> np.ndarray:
    """The array of a tensor."""
    return np.asarray(x)
