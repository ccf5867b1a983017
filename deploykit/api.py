"""``deploykit.convert`` and ``deploykit.load``: the two calls most people need."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import InputError, UnsupportedError, VerifyError
from deploykit.factory import is_factory, make
from deploykit.graph.ir import Graph
from deploykit.graph.mapped import release
from deploykit.interpreter import SCALES

if TYPE_CHECKING:
    from deploykit.converters.report import Report

__all__ = ["Report", "convert", "load"]

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
    """A model of any known kind (path, bytes, ``onnx.ModelProto`` or Graph) as an unoptimised Graph."""
    from deploykit import formats

    if isinstance(src, Graph):
        return src
    if is_factory(src):
        src = make(src)
    if isinstance(src, (bytearray, memoryview)):
        src = bytes(src)
    if isinstance(src, (str, os.PathLike)) and not Path(src).is_file():
        raise InputError(f"{os.fspath(src)}: no such file.")
    kind = formats.kind_of_source(src)
    if kind == ".dk":
        from deploykit.graph.dkfile import from_bytes
        from deploykit.ops.infer import infer_graph

        graph = from_bytes(src) if isinstance(src, bytes) else load(src)
        infer_graph(graph)  # files hold no shapes of inner values
        return graph
    if kind not in formats.IMPORTERS:
        raise UnsupportedError(
            f"{src}: models of kind '{kind}' are not supported; allowed: {', '.join(formats.READABLE)}. "
            "Export your model to ONNX first (torch.onnx.export, tf2onnx, keras: model.export(format='onnx'))."
        )
    return formats.importer(kind)(src, input_shapes=input_shapes)


def convert(
    src: Any,
    dst: str | os.PathLike[str] | None = None,
    *,
    quantize: str | None = None,
    calibration: Any = None,
    observer: str = "mse",
    keep_float: Iterable[str] = (),
    repair: Iterable[str] | None = None,
    block_size: int = 32,
    io_dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
    min_agreement: float | None = None,
    max_accuracy_drop: float | str | None = None,
    max_size: float | str | None = None,
    max_latency: float | str | None = None,
    metric: Callable[[Callable[..., Any]], float] | None = None,
    search_progress: Callable[[str, int, int], None] | None = None,
    report: str | os.PathLike[str] | None = None,
    input_shapes: dict[str, list[int | str]] | None = None,
    target: str = "any",
    verify: bool = True,
    inputs: list[dict[str, np.ndarray]] | None = None,
    verify_passes: bool = False,
    names: bool = True,
    metadata: dict[str, Any] | None = None,
    fix_batch: int | None = None,
    outputs: list[str] | None = None,
    io_layout: str | None = None,
    test_vectors: int = 0,
    min_runtime: str | None = None,
) -> Report:
    """Convert a model to ``.dk`` (or ``.onnx``, ``.tflite``), optimise it, and check the result against its source.

    src: path of a ``.onnx``, ``.tflite``, ``.pt2`` or ``.dk`` file, ``net.py:function`` (see :mod:`deploykit.factory`), a
    model's bytes, an ``onnx.ModelProto``, a ``torch.export.ExportedProgram``, or a Graph.  dst: where to write (``None``:
    only report); written to a temporary file first, so a failure leaves nothing behind.
    input_shapes: {"x": [1, 3, "h", 224]} fixes or names dims.  verify: run source and result on the same inputs and
    raise VerifyError if they differ; on made-up ones, or on ``inputs``, a list of sets of inputs by name.
    quantize: "int8" (needs calibration: a .npz, a folder, arrays or an iterable of samples), "dynamic", "fp16", "int4" or
    "auto"; observer: how ranges are read off the calibration runs (minmax, moving_average, percentile, mse, entropy);
    keep_float: nodes or ops to leave as they are; repair: any of equalize, smooth, bias, gptq, round,
    or "none"; by default chosen by measuring (docs/quantization.md); block_size: 32, 64 or 128 weights per scale of int4;
    io_dtype: "uint8" or "int8" lets float inputs and outputs of an int8 model come and go as integers (their scale and zero
    point: ``Interpreter.inputs[0].quantization``); progress: called with the number of samples seen; min_agreement: raise
    VerifyError when fewer decisions (largest element of the last dim) than this fraction are the source's.  Then verify measures
    how near the result is to its source, in ``report.quantization``.
    max_accuracy_drop ("0.5%" or a fraction), max_size ("2MB" or bytes), max_latency ("5ms" or milliseconds on one thread):
    with quantize="auto" and calibration, search which layers stay in float so that these hold (docs/quantization.md);
    metric: ``metric(run)`` gives a score, larger is better, of a model that ``run(inputs by name)`` runs.
    report: write an HTML page about the conversion here (docs/quantization.md); its figures are in ``report.diagnosis``.
    verify_passes: also run both sides of every rewrite.  names=False drops inner names from the file.
    fix_batch: size of every input's leading dim.  outputs: names of the tensors to give, outputs or inner ones.
    io_layout: "nchw" or "nhwc" for inputs and outputs of rank 4.  test_vectors: how many made-up inputs to store with a
    digest of their answers, for ``deploykit verify`` (.dk files only).  min_runtime: the oldest engine that will have to
    run the file ("0.1.0"); ops that came later are refused by name (``report.runtime`` says what is needed).  Names and order
    of inputs and outputs stay the source's.

    Returns a Report (``report.graph`` is the converted Graph).  Raises UnsupportedError with every problem at once.
    """
    given = dict(locals())
    from deploykit import formats, lineage

    if quantize is not None and io_layout is not None:
        raise InputError("quantize and io_layout at once; convert with io_layout first, then quantize the result.")
    if min_agreement is not None and (quantize is None or not verify):
        raise InputError("min_agreement compares a quantized model with its source; it needs quantize and verify=True.")
    if io_dtype != "float32" and quantize is None:
        raise InputError("io_dtype without quantize; say quantize='int8' and give calibration data.")
    if calibration is not None and quantize is None:
        raise InputError("calibration without quantize; say quantize='int8' (or dynamic, fp16, int4, auto).")
    if target not in TARGETS:
        raise InputError(f"target: got {target!r}, expected one of {', '.join(TARGETS)}.")
    if dst is not None and Path(dst).suffix not in formats.WRITABLE:
        raise InputError(
            f"{os.fspath(dst)}: cannot write '{Path(dst).suffix}' files; allowed: {', '.join(formats.WRITABLE)}."
        )
    if dst is not None and not Path(dst).resolve().parent.is_dir():
        raise InputError(f"{os.fspath(dst)}: the folder {Path(dst).resolve().parent} does not exist.")

    from deploykit.converters.ir import interface
    from deploykit.converters.pipeline import PORTABLE, STAGES, optimize
    from deploykit.graph import dkfile
    from deploykit.ops import contract

    choose = None
    if not (max_accuracy_drop is max_size is max_latency is None):
        if quantize != "auto" or calibration is None:
            raise InputError("max_accuracy_drop, max_size and max_latency need quantize='auto' and calibration data.")
        choose = _chooser(dst, max_accuracy_drop, max_size, max_latency, metric, names, search_progress)
    elif metric is not None:
        raise InputError("metric without a budget; say max_accuracy_drop, max_size or max_latency as well.")
    if min_runtime is not None:
        if dst is not None and Path(dst).suffix != ".dk":
            raise InputError(
                f"min_runtime is about our engine, which does not run '{Path(dst).suffix}' files; leave it out."
            )
        contract.version(min_runtime)
    if report is not None and not Path(report).resolve().parent.is_dir():
        raise InputError(f"report: {os.fspath(report)}: the folder {Path(report).resolve().parent} does not exist.")
    started = time.perf_counter()
    named = src
    if is_factory(src):
        src = make(src)
    src, graph = _imported(src, input_shapes)
    graph.metadata.pop("test_vectors", None)  # of another file
    graph.metadata.update(metadata or {})
    graph.metadata.setdefault("source", _source(src))
    kind = Path(dst).suffix if dst is not None else ".dk"
    if fix_batch is not None:
        interface.fix_batch(graph, fix_batch)
    if outputs is not None:
        interface.select_outputs(graph, outputs)
    moved = interface.set_layout(graph, io_layout) if io_layout is not None else ({}, {})
    promised = interface.names(graph)
    quantized: dict[str, Any] | None = None
    samples: list[dict[str, np.ndarray]] = []
    float_graphs: tuple[Graph, Graph | None] = (graph, None)
    before: Report | None = None
    if quantize is not None:
        from deploykit import quantization

        found = quantization.quantize(
            graph,
            quantize,
            calibration,
            observer=observer,
            keep_float=keep_float,
            repair=repair,
            block_size=block_size,
            portable=kind != ".dk",
            read_file=file_reader(graph.metadata.get("preprocessing", {})),
            progress=progress,
            choose=choose,
            io_dtype=io_dtype,
        )
        float_graphs = (graph, found.floats)
        graph, quantized, samples, before = found.graph, found.info, found.samples, found.prepared
    imported = graph
    _note_scales(imported, kind)
    portable = kind == ".onnx" or (kind == ".tflite" and _sixteen(imported))
    graph, told = optimize(imported, verify=verify_passes, stages=PORTABLE if portable else STAGES)
    data: list[Any] | None = None
    if kind != ".dk" or dst is None:
        try:
            data = formats.pieces(graph, kind, names=names)
        except UnsupportedError:
            if kind != ".tflite":
                raise
            graph, told = optimize(imported, verify=verify_passes, stages=PORTABLE)  # integers as far as they go
            data = formats.pieces(graph, kind, names=names)
    if before is not None:
        told.after(before)
    told.graph = graph
    interface.hold(promised, graph, "the conversion")
    if kind == ".dk":
        told.runtime = contract.needed_runtime(graph, min_runtime)
        graph.metadata[lineage.KEY] = lineage.record(convert, given, samples, told)
    told.source, told.output = _name(named), os.fspath(dst) if dst else None
    with dkfile.atomic_write(dst) if dst is not None else contextlib.nullcontext() as f:
        result: bytes | Path
        if (
            data is None and f is not None
        ):  # straight into the file, which is then mapped: large models are never held whole
            told.output_bytes = dkfile.write(graph, f, names=names)
            result = Path(f.name)
        else:
            assert data is not None
            told.output_bytes = sum(map(len, data))
            if f is not None:
                for piece in data:
                    f.write(piece)
                    if isinstance(piece, np.ndarray):
                        release(piece)
                result = Path(f.name)
            else:
                result = b"".join(data)
            data = None
        if f is not None:
            f.flush()
        if verify and quantized is not None:
            quantized |= _nearness(src, result, kind, samples or inputs, input_shapes, imported)
            _demand(quantized, min_agreement)
        elif verify:
            from deploykit import verification

            told.verification = verification.check(
                src, result, kind, input_shapes, inputs, batch=fix_batch, moved=moved
            )
            if told.verification["status"] == "failed":
                raise VerifyError(verification.failure(told.verification))
        if test_vectors and kind == ".dk":
            _store_vectors(graph, result, f, test_vectors, input_shapes, names, told)
        _fits(told.output_bytes, quantized)
    told.quantization = quantized
    if report is not None:
        from deploykit import diagnosis
        from deploykit.pages import report_page

        told.diagnosis = diagnosis.of_conversion(
            float_graphs, imported, samples or inputs, input_shapes, (quantized or {}).get("repairs", ())
        )
        told.seconds = time.perf_counter() - started
        with dkfile.atomic_write(Path(report)) as page:
            page.write(report_page(told.to_json()).encode())
    told.seconds = time.perf_counter() - started
    return told


def _sixteen(graph: Graph) -> bool:
    """Whether activations have 16 bits: TFLite has operators for such layers, our engine no integer ops."""
    from deploykit import dtypes

    return any(n.op == "quantize" and n.output.dtype is dtypes.int16 for g in graph.walk() for n in g.nodes)


def _note_scales(graph: Graph, kind: str) -> None:
    """Let a .dk file say what the integers at its ends stand for: passes make new values, names stay."""
    graph.metadata.pop(SCALES, None)
    if kind == ".dk" and any(v.quant is not None for v in (*graph.inputs, *graph.outputs)):
        from deploykit.quantization import scales_of

        graph.metadata[SCALES] = {
            k: {"scale": q.scale, "zero_point": q.zero_point} for k, q in scales_of(graph).items()
        }


def _fits(size: int, quantized: dict[str, Any] | None) -> None:
    """The search counts the file without test vectors."""
    most = (quantized or {}).get("search", {}).get("budget", {}).get("size")
    if most is not None and size > most:
        raise VerifyError(
            f"the file has {size} bytes with its test vectors, {most:.0f} are allowed. Nothing was written. Use "
            "test_vectors=0 (--test-vectors 0), or allow a little more."
        )


def _chooser(dst: Any, drop: Any, size: Any, ms: Any, metric: Any, names: bool, progress: Any) -> Any:
    """The search as ``quantization.quantize`` calls it; its state lies beside the result."""
    from deploykit import formats, search
    from deploykit.converters.pipeline import PORTABLE, STAGES, optimize

    budget = search.Budget(
        search.quantity(drop, "%", "max_accuracy_drop"),
        search.quantity(size, "b kb mb gb", "max_size"),
        search.quantity(ms, "us ms s", "max_latency"),
    )
    kind = Path(dst).suffix if dst is not None else ".dk"
    state = None if dst is None else Path(f"{os.fspath(dst)}.search.json")

    def finish(graph: Graph) -> bytes:
        done, _ = optimize(graph, stages=STAGES if kind == ".dk" else PORTABLE)
        return formats.to_bytes(done, kind, names=names)

    def choose(made: Any, samples: Any) -> tuple[list[str], dict[str, Any]]:
        return search.Search(made, finish, samples, budget, metric, state, progress).run()

    return choose


def _store_vectors(
    graph: Graph, result: bytes | Path, f: Any, count: int, shapes: Any, names: bool, report: Report
) -> None:
    """Write the file once more, with what it answers."""
    from deploykit import vectors
    from deploykit.graph import dkfile

    found = vectors.record(result, count, shapes)
    if not found:
        report.notes.append("no test vectors: the model draws random numbers, or no sizes were found that it accepts")
        return
    graph.metadata[vectors.KEY] = found
    if f is not None:
        f.seek(0)
        f.truncate()
        report.output_bytes = dkfile.write(graph, f, names=names)
        f.flush()


def _imported(src: Any, input_shapes: Any) -> tuple[Any, Graph]:
    """(source, its Graph).  What our reader of ``.keras`` files does not know, Keras itself may: then the source is its
    model."""
    from deploykit import formats

    try:
        return src, import_graph(src, input_shapes)
    except (InputError, UnsupportedError) as e:
        model = None
        if (
            isinstance(src, (str, os.PathLike))
            and Path(src).suffix == ".keras"
            and Path(src).is_file()
            and not input_shapes
        ):
            model = formats.stock_keras(src, e)
        if model is None:
            raise
        return model, model.to_graph()


def _nearness(src: Any, result: Any, kind: str, samples: Any, shapes: Any, graph: Graph) -> dict[str, Any]:
    """How near a quantized model is to its source, on calibration samples or made-up inputs."""
    from deploykit import quantization, runners, verification

    if isinstance(src, Graph):
        return {}
    reference = verification._source_runner(src)
    if not samples:
        found = (runners.working_inputs(reference, seed, shapes) for seed in range(2))
        samples = [f[0] for f in found if f is not None]
    return quantization.check(reference, quantization.Floats(runners.open_bytes(result, kind), graph), samples)


def _demand(q: dict[str, Any], least: float | None) -> None:
    if least is None:
        return
    for r in q.get("outputs", ()):
        if r["agreement"] is not None and r["agreement"] < least:
            raise VerifyError(
                f"output '{r['name']}': {100 * r['agreement']:.1f} % of decisions are the source's, {100 * least:g} % are "
                "demanded. Nothing was written. Give more calibration data, another observer, or keep_float for some nodes."
            )


def file_reader(preprocessing: dict[str, Any]) -> Any:
    """A reader of image and sound files for calibration folders: file -> one or more samples."""

    def read(path: Path, spec: Any, most: int) -> list[np.ndarray]:
        if path.suffix.lower() == ".wav":
            from deploykit.sounds import windows

            return windows(path, spec, most)
        from deploykit.images import read_image

        return [read_image(path, spec, preprocessing)]

    return read


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
