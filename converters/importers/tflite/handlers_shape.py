"""Ops that reshape, join, cut, pad and rearrange; shape arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.tflite.call import Call, Complex, Item, handles, same_quant
from deploykit.converters.ir.tensorflow import END, slice_sized, split_sizes
from deploykit.errors import FormatError
from deploykit.graph import Value
from deploykit.graph.dims import DimLike


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
    (axis,) = c.ints(0, "the axis")
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
    (axis,) = c.ints(2, "the axis")
    return split_sizes(c, x, c.ints(1, "the sizes"), axis)


# ---- slices
@handles("SLICE")
def slice_(c: Call) -> Value:
    """x[begin : begin + size]; a size of -1 means all that is left."""
    return slice_sized(c, c.moved(), c.i64_of(1), c.i64_of(2))


@handles("STRIDED_SLICE")
def strided_slice(c: Call) -> Value:
    """NumPy-like slicing; masks say which entries of begin and end count, are new dims, or pick one element."""
    o = c.options("StridedSliceOptions")
    x = c.moved()
    begin, end = entries(c, 1), entries(c, 2)
    steps = c.ints(3, "the strides")
    n, rank = len(steps), c.rank(x)
    if len(begin) != n or len(end) != n:
        raise FormatError(f"begin, end and strides have {len(begin)}, {len(end)} and {n} entries")
    ellipsis = [i for i in range(n) if o.ellipsis_mask >> i & 1]
    if len(ellipsis) > 1:
        raise FormatError("more than one ellipsis")
    used = sum(1 for i in range(n) if not (o.ellipsis_mask >> i & 1 or o.new_axis_mask >> i & 1))
    if used > rank:
        raise FormatError(f"{used} indices for a tensor of rank {rank}")
    starts: list[Any] = []
    stops: list[Any] = []
    axes: list[int] = []
    strides: list[int] = []
    shrink: list[int] = []
    new: list[int] = []
    dim = place = 0  # of x, of the result before dims are dropped
    for i in range(n):
        if o.ellipsis_mask >> i & 1:
            dim += rank - used
            place += rank - used
        elif o.new_axis_mask >> i & 1:
            new.append(place)
            place += 1
        else:
            one = bool(o.shrink_axis_mask >> i & 1)
            step = 1 if one else steps[i]
            if step == 0:
                raise FormatError("a stride of 0")
            first: Any = begin[i]
            last: Any = end[i]
            if o.offset and not o.end_mask >> i & 1:
                last = added(c, first, last)
            if o.begin_mask >> i & 1 and not one:
                first = 0 if step > 0 else END
            if one:
                last = next_one(c, first)
            elif o.end_mask >> i & 1:
                last = END if step > 0 else -END
            if one or not (same_number(first, 0 if step > 0 else END) and same_number(last, END) and step == 1):
                starts.append(first)
                stops.append(last)
                axes.append(dim)
                strides.append(step)
            if one:
                shrink.append(place)
            dim += 1
            place += 1
    if axes:
        x = c.op("slice", x, vector(c, starts), vector(c, stops), c.i64(*axes), c.i64(*strides))
    if new:
        x = c.op("unsqueeze", x, c.i64(*new))
    if shrink:
        x = c.op("squeeze", x, c.i64(*shrink))
    return x if axes or new or shrink else c.op("identity", x)


def entries(c: Call, i: int) -> list[Any]:
    """The entries of an index vector: ints where known while importing, else int64 vectors of one."""
    v = c.i64_of(i)
    known = c.sizes(v)
    (count,) = c.shape(v)
    if not isinstance(count, int):
        raise c.unsupported(f"input {i} of unknown length")
    out: list[Any] = []
    for k in range(count):
        d = known[k] if known is not None else None
        out.append(d if isinstance(d, int) else c.op("slice", v, c.i64(k), c.i64(k + 1), c.i64(0)))
    return out


def vector(c: Call, items: list[Any]) -> Value:
    """Ints and vectors of one as an int64 vector."""
    if all(isinstance(i, int) for i in items):
        return c.i64(*items)
    each = [c.i64(i) if isinstance(i, int) else i for i in items]
    return each[0] if len(each) == 1 else c.op("concat", *each, axis=0)


def same_number(item: Any, n: int) -> bool:
    """Whether an entry is known to be n."""
    return isinstance(item, int) and item == n


def added(c: Call, a: Any, b: Any) -> Any:
    """Sum of two entries."""
    return a + b if isinstance(a, int) and isinstance(b, int) else c.op("add", vector(c, [a]), vector(c, [b]))


def next_one(c: Call, first: Any) -> Any:
    """End of the slice that holds one element: behind -1 comes the end."""
    if isinstance(first, int):
        return first + 1 if first != -1 else END
    after = c.op("add", first, c.i64(1))
    return c.op("where", c.op("equal", first, c.i64(-1)), c.i64(END), after)


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
    for axis, (before, after) in enumerate(c.static(1, "the padding").reshape(-1, 2).tolist()):
        pieces = []
        if before:
            pieces.append(mirrored(c, x, axis, 0, before))
        pieces.append(x)
        if after:
            pieces.append(mirrored(c, x, axis, -after, END))
        x = x if len(pieces) == 1 else c.op("concat", *pieces, axis=axis)
    return x


def mirrored(c: Call, x: Value, axis: int, start: int, end: int) -> Value:
    """A piece of x, flipped."""
    return c.op("reverse", c.op("slice", x, c.i64(start), c.i64(end), c.i64(axis)), axes=(axis,))


# ---- blocks
@handles("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
def depth_and_space(c: Call) -> Value:
    o = c.options("SpaceToDepthOptions" if c.op_type == "SPACE_TO_DEPTH" else "DepthToSpaceOptions")
    return c.op(c.op_type.lower(), c.moved(), block=o.block_size)


def dims_vector(c: Call, dims: list[DimLike], x: Value, scale: dict[int, tuple[int, int]]) -> list[Any]:
    """Entries for dims of x: ints where known; a symbolic dim i is x's dim times a, divided by b (scale[i])."""
    out: list[Any] = []
    for i, d in enumerate(dims):
        if isinstance(d, int):
            out.append(d)
            continue
        v = c.dims(x, i, i + 1)
        a, b = scale.get(i, (1, 1))
        if a != 1:
            v = c.op("mul", v, c.i64(a))
        if b != 1:
            v = c.op("floor_div", v, c.i64(b))
        out.append(v)
    return out


@handles("SPACE_TO_BATCH_ND")
def space_to_batch(c: Call) -> Value:
    """Pad, then move blocks of each spatial dim to the front of the batch."""
    block = c.ints(1, "the block")
    pads = c.static(2, "the padding").reshape(-1, 2)
    m = len(block)
    q = c.out_quant()
    x = c.moved()
    rank = c.rank(x)
    if pads.any():
        full = np.zeros((rank, 2), np.int64)
        full[1 : 1 + m] = pads
        zero = c.const(q.zero_point) if q is not None and x.dtype is not None and x.dtype.kind != "f" else None
        x = c.op("pad", x, c.i64(*full.T.reshape(-1).tolist()), zero)
    dims = list(c.shape(x))
    each = dims_vector(
        c,
        [d // block[i - 1] if 1 <= i <= m else d for i, d in enumerate(dims)],
        x,
        {i + 1: (1, b) for i, b in enumerate(block)},
    )
    split: list[Any] = [each[0]]
    for i in range(m):
        split += [each[i + 1], block[i]]
    split += each[1 + m :]
    y = c.op("reshape", x, vector(c, split))
    inner = [2 + 2 * i for i in range(m)]
    outer = [1 + 2 * i for i in range(m)]
    y = c.op("transpose", y, perm=(*inner, 0, *outer, *range(1 + 2 * m, rank + m)))
    return c.op(
        "reshape", y, vector(c, [-1 if not isinstance(each[0], int) else each[0] * int(np.prod(block)), *each[1:]])
    )


@handles("BATCH_TO_SPACE_ND")
def batch_to_space(c: Call) -> Value:
    """The inverse: blocks come back from the front of the batch, then the margins are cut off."""
    block = c.ints(1, "the block")
    crops = c.static(2, "the crops").reshape(-1, 2)
    m = len(block)
    x = c.moved()
    rank, dims = c.rank(x), list(c.shape(x))
    each = dims_vector(c, dims, x, {})
    area = int(np.prod(block))
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
    axes = [i + 1 for i in range(m)]
    ends = [-int(e) if e else END for _, e in crops]
    return c.op("slice", y, c.i64(*(int(b) for b, _ in crops)), c.i64(*ends), c.i64(*axes))


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
