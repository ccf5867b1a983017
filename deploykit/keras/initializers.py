"""Initial values of weights, as Keras 3 defines them; each takes a shape and gives an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import random
from deploykit.errors import InputError
from deploykit.keras.serialize import Configurable, lookup


class Initializer(Configurable):
    """``initializer(shape, dtype=None)`` gives an array."""

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        raise NotImplementedError(type(self).__name__)

    def clone(self) -> Any:
        """An equal one."""
        return type(self).from_config(self.get_config())


class _Random(Initializer):
    seed: int | random.Generator | None

    def _generator(self) -> random.Generator:
        # an explicit seed gives the same numbers in every call, as in Keras 3
        if isinstance(self.seed, random.Generator):
            return self.seed
        return random.Generator(self.seed) if self.seed is not None else random.default_generator()


def _np(dtype: Any) -> np.dtype:
    return dtypes.dtype(dtype or "float32").np


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return np.zeros(tuple(shape), _np(dtype))


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return np.ones(tuple(shape), _np(dtype))


class Constant(Initializer):
    """All one value."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.value), tuple(shape)).astype(_np(dtype))


class Identity(Initializer):
    """gain on the diagonal of a matrix."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        if len(shape) != 2:
            raise InputError(f"Identity initializer: got shape {tuple(shape)}, expected a matrix.")
        return (self.gain * np.eye(*shape)).astype(_np(dtype))


class RandomNormal(_Random):
    """Normal numbers."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return random.normal(tuple(shape), self.mean, self.stddev, dtype or "float32", self._generator()).numpy()


class TruncatedNormal(RandomNormal):
    """Normal numbers, those beyond two deviations drawn again."""

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        g = self._generator()
        return random.truncated_normal(tuple(shape), self.mean, self.stddev, dtype or "float32", g).numpy()


class RandomUniform(_Random):
    """Uniform numbers."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        return random.uniform(tuple(shape), self.minval, self.maxval, dtype or "float32", self._generator()).numpy()


def compute_fans(shape: Any) -> tuple[int, int]:
    """(fan in, fan out) of a weight: the last two dims times the size of the window before them."""
    shape = tuple(shape)
    if len(shape) < 1:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


class VarianceScaling(_Random):
    """Numbers whose variance is scale / n, n the fan in, fan out or their mean."""

    def __init__(
        self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", seed: Any = None
    ) -> None:
        if scale <= 0:
            raise InputError(f"VarianceScaling: got scale={scale}, expected more than 0.")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise InputError(f"VarianceScaling: got mode={mode!r}, expected fan_in, fan_out or fan_avg.")
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution.lower(), seed

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        fan_in, fan_out = compute_fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        g, d = self._generator(), dtype or "float32"
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return random.uniform(tuple(shape), -limit, limit, d, g).numpy()
        if self.distribution == "untruncated_normal":
            return random.normal(tuple(shape), 0.0, math.sqrt(variance), d, g).numpy()
        # 0.8796... is the deviation of a normal cut at two deviations
        return random.truncated_normal(tuple(shape), 0.0, math.sqrt(variance) / 0.87962566103423978, d, g).numpy()


def _scaling(name: str, scale: float, mode: str, distribution: str, doc: str) -> type[VarianceScaling]:
    def __init__(self: Any, seed: Any = None) -> None:
        VarianceScaling.__init__(self, scale, mode, distribution, seed)

    return type(name, (VarianceScaling,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})


GlorotUniform = _scaling("GlorotUniform", 1.0, "fan_avg", "uniform", "Glorot and Bengio (2010), uniform.")
GlorotNormal = _scaling("GlorotNormal", 1.0, "fan_avg", "truncated_normal", "Glorot and Bengio (2010), normal.")
HeUniform = _scaling("HeUniform", 2.0, "fan_in", "uniform", "He et al. (2015), uniform.")
HeNormal = _scaling("HeNormal", 2.0, "fan_in", "truncated_normal", "He et al. (2015), normal.")
LecunUniform = _scaling("LecunUniform", 1.0, "fan_in", "uniform", "LeCun et al. (1998), uniform.")
LecunNormal = _scaling("LecunNormal", 1.0, "fan_in", "truncated_normal", "LeCun et al. (1998), normal.")


class Orthogonal(_Random):
    """Orthonormal rows or columns (Saxe et al., 2014), by the QR decomposition of normal numbers."""

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain, self.seed = gain, seed

    def __call__(self, shape: Any, dtype: Any = None) -> np.ndarray:
        if len(shape) < 2:
            raise InputError(f"Orthogonal initializer: got shape {tuple(shape)}, expected two dims or more.")
        rows, cols = math.prod(shape[:-1]), shape[-1]
        flat = (max(rows, cols), min(rows, cols))
        q, r = np.linalg.qr(random.normal(flat, seed=self._generator()).numpy().astype(np.float64))
        q *= np.sign(np.diag(r))
        return (self.gain * (q.T if rows < cols else q)).reshape(tuple(shape)).astype(_np(dtype))


ALL: dict[str, Any] = {}
for _cls in (
    Zeros, Ones, Constant, Identity, RandomNormal, TruncatedNormal, RandomUniform, VarianceScaling, GlorotUniform,
    GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal,
):  # fmt: skip
    from deploykit.keras.serialize import snake_case

    ALL[_cls.__name__] = ALL[snake_case(_cls.__name__)] = _cls
ALL |= {"zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform, "orthogonal": Orthogonal}


def get(identifier: Any) -> Any:
    """An initializer by name, config or itself; any function of (shape, dtype) will do."""
    return lookup("initializer", ALL, identifier)
