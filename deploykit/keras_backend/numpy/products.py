"""Products of matrices and vectors.  Signatures are Keras' own."""

from __future__ import annotations

import numpy as np
from keras.src import tree
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.host import host
from deploykit.keras_backend.numpy.elementwise import multiply, same, subtract
from deploykit.keras_backend.numpy.reductions import sum
from deploykit.ops.core import F


def _computed(f, xs, dtype):
    """f on tensors of a dtype that products are computed in; the result in ``dtype``."""
    d = dtypes.dtype(dtype)
    to = dtype if d.kind == "f" else "float64" if d.bits > 16 or d.kind == "b" else "float32"
    return convert_to_tensor(f(*[convert_to_tensor(x, to) for x in xs]), dtype)


def _product(f, grow_int8=False):
    def g(x1, x2):
        a, b = convert_to_tensor(x1), convert_to_tensor(x2)
        both8 = grow_int8 and a.dtype.name == b.dtype.name == "int8"
        return _computed(f, (a, b), "int32" if both8 else result_type(a.dtype, b.dtype))

    return g


def _matmul(a, b):
    for x in (a, b):
        if x.ndim == 0:
            raise ValueError("matmul: operands must have at least one dim; use multiply for scalars.")
    return N.matmul(a, b)


matmul = _product(_matmul, True)
dot = _product(N.dot)
outer = _product(N.outer)


@_product
def inner(a, b):
    if a.ndim == 0 or b.ndim == 0:
        return F.mul(a, b)
    return N.tensordot(a, b, ([-1], [-1]))


@_product
def vdot(a, b):
    return N.sum(F.mul(N.reshape(a, (-1,)), N.reshape(b, (-1,))))


@_product
def kron(a, b):
    n = max(a.ndim, b.ndim)
    a, b = (N.reshape(x, (*[1] * (n - x.ndim), *x.shape)) for x in (a, b))
    left = F.unsqueeze(a, np.arange(1, 2 * n, 2))
    right = F.unsqueeze(b, np.arange(0, 2 * n, 2))
    return N.reshape(F.mul(left, right), [p * q for p, q in zip(a.shape, b.shape, strict=True)])


def tensordot(x1, x2, axes=2):
    axes = tuple(axes) if isinstance(axes, list) else axes
    a, b = convert_to_tensor(x1), convert_to_tensor(x2)
    return _computed(lambda a, b: N.tensordot(a, b, axes), (a, b), result_type(a.dtype, b.dtype))


def einsum(subscripts, *operands, **kwargs):
    xs = [convert_to_tensor(x) for x in tree.flatten(operands)]
    names = {x.dtype.name for x in xs}
    dtype = "int32" if names == {"int8"} else result_type(*names)
    return _computed(lambda *xs: F.einsum(*xs, equation=subscripts.replace(" ", "")), xs, dtype)


def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    a, b = same(x1, x2)
    a, b = N.moveaxis(a, axisa, -1), N.moveaxis(b, axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError(f"cross: the vectors have {a.shape[-1]} and {b.shape[-1]} elements, expected 2 or 3.")
    (a0, a1, *a2), (b0, b1, *b2) = ([x[..., i] for i in range(x.shape[-1])] for x in (a, b))

    def term(p, q, r, s):  # p q - r s, where a missing third element is zero
        left = multiply(p[0], q[0]) if p and q else None
        right = multiply(r[0], s[0]) if r and s else None
        if left is None:
            return N.zeros_like(multiply(a0, b0)) if right is None else subtract(N.zeros_like(right), right)
        return left if right is None else subtract(left, right)

    last = term([a0], [b1], [a1], [b0])
    if not a2 and not b2:
        return last
    parts = [term([a1], b2, a2, [b1]), term(a2, [b0], [a0], b2), last]
    return N.stack(N.broadcast_arrays(*parts), axisc)


def correlate(x1, x2, mode="valid"):
    a, b = same(x1, x2)
    if dtypes.dtype(a.dtype).kind != "f":
        a, b = convert_to_tensor(a, "float32"), convert_to_tensor(b, "float32")
    n, m = a.shape[0], b.shape[0]
    swapped = m > n and mode == "valid"
    a, b = (b, a) if swapped else (a, b)
    if mode not in ("valid", "same", "full"):
        raise ValueError(f"mode: got {mode!r}, expected 'valid', 'same' or 'full'.")
    k = b.shape[0]
    full = F.conv(N.reshape(a, (1, -1, 1)), N.reshape(b, (1, -1, 1)), pads=(k - 1, k - 1))
    y = N.reshape(full, (-1,))
    if mode == "valid":
        y = y[k - 1 : len(y) - k + 1]
    elif mode == "same":
        start = (min(n, m) - 1) // 2 if n >= m else n - 1 - (n - 1) // 2
        y = y[start : start + max(n, m)]
    return N.flip(y) if swapped else y


def slogdet(x):
    return host(
        "slogdet", lambda a: tuple(np.linalg.slogdet(a)), convert_to_tensor(x), dtype=convert_to_tensor(x).dtype
    )


def trapezoid(y, x=None, dx=1.0, axis=-1):
    y = convert_to_tensor(y)
    to = result_type(y.dtype, float)
    y = N.moveaxis(convert_to_tensor(y, to), axis, -1)
    if x is None:
        step = convert_to_tensor(dx, to)
    else:
        x = convert_to_tensor(x, to)
        x = x if x.ndim == 1 else N.moveaxis(x, axis, -1)
        step = F.sub(x[..., 1:], x[..., :-1])
    return sum(F.mul(F.mul(F.add(y[..., 1:], y[..., :-1]), step), 0.5), -1)
