"""Ops that reshape, join, cut, pad and rearrange; shape arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, Complex, Item, handles, same_quant
from deploykit.converters.ir import tensorflow
from deploykit.converters.ir.tensorflow import slice_sized, split_sizes
from deploykit.errors import FormatError
from deploykit.graph import Value


@handles("RESHAPE")
def reshape(c: Call) -> Item:
    item = c.item(0)
    x = item.parts if isinstance(item, Complex) else c.moved()
    if c.n > 1 and c.item(1) is not None:
        shape = c.i64_of(1)
        if c.rank(shape) != 1:
            shape = c.reshape(shape, -1)
    else:
        new = c.options("ReshapeOptions").new_shape
        shape = c.i64(*([] if new is None else [int(d) for d in new]))
        if c.known(shape) is not None and list(c.known(shape)) == [0]:  # old converters wrote a scalar so
            shape = c.i64()
    if isinstance(item, Complex):
        return Complex(c.op("reshape", x, c.op("concat", shape, c.i64(2), axis=0), allow_zero=True))
    return c.op("reshape", x, shape, allow_zero=True)


@handles("SQUEEZE")
def squeeze(c: Call) -> Value:
    axes = c.options("SqueezeOptions").squeeze_dims
    return c.op("squeeze", c.moved(), c.i64(*(int(a) for a in axes)) if axes is not None and axes.size else None)


@handles("EXPAND_DIMS")
def expand_dims(c: Call) -> Value:
    return c.op("unsqueeze", c.moved(), c.i64(*c.ints(1, "the axis")))


@handles("TRANSPOSE")
def transpose(c: Call) -> Value:
    return c.op("transpose", c.moved(), perm=tuple(c.ints(1, "the permutation")))


@handles("CONCATENATION")
def concatenation(c: Call) -> Value:
    o = c.options("ConcatenationOptions")
    xs = parts(c, range(c.n))
    y = xs[0] if len(xs) == 1 else c.op("concat", *xs, axis=o.axis)
    return c.act(y, o.fused_activation_function)


def parts(c: Call, which: Any) -> list[Value]:
    """Inputs to be joined: integers when all of them and the result have one scale, else numbers."""
    q = c.out_quant()
    alike = all(c.same(i, q) for i in which)
    return [c.raw(i) if alike else c.x(i) for i in which]


@handles("PACK")
def pack(c: Call) -> Value:
    axis = c.options("PackOptions").axis
    if not c.n:
        raise FormatError("it has no inputs; expected at least one")
    xs = parts(c, range(c.n))
    axis = c.axis(axis, c.rank(xs[0]) + 1)
    each = [c.op("unsqueeze", x, c.i64(axis)) for x in xs]
    return each[0] if len(each) == 1 else c.op("concat", *each, axis=axis)


@handles("UNPACK")
def unpack(c: Call) -> list[Value]:
    axis = c.options("UnpackOptions").axis
    x = c.moved()
    axis = c.axis(axis, c.rank(x))
    n = len(c.outputs)
    if n == 0:
        return []
    cut = [x] if n == 1 else c.op("split", x, c.i64(*[1] * n), outputs=n, axis=axis)
    return [c.op("squeeze", p, c.i64(axis)) for p in cut]


@handles("SPLIT")
def split(c: Call) -> Any:
    x = c.moved(1)
    axis = c.one(0, "the axis")
    axis, n = c.axis(axis, c.rank(x)), len(c.outputs)
    size = c.shape(x)[axis]
    if isinstance(size, int) and size % n:
        raise FormatError(f"dim {axis} of {size} cannot be split into {n} equal parts")
    if n == 1:
        return c.op("identity", x)
    return c.op("split", x, outputs=n, axis=axis)


@handles("SPLIT_V")
def split_v(c: Call) -> Any:
    x = c.moved(0)
    axis = c.one(2, "the axis")
    return split_sizes(c, x, c.ints(1, "the sizes"), axis)


# ---- slices
@handles("SLICE")
def slice_(c: Call) -> Value:
    """x[begin : begin + size]; a size of -1 means all that is left."""
    return slice_sized(c, c.moved(), c.i64_of(1), c.i64_of(2))


@handles("STRIDED_SLICE")
def strided_slice(c: Call) -> Value:
    o = c.options("StridedSliceOptions")
    masks = {k: getattr(o, f"{k}_mask") for k in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    steps = c.ints(3, "the strides")
    return tensorflow.strided_slice(c, c.moved(), c.i64_of(1), c.i64_of(2), steps, masks, bool(o.offset))


# ---- padding
def pad_vector(c: Call, i: int) -> Value:
    """[n, 2] paddings as all befores, then all afters."""
    p = c.i64_of(i)
    return c.reshape(c.transpose(p, (1, 0)), -1)


@handles("PAD", "PADV2")
def pad(c: Call) -> Value:
    """Padded with a value, by default the real number 0: for integers their zero point."""
    q = c.out_quant()
    alike = same_quant(c.quant(0), q) and (c.n < 3 or c.same(2, q))
    x = c.raw(0) if alike else c.x(0)
    value = None
    if c.n > 2 and c.item(2) is not None:
        value = c.raw(2) if alike else c.x(2)
        if c.rank(value) != 0:
            value = c.reshape(value)
    elif alike and q is not None and q.axis is None:
        value = c.const(q.zero_point)
    return c.op("pad", x, pad_vector(c, 1), value)


@handles("MIRROR_PAD")
def mirror_pad(c: Call) -> Value:
    """REFLECT leaves the edge out of the mirror image, SYMMETRIC repeats it."""
    x = c.moved()
    if c.options("MirrorPadOptions").mode == 0:
        return c.op("pad", x, pad_vector(c, 1), mode="reflect")
    return tensorflow.symmetric_pad(c, x, c.static(1, "the padding").reshape(-1, 2))


# ---- blocks
@handles("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
def depth_and_space(c: Call) -> Value:
    o = c.options("SpaceToDepthOptions" if c.op_type == "SPACE_TO_DEPTH" else "DepthToSpaceOptions")
    return c.op(c.op_type.lower(), c.moved(), block=o.block_size)


@handles("SPACE_TO_BATCH_ND")
def space_to_batch(c: Call) -> Value:
    q, x = c.out_quant(), c.moved()
    zero = c.const(q.zero_point) if q is not None and x.dtype is not None and x.dtype.kind != "f" else None
    pads = c.static(2, "the padding").reshape(-1, 2)
    return tensorflow.space_to_batch(c, x, c.ints(1, "the block"), pads, zero)


@handles("BATCH_TO_SPACE_ND")
def batch_to_space(c: Call) -> Value:
    crops = c.static(2, "the crops").reshape(-1, 2)
    return tensorflow.batch_to_space(c, c.moved(), c.ints(1, "the block"), crops)


# ---- making tensors
@handles("SHAPE")
def shape(c: Call) -> Value:
    return c.dims(c.raw())


@handles("RANK")
def rank(c: Call) -> Value:
    return c.const(np.int32(c.rank(c.raw())))


@handles("FILL")
def fill(c: Call) -> Value:
    value = c.raw(1) if same_quant(c.quant(1), c.out_quant()) else c.x(1)
    return c.op("fill", c.i64_of(0), value if c.rank(value) == 0 else c.reshape(value))


@handles("ZEROS_LIKE")
def zeros_like(c: Call) -> Value:
    x = c.raw()
    return c.op("fill", c.dims(x), c.scalar(0, x))


@handles("RANGE")
def range_(c: Call) -> Value:
    return c.op("range", *(v if c.rank(v) == 0 else c.reshape(v) for v in (c.x(i) for i in range(3))))


@handles("BROADCAST_TO")
def broadcast_to(c: Call) -> Value:
    return c.op("expand", c.moved(), c.i64_of(1))


@handles("BROADCAST_ARGS")
def broadcast_args(c: Call) -> Value:
    """The shape that two shapes broadcast to."""
    a, b = c.i64_of(0), c.i64_of(1)
    x = c.op("fill", a, c.const(np.int8(0)))
    return c.dims(c.op("expand", x, b))


@handles("TILE")
def tile(c: Call) -> Value:
    return c.op("tile", c.moved(), c.i64_of(1))


@handles("REVERSE_V2")
def reverse(c: Call) -> Value:
    return c.op("reverse", c.moved(), axes=tuple(c.ints(1, "the axes")))


@handles("REVERSE_SEQUENCE")
def reverse_sequence(c: Call) -> Value:
    o = c.options("ReverseSequenceOptions")
    return c.op("reverse_sequence", c.moved(), c.i64_of(1), batch_axis=o.batch_dim, time_axis=o.seq_dim)


@handles("MATRIX_DIAG")
def matrix_diag(c: Call) -> Value:
    x = c.moved()
    return on_diagonal(c, x, c.op("fill", c.const(np.array([], np.int64)), c.scalar(0, x)), None)


@handles("MATRIX_SET_DIAG")
def matrix_set_diag(c: Call) -> Value:
    return on_diagonal(c, c.moved(1), c.moved(0), c.moved(0))


def on_diagonal(c: Call, diagonal: Value, rest: Value, like: Value | None) -> Value:
    """A matrix with these elements on its main diagonal and ``rest`` elsewhere."""
    n = c.dims(diagonal, -1)
    size = c.op("concat", n, n, axis=0) if like is None else c.dims(like, -2)
    eye = c.op("eye_like", c.op("fill", size, c.const(np.int8(0))), dtype="bool")
    if like is not None:  # rows below a square have no element of the diagonal: stretch it, the eye leaves them out
        rows = c.dims(like, -2, -1)
        room = c.op("sub", rows, n)
        zeros = c.i64(*[0] * (2 * c.rank(diagonal) - 1))
        at = c.op("concat", zeros, c.op("maximum", room, c.i64(0)), axis=0)
        column = c.op("unsqueeze", c.op("pad", diagonal, at), c.i64(-1))
        return c.op("where", eye, column, rest)
    return c.op("where", eye, c.op("unsqueeze", diagonal, c.i64(-1)), rest)


@handles("DILATE")
def dilate(c: Call) -> Value:
    """Elements moved apart, the gaps filled with a value."""
    x, value = c.raw(0), c.raw(2)
    value = value if c.rank(value) == 0 else c.reshape(value)
    for axis, step in enumerate(c.ints(1, "the dilations")):
        if step == 1:
            continue
        r = c.rank(x)
        wide = c.op("unsqueeze", x, c.i64(axis + 1))
        pads = [0] * (2 * (r + 1))
        pads[r + 1 + axis + 1] = step - 1
        wide = c.op("pad", wide, c.i64(*pads), value)
        parts = [c.dims(x, 0, axis), c.i64(-1), c.dims(x, axis + 1, r)]
        x = c.op("reshape", wide, c.op("concat", *parts, axis=0))
        x = c.op("slice", x, c.i64(0), c.i64(1 - step), c.i64(axis))
    return x
