"""Signal processing."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.graph.dims import Dim, DimLike
from deploykit.ops.core import F, Spec, op
from deploykit.ops.grads import constant_of, dim_value, known_dim, np_dtype, rank_of, scalar
from deploykit.ops.numerics import back, wide
from deploykit.ops.rules import (
    axis_of,
    error,
    require_index,
    require_kind,
    require_rank,
    require_same_dtype,
    scalar_of,
)
from deploykit.ops.samples import sequence as cases
from deploykit.ops.through import vjp_through


def _scalar(x: Any, default: int | None = None) -> int | None:
    return default if x is None else int(np.asarray(x).reshape(()))


def _complex(x: np.ndarray) -> np.ndarray:
    """[..., 1 or 2] to complex (double precision for float32)."""
    w = wide(x)
    return w[..., 0] if x.shape[-1] == 1 else w[..., 0] + 1j * w[..., 1]


def _pairs(z: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return back(np.stack([z.real, z.imag], axis=-1), dtype)


@op(250, "x, length?, axis? -> y", attrs=dict(inverse=False, onesided=False), tolerance="loose")
class dft:
    """ONNX DFT along ``axis`` (default -2) of x [..., 1] (real) or [..., 2] (complex): [..., 2].

    length pads with zeros or cuts, default the size of the axis.  onesided keeps length // 2 + 1 bins of a real
    signal's transform; with inverse it takes these bins (default length 2 * (size - 1)) and gives a real result
    [..., 1].  The inverse is divided by length.
    """

    samples = cases.dft

    def infer(x, length=None, axis=None, *, inverse, onesided):
        require_kind(x, "f")
        require_index(length, "length")
        require_index(axis, "axis")
        require_rank(x, 2, 99)
        if x.shape is None:
            return Spec(x.dtype, None)
        if isinstance(x.shape[-1], int) and x.shape[-1] not in (1, 2):
            raise error("size of the last dim", x.shape[-1], "1 (real) or 2 (complex)")
        if onesided and not inverse and x.shape[-1] == 2:
            raise error("onesided needs a real signal, last dim", x.shape[-1], 1)
        last = 1 if inverse and onesided else 2
        a = -2 if axis is None else scalar_of(axis, "axis")
        n = None if length is None else scalar_of(length, "length")
        if not isinstance(a, int):
            return Spec(x.dtype, (*(Dim.fresh() for _ in x.shape[:-1]), last))
        a = axis_of(a, len(x.shape))
        if a == len(x.shape) - 1:
            raise error("axis is the one of real and imaginary parts", a)
        size: DimLike = x.shape[a]
        if length is not None:
            size = Dim.fresh() if n is None else n
        elif inverse and onesided:
            size = 2 * (size - 1)
        if onesided and not inverse:
            size = size // 2 + 1
        return Spec(x.dtype, (*x.shape[:a], size, *x.shape[a + 1 : -1], last))

    def reference(x, length=None, axis=None, *, inverse, onesided):
        a = axis_of(_scalar(axis, -2), x.ndim)
        z = _complex(x)
        if inverse and onesided:
            n = _scalar(length, 2 * (x.shape[a] - 1))
            return back(np.fft.irfft(z, n, axis=a)[..., None], x.dtype)
        n = _scalar(length, x.shape[a])
        if inverse:
            return _pairs(np.fft.ifft(z, n, axis=a), x.dtype)
        return _pairs(np.fft.rfft(z, n, axis=a) if onesided else np.fft.fft(z, n, axis=a), x.dtype)

    def vjp(g, y, x, length=None, axis=None, *, inverse, onesided):
        where = np.array(-2) if axis is None else constant_of(axis)
        if where is None:
            raise ValueError("the gradient of dft needs to know the axis")
        a = axis_of(_scalar(where), rank_of(x))
        parts, size, rank = known_dim(x, -1), dim_value(x, a), len(x.shape)
        one, two = np.array(1, np.int64), np.array(2, np.int64)
        if length is not None:
            n = F.reshape(F.cast(length, dtype="int64"), np.zeros(0, np.int64))
        else:
            n = F.mul(F.sub(size, one), two) if inverse and onesided else size
        count = F.cast(n, dtype=np_dtype(x).name)
        if not inverse:
            # the adjoint of the transform is n times its inverse; bins that were dropped give nothing
            d = F.mul(F.dft(_resize(g, n, a) if onesided else g, n, np.array(a), inverse=True), count)
        elif not onesided:
            d = F.div(F.dft(g, n, np.array(a)), count)
        else:
            # inner bins stand for themselves and for their mirror image
            d = F.div(F.dft(g, n, np.array(a), onesided=True), count)
            k = F.range(np.array(0, np.int64), F.add(F.floor_div(n, two), one), one)
            alone = F.logical_or(F.equal(k, np.array(0, np.int64)), F.equal(F.mul(k, two), n))
            twice = F.where(alone, scalar(1, x), scalar(2, x))
            d = F.mul(d, F.unsqueeze(twice, np.arange(1, rank - a)))
        d = _resize(d, size, a)
        if parts == 1:
            d = F.slice(d, np.array([0]), np.array([1]), np.array([rank - 1]))
        return d, None, None


def _resize(x: Any, n: Any, axis: int) -> Any:
    """Cut or pad with zeros to n elements along an axis (in ops)."""
    missing = F.reshape(F.sub(n, dim_value(x, axis)), np.array([1]))
    return F.pad(x, F.concat(np.array([0]), missing, axis=0), None, np.array([axis]))


@op(251, "x, step, window?, frame_length? -> y", attrs=dict(onesided=True), onnx="STFT", tolerance="loose")
class stft:
    """ONNX STFT: frames of x [B, L, 1|2] every step samples, windowed, transformed: [B, frames, bins, 2].

    frame_length defaults to the window's length, one of them must be given; frames = (L - frame_length) // step + 1;
    a window shorter than the frame covers its start, the rest is zero.  onesided (real x): frame_length // 2 + 1 bins.
    """

    samples = cases.stft

    def infer(x, step, window=None, frame_length=None, *, onesided):
        dtype = require_same_dtype(x, window)
        require_kind(x, "f")
        require_index(step, "step")
        require_index(frame_length, "frame_length")
        require_rank(x, 3)
        require_rank(window, 1, what="window")
        if window is None and frame_length is None:
            raise error("neither window nor frame_length is given")
        batch, samples, parts = x.shape if x.shape is not None else (Dim.fresh(), Dim.fresh(), 1)
        if onesided and parts == 2:
            raise error("onesided needs a real signal, last dim", parts, 1)
        n: DimLike = Dim.fresh()
        if frame_length is not None:
            known = scalar_of(frame_length, "frame_length")
            n = known if known is not None else n
        elif window is not None and window.shape is not None:
            n = window.shape[0]
        by = scalar_of(step, "step")
        frames: DimLike = Dim.fresh()
        if isinstance(by, int):
            if by < 1:
                raise error("step", by, "at least 1")
            if isinstance(samples, int) and isinstance(n, int) and samples < n:
                raise error("the signal is shorter than a frame", samples, f"at least {n} samples")
            frames = (samples - n) // by + 1
        return Spec(dtype, (batch, frames, n // 2 + 1 if onesided else n, 2))

    def reference(x, step, window=None, frame_length=None, *, onesided):
        n = _scalar(frame_length, None if window is None else window.shape[0])
        by = _scalar(step)
        size = n if window is None else min(window.shape[0], n)
        z = _complex(x)
        starts = np.arange((x.shape[1] - n) // by + 1) * by
        frames = z[:, starts[:, None] + np.arange(size)]
        if window is not None:
            frames = frames * wide(window)[:size]
        return _pairs(np.fft.rfft(frames, n, axis=-1) if onesided else np.fft.fft(frames, n, axis=-1), x.dtype)

    def decompose(x, step, window=None, frame_length=None, *, onesided):
        n = frame_length if frame_length is not None else dim_value(window, 0)
        size = n if window is None else dim_value(window, 0)
        n, step, size = (F.reshape(F.cast(t, dtype="int64"), np.zeros(0, np.int64)) for t in (n, step, size))
        zero, one = np.array(0, np.int64), np.array(1, np.int64)
        frames = F.add(F.floor_div(F.sub(dim_value(x, 1), n), step), one)
        starts = F.unsqueeze(F.mul(F.range(zero, frames, one), step), np.array([1]))
        cut = F.gather(x, F.add(starts, F.range(zero, F.minimum(size, n), one)), axis=1)  # [B, frames, size, 1|2]
        if window is not None:
            cut = F.mul(cut, F.unsqueeze(window, np.array([1])))
        return F.dft(cut, n, np.array(-2, np.int64), onesided=onesided)

    def vjp(g, y, *inputs, **attrs):
        return vjp_through(stft.decompose, (g,), inputs, attrs)


@op(
    252,
    "bins, dft_length, sample_rate, low_hz, high_hz -> y",
    attrs=dict(dtype="float32"),
    tolerance="loose",
    not_differentiable="constant result",
)
class mel_weights:
    """ONNX MelWeightMatrix: [dft_length // 2 + 1, bins] triangular filters on the mel scale,
    mel = 2595 * log10(1 + hz / 700); corners are rounded down to spectrogram bins."""

    samples = cases.mel_weights

    def infer(bins, dft_length, sample_rate, low_hz, high_hz, *, dtype):
        for what, s in (("bins", bins), ("dft_length", dft_length), ("sample_rate", sample_rate)):
            require_index(s, what)
        n, length = scalar_of(bins, "bins"), scalar_of(dft_length, "dft_length")
        rows: DimLike = Dim.fresh() if length is None else length // 2 + 1
        return Spec(dtypes.dtype(dtype), (rows, Dim.fresh() if n is None else n))

    def reference(bins, dft_length, sample_rate, low_hz, high_hz, *, dtype):
        n, length, rate = (int(np.asarray(t).reshape(())) for t in (bins, dft_length, sample_rate))
        low, high = (2595 * np.log10(1 + float(np.asarray(t).reshape(())) / 700) for t in (low_hz, high_hz))
        mels = low + np.arange(n + 2) * ((high - low) / (n + 2))
        corners = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate).astype(np.int64)
        y = np.zeros((length // 2 + 1, n))
        for i in range(n):
            left, middle, right = corners[i : i + 3]
            if middle == left:
                y[middle, i] = 1
            else:
                y[left : middle + 1, i] = np.arange(middle - left + 1) / (middle - left)
            if right > middle:
                y[middle:right, i] = (right - np.arange(middle, right)) / (right - middle)
        return y.astype(dtypes.dtype(dtype).np)
