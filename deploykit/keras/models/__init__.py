"""Models: functional, sequential, subclassed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploykit.keras.models.functional import Functional, Input, InputLayer, Sequential
from deploykit.keras.models.model import Model

if TYPE_CHECKING:
    from deploykit.keras.saving import load_model, model_from_json, save_model

__all__ = ["Functional", "Input", "InputLayer", "Model", "Sequential", "load_model", "model_from_json", "save_model"]


def __getattr__(name: str) -> Any:
    if name in ("load_model", "model_from_json", "save_model"):  # with json, zipfile and the like: on first use
        from deploykit.keras import saving

        return getattr(saving, name)
    raise AttributeError(f"module 'deploykit.keras.models' has no attribute {name!r}")
