"""Other shapes and orders of the same elements; joining and cutting.  Signatures are Keras' own."""

from __future__ import annotations

import builtins

import numpy as np
from keras.src.backend.common.backend_utils import canonicalize_axis
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor, sizes, traced, weak
from deploykit.keras_backend.host import host
from deploykit.keras_backend.numpy.elementwise import same, through
from deploykit.ops.core import F


def _t(x):
    return convert_to_tensor(x)


def shape_of(x):
    return tuple(_t(x).shape)


def ndim(x):
    return _t(x).ndim


def size(x):
    return int(np.prod(_t(x).shape, dtype=np.int64))


def reshape(x, newshape):
    newshape = (newshape,) if isinstance(newshape, int) else newshape
    return N.reshape(_t(x), tuple(newshape) if isinstance(newshape, (list, tuple)) else newshape)


def ravel(x):
    return N.reshape(_t(x), (-1,))


def transpose(x, axes=None):
    return N.transpose(_t(x), axes)


def swapaxes(x, axis1, axis2):
    return N.swapaxes(_t(x), axis1, axis2)


def moveaxis(x, source, destination):
    return N.moveaxis(_t(x), source, destination)


def expand_dims(x, axis):
    x = _t(x)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    rank = x.ndim + len(axes)
    return F.unsqueeze(x, np.array([canonicalize_axis(a, rank) for a in axes], np.int64))


def squeeze(x, axis=None):
    x = _t(x)
    axes = (
        [i for i, d in enumerate(x.shape) if d == 1]
        if axis is None
        else [axis]
        if isinstance(axis, int)
        else list(axis)
    )
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"cannot squeeze axis {a} of shape {tuple(x.shape)}: its size is not 1.")
    return F.squeeze(x, np.array([a % x.ndim for a in axes], np.int64)) if axes else x


def broadcast_to(x, shape):
    return N.broadcast_to(_t(x), sizes(tuple(shape)))


def flip(x, axis=None):
    return N.flip(_t(x), axis)


def fliplr(x):
    return flip(x, 1)


def flipud(x):
    return flip(x, 0)


def rot90(array, k=1, axes=(0, 1)):
    x = _t(array)
    if x.ndim < 2:
        raise ValueError(f"Input array must have at least 2 dimensions. Received: array.ndim={x.ndim}")
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ValueError(f"Invalid axes: {axes}. Axes must be a tuple of two different dimensions.")
    a, b = (v % x.ndim for v in axes)
    k %= 4
    if k == 0:
        return x
    if k == 2:
        return N.flip(x, (a, b))
    return N.swapaxes(N.flip(x, b), a, b) if k == 1 else N.flip(N.swapaxes(x, a, b), b)


def roll(x, shift, axis=None):
    x = _t(x)
    if axis is None:
        return N.reshape(roll(N.reshape(x, (-1,)), shift, 0), x.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    for s, a in zip(shifts, axes, strict=len(shifts) == len(axes)):
        x = N.roll(x, int(s), a)
    return x


def tile(x, repeats):
    x = _t(x)
    if traced(repeats):
        return F.tile(x, convert_to_tensor(repeats, "int64"))
    return N.tile(x, [int(r) for r in np.atleast_1d(np.asarray(repeats))])


def repeat(x, repeats, axis=None):
    x = _t(x)
    x, axis = (N.reshape(x, (-1,)), 0) if axis is None else (x, axis % x.ndim)
    counts = np.asarray(repeats)
    return F.gather(x, np.repeat(np.arange(x.shape[axis]), counts.reshape(-1) if counts.ndim else counts), axis=axis)


def pad(x, pad_width, mode="constant", constant_values=None):
    x = _t(x)
    if constant_values is not None and mode != "constant":
        raise ValueError(
            f"Argument `constant_values` can only be provided when `mode == 'constant'`. Received: mode={mode}"
        )
    width = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    if mode == "symmetric":
        for i, (a, b) in enumerate(width):
            n = x.shape[i]
            at = np.pad(np.arange(n), (a, b), mode="symmetric")
            x = F.gather(x, at, axis=i) if a or b else x
        return x
    if mode not in ("constant", "reflect", "edge", "wrap"):
        return host("pad", lambda a: np.pad(a, width, mode=mode), x, dtype=x.dtype)
    y, dtype = through(x)
    return convert_to_tensor(N.pad(y, width, mode, constant_values), dtype)


# ---- joining
def _one_dtype(xs):
    xs = list(xs) if isinstance(xs, (list, tuple)) else [_t(xs)[i] for i in range(_t(xs).shape[0])]
    kinds = {weak(x) if isinstance(weak(x), type) else str(np.dtype(dtypes.dtype(weak(x)).np)) for x in xs}
    if len(kinds) == 1:
        return [_t(x) for x in xs]
    dtype = result_type(*[weak(x) for x in xs])
    return [convert_to_tensor(x, dtype) for x in xs]


def concatenate(xs, axis=0):
    xs = _one_dtype(xs)
    if axis is None:
        xs, axis = [N.reshape(x, (-1,)) for x in xs], 0
    axis = canonicalize_axis(axis, xs[0].ndim)
    return F.concat(*xs, axis=axis) if len(xs) > 1 else xs[0]


def stack(x, axis=0):
    xs = _one_dtype(x)
    axis = canonicalize_axis(axis, xs[0].ndim + 1)
    return concatenate([expand_dims(v, axis) for v in xs], axis)


def append(x1, x2, axis=None):
    return concatenate(same(x1, x2), axis)


def _at_least(x, n):
    x = _t(x)
    if x.ndim >= n:
        return x
    if n == 3:
        return N.reshape(x, (1, *x.shape, 1) if x.ndim == 1 else (*x.shape, 1) if x.ndim == 2 else (1, 1, 1))
    return N.reshape(x, (*[1] * (n - x.ndim), *x.shape))


def atleast_1d(x):
    return _at_least(x, 1)


def atleast_2d(x):
    return _at_least(x, 2)


def atleast_3d(x):
    return _at_least(x, 3)


def vstack(xs):
    return concatenate([_at_least(x, 2) for x in _one_dtype(xs)], 0)


def hstack(xs):
    xs = [_at_least(x, 1) for x in _one_dtype(xs)]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1)


def dstack(xs):
    return concatenate([_at_least(x, 3) for x in _one_dtype(xs)], 2)


# ---- cutting
def split(x, indices_or_sections, axis=0):
    x = _t(x)
    axis = canonicalize_axis(axis, x.ndim)
    if isinstance(indices_or_sections, (int, np.integer)):
        if x.shape[axis] % indices_or_sections:
            raise ValueError(
                f"split: axis {axis} of size {x.shape[axis]} cannot be cut into {indices_or_sections} equal parts."
            )
        return N.split(x, int(indices_or_sections), axis)
    return _cut(x, [int(i) for i in np.asarray(indices_or_sections)], axis)


def _cut(x, places, axis):
    n = x.shape[axis]
    places = [builtins.min(builtins.max(p + n if p < 0 else p, 0), n) for p in places]
    ends = [*places, n]
    return [x[(*[slice(None)] * axis, slice(a, builtins.max(a, b)))] for a, b in zip([0, *places], ends, strict=True)]


def array_split(x, indices_or_sections, axis=0):
    x = _t(x)
    axis = canonicalize_axis(axis, x.ndim)
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    each, more = divmod(x.shape[axis], indices_or_sections)
    sizes = [each + (i < more) for i in range(indices_or_sections)]
    return _cut(x, list(np.cumsum(sizes)[:-1]), axis)


def hsplit(x, indices_or_sections):
    x = _t(x)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


def vsplit(x, indices_or_sections):
    return split(x, indices_or_sections, 0)


# ---- triangles and diagonals
def _triangle(upper):
    def f(x, k=0):
        x, dtype = through(_t(x))
        return convert_to_tensor(F.trilu(x, np.int64(k), upper=upper), dtype)

    return f


tril, triu = _triangle(False), _triangle(True)


def diag(x, k=0):
    x = _t(x)
    return diagflat(x, k) if x.ndim == 1 else diagonal(x, k)


def diagflat(x, k=0):
    x = N.reshape(_t(x), (-1,))
    n = x.shape[0] + builtins.abs(k)
    at = np.arange(x.shape[0])
    places = (at + builtins.max(-k, 0)) * n + at + builtins.max(k, 0)
    flat = F.scatter_nd(N.zeros((n * n,), x.dtype), places[:, None], x)
    return N.reshape(flat, (n, n))


def diagonal(x, offset=0, axis1=0, axis2=1):
    x = N.moveaxis(_t(x), [axis1, axis2], [-2, -1])
    rows, columns = x.shape[-2:]
    n = builtins.max(0, builtins.min(rows + builtins.min(offset, 0), columns - builtins.max(offset, 0)))
    at = np.arange(n)
    places = (at + builtins.max(-offset, 0)) * columns + at + builtins.max(offset, 0)
    return F.gather(N.reshape(x, (*x.shape[:-2], rows * columns)), places, axis=x.ndim - 2)


def trace(x, offset=0, axis1=0, axis2=1):
    from deploykit.keras_backend.numpy.reductions import sum

    return sum(diagonal(x, offset, axis1, axis2), -1)


def dsplit(x, indices_or_sections):
    return split(x, indices_or_sections, 2)
