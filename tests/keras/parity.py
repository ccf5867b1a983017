"""What the parity tests share: the same object in Keras (on PyTorch) and here, the same numbers in, the results out."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import keras as ours
from tests.support.peers import need

theirs = need("keras")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def floats(*shape: int, seed: int = 0, low: float | None = None) -> np.ndarray:
    r = rng(seed)
    a = r.standard_normal(shape) if low is None else r.uniform(low, 1.0 - low, shape)
    return a.astype(np.float32)


def ints(*shape: int, high: int = 10, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(0, high, shape)


def array(x: Any) -> np.ndarray:
    """A result of either side."""
    return np.asarray(x.detach()) if hasattr(x, "detach") else np.asarray(x)


def close(got: Any, want: Any, what: str = "", tolerance: float = 1e-5) -> None:
    """Relative to the largest value."""
    a, b = array(got), array(want)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, Keras {b.shape}"
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    error = float(np.abs(a.astype(np.float64) - b).max(initial=0.0))
    assert error <= tolerance * scale, f"{what}: {error:.3g} of {scale:.3g}"


def both(make: Any) -> tuple[Any, Any]:
    """The same thing made of either package: ``make(keras)``."""
    return make(ours), make(theirs)


def copy_weights(mine: Any, other: Any, seed: int = 1) -> None:
    """Seeded weights into both; they must have the same shapes in the same order."""
    shapes = [tuple(w.shape) for w in other.weights if "seed_generator" not in w.path]
    assert [tuple(w.shape) for w in mine.weights] == shapes, f"{[w.shape for w in mine.weights]} {shapes}"
    r = rng(seed)
    values = [r.uniform(0.1, 0.6, s).astype(np.float32) * r.choice([1, 1, -1], s) if "variance" not in w.path else r.uniform(0.5, 1.5, s) for s, w in zip(shapes, mine.weights, strict=True)]  # fmt: skip
    mine.set_weights(values)
    for w, v in zip((w for w in other.weights if "seed_generator" not in w.path), values, strict=True):
        w.assign(v)
