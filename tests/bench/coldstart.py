"""Cold start: a new process loads a model and runs it once; what does that cost over Python with NumPy alone?

    python -m tests.bench.coldstart [--models mobilenetv2,...] [--reps 9] [--threads 1] [--write]

For every contender a process imports NumPy, reads the inputs and says so; then it imports its runtime, loads the file, runs
once.  Contenders take turns; times are medians (minima) in ms from there to the first result, peak memory (VmHWM) is over
that of the same process without a runtime.  Models are in the page cache, modules compiled.  --write makes docs/coldstart.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import deploykit as dk
from deploykit.formats import to_bytes
from tests.bench import precision, table

MODELS = ["mobilenetv2", "resnet50", "yolo", "transformer", "ds_cnn", "silero-vad", "ocr-recognise"]
HEAD = """
import sys, time
import numpy as np
feeds = dict(np.load(sys.argv[2]))
path, threads = sys.argv[1], int(sys.argv[3])
start = time.perf_counter()
"""
TAIL = """
end = time.perf_counter()
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
print("COLD", (loaded - start) * 1e3, (end - start) * 1e3, peak)
"""
CODE = {
    "nothing": "loaded = time.perf_counter()",
    "deploykit": """
import deploykit as dk
s = dk.Interpreter(path, threads=threads)
loaded = time.perf_counter()
s.run(feeds)
""",
    "onnxruntime": """
import onnxruntime as ort
o = ort.SessionOptions(); o.intra_op_num_threads = threads
s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
s.run(None, feeds)
""",
    "openvino": """
import openvino as ov
how = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
s = ov.Core().compile_model(path, "CPU", how).create_infer_request()
loaded = time.perf_counter()
s.infer(feeds)
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
s = Interpreter(path, num_threads=threads)
s.allocate_tensors()
loaded = time.perf_counter()
for d, x in zip(s.get_input_details(), feeds.values()):
    s.set_tensor(d["index"], x)
s.invoke()
[s.get_tensor(d["index"]) for d in s.get_output_details()]
""",
}
SUFFIX = {"deploykit": ".dk", "onnxruntime": ".onnx", "openvino": ".onnx", "litert": ".tflite"}
Row = dict[str, Any]


def files(name: str, folder: Path) -> tuple[dict[tuple[str, str], Path], Path, dict[str, str]]:
    """Paths by contender and precision, the inputs, and what could not be made."""
    plain, feeds = table.model(name, folder)
    here = folder / "f32.onnx"
    here.write_bytes(plain.read_bytes())
    np.savez(folder / "feeds.npz", **feeds)
    made: dict[tuple[str, str], Path] = {}
    missing = {}
    for kind in ("f32", "int8"):
        try:
            source = here if kind == "f32" else precision.quantized(here, feeds, "int8")
        except Exception as e:  # of the quantizer
            missing[f"{name} in int8"] = str(e).splitlines()[0]
            continue
        for runtime, suffix in SUFFIX.items():
            path = source.with_name(f"{kind}{suffix}")
            try:
                if suffix == ".dk":
                    dk.convert(source, path, verify=False)
                elif suffix == ".tflite":
                    path.write_bytes(to_bytes(dk.convert(source, verify=False).graph, ".tflite"))
                elif path != source:
                    path.write_bytes(source.read_bytes())
            except dk.errors.DeploykitError as e:
                missing[f"{name} on {runtime} {kind}"] = str(e).splitlines()[0].rstrip(";:")
                continue
            made[runtime, kind] = path
    return made, folder / "feeds.npz", missing


def once(runtime: str, path: Path | str, feeds: Path, threads: int) -> list[float]:
    """ms to loaded, ms to the first result, peak in MB; raises RuntimeError with the runtime's own words."""
    command = [sys.executable, "-c", HEAD + CODE[runtime] + TAIL, str(path), str(feeds), str(threads)]
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(feeds.parent / "bytecode")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | bytecode)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("COLD ")]
    if not found:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    load, first, peak = map(float, found[0])
    return [load, first, peak / 1024]


def measure(name: str, reps: int, threads: int) -> Row:
    """All contenders on one model, in turns."""
    with tempfile.TemporaryDirectory() as t:
        made, feeds, missing = files(name, Path(t))
        runs: dict[str, list[list[float]]] = {}
        for rep in range(reps + 1):  # the first compiles all modules, as pip does
            base = once("nothing", "", feeds, threads)
            for (runtime, kind), path in made.items():
                key = f"{runtime} {kind}"
                if f"{name} on {key}" in missing:
                    continue
                try:
                    got = once(runtime, path, feeds, threads)
                except RuntimeError as e:
                    missing[f"{name} on {key}"] = str(e)
                    continue
                runs.setdefault(key, []).append([got[0], got[1], got[2] - base[2]])
            if rep == 0 and "deploykit f32" not in runs:
                raise SystemExit(missing)
        rows = {
            k: [*([f([r[i] for r in v[1:]]) for i in (0, 1, 2) for f in (statistics.median, min)])]
            for k, v in runs.items()
        }
        return {"model": name, "runs": rows, "missing": missing}


def lines(rows: list[Row]) -> str:
    """A Markdown table: per model the contenders, fastest first."""
    out = ["| model | contender | load | to first result | extra MB |", "|---|---|---|---|---|"]
    for r in rows:
        for k, v in sorted(r["runs"].items(), key=lambda kv: kv[1][2]):
            out.append(f"| {r['model']} | {k} | {v[0]:.1f} ({v[1]:.1f}) | {v[2]:.1f} ({v[3]:.1f}) | {v[4]:.1f} |")
    return "\n".join(out)


def page(rows: list[Row], reps: int, threads: int, note: str) -> str:
    """The text of docs/coldstart.md."""
    missing = [f"* {k}: {why}" for r in rows for k, why in r["missing"].items()]
    return "\n".join(
        [
            "# Cold start",
            "",
            "Made by `python -m tests.bench.coldstart --write`; do not edit.",
            "",
            f"{table.machine()}. {table.versions(['onnxruntime', 'litert', 'openvino'])}. Python "
            f"{platform.python_version()}, {datetime.date.today()}.",
            *([note] if note else []),
            "",
            f"A new process, {threads} thread(s), median (minimum) of {reps}, in ms: import and load;",
            "the same and the first run. Python, NumPy and reading the inputs do not count, files are in the page cache. Extra",
            "MB: peak memory over the same process without a runtime.",
            "",
            lines(rows),
            "",
            *(["Not run:", "", *missing, ""] if missing else []),
        ]
    )


def main() -> None:
    """Measure, print, and with --write make the page."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default=",".join(MODELS))
    p.add_argument("--reps", type=int, default=9)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--write", action="store_true")
    p.add_argument("--note", default="", help="a sentence for the page, such as what else ran on the machine")
    p.add_argument("--json", action="store_true", help="print the figures as JSON too")
    a = p.parse_args()
    rows = []
    for name in a.models.split(","):
        rows.append(measure(name, a.reps, a.threads))
        print(lines(rows[-1:]), flush=True)
        if a.json:
            print(json.dumps(rows[-1]))
    if a.write:
        (table.ROOT / "docs" / "coldstart.md").write_text(page(rows, a.reps, a.threads, a.note))


if __name__ == "__main__":
    main()
