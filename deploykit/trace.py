"""All inner tensors of a model by name, and the first one in which two models differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import UnsupportedError
from deploykit.runners import DkRunner, LiteRtRunner, Runner, difference, have_onnxruntime, open_runner

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One tensor that both models have: largest difference, largest |value|, and whether it was laid out channels
    last in one of them."""

    name: str
    shape: tuple[int, ...]
    error: float
    scale: float
    channels_last: bool
    ok: bool


def tensors(path: Path, feeds: dict[str, np.ndarray]) -> tuple[Tensors, Tensors, str]:
    """(inner tensors in order of execution, outputs, tool) of a .onnx, .tflite or .dk model on these inputs."""
    if path.suffix == ".dk":
        return _dk(path, feeds)
    if path.suffix == ".onnx":
        return _onnx(path, feeds)
    if path.suffix == ".tflite":
        return _tflite(path, feeds)
    raise UnsupportedError(f"{path}: models of kind '{path.suffix}' cannot be compared; allowed: .onnx, .tflite, .dk.")


def _dk(path: Path, feeds: dict[str, np.ndarray]) -> tuple[Tensors, Tensors, str]:
    from deploykit.graph.dkfile import load

    runner = DkRunner(path, keep_values=True)
    outputs = runner.run(feeds)
    inner: Tensors = {}
    for node in load(path).nodes:
        for v in node.outputs:
            got = runner.session.value(v.name) if v is not None else None
            if v is not None and got is not None:
                inner[v.name.removesuffix(".nhwc").removesuffix(".moved")] = got  # the layout pass marks what it moved
    return inner, outputs, runner.tool


def _onnx(path: Path, feeds: dict[str, np.ndarray]) -> tuple[Tensors, Tensors, str]:
    from deploykit.runners import onnx_with_all_outputs

    runner: Runner = open_runner(path, 1, optimize=False)
    outputs = runner.run(feeds)
    if not have_onnxruntime():
        return {}, outputs, runner.tool
    inner = onnx_with_all_outputs(path).run(feeds)
    return inner, outputs, runner.tool


def _tflite(path: Path, feeds: dict[str, np.ndarray]) -> tuple[Tensors, Tensors, str]:
    runner = open_runner(path, 1, optimize=False)
    if not isinstance(runner, LiteRtRunner):
        return {}, runner.run(feeds), runner.tool
    runner = LiteRtRunner(path, 1, optimize=False, keep_values=True)
    outputs = runner.run(feeds)
    return runner.values(), outputs, runner.tool


def compare(a: Tensors, b: Tensors, tolerance: float) -> list[Row]:
    """Rows for the tensors that both have, in a's order.  A tensor may be channels last in one and first in the other."""
    rows = []
    for name, x in a.items():
        y = b.get(name)
        if y is None or x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
            continue
        tries = [(difference(x, y), False)]
        if x.ndim == y.ndim >= 3:
            last = np.moveaxis(x, 1, -1)
            if last.shape == y.shape:
                tries.append((difference(last, y), True))
            first = np.moveaxis(x, -1, 1)
            if first.shape == y.shape:
                tries.append((difference(first, y), True))
        (error, scale), moved = min(tries, key=lambda t: t[0][0])
        rows.append(Row(name, x.shape, error, scale, moved, bool(error <= tolerance * scale)))
    return rows


def report(path_a: Path, path_b: Path, feeds: dict[str, np.ndarray], tolerance: float) -> dict[str, Any]:
    """Everything ``deploykit compare`` says, as data."""
    inner_a, out_a, tool_a = tensors(path_a, feeds)
    inner_b, out_b, tool_b = tensors(path_b, feeds)
    rows = compare(inner_a, inner_b, tolerance)
    outputs = compare(out_a, out_b, tolerance)
    missing = sorted(set(out_a) ^ set(out_b))
    bad = next((r for r in [*rows, *outputs] if not r.ok), None)
    ok = all(r.ok for r in outputs) and not missing
    return {
        "status": "same" if ok else "different",
        "tools": [tool_a, tool_b],
        "tolerance": tolerance,
        "first_difference": None if bad is None else bad.__dict__,
        "outputs": [r.__dict__ for r in outputs],
        "outputs_in_one_only": missing,
        "tensors": [r.__dict__ for r in rows],
    }
