"""``keras.backend.math``: segments, top k, error functions, Fourier transforms as pairs of real tensors."""

from __future__ import annotations

import builtins

import numpy as np

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.autodiff.tape import custom_gradient
from deploykit.keras_backend.core import convert_to_tensor
from deploykit.keras_backend.missing import missing
from deploykit.keras_backend.numpy.elementwise import floating
from deploykit.keras_backend.numpy.products import slogdet
from deploykit.keras_backend.numpy.reductions import axes_of
from deploykit.ops.core import F


def _lowest(dtype, top=False):
    d = dtypes.dtype(dtype)
    if d.kind == "f":
        return float("inf") if top else float("-inf")
    info = np.iinfo(d.np)
    return info.max if top else info.min


def _segment(reduction, start):
    def f(data, segment_ids, num_segments=None, sorted=False):
        data, ids = convert_to_tensor(data), convert_to_tensor(segment_ids, "int64")
        if num_segments is None:
            num_segments = int(np.asarray(ids).max()) + 1  # TraceError in a trace: give num_segments
        n = int(num_segments)
        ids = F.where(
            F.logical_or(F.less(ids, 0), F.greater_equal(ids, n)), np.int64(n), ids
        )  # one row for the ignored
        base = N.full((n + 1, *data.shape[1:]), start(data.dtype), data.dtype)
        return F.scatter_nd(base, F.unsqueeze(ids, np.array([1])), data, reduction=reduction)[:n]

    return f


segment_sum = _segment("add", lambda d: 0)
segment_prod = _segment("mul", lambda d: 1)
segment_max = _segment("max", _lowest)
segment_min = _segment("min", lambda d: _lowest(d, True))


def top_k(x, k, sorted=True):
    x = convert_to_tensor(x)
    values, places = F.top_k(x, np.array([int(k)], np.int64), axis=-1, sorted=sorted)
    return values, convert_to_tensor(places, "int32")


def in_top_k(targets, predictions, k):
    targets, predictions = convert_to_tensor(targets, "int64"), convert_to_tensor(predictions)
    n = predictions.shape[-1]
    least = top_k(predictions, builtins.min(int(k), n))[0][..., -1:]
    own = F.gather_elements(predictions, F.unsqueeze(targets, np.array([targets.ndim])), axis=-1)
    return N.reshape(F.greater_equal(own, least), targets.shape)


def logsumexp(x, axis=None, keepdims=False):
    x = floating(x)
    return N.logsumexp(x, axes_of(x, axis), keepdims)


def cdist(x, y):
    x, y = convert_to_tensor(x), convert_to_tensor(y)
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError("`cdist` inputs must have rank >= 2")
    if x.shape[-1] != y.shape[-1]:
        raise ValueError("Last dimension of inputs to `cdist` must match")
    gap = F.sub(F.unsqueeze(x, np.array([x.ndim - 1])), F.unsqueeze(y, np.array([y.ndim - 2])))
    return F.sqrt(N.sum(F.square(gap), -1))


def extract_sequences(x, sequence_length, sequence_stride):
    x = convert_to_tensor(x)
    count = 1 + (x.shape[-1] - sequence_length) // sequence_stride
    at = np.arange(count)[:, None] * sequence_stride + np.arange(sequence_length)
    return F.gather(x, at, axis=x.ndim - 1)


# ---- error functions
def rsqrt(x):
    return F.rsqrt(floating(x))


def erf(x):
    return F.erf(floating(x))


def erfc(x):
    return _erfc(floating(x))


def _erfc(x):
    """1 - erf(x); above 1 by a continued form without cancellation (Numerical Recipes' Chebyshev fit, 1.2e-7)."""
    a = F.abs(x)
    t = F.div(N.ones_like(a), F.add(1.0, F.mul(a, 0.5)))
    c = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
         0.17087277)  # fmt: skip
    p = N.full_like(t, c[-1])
    for v in c[-2::-1]:
        p = F.add(F.mul(p, t), v)
    tail = F.mul(t, F.exp(F.add(F.neg(F.square(a)), p)))
    return F.where(F.greater(x, 1.0), tail, F.sub(1.0, F.erf(x)))


def erfinv(x):
    return _erfinv(floating(x))


_NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
         0.246640727, 1.50140941)  # fmt: skip
_FAR = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
        1.00167406, 2.83297682)  # fmt: skip


@custom_gradient
def _erfinv(x):
    """Giles' approximation for single precision (2010): two polynomials in w = -log((1 - x)(1 + x))."""
    w = F.neg(F.log(F.mul(F.sub(1.0, x), F.add(1.0, x))))
    near = F.less(w, 5.0)
    v = F.where(near, F.sub(w, 2.5), F.sub(F.sqrt(F.maximum(w, 5.0)), 3.0))
    p = F.where(near, N.full_like(x, _NEAR[0]), N.full_like(x, _FAR[0]))
    for a, b in zip(_NEAR[1:], _FAR[1:], strict=True):
        p = F.add(F.mul(p, v), F.where(near, N.full_like(x, a), N.full_like(x, b)))
    size = F.abs(x)
    y = F.where(F.equal(size, 1.0), F.mul(x, float("inf")), F.mul(p, x))
    return y, lambda g: F.mul(g, F.mul(0.886226925452758, F.exp(F.square(y))))


def logdet(x):
    return slogdet(x)[1]


# ---- Fourier transforms
def _pair(x):
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(f"Input `x` should be a tuple of two tensors - real and imaginary.Received: x={x}")
    a, b = (convert_to_tensor(v) for v in x)
    if a.shape != b.shape:
        raise ValueError(
            "Input `x` should be a tuple of two tensors - real and imaginary.Both the real and imaginary parts should have "
            f"the same shape. Received: x[0].shape = {a.shape}, x[1].shape = {b.shape}"
        )
    if dtypes.dtype(a.dtype).kind != "f" or dtypes.dtype(b.dtype).kind != "f":
        raise ValueError(f"At least one tensor in input `x` is not of type float.Received: x={x}.")
    return a, b


def _circle(n, m=None, sign=-1.0, dtype="float32"):
    """(cos, sin) of the transform's matrix [n, m]."""
    angle = sign * 2 * np.pi * (np.outer(np.arange(n), np.arange(m or n)) % n) / n
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


def _transform(a, b, sign=-1.0):
    """Along the last dim, as products with the transform's matrix: these have gradients and run in traces."""
    c, s = _circle(a.shape[-1], sign=sign, dtype=a.dtype)
    return F.sub(F.matmul(a, c), F.matmul(b, s)), F.add(F.matmul(a, s), F.matmul(b, c))


def fft(x):
    return _transform(*_pair(x))


def _two(x, sign):
    real, imaginary = _pair(x)
    a, b = _transform(real, imaginary, sign)
    a, b = _transform(N.swapaxes(a, -1, -2), N.swapaxes(b, -1, -2), sign)
    return N.swapaxes(a, -1, -2), N.swapaxes(b, -1, -2)


def fft2(x):
    return _two(x, -1.0)


def ifft2(x):
    a, b = _two(x, 1.0)
    n = a.shape[-1] * a.shape[-2]
    return F.div(a, float(n)), F.div(b, float(n))


def _fit(x, n):
    """The last dim cut or padded with zeros to n."""
    have = x.shape[-1]
    if have > n:
        return x[..., :n]
    return x if have == n else N.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n - have)])


def rfft(x, fft_length=None):
    x = floating(x)
    n = int(fft_length or x.shape[-1])
    c, s = _circle(n, n // 2 + 1, dtype=x.dtype)
    x = _fit(x, n)
    return F.matmul(x, c), F.matmul(x, s)


def irfft(x, fft_length=None):
    a, b = _pair(x)
    n = int(fft_length or 2 * (a.shape[-1] - 1))
    m = n // 2 + 1
    a, b = _fit(a, m), _fit(b, m)
    angle = 2 * np.pi * (np.outer(np.arange(m), np.arange(n)) % n) / n
    twice = np.where((np.arange(m) == 0) | ((n % 2 == 0) & (np.arange(m) == n // 2)), 1.0, 2.0)[:, None] / n
    c, s = (twice * np.cos(angle)).astype(a.dtype), (twice * np.sin(angle)).astype(a.dtype)
    return F.sub(F.matmul(a, c), F.matmul(b, s))


def _window(window, length, fft_length, dtype):
    left = (fft_length - length) // 2
    if window is None:
        return N.ones((fft_length,), dtype)
    if isinstance(window, str):
        a = {"hann": 0.5, "hamming": 0.54}[window]
        win = convert_to_tensor(a - (1 - a) * np.cos(2 * np.pi * np.arange(length) / length), dtype)
    else:
        win = convert_to_tensor(window, dtype)
    if win.ndim != 1 or win.shape[0] != length:
        raise ValueError(f"The shape of `window` must be equal to [sequence_length].Received: window shape={win.shape}")
    return N.pad(win, [(left, fft_length - length - left)])


def _check_stft(dtype, sequence_length, fft_length, window):
    if str(np.dtype(dtype)) not in {"float32", "float64"}:
        raise TypeError(f"Invalid input type. Expected `float32` or `float64`. Received: input type={dtype}")
    if fft_length < sequence_length:
        raise ValueError(
            "`fft_length` must equal or larger than `sequence_length`. "
            f"Received: sequence_length={sequence_length}, fft_length={fft_length}"
        )
    if isinstance(window, str) and window not in {"hann", "hamming"}:
        raise ValueError(
            f'If a string is passed to `window`, it must be one of `"hann"`, `"hamming"`. Received: window={window}'
        )


def stft(x, sequence_length, sequence_stride, fft_length, window="hann", center=True):
    x = convert_to_tensor(x)
    _check_stft(x.dtype, sequence_length, fft_length, window)
    if center:
        x = N.pad(x, [(0, 0)] * (x.ndim - 1) + [(fft_length // 2, fft_length // 2)], "reflect")
    win = _window(window, sequence_length, fft_length, x.dtype)
    return rfft(F.mul(extract_sequences(x, fft_length, sequence_stride), win), fft_length)


def istft(x, sequence_length, sequence_stride, fft_length, length=None, window="hann", center=True):
    """Overlap and add; each window is divided by the sum of the squared windows that overlap it, far from the ends."""
    a, b = _pair(x)
    _check_stft(a.dtype, sequence_length, fft_length, window)
    frames = irfft((a, b), fft_length)
    if window is not None:
        win = _window(window, sequence_length, fft_length, a.dtype)
        more = -fft_length % sequence_stride
        squares = N.reshape(N.pad(F.square(win), [(0, more)]), (-1, sequence_stride))
        total = N.tile(N.sum(squares, 0), squares.shape[0])[:fft_length]
        frames = F.mul(frames, F.div(win, total))
    count = frames.shape[-2]
    total = fft_length + sequence_stride * (count - 1)
    at = np.arange(count)[:, None] * sequence_stride + np.arange(fft_length)
    lead = frames.shape[:-2]
    flat = N.transpose(N.reshape(frames, (-1, count * fft_length)))
    base = N.zeros((total, flat.shape[1]), a.dtype)
    y = N.transpose(F.scatter_nd(base, at.reshape(-1, 1), flat, reduction="add"))
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else total - fft_length // 2 if center else total
    y = y[..., start : builtins.min(end, total)]
    if end > total:
        y = N.pad(y, [(0, 0), (0, end - total)])
    return N.reshape(y, (*lead, y.shape[-1]))


__getattr__ = missing("math")
