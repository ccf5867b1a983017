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
    "Interpreter": "deploykit.interpreter",
    "TensorSpec": "deploykit.interpreter",
    "Graph": "deploykit.graph",
    "DeploykitError": "deploykit.errors",
}
__all__ = ["__version__", *_LAZY]

if TYPE_CHECKING:
    from deploykit.api import Report, convert, load
    from deploykit.errors import DeploykitError
    from deploykit.graph import Graph
    from deploykit.interpreter import Interpreter, TensorSpec


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'deploykit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
