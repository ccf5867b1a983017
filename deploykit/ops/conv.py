"""Convolutions, channels last: x [N, spatial..., C], weight [O, spatial..., C / groups] (OHWI), y [N, spatial..., O]."""

from __future__ import annotations

from deploykit.ops.activation import ACT_ATTRS
from deploykit.ops.core import Enum, op

# strides, dilations: one per spatial dim, () means ones.  pads: all befores, then all afters (ONNX order), () means
# zeros; pad_mode same_upper / same_lower computes them from the input size (odd one after / before) and wants pads ().
GEOMETRY = dict(strides=(), dilations=(), pads=(), pad_mode=Enum("explicit", "same_upper", "same_lower"), groups=1)


@op(130, "x, weight, bias?, residual? -> y", attrs=dict(**GEOMETRY, **ACT_ATTRS, act_after=False))
class conv:
    """act(convolution + bias) + residual, or act(convolution + bias + residual) when act_after (the ResNet form).
    Cross-correlation over 1, 2 or 3 spatial dims.

    output size = (size + pads - dilation * (kernel - 1) - 1) // stride + 1.  groups == C with weight [C*m, ..., 1] is
    depthwise.  residual has the shape of y.
    """


@op(131, "x, weight, bias? -> y", attrs=dict(**GEOMETRY, output_padding=(), output_shape=(), **ACT_ATTRS))
class conv_transpose:
    """act(transposed convolution + bias); weight [C, spatial..., O / groups] (the ONNX weight [C, O/g, k...] channels last).

    output size = stride * (size - 1) + output_padding + dilation * (kernel - 1) + 1 - pads.  output_shape (spatial
    sizes), when given, fixes the output and the pads follow: total = what the formula leaves over, split evenly with
    the odd one at the end for same_upper, at the start otherwise (ONNX ConvTranspose); same_* without output_shape
    means output = input * stride.
    """


@op(132, "x, weight, x_zero_point?, weight_zero_point? -> y", attrs=GEOMETRY, tolerance="exact", not_differentiable="integer op")
class conv_integer:
    "Convolution of (x - x_zero_point) with (weight - weight_zero_point), 8-bit in, int32 out; padding adds zeros after the shift."


@op(133, "x, weight, offset, bias?, mask? -> y", attrs=dict(strides=(), dilations=(), pads=(), groups=1, offset_groups=1))
class deform_conv:
    """2-D deformable convolution (Dai et al. 2017; v2 with mask).  x [N,H,W,C], weight OHWI, offset
    [N, OH, OW, offset_groups * kh * kw * 2] with (y, x) pairs innermost, mask [N, OH, OW, offset_groups * kh * kw]."""
