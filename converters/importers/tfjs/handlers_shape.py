"""Ops that reshape, join, cut, pad, gather and make tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tfjs.call import Call, handles
from deploykit.converters.ir.tensorflow import END, slice_sized, split_sizes
from deploykit.errors import FormatError, UnsupportedError
from deploykit.graph import Value


@handles("Reshape")
def reshape(c: Call) -> Value:
    return c.op("reshape", c.x(0), c.vector_of(1), allow_zero=True)


@handles("Squeeze")
def squeeze(c: Call) -> Value:
    axes = c.attr("squeeze_dims") or c.attr("axis") or []
    return c.op("squeeze", c.x(), c.i64(*axes) if axes else None)


@handles("ExpandDims")
def expand_dims(c: Call) -> Value:
    axis = c.ints(1, "the axis")[0] if c.n > 1 else int(c.attr("dim", 0))
    return c.op("unsqueeze", c.x(0), c.i64(axis))


@handles("Transpose")
def transpose(c: Call) -> Value:
    return c.op("transpose", c.x(0), perm=tuple(c.ints(1, "the permutation")))


@handles("ConcatV2", "Concat")
def concat(c: Call) -> Value:
    last = c.op_type == "ConcatV2"
    axis = c.ints(c.n - 1 if last else 0, "the axis")[0]
    xs = c.items[:-1] if last else c.items[1:]
    return xs[0] if len(xs) == 1 else c.op("concat", *c.same_type(*xs), axis=axis)


@handles("Pack")
def pack(c: Call) -> Value:
    axis = c.axis(int(c.attr("axis", 0)), c.rank(c.x(0)) + 1)
    each = [c.op("unsqueeze", x, c.i64(axis)) for x in c.same_type(*c.items)]
    return each[0] if len(each) == 1 else c.op("concat", *each, axis=axis)


@handles("Unpack")
def unpack(c: Call) -> list[Value]:
    x = c.x()
    axis = c.axis(int(c.attr("axis", 0)), c.rank(x))
    n = int(c.attr("num", c.shape(x)[axis]))
    cut = [x] if n == 1 else c.op("split", x, c.i64(*[1] * n), outputs=n, axis=axis)
    return [c.op("squeeze", p, c.i64(axis)) for p in cut]


@handles("Split", "SplitV")
def split(c: Call) -> Any:
    if c.op_type == "Split":
        (axis,), x, n = c.ints(0, "the axis"), c.x(1), int(c.attr("num_split", 1))
        axis = c.axis(axis, c.rank(x))
        size = c.shape(x)[axis]
        if not isinstance(size, int) or n < 1 or size % n:
            raise FormatError(f"dim {axis} of {size} cannot be split into {n} equal parts")
        sizes = [size // n] * n
    else:
        x, sizes, (axis,) = c.x(0), c.ints(1, "the sizes"), c.ints(2, "the axis")
    return split_sizes(c, x, sizes, axis)


@handles("Slice")
def slice_(c: Call) -> Value:
    """x[begin : begin + size]; a size of -1 means all that is left."""
    return slice_sized(c, c.x(0), c.vector_of(1), c.vector_of(2))


@handles("StridedSlice")
def strided_slice(c: Call) -> Value:
    """NumPy-like slicing with constant bounds; masks say which of them count, are new dims, or pick one element."""
    x, rank = c.x(0), c.rank(c.x(0))
    begin, end, steps = (c.ints(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "the strides")))
    mask = {k: int(c.attr(f"{k}_mask", 0)) for k in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    n = len(steps)
    if len(begin) != n or len(end) != n:
        raise FormatError(f"begin, end and strides have {len(begin)}, {len(end)} and {n} entries")
    bit = lambda k, i: bool(mask[k] >> i & 1)  # noqa: E731
    used = sum(not (bit("ellipsis", i) or bit("new_axis", i)) for i in range(n))
    if used > rank or sum(bit("ellipsis", i) for i in range(n)) > 1:
        raise FormatError(f"{used} indices for a tensor of rank {rank}, or more than one ellipsis")
    cuts: list[tuple[int, int, int, int]] = []  # axis, start, stop, step
    new: list[int] = []
    shrink: list[int] = []
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
        start = begin[i] if one or not bit("begin", i) else 0 if step > 0 else END
        stop = END if step > 0 else -END
        if one:
            stop = start + 1 if start != -1 else END
            shrink.append(place)
        elif not bit("end", i):
            stop = end[i]
        cuts.append((dim, start, stop, step))
        dim += 1
        place += 1
    if cuts:
        axes, starts, stops, strides = (c.i64(*v) for v in zip(*cuts, strict=True))
        x = c.op("slice", x, starts, stops, axes, strides)
    if new:
        x = c.op("unsqueeze", x, c.i64(*new))
    if shrink:
        x = c.op("squeeze", x, c.i64(*shrink))
    return x if cuts or new else c.op("identity", x)


@handles("Pad", "PadV2", "MirrorPad")
def pad(c: Call) -> Value:
    x = c.x(0)
    pads = c.static(1, "the padding").reshape(-1, 2)
    vector = c.i64(*pads.T.reshape(-1).tolist())
    if c.op_type != "MirrorPad":
        return c.op("pad", x, vector, c.cast(c.x(2), x.dtype) if c.n > 2 else None)
    if c.attr("mode") == "REFLECT":
        return c.op("pad", x, vector, mode="reflect")
    for axis, (before, after) in enumerate(pads.tolist()):  # SYMMETRIC repeats the border itself
        size = c.shape(x)[axis]
        if not before and not after:
            continue
        if not isinstance(size, int) or max(before, after) > size:
            raise UnsupportedError(f"symmetric padding of {before} and {after} along a dim of {size}")
        back = c.op("reverse", x, axes=(axis,))
        cut = lambda a, b, axis=axis, back=back: c.op("slice", back, c.i64(a), c.i64(b), c.i64(axis))  # noqa: E731
        parts = [cut(size - before, size)] * bool(before) + [x] + [cut(0, after)] * bool(after)
        x = c.op("concat", *parts, axis=axis)
    return x


@handles("Tile")
def tile(c: Call) -> Value:
    return c.op("tile", c.x(0), c.vector_of(1))


@handles("BroadcastTo")
def broadcast_to(c: Call) -> Value:
    return c.op("expand", c.x(0), c.vector_of(1))


@handles("Reverse", "ReverseV2")
def reverse(c: Call) -> Value:
    rank = c.rank(c.x(0))
    axes = c.ints(1, "the axes") if c.op_type == "ReverseV2" else [i for i, d in enumerate(c.ints(1, "the dims")) if d]
    axes = [c.axis(a, rank) for a in axes]
    return c.op("reverse", c.x(0), axes=tuple(axes)) if axes else c.op("identity", c.x(0))


@handles("DepthToSpace", "SpaceToDepth")
def depth_and_space(c: Call) -> Value:
    c.channels_last()
    return c.op(
        "depth_to_space" if c.op_type == "DepthToSpace" else "space_to_depth", c.x(), block=int(c.attr("block_size"))
    )


@handles("SpaceToBatchND")
def space_to_batch(c: Call) -> Value:
    """Pad, then move blocks of each spatial dim to the front of the batch."""
    block, pads, x = c.ints(1, "the block"), c.static(2, "the padding").reshape(-1, 2), c.x(0)
    rank, m = c.rank(x), len(block)
    if pads.any():
        full = np.zeros((rank, 2), np.int64)
        full[1 : 1 + m] = pads
        x = c.op("pad", x, c.i64(*full.T.reshape(-1).tolist()))
    dims = known_dims(c, x)
    split = [-1]
    for i in range(m):
        split += [dims[i + 1] // block[i], block[i]]
    y = c.reshape(x, *split, *dims[1 + m :])
    y = c.transpose(y, (*(2 + 2 * i for i in range(m)), 0, *(1 + 2 * i for i in range(m)), *range(1 + 2 * m, rank + m)))
    return c.reshape(y, -1, *(d // b for d, b in zip(dims[1 : 1 + m], block, strict=True)), *dims[1 + m :])


@handles("BatchToSpaceND")
def batch_to_space(c: Call) -> Value:
    """The inverse: blocks come back from the front of the batch, then the margins are cut off."""
    block, crops, x = c.ints(1, "the block"), c.static(2, "the crops").reshape(-1, 2), c.x(0)
    rank, m, dims = c.rank(x), len(block), known_dims(c, x)
    y = c.reshape(x, *block, -1, *dims[1:])
    perm = [m]
    for i in range(m):
        perm += [m + 1 + i, i]
    y = c.transpose(y, (*perm, *range(2 * m + 1, rank + m)))
    y = c.reshape(y, -1, *(d * b for d, b in zip(dims[1 : 1 + m], block, strict=True)), *dims[1 + m :])
    if not crops.any():
        return y
    ends = [-int(e) if e else END for _, e in crops]
    return c.op("slice", y, c.i64(*(int(b) for b, _ in crops)), c.i64(*ends), c.i64(*range(1, m + 1)))


def known_dims(c: Call, x: Value) -> list[int]:
    """The dims of x, numbers but for the first."""
    dims = list(c.shape(x))
    if not all(isinstance(d, int) for d in dims[1:]):
        raise UnsupportedError("height and width of the input are not known; give them with --input-shape")
    return dims


# ---- gathering
@handles("Gather", "GatherV2", "GatherNd")
def gather(c: Call) -> Value:
    if c.op_type == "GatherNd":
        return c.op("gather_nd", c.x(0), c.i64_of(1))
    if int(c.attr("batch_dims", 0)):
        raise UnsupportedError("gathering with batch_dims")
    return c.op("gather", c.x(0), c.i64_of(1), axis=c.ints(2, "the axis")[0] if c.n > 2 else 0)


@handles("OneHot")
def one_hot(c: Call) -> Value:
    values = c.op("concat", c.reshape(c.x(3), 1), c.reshape(c.x(2), 1), axis=0)
    depth = c.const(np.int64(c.ints(1, "the depth")[0]))
    hit = c.i64_of(0)  # a negative index is nobody's here; ours counts from the end
    hit = c.op("where", c.op("less", hit, c.const(np.int64(0))), c.const(np.int64(END)), hit)
    return c.op("one_hot", hit, depth, values, axis=int(c.attr("axis", -1)))


@handles("TopKV2")
def top_k(c: Call) -> list[Value]:
    values, at = c.op("top_k", c.x(0), c.reshape(c.i64_of(1), 1), outputs=2, axis=-1)
    return [values, c.cast(at, "int32")]


@handles("NonMaxSuppressionV2", "NonMaxSuppressionV3")
def non_max_suppression(c: Call) -> Value:
    boxes, scores = c.x(0), c.x(1)
    limits = [c.reshape(c.x(i)) for i in range(3, c.n)] + [c.const(np.float32(-np.inf))] * (c.n < 5)
    kept = c.op(
        "non_max_suppression",
        c.op("unsqueeze", boxes, c.i64(0)),
        c.op("unsqueeze", scores, c.i64(0, 1)),
        c.reshape(c.i64_of(2)),
        *limits,
    )
    return c.cast(c.reshape(c.op("slice", kept, c.i64(2), c.i64(3), c.i64(1)), -1), "int32")


# ---- making tensors
@handles("Shape")
def shape(c: Call) -> Value:
    return c.cast(c.dims(c.x()), "int32")


@handles("Rank")
def rank(c: Call) -> Value:
    return c.const(np.int32(c.rank(c.x())))


@handles("Size")
def size(c: Call) -> Value:
    return c.cast(c.op("size_of", c.x()), "int32")


@handles("Fill")
def fill(c: Call) -> Value:
    return c.op("fill", c.vector_of(0), c.x(1))


@handles("ZerosLike", "OnesLike")
def like(c: Call) -> Value:
    return c.op("fill", c.dims(c.x()), c.scalar(0 if c.op_type == "ZerosLike" else 1, c.x()))


@handles("Range")
def range_(c: Call) -> Value:
    return c.op("range", *c.same_type(c.x(0), c.x(1), c.x(2)))
