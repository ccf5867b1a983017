"""Quantization: real = scale * (q - zero_point), rounding halves to even, saturating."""

from __future__ import annotations

from deploykit.ops.core import op


@op(240, "x, scale, zero_point? -> y", attrs=dict(dtype="uint8", axis=1, block_size=0, saturate=True), tolerance="exact", not_differentiable="integer result; see fake_quant")
class quantize:
    """saturate(round(x / scale) + zero_point) as ``dtype`` (zero_point's dtype wins when given).

    scale: scalar, vector along axis, or (block_size > 0) one per block of block_size along axis.  ``saturate`` is for
    float8 targets, as in cast.
    """


@op(241, "x, scale, zero_point? -> y", attrs=dict(axis=1, block_size=0, dtype=""), not_differentiable="integer input")
class dequantize:
    "(x - zero_point) * scale; dtype by name, '' means scale's."


@op(242, "x -> y, scale, zero_point", onnx="DynamicQuantizeLinear", tolerance="exact", not_differentiable="integer result")
class dynamic_quantize:
    "uint8 per-tensor quantization with range [min(x, 0), max(x, 0)] found at run time (ONNX DynamicQuantizeLinear)."
