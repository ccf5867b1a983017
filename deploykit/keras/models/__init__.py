"""Models: functional, sequential, subclassed."""

from __future__ import annotations

from deploykit.keras.models.functional import Functional, Input, InputLayer, Sequential
from deploykit.keras.models.model import Model
from deploykit.keras.saving import load_model, model_from_json, save_model

__all__ = ["Functional", "Input", "InputLayer", "Model", "Sequential", "load_model", "model_from_json", "save_model"]
