"""``convert(quantize=...)``: read calibration data, run it through the float model, quantize, and tell how near the result is.

The quantizer itself is ``deploykit.converters.quantize``; here it meets the engine and people's data.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import InputError
from deploykit.graph.dims import Dim
from deploykit.graph.ir import Graph, Value
from deploykit.interpreter import TensorSpec

SAMPLES = 512  # at most so many are used
MOMENT_SAMPLES = 64  # of which so many for repairs, kept in memory
Feeds = dict[str, np.ndarray]
Progress = Callable[[int], None]


# ---------------------------------------------------------------- calibration data
def read(
    data: Any, inputs: list[TensorSpec], read_file: Callable[[Path, Any], np.ndarray] | None = None
) -> Iterator[Feeds]:
    """Inputs by name, sample after sample, of whatever was given: a .npz file (arrays by input name, samples along dim
    0), a .npy file or array (one input), a folder of images, an iterable of dicts, tuples or arrays, or a function that
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
            raise InputError(f"calibration: {path}: expected a .npz or .npy file, or a folder of images.")
    if isinstance(data, np.ndarray):
        if len(inputs) != 1:
            raise InputError(
                f"calibration: one array, but the model has inputs {', '.join(s.name for s in inputs)}; give a dict or .npz."
            )
        data = {inputs[0].name: data}
    if isinstance(data, dict):
        data = _slices(data, inputs)
    return (_checked(x, inputs) for x in data)


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
    kinds = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".npy")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in kinds)
    if not found or len(inputs) != 1 or read_file is None:
        raise InputError(
            f"calibration: {path}: a folder serves models with one input, and holds {', '.join(kinds)} files; found {len(found)}."
        )
    return (np.load(p, allow_pickle=False) if p.suffix == ".npy" else read_file(p, inputs[0]) for p in found)


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


# ---------------------------------------------------------------- quantizing
def quantize(
    graph: Graph,
    scheme: str,
    calibration: Any = None,
    *,
    observer: str = "mse",
    keep_float: Iterable[str] = (),
    repair: Iterable[str] = (),
    block_size: int = 32,
    read_file: Any = None,
    progress: Progress | None = None,
) -> tuple[Graph, dict[str, Any], list[Feeds]]:
    """(graph with quantize and dequantize nodes or narrow weights, what was done, some samples for checking).

    ``graph`` comes from the importer; it is optimised as far as the quantizer wants it.
    """
    from deploykit.converters import quantize as q
    from deploykit.converters.pipeline import PREPARE, optimize

    if scheme == "auto":
        scheme = "int8" if calibration is not None else "dynamic"
    if scheme not in q.SCHEMES:
        raise InputError(f"quantize: got {scheme!r}, expected one of {', '.join(q.SCHEMES)}, auto.")
    if observer not in q.OBSERVERS:
        raise InputError(f"observer: got {observer!r}, expected one of {', '.join(q.OBSERVERS)}.")
    if any(n.op in ("quantize", "qconv", "qmatmul") for g in graph.walk() for n in g.nodes):
        raise InputError("this model is quantized already; convert it without quantize, its integers are kept.")
    if scheme == "int8" and calibration is None:
        raise InputError(
            "int8 needs calibration data, real inputs such as the model will see: calibration='data.npz' (arrays by input "
            "name), a folder of images, or an iterable of samples. Without data use quantize='dynamic' or 'fp16'."
        )
    repairs = (repair,) if isinstance(repair, str) else tuple(repair)
    _check_repairs(repairs, scheme, calibration, block_size)
    prepared, _ = optimize(graph, stages=PREPARE)
    choices = q.Choices(scheme, observer, tuple(keep_float), block_size, repairs)
    info: dict[str, Any] = {"scheme": scheme}
    data: Iterable[Feeds] = ()
    first: list[Feeds] = []
    if calibration is not None:
        specs = [TensorSpec(v.name, v.shape, v.dtype.name if v.dtype else "") for v in prepared.inputs]
        stream = itertools.islice(read(calibration, specs, read_file), SAMPLES)
        first = list(itertools.islice(stream, MOMENT_SAMPLES if repairs else 16))
        if not first:
            raise InputError("calibration: the data is empty.")
        choices.notes += suspicious(first, graph.metadata.get("preprocessing", {}))
        data = itertools.chain(first, stream)
    if "equalize" in repairs:
        choices.counts["pairs equalized"] += q.equalize(prepared)
    if "smooth" in repairs:
        choices.counts["norms smoothed"] += q.smooth(prepared, _moments(prepared, first, False))
    if {"bias", "gptq", "round"} & set(repairs):
        choices.moments = _moments(prepared, first, bool({"gptq", "round"} & set(repairs)))
    if scheme == "int8":
        groups = q.calibrate_values(prepared, choices)
        ranges, count = _observe(prepared, groups, data, choices.observer, progress)
        q.quantize_static(prepared, groups, ranges, choices)
        info |= {"samples": count, "observer": choices.observer}
    else:
        q.quantize_weights(prepared, choices)
    info |= {"counts": dict(choices.counts), "notes": choices.notes, "repairs": list(repairs)}
    if not choices.counts:
        info["notes"] = [
            *choices.notes,
            "nothing was quantized: the model has no ops or weights that this scheme covers",
        ]
    return prepared, info, first[:16]


def _check_repairs(repairs: tuple[str, ...], scheme: str, calibration: Any, block_size: int) -> None:
    from deploykit.converters.quantize import REPAIRS

    takes = {"int8": REPAIRS, "dynamic": ("equalize", "smooth"), "int4": ("gptq",)}
    for r in repairs:
        if r not in REPAIRS:
            raise InputError(f"repair: got {r!r}, expected any of {', '.join(REPAIRS)}.")
        if r not in takes.get(scheme, ()):
            raise InputError(
                f"repair: {r!r} does nothing for {scheme}; it takes {', '.join(takes.get(scheme, ())) or 'none'}."
            )
    if calibration is None and set(repairs) - {"equalize"}:
        raise InputError(f"repair: {', '.join(repairs)}: needs calibration data, real inputs of the model.")
    if {"gptq", "round"} <= set(repairs):
        raise InputError("repair: gptq and round both choose the integers of weights; give one of them.")
    if block_size not in (32, 64, 128):
        raise InputError(f"block_size: got {block_size}, expected 32, 64 or 128.")


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


def _session(graph: Graph) -> Any:
    from deploykit.graph.dkfile import to_bytes
    from deploykit.native import NativeModel, NativeSession

    return NativeSession(NativeModel(np.frombuffer(to_bytes(graph), np.uint8)), keep_values=True)


def _watch(graph: Graph, data: Iterable[Feeds], watchers: dict[Value, Any], progress: Progress | None = None) -> int:
    """Run the graph on every sample and show each watcher (``see(array)``) its value; returns the number of samples."""
    session, inputs, count = _session(graph), {v.name for v in graph.inputs}, 0
    for count, feeds in enumerate(data, 1):
        session(*(feeds[v.name] for v in graph.inputs))
        for v, w in watchers.items():
            x = feeds[v.name] if v.name in inputs else session.value(v.name)
            if x is not None:
                w.see(x)
        if progress is not None:
            progress(count)
    return count


def _moments(graph: Graph, samples: list[Feeds], second: bool) -> dict[Value, Any]:
    """Moments of every activation that a product with constant weights reads."""
    from deploykit.converters.quantize import Moments, weighed

    wanted = {
        n.inputs[0]: Moments(second)
        for n in graph.nodes
        if weighed(n) and n.inputs[0] is not None and not n.inputs[0].is_constant
    }
    _watch(graph, samples, wanted)
    return {v: m for v, m in wanted.items() if m.count}


def _observe(
    graph: Graph, groups: dict[Value, Value], data: Iterable[Feeds], observer: str, progress: Progress | None
) -> tuple[dict[Value, tuple[float, float]], int]:
    from deploykit.converters.quantize import Observer

    seen = {v: Observer() for v in groups}
    count = _watch(graph, data, seen, progress)
    bad = [v.name for v, o in seen.items() if o.odd]
    if bad:
        raise InputError(
            f"calibration: the float model gives NaN or infinity in {', '.join(bad[:4])}; check the data's preprocessing."
        )
    return {v: o.range(observer) for v, o in seen.items() if o.count}, count


# ---------------------------------------------------------------- how near is it?
def check(reference: Any, converted: Any, samples: list[Feeds]) -> dict[str, Any]:
    """Source against quantized model on samples: per output the signal-to-noise ratio in dB, the largest difference, and
    how often the largest element of the last dim is the same."""
    rows: dict[str, dict[str, float]] = {}
    for feeds in samples:
        want, got = reference.run(feeds), converted.run(feeds)
        for k, w in want.items():
            a, b = w.astype(np.float64), got[k].astype(np.float64)
            r = rows.setdefault(k, dict(signal=0.0, noise=0.0, max_error=0.0, max_output=0.0, same=0.0, places=0.0))
            r["signal"] += float((a * a).sum())
            r["noise"] += float(((a - b) ** 2).sum())
            r["max_error"] = max(r["max_error"], float(np.abs(a - b).max(initial=0.0)))
            r["max_output"] = max(r["max_output"], float(np.abs(a).max(initial=0.0)))
            if a.ndim and a.shape[-1] > 1:
                same = a.argmax(-1) == b.argmax(-1)
                r["same"] += float(same.sum())
                r["places"] += float(same.size)
    out = []
    for k, r in rows.items():
        sqnr = 10 * np.log10(r["signal"] / r["noise"]) if r["noise"] > 0 and r["signal"] > 0 else float("inf")
        agreement = r["same"] / r["places"] if r["places"] else None
        out.append(
            {
                "name": k,
                "sqnr_db": float(sqnr),
                "max_error": r["max_error"],
                "max_output": r["max_output"],
                "agreement": agreement,
            }
        )
    return {"compared": len(samples), "outputs": out}
