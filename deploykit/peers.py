"""Other runtimes that ``deploykit bench`` can race: onnxruntime, LiteRT, OpenVINO and ncnn, each with its best CPU kernels,
the same threads and float32 arithmetic unless the model itself is quantized.

None of them is needed to use Deploykit.  OpenVINO reads .onnx itself; for ncnn the model goes through pnnx, its own
converter; for LiteRT through our .tflite exporter, unless it is a .tflite file already.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import runners
from deploykit.errors import InputError, UnsupportedError

Feeds = dict[str, np.ndarray]


class OpenVinoRunner:
    """An .onnx (or .tflite) file on OpenVINO's CPU plugin in latency mode; float32 stays float32."""

    def __init__(self, model: Path, threads: int | None, outputs: Feeds) -> None:
        import openvino as ov

        how: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            how["INFERENCE_NUM_THREADS"] = threads
        compiled = ov.Core().compile_model(str(model), "CPU", how)
        self.tool = f"OpenVINO {importlib.metadata.version('openvino')}"
        self._request = compiled.create_infer_request()
        # An output has every name that the tensor had in the source: the one that the others use is among them.
        self._names = [next((n for n in outputs if n in o.names), o.any_name) for o in compiled.outputs]

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name."""
        result = self._request.infer(feeds)
        return dict(zip(self._names, (result[i] for i in range(len(self._names))), strict=True))


class NcnnRunner:
    """An .onnx file on ncnn, converted by pnnx for exactly the shapes of ``feeds``; float32 storage and arithmetic.

    ncnn knows inputs and outputs by position only, and no batch dim: outputs get the names and shapes of ``outputs``.
    """

    def __init__(self, model: Path, threads: int | None, feeds: Feeds, outputs: Feeds) -> None:
        import ncnn

        self.tool = f"ncnn {importlib.metadata.version('ncnn')}"
        self._ncnn, self._outputs = ncnn, {k: v.shape for k, v in outputs.items()}
        self._net = net = ncnn.Net()
        net.opt.num_threads = threads or len(os.sched_getaffinity(0))
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        with tempfile.TemporaryDirectory() as folder:
            stem = Path(folder) / "m"
            shutil.copyfile(model, stem.with_suffix(".onnx"))
            short = {"float32": "f32", "int64": "i64", "int32": "i32", "uint8": "u8"}
            shapes = ",".join(
                f"{list(v.shape)}{short.get(v.dtype.name, v.dtype.name)}".replace(" ", "") for v in feeds.values()
            )
            command = [_pnnx(), "m.onnx", f"inputshape={shapes}", "fp16=0"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            param, weights = stem.with_suffix(".ncnn.param"), stem.with_suffix(".ncnn.bin")
            # ncnn ends the process on some models that pnnx let through: one run elsewhere first
            sizes = [list(self._mat(x).shape) for x in feeds.values()]
            bad = done.returncode or not param.exists()
            bad = (
                bad
                or subprocess.run(
                    [sys.executable, "-c", _TRIAL, str(stem), repr(sizes)], capture_output=True
                ).returncode
            )
            if bad or net.load_param(str(param)) or net.load_model(str(weights)):
                raise UnsupportedError(f"ncnn cannot run {model.name}: pnnx or ncnn does not know all of its ops.")
        self._in, self._out = list(net.input_names()), list(net.output_names())
        if len(self._in) != len(feeds) or len(self._out) != len(outputs):
            raise UnsupportedError(f"ncnn cannot run {model.name}: pnnx left {len(self._in)} inputs of {len(feeds)}.")

    @staticmethod
    def _mat(x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.int32 if x.dtype.kind in "iu" else np.float32)
        return x[0] if x.ndim > 1 and x.shape[0] == 1 else x

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name."""
        ex = self._net.create_extractor()
        for name, x in zip(self._in, feeds.values(), strict=True):
            ex.input(name, self._ncnn.Mat(self._mat(x)))
        out = {}
        for name, (ours, shape) in zip(self._out, self._outputs.items(), strict=True):
            code, mat = ex.extract(name)
            y = np.array(mat)
            if code or y.size != np.prod(shape):
                raise UnsupportedError(f"ncnn cannot run this model: output {ours} came out as {y.shape}.")
            out[ours] = y.reshape(shape)
        return out


_TRIAL = """
import ncnn, numpy, sys
net = ncnn.Net()
bad = net.load_param(sys.argv[1] + ".ncnn.param") or net.load_model(sys.argv[1] + ".ncnn.bin")
ex = net.create_extractor()
for name, shape in zip(net.input_names(), eval(sys.argv[2])):
    ex.input(name, ncnn.Mat(numpy.zeros(shape, "float32")))
sys.exit(bool(bad) or any(ex.extract(name)[0] for name in net.output_names()))
"""


def _pnnx() -> str:
    beside = Path(sys.executable).with_name("pnnx")
    found = str(beside) if beside.exists() else shutil.which("pnnx")
    if not found:
        raise UnsupportedError("ncnn models are made by pnnx, which is not installed: pip install pnnx.")
    return found


def _onnx(source: Path | None, name: str) -> Path:
    if source is None or source.suffix != ".onnx":
        raise InputError(f"--against {name} needs the .onnx model too: give --source model.onnx.")
    return source


def _installed(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UnsupportedError(f"{module} is not installed: pip install {package}.")


def _onnxruntime(source: Path | None, threads: int | None, feeds: Feeds, outputs: Feeds) -> Any:
    path = _onnx(source, "onnxruntime")
    _installed("onnxruntime", "'deploykit[bench]'")
    return runners.OnnxRuntimeRunner(path, threads)


def _litert(source: Path | None, threads: int | None, feeds: Feeds, outputs: Feeds) -> Any:
    if not runners.have_litert():
        raise UnsupportedError("LiteRT is not installed: pip install ai-edge-litert.")
    if source is None:
        raise InputError("--against litert needs the model's source too: give --source model.tflite.")
    if source.suffix == ".tflite":
        return runners.LiteRtRunner(source, threads)
    from deploykit.api import convert
    from deploykit.formats import to_bytes

    report = convert(source, verify=False)  # the same network, as our exporter writes it
    return runners.LiteRtRunner(to_bytes(report.graph, ".tflite"), threads)


def _openvino(source: Path | None, threads: int | None, feeds: Feeds, outputs: Feeds) -> Any:
    _installed("openvino", "openvino")
    if source is None or source.suffix not in (".onnx", ".tflite"):
        raise InputError("--against openvino needs the model's source too: give --source model.onnx.")
    return OpenVinoRunner(source, threads, outputs)


def _ncnn(source: Path | None, threads: int | None, feeds: Feeds, outputs: Feeds) -> Any:
    path = _onnx(source, "ncnn")
    _installed("ncnn", "ncnn pnnx")
    return NcnnRunner(path, threads, feeds, outputs)


PEERS: dict[str, Callable[[Path | None, int | None, Feeds, Feeds], Any]] = {
    "onnxruntime": _onnxruntime,
    "litert": _litert,
    "openvino": _openvino,
    "ncnn": _ncnn,
}


def open_peer(name: str, source: Path | None, threads: int | None, feeds: Feeds, outputs: Feeds) -> Any:
    """The model at ``source`` on the runtime ``name``: an object with ``tool`` and ``run(feeds) -> outputs``.

    ``feeds`` and ``outputs`` are an example, for runtimes that want shapes beforehand.  Raises InputError for an unknown
    name or a source of the wrong kind, UnsupportedError where the runtime is missing or cannot run the model.

    >>> open_peer("abacus", None, 1, {}, {})
    Traceback (most recent call last):
    deploykit.errors.InputError: DK-INPUT: --against: no runtime 'abacus'; allowed: onnxruntime, litert, openvino, ncnn.
    """
    if name not in PEERS:
        raise InputError(f"--against: no runtime '{name}'; allowed: {', '.join(PEERS)}.")
    try:
        return PEERS[name](source, threads, feeds, outputs)
    except RuntimeError as e:  # how OpenVINO and LiteRT say that they do not know an op
        lines = str(e).strip().splitlines() or [type(e).__name__]
        raise UnsupportedError(f"{name} cannot load {source.name if source else 'it'}: {lines[-1]}") from None


def race(contenders: dict[str, Any], feeds: Feeds, rounds: int) -> dict[str, list[float]]:
    """Times in ms by contender.  They take turns, in an order that reverses from round to round.  Before its timed run each
    waits until the threads of the one before have stopped spinning on its cores, and runs twice to warm its caches.
    """
    import time

    times: dict[str, list[float]] = {k: [] for k in contenders}
    names = list(contenders)
    for i in range(rounds):
        for k in names if i % 2 == 0 else reversed(names):
            if len(names) > 1:
                settle()
            for _ in range(WARM):
                contenders[k].run(feeds)
            started = time.perf_counter()
            contenders[k].run(feeds)
            times[k].append((time.perf_counter() - started) * 1e3)
    return times


def settle() -> None:
    """Sleep until no thread of this process computes: onnxruntime's spin for some 45 ms after a run."""
    import time

    for _ in range(LONGEST):
        before = time.process_time()
        time.sleep(SETTLE)
        if time.process_time() - before < SETTLE / 20:
            return


SETTLE = 0.01  # seconds
LONGEST = 20  # times SETTLE
WARM = 2


def agreement(ours: Feeds, theirs: Feeds) -> float:
    """The largest difference of outputs of the same name, over the largest number of that output; infinite when one is
    missing.

    >>> agreement({"y": np.array([1.0, 4.0])}, {"y": np.array([1.0, 5.0])})
    0.2
    """
    worst = 0.0
    for name, v in ours.items():
        d, scale = runners.difference(theirs[name], v) if name in theirs else (float("inf"), 0.0)
        worst = max(worst, d / scale if scale else d)
    return worst
