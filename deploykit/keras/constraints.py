"""Constraints on weights, applied after each update of the optimizer."""

from __future__ import annotations

from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.keras.regularizers import _table
from deploykit.keras.serialize import Configurable, lookup

_EPSILON = 1e-7


class Constraint(Configurable):
    """``constraint(w)`` gives the allowed weight."""

    def __call__(self, w: Any) -> Any:
        raise NotImplementedError(type(self).__name__)


def _norms(w: Any, axis: Any) -> Any:
    return N.sqrt(N.sum(N.square(w), axis, keepdims=True))


class MaxNorm(Constraint):
    """Norms along axis at most max_value."""

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Any:
        norms = _norms(w, self.axis)
        return w * (N.clip(norms, 0.0, float(self.max_value)) / (_EPSILON + norms))


class NonNeg(Constraint):
    """Nothing below 0."""

    def __call__(self, w: Any) -> Any:
        return N.maximum(w, 0.0)


class UnitNorm(Constraint):
    """Norms along axis 1."""

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        return w / (_EPSILON + _norms(w, self.axis))


class MinMaxNorm(Constraint):
    """Norms along axis moved towards [min_value, max_value] at a rate."""

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> Any:
        norms = _norms(w, self.axis)
        wanted = self.rate * N.clip(norms, float(self.min_value), float(self.max_value)) + (1 - self.rate) * norms
        return w * (wanted / (_EPSILON + norms))


ALL = _table(MaxNorm, NonNeg, UnitNorm, MinMaxNorm)


def get(identifier: Any) -> Any:
    """A constraint by name, config or itself."""
    return lookup("constraint", ALL, identifier)


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm
