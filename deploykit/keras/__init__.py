"""Keras 3's names on our core: build, train, save and export models.

>>> from deploykit import keras
>>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)])
>>> model.count_params()
19
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "3.15.1"  # of the Keras API followed

_MODULES = {
    "activations": "activations", "callbacks": "callbacks", "constraints": "constraints", "initializers": "initializers",
    "layers": "layers", "losses": "losses", "metrics": "metrics", "models": "models", "ops": "ops", "optimizers": "optimizers",
    "regularizers": "regularizers", "saving": "saving", "utils": "utils", "backend": "backend", "applications": "applications",
}  # fmt: skip
_NAMES = {
    "Input": "models", "InputLayer": "models", "Model": "models", "Sequential": "models", "Functional": "models",
    "Layer": "layers", "InputSpec": "layers", "Optimizer": "optimizers", "Loss": "losses", "Metric": "metrics",
    "Initializer": "initializers", "Regularizer": "regularizers", "KerasTensor": "layers.base",
}  # fmt: skip
__all__ = sorted([*_MODULES, *_NAMES, "Variable", "random"])


def __getattr__(name: str) -> Any:
    value = _find(name)
    globals()[name] = value
    return value


def _find(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"deploykit.keras.{_MODULES[name]}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"deploykit.keras.{_NAMES[name]}"), name)
    if name == "Variable":
        return importlib.import_module("deploykit.autodiff").Variable
    if name == "random":
        return importlib.import_module("deploykit.autodiff.random")
    raise AttributeError(f"module 'deploykit.keras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
