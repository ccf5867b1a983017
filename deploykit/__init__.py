"""Deploykit: convert, verify and run neural networks on edge CPUs and in browsers.

Everything is loaded on first use, so ``import deploykit`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "convert": "deploykit.api",
    "load": "deploykit.api",
    "Report": "deploykit.api",
    "quantization_aware": "deploykit.qat",
    "Interpreter": "deploykit.interpreter",
    "TensorSpec": "deploykit.interpreter",
    "Graph": "deploykit.graph",
    "DeploykitError": "deploykit.errors",
    **dict.fromkeys(
        (
            "Function",
            "GradientTape",
            "Tensor",
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
        ),
        "deploykit.autodiff",
    ),
    "random": "deploykit.autodiff.random:",
    "data": "deploykit.data:",
    "keras": "deploykit.keras:",
    "summary": "deploykit.summary:",
}
__all__ = ["__version__", *_LAZY]

if TYPE_CHECKING:
    from deploykit import data, keras, summary
    from deploykit.api import Report, convert, load
    from deploykit.autodiff import (
        Function,
        GradientTape,
        Tensor,
        Variable,
        cond,
        convert_to_tensor,
        custom_gradient,
        function,
        grad,
        no_gradient,
        random,
        scan,
        stop_gradient,
        value_and_grad,
        while_loop,
    )
    from deploykit.errors import DeploykitError
    from deploykit.graph import Graph
    from deploykit.interpreter import Interpreter, TensorSpec


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = importlib.import_module(_LAZY[name].rstrip(":"))  # with a colon: the module itself
        value = found if _LAZY[name].endswith(":") else getattr(found, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'deploykit' has no attribute {name!r}")


def _optimize(graph: Any) -> Any:  # asked for by deploykit.hooks
    from deploykit.converters.pipeline import TRACED, optimize

    return optimize(graph, stages=TRACED)[0]


def __dir__() -> list[str]:
    return sorted(__all__)
