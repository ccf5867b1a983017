"""Rearrangements: blocks to channels and back, triangles, mirrors.  Channels last."""

from __future__ import annotations

import numpy as np

from deploykit import dtypes
from deploykit.ops.core import Enum, F, Required, Spec, op
from deploykit.ops.rules import axes_of, axis_of, error, fresh_shape, require_index, require_rank, unify_dim
from deploykit.ops.samples import Draw, Sample, i64, s64
from deploykit.ops.shape_rules import divided


@op(175, "x -> y", attrs=dict(block=Required("int"), mode=Enum("dcr", "crd")), tolerance="exact")
class depth_to_space:
    "Channels last: [N,H,W,C] -> [N,H*b,W*b,C/(b*b)]; dcr: channel = (dy, dx, c); crd: channel = (c, dy, dx)."

    def infer(x, block, mode):
        require_rank(x, 4)
        if block < 1:
            raise error("block", block, "1 or more")
        if x.shape is None:
            return Spec(x.dtype, fresh_shape(4))
        n, h, w, c = x.shape
        return Spec(x.dtype, (n, h * block, w * block, divided(c, block * block, "channels")))

    def reference(x, block, mode):
        n, h, w, c = x.shape
        deep = c // (block * block)
        if mode == "dcr":
            parts = x.reshape(n, h, w, block, block, deep).transpose(0, 1, 3, 2, 4, 5)
        else:
            parts = x.reshape(n, h, w, deep, block, block).transpose(0, 1, 4, 2, 5, 3)
        return parts.reshape(n, h * block, w * block, deep)

    def samples():
        r = Draw("depth_to_space")
        cases = [((1, 2, 3, 8), 2), ((2, 1, 1, 9), 3), ((1, 2, 2, 3), 1), ((0, 2, 2, 4), 2)]
        out = [Sample([r(s)], {"block": b, "mode": m}) for s, b in cases for m in ("dcr", "crd")]
        return out + [Sample([r((1, 2, 2, 8), d)], {"block": 2}) for d in ("int8", "float64")]

    def vjp(g, y, x, block, mode):
        return (F.space_to_depth(g, block=block, mode=mode),)


@op(176, "x -> y", attrs=dict(block=Required("int"), mode=Enum("dcr", "crd")), tolerance="exact")
class space_to_depth:
    "Inverse of depth_to_space."

    def infer(x, block, mode):
        require_rank(x, 4)
        if block < 1:
            raise error("block", block, "1 or more")
        if x.shape is None:
            return Spec(x.dtype, fresh_shape(4))
        n, h, w, c = x.shape
        return Spec(x.dtype, (n, divided(h, block, "height"), divided(w, block, "width"), c * block * block))

    def reference(x, block, mode):
        n, h, w, c = x.shape
        parts = x.reshape(n, h // block, block, w // block, block, c)
        parts = parts.transpose((0, 1, 3, 2, 4, 5) if mode == "dcr" else (0, 1, 3, 5, 2, 4))
        return parts.reshape(n, h // block, w // block, c * block * block)

    def samples():
        r = Draw("space_to_depth")
        cases = [((1, 4, 6, 2), 2), ((2, 3, 3, 1), 3), ((1, 2, 2, 3), 1), ((1, 4, 0, 2), 2)]
        out = [Sample([r(s)], {"block": b, "mode": m}) for s, b in cases for m in ("dcr", "crd")]
        return out + [Sample([r((1, 2, 4, 2), d)], {"block": 2}) for d in ("int8", "float64")]

    def vjp(g, y, x, block, mode):
        return (F.depth_to_space(g, block=block, mode=mode),)


@op(177, "x, k? -> y", attrs=dict(upper=True), onnx="Trilu", tolerance="exact")
class trilu:
    "Keep the upper (or lower) triangle of the last two dims; k (int64 scalar) shifts the diagonal."

    def infer(x, k=None, *, upper):
        require_rank(x, 2, 99)
        require_index(k, "k")
        return Spec(x.dtype, x.shape)

    def reference(x, k=None, *, upper):
        shift = 0 if k is None else int(k.reshape(()))
        rows, cols = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])[None, :]
        keep = cols - rows >= shift if upper else cols - rows <= shift
        return np.where(keep, x, np.zeros((), x.dtype))

    def samples():
        r = Draw("trilu")
        cases = [
            ((3, 4), None),
            ((4, 3), s64(1)),
            ((2, 3, 3), s64(-1)),
            ((3, 3), s64(9)),
            ((3, 3), s64(-9)),
            ((0, 3), None),
        ]
        out = [Sample([r(s), k], {"upper": u}) for s, k in cases for u in (True, False)]
        return out + [Sample([r((3, 4), d), s64(1)]) for d in ("int64", "bool", "float64", "float16")]

    def vjp(g, y, x, k=None, *, upper):
        return F.trilu(g, k, upper=upper), None


@op(178, "x -> y", attrs=dict(dtype="", k=0), tolerance="exact", not_differentiable="constant result")
class eye_like:
    "Ones on diagonal k, zeros elsewhere, in the shape of the matrix x; dtype by name, '' means x's."

    def infer(x, dtype, k):
        require_rank(x, 2)
        return Spec(dtypes.dtype(dtype) if dtype else x.dtype, fresh_shape(2) if x.shape is None else x.shape)

    def reference(x, dtype, k):
        to = dtypes.dtype(dtype).np if dtype else x.dtype
        return np.eye(*x.shape, k=k, dtype=np.int8).astype(to)

    def samples():
        r = Draw("eye_like")
        out = [Sample([r((3, 4))], {"k": k}) for k in (0, 1, -2, 9)] + [Sample([r((0, 2))])]
        return out + [Sample([r((4, 3), "int32")], {"dtype": d}) for d in ("", "float32", "float64", "int8", "bool")]


@op(179, "x -> y", attrs=dict(axes=Required("ints")), tflite="REVERSE_V2", tolerance="exact")
class reverse:
    "Flip along these axes."

    def infer(x, axes):
        if x.shape is not None:
            axes_of(axes, len(x.shape))
        return Spec(x.dtype, x.shape)

    def reference(x, axes):
        return np.flip(x, axes).copy()

    def samples():
        r = Draw("reverse")
        cases = [((2, 3), (0,)), ((2, 3), (-1,)), ((2, 3, 4), (0, 2)), ((5,), (0,)), ((0, 3), (0, 1)), ((2, 3), ())]
        return [Sample([r(s)], {"axes": a}) for s, a in cases] + [Sample([r((2, 3), "int8")], {"axes": (1,)})]

    def vjp(g, y, x, axes):
        return (F.reverse(g, axes=axes),)


@op(180, "x, lengths -> y", attrs=dict(batch_axis=1, time_axis=0), onnx="ReverseSequence", tolerance="exact")
class reverse_sequence:
    "Reverse the first lengths[b] steps of sequence b."

    def infer(x, lengths, batch_axis, time_axis):
        require_rank(x, 2, 99)
        require_index(lengths, "lengths")
        require_rank(lengths, 1, what="lengths")
        if x.shape is not None:
            b, t = axis_of(batch_axis, len(x.shape)), axis_of(time_axis, len(x.shape))
            if b == t:
                raise error("batch_axis and time_axis are the same", b)
            if lengths.shape is not None:
                unify_dim(x.shape[b], lengths.shape[0], "batch of x and of lengths")
        return Spec(x.dtype, x.shape)

    def reference(x, lengths, batch_axis, time_axis):
        rows = np.moveaxis(x, (batch_axis, time_axis), (0, 1)).copy()
        for b, n in enumerate(lengths):
            if not 0 <= n <= rows.shape[1]:
                raise error("reverse_sequence: length", int(n), f"0 to {rows.shape[1]}")
            rows[b, :n] = rows[b, :n][::-1]
        return np.moveaxis(rows, (0, 1), (batch_axis, time_axis))

    def samples():
        r = Draw("reverse_sequence")
        out = [
            Sample([r((4, 3)), i64(1, 4, 0)]),
            Sample([r((3, 4, 2)), i64(1, 4, 2)], {"batch_axis": 0, "time_axis": 1}),
        ]
        out += [Sample([r((2, 5, 3)), np.array([2, 3, 4], np.int32)], {"batch_axis": -1, "time_axis": 1})]
        return out + [Sample([r((4, 2), "int8"), i64(3, 2)]), Sample([r((0, 2)), i64(0, 0)])]

    def vjp(g, y, x, lengths, batch_axis, time_axis):
        return F.reverse_sequence(g, lengths, batch_axis=batch_axis, time_axis=time_axis), None
