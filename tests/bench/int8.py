"""8-bit models against every runtime that takes them, interleaved in one process; ours in fp32 beside.

    python -m tests.bench.int8 [--models mobilenetv2,resnet50] [--threads 1,2] [--rounds 30] [--peers onnxruntime,openvino]
    python -m tests.bench.int8 --profile mobilenetv2

The models are the seeded ones of tests/support/zoo.py, quantized here by onnxruntime.quantization: Q/DQ nodes, weights
per channel, uint8 activations, calibrated on noise.  In every round each contender runs a few times, of which the last
count: the threads of the one before may still be spinning on its core.  Medians and minima in ms; ratios are a
contender's median over ours.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import deploykit as dk
from tests.support import zoo

SHAPE = (1, 3, 224, 224)


def quantized(name: str, folder: Path, activations: str = "QUInt8") -> tuple[Path, Path]:
    """The fp32 and the Q/DQ file of a zoo model."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, ready, out = (folder / f"{name}{s}.onnx" for s in ("", "_ready", f"_{activations}"))
    if not plain.exists():
        onnx.save(zoo.ZOO[name](), plain)
    quant_pre_process(plain, ready)
    rng = np.random.default_rng(0)

    class Noise(q.CalibrationDataReader):
        left = 2

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            return None if self.left < 0 else {"x": rng.standard_normal(SHAPE).astype(np.float32)}

    how = dict(quant_format=q.QuantFormat.QDQ, per_channel=True, weight_type=q.QuantType.QInt8)
    q.quantize_static(ready, out, Noise(), activation_type=getattr(q.QuantType, activations), **how)
    return plain, out


def ort(path: Path, threads: int) -> Callable[[np.ndarray], Any]:
    """onnxruntime with default optimisations."""
    import onnxruntime as rt

    o = rt.SessionOptions()
    o.intra_op_num_threads = threads
    o.log_severity_level = 4
    s = rt.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    return lambda x: s.run(None, {"x": x})[0]


def openvino(path: Path, threads: int, precision: str = "") -> Callable[[np.ndarray], Any]:
    """OpenVINO in latency mode; precision: of floats, "f32", else its own choice."""
    import openvino as ov

    core = ov.Core()
    how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if precision:
        how["INFERENCE_PRECISION_HINT"] = precision
    request = core.compile_model(str(path), "CPU", how).create_infer_request()

    def run(x: np.ndarray) -> Any:
        return request.infer({0: x})[0]

    return run


def ours(path: Path, threads: int) -> Callable[[np.ndarray], Any]:
    """Deploykit."""
    m = dk.Interpreter(path, threads=threads)
    return lambda x: m.run({"x": x})["y"]


PEERS = {"onnxruntime": ort, "openvino": openvino}


def race(contenders: dict[str, Callable[[np.ndarray], Any]], x: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Times in ms by contender; the order turns from round to round."""
    times: dict[str, list[float]] = {k: [] for k in contenders}
    names = list(contenders)
    for k in names:
        for _ in range(3):
            contenders[k](x)
    for i in range(rounds):
        for k in names if i % 2 else reversed(names):
            for turn in range(6):
                started = time.perf_counter()
                contenders[k](x)
                if turn >= 3:
                    times[k].append((time.perf_counter() - started) * 1e3)
    return times


def main() -> None:
    """Print the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default="mobilenetv2,resnet50")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--peers", default="onnxruntime,openvino")
    p.add_argument("--folder", default="")
    p.add_argument("--profile", default="")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as t:
        folder = Path(a.folder or t)
        folder.mkdir(exist_ok=True)
        x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
        for name in (a.profile or a.models).split(","):
            plain, small = (
                quantized(name, folder)
                if not a.folder or not (folder / f"{name}_QUInt8.onnx").exists()
                else (
                    folder / f"{name}.onnx",
                    folder / f"{name}_QUInt8.onnx",
                )
            )
            for source in (plain, small):
                dk.convert(source, source.with_suffix(".dk"), verify=False)
            if a.profile:
                print(dk.Interpreter(small.with_suffix(".dk"), threads=1).profile({"x": x}, runs=30))
                continue
            for n in map(int, a.threads.split(",")):
                runs = {"ours int8": ours(small.with_suffix(".dk"), n), "ours fp32": ours(plain.with_suffix(".dk"), n)}
                for peer in filter(None, a.peers.split(",")):
                    runs[f"{peer} int8"] = PEERS[peer](small, n)
                times = race(runs, x, a.rounds)
                base = statistics.median(times["ours int8"])
                for k, ms in times.items():
                    mid = statistics.median(ms)
                    print(
                        f"{name:14} {n} threads  {k:20} {mid:8.3f} ms (min {min(ms):8.3f})  {mid / base:5.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
