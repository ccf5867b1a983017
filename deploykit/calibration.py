"""Calibration data: whatever people have, as inputs by name, one sample after another; and what looks wrong about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import InputError
from deploykit.graph.dims import Dim
from deploykit.interpreter import TensorSpec

Feeds = dict[str, np.ndarray]
SAMPLES = 512  # at most so many are used
KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".wav", ".npy")  # of files in a folder


def read(
    data: Any, inputs: list[TensorSpec], read_file: Callable[[Path, Any, int], list[np.ndarray]] | None = None
) -> Iterator[Feeds]:
    """Inputs by name, sample after sample, of whatever was given: a .npz file (arrays by input name, samples along dim
    0), a .npy file or array (one input), a folder of images or sounds, an iterable of dicts, tuples or arrays, or a function that
    gives one.  Raises InputError for wrong names, shapes and numbers."""
    if callable(data) and not hasattr(data, "__iter__"):
        data = data()
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if not path.exists():
            raise InputError(f"calibration: {path}: no such file or folder.")
        if path.is_dir():
            data = _folder(path, inputs, read_file)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as z:
                data = {k: z[k] for k in z.files}
        elif path.suffix == ".npy":
            data = np.load(path, allow_pickle=False)
        else:
            raise InputError(f"calibration: {path}: expected a .npz or .npy file, or a folder of images or .wav files.")
    if isinstance(data, np.ndarray):
        if len(inputs) != 1:
            raise InputError(
                f"calibration: one array, but the model has inputs {', '.join(s.name for s in inputs)}; give a dict or .npz."
            )
        data = {inputs[0].name: data}
    if isinstance(data, dict):
        data = _slices(data, inputs)
    return (_checked(x, inputs) for x in data)


def count(path: Path) -> int | None:
    """How many files a folder of calibration data has, at most SAMPLES; None where only reading tells."""
    return min(SAMPLES, len(_files(path))) if path.is_dir() else None


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in KINDS)


def _slices(arrays: dict[str, np.ndarray], inputs: list[TensorSpec]) -> Iterator[Any]:
    names = {s.name for s in inputs}
    if set(arrays) != names:
        raise InputError(
            f"calibration: arrays {', '.join(sorted(arrays))}; the model's inputs are {', '.join(sorted(names))}."
        )
    n = min(len(a) if np.ndim(a) else 0 for a in arrays.values())
    if not n:
        raise InputError("calibration: the data is empty.")
    batch = {s.name: s.shape[0] if s.shape and isinstance(s.shape[0], int) else 1 for s in inputs}
    for s in inputs:
        a = arrays[s.name]
        if s.shape is not None and np.ndim(a) == len(s.shape) + 1:  # one whole input per sample
            batch[s.name] = 0
    for i in range(n // max(1, max(batch.values()))):
        yield {k: a[i] if batch[k] == 0 else a[i * batch[k] : (i + 1) * batch[k]] for k, a in arrays.items()}


def _folder(path: Path, inputs: list[TensorSpec], read_file: Any) -> Iterator[Any]:
    found = _files(path)
    if not found or len(inputs) != 1 or read_file is None:
        raise InputError(
            f"calibration: {path}: a folder serves models with one input, and holds {', '.join(KINDS)} files; found {len(found)}."
        )
    each = max(1, SAMPLES // len(found))  # of a long recording

    def samples() -> Iterator[Any]:
        for p in found:
            yield from [np.load(p, allow_pickle=False)] if p.suffix == ".npy" else read_file(p, inputs[0], each)

    return samples()


def _checked(x: Any, inputs: list[TensorSpec]) -> Feeds:
    if isinstance(x, tuple):
        x = x[0] if len(inputs) == 1 else dict(zip((s.name for s in inputs), x, strict=False))
    if not isinstance(x, dict):
        x = {inputs[0].name: x}
    out = {}
    for s in inputs:
        if s.name not in x:
            raise InputError(f"calibration: a sample has no '{s.name}'; it has {', '.join(map(str, x))}.")
        a = np.asarray(x[s.name])
        want = dtypes.dtype(s.dtype).np
        if s.shape is not None and a.ndim == len(s.shape) - 1:
            a = a[None]
        fits = s.shape is None or (
            a.ndim == len(s.shape) and all(isinstance(d, Dim) or d == n for d, n in zip(s.shape, a.shape, strict=True))
        )
        if not fits:
            raise InputError(f"calibration: input '{s.name}': a sample has shape {list(a.shape)}, expected {s}.")
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise InputError(f"calibration: input '{s.name}': a sample holds NaN or infinity.")
        out[s.name] = a.astype(want)
    return out


def suspicious(samples: list[Feeds], preprocessing: dict[str, Any]) -> list[str]:
    """Warnings about calibration data that looks unlike the model's inputs."""
    notes = []
    for name in samples[0]:
        arrays = [s[name] for s in samples]
        if arrays[0].dtype.kind != "f" or not all(a.size for a in arrays):
            continue
        low, high = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
        whole = all(np.array_equal(a, np.rint(a)) for a in arrays[:4])
        wanted = preprocessing.get("range")
        if low >= 0 and 32 < high <= 255 and whole and arrays[0].ndim >= 3 and (wanted is None or wanted[1] <= 32):
            notes.append(
                f"calibration: input '{name}' holds whole numbers from {low:g} to {high:g}, such as raw pixels; most models "
                "want 0 to 1 or -1 to 1. If this one does, divide by 255 as its preprocessing does."
            )
        if low == high:
            notes.append(f"calibration: input '{name}' is {low:g} everywhere; ranges found on it mean nothing.")
    if len(samples) < 8:
        notes.append(f"calibration: only {len(samples)} samples; 100 or more give steadier ranges.")
    return notes
