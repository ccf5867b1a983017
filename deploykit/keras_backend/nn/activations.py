"""Activations and softmax.  Signatures are Keras' own."""

from __future__ import annotations

import math

import numpy as np
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.numpy.elementwise import floating
from deploykit.ops.core import F


def _f(x):
    x = convert_to_tensor(x)
    return x if dtypes.dtype(x.dtype).kind == "f" else floating(x)


def relu(x):
    x = convert_to_tensor(x)
    return F.relu(x)


def relu6(x):
    return F.relu6(_f(x))


def sigmoid(x):
    return F.sigmoid(_f(x))


def tanh(x):
    return F.tanh(_f(x))


def softplus(x):
    return F.softplus(_f(x))


def softsign(x):
    return F.softsign(_f(x))


def silu(x):
    return F.silu(_f(x))


def log_sigmoid(x):
    return F.neg(F.softplus(F.neg(_f(x))))


def leaky_relu(x, negative_slope=0.2):
    return F.leaky_relu(_f(x), alpha=float(negative_slope))


def hard_sigmoid(x):
    return F.hard_sigmoid(_f(x), alpha=1 / 6, beta=0.5)


def hard_silu(x):
    return F.hard_swish(_f(x))


def elu(x, alpha=1.0):
    return F.elu(_f(x), alpha=float(alpha))


def selu(x):
    return F.selu(_f(x))


def celu(x, alpha=1.0):
    return F.celu(_f(x), alpha=float(alpha))


def gelu(x, approximate=True):
    return F.gelu(_f(x), approximate=bool(approximate))


def glu(x, axis=-1):
    x = _f(x)
    if x.shape[axis] % 2:
        raise ValueError(f"axis size must be divisible by 2. Received: x.shape={tuple(x.shape)} with axis={axis}")
    a, b = N.split(x, 2, axis)
    return F.mul(a, F.sigmoid(b))


def hard_tanh(x):
    return N.clip(_f(x), -1.0, 1.0)


def hard_shrink(x, threshold=0.5):
    x = _f(x)
    return F.where(F.greater(F.abs(x), threshold), x, N.zeros_like(x))


def soft_shrink(x, threshold=0.5):
    x = _f(x)
    inside = F.where(F.less(x, -threshold), F.add(x, threshold), N.zeros_like(x))
    return F.where(F.greater(x, threshold), F.sub(x, threshold), inside)


def tanh_shrink(x):
    x = _f(x)
    return F.sub(x, F.tanh(x))


def threshold(x, threshold, default_value):
    x = _f(x)
    return F.where(F.greater(x, threshold), x, N.full_like(x, default_value))


def squareplus(x, b=4):
    x = _f(x)
    return F.mul(F.add(x, F.sqrt(F.add(F.square(x), float(b)))), 0.5)


def sparse_plus(x):
    x = _f(x)
    middle = F.mul(F.square(F.add(x, 1.0)), 0.25)
    return F.where(F.less_equal(x, -1.0), N.zeros_like(x), F.where(F.less(x, 1.0), middle, x))


def sparse_sigmoid(x):
    return N.clip(F.mul(F.add(_f(x), 1.0), 0.5), 0.0, 1.0)


def softmax(x, axis=-1):
    x = _f(x)
    if axis is None:
        return N.reshape(F.softmax(N.reshape(x, (-1,))), x.shape)
    return F.softmax(x, axis=axis)


def log_softmax(x, axis=-1):
    x = _f(x)
    if axis is None:
        return N.reshape(F.log_softmax(N.reshape(x, (-1,))), x.shape)
    return F.log_softmax(x, axis=axis)


def sparsemax(x, axis=-1):
    """Euclidean projection onto the simplex (Martins and Astudillo, 2016)."""
    x = N.moveaxis(_f(x), axis, -1)
    n = x.shape[-1]
    ordered = F.top_k(x, np.array([n], np.int64))[0]
    total = F.cumsum(ordered, np.int64(x.ndim - 1))
    rank = np.arange(1, n + 1).astype(x.dtype)
    inside = F.greater(F.add(F.mul(ordered, rank), 1.0), total)
    count = N.sum(N.cast(inside, x.dtype), -1, True)
    tau = F.div(F.sub(N.sum(F.where(inside, ordered, N.zeros_like(ordered)), -1, True), 1.0), count)
    return N.moveaxis(F.relu(F.sub(x, tau)), -1, axis)


# ---------------------------------------------------------------- attention
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """By op ``attention``, which holds one row of scores at a time: so with or without ``flash_attention``."""
    q, k, v = (convert_to_tensor(x) for x in (query, key, value))
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(
            "`dot_product_attention` only supports 4D inputs. Received: "
            f"query.shape={tuple(q.shape)}, key.shape={tuple(k.shape)}, value.shape={tuple(v.shape)}."
        )
    dtype = result_type(q.dtype, k.dtype, v.dtype)
    q, k, v = (N.transpose(convert_to_tensor(x, dtype), (0, 2, 1, 3)) for x in (q, k, v))
    added = None if bias is None else convert_to_tensor(bias, dtype)
    if mask is not None:
        mask = convert_to_tensor(mask, "bool")
        low = np.asarray(-0.7 * float(np.finfo(np.float16 if dtype == "float16" else np.float32).max)).astype(q.dtype)
        blocked = F.where(mask, np.zeros((), q.dtype), low)
        added = blocked if added is None else F.add(added, blocked)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    y = F.attention(q, k, v, added, scale=scale, causal=bool(is_causal), softcap=float(attn_logits_soft_cap or 0.0))
    return N.transpose(y, (0, 2, 1, 3))
