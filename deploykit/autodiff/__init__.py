"""Tensors that record what happens to them: gradients, tracing, compiled functions.  See docs/training-core.md."""

from __future__ import annotations

from deploykit.autodiff.compiled import Function, function
from deploykit.autodiff.control import cond, scan, while_loop
from deploykit.autodiff.tape import GradientTape, custom_gradient, grad, no_gradient, stop_gradient, value_and_grad
from deploykit.autodiff.tensor import Tensor, TraceError, convert_to_tensor
from deploykit.autodiff.variable import Variable

__all__ = [
    "Function",
    "GradientTape",
    "Tensor",
    "TraceError",
    "Variable",
    "cond",
    "convert_to_tensor",
    "custom_gradient",
    "function",
    "grad",
    "no_gradient",
    "scan",
    "stop_gradient",
    "value_and_grad",
    "while_loop",
]
