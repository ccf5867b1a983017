"""Quantiles, histograms, correlation.  Signatures are Keras' own."""

from __future__ import annotations

import numpy as np
from keras.src.backend import config
from keras.src.backend.common.dtypes import result_type

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.host import host
from deploykit.keras_backend.numpy.reductions import axes_of
from deploykit.ops.core import F


def _by_numpy(name):
    run = getattr(np, name)

    def f(x, *q, axis=None, method="linear", keepdims=False):
        x = convert_to_tensor(x)
        dtype = config.floatx() if x.dtype.name == "int64" else result_type(x.dtype, float)
        given = [convert_to_tensor(v, "float64") for v in q]

        def g(a, *q):
            how = dict(method=method) if q else {}
            axes = tuple(axis) if isinstance(axis, list) else axis
            return np.asarray(run(a, *q, axis=axes, keepdims=keepdims, **how))

        return host(name, g, convert_to_tensor(x, "float64"), *given, dtype=dtype)

    return f


_nanquantile, _nanpercentile, _nanmedian = (_by_numpy(n) for n in ("nanquantile", "nanpercentile", "nanmedian"))


def nanquantile(x, q, axis=None, method="linear", keepdims=False):
    return _nanquantile(x, q, axis=axis, method=method, keepdims=keepdims)


def nanpercentile(x, q, axis=None, method="linear", keepdims=False):
    return _nanpercentile(x, q, axis=axis, method=method, keepdims=keepdims)


def nanmedian(x, axis=None, keepdims=False):
    return _nanmedian(x, axis=axis, keepdims=keepdims)


def quantile(x, q, axis=None, method="linear", keepdims=False):
    """By sorting, so that gradients flow to the elements it lies between."""
    x, q = convert_to_tensor(x), np.asarray(convert_to_tensor(q, "float64"))
    dtype = config.floatx() if x.dtype.name == "int64" else result_type(x.dtype, float)
    x = convert_to_tensor(x, dtype)
    axes = axes_of(x, axis)
    kept = [i for i in range(x.ndim) if i not in axes]
    lead = [x.shape[i] for i in kept]
    flat = N.reshape(N.transpose(x, [*kept, *axes]), (*lead, -1))
    n = flat.shape[-1]
    ordered = F.top_k(flat, np.array([n], np.int64), axis=-1, largest=False)[0]
    at = q * (n - 1)
    low, high = np.floor(at), np.ceil(at)
    share = {"linear": at - low, "lower": 0 * at, "higher": 1 + 0 * at, "midpoint": 0.5 + 0 * at,
             "nearest": (np.round(at) > low).astype(float)}.get(method)  # fmt: skip
    if share is None:
        raise ValueError(f"method: got {method!r}, expected 'linear', 'lower', 'higher', 'midpoint' or 'nearest'.")
    a, b = (F.gather(ordered, v.astype(np.int64), axis=len(lead)) for v in (low, high))
    share = share.astype(dtypes.dtype(dtype).np)
    y = F.add(F.mul(a, (1 - share).astype(share.dtype)), F.mul(b, share))
    bad = F.gather(F.is_nan(ordered), np.array(n - 1), axis=len(lead))
    bad = N.reshape(bad, (*lead, *[1] * q.ndim)) if q.ndim else bad
    y = F.where(bad, N.full_like(y, float("nan")), y)
    y = N.moveaxis(y, range(len(lead), len(lead) + q.ndim), range(q.ndim)) if q.ndim else y
    if keepdims:
        y = N.reshape(y, (*q.shape, *[1 if i in axes else d for i, d in enumerate(x.shape)]))
    return y


def percentile(x, q, axis=None, method="linear", keepdims=False):
    q = convert_to_tensor(q, "float64")
    return quantile(x, F.div(q, 100.0), axis, method, keepdims)


def median(x, axis=None, keepdims=False):
    return quantile(x, 0.5, axis, "linear", keepdims)


def histogram(x, bins=10, range=None):
    def f(a):
        return np.histogram(a, bins=bins, range=range)

    counts, edges = host("histogram", f, convert_to_tensor(x))
    return convert_to_tensor(counts, "int32"), convert_to_tensor(edges, config.floatx())


def bincount(x, weights=None, minlength=0, sparse=False):
    if sparse:
        raise ValueError("Unsupported value `sparse=True` with the deploykit backend")
    x = convert_to_tensor(x)
    dtype = "int32"
    if weights is not None:
        weights = convert_to_tensor(weights)
        dtype = result_type(x.dtype, weights.dtype)

    def f(a, *w):
        if a.ndim == 2:
            rows = [np.bincount(r, w[0][i] if w else None, minlength) for i, r in enumerate(a)]
            n = max(map(len, rows))
            return np.stack([np.pad(r, (0, n - len(r))) for r in rows])
        return np.bincount(a, w[0] if w else None, minlength)

    return host("bincount", f, x, *([] if weights is None else [weights]), dtype=dtype)


def corrcoef(x):
    x = convert_to_tensor(x)
    dtype = x.dtype.name
    to = "float64" if dtype in ("int64", "float64") else dtype if dtype in ("bfloat16", "float16") else config.floatx()
    x = convert_to_tensor(x, to)
    x = N.reshape(x, (1, -1)) if x.ndim == 1 else x
    centred = F.sub(x, N.mean(x, 1, True))
    cov = F.matmul(centred, N.transpose(centred))
    size = F.sqrt(F.gather(N.reshape(cov, (-1,)), np.arange(cov.shape[0]) * (cov.shape[0] + 1)))
    y = F.clip(
        F.div(F.div(cov, size), N.reshape(size, (-1, 1))), *(np.asarray(v, dtypes.dtype(to).np) for v in (-1, 1))
    )
    return N.reshape(y, ()) if y.shape == (1, 1) else y
