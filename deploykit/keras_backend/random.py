"""``keras.backend.random``: draws that a seed tensor fixes, eager and traced (op ``keyed_uniform``)."""

from __future__ import annotations

import math

import numpy as np
from keras.src.backend.config import floatx
from keras.src.random.seed_generator import SeedGenerator, draw_seed, make_default_seed

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.autodiff.tensor import Tensor
from deploykit.keras_backend.core import convert_to_tensor, our_dtype
from deploykit.keras_backend.host import host
from deploykit.keras_backend.math import erfinv
from deploykit.keras_backend.missing import missing
from deploykit.ops.core import F

__all__ = ["SeedGenerator", "draw_seed", "make_default_seed"]


def _seed(seed):
    return seed if isinstance(seed, Tensor) else draw_seed(seed)


def _unit(shape, seed):
    """float32 in [0, 1), 24 bits."""
    dims = np.array([int(d) for d in ((shape,) if isinstance(shape, int) else shape)], np.int64)
    return F.keyed_uniform(convert_to_tensor(_seed(seed), "uint32"), dims)


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    dtype = our_dtype(dtype or floatx())
    u = _unit(shape, seed)
    low, high = convert_to_tensor(minval, "float32"), convert_to_tensor(maxval, "float32")
    y = F.add(F.mul(u, F.sub(high, low)), low)
    if dtypes.dtype(dtype).bits < 32:  # rounding could reach maxval
        below = np.nextafter(np.asarray(maxval, dtypes.dtype(dtype).np), np.asarray(minval, dtypes.dtype(dtype).np))
        return F.minimum(N.cast(y, dtype), np.asarray(below))
    return N.cast(y, dtype)


def _between(shape, seed, low, high):
    """Standard normal numbers by inverting the distribution function between two of its values."""
    u = _unit(shape, seed)
    p = F.add(F.mul(F.add(u, 2.0**-25), high - low), low)
    return F.mul(erfinv(F.sub(F.mul(p, 2.0), 1.0)), math.sqrt(2.0))


def _moved(y, mean, stddev, dtype):
    mean, stddev = convert_to_tensor(mean, "float32"), convert_to_tensor(stddev, "float32")
    return N.cast(F.add(F.mul(y, stddev), mean), our_dtype(dtype or floatx()))


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return _moved(_between(shape, seed, 0.0, 1.0), mean, stddev, dtype)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    p = 0.5 * (1 + math.erf(-2 / math.sqrt(2)))
    return _moved(N.clip(_between(shape, seed, p, 1 - p), -2.0, 2.0), mean, stddev, dtype)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    u = N.cast(_unit(shape, seed), "float64")
    low, high = convert_to_tensor(minval, "float64"), convert_to_tensor(maxval, "float64")
    return N.cast(F.floor(F.add(F.mul(u, F.sub(high, low)), low)), our_dtype(dtype))


def categorical(logits, num_samples, dtype="int32", seed=None):
    """By the Gumbel trick."""
    logits = convert_to_tensor(logits)
    u = _unit((logits.shape[0], num_samples, logits.shape[1]), seed)
    noise = F.neg(F.log(F.neg(F.log(F.add(u, 2.0**-25)))))
    wide = N.cast(F.unsqueeze(logits, np.array([1])), "float32")
    return N.cast(N.argmax(F.add(wide, noise), -1), our_dtype(dtype))


def dropout(inputs, rate, noise_shape=None, seed=None):
    x = convert_to_tensor(inputs)
    if rate in (0.0, 1.0):
        return x if rate == 0.0 else N.zeros_like(x)
    shape = x.shape if noise_shape is None else [x.shape[i] if d is None else d for i, d in enumerate(noise_shape)]
    keep = 1.0 - rate
    kept = F.less(_unit(shape, seed), keep)
    return F.where(kept, F.div(x, keep), N.zeros_like(x))


def shuffle(x, axis=0, seed=None):
    x = convert_to_tensor(x)
    order = N.argsort(_unit((x.shape[axis],), seed), -1)
    return F.gather(x, order, axis=axis % x.ndim)


def _by_numpy(name, shape, seed, dtype, *given):
    """Distributions that are drawn by rejection: NumPy's generator, keyed by the seed."""
    seed = convert_to_tensor(_seed(seed), "uint32")

    def draw(key, *given):
        rng = np.random.default_rng([int(k) for k in key])
        return np.asarray(getattr(rng, name)(*given, size=tuple(shape)))

    return host(name, draw, seed, *[convert_to_tensor(g, "float64") for g in given], dtype=our_dtype(dtype or floatx()))


def gamma(shape, alpha, dtype=None, seed=None):
    return _by_numpy("gamma", shape, seed, dtype, alpha)


def beta(shape, alpha, beta, dtype=None, seed=None):
    return _by_numpy("beta", shape, seed, dtype, alpha, beta)


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    seed = convert_to_tensor(_seed(seed), "uint32")

    def draw(key, n, p):
        rng = np.random.default_rng([int(k) for k in key])
        return np.asarray(rng.binomial(n.astype(np.int64), p, tuple(shape)))

    given = [convert_to_tensor(v, "float64") for v in (counts, probabilities)]
    return host("binomial", draw, seed, *given, dtype=our_dtype(dtype or floatx()))


__getattr__ = missing("random")
