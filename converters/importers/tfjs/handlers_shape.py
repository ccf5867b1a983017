"""Ops that reshape, join, cut, pad, gather and make tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tfjs.call import Call, handles
from deploykit.converters.ir import tensorflow
from deploykit.converters.ir.tensorflow import END, slice_sized, split_sizes
from deploykit.errors import FormatError, LimitError, UnsupportedError
from deploykit.graph import Value, growth


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
    n = c.whole("num", c.shape(x)[axis])
    if not 0 < n <= growth.NODES:
        raise LimitError(f"{n} pieces are refused; allowed are 1 to {growth.NODES}.")
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
    masks = {k: c.whole(f"{k}_mask", 0) for k in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    return tensorflow.strided_slice(c, c.x(0), c.vector_of(1), c.vector_of(2), c.ints(3, "the strides"), masks)


@handles("Pad", "PadV2", "MirrorPad")
def pad(c: Call) -> Value:
    x = c.x(0)
    pads = c.static(1, "the padding").reshape(-1, 2)
    vector = c.i64(*pads.T.reshape(-1).tolist())
    if c.op_type != "MirrorPad":
        return c.op("pad", x, vector, c.cast(c.x(2), x.dtype) if c.n > 2 else None)
    if c.attr("mode") == "REFLECT":
        return c.op("pad", x, vector, mode="reflect")
    return tensorflow.symmetric_pad(c, x, pads)


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
        "depth_to_space" if c.op_type == "DepthToSpace" else "space_to_depth", c.x(), block=c.whole("block_size")
    )


@handles("SpaceToBatchND")
def space_to_batch(c: Call) -> Value:
    return tensorflow.space_to_batch(c, c.x(0), c.ints(1, "the block"), c.static(2, "the padding").reshape(-1, 2))


@handles("BatchToSpaceND")
def batch_to_space(c: Call) -> Value:
    return tensorflow.batch_to_space(c, c.x(0), c.ints(1, "the block"), c.static(2, "the crops").reshape(-1, 2))


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
