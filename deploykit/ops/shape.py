"""Shape and layout ops.  Shape-like arguments are integer tensor inputs (int64; int32 accepted), usually constants."""

from __future__ import annotations

from deploykit.ops.core import Enum, Required, op

_NO_GRAD = "integer result"


@op(160, "x -> y", attrs=dict(start=0, end=2147483647), onnx="Shape", tolerance="exact", not_differentiable=_NO_GRAD)
class shape_of:
    "int64 vector of the dims [start:end] of x (negative counts from the end, clamped)."


@op(161, "x -> y", onnx="Size", tolerance="exact", not_differentiable=_NO_GRAD)
class size_of:
    "int64 scalar: number of elements."


@op(162, "x, shape -> y", attrs=dict(allow_zero=False), flags="view", onnx="Reshape", tolerance="exact")
class reshape:
    "Same elements in row-major order; one dim may be -1; 0 copies the dim of x at that place unless allow_zero."


@op(163, "x -> y", attrs=dict(axis=1), flags="view", onnx="Flatten", tolerance="exact")
class flatten:
    "[product of dims before axis, product of the rest]."


@op(164, "x, axes? -> y", flags="view", tolerance="exact")
class squeeze:
    "Drop the dims of size 1 named by axes (all of them when absent)."


@op(165, "x, axes -> y", flags="view", tolerance="exact")
class unsqueeze:
    "Insert dims of size 1 at these places of the result."


@op(166, "x -> y", attrs=dict(perm=()), onnx="Transpose", tolerance="exact")
class transpose:
    "Dim i of y is dim perm[i] of x; () reverses."


@op(167, "xs* -> y", attrs=dict(axis=Required("int")), onnx="Concat", tolerance="exact")
class concat:
    "Join along an existing axis."


@op(168, "x, sizes? -> ys*", attrs=dict(axis=0), tolerance="exact", n_outputs=True)
class split:
    """Cut along an axis into as many pieces as the node has outputs: of these sizes, or of ceil(n / outputs) with a
    smaller last one.  (infer and reference get n_outputs.)"""


@op(169, "x, starts, ends, axes?, steps? -> y", tolerance="exact", onnx="Slice")
class slice_:
    "x[start:end:step] on the given axes, Python rules with clamping; steps may be negative; axes default to the first ones."


@op(170, "x, pads, value?, axes? -> y", attrs=dict(mode=Enum("constant", "reflect", "edge", "wrap")), tolerance="exact")
class pad:
    "pads = befores then afters for the named axes (default all); negative pads crop; value is a scalar (0)."


@op(171, "x, shape -> y", onnx="Expand", tolerance="exact")
class expand:
    "Broadcast x against shape, both ways: dims of 1 in shape keep x's."


@op(172, "x, repeats -> y", onnx="Tile", tflite="TILE", tolerance="exact")
class tile:
    "Repeat the whole tensor repeats[i] times along dim i."


@op(173, "shape, value -> y", tolerance="exact")
class fill:
    "A tensor of this shape filled with the scalar value (its dtype)."


@op(174, "start, limit, delta -> y", onnx="Range", tflite="RANGE", tolerance="exact", not_differentiable="shape depends on values")
class range_:
    "start, start + delta, ... before limit; max(ceil((limit - start) / delta), 0) elements."


@op(175, "x -> y", attrs=dict(block=Required("int"), mode=Enum("dcr", "crd")), tolerance="exact")
class depth_to_space:
    "Channels last: [N,H,W,C] -> [N,H*b,W*b,C/(b*b)]; dcr: channel = (dy, dx, c); crd: channel = (c, dy, dx)."


@op(176, "x -> y", attrs=dict(block=Required("int"), mode=Enum("dcr", "crd")), tolerance="exact")
class space_to_depth:
    "Inverse of depth_to_space."


@op(177, "x, k? -> y", attrs=dict(upper=True), onnx="Trilu", tolerance="exact")
class trilu:
    "Keep the upper (or lower) triangle of the last two dims; k (int64 scalar) shifts the diagonal."


@op(178, "x -> y", attrs=dict(dtype="", k=0), tolerance="exact", not_differentiable="constant result")
class eye_like:
    "Ones on diagonal k, zeros elsewhere, in the shape of the matrix x; dtype by name, '' means x's."


@op(179, "x -> y", attrs=dict(axes=Required("ints")), tflite="REVERSE_V2", tolerance="exact")
class reverse:
    "Flip along these axes."


@op(180, "x, lengths -> y", attrs=dict(batch_axis=1, time_axis=0), onnx="ReverseSequence", tolerance="exact")
class reverse_sequence:
    "Reverse the first lengths[b] steps of sequence b."
