"""Reductions over axes.  ``axes`` is an int64 vector input (absent or empty: all axes, unless noop_if_empty)."""

from __future__ import annotations

from deploykit.ops.core import op

_A = dict(keepdims=True, noop_if_empty=False)


@op(100, "x, axes? -> y", attrs=_A)
class reduce_sum:
    "Sum; 0 over nothing."


@op(101, "x, axes? -> y", attrs=_A)
class reduce_mean:
    "Mean; integers truncate."


@op(102, "x, axes? -> y", attrs=_A, tolerance="exact")
class reduce_max:
    "Largest; the dtype's lowest (-inf for floats, False for bool) over nothing."


@op(103, "x, axes? -> y", attrs=_A, tolerance="exact")
class reduce_min:
    "Smallest; the dtype's highest (+inf, True) over nothing."


@op(104, "x, axes? -> y", attrs=_A)
class reduce_prod:
    "Product; 1 over nothing."


@op(105, "x, axes? -> y", attrs=_A)
class reduce_l1:
    "Sum of |x|."


@op(106, "x, axes? -> y", attrs=_A)
class reduce_l2:
    "sqrt(sum(x * x))."


@op(107, "x, axes? -> y", attrs=_A)
class reduce_sum_square:
    "Sum of x * x."


@op(108, "x, axes? -> y", attrs=_A)
class reduce_log_sum:
    "log(sum(x))."


@op(109, "x, axes? -> y", attrs=_A)
class reduce_log_sum_exp:
    "log(sum(exp(x))), without overflow."


@op(110, "x -> y", attrs=dict(axis=0, keepdims=True, select_last=False), onnx="ArgMax", tolerance="exact", not_differentiable="index result")
class arg_max:
    "int64 index of the largest along an axis; the first of equals, or the last when select_last."


@op(111, "x -> y", attrs=dict(axis=0, keepdims=True, select_last=False), onnx="ArgMin", tolerance="exact", not_differentiable="index result")
class arg_min:
    "int64 index of the smallest along an axis; the first of equals, or the last when select_last."


@op(112, "x, axis -> y", attrs=dict(exclusive=False, reverse=False), onnx="CumSum")
class cumsum:
    "Running sum along the axis (a scalar or 1-element integer tensor)."


@op(113, "x, axis -> y", attrs=dict(exclusive=False, reverse=False), onnx="CumProd")
class cumprod:
    "Running product along the axis (a scalar or 1-element integer tensor)."
