"""Shape rules of the shape ops, on symbolic dims: each expression holds for every size for which the op is legal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.graph.dims import Dim, DimLike, Shape, dim_max, dim_min, is_non_negative
from deploykit.ops.core import F, Spec
from deploykit.ops.rules import axes_of, ceil_div, error, fresh_shape, ints_of, length_of, product, show, values_of
from deploykit.ops.samples import i64

FAR = 10**9  # a start or end from here on means "as far as it goes", unless the size is known


def reshaped(shape: Shape | None, target: Spec, allow_zero: bool) -> Shape | None:
    """The shape of reshape: 0 copies, -1 is what is left; dims that stand on both sides cancel."""
    dims, count = values_of(target), length_of(target)
    if dims is None:
        return None if count is None else fresh_shape(count)
    if sum(isinstance(d, int) and d == -1 for d in dims) > 1 or any(isinstance(d, int) and d < -1 for d in dims):
        raise error("target shape", show(tuple(dims)), "at most one -1, no other negative dims")
    if not allow_zero:
        if shape is not None and any(d == 0 for d in dims[len(shape) :]):
            raise error(f"0 in target shape {show(tuple(dims))} has no dim of x to copy", show(shape))
        dims = [(Dim.fresh() if shape is None else shape[i]) if d == 0 else d for i, d in enumerate(dims)]
    if -1 not in dims:
        if shape is not None:
            gap = product(shape) - product(dims)
            if isinstance(gap, int) and gap:
                raise error(f"cannot reshape {show(shape)}", show(tuple(dims)), "the same number of elements")
        return tuple(dims)
    at = dims.index(-1)
    if shape is None:
        dims[at] = Dim.fresh()
        return tuple(dims)
    # cancel dims that stand on both sides, then divide what is left
    left, right = list(shape), [d for i, d in enumerate(dims) if i != at]
    for d in list(right):
        if d in left and d != 0:
            left.remove(d)
            right.remove(d)
    total, others = product(left), product(right)
    if others == 0:
        raise error(f"-1 in {show(tuple(dims))} is not determined", f"x {show(shape)}")
    if isinstance(total, int) and isinstance(others, int) and total % others:
        raise error(f"cannot reshape {show(shape)}", show(tuple(dims)), f"a multiple of {others} elements")
    dims[at] = total // others
    return tuple(dims)


def flatten_axis(axis: int, rank: int) -> int:
    """The axis of flatten, counted from the front."""
    if not -rank <= axis <= rank:
        raise error("axis is out of range", axis, f"{-rank} to {rank}")
    return axis + rank if axis < 0 else axis


def permutation(perm: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The permutation of transpose in full: () reverses."""
    if not perm:
        return tuple(reversed(range(rank)))
    if len(perm) != rank:
        raise error("perm", perm, f"{rank} axes")
    return axes_of(perm, rank, "perm")


def equal_pieces(size: DimLike, n: int) -> list[Any]:
    """The sizes of split without sizes: ceil(size / n) each, the last ones smaller or empty."""
    if n == 1:
        return [size]
    if (size % n) == 0:
        return [size // n] * n
    chunk = ceil_div(size, n)
    return [chunk] + [dim_max(dim_min(chunk, size - chunk * i), 0) for i in range(1, n)]


def clamped(at: DimLike, size: DimLike, low: int, high: DimLike) -> DimLike | None:
    """A start or end counted from the front and clamped to [low, high]; None when its sign is open."""
    if isinstance(at, int):
        front = at if at >= 0 else size + at if at > -FAR else low
        if at >= FAR:
            return high
    elif is_non_negative(at):
        front = at
    elif (size - at) in range(3 + low):  # size - 1, say; below 0 it would count from the end, to the same place
        return dim_max(at, low)
    else:
        return None
    if is_non_negative(high - front):
        return dim_max(front, low)
    return dim_max(dim_min(front, high), low)


def slice_length(size: DimLike, start: DimLike, end: DimLike, step: DimLike) -> DimLike:
    """How many places start:end:step takes of a dim."""
    if isinstance(step, Dim):
        return Dim.fresh()
    if step == 0:
        raise error("step", 0, "not 0")
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(size)[start:end:step])
    if step > 0:
        if isinstance(start, int) and 0 <= start < FAR and (end == size or isinstance(end, int) and end >= FAR):
            span = dim_max(size - start, 0)  # x[k:], the common case, in its shortest form
        elif isinstance(start, int) and isinstance(end, int) and start < 0 and end >= FAR:
            span = size if start <= -FAR else dim_min(size, -start)  # x[-k:]
        elif isinstance(start, int) and isinstance(end, int) and 0 <= start < FAR and 0 <= end < FAR:
            span = dim_min(dim_max(size - start, 0), max(end - start, 0))  # x[a:b]
        else:
            a, b = clamped(start, size, 0, size), clamped(end, size, 0, size)
            if a is None or b is None:
                return Dim.fresh()
            span = dim_max(b - a, 0)
        return span if step == 1 else ceil_div(span, step)
    a, b = clamped(start, size, -1, size - 1), clamped(end, size, -1, size - 1)
    if a is None or b is None:
        return Dim.fresh()
    return ceil_div(dim_max(a - b, 0), -step)


def sliced(shape: Shape | None, starts: Spec, ends: Spec, axes: Spec | None, steps: Spec | None) -> Shape | None:
    """The shape of slice."""
    if shape is None:
        return None
    s, e, t = values_of(starts), values_of(ends), values_of(steps)
    count = next((n for n in map(length_of, (starts, ends, axes, steps)) if n is not None), None)
    for spec, what in ((starts, "starts"), (ends, "ends"), (axes, "axes"), (steps, "steps")):
        n = length_of(spec)
        if n is not None and n != count:
            raise error(f"length of {what}", n, count)
    named = ints_of(axes) if axes is not None else None if count is None else list(range(count))
    if named is None:
        return fresh_shape(len(shape))
    out = list(shape)
    for i, a in enumerate(axes_of(named, len(shape))):
        if s is None or e is None or (steps is not None and t is None):
            out[a] = Dim.fresh()
        else:
            out[a] = slice_length(shape[a], s[i], e[i], t[i] if t is not None else 1)
    return tuple(out)


def padded(shape: Shape | None, pads: Spec, axes: Spec | None, mode: str) -> Shape | None:
    """The shape of pad."""
    if shape is None:
        return None
    p = values_of(pads)
    named = list(range(len(shape))) if axes is None else ints_of(axes)
    if named is None:
        return fresh_shape(len(shape))
    along = axes_of(named, len(shape))
    count = length_of(pads)
    if count is not None and count != 2 * len(along):
        raise error("number of pads", count, f"{2 * len(along)}: a before and an after for each of {len(along)} axes")
    out = list(shape)
    for i, a in enumerate(along):
        out[a] = Dim.fresh() if p is None else shape[a] + p[i] + p[i + len(along)]
        size = out[a]
        if isinstance(size, int) and size < 0:
            raise error(f"pads crop more than dim {a} of {show(shape)} holds", p)
        if shape[a] == 0 and out[a] != 0 and isinstance(out[a], int) and mode != "constant":
            raise error(f"mode {mode} has nothing to repeat in dim {a} of {show(shape)}")
    return tuple(out)


def pad_index(n: int, before: int, after: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Which element of the dim each place of the result shows, and which places are outside."""
    at = np.arange(-before, n + after)
    outside = (at < 0) | (at >= n)
    if mode in ("constant", "edge") or n == 0:
        if n == 0 and mode != "constant" and len(at):
            raise error(f"pad: mode {mode} has nothing to repeat in an empty dim")
        return np.clip(at, 0, max(n - 1, 0)), outside & (mode == "constant")
    if mode == "wrap":
        return at % n, np.zeros_like(outside)
    at = at % max(2 * (n - 1), 1)
    return np.where(at >= n, 2 * (n - 1) - at, at), np.zeros_like(outside)


def range_length(start: Spec, limit: Spec, delta: Spec) -> DimLike:
    """How many elements range gives."""
    ends = [np.asarray(s.value).reshape(-1)[0] for s in (start, limit, delta) if s.value is not None]
    if len(ends) < 3:
        return Dim.fresh()
    if not isinstance(ends[2], Dim) and ends[2] == 0:
        raise error("delta", 0, "not 0")
    if start.dtype.kind == "f":
        if any(isinstance(v, Dim) for v in ends):
            return Dim.fresh()
        count = (float(ends[1]) - float(ends[0])) / float(ends[2])
        if not math.isfinite(count):
            raise error("start, limit, delta", ", ".join(map(str, ends)), "finite numbers")
        return max(math.ceil(count), 0)
    a, b, d = (v if isinstance(v, Dim) else int(v) for v in ends)
    if isinstance(d, Dim):
        return Dim.fresh()
    return ceil_div(dim_max(b - a, 0), d) if d > 0 else ceil_div(dim_max(a - b, 0), -d)


def divided(size: DimLike, by: int, what: str) -> DimLike:
    """A dim divided by a block size, which must divide it."""
    if isinstance(size, int) and size % by:
        raise error(what, size, f"a multiple of {by}")
    return size // by


def stack(scalars: list[Any]) -> Any:
    """Scalars as one vector."""
    return F.concat(*(F.unsqueeze(n, i64(0)) for n in scalars), axis=0)
