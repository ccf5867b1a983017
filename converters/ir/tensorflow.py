"""What importers of TensorFlow's formats share: operators that mean the same in TFLite and TensorFlow.js."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from deploykit.converters.ir.build import Emitter
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import Value
from deploykit.graph.dims import DimLike

END = 2**31 - 1  # behind the last element of any dim


def add_n(c: Emitter, xs: list[Value]) -> Value:
    """The sum of one or more tensors."""
    if not xs:
        raise FormatError("it has no inputs; expected at least one")
    y = xs[0]
    for x in xs[1:]:
        y = c.op("add", y, x)
    return y


def split_sizes(c: Emitter, x: Value, sizes: list[int], axis: int) -> Any:
    """x cut into parts of these sizes, one of which may be -1: all that is left."""
    axis = c.axis(axis, c.rank(x))
    if sizes.count(-1) == 1:
        total = c.shape(x)[axis]
        if not isinstance(total, int):
            raise UnsupportedError(
                f"a size of -1 along dim {axis}, which is not known. Give the input shapes (--input-shape)"
            )
        at = sizes.index(-1)
        sizes = [*sizes[:at], total - sum(sizes) - 1, *sizes[at + 1 :]]
    if len(sizes) == 1:
        return c.op("identity", x)
    return c.op("split", x, c.i64(*sizes), outputs=len(sizes), axis=axis)


def slice_sized(c: Emitter, x: Value, begin: Value, size: Value) -> Value:
    """x[begin : begin + size]; a size of -1 means all that is left."""
    known = c.known(size)
    end = c.op("add", begin, size)
    if known is None or (known < 0).any():
        end = c.op("where", c.op("less", size, c.const(np.int64(0))), c.const(np.int64(END)), end)
    return c.op("slice", x, begin, end, c.i64(*range(c.rank(x))))


def strided_slice(
    c: Emitter, x: Value, begin: Value, end: Value, steps: list[int], masks: dict[str, int], offset: bool = False
) -> Value:
    """NumPy-like slicing; masks (begin, end, ellipsis, new_axis, shrink_axis: a bit per entry) say which entries of begin and
    end count, are new dims, or pick one element.  ``offset``: ends count from their begins."""
    firsts, lasts = entries(c, begin), entries(c, end)
    n, rank = len(steps), c.rank(x)
    if len(firsts) != n or len(lasts) != n:
        raise FormatError(f"begin, end and strides have {len(firsts)}, {len(lasts)} and {n} entries")

    def bit(mask: str, i: int) -> bool:
        return bool(masks[mask] >> i & 1)

    used = sum(not (bit("ellipsis", i) or bit("new_axis", i)) for i in range(n))
    if used > rank or sum(bit("ellipsis", i) for i in range(n)) > 1:
        raise FormatError(f"{used} indices for a tensor of rank {rank}, or more than one ellipsis")
    cuts: list[tuple[Any, Any, int, int]] = []  # start, stop, axis, step
    shrink: list[int] = []
    new: list[int] = []
    dim = place = 0  # of x, of the result before dims are dropped
    for i in range(n):
        if bit("ellipsis", i):
            dim += rank - used
            place += rank - used
            continue
        if bit("new_axis", i):
            new.append(place)
            place += 1
            continue
        one = bit("shrink_axis", i)
        step = 1 if one else steps[i]
        if step == 0:
            raise FormatError("a stride of 0")
        first, last = firsts[i], lasts[i]
        if offset and not bit("end", i):
            last = _added(c, first, last)
        if bit("begin", i) and not one:
            first = 0 if step > 0 else END
        if one:
            last = _next_one(c, first)
            shrink.append(place)
        elif bit("end", i):
            last = END if step > 0 else -END
        if one or not (_is(first, 0 if step > 0 else END) and _is(last, END) and step == 1):
            cuts.append((first, last, dim, step))
        dim += 1
        place += 1
    if cuts:
        starts, stops, axes, strides = zip(*cuts, strict=True)
        x = c.op("slice", x, vector(c, starts), vector(c, stops), c.i64(*axes), c.i64(*strides))
    if new:
        x = c.op("unsqueeze", x, c.i64(*new))
    if shrink:
        x = c.op("squeeze", x, c.i64(*shrink))
    return x if cuts or new or shrink else c.op("identity", x)


def entries(c: Emitter, v: Value) -> list[Any]:
    """The entries of an int64 vector: ints where known while importing, else vectors of one."""
    known = c.sizes(v)
    (count,) = c.dims_of(v, 1, f"'{v.name}', a list of indices,")
    if not isinstance(count, int):
        raise UnsupportedError(f"'{v.name}', a list of indices, is of unknown length")
    if count > 64:  # a length that a file only claims would keep us busy
        raise FormatError(
            f"'{v.name}': {count} indices; expected at most one for each dim of a tensor and each new one"
        )
    out: list[Any] = []
    for k in range(count):
        d = known[k] if known is not None else None
        out.append(d if isinstance(d, int) else c.op("slice", v, c.i64(k), c.i64(k + 1), c.i64(0)))
    return out


def vector(c: Emitter, items: Iterable[Any]) -> Value:
    """Ints and vectors of one as an int64 vector."""
    items = list(items)
    if all(isinstance(i, int) for i in items):
        return c.i64(*items)
    each = [c.i64(i) if isinstance(i, int) else i for i in items]
    return each[0] if len(each) == 1 else c.op("concat", *each, axis=0)


def _is(item: Any, n: int) -> bool:
    return isinstance(item, int) and item == n


def _added(c: Emitter, a: Any, b: Any) -> Any:
    return a + b if isinstance(a, int) and isinstance(b, int) else c.op("add", vector(c, [a]), vector(c, [b]))


def _next_one(c: Emitter, first: Any) -> Any:
    """End of the slice that holds one element: behind -1 comes the end."""
    if isinstance(first, int):
        return first + 1 if first != -1 else END
    after = c.op("add", first, c.i64(1))
    return c.op("where", c.op("equal", first, c.i64(-1)), c.i64(END), after)


def symmetric_pad(c: Emitter, x: Value, pads: np.ndarray) -> Value:
    """The border mirrored with its edge repeated; pads [n, 2]."""
    if len(pads) != c.rank(x):
        raise FormatError(f"{len(pads)} pairs of padding; expected {c.rank(x)}")
    for axis, (before, after) in enumerate(pads.tolist()):
        size = c.shape(x)[axis]
        if isinstance(size, int) and max(before, after) > size:
            raise FormatError(f"symmetric padding of {before} and {after} along a dim of {size}")
        pieces = []
        if before:
            pieces.append(_mirrored(c, x, axis, 0, before))
        pieces.append(x)
        if after:
            pieces.append(_mirrored(c, x, axis, -after, END))
        x = x if len(pieces) == 1 else c.op("concat", *pieces, axis=axis)
    return x


def _mirrored(c: Emitter, x: Value, axis: int, start: int, end: int) -> Value:
    return c.op("reverse", c.op("slice", x, c.i64(start), c.i64(end), c.i64(axis)), axes=(axis,))


def _sizes_of(c: Emitter, dims: list[DimLike], x: Value, divide: dict[int, int]) -> list[Any]:
    """Entries for dims of x: ints where known; a symbolic dim i is x's dim divided by divide[i]."""
    out: list[Any] = []
    for i, d in enumerate(dims):
        if isinstance(d, int):
            out.append(d)
            continue
        v = c.dims(x, i, i + 1)
        out.append(v if divide.get(i, 1) == 1 else c.op("floor_div", v, c.i64(divide[i])))
    return out


def _check_blocks(block: list[int], margins: np.ndarray, rank: int) -> None:
    if not len(block) == len(margins) < rank or min(block, default=1) < 1:
        raise FormatError(
            f"blocks {block} with {len(margins)} pairs of margins for rank {rank}; expected one pair for each block of 1 or "
            "more, and fewer blocks than dims"
        )


def space_to_batch(c: Emitter, x: Value, block: list[int], pads: np.ndarray, zero: Value | None = None) -> Value:
    """Pad (with ``zero``), then move blocks of each spatial dim to the front of the batch."""
    rank, m = c.rank(x), len(block)
    _check_blocks(block, pads, rank)
    if pads.any():
        full = np.zeros((rank, 2), np.int64)
        full[1 : 1 + m] = pads
        x = c.op("pad", x, c.i64(*full.T.reshape(-1).tolist()), zero)
    dims = list(c.shape(x))
    inside = [d // block[i - 1] if 1 <= i <= m else d for i, d in enumerate(dims)]
    each = _sizes_of(c, inside, x, {i + 1: n for i, n in enumerate(block)})
    split: list[Any] = [each[0]]
    for i in range(m):
        split += [each[i + 1], block[i]]
    split += each[1 + m :]
    y = c.op("reshape", x, vector(c, split))
    inner = [2 + 2 * i for i in range(m)]
    outer = [1 + 2 * i for i in range(m)]
    y = c.op("transpose", y, perm=(*inner, 0, *outer, *range(1 + 2 * m, rank + m)))
    batch = each[0] * int(np.prod(block)) if isinstance(each[0], int) else -1
    return c.op("reshape", y, vector(c, [batch, *each[1:]]))


def batch_to_space(c: Emitter, x: Value, block: list[int], crops: np.ndarray) -> Value:
    """The inverse: blocks come back from the front of the batch, then the margins are cut off."""
    rank, m, area = c.rank(x), len(block), int(np.prod(block))
    _check_blocks(block, crops, rank)
    each = _sizes_of(c, list(c.shape(x)), x, {})
    batch = each[0] // area if isinstance(each[0], int) else -1
    y = c.op("reshape", x, vector(c, [*block, batch, *each[1:]]))
    perm = [m]
    for i in range(m):
        perm += [m + 1 + i, i]
    y = c.op("transpose", y, perm=(*perm, *range(2 * m + 1, rank + m)))
    merged = [
        d * block[i] if isinstance(d, int) else c.op("mul", d, c.i64(block[i])) for i, d in enumerate(each[1 : 1 + m])
    ]
    y = c.op("reshape", y, vector(c, [batch, *merged, *each[1 + m :]]))
    if not crops.any():
        return y
    ends = [-int(e) if e else END for _, e in crops]
    return c.op("slice", y, c.i64(*(int(b) for b, _ in crops)), c.i64(*ends), c.i64(*range(1, m + 1)))
