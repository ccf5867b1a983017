"""New tensors: constants, ranges, windows, triangles.  Signatures are Keras' own."""

from __future__ import annotations

import numpy as np
from keras.src.backend import config
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.autodiff.tensor import Tensor
from deploykit.keras_backend.core import convert_to_tensor, our_dtype, sizes, traced, weak
from deploykit.keras_backend.host import host
from deploykit.ops.core import F


def _np(dtype):
    return dtypes.dtype(our_dtype(dtype)).np


def zeros(shape, dtype=None):
    return N.zeros(_shape(shape), our_dtype(dtype or config.floatx()))


def ones(shape, dtype=None):
    return N.ones(_shape(shape), our_dtype(dtype or config.floatx()))


empty = zeros


def _shape(shape):
    return (shape,) if isinstance(shape, int) else sizes(tuple(shape) if isinstance(shape, (list, tuple)) else shape)


def full(shape, fill_value, dtype=None):
    fill = convert_to_tensor(fill_value, our_dtype(dtype or config.floatx()))
    return fill if shape == () else N.broadcast_to(fill, _shape(shape))


def _like(value):
    def f(x, dtype=None):
        x = convert_to_tensor(x)
        return N.full_like(x, value, our_dtype(dtype or x.dtype))

    return f


zeros_like, ones_like = _like(0), _like(1)
empty_like = zeros_like


def full_like(x, fill_value, dtype=None):
    x = convert_to_tensor(x)
    return full(x.shape, fill_value, dtype or x.dtype)


def array(x, dtype=None):
    return convert_to_tensor(x, dtype)


def copy(x):
    return F.identity(convert_to_tensor(x))


def arange(start, stop=None, step=None, dtype=None):
    given = [v for v in (start, stop, step) if v is not None]
    dtype = our_dtype(dtype or result_type(*[weak(v) for v in given]))
    start, stop = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    if traced(start, stop, step):
        return F.range(*[convert_to_tensor(v, dtype) for v in (start, stop, step)])
    return Tensor(np.arange(*[np.asarray(v).item() for v in (start, stop, step)]).astype(_np(dtype)))


def _spaced(name):
    def f(start, stop, num=50, endpoint=True, dtype=None, axis=0, **more):
        dtype = our_dtype(dtype or result_type(weak(start), weak(stop), float))
        run = getattr(np, name)

        def g(a, b):
            return run(a, b, num=num, endpoint=endpoint, axis=axis, **more)

        wide = [convert_to_tensor(v, "float64") for v in (start, stop)]
        return host(name, g, *wide, dtype=dtype)

    return f


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    dtype = our_dtype(dtype or result_type(weak(start), weak(stop), float))
    compute = dtype if dtypes.dtype(dtype).kind == "f" else "float32"
    if not traced(start, stop):
        a, b = (np.asarray(convert_to_tensor(v, "float64")) for v in (start, stop))
        y, step = np.linspace(a, b, num, endpoint=endpoint, retstep=True, axis=axis)
        y, step = convert_to_tensor(y, dtype), convert_to_tensor(np.asarray(step), dtype)
        return (y, step) if retstep else y
    a, b = convert_to_tensor(start, compute), convert_to_tensor(stop, compute)
    parts = max(num - 1, 1) if endpoint else max(num, 1)
    step = F.div(F.sub(b, a), float(parts))
    rank = max(a.ndim, b.ndim)
    at = np.arange(num).astype(_np(compute)).reshape([-1] + [1] * rank)
    y = N.moveaxis(F.add(F.mul(step, at), a), 0, axis) if rank else F.add(F.mul(step, at), a)
    y = convert_to_tensor(y, dtype)
    return (y, convert_to_tensor(step, dtype)) if retstep else y


geomspace = _spaced("geomspace")
_logspace = _spaced("logspace")


def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    return _logspace(start, stop, num, endpoint, dtype, axis, base=base)


def eye(N, M=None, k=0, dtype=None):
    return Tensor(np.eye(int(N), None if M is None else int(M), int(k), dtype=_np(dtype or config.floatx())))


def identity(n, dtype=None):
    return eye(n, dtype=dtype)


def tri(N, M=None, k=0, dtype=None):
    return Tensor(np.tri(N, M, k, dtype=_np(dtype or config.floatx())))


def _window(name):
    def f(x):
        return host(name, lambda n: getattr(np, name)(int(n)), convert_to_tensor(x), dtype=config.floatx())

    return f


bartlett, hamming, hanning, blackman = (_window(n) for n in ("bartlett", "hamming", "hanning", "blackman"))


def kaiser(x, beta):
    given = convert_to_tensor(x), convert_to_tensor(beta, "float64")
    return host("kaiser", lambda n, b: np.kaiser(int(n), b), *given, dtype=config.floatx())


def meshgrid(*x, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise ValueError(f"indexing: got {indexing!r}, expected 'xy' or 'ij'.")
    xs = [N.reshape(convert_to_tensor(v), (-1,)) for v in x]
    places = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        places[:2] = [1, 0]
    sizes = [0] * len(xs)
    for v, p in zip(xs, places, strict=True):
        sizes[p] = v.shape[0]
    return [
        N.broadcast_to(N.reshape(v, [-1 if i == p else 1 for i in range(len(xs))]), sizes)
        for v, p in zip(xs, places, strict=True)
    ]


def vander(x, N=None, increasing=False):
    x = convert_to_tensor(x)
    to = result_type(x.dtype)
    x = convert_to_tensor(x, result_type(x.dtype, config.floatx()))
    n = x.shape[0] if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    return convert_to_tensor(F.pow(F.unsqueeze(x, np.array([-1])), powers.astype(x.dtype)), to)
