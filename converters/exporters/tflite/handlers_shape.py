"""Ops that reshape, join, cut, pad, gather and scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.exporters.tflite.exporter import Site, exports
from deploykit.errors import UnsupportedError
from deploykit.ops.core import F, get

_MOVABLE = ("float32", "int32", "int64", "int8", "uint8", "bool", "int16")


def movable(s: Site, i: int = 0, allowed: tuple[str, ...] = _MOVABLE) -> None:
    """Raise unless LiteRT's kernels move elements of this dtype."""
    d = s.x(i).dtype
    if d is None or d.name not in allowed:
        raise UnsupportedError(f"of {d}: TFLite moves {', '.join(allowed)}")


def known_shape(s: Site, k: int = 0) -> list[int] | None:
    """The shape of an output when every dim is a number, or one of them may be -1."""
    v = s.node.outputs[k]
    assert v is not None
    dims = s.sub.shape_of(v)
    open_ = [d for d in dims if not isinstance(d, int)]
    if len(open_) > 1 or (open_ and 0 in dims):
        return None
    return [d if isinstance(d, int) else -1 for d in dims]


@exports("reshape", "flatten", "squeeze", "unsqueeze")
def reshape(s: Site) -> None:
    shape = known_shape(s)
    if shape is not None:
        target = s.sub.i32(shape)
        s.emit("RESHAPE", [s.get(0), target], [s.result()], "ReshapeOptions", new_shape=shape)
        return
    if s.node.op == "reshape":
        zeros = s.data(1)
        if not s.attrs["allow_zero"] and (zeros is None or (zeros == 0).any()):
            if zeros is None:
                raise UnsupportedError("a shape computed at run time that may copy dims by 0")
            keep = zeros

            def filled(x: Any, _: Any) -> Any:
                dims = F.shape_of(x)
                parts = [F.slice(dims, [i], [i + 1], [0]) if d == 0 else np.array([d]) for i, d in enumerate(keep)]
                return F.reshape(x, F.concat(*parts, axis=0), allow_zero=True)

            s.compose(filled)
            return
        s.emit("RESHAPE", [s.get(0), s.as_i32(1)], [s.result()], "ReshapeOptions")
        return
    if s.node.op == "flatten":
        raise UnsupportedError("of several open dims; fix them with --input-shape")
    if s.node.op == "squeeze":
        axes = s.data(1)
        if axes is None:
            raise UnsupportedError("without known axes")
        dims = [int(a) for a in axes.reshape(-1)]
        s.emit("SQUEEZE", [s.get(0)], [s.result()], "SqueezeOptions", squeeze_dims=dims)
        return
    axes = s.static(1, "the axes")
    rank = len(s.shape()) + axes.size
    order = sorted(int(a) % rank for a in axes.reshape(-1))
    t = s.get(0)
    dims_ = [d if isinstance(d, int) else None for d in s.shape()]
    x = s.x(0)
    assert x.dtype is not None
    for i, a in enumerate(order):
        dims_.insert(a, 1)
        out = s.result() if i == len(order) - 1 else s.temp(x.dtype, list(dims_))
        s.emit("EXPAND_DIMS", [t, s.sub.i32(a)], [out], "ExpandDimsOptions")
        t = out
    if not order:
        s.alias(t)


@exports("transpose")
def transpose(s: Site) -> None:
    movable(s)
    rank = len(s.shape())
    if rank > 6:
        raise UnsupportedError(f"of {rank} dims; TFLite takes 6")
    perm = [p % rank for p in s.attrs["perm"]] if s.attrs["perm"] else list(range(rank))[::-1]
    if rank == 0:
        s.alias(s.get(0))
        return
    s.emit("TRANSPOSE", [s.get(0), s.sub.i32(perm)], [s.result()], "TransposeOptions")


@exports("concat")
def concat(s: Site) -> None:
    movable(s)
    ins = [s.get(i) for i in range(len(s.node.inputs))]
    s.emit("CONCATENATION", ins, [s.result()], "ConcatenationOptions", axis=s.attrs["axis"] % len(s.shape()))


@exports("split")
def split(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "int8", "uint8", "int16"))
    rank = len(s.shape())
    axis = s.attrs["axis"] % rank
    sizes = [v.shape[axis] if v is not None and v.shape is not None else None for v in s.node.outputs]
    given = s.data(1)
    if given is not None:
        sizes = [int(d) for d in given.reshape(-1)]
    if not all(isinstance(d, int) for d in sizes):
        raise UnsupportedError("into parts of open sizes")
    x = s.x(0)
    assert x.dtype is not None
    outs = []
    for k, v in enumerate(s.node.outputs):
        dims = [sizes[k] if i == axis else d for i, d in enumerate(s.shape())]
        outs.append(s.result(k) if v is not None else s.temp(x.dtype, dims))
    ins = [s.get(0), s.sub.i32(sizes), s.sub.i32(axis)]
    s.emit("SPLIT_V", ins, outs, "SplitVOptions", num_splits=len(outs))


@exports("slice")
def slice_(s: Site) -> None:
    """STRIDED_SLICE over all dims; clamping is the same on both sides."""
    movable(s)
    rank = len(s.shape())
    if rank > 5:
        raise UnsupportedError(f"of {rank} dims; TFLite takes 5")
    starts, ends, axes, steps = (s.data(i) for i in range(1, 5))
    for i, d in ((3, axes), (4, steps)):
        if s.value(i) is not None and d is None:
            raise UnsupportedError("axes or steps computed at run time")
    count = s.shape(1)[0] if axes is None else len(axes)
    if not isinstance(count, int):
        raise UnsupportedError("an open number of dims to cut")
    where = list(range(count)) if axes is None else [int(a) % rank for a in axes]
    step = [1] * rank
    for i, a in enumerate(where):
        step[a] = 1 if steps is None else int(steps[i])
    if starts is not None and ends is not None:
        begin, end, mask_b, mask_e = [0] * rank, [0] * rank, 0, 0
        for a in range(rank):
            if a not in where:
                mask_b |= 1 << a
                mask_e |= 1 << a
                continue
            i = where.index(a)
            b, e = int(starts[i]), int(ends[i])
            mask_b, mask_e, begin[a], end[a] = _bounds(s, a, b, e, step[a], mask_b, mask_e)
        ins = [s.get(0), s.sub.i32(begin), s.sub.i32(end), s.sub.i32(step)]
    else:
        mask_b = mask_e = 0
        for a in range(rank):
            if a not in where:
                mask_b |= 1 << a
                mask_e |= 1 << a
        ins = [s.get(0), _spread(s, 1, where, rank), _spread(s, 2, where, rank), s.sub.i32(step)]
    s.emit("STRIDED_SLICE", ins, [s.result()], "StridedSliceOptions", begin_mask=mask_b, end_mask=mask_e)


def _bounds(s: Site, a: int, b: int, e: int, step: int, mask_b: int, mask_e: int) -> tuple[int, int, int, int]:
    """Begin and end of one dim as TFLite takes them: an end in front of the first element is a mask there."""
    big = 2**31 - 1
    size = s.shape()[a]
    if isinstance(size, int):
        b, e, _ = slice(b, e, step).indices(size)
        if step < 0 and e < 0:
            mask_e |= 1 << a
            e = 0
        if step < 0 and b < 0:  # nothing
            mask_e &= ~(1 << a)
            b, e = 0, size
        return mask_b, mask_e, b, e
    if step < 0 and e <= -big:
        mask_e |= 1 << a
        e = 0
    return mask_b, mask_e, max(min(b, big), -big), max(min(e, big), -big)


def _spread(s: Site, i: int, where: list[int], rank: int) -> int:
    """An index vector for some dims as one for all of them."""
    t = s.as_i32(i)
    if where == list(range(rank)):
        return t
    parts = []
    for a in range(rank):
        if a not in where:
            parts.append(s.sub.i32([0]))
            continue
        k = where.index(a)
        one = s.temp(dtypes.int32, [1])
        s.emit("SLICE", [t, s.sub.i32([k]), s.sub.i32([1])], [one], "SliceOptions")
        parts.append(one)
    whole = s.temp(dtypes.int32, [rank])
    s.emit("CONCATENATION", parts, [whole], "ConcatenationOptions", axis=0)
    return whole


@exports("pad")
def pad(s: Site) -> None:
    movable(s)
    t = s.attrs
    rank = len(s.shape())
    if rank == 0:
        s.alias(s.get(0))
        return
    pads = s.data(1)
    axes = s.data(3)
    if s.value(3) is not None and axes is None:
        raise UnsupportedError("axes computed at run time")
    if pads is None:
        if axes is not None or t["mode"] != "constant":
            raise UnsupportedError("amounts computed at run time for some dims")
        s.compose(_dynamic_pad(s))
        return
    n = rank if axes is None else axes.size
    rows = [[0, 0] for _ in range(rank)]
    for i, a in enumerate(range(rank) if axes is None else axes):
        rows[int(a) % rank] = [int(pads[i]), int(pads[n + i])]
    if any(p < 0 for r in rows for p in r):
        if t["mode"] != "constant":
            raise UnsupportedError(f"negative amounts with mode {t['mode']}")
        s.compose(lambda x, *rest: _cropped(s, rows, x, rest))
        return
    if rank > 5:
        raise UnsupportedError(f"of {rank} dims; TFLite takes 5")
    x = s.get(0)
    if t["mode"] == "constant":
        value = s.value(2)
        if value is None or (value.data is not None and not np.any(value.data)):
            s.emit("PAD", [x, s.sub.i32(rows)], [s.result()], "PadOptions")
        else:
            s.emit("PADV2", [x, s.sub.i32(rows), _scalar(s, 2)], [s.result()], "PadV2Options")
        return
    if t["mode"] == "reflect":
        for (b, a), d in zip(rows, s.shape(), strict=True):
            if isinstance(d, int) and (b >= d or a >= d):
                raise UnsupportedError("reflection of more elements than there are")
        s.emit("MIRROR_PAD", [x, s.sub.i32(rows)], [s.result()], "MirrorPadOptions", mode=0)
        return
    s.compose(lambda x, *_: _edges(t["mode"], rows, s.shape(), x))


def _scalar(s: Site, i: int) -> int:
    v = s.value(i)
    if v is not None and v.data is not None:
        return s.sub.constant(v.data.reshape(()))
    if v is not None and v.shape == ():
        return s.get(i)
    raise UnsupportedError("a value of one element that is no scalar, computed at run time")


def _dynamic_pad(s: Site) -> Any:
    raise UnsupportedError("amounts computed at run time")


def _cropped(s: Site, rows: list[list[int]], x: Any, rest: Any) -> Any:
    """Negative amounts cut off."""
    cut = [i for i, r in enumerate(rows) if min(r) < 0]
    ends = [min(rows[i][1], 0) if rows[i][1] < 0 else 2**31 - 1 for i in cut]
    x = F.slice(x, [max(-rows[i][0], 0) for i in cut], ends, cut)
    pads = [max(r[0], 0) for r in rows] + [max(r[1], 0) for r in rows]
    return F.pad(x, pads, rest[1] if len(rest) > 1 else None, mode=s.attrs["mode"])


def _edges(mode: str, rows: list[list[int]], shape: Any, x: Any) -> Any:
    """Edge elements repeated, or the other end's, dim by dim."""
    for axis, (before, after) in enumerate(rows):
        if not before and not after:
            continue
        size = shape[axis]
        parts = []
        if mode == "edge":
            front, back = F.slice(x, [0], [1], [axis]), F.slice(x, [-1], [2**31 - 1], [axis])
            parts += [front] * before + [x] + [back] * after
        else:
            if not isinstance(size, int) or max(before, after) > size:
                raise UnsupportedError("wrapping of open sizes, or around more than once")
            if before:
                parts.append(F.slice(x, [size - before], [size], [axis]))
            parts.append(x)
            if after:
                parts.append(F.slice(x, [0], [after], [axis]))
        x = F.concat(*parts, axis=axis)
    return x


@exports("expand")
def expand(s: Site) -> None:
    movable(s)
    out = s.sub.shape_of(s.node.output)
    if len(out) > 8:
        raise UnsupportedError(f"to {len(out)} dims")
    if all(isinstance(d, int) for d in out):
        target = s.sub.i32(list(out))
    else:
        both = s.data(1)
        if both is not None and (both == 1).any() and len(both) == len(s.shape()):
            dims = s.shape()
            raise_if = any(b == 1 and not isinstance(d, int) for b, d in zip(both, dims, strict=True))
            if raise_if:
                raise UnsupportedError("to a shape that keeps open dims of the input")
        target = s.as_i32(1)
    s.emit("BROADCAST_TO", [s.get(0), target], [s.result()], "BroadcastToOptions")


@exports("tile")
def tile(s: Site) -> None:
    movable(s)
    s.emit("TILE", [s.get(0), s.as_i32(1)], [s.result()], "TileOptions")


@exports("fill")
def fill(s: Site) -> None:
    movable(s, 1)
    s.emit("FILL", [s.as_i32(0), _scalar(s, 1)], [s.result()], "FillOptions")


@exports("range")
def range_(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64"))
    fixed = [d for d in (s.data(i) for i in range(3)) if d is not None]
    if len(fixed) == 3:
        reference = get("range").reference
        assert reference is not None
        s.alias(s.sub.constant(np.asarray(reference(*fixed))))
        return
    s.emit("RANGE", [_scalar(s, i) for i in range(3)], [s.result()], "RangeOptions")


@exports("shape_of")
def shape_of(s: Site) -> None:
    rank = len(s.shape())
    start, end, _ = slice(s.attrs["start"], s.attrs["end"]).indices(rank)
    known = s.shape()[start:end]
    if all(isinstance(d, int) for d in known):
        s.alias(s.sub.constant(np.array(known, np.int64)))
        return
    if start == 0 and end == rank:
        s.emit("SHAPE", [s.get(0)], [s.result()], "ShapeOptions", out_type=4)
        return
    whole = s.temp(dtypes.int64, [rank])
    s.emit("SHAPE", [s.get(0)], [whole], "ShapeOptions", out_type=4)
    begin, size = s.sub.i32([start]), s.sub.i32([max(end - start, 0)])
    s.emit("SLICE", [whole, begin, size], [s.result()], "SliceOptions")


@exports("size_of")
def size_of(s: Site) -> None:
    s.compose(lambda x: F.reduce_prod(F.shape_of(x), [0], keepdims=False))


@exports("depth_to_space", "space_to_depth")
def depth_space(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "int8", "uint8"))
    if len(s.shape()) != 4 or s.attrs["mode"] != "dcr":
        raise UnsupportedError("with channels before blocks (crd), or of other than 4 dims")
    op = s.node.op.upper()
    kind = "DepthToSpaceOptions" if op == "DEPTH_TO_SPACE" else "SpaceToDepthOptions"
    s.emit(op, [s.get(0)], [s.result()], kind, block_size=s.attrs["block"])


@exports("trilu")
def trilu(s: Site) -> None:
    rows, cols = s.shape()[-2:]
    k = 0 if s.value(1) is None else int(s.static(1, "the diagonal").reshape(-1)[0])
    if not isinstance(rows, int) or not isinstance(cols, int):
        raise UnsupportedError("of open sizes")
    x = s.x(0)
    assert x.dtype is not None
    ones = np.ones((rows, cols), bool)
    mask = np.triu(ones, k) if s.attrs["upper"] else np.tril(ones, k)
    zero = np.zeros((), x.dtype.np)
    s.compose(lambda x, *_: F.where(mask, x, zero))


@exports("reverse")
def reverse(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "int8", "uint8", "bool", "int16"))
    rank = len(s.shape())
    axes = sorted({a % rank for a in s.attrs["axes"]})
    if not axes:
        s.alias(s.get(0))
        return
    if axes != list(range(axes[0], axes[0] + len(axes))):
        s.compose(lambda x: _each(x, axes))
        return
    s.emit("REVERSE_V2", [s.get(0), s.sub.i32(axes)], [s.result()], "ReverseV2Options")


def _each(x: Any, axes: list[int]) -> Any:
    for a in axes:
        x = F.reverse(x, axes=(a,))
    return x


@exports("reverse_sequence")
def reverse_sequence(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "uint8", "int16"))
    t = s.attrs
    ins = [s.get(0), s.as_i32(1)]
    s.emit(
        "REVERSE_SEQUENCE",
        ins,
        [s.result()],
        "ReverseSequenceOptions",
        seq_dim=t["time_axis"] % len(s.shape()),
        batch_dim=t["batch_axis"] % len(s.shape()),
    )


# ---- index
@exports("gather")
def gather(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "int8", "uint8", "bool", "int16"))
    axis = s.attrs["axis"] % len(s.shape())
    at = s.data(1)
    size = s.shape()[axis]
    if at is not None:
        if (at < 0).any() and not isinstance(size, int):
            raise UnsupportedError("negative positions along an open dim")
        index = s.sub.i32(np.where(at < 0, at + size, at) if (at < 0).any() else at)
    else:
        v = s.x(1)
        if v.dtype is not None and v.dtype.kind == "i" and isinstance(size, int):  # positions may count from the end
            assert v.dtype is not None
            zero, n = np.zeros((), v.dtype.np), np.array(size, v.dtype.np)
            s.compose(lambda x, i: _along(x, F.where(F.less(i, zero), F.add(i, n), i), axis))
            return
        index = s.as_i32(1)
    s.emit("GATHER", [s.get(0), index], [s.result()], "GatherOptions", axis=axis)


def _front(x: Any, axis: int) -> tuple[int, ...]:
    rank = len(x.shape)
    return (axis, *(i for i in range(rank) if i != axis))


def _along(x: Any, at: Any, axis: int) -> Any:
    n, k = len(x.shape), len(at.shape)
    y = F.gather_nd(F.transpose(x, perm=_front(x, axis)), F.unsqueeze(at, [-1]))  # at..., then the dims before axis
    order = (*range(k, k + axis), *range(k), *range(k + axis, k + n - 1))
    return F.transpose(y, perm=order)


@exports("gather_nd")
def gather_nd(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "int8", "uint8", "int16", "bool"))
    if s.attrs["batch_dims"]:
        raise UnsupportedError("with batch dims")
    at = s.data(1)
    if at is not None and (at < 0).any():
        raise UnsupportedError("negative positions")
    s.emit("GATHER_ND", [s.get(0), s.as_i32(1)], [s.result()], "GatherNdOptions")


@exports("one_hot")
def one_hot(s: Site) -> None:
    depth = int(s.static(1, "the depth").reshape(-1)[0])
    values = s.static(2, "the values")
    at = s.x(0)
    if at.dtype is None or at.dtype.kind != "i":
        raise UnsupportedError(f"positions of {at.dtype}")
    y = s.node.output
    assert y.shape is not None
    axis = s.attrs["axis"] % len(y.shape)
    on, off = (s.sub.constant(np.array(values.reshape(-1)[i])) for i in (1, 0))
    known = s.data(0)
    if known is None or known.min(initial=0) < 0:  # negative ones count from depth
        zero, n = np.zeros((), at.dtype.np), np.array(depth, at.dtype.np)
        t = s.temp(at.dtype, [d if isinstance(d, int) else None for d in s.shape()])
        mask = s.temp(dtypes.bool_, [d if isinstance(d, int) else None for d in s.shape()])
        moved = s.temp(at.dtype, [d if isinstance(d, int) else None for d in s.shape()])
        s.emit("LESS", [s.get(0), s.sub.constant(zero)], [mask], "LessOptions")
        s.emit("ADD", [s.get(0), s.sub.constant(n)], [moved], "AddOptions")
        s.emit("SELECT_V2", [mask, moved, s.get(0)], [t], "SelectV2Options")
        index = s.cast(t, dtypes.int32)
    else:
        index = s.as_i32(0)
    s.emit("ONE_HOT", [index, s.sub.i32(depth), on, off], [s.result()], "OneHotOptions", axis=axis)


@exports("top_k")
def top_k(s: Site) -> None:
    movable(s, 0, ("float32", "int32", "int64", "int8", "uint8"))
    t = s.attrs
    if not t["largest"] or t["axis"] % len(s.shape()) != len(s.shape()) - 1:
        raise UnsupportedError("smallest elements, or along another dim than the last")
    k = s.sub.i32(int(s.static(1, "k").reshape(-1)[0]))
    dims = s.sub.shape_of(next(v for v in s.node.outputs if v is not None))
    x = s.x(0)
    assert x.dtype is not None
    values = s.result(0) if s.node.outputs[0] is not None else s.temp(x.dtype, dims)
    at = s.temp(dtypes.int32, [d if isinstance(d, int) else None for d in dims])
    s.emit("TOPK_V2", [s.get(0), k], [values, at], "TopKV2Options")
    if len(s.node.outputs) > 1 and s.node.outputs[1] is not None:
        out = s.result(1)
        s.emit("CAST", [at], [out], "CastOptions", in_data_type=2, out_data_type=4)


@exports("non_zero")
def non_zero(s: Site) -> None:
    x = s.x(0)
    if x.dtype is not dtypes.bool_:
        assert x.dtype is not None
        zero = np.zeros((), x.dtype.np)
        s.compose(lambda x: F.non_zero(F.not_equal(x, zero)))
        return
    rank = len(s.shape())
    if rank == 0:
        raise UnsupportedError("of a scalar")
    at = s.temp(dtypes.int64, [None, rank])
    s.emit("WHERE", [s.get(0)], [at], "WhereOptions")
    s.emit("TRANSPOSE", [at, s.sub.i32([1, 0])], [s.result()], "TransposeOptions")


@exports("scatter_nd")
def scatter_nd(s: Site) -> None:
    """Sums into zeros are SCATTER_ND; writing is done by sums and a mask."""
    movable(s, 0, ("float32", "int32", "int64"))
    reduction = s.attrs["reduction"]
    at = s.data(1)
    if reduction not in ("none", "add") or at is None or at.ndim < 2 or (at < 0).any():
        raise UnsupportedError(f"reduction {reduction}, or positions that are negative or computed at run time")
    flat = at.reshape(-1, at.shape[-1])
    if reduction == "none" and len(np.unique(flat, axis=0)) != len(flat):
        raise UnsupportedError("that writes one element twice")
    shape = s.sub.shape_of(s.node.output)
    x = s.x(0)
    if not all(isinstance(d, int) for d in shape) or x.dtype is None:
        raise UnsupportedError("into open sizes")
    dims = list(shape)
    target = s.sub.i32(dims)
    total = s.temp(x.dtype, dims)
    s.emit("SCATTER_ND", [s.as_i32(1), s.get(2), target], [total], "ScatterNdOptions")
    if reduction == "add":
        s.emit("ADD", [s.get(0), total], [s.result()], "AddOptions")
        return
    mask = np.zeros([d for d in dims if isinstance(d, int)], np.bool_)
    mask[tuple(flat.T)] = True
    s.emit("SELECT_V2", [s.sub.constant(mask), total, s.get(0)], [s.result()], "SelectV2Options")


@exports("compress")
def compress(s: Site) -> None:
    keep = s.static(1, "the condition")
    axis = s.attrs["axis"]
    if axis == 2147483647:
        s.compose(lambda x, *_: F.gather(F.reshape(x, [-1]), np.flatnonzero(keep), axis=0))
    else:
        s.compose(lambda x, *_: F.gather(x, np.flatnonzero(keep), axis=axis))
