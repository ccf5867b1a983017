"""Pooling, channels last: x [N, spatial..., C]."""

from __future__ import annotations

from deploykit.ops.core import Enum, Required, op

_WINDOW = dict(
    kernel=Required("ints"),
    strides=(),
    dilations=(),
    pads=(),
    pad_mode=Enum("explicit", "same_upper", "same_lower"),
    ceil_mode=False,
)


@op(140, "x -> y, indices?", attrs=dict(**_WINDOW, column_major=False), tolerance="exact")
class max_pool:
    """Largest in each window; padding never wins.  indices (int64, shape of y): position of the winner in its
    spatial plane, flattened row-major (or column-major), first of equals.  With ceil_mode a window must still start
    inside the input or its leading padding (ONNX and PyTorch agree)."""


@op(141, "x -> y", attrs=dict(**_WINDOW, count_include_pad=False))
class avg_pool:
    "Mean of each window; padding counts only when count_include_pad (the overhang of ceil_mode never does)."


@op(142, "x -> y", attrs=dict(**_WINDOW, p=2))
class lp_pool:
    "(sum |x|^p)^(1/p) of each window."


@op(143, "x, indices, output_shape? -> y", attrs=dict(kernel=Required("ints"), strides=(), pads=()), tolerance="exact")
class max_unpool:
    "Scatter x to the plane positions in ``indices`` (as max_pool makes them), zeros elsewhere; output_shape is the full channels-last shape."
