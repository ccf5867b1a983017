"""``deploykit.convert`` and ``deploykit.load``: the two calls most people need."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError, UnsupportedError, VerifyError
from deploykit.graph.ir import Graph

if TYPE_CHECKING:
    from deploykit.converters.report import Report

__all__ = ["Report", "convert", "load"]

TOLERANCE = 1e-4  # of the largest |output|; raised to 4 x the source runtime's own noise where that is larger
OUTPUTS = (".dk", ".onnx")
TARGETS = ("any",)


def __getattr__(name: str) -> Any:
    if name == "Report":
        from deploykit.converters.report import Report

        return Report
    raise AttributeError(name)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a ``.dk`` file as a Graph; weights stay memory-mapped.

    >>> graph = load("model.dk")         # doctest: +SKIP
    >>> print(graph.summary())           # doctest: +SKIP
    """
    from deploykit.graph.dkfile import load as load_dk

    return load_dk(path)


def import_graph(src: Any, input_shapes: dict[str, list[int | str]] | None = None) -> Graph:
    """A model of any known kind (path, ``onnx.ModelProto`` or Graph) as an unoptimised Graph."""
    if isinstance(src, Graph):
        return src
    if isinstance(src, (str, os.PathLike)):
        path = Path(src)
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        if path.suffix == ".dk":
            from deploykit.ops.infer import infer_graph

            graph = load(path)
            infer_graph(graph)  # files hold no shapes of inner values
            return graph
        if path.suffix != ".onnx":
            raise UnsupportedError(
                f"{path}: models of kind '{path.suffix}' are not supported; allowed: .onnx, .dk. "
                "Export your model to ONNX first (torch.onnx.export, tf2onnx, keras: model.export(format='onnx'))."
            )
    from deploykit.converters.importers.onnx import import_onnx

    return import_onnx(src, input_shapes=input_shapes)


def convert(
    src: Any,
    dst: str | os.PathLike[str] | None = None,
    *,
    quantize: str | None = None,
    calibration: Any = None,
    input_shapes: dict[str, list[int | str]] | None = None,
    target: str = "any",
    verify: bool = True,
    verify_passes: bool = False,
    names: bool = True,
    metadata: dict[str, Any] | None = None,
) -> Report:
    """Convert a model to ``.dk`` (or ``.onnx``), optimise it, and check the result against its source.

    src: path of a ``.onnx`` or ``.dk`` file, an ``onnx.ModelProto``, or a Graph.  dst: where to write (``None``: only
    report); written to a temporary file first, so a failure leaves nothing behind.  input_shapes: {"x": [1, 3, "h",
    224]} fixes or names dims.  verify: run source and result on the same inputs and raise VerifyError if they differ.
    verify_passes: also run both sides of every rewrite.  names=False drops inner names from the file.

    Returns a Report (``report.graph`` is the converted Graph).  Raises UnsupportedError with every problem at once.
    """
    if quantize is not None or calibration is not None:
        raise UnsupportedError(
            "quantization is not part of this version of deploykit. Convert without quantize=; models that are already "
            "quantized (ONNX Q/DQ) convert as they are."
        )
    if target not in TARGETS:
        raise InputError(f"target: got {target!r}, expected one of {', '.join(TARGETS)}.")
    if dst is not None and Path(dst).suffix not in OUTPUTS:
        raise InputError(f"{os.fspath(dst)}: cannot write '{Path(dst).suffix}' files; allowed: {', '.join(OUTPUTS)}.")
    if dst is not None and not Path(dst).resolve().parent.is_dir():
        raise InputError(f"{os.fspath(dst)}: the folder {Path(dst).resolve().parent} does not exist.")

    from deploykit.converters.pipeline import optimize
    from deploykit.graph.dkfile import atomic_write, to_bytes

    started = time.perf_counter()
    graph = import_graph(src, input_shapes)
    graph.metadata.update(metadata or {})
    graph.metadata.setdefault("source", _source(src))
    graph, report = optimize(graph, verify=verify_passes)
    report.graph = graph
    if dst is not None and Path(dst).suffix == ".onnx":
        from deploykit.converters.exporters.onnx import export_onnx

        data = export_onnx(graph).SerializeToString(deterministic=True)
    else:
        data = to_bytes(graph, names=names)
    report.source, report.output, report.output_bytes = _name(src), os.fspath(dst) if dst else None, len(data)
    if verify:
        report.verification = check(src, data, ".onnx" if dst and Path(dst).suffix == ".onnx" else ".dk", input_shapes)
        if report.verification["status"] == "failed":
            raise VerifyError(_failure(report.verification))
    if dst is not None:
        with atomic_write(dst) as f:
            f.write(data)
    report.seconds = time.perf_counter() - started
    return report


def _name(src: Any) -> str:
    return os.fspath(src) if isinstance(src, (str, os.PathLike)) else type(src).__name__


def _source(src: Any) -> dict[str, Any]:
    from deploykit import __version__

    out: dict[str, Any] = {"converter": f"deploykit {__version__}"}
    if isinstance(src, (str, os.PathLike)):
        out["file"] = Path(src).name
        with open(src, "rb") as f:
            out["sha256"] = hashlib.file_digest(f, "sha256").hexdigest()
    return out


def check(
    src: Any, data: bytes, kind: str, shapes: dict[str, list[int | str]] | None = None, seeds: int = 2
) -> dict[str, Any]:
    """Run source and converted model on the same seeded inputs; the rule of the comparison is TOLERANCE's.

    Returns a dict: status (passed, failed, skipped), tool, reason, and per output the largest difference.
    """
    from deploykit import runners

    if isinstance(src, Graph):
        return {"status": "skipped", "reason": "the source is a graph in memory"}
    reference, noisy = _source_runners(src)
    converted = runners.DkRunner(data) if kind == ".dk" else runners.open_onnx(data)
    found = runners.working_inputs(reference, 0, shapes)
    if found is None:
        return {
            "status": "skipped",
            "tool": reference.tool,
            "reason": "no sizes for the symbolic dims were found that the source accepts; give --input-shape NAME:1,3,224,224",
        }
    rows: list[dict[str, Any]] = []
    feeds, expected = found
    for seed in range(seeds):
        if seed:
            again = runners.working_inputs(reference, seed, shapes)
            if again is None:
                break
            feeds, expected = again
        got = converted.run(feeds)
        noise = noisy.run(feeds) if noisy is not None else expected
        for name, want in expected.items():
            rows.append(_row(name, seed, want, got[name], noise[name]))
    ok = all(r["ok"] for r in rows)
    return {
        "status": "passed" if ok else "failed",
        "tool": reference.tool,
        "inputs": {k: list(v.shape) for k, v in feeds.items()},
        "outputs": rows,
    }


def _source_runners(src: Any) -> tuple[Any, Any]:
    """The source by its plain kernels, and by its optimised ones where there is such a choice (to know its noise)."""
    from deploykit import runners

    if not isinstance(src, (str, os.PathLike)):
        src = src.SerializeToString()
    elif Path(src).suffix == ".dk":
        return runners.DkRunner(Path(src)), None
    model = src if isinstance(src, bytes) else Path(src)
    reference = runners.open_onnx(model, 1, optimize=False)
    noisy = runners.open_onnx(model, 1) if isinstance(reference, runners.OnnxRuntimeRunner) else None
    return reference, noisy


def _row(name: str, seed: int, want: np.ndarray, got: np.ndarray, noisy: np.ndarray) -> dict[str, Any]:
    from deploykit.runners import difference

    if want.dtype != got.dtype or want.shape != got.shape:
        error, ok = float("inf"), False
        bound, scale = 0.0, 0.0
    else:
        error, scale = difference(want, got)
        noise, _ = difference(want, noisy)
        bound = max(TOLERANCE * scale, 4 * noise) if want.dtype.kind not in "biu" else 0.0
        ok = error <= bound
    return {
        "name": name,
        "seed": seed,
        "dtype": [str(want.dtype), str(got.dtype)],
        "shape": [list(want.shape), list(got.shape)],
        "max_error": error,
        "max_output": scale,
        "allowed": bound,
        "ok": ok,
    }


def _failure(v: dict[str, Any]) -> str:
    bad = [r for r in v["outputs"] if not r["ok"]]
    r = bad[0]
    return (
        f"the converted model does not agree with its source (run by {v['tool']}): {len(bad)} of {len(v['outputs'])} "
        f"outputs differ; '{r['name']}': largest difference {r['max_error']:.3g}, allowed {r['allowed']:.3g}, dtype "
        f"{r['dtype'][1]} for {r['dtype'][0]}, shape {r['shape'][1]} for {r['shape'][0]}. Nothing was written. "
        "Find the first wrong tensor with `deploykit convert --no-verify` and `deploykit compare`."
    )
