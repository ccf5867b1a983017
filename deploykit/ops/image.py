"""Resampling and image geometry, channels last where channels matter."""

from __future__ import annotations

from deploykit.ops.core import Enum, Required, op


@op(
    210,
    "x, roi?, scales?, sizes? -> y",
    attrs=dict(
        axes=(),
        mode=Enum("nearest", "linear", "cubic"),
        coordinates=Enum("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", "tf_crop_and_resize"),
        nearest=Enum("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        aspect=Enum("stretch", "not_larger", "not_smaller"),
        cubic_a=-0.75,
        exclude_outside=False,
        antialias=False,
        extrapolation=0.0,
    ),
)
class resize:
    """ONNX Resize semantics on any axes (() means all): exactly one of scales (float32) or sizes (int64) per axis.
    The other axes are copied, so the op is the same in every layout."""


@op(
    211,
    "x, grid -> y",
    attrs=dict(mode=Enum("linear", "nearest", "cubic"), padding=Enum("zeros", "border", "reflection"), align_corners=False),
)
class grid_sample:
    "Channels last x [N, spatial..., C]; grid [N, out spatial..., d] of coordinates in [-1, 1], last one = innermost spatial dim."


@op(
    212,
    "x, rois, batch_indices -> y",
    attrs=dict(mode=Enum("avg", "max"), half_pixel=True, output_height=1, output_width=1, sampling_ratio=0, spatial_scale=1.0),
)
class roi_align:
    "Channels last x [N,H,W,C], rois [R,4] (x1,y1,x2,y2), y [R,oh,ow,C] (Mask R-CNN; ONNX RoiAlign)."


@op(213, "x, image_shape, block_shape -> y", attrs=dict(dilations=(), pads=(), strides=()), onnx="Col2Im")
class col2im:
    "ONNX Col2Im: [N, C * prod(block), L] -> [N, C, image...], overlapping blocks add up (channels first)."


@op(214, "x -> y", attrs=dict(kernel=Required("ints"), strides=(), dilations=(), pads=()))
class im2col:
    "Channels last patches: [N, OH, OW, kh * kw * C]."
