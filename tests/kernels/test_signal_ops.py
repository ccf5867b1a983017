"""The engine's Fourier transforms against numpy.fft: every kind of length, direction and axis; mel filters."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

rng = np.random.default_rng(37)
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14, np.float16: 2e-3}


def data(*shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def check(name, inputs, attrs=None):
    got, want = run_op(name, inputs, attrs), getattr(F, name)(*inputs, **(attrs or {}))
    assert got.shape == want.shape and got.dtype == want.dtype
    scale = np.abs(want.astype(np.float64)).max(initial=1)
    atol = TOLERANCE[want.dtype.type] * scale * 3
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=0, atol=atol)


@pytest.mark.parametrize("n", [*range(1, 34), 37, 60, 64, 74, 100, 127, 202, 256, 360, 401, 1009, 1024, 1922, 4096])
def test_dft_lengths(n):
    real, pairs = data(2, n, 1), data(2, n, 2)
    for _onesided, inverse in ((False, False), (False, True)):
        check("dft", [pairs], {"inverse": inverse})
        check("dft", [real], {"inverse": inverse})
    check("dft", [real], {"onesided": True})
    check("dft", [data(2, n // 2 + 1, 2), np.array(n)], {"onesided": True, "inverse": True})
    if n > 1:
        check("dft", [data(2, n, 2)], {"onesided": True, "inverse": True})
    for dtype in (np.float64, np.float16):
        check("dft", [data(1, n, 2, dtype=dtype)])
        check("dft", [data(1, n, 1, dtype=dtype)], {"onesided": True})


def test_dft_axes_and_lengths():
    for parts in (1, 2):
        x = data(3, 4, 5, 6, parts)
        for axis in (0, 1, 2, 3, -2, -4):
            for length in (None, 2, 5, 9, 16):
                ins = [x, None if length is None else np.array(length), np.array(axis)]
                check("dft", ins)
                check("dft", ins, {"inverse": True})
                check("dft", ins, {"inverse": True, "onesided": True})
                if parts == 1:
                    check("dft", ins, {"onesided": True})


def test_dft_wrong():
    with pytest.raises(DeploykitError, match="DK-SHAPE.*real signal"):
        run_op("dft", [data(2, 4, 2)], {"onesided": True})
    with pytest.raises(DeploykitError, match="real and imaginary"):
        run_op("dft", [data(2, 4, 2), None, np.array(2)])
    with pytest.raises(DeploykitError, match="length is 0"):
        run_op("dft", [data(2, 4, 2), np.array(0)])
    with pytest.raises(DeploykitError, match="last dim of x is 3"):
        run_op("dft", [data(2, 4, 3)])


@pytest.mark.parametrize("onesided", [True, False])
def test_stft(onesided):
    for dtype in (np.float32, np.float64):
        x = data(2, 200, 1, dtype=dtype)
        for frame, step in ((16, 4), (25, 10), (100, 50), (200, 1), (31, 300)):
            window = np.hanning(frame).astype(dtype)
            attrs = {"onesided": onesided}
            check("stft", [x, np.array(step), window], attrs)
            check("stft", [x, np.array(step), None, np.array(frame)], attrs)
            check("stft", [x, np.array(step), window[: frame - 3], np.array(frame)], attrs)
            check("stft", [x, np.array(step), window, np.array(frame)], attrs)
    if not onesided:
        check("stft", [data(2, 90, 2), np.array(7), np.hanning(30).astype(np.float32)], attrs)
    with pytest.raises(DeploykitError, match="1 to 10"):
        run_op("stft", [data(1, 10, 1), np.array(1), None, np.array(11)])
    with pytest.raises(DeploykitError, match="neither"):
        run_op("stft", [data(1, 10, 1), np.array(1)])


def test_mel_weights():
    for bins, length, rate, low, high in [
        (8, 16, 8192, 0, 4096),
        (40, 512, 16000, 20, 8000),
        (80, 400, 16000, 0, 8000),
    ]:
        ins = [np.array(bins), np.array(length), np.array(rate), np.float32(low), np.float32(high)]
        check("mel_weights", ins)
        check("mel_weights", ins, {"dtype": "float64"})
    with pytest.raises(DeploykitError, match="DK-SHAPE.*spectrogram bin"):
        run_op("mel_weights", [np.array(8), np.array(16), np.array(4000), np.float32(0), np.float32(9000)])
