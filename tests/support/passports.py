"""What the generated checks of passports share: specs of samples, symbolic shapes, comparison."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.graph import Dim
from deploykit.ops.core import Op, Spec
from deploykit.ops.dispatch import run_reference
from deploykit.ops.reference import State, _Frame, _frames  # noqa: F401  (state for ops on variables)
from deploykit.ops.samples import Sample


def complete(op: Op, sample: Sample) -> dict:
    """The sample's attrs with defaults, and n_outputs where the op wants it."""
    attrs = op.complete(sample.attrs)
    if op.variable_outputs:
        attrs |= op.count_outputs(sample.inputs, attrs, sample.n_outputs)
    return attrs


def run(op: Op, sample: Sample) -> tuple[np.ndarray, ...]:
    """The reference's results for a sample."""
    return run_reference(op, list(sample.inputs), complete(op, sample))


def specs(sample: Sample, *, values: bool = True, symbolic: bool = False, ranks: bool = True) -> list[Spec | None]:
    """Specs of a sample's inputs: with or without known values, sizes as symbols ``s<size>``, ranks unknown.

    Symbolic shapes keep 1 (its broadcasting is part of the rule) and give equal sizes the same name, which is a
    legal reading of every sample."""

    def one(x: np.ndarray | None) -> Spec | None:
        if x is None:
            return None
        dims = tuple(Dim.symbol(f"s{n}") if symbolic and n != 1 else n for n in x.shape)
        # a vector of shape data keeps its length: it is known wherever its values are
        if values and dtypes.dtype(x.dtype).kind in "iu":
            dims = x.shape
        return Spec(dtypes.dtype(x.dtype), dims if ranks else None, x if values else None)

    return [one(x) for x in sample.inputs]


def mismatch(spec: Spec, got: np.ndarray, sizes: dict[str, int] | None = None) -> str:
    """Why a spec does not describe an array ('' when it does); named dims are given their sizes, fresh ones pass."""
    if spec.dtype.np != got.dtype:
        return f"dtype {spec.dtype}, reference {got.dtype}"
    if spec.shape is None:
        return ""
    if len(spec.shape) != got.ndim:
        return f"rank of {spec.shape}, reference {got.shape}"
    for d, n in zip(spec.shape, got.shape, strict=True):
        d = d.subs(sizes or {}) if isinstance(d, Dim) else d
        if isinstance(d, int) and d != n:
            return f"shape {spec.shape}, reference {got.shape}"
    if spec.value is not None and spec.value.dtype != object and not same(spec.value, got):
        return f"value {spec.value}, reference {got}"
    if spec.value is not None and spec.value.dtype == object:
        for d, n in zip(spec.value.reshape(-1), got.reshape(-1), strict=True):
            d = d.subs(sizes or {}) if isinstance(d, Dim) else d
            if not isinstance(d, Dim) and d != n:
                return f"value {spec.value}, reference {got}"
    return ""


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal dtype, shape and elements; NaN equals NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if dtypes.dtype(a.dtype).kind == "f":
        a, b = a.astype(np.float64), b.astype(np.float64)
        return bool(np.all((a == b) | (np.isnan(a) & np.isnan(b))))
    return bool(np.all(a == b))
