"""Matrix products."""

from __future__ import annotations

from deploykit.ops.activation import ACT_ATTRS
from deploykit.ops.core import Required, op


@op(
    120,
    "a, b, bias?, residual? -> y",
    attrs=dict(transpose_a=False, transpose_b=False, alpha=1.0, **ACT_ATTRS, act_after=False),
)
class matmul:
    """act(alpha * (a @ b) + bias) + residual, or act(alpha * (a @ b) + bias + residual) when act_after, with NumPy's
    matmul rules for vectors and batch dims.

    transpose_x swaps the last two dims of an operand of rank >= 2.  bias broadcasts against the product as in NumPy
    (usually a vector [N]); residual has the shape of the result.
    """


@op(121, "a, b, a_zero_point?, b_zero_point? -> y", onnx="MatMulInteger", tolerance="exact", not_differentiable="integer op")
class matmul_integer:
    "(a - a_zero_point) @ (b - b_zero_point) for 8-bit operands, int32 result; a's zero point per row, b's per column."


@op(122, "xs* -> y", attrs=dict(equation=Required("str")), onnx="Einsum")
class einsum:
    "Einstein summation as numpy.einsum: explicit or implicit output, ellipsis, repeated and batch indices."


@op(123, "x -> y", onnx="Det")
class det:
    "Determinant of the last two dims."
