"""Penalties on weights, added to the loss; and constraints, applied after each update."""

from __future__ import annotations

from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.errors import InputError
from deploykit.keras.serialize import Configurable, lookup


class Regularizer(Configurable):
    """``regularizer(x)`` gives a scalar."""

    def __call__(self, x: Any) -> Any:
        raise NotImplementedError(type(self).__name__)


class L1(Regularizer):
    """l1 * sum(|x|)."""

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = 0.01 if l1 is None else float(l1)

    def __call__(self, x: Any) -> Any:
        return self.l1 * N.sum(N.abs(x))


class L2(Regularizer):
    """l2 * sum(x^2)."""

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = 0.01 if l2 is None else float(l2)

    def __call__(self, x: Any) -> Any:
        return self.l2 * N.sum(N.square(x))


class L1L2(Regularizer):
    """l1 * sum(|x|) + l2 * sum(x^2)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = float(l1 or 0), float(l2 or 0)

    def __call__(self, x: Any) -> Any:
        return self.l1 * N.sum(N.abs(x)) + self.l2 * N.sum(N.square(x))


class OrthogonalRegularizer(Regularizer):
    """Mean absolute product of different rows (or columns), normalised."""

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise InputError(f"OrthogonalRegularizer: got mode={mode!r}, expected rows or columns.")
        self.factor, self.mode = factor, mode

    def __call__(self, x: Any) -> Any:
        axis = 1 if self.mode == "rows" else 0
        norm = N.sqrt(N.maximum(N.sum(N.square(x), axis, keepdims=True), 1e-12))
        y = x / norm
        product = y @ N.transpose(y) if self.mode == "rows" else N.transpose(y) @ y
        n = int(x.shape[0 if self.mode == "rows" else 1])
        off = product * (1.0 - N.eye(n))
        return self.factor * 0.5 * N.sum(N.abs(off)) / (n * (n - 1.0) / 2.0)


def _table(*classes: type) -> dict[str, Any]:
    from deploykit.keras.serialize import snake_case

    return {k: c for c in classes for k in (c.__name__, snake_case(c.__name__), c.__name__.lower())}


ALL = _table(L1, L2, L1L2, OrthogonalRegularizer) | {"l1_l2": L1L2, "orthogonal": OrthogonalRegularizer}


def get(identifier: Any) -> Any:
    """A regularizer by name, config or itself."""
    return lookup("regularizer", ALL, identifier)


l1, l2, l1_l2, orthogonal = L1, L2, L1L2, OrthogonalRegularizer
