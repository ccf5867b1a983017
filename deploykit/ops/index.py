"""Gather, scatter, sort, select.  Negative indices count from the end; out-of-range indices are errors (DK-INDEX)."""

from __future__ import annotations

from deploykit.ops.core import Enum, op

_NO = "index or data-dependent result"
_RED = Enum("none", "add", "mul", "min", "max")


@op(190, "x, indices -> y", attrs=dict(axis=0), onnx="Gather", tolerance="exact")
class gather:
    "y = numpy.take(x, indices, axis)."


@op(191, "x, indices -> y", attrs=dict(axis=0), onnx="GatherElements", tolerance="exact")
class gather_elements:
    "y = numpy.take_along_axis without broadcasting: other dims of indices may be smaller than x's."


@op(192, "x, indices -> y", attrs=dict(batch_dims=0), onnx="GatherND", tolerance="exact")
class gather_nd:
    "Slices of x at index tuples in the last dim of indices, after batch_dims common leading dims."


@op(193, "x, indices, updates -> y", attrs=dict(axis=0, reduction=_RED), onnx="ScatterElements", tolerance="exact", flags="inplace")
class scatter_elements:
    "Copy of x with updates written (or reduced) at indices along axis, in row-major order of updates."


@op(194, "x, indices, updates -> y", attrs=dict(reduction=_RED), onnx="ScatterND", tolerance="exact", flags="inplace")
class scatter_nd:
    "Copy of x with slices written (or reduced) at index tuples."


@op(195, "indices, depth, values -> y", attrs=dict(axis=-1), tolerance="exact", onnx="OneHot", not_differentiable=_NO)
class one_hot:
    "values = [off, on]; a new axis of size depth; negative indices count from depth, others outside give all off."


@op(196, "x, k -> values, indices", attrs=dict(axis=-1, largest=True, sorted=True), onnx="TopK", tolerance="exact")
class top_k:
    "The k largest (smallest) along axis, in order, with int64 positions; the lower index first among equals."


@op(197, "x -> y", onnx="NonZero", tolerance="exact", not_differentiable=_NO)
class non_zero:
    "int64 [rank, count]: indices of the non-zero elements in row-major order (a scalar counts as rank 1)."


@op(198, "x -> y, indices, inverse, counts", attrs=dict(axis=2147483647, sorted=True), tolerance="exact", not_differentiable=_NO)
class unique:
    "Unique elements (or slices along axis; 2147483647 means flatten), first positions, inverse map, counts; ONNX Unique."


@op(199, "x, condition -> y", attrs=dict(axis=2147483647), tolerance="exact", not_differentiable=_NO)
class compress:
    "Slices of x along axis (2147483647: of the flattened x) where condition is True."


@op(200, "boxes, scores, max_per_class?, iou_threshold?, score_threshold? -> selected", attrs=dict(center_box=False), onnx="", tolerance="exact", not_differentiable=_NO)
class non_max_suppression:
    "ONNX NonMaxSuppression: int64 [count, 3] of (batch, class, box); boxes [B,N,4] corners (y1,x1,y2,x2) or centers (x,y,w,h)."


@op(201, "past, update, write_index? -> y", attrs=dict(axis=-2, mode=Enum("linear", "circular")), onnx="TensorScatter", tolerance="exact", flags="inplace")
class tensor_scatter:
    "Write update into past at write_index[b] along axis (per batch), wrapping when circular (KV cache)."
