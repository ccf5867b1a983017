"""Matrix products."""

from __future__ import annotations

import re
from string import ascii_letters
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Shape
from deploykit.ops.activation import ACT_ATTRS
from deploykit.ops.core import F, Required, Spec, op
from deploykit.ops.epilogue import epilogue, epilogue_gradient
from deploykit.ops.grads import broadcast_to, known_dim, np_dtype, rank_of, reshape_like, sum_to
from deploykit.ops.numerics import back, compute, is_float, wide
from deploykit.ops.rules import (
    broadcast_shapes,
    error,
    require_kind,
    require_rank,
    require_same_dtype,
    show,
    unify_dim,
    unify_shapes,
)
from deploykit.ops.samples import heavy as cases


def swap_last(x: np.ndarray) -> np.ndarray:
    """The last two dims exchanged; vectors stay."""
    return np.swapaxes(x, -1, -2) if x.ndim >= 2 else x


def matmul_shape(
    a: Shape | None, b: Shape | None, transpose_a: bool = False, transpose_b: bool = False
) -> Shape | None:
    """Shape of a matrix product by NumPy's rules; raises ShapeError.

    >>> matmul_shape((5, 2, 3), (3, 4))
    (5, 2, 4)
    """
    for which, s in (("a", a), ("b", b)):
        if s == ():
            raise error(f"shape of {which}", "a scalar", "rank 1 or more")
    if a is None or b is None:
        return None
    if transpose_a and len(a) >= 2:
        a = (*a[:-2], a[-1], a[-2])
    if transpose_b and len(b) >= 2:
        b = (*b[:-2], b[-1], b[-2])
    inner = b[-1] if len(b) == 1 else b[-2]
    unify_dim(a[-1], inner, f"inner sizes of {show(a)} and {show(b)}")
    batch = broadcast_shapes(a[:-2], b[:-2])
    assert batch is not None
    return (*batch, *(a[-2:-1] if len(a) > 1 else ()), *(b[-1:] if len(b) > 1 else ()))


def _product_gradients(g: Any, a: Any, b: Any, ta: bool, tb: bool, alpha: float) -> tuple[Any, Any]:
    """Gradients of alpha * (a @ b) with respect to a and b."""
    ra, rb = rank_of(a), rank_of(b)
    # vectors become matrices with one row (a) or one column (b); g gets the dims that the product dropped
    if rb == 1:
        g = F.unsqueeze(g, np.array([-1]))
    if ra == 1:
        g = F.unsqueeze(g, np.array([-2]))
    am = F.unsqueeze(a, np.array([0])) if ra == 1 else a
    bm = F.unsqueeze(b, np.array([1])) if rb == 1 else b
    ta, tb = ta and ra > 1, tb and rb > 1
    if rb <= 2 and ra > 2 and not ta:
        # one matrix for the whole batch: its gradient is one long product, not a sum over many small ones
        rows = F.reshape(am, np.array([-1, known_dim(am, -1)], np.int64))
        cols = F.reshape(g, np.array([-1, known_dim(g, -1)], np.int64))
        db = F.matmul(cols, rows, transpose_a=True, alpha=alpha) if tb else None
        db = F.matmul(rows, cols, transpose_a=True, alpha=alpha) if db is None else db
    elif tb:
        db = sum_to(F.matmul(g, am, transpose_a=True, transpose_b=ta, alpha=alpha), bm)
    else:
        db = sum_to(F.matmul(am, g, transpose_a=not ta, alpha=alpha), bm)
    if ta:
        da = sum_to(F.matmul(bm, g, transpose_a=tb, transpose_b=True, alpha=alpha), am)
    else:
        da = sum_to(F.matmul(g, bm, transpose_b=not tb, alpha=alpha), am)
    return reshape_like(da, a) if ra == 1 else da, reshape_like(db, b) if rb == 1 else db


@op(
    120,
    "a, b, bias?, residual? -> y",
    attrs=dict(transpose_a=False, transpose_b=False, alpha=1.0, **ACT_ATTRS, act_after=False),
)
class matmul:
    """act(alpha * (a @ b) + bias) + residual, or act(alpha * (a @ b) + bias + residual) when act_after, with NumPy's
    matmul rules for vectors and batch dims.

    transpose_x swaps the last two dims of an operand of rank >= 2.  bias broadcasts against the product as in NumPy
    (usually a vector [N]); residual has the shape of the result.  Integers wrap.
    """

    samples = cases.matmul

    def infer(a, b, bias=None, residual=None, *, transpose_a, transpose_b, act, **_):
        dtype = require_same_dtype(a, b, bias, residual)
        require_kind(a, "fiu" if act == "none" else "f", "a")
        shape = matmul_shape(a.shape, b.shape, transpose_a, transpose_b)
        if bias is not None:
            shape = broadcast_shapes(shape, bias.shape)
        if residual is not None:
            shape = unify_shapes(shape, residual.shape, "shapes of the result and of residual")
        return Spec(dtype, shape)

    def reference(
        a, b, bias=None, residual=None, *, transpose_a, transpose_b, alpha, act, act_alpha, act_beta, act_after
    ):
        aw, bw = (wide(x) if is_float(x) else compute(x) for x in (a, b))
        aw = swap_last(aw) if transpose_a else aw
        bw = swap_last(bw) if transpose_b else bw
        y = np.matmul(aw, bw)
        if alpha != 1.0:
            y = y * y.dtype.type(alpha)
        return epilogue(y, bias, residual, act, act_alpha, act_beta, act_after, a.dtype)

    def vjp(g, y, a, b, bias=None, residual=None, *, transpose_a, transpose_b, alpha, **tail):
        plain = dict(transpose_a=transpose_a, transpose_b=transpose_b, alpha=alpha)
        g, gbias, gresidual = epilogue_gradient(g, y, bias, residual, **tail, linear=lambda: F.matmul(a, b, **plain))
        return *_product_gradients(g, a, b, transpose_a, transpose_b, alpha), gbias, gresidual


@op(
    121,
    "a, b, a_zero_point?, b_zero_point? -> y",
    onnx="MatMulInteger",
    tolerance="exact",
    not_differentiable="integer op",
)
class matmul_integer:
    """(a - a_zero_point) @ (b - b_zero_point) for 8-bit operands, int32 result (wraps).  A zero point is a scalar, or a
    vector with one per row of a, per column of b, or has the operand's rank with 1 in the summed dim."""

    samples = cases.matmul_integer

    def infer(a, b, a_zero_point=None, b_zero_point=None):
        for which, s in (("a", a), ("b", b)):
            if s.dtype not in (dtypes.int8, dtypes.uint8):
                raise error(f"dtype of {which}", s.dtype, "int8 or uint8")
        require_same_dtype(a, a_zero_point, what="a and a_zero_point")
        require_same_dtype(b, b_zero_point, what="b and b_zero_point")
        return Spec(dtypes.int32, matmul_shape(a.shape, b.shape))

    def reference(a, b, a_zero_point=None, b_zero_point=None):
        # float64 through BLAS: products of 9-bit numbers add up exactly, far below 2^53
        af, bf = a.astype(np.float64), b.astype(np.float64)
        if a_zero_point is not None:
            z = a_zero_point.astype(np.float64)
            af = af - (z[:, None] if z.ndim == 1 and z.size > 1 and a.ndim > 1 else z)
        if b_zero_point is not None:
            bf = bf - b_zero_point.astype(np.float64)
        return np.matmul(af, bf).astype(np.int64).astype(np.int32)


def _parse_einsum(equation: str, ranks: list[int]) -> tuple[list[list[str]], list[str]]:
    """Index letters of each operand and of the result; the dims behind an ellipsis are called .0, .1, ... from the
    right.  Raises ShapeError."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if not re.fullmatch(r"[A-Za-z.,]*(->[A-Za-z.]*)?", text) or any(
        "." in t.replace("...", "", 1) for t in [*terms, right]
    ):
        raise error("cannot read the equation", repr(equation), "letters, commas, '...' and '->'")
    if len(terms) != len(ranks):
        raise error("number of operands", len(ranks), f"{len(terms)} in '{equation}'")

    def letters(term: str, hidden: int) -> list[str]:
        before, dots, after = term.partition("...")
        return [*before, *(f".{i}" for i in reversed(range(hidden)) if dots), *after]

    ins, most = [], 0
    for term, rank in zip(terms, ranks, strict=True):
        named = len(term.replace("...", ""))
        hidden = rank - named if "..." in term else 0
        if hidden < 0 or named + hidden != rank:
            raise error(f"rank of the operand for '{term}'", rank, named)
        most = max(most, hidden)
        ins.append(letters(term, hidden))
    if arrow:
        out = letters(right, most)
        if len(set(out)) != len(out) or not set(out) <= {c for t in ins for c in t}:
            raise error("the result repeats or invents an index", repr(right))
    else:
        flat = [c for t in ins for c in t]
        dots = [f".{i}" for i in reversed(range(most))]
        out = [*dots, *sorted(c for c in set(flat) if flat.count(c) == 1 and not c.startswith("."))]
    return ins, out


@op(122, "xs* -> y", attrs=dict(equation=Required("str")), onnx="Einsum")
class einsum:
    "Einstein summation as numpy.einsum: explicit or implicit output, ellipsis, repeated and batch indices."

    samples = cases.einsum

    def infer(*xs, equation):
        dtype = require_same_dtype(*xs)
        require_kind(xs[0], "fiu", "operands")
        if any(x.shape is None for x in xs):
            return Spec(dtype, None)
        ins, out = _parse_einsum(equation, [len(x.shape) for x in xs])
        sizes: dict = {}
        for letters, x in zip(ins, xs, strict=True):
            for c, d in zip(letters, x.shape, strict=True):
                if c not in sizes:
                    sizes[c] = d
                elif c.startswith("."):
                    sizes[c] = broadcast_shapes((sizes[c],), (d,))[0]
                elif sizes[c] == 1:  # numpy lets a size of 1 broadcast under a letter, too
                    sizes[c] = d
                elif d != 1:
                    sizes[c] = unify_dim(sizes[c], d, f"sizes of index '{c}'")
        return Spec(dtype, tuple(sizes[c] for c in out))

    def reference(*xs, equation):
        ws = [wide(x) if is_float(x) else compute(x) for x in xs]
        return back(np.einsum(equation.replace(" ", ""), *ws, optimize=len(ws) > 1), xs[0].dtype)

    def vjp(g, y, *xs, equation):
        ins, out = _parse_einsum(equation, [rank_of(x) for x in xs])
        spare = iter(c for c in ascii_letters if c not in equation)
        names = {c: next(spare) for t in ins for c in t if c.startswith(".")}  # the dims behind an ellipsis
        ins, out = [[names.get(c, c) for c in t] for t in ins], [names.get(c, c) for c in out]
        grads = []
        for k, x in enumerate(xs):
            others = [t for i, t in enumerate(ins) if i != k]
            operands = [g, *(o for i, o in enumerate(xs) if i != k)]
            terms = [out, *others]
            # an index that stands twice in this operand reads its diagonal: the gradient is put back on it by an eye
            mine: list[str] = []
            for i, c in enumerate(ins[k]):
                if c in mine:
                    twin = next(spare)
                    operands.append(np.eye(known_dim(x, i), dtype=np_dtype(x)))
                    terms.append([c, twin])
                    mine.append(twin)
                else:
                    mine.append(c)
            # an index that was summed over, and stands nowhere else, has the same gradient at all its places
            there = {c for t in terms for c in t}
            kept = [c for c in mine if c in there]
            d = F.einsum(*operands, equation=",".join("".join(t) for t in terms) + "->" + "".join(kept))
            lost = [i for i, c in enumerate(mine) if c not in there]
            if lost:
                d = broadcast_to(F.unsqueeze(d, np.array(lost, np.int64)), x)
            grads.append(sum_to(d, x))
        return tuple(grads)


@op(123, "x -> y", onnx="Det", not_differentiable="needs the inverse matrix, for which there is no op")
class det:
    "Determinant of the last two dims (square)."

    samples = cases.det

    def infer(x):
        require_kind(x, "f")
        require_rank(x, 2, 99)
        if x.shape is None:
            return Spec(x.dtype, None)
        unify_dim(x.shape[-1], x.shape[-2], "sizes of the last two dims")
        return Spec(x.dtype, x.shape[:-2])

    def reference(x):
        return back(np.linalg.det(wide(x)), x.dtype)
