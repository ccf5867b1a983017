"""``tensor[key]``: NumPy's indexing by ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import numeric
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.errors import InputError, ShapeError
from deploykit.ops.core import F


def getitem(x: Any, key: Any) -> Tensor:
    """NumPy's basic indexing, and integer arrays or tensors: one anywhere, or several side by side from the first dim.
    A bool mask needs numbers, so it works outside traces only."""
    t = convert_to_tensor(x)
    keys = list(key) if isinstance(key, tuple) else [key]
    keys = [k.read() if hasattr(type(k), "__dk_read__") else k for k in keys]
    for i, k in enumerate(keys):
        if isinstance(k, (list, np.ndarray, Tensor)):
            a = np.asarray(k) if not isinstance(k, Tensor) else k
            if dtypes.dtype(a.dtype).kind == "b":
                return _masked(t, keys)
            keys[i] = int(a) if isinstance(a, np.ndarray) and a.ndim == 0 else a
    used = sum(k is not None and k is not Ellipsis for k in keys)
    if used > t.ndim:
        raise ShapeError(f"too many indices: got {used} for a tensor of rank {t.ndim}.")
    if not any(k is Ellipsis for k in keys):
        keys.append(Ellipsis)
    at = next(i for i, k in enumerate(keys) if k is Ellipsis)
    keys[at : at + 1] = [slice(None)] * (t.ndim - used)
    return _apply_keys(t, keys)


def _apply_keys(t: Tensor, keys: list[Any]) -> Tensor:
    starts, ends, axes, steps, drop, new, arrays = [], [], [], [], [], [], []
    dim = out = 0  # dim: of t; out: of the result
    for k in keys:
        if k is None:
            new.append(out)
            out += 1
            continue
        if isinstance(k, slice):
            if k != slice(None):
                step = 1 if k.step is None else int(k.step)
                if step == 0:
                    raise ShapeError("slice step cannot be zero.")
                size = t.shape[dim]
                big = np.iinfo(np.int64).max
                starts.append(k.start if k.start is not None else (0 if step > 0 else big))
                ends.append(k.stop if k.stop is not None else (big if step > 0 else -big))
                axes.append(dim)
                steps.append(step)
                del size
            out += 1
        elif isinstance(k, (int, np.integer)):
            size = t.shape[dim]
            i = int(k)
            if isinstance(size, int) and not -size <= i < size:
                raise IndexError(f"index {i} is out of bounds for dim {dim} of size {size}.")
            starts.append(i)
            ends.append(i + 1 if i != -1 else np.iinfo(np.int64).max)
            axes.append(dim)
            steps.append(1)
            drop.append(dim)
        elif isinstance(k, (np.ndarray, Tensor)):
            arrays.append((dim, out, k))
            out += 1
        else:
            raise InputError(f"a tensor cannot be indexed by {type(k).__name__} ({k!r}).")
        dim += 1
    if len(arrays) > 1:
        return _several(t, keys, arrays)
    if axes:
        parts = [
            numeric._ints(v) if any(isinstance(e, Tensor) for e in v) else np.array(v, np.int64) for v in (starts, ends)
        ]
        t = F.slice(t, *parts, np.array(axes, np.int64), np.array(steps, np.int64))
    if arrays:
        dim, _, k = arrays[0]
        t = F.gather(t, numeric._index(k), axis=dim)
        rank = k.ndim
        drop = [d if d < dim else d + rank - 1 for d in drop]
        new = [n if n <= arrays[0][1] else n + rank - 1 for n in new]
    if drop:
        t = numeric.squeeze(t, drop)
    return numeric.expand_dims(t, new) if new else t


def _several(t: Tensor, keys: list[Any], arrays: list[Any]) -> Tensor:
    """Integer arrays side by side from the first dim: one gather_nd."""
    first = [d for d, _, _ in arrays]
    rest = keys[len(arrays) :]
    if first != list(range(len(arrays))) or any(k is None for k in keys):
        raise InputError("several integer arrays in an index must stand side by side from the first dim on.")
    index = [numeric._index(k) for _, _, k in arrays]
    joined = numeric.stack(numeric.broadcast_arrays(*index), -1)
    out = F.gather_nd(t, numeric.cast(joined, "int64"))
    lead = out.ndim - (t.ndim - len(arrays))
    return _apply_keys(out, [slice(None)] * lead + rest)


def _masked(t: Tensor, keys: list[Any]) -> Tensor:
    if len(keys) != 1:
        raise InputError("a bool mask must be the only index.")
    mask = np.asarray(keys[0])  # TraceError while tracing
    places = np.argwhere(mask)
    return F.gather_nd(t, places.astype(np.int64)) if mask.ndim > 1 else F.gather(t, places[:, 0], axis=0)
