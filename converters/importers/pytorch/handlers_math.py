"""Elementwise ops, comparisons, reductions, products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.converters.importers.pytorch.call import Call, handles
from deploykit.errors import UnsupportedError
from deploykit.graph import Value

# ---- unary: computed in the result's dtype (torch widens integers to floats where the result is one)
_UNARY = {
    **{n: n for n in ("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp",
                      "expm1", "floor", "log", "log1p", "neg", "reciprocal", "relu", "relu6", "rsqrt", "sigmoid",
                      "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc", "mish")},
    "sgn": "sign",
    "hardswish": "hard_swish",
}  # fmt: skip


@handles(*_UNARY)
def unary(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    x = c.x("self", c.dtype)
    if name in ("ceil", "floor", "trunc") and x.dtype is not None and x.dtype.kind != "f":
        return x
    if name == "relu" and x.dtype is not None and x.dtype.kind != "f":
        return c.op("maximum", x, c.scalar(0, x))
    return c.op(_UNARY[name], x)


@handles("round")
def round_(c: Call) -> Value:
    x = c.x()
    if x.dtype is not None and x.dtype.kind != "f":
        return x
    digits = c.args.get("decimals") or 0
    if not digits:
        return c.op("round", x)
    unit = c.scalar(10.0**digits, x)
    return c.op("div", c.op("round", c.op("mul", x, unit)), unit)


@handles("log2", "log10")
def log_of_base(c: Call) -> Value:
    y = c.op("log", c.x("self", c.dtype))
    return c.op("mul", y, c.scalar(1 / math.log(2 if "log2" in str(c.node.target) else 10), y))


@handles("exp2")
def exp2(c: Call) -> Value:
    x = c.x("self", c.dtype)
    return c.op("exp", c.op("mul", x, c.scalar(math.log(2), x)))


@handles("frac")
def frac(c: Call) -> Value:
    return c.op("sub", c.x(), c.op("trunc", c.x()))


@handles("isnan")
def isnan(c: Call) -> Value:
    x = c.x()
    return c.op("is_nan", x) if x.dtype is not None and x.dtype.kind == "f" else no(c, x)


@handles("isinf")
def isinf(c: Call) -> Value:
    x = c.x()
    return c.op("is_inf", x) if x.dtype is not None and x.dtype.kind == "f" else no(c, x)


def no(c: Call, x: Value) -> Value:
    """False everywhere."""
    return c.op("not_equal", x, x)


@handles("logical_not")
def logical_not(c: Call) -> Value:
    return c.op("logical_not", truth(c, c.x()))


def truth(c: Call, x: Value) -> Value:
    """x as bool: not zero."""
    return x if x.dtype is dtypes.bool_ else c.op("not_equal", x, c.scalar(0, x))


@handles("bitwise_not")
def bitwise_not(c: Call) -> Value:
    x = c.x()
    return c.op("logical_not" if x.dtype is dtypes.bool_ else "bitwise_not", x)


# ---- activations with numbers
@handles("leaky_relu")
def leaky_relu(c: Call) -> Value:
    return c.op("leaky_relu", c.x(), alpha=float(c.arg("negative_slope")))


@handles("elu")
def elu(c: Call) -> Value:
    """scale * (x, or alpha * (exp(input_scale * x) - 1) below 0)."""
    x, alpha, scale, inner = c.x(), float(c.arg("alpha")), float(c.arg("scale")), float(c.arg("input_scale"))
    if inner == 1.0:
        if scale == 1.0:
            return c.op("elu", x, alpha=alpha)
        return c.op("selu", x, alpha=alpha, gamma=scale)
    below = c.op("elu", c.op("mul", x, c.scalar(inner, x)), alpha=alpha)
    y = c.op("where", c.op("greater", x, c.scalar(0, x)), x, below)
    return c.op("mul", y, c.scalar(scale, x))


@handles("selu", "celu", "softsign")
def named_activation(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    return c.op(name, c.x(), **(dict(alpha=float(c.arg("alpha"))) if name == "celu" else {}))


@handles("silu")
def silu(c: Call) -> Value:
    return c.op("silu", c.x())


@handles("gelu")
def gelu(c: Call) -> Value:
    return c.op("gelu", c.x(), approximate=c.arg("approximate") == "tanh")


@handles("hardsigmoid")
def hardsigmoid(c: Call) -> Value:
    return c.op("hard_sigmoid", c.x(), alpha=1 / 6, beta=0.5)


@handles("hardtanh")
def hardtanh(c: Call) -> Value:
    x = c.x()
    low, high = c.arg("min_val"), c.arg("max_val")
    if (low, high) == (0, 6):
        return c.op("relu6", x)
    return c.op("clip", x, c.scalar(low, x), c.scalar(high, x))


@handles("softplus")
def softplus(c: Call) -> Value:
    x, beta = c.x(), float(c.arg("beta"))
    scaled = x if beta == 1 else c.op("mul", x, c.scalar(beta, x))
    y = c.op("softplus", scaled)
    y = y if beta == 1 else c.op("div", y, c.scalar(beta, x))
    return c.op("where", c.op("greater", scaled, c.scalar(float(c.arg("threshold")), x)), x, y)


@handles("log_sigmoid")
def log_sigmoid(c: Call) -> Value:
    return c.op("neg", c.op("softplus", c.op("neg", c.x())))


@handles("threshold")
def threshold(c: Call) -> Value:
    x = c.x()
    return c.op("where", c.op("greater", x, c.scalar(c.arg("threshold"), x)), x, c.scalar(c.arg("value"), x))


@handles("softshrink", "hardshrink")
def shrinks(c: Call) -> Value:
    lam = float(c.arg("lambd"))
    return c.op("shrink", c.x(), lambd=lam, bias=lam if "softshrink" in str(c.node.target) else 0.0)


@handles("prelu", "_prelu_kernel")
def prelu(c: Call) -> Value:
    x, w = c.x(), c.x("weight")
    if c.rank(w) == 1 and c.rank(x) > 1:
        w = c.reshape(w, -1, *[1] * (c.rank(x) - 2))
    return c.op("prelu", x, w)


@handles("clamp", "clamp_min", "clamp_max", "clip")
def clamp(c: Call) -> Value:
    x = c.x("self", c.dtype)
    low, high = (None if c.args.get(k) is None else c.x(k, c.dtype) for k in ("min", "max"))
    if all(v is None or v.shape == () for v in (low, high)):
        return c.op("clip", x, low, high)
    x = x if low is None else c.op("maximum", x, low)
    return x if high is None else c.op("minimum", x, high)


# ---- binary
@handles("add", "sub", "rsub")
def add_or_sub(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    a, b = c.x("self", c.dtype), c.x("other", c.dtype)
    alpha = c.arg("alpha")
    if alpha not in (None, 1):
        if name == "rsub":
            a = c.op("mul", a, c.scalar(alpha, a))
        else:
            b = c.op("mul", b, c.scalar(alpha, b))
    if name == "rsub":
        return c.op("sub", b, a)
    if c.dtype is dtypes.bool_:
        return c.op("logical_or", a, b)
    return c.op(name, a, b)


@handles("mul")
def mul(c: Call) -> Value:
    a, b = c.x("self", c.dtype), c.x("other", c.dtype)
    return c.op("logical_and" if c.dtype is dtypes.bool_ else "mul", a, b)


@handles("div", "true_divide", "divide")
def div(c: Call) -> Value:
    mode = c.args.get("rounding_mode")
    a, b = c.x("self", c.dtype), c.x("other", c.dtype)
    if mode is None:
        return c.op("div", a, b)
    if mode == "floor":
        return c.op("floor_div", a, b)
    y = c.op("div", a, b)
    return c.op("trunc", y) if c.dtype.kind == "f" else y


@handles("floor_divide")
def floor_divide(c: Call) -> Value:
    return c.op("floor_div", c.x("self", c.dtype), c.x("other", c.dtype))


@handles("remainder", "fmod")
def remainder(c: Call) -> Value:
    return c.op("mod", c.x("self", c.dtype), c.x("other", c.dtype), fmod="fmod" in str(c.node.target))


@handles("pow")
def power(c: Call) -> Value:
    x, e = c.x("self", c.dtype), c.arg("exponent")
    if e == 2:
        return c.op("square", x)
    if e == 0.5:
        return c.op("sqrt", x)
    if e == -0.5:
        return c.op("rsqrt", x)
    return c.op("pow", x, c.tensor(e, c.dtype))


_SAME = {"maximum": "maximum", "minimum": "minimum", "atan2": "atan2"}


@handles(*_SAME)
def same_dtype(c: Call) -> Value:
    return c.op(_SAME[str(c.node.target).split(".")[1]], c.x("self", c.dtype), c.x("other", c.dtype))


_COMPARE = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}


@handles(*_COMPARE)
def compare(c: Call) -> Value:
    name = str(c.node.target).split(".")[1]
    a, b = c.promoted("self", "other")
    if a.dtype is dtypes.bool_ and name not in ("eq", "ne"):
        a, b = c.cast(a, "uint8"), c.cast(b, "uint8")
    return c.op(_COMPARE[name], a, b)


@handles("logical_and", "logical_or", "logical_xor")
def logical(c: Call) -> Value:
    return c.op(str(c.node.target).split(".")[1], truth(c, c.x("self")), truth(c, c.x("other")))


@handles("bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__")
def bitwise(c: Call) -> Value:
    kind = str(c.node.target).split(".")[1].strip("_").removeprefix("bitwise_")
    prefix = "logical_" if c.dtype is dtypes.bool_ else "bitwise_"
    return c.op(prefix + kind, c.x("self", c.dtype), c.x("other", c.dtype))


@handles("bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__")
def shift(c: Call) -> Value:
    left = "left" in str(c.node.target) or "lshift" in str(c.node.target)
    return c.op("shift_left" if left else "shift_right", c.x("self", c.dtype), c.x("other", c.dtype))


@handles("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(c: Call) -> Value:
    return c.op("where", c.x("condition"), c.x("self", c.dtype), c.x("other", c.dtype))


@handles("masked_fill")
def masked_fill(c: Call) -> Value:
    return c.op("where", c.x("mask"), c.x("value", c.dtype), c.x("self", c.dtype))


@handles("addcmul", "addcdiv")
def addc(c: Call) -> Value:
    """self + value * tensor1 (* or /) tensor2."""
    a, b = c.x("tensor1", c.dtype), c.x("tensor2", c.dtype)
    y = c.op("mul" if "addcmul" in str(c.node.target) else "div", a, b)
    value = c.arg("value")
    y = y if value == 1 else c.op("mul", y, c.scalar(value, y))
    return c.op("add", c.x("self", c.dtype), y)


@handles("lerp")
def lerp(c: Call) -> Value:
    a, b = c.x("self"), c.x("end")
    return c.op("add", a, c.op("mul", c.x("weight", c.dtype), c.op("sub", b, a)))


# ---- reductions
def over(c: Call, op: str, x: Value, dims: list[int], keep: bool) -> Value:
    """A reduction; a scalar stays what it is."""
    if c.rank(x) == 0:
        return x if op not in ("reduce_l2", "reduce_l1") else c.op("abs", x)
    return c.op(op, x, c.i64(*dims), keepdims=keep)


@handles("sum", "mean", "nansum")
def sum_or_mean(c: Call) -> Value:
    x = c.x("self", c.dtype)
    op = "reduce_mean" if ".mean." in str(c.node.target) else "reduce_sum"
    return over(c, op, x, c.dim_list("dim", x), bool(c.args.get("keepdim")))


@handles("amax", "amin")
def extremes(c: Call) -> Value:
    x = c.x()
    return over(c, f"reduce_{str(c.node.target).split('.')[1][1:]}", x, c.dim_list("dim", x), bool(c.arg("keepdim")))


@handles("max.default", "min.default")
def extreme_of_all(c: Call) -> Value:
    x = c.x()
    return over(c, f"reduce_{str(c.node.target).split('.')[1]}", x, list(range(c.rank(x))), False)


@handles("max.other", "min.other")
def extreme_of_two(c: Call) -> Value:
    return c.op("maximum" if ".max." in str(c.node.target) else "minimum", c.x("self", c.dtype), c.x("other", c.dtype))


@handles("max.dim", "min.dim")
def extreme_with_place(c: Call) -> list[Value]:
    x, dim, keep = c.x(), c.dim(), bool(c.arg("keepdim"))
    kind = str(c.node.target).split(".")[1]
    return [
        c.op(f"reduce_{kind}", x, c.i64(dim), keepdims=keep),
        c.op(f"arg_{kind}", x, axis=dim, keepdims=keep),
    ]


@handles("argmax", "argmin")
def arg_extreme(c: Call) -> Value:
    x = c.x()
    op = "arg_max" if "argmax" in str(c.node.target) else "arg_min"
    if c.args.get("dim") is None:
        y = c.op(op, c.reshape(x, -1), axis=0, keepdims=False)
        return c.reshape(y, *[1] * c.rank(x)) if c.arg("keepdim") else y
    return c.op(op, x, axis=c.dim(), keepdims=bool(c.arg("keepdim")))


@handles("prod")
def prod(c: Call) -> Value:
    x = c.x("self", c.dtype)
    return over(c, "reduce_prod", x, c.dim_list("dim", x), bool(c.args.get("keepdim")))


@handles("any", "all")
def any_or_all(c: Call) -> Value:
    x = truth(c, c.x())
    op = "reduce_max" if ".any." in str(c.node.target) else "reduce_min"
    return over(c, op, x, c.dim_list("dim", x), bool(c.args.get("keepdim")))


def variance(c: Call, x: Value, dims: list[int], keep: bool) -> tuple[Value, Value]:
    """(variance with the correction asked for, mean)."""
    axes = c.i64(*dims)
    mean = c.op("reduce_mean", x, axes)
    d = c.op("sub", x, mean)
    total = c.op("reduce_sum", c.op("square", d), axes, keepdims=keep)
    sizes = [c.shape(x)[i] for i in dims]
    correction = c.args.get("correction")
    if correction is None:
        correction = 1 if c.args.get("unbiased", True) in (True, None) else 0
    if all(isinstance(n, int) for n in sizes):
        count: Any = c.scalar(max(math.prod(sizes) - correction, 0), x)
    else:
        n = c.op("reduce_prod", c.op("gather", c.dims(x), axes), None, keepdims=False)
        count = c.op("maximum", c.op("sub", c.cast(n, x.dtype), c.scalar(correction, x)), c.scalar(0, x))
    return c.op("div", total, count), c.op("reduce_mean", x, axes, keepdims=keep)


@handles("var", "std")
def var_or_std(c: Call) -> Value:
    x = c.x()
    v, _ = variance(c, x, c.dim_list("dim", x), bool(c.args.get("keepdim")))
    return v if ".var." in str(c.node.target) else c.op("sqrt", v)


@handles("var_mean")
def var_mean(c: Call) -> list[Value]:
    x = c.x()
    return list(variance(c, x, c.dim_list("dim", x), bool(c.args.get("keepdim"))))


@handles("cumsum", "cumprod")
def cumulative(c: Call) -> Value:
    x = c.x("self", c.dtype)
    return x if c.rank(x) == 0 else c.op(str(c.node.target).split(".")[1], x, c.const(np.int64(c.dim())))


@handles("logsumexp")
def logsumexp(c: Call) -> Value:
    x = c.x("self", c.dtype)
    return over(c, "reduce_log_sum_exp", x, c.dim_list("dim", x), bool(c.arg("keepdim")))


@handles("linalg_vector_norm", "norm")
def vector_norm(c: Call) -> Value:
    x = c.x("self", c.dtype)
    order = c.args.get("ord", c.args.get("p"))
    order = 2 if order is None else order
    dims, keep = c.dim_list("dim", x), bool(c.args.get("keepdim"))
    if order in (1, 2):
        return over(c, f"reduce_l{int(order)}", x, dims, keep)
    if order in (math.inf, -math.inf):
        return over(c, "reduce_max" if order > 0 else "reduce_min", c.op("abs", x), dims, keep)
    if order == 0:
        return over(c, "reduce_sum", c.cast(truth(c, x), x.dtype), dims, keep)
    total = over(c, "reduce_sum", c.op("pow", c.op("abs", x), c.scalar(order, x)), dims, keep)
    return c.op("pow", total, c.scalar(1 / order, x))


# ---- products
@handles("mm", "bmm", "matmul", "mv", "dot")
def matmul(c: Call) -> Value:
    b = "vec" if "vec" in c.args else "tensor" if "tensor" in c.args else "mat2" if "mat2" in c.args else "other"
    return c.op("matmul", c.x(), c.x(b))


@handles("addmm", "baddbmm", "addmv")
def addmm(c: Call) -> Value:
    """beta * self + alpha * (a @ b)."""
    names = ("mat1", "mat2") if "mat1" in c.args else ("batch1", "batch2") if "batch1" in c.args else ("mat", "vec")
    bias, beta, alpha = c.x(), c.arg("beta"), c.arg("alpha")
    y = c.op("matmul", c.x(names[0]), c.x(names[1]), alpha=float(alpha))
    if beta == 0:
        return y
    return c.op("add", y, bias if beta == 1 else c.op("mul", bias, c.scalar(beta, bias)))


@handles("linear")
def linear(c: Call) -> Value:
    x, w = c.x("input"), c.x("weight")
    return c.op("matmul", x, w, c.opt("bias"), transpose_b=True)


@handles("einsum")
def einsum(c: Call) -> Value:
    return c.op("einsum", *c.arg("tensors"), equation=c.arg("equation").replace(" ", ""))


@handles("_cdist_forward", "cdist")
def cdist(c: Call) -> Value:
    """Distances between all rows of two sets."""
    d = c.op("sub", c.op("unsqueeze", c.x("x1"), c.i64(-2)), c.op("unsqueeze", c.x("x2"), c.i64(-3)))
    return _length_of(c, d, float(c.arg("p")))


@handles("_pdist_forward", "pdist")
def pdist(c: Call) -> Value:
    """Distances between all pairs of rows."""
    x = c.x()
    rows = c.shape(x)[0]
    if not isinstance(rows, int):
        raise UnsupportedError("an open number of rows; fix it (input_shapes=)")
    a, b = (c.op("gather", x, c.const(at.astype(np.int64)), axis=0) for at in np.triu_indices(rows, 1))
    return _length_of(c, c.op("sub", a, b), float(c.arg("p")))


def _length_of(c: Call, d: Value, p: float) -> Value:
    """The p-norm along the last dim."""
    if p == 0:
        return c.op("reduce_sum", c.cast(truth(c, d), d.dtype), c.i64(-1), keepdims=False)
    if p in (1.0, 2.0):
        return c.op(f"reduce_l{int(p)}", d, c.i64(-1), keepdims=False)
    if p == math.inf:
        return c.op("reduce_max", c.op("abs", d), c.i64(-1), keepdims=False)
    total = c.op("reduce_sum", c.op("pow", c.op("abs", d), c.scalar(p, d)), c.i64(-1), keepdims=False)
    return c.op("pow", total, c.scalar(1 / p, d))
