"""Spectrograms of signals: by the Fourier transform (mel bands), or as a convolution whose weights may be trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.errors import InputError
from deploykit.keras.layers.base import Layer
from deploykit.ops.core import F


def _window(name: Any, length: int, periodic: bool) -> np.ndarray:
    """Values of a window: hann, hamming, None (ones) or an array."""
    if name is None:
        return np.ones(length)
    if isinstance(name, str):
        first = {"hann": 0.5, "hamming": 0.54}.get(name)
        if first is None:
            raise InputError(f"window: got {name!r}, expected hann, hamming, None or the values of one.")
        at = np.arange(length) / max(length if periodic else length - 1, 1)
        return first - (1 - first) * np.cos(2 * math.pi * at) if length > 1 else np.ones(1)
    values = np.asarray(name, np.float64)
    if values.shape != (length,):
        raise InputError(f"window: got shape {values.shape}, expected ({length},).")
    return values


class MelSpectrogram(Layer):
    """[..., time] to [..., mel bands, frames]: powers of short-time spectra, summed in triangles on the mel scale, in dB."""

    def __init__(self, fft_length: int = 2048, sequence_stride: int = 512, sequence_length: int | None = None, window: Any = "hann", sampling_rate: int = 16000, num_mel_bins: int = 128, min_freq: float = 20.0, max_freq: float | None = None, power_to_db: bool = True, top_db: float = 80.0, mag_exp: float = 2.0, min_power: float = 1e-10, ref_power: float = 1.0, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        length = sequence_length or fft_length
        if length > fft_length:
            raise InputError(f"MelSpectrogram: sequence_length={length}, expected at most fft_length={fft_length}.")
        side = (fft_length - length) // 2
        self._frame = np.pad(_window(window, length, True), (side, fft_length - length - side)).astype(np.float32)
        self.fft_length, self.sequence_stride = fft_length, sequence_stride
        self.power_to_db, self.top_db, self.mag_exp = power_to_db, top_db, mag_exp
        self.min_power, self.ref_power = min_power, ref_power
        self._mel = _mel_weights(
            fft_length // 2 + 1, num_mel_bins, sampling_rate, min_freq, max_freq or int(sampling_rate / 2)
        )

    def call(self, inputs: Any) -> Any:
        x = N.cast(inputs, "float32")
        lead = N.shape(x)[:-1]
        x = N.reshape(x, (-1, N.shape(x)[-1]))
        half = self.fft_length // 2
        x = N.expand_dims(N.pad(x, ((0, 0), (half, half)), mode="reflect"), -1)
        parts = F.stft(x, np.int64(self.sequence_stride), self._frame, np.int64(self.fft_length))
        power = N.power(N.sqrt(N.sum(N.square(parts), -1)), self.mag_exp)
        mel = N.matmul(power, self._mel)
        if self.power_to_db:
            scale = 10 / math.log(10)
            mel = N.log(N.maximum(mel, self.min_power)) * scale - 10 * math.log10(
                max(abs(self.ref_power), self.min_power)
            )
            mel = N.maximum(mel, N.max(mel) - self.top_db)
        y = N.swapaxes(mel, -1, -2)
        return N.cast(N.reshape(y, (*lead, *N.shape(y)[1:])), self.dtype)


def _mel_weights(bins: int, bands: int, rate: float, low: float, high: float) -> np.ndarray:
    """[bins, bands]: triangles of height 1 between neighbours that are equally far apart in mel (HTK's 1127 ln(1 + f/700));
    the constant part of the spectrum counts for none."""

    def mel(f: Any) -> Any:
        return 1127.0 * np.log(1.0 + np.asarray(f, np.float64) / 700.0)

    edges = np.linspace(mel(low), mel(high), bands + 2)
    at = mel(np.linspace(0.0, rate / 2, bins))[:, None]
    up = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(up, down))
    weights[0] = 0
    return weights.astype(np.float32)


class STFTSpectrogram(Layer):
    """[batch, time, channels] to [batch, frames, channels * bins], or [batch, frames, bins, channels] with expand_dims: a
    convolution with windowed waves.  mode: log, magnitude, psd, real, imag, angle or stft."""

    def __init__(self, mode: str = "log", frame_length: int = 256, frame_step: int | None = None, fft_length: int | None = None, window: Any = "hann", periodic: bool = False, scaling: str | None = "density", padding: str = "valid", expand_dims: bool = False, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        from deploykit.keras.layers.core import _channels_last

        super().__init__(**kwargs)
        _channels_last(self, data_format)
        if mode not in ("log", "magnitude", "psd", "real", "imag", "angle", "stft"):
            raise InputError(
                f"STFTSpectrogram: mode={mode!r}, expected log, magnitude, psd, real, imag, angle or stft."
            )
        self.mode, self.frame_length, self.padding, self.expand_dims = mode, frame_length, padding, expand_dims
        self.frame_step = frame_step or frame_length // 2
        self.fft_length = fft_length or 2 ** math.ceil(math.log2(frame_length))
        if self.fft_length < frame_length:
            raise InputError(f"STFTSpectrogram: fft_length={fft_length}, expected at least {frame_length}.")
        self.scaling, self._values = scaling, _window(window, frame_length, periodic)

    real_kernel: Any
    imag_kernel: Any

    def build(self, input_shape: Any) -> None:
        bins = self.fft_length // 2 + 1
        at = -2 * math.pi * np.outer(np.arange(self.frame_length), np.arange(bins) / self.fft_length)
        scale = {"density": np.sqrt(np.sum(self._values**2)), "spectrum": np.sum(np.abs(self._values))}
        values = self._values[:, None] / scale.get(self.scaling or "", 1.0)
        for part, wave, other in (("real", np.cos, "imag"), ("imag", np.sin, "real")):
            if self.mode != other:
                weight = self.add_weight((self.frame_length, 1, bins), "zeros", name=f"{part}_kernel")
                weight.assign((wave(at) * values)[:, None].astype(np.float32))
                setattr(self, f"{part}_kernel", weight)

    def _wave(self, x: Any, kernel: Any) -> Any:
        """[batch * channels, time, 1] to [batch * channels, frames, bins]."""
        mode = "same_upper" if self.padding == "same" else "explicit"
        return F.conv(x, N.transpose(kernel, (2, 0, 1)), strides=(self.frame_step,), pad_mode=mode)

    def call(self, inputs: Any) -> Any:
        batch, steps, channels = N.shape(inputs)
        x = N.reshape(N.transpose(inputs, (0, 2, 1)), (-1, steps, 1))
        real = self._wave(x, self.real_kernel) if self.mode != "imag" else None
        imag = self._wave(x, self.imag_kernel) if self.mode != "real" else None
        if self.mode in ("real", "imag"):
            y = imag if real is None else real
        elif self.mode == "angle":
            y = F.atan2(imag, real)
        elif self.mode == "stft":
            y = N.concatenate([real, imag], -1)
        else:
            power = N.square(real) + N.square(imag)
            if self.mode == "psd":
                y = power + N.pad(power[:, :, 1:-1], ((0, 0), (0, 0), (1, 1)))
            else:
                y = N.sqrt(N.maximum(power, 1e-7))
                y = N.log(N.maximum(y, 1e-7)) if self.mode == "log" else y
        _, frames, bins = N.shape(y)
        y = N.transpose(N.reshape(y, (-1, channels, frames, bins)), (0, 2, 3, 1) if self.expand_dims else (0, 2, 1, 3))
        return y if self.expand_dims else N.reshape(y, (-1, frames, channels * bins))
