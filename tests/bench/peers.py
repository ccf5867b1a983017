"""Deploykit against onnxruntime on whole models: interleaved in one process, same threads, outputs compared.

    python -m tests.bench.peers [--models mobilenetv2,resnet50,real] [--threads 1,2] [--runs 30] [--rounds 3]

Ratios are onnxruntime's time over ours, medians of paired runs (above 1: we are faster).  ``--cold`` adds load + first
inference in fresh processes (the model already converted: a .dk file against an .onnx file).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

import deploykit as dk
from deploykit.cli.bench_cmd import measure
from deploykit.runners import OnnxRuntimeRunner
from tests.support import assets, cases, zoo

COLD = {
    "deploykit": """
import sys, time, numpy as np
x = np.load(sys.argv[2])
t = time.perf_counter()
import deploykit as dk
s = dk.Interpreter(sys.argv[1], threads=1)
a = time.perf_counter()
s.run({s.inputs[0].name: x})
b = time.perf_counter()
print(a - t, b - a)
""",
    "onnxruntime": """
import sys, time, numpy as np
x = np.load(sys.argv[2])
t = time.perf_counter()
import onnxruntime as ort
o = ort.SessionOptions(); o.intra_op_num_threads = 1
s = ort.InferenceSession(sys.argv[1], o, providers=["CPUExecutionProvider"])
a = time.perf_counter()
s.run(None, {s.get_inputs()[0].name: x})
b = time.perf_counter()
print(a - t, b - a)
""",
}


def workloads(names: list[str], folder: Path) -> list[tuple[str, Path, dict[str, np.ndarray]]]:
    """(name, onnx file, feeds)."""
    out = []
    for name in names:
        if name == "real":
            for model in assets.ONNX_MODELS:
                case = cases.cases(model)[0]
                out.append((case.id, assets.fetch(model), case.steps[-1]))
            continue
        path = folder / f"{name}.onnx"
        onnx.save(zoo.ZOO[name](), path)
        out.append((name, path, {"x": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}))
    return out


def cold(ours: Path, theirs: Path, feeds: dict[str, np.ndarray], folder: Path, n: int = 7) -> str:
    """Median load and first-run times of fresh processes, taken in turn, import included."""
    np.save(folder / "x.npy", next(iter(feeds.values())))
    times: dict[str, list[tuple[float, float]]] = {k: [] for k in COLD}
    for _ in range(n):
        for k, code in COLD.items():
            model = ours if k == "deploykit" else theirs
            out = subprocess.run(
                [sys.executable, "-c", code, str(model), str(folder / "x.npy")],
                capture_output=True,
                text=True,
                check=True,
            )
            load, first = map(float, out.stdout.split())
            times[k].append((load, first))
    text = []
    for k, rows in times.items():
        load, first = (statistics.median(r[i] for r in rows) * 1e3 for i in (0, 1))
        text.append(f"{k}: import + load {load:.1f} ms, first run {first:.1f} ms, together {load + first:.1f} ms")
    return "; ".join(text)


def main() -> None:
    """Print the tables."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default="mobilenetv2,resnet50,real")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--runs", type=int, default=30)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--cold", action="store_true")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as t:
        folder = Path(t)
        print(f"{'model':34} {'threads':>7} {'ours ms':>9} {'theirs ms':>9} {'theirs/ours, by round':>24}  difference")
        for name, path, feeds in workloads(a.models.split(","), folder):
            target = folder / (name + ".dk")
            dk.convert(path, target, verify=False)
            for n in map(int, a.threads.split(",")):
                contenders = {"deploykit": dk.Interpreter(target, threads=n), "onnxruntime": OnnxRuntimeRunner(path, n)}
                rounds = [measure(contenders, feeds, a.runs)["runtimes"] for _ in range(a.rounds)]
                ours, theirs = ([r[k]["median_ms"] for r in rounds] for k in contenders)
                ratios = " ".join(f"{r['onnxruntime']['ratio']:.2f}" for r in rounds)
                worst = max(r["onnxruntime"]["largest_difference"] for r in rounds)
                print(f"{name:34} {n:7} {min(ours):9.3f} {min(theirs):9.3f} {ratios:>24}  {worst:.1e}", flush=True)
            if a.cold and len(feeds) == 1:
                print("   cold:", cold(target, path, feeds, folder), flush=True)


if __name__ == "__main__":
    main()
