"""Places and orders: take, sort, search, sets.  Signatures are Keras' own."""

from __future__ import annotations

import builtins

import numpy as np
from keras.src.backend.common.backend_utils import canonicalize_axis
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.host import host
from deploykit.keras_backend.numpy.elementwise import same, through, where
from deploykit.ops.core import F


def _t(x):
    return convert_to_tensor(x)


def _places(indices, size):
    """Indices as the op wants them; those outside are clipped as NumPy's mode='clip' does for the last place."""
    i = _t(indices)
    return i if i.dtype.name in ("int32", "int64") else convert_to_tensor(i, "int64")


def take(x, indices, axis=None):
    x = _t(x)
    x, axis = (N.reshape(x, (-1,)), 0) if axis is None else (x, canonicalize_axis(axis, x.ndim))
    return F.gather(x, _places(indices, x.shape[axis]), axis=axis)


def take_along_axis(x, indices, axis=None):
    x, i = _t(x), _t(indices)
    if axis is None:
        x, i, axis = N.reshape(x, (-1,)), N.reshape(i, (-1,)), 0
    axis = canonicalize_axis(axis, x.ndim)
    shape = list(np.broadcast_shapes(*[tuple(1 if k == axis else d for k, d in enumerate(v.shape)) for v in (x, i)]))
    x = N.broadcast_to(x, [x.shape[axis] if k == axis else d for k, d in enumerate(shape)])
    i = N.broadcast_to(i, [i.shape[axis] if k == axis else d for k, d in enumerate(shape)])
    return F.gather_elements(x, _places(i, x.shape[axis]), axis=axis)


def _ordered(x, axis):
    x, dtype = through(_t(x))
    x, axis = (N.reshape(x, (-1,)), 0) if axis is None else (x, canonicalize_axis(axis, x.ndim))
    values, places = F.top_k(x, np.array([x.shape[axis]], np.int64), axis=axis, largest=False)
    return convert_to_tensor(values, dtype), convert_to_tensor(places, "int32")


def sort(x, axis=-1):
    return _ordered(x, axis)[0] if _t(x).ndim else _t(x)


def argsort(x, axis=-1):
    return _ordered(x, axis)[1] if _t(x).ndim else N.zeros((), "int32")


def argpartition(x, kth, axis=-1):
    """A full sort is a partition for every kth."""
    return argsort(x, axis)


def nonzero(x):
    return host("nonzero", lambda a: tuple(np.nonzero(a)), _t(x), dtype="int32")


def searchsorted(sorted_sequence, values, side="left"):
    s, v = _t(sorted_sequence), _t(values)
    if s.ndim != 1:
        raise ValueError(
            "`searchsorted` only supports 1-D sorted sequences. You can use `keras.ops.vectorized_map` "
            f"to extend it to N-D sequences. Received: sorted_sequence.shape={tuple(s.shape)}"
        )
    s, v = same(s, v)
    s, _ = through(s)
    v, _ = through(v)
    compare = F.less if side == "left" else F.less_equal
    return N.sum(N.cast(compare(s, F.unsqueeze(v, np.array([v.ndim]))), "int32"), -1)


def digitize(x, bins):
    return searchsorted(bins, x, side="right")


def isin(x1, x2, assume_unique=False, invert=False):
    a, b = same(x1, x2)
    hits = N.any(F.equal(F.unsqueeze(a, np.array([a.ndim])), N.reshape(b, (-1,))), -1)
    return F.logical_not(hits) if invert else hits


def select(condlist, choicelist, default=0):
    dtype = result_type(*[getattr(c, "dtype", type(c)) for c in choicelist], type(default))
    y = convert_to_tensor(default, dtype)
    for c, v in zip(reversed(condlist), reversed(choicelist), strict=True):
        y = where(c, convert_to_tensor(v, dtype), y)
    return y


def unravel_index(indices, shape):
    i = _t(indices)
    dtype = result_type(i.dtype)
    total = int(np.prod(shape, dtype=np.int64))
    i = convert_to_tensor(i, "int64")
    i = F.where(F.less(i, 0), F.add(i, total), i)
    out = []
    for d in reversed(tuple(shape)):
        out.append(convert_to_tensor(F.mod(i, int(d)), dtype))
        i = F.floor_div(i, int(d))
    return tuple(reversed(out))


def unique(
    x, sorted=True, return_index=False, return_inverse=False, return_counts=False, axis=None, size=None, fill_value=None
):
    x = _t(x)

    def f(a):
        got = np.unique(a, return_index, return_inverse, return_counts, axis, equal_nan=False)
        out = list(got) if isinstance(got, tuple) else [got]
        if size is not None:
            dim = 0 if axis is None else canonicalize_axis(axis, a.ndim)
            n = out[0].shape[dim]
            fills = [0 if fill_value is None else fill_value]
            fills += [1] * return_index + [None] * return_inverse + [0] * return_counts
            for k, fill in enumerate(fills):
                if fill is None:
                    continue
                d = dim if k == 0 else 0
                if n > size:
                    out[k] = np.take(out[k], np.arange(size), d)
                elif n < size:
                    out[k] = np.pad(
                        out[k], [(0, size - n if i == d else 0) for i in range(out[k].ndim)], constant_values=fill
                    )
        return [out[0], *(v.astype(np.int32) for v in out[1:])]

    out = host("unique", f, x)
    return out[0] if len(out) == 1 else tuple(out)


def vectorize(pyfunc, *, excluded=None, signature=None):
    f = np.vectorize(pyfunc, excluded=excluded, signature=signature)

    def g(*args, **kwargs):
        return host("vectorize", lambda *a: f(*a, **kwargs), *[_t(a) for a in args])

    return g


def diff(a, n=1, axis=-1):
    x = _t(a)
    axis = canonicalize_axis(axis, x.ndim)
    for _ in range(n):
        size = x.shape[axis]
        high, low = (x[(*[slice(None)] * axis, s)] for s in (slice(1, size), slice(0, builtins.max(size - 1, 0))))
        x = F.logical_xor(high, low) if dtypes.dtype(x.dtype).kind == "b" else F.sub(high, low)
    return x
