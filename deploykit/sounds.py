"""Sound files as inputs of a model: 16-bit PCM .wav, mixed to mono, in -1..1 for float inputs."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import InputError


def read_sound(path: Path, spec: Any) -> np.ndarray:
    """The beginning of a file as an input of this spec, repeated where it is too short; all of it where the last dim is
    open."""
    return _shaped(_mono(path, spec), spec)


def windows(path: Path, spec: Any, most: int) -> list[np.ndarray]:
    """Up to ``most`` inputs cut from a file, evenly spread over it."""
    array, n = _mono(path, spec), _length(spec)
    if n is None or len(array) < 2 * n:
        return [_shaped(array, spec)]
    starts = np.arange(len(array) // n) * n
    chosen = starts[np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(int)]
    return [_shaped(array[s : s + n], spec) for s in chosen]


def _mono(path: Path, spec: Any) -> np.ndarray:
    try:
        with wave.open(str(path), "rb") as f:
            if f.getsampwidth() != 2:
                raise InputError(f"{path}: {8 * f.getsampwidth()}-bit samples; only 16-bit PCM .wav files are read.")
            data = np.frombuffer(f.readframes(f.getnframes()), "<i2").reshape(-1, f.getnchannels())
    except (wave.Error, EOFError) as e:
        raise InputError(f"{path}: not a .wav file that can be read ({e}); only 16-bit PCM is.") from None
    if not len(data):
        raise InputError(f"{path}: holds no samples.")
    mono = data.mean(axis=1)
    return mono.astype(np.int16) if spec.dtype == "int16" else (mono / 32768).astype(np.float32)


def _length(spec: Any) -> int | None:
    """How many samples an input takes, None where any number."""
    last = spec.shape[-1] if spec.shape else None
    return last if isinstance(last, int) and last > 1 else None


def _shaped(array: np.ndarray, spec: Any) -> np.ndarray:
    if spec.shape is None or len(spec.shape) < 2:
        return array
    n = _length(spec)
    array = np.resize(array, n) if n else array
    return array.reshape((1,) * (len(spec.shape) - 1) + array.shape)
