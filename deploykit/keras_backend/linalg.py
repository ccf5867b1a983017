"""``keras.backend.linalg``: by NumPy on numbers, except what matmul and reductions give."""

from __future__ import annotations

import numpy as np
from keras.src.backend.common.dtypes import result_type

from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.host import host
from deploykit.keras_backend.numpy.reductions import axes_of
from deploykit.ops.core import F


def _float(x):
    x = convert_to_tensor(x)
    return convert_to_tensor(x, result_type(x.dtype, float))


def _host(name, f, *xs):
    given = [_float(x) for x in xs]
    return host(name, f, *given, dtype=given[0].dtype)


def cholesky(a, upper=False):
    def f(a):
        low = np.linalg.cholesky(a)
        return np.swapaxes(low, -1, -2) if upper else low

    return _host("cholesky", f, a)


def cholesky_inverse(a, upper=False):
    def f(a):
        full = np.swapaxes(a, -1, -2) @ a if upper else a @ np.swapaxes(a, -1, -2)
        return np.linalg.inv(full)

    return _host("cholesky_inverse", f, a)


def det(a):
    return F.det(_float(a))


def eig(a):
    return _host("eig", lambda a: tuple(np.linalg.eig(a)), a)


def eigh(a):
    return _host("eigh", lambda a: tuple(np.linalg.eigh(a)), a)


def inv(a):
    return _host("inv", np.linalg.inv, a)


def lu_factor(a):
    def one(a):
        """Partial pivoting; rows exchanged as LAPACK's getrf says."""
        lu, pivots = a.astype(np.float64), np.zeros(min(a.shape), np.int32)
        for k in range(len(pivots)):
            p = k + int(np.argmax(np.abs(lu[k:, k])))
            pivots[k] = p
            lu[[k, p]] = lu[[p, k]]
            if lu[k, k]:
                lu[k + 1 :, k] /= lu[k, k]
                lu[k + 1 :, k + 1 :] -= np.outer(lu[k + 1 :, k], lu[k, k + 1 :])
        return lu.astype(a.dtype), pivots

    def f(a):
        flat = [one(m) for m in a.reshape(-1, *a.shape[-2:])]
        lu, pivots = (np.stack(v) for v in zip(*flat, strict=True))
        return lu.reshape(a.shape), pivots.reshape(*a.shape[:-2], -1)

    return host("lu_factor", f, _float(a))


def norm(x, ord=None, axis=None, keepdims=False):
    x = _float(x)
    axes = axes_of(x, axis)
    if len(set(axes)) < len(axes):
        raise ValueError(f"Duplicate axes given: axis={axis}.")
    if ord in ("fro", "nuc") and len(axes) != 2:
        raise ValueError(f"Invalid `ord` argument for vector norm. Received: ord={ord} over {len(axes)} dim(s)")
    if ord is None or (ord == 2 and len(axes) == 1) or ord == "fro":
        return N.sqrt(N.sum(N.square(x), axes, keepdims))
    if len(axes) == 1 and ord != "nuc":
        if ord in (np.inf, float("inf")):
            return N.max(N.abs(x), axes, keepdims)
        if ord in (-np.inf, float("-inf")):
            return N.min(N.abs(x), axes, keepdims)
        if ord == 1:
            return N.sum(N.abs(x), axes, keepdims)
    return host(
        "norm", lambda a: np.linalg.norm(a, ord, axes if len(axes) > 1 else axes[0], keepdims), x, dtype=x.dtype
    )


def qr(x, mode="reduced"):
    if mode not in {"reduced", "complete"}:
        raise ValueError(
            f"`mode` argument value not supported. Expected one of {{'reduced', 'complete'}}. Received: {mode}"
        )
    return _host("qr", lambda a: tuple(np.linalg.qr(a, mode)), x)


def solve(a, b):
    def f(a, b):
        return np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == a.ndim - 1 else np.linalg.solve(a, b)

    return _host("solve", f, a, b)


def solve_triangular(a, b, lower=False):
    def f(a, b):
        a = np.tril(a) if lower else np.triu(a)
        return np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == a.ndim - 1 else np.linalg.solve(a, b)

    return _host("solve_triangular", f, a, b)


def svd(x, full_matrices=True, compute_uv=True):
    def f(a):
        out = np.linalg.svd(a, full_matrices, compute_uv)
        return tuple(out) if compute_uv else out

    return _host("svd", f, x)


def lstsq(a, b, rcond=None):
    return _host("lstsq", lambda a, b: np.linalg.lstsq(a, b, rcond)[0], a, b)


def matrix_rank(x, tol=None):
    return host("matrix_rank", lambda a: np.asarray(np.linalg.matrix_rank(a, tol)), _float(x), dtype="int32")


def pinv(x, rcond=None):
    return _host("pinv", lambda a: np.linalg.pinv(a, rcond) if rcond is not None else np.linalg.pinv(a), x)


def jvp(fun, primals, tangents, has_aux=False):
    """Forward mode by two backward walks (the transpose of the transpose)."""
    from deploykit.autodiff.tape import GradientTape

    xs = [convert_to_tensor(p) for p in primals]
    ts = [convert_to_tensor(t) for t in tangents]
    with GradientTape(persistent=True) as outer:
        with GradientTape() as inner:
            inner.watch(xs)
            out = fun(*xs)
            y, aux = out if has_aux else (out, None)
        dummy = N.zeros_like(y)
        outer.watch(dummy)
        back = inner.gradient(y, xs, dummy, unconnected_gradients="zero")
    got = outer.gradient(back, dummy, ts, unconnected_gradients="zero")
    return (y, got, aux) if has_aux else (y, got)
