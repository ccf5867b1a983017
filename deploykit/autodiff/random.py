"""Seeded random tensors: the same numbers from the same seed on every platform, eager and traced.

Each draw is one random op of the vocabulary (Philox 4x32-10, see :mod:`deploykit.ops.random`) with a key of its own:
the key is Philox of (generator's seed, number of the draw).  In a trace the key is fixed when tracing and the engine
counts the runs, so that every call of the function draws anew, and a fresh session repeats the series.

>>> set_seed(1); a = normal((2,)); set_seed(1); bool((a == normal((2,))).numpy().all())
True
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from deploykit import dtypes, native
from deploykit.autodiff import numeric, state
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.ops.core import F

_CHUNK = 1 << 20  # elements at a time, where numbers pass through float64


class Generator:
    """A series of keys from a seed (None: from the OS)."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = int.from_bytes(os.urandom(7), "little") if seed is None else int(seed)
        self.draws = 0
        self._lock = threading.Lock()

    def key(self) -> int:
        """The next key: never 0, which would mean "from the OS"."""
        from deploykit.ops.random import philox_block

        with self._lock:
            n, self.draws = self.draws, self.draws + 1
        low, high, _, _ = philox_block(self.seed & 0xFFFFFFFFFFFFFFFF, n)
        return low | (high & 0x3FFFFFFF) << 32 | 1

    def get_state(self) -> tuple[int, int]:
        """(seed, draws so far)."""
        return self.seed, self.draws

    def set_state(self, value: tuple[int, int]) -> None:
        """Go on from a state."""
        self.seed, self.draws = value


_default = Generator()


def set_seed(seed: int) -> None:
    """Restart the default generator."""
    _default.set_state((int(seed), 0))


def default_generator() -> Generator:
    """The generator used where none is given."""
    return _default


def _key(seed: Any) -> int:
    if isinstance(seed, Generator):
        return seed.key()
    return _default.key() if seed is None else Generator(int(seed)).key()


def _draw(name: str, shape: Any, attrs: dict[str, Any]) -> Tensor:
    from deploykit.ops import get

    to = numeric._ints(shape)
    op = get(name)
    trace = state.trace()
    if trace is not None:
        (v,) = trace.apply(op, [to.payload if isinstance(to, Tensor) else to], op.complete(attrs))
        return Tensor(v)
    sizes = to if isinstance(to, np.ndarray) else to.numpy()
    if native.available():  # the reference would take ten times the memory of its result
        return Tensor(native.run_op(name, [sizes], attrs)[0])
    return convert_to_tensor(op(sizes, **attrs))


def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = "float32", seed: Any = None) -> Tensor:
    """Uniform numbers in [minval, maxval).  seed: an int fixes the numbers, a Generator gives the next ones."""
    return _draw(
        "random_uniform", shape, dict(low=minval, high=maxval, seed=_key(seed), dtype=dtypes.dtype(dtype).name)
    )


def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = "float32", seed: Any = None) -> Tensor:
    """Normal numbers."""
    return _draw("random_normal", shape, dict(mean=mean, scale=stddev, seed=_key(seed), dtype=dtypes.dtype(dtype).name))


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = "float32", seed: Any = None
) -> Tensor:
    """Normal numbers, those beyond two deviations drawn again (by inverting the distribution function)."""
    # Phi(-2) and Phi(2); inverse error function by F.erf_inv would be needed: the uniform is mapped through normal draws
    key = _key(seed)
    shape_now = tuple(int(d) for d in np.atleast_1d(np.asarray(shape)))
    total = int(np.prod(shape_now, dtype=np.int64))
    out = np.empty(total, dtypes.dtype(dtype).np)
    have, k = 0, 0
    while have < total:  # about 4.6 % are thrown away in each round
        draws = normal((total - have + 16,), seed=Generator(key + k)).numpy()
        for i in range(0, len(draws), _CHUNK):
            part = draws[i : i + _CHUNK]
            good = part[np.abs(part) < 2.0][: total - have]
            out[have : have + len(good)] = good.astype(np.float64) * stddev + mean
            have += len(good)
        k += 1
    return Tensor(out.reshape(shape_now))


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """Integers in [minval, maxval)."""
    u = uniform(shape, float(minval), float(maxval), "float64", seed)
    return numeric.cast(F.floor(u), dtype)


def bernoulli(shape: Any, p: float = 0.5, dtype: Any = "bool", seed: Any = None) -> Tensor:
    """True (or 1) with probability p."""
    return numeric.cast(numeric.less(uniform(shape, seed=seed), p), dtype)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Tensor:
    """The slices along a dim in random order."""
    t = convert_to_tensor(x)
    order = numeric.argsort(uniform((numeric.shape(t)[axis],), seed=seed))
    return numeric.take(t, order, axis)


def dropout(x: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Tensor:
    """Each element 0 with probability rate, else divided by 1 - rate."""
    t = convert_to_tensor(x)
    if rate <= 0:
        return t
    keep = numeric.less(uniform(noise_shape if noise_shape is not None else numeric.shape(t), seed=seed), 1.0 - rate)
    return numeric.where(keep, t * (1.0 / (1.0 - rate)), 0.0)  # type: ignore[operator]


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Tensor:
    """[batch, num_samples] classes with probability softmax(logits), by the Gumbel trick."""
    t = convert_to_tensor(logits)
    shape = (numeric.shape(t)[0], num_samples, numeric.shape(t)[1])
    u = numeric.clip(uniform(shape, seed=seed), 1e-20, 1.0)
    noise = numeric.negative(numeric.log(numeric.negative(numeric.log(u))))  # type: ignore[attr-defined]
    return numeric.cast(numeric.argmax(numeric.expand_dims(t, 1) + noise, axis=-1), dtype)  # type: ignore[operator]
