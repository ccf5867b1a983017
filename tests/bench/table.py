"""Makes docs/performance.md and its plot: every model of the set against every peer that takes it.

    pip install '.[bench]' && python -m tests.bench.table [--models mobilenetv2,...] [--threads 1,2] [--rounds 30] [--write]

Each model runs in a process of its own, in which all contenders take turns (deploykit/peers.py: race).  fp32 models are
seeded (tests/support/zoo.py) or real ones out of public packages; `-int8` ones are quantized here by onnxruntime.  Without
--write the table is only printed.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
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
import onnx

import deploykit as dk
from deploykit import native, peers
from deploykit.errors import DeploykitError
from tests.support import zoo

ROOT = Path(__file__).resolve().parents[2]
REAL = {
    "silero-vad": "models/silero-vad/silero_vad.onnx",
    "ocr-recognise": "models/ppocr-v4/ch_PP-OCRv4_rec_infer.onnx",
    "ocr-detect": "models/ppocr-v4/ch_PP-OCRv4_det_infer.onnx",
}
INT8 = ["mobilenetv2-int8", "resnet50-int8"]
MODELS = [*zoo.ZOO, *INT8, *REAL]
Row = dict[str, Any]
# What keeps a model from being faster, by the profiler on two cores with AVX-512, 2 MB of L2 each (30 Nov 2026; one
# core does 166 to 175 GFLOP/s in fp32).
BOUNDS = {
    "mobilenetv2": "blocks wider than L2 run by strips of rows (9 per cent of the whole); the first layers are short sums over "
    "many pixels (16 terms: 86 GFLOP/s); the classifier reads 5 MB of weights at 17 GB/s.",
    "resnet50": "products reach 130 to 170 GFLOP/s; on 56 x 56 with a residual (112) they read and write 3.2 MB each from and to "
    "L3; the last stage is bound by reading weights.",
    "transformer": "products reach 150 to 158 GFLOP/s; GELU takes a tenth of its layer.",
    "ocr-recognise": "products are three quarters of the time and reach 152 to 160 GFLOP/s; 5 x 5 depthwise layers 60 to 80; the "
    "last product (40 x 120 x 6625) 75: it writes rows of 6625 unaligned numbers and reads 3.2 MB of weights once.",
    "ds_cnn": "kernels take all but 1 us; on images 5 wide two of five columns of a depthwise layer are borders (42 GFLOP/s).",
    "lstm": "each step reads all recurrent weights from L2 for one row.",
}


def model(name: str, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """The .onnx file of a model and its inputs."""
    if name in REAL:
        from tests.support import assets, cases

        return assets.fetch(REAL[name]), cases.cases(REAL[name])[0].steps[-1]
    if name in INT8:
        from tests.bench.int8 import quantized

        path = quantized(name.removesuffix("-int8"), folder)[1]
    else:
        path = folder / f"{name}.onnx"
        onnx.save(zoo.ZOO[name](), path)
    shape = [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    return path, {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def measure(name: str, threads: int, rounds: int, names: list[str]) -> Row:
    """Times of all contenders on one model, and why a peer is missing."""
    with tempfile.TemporaryDirectory() as t:
        path, feeds = model(name, Path(t))
        target = Path(t) / "model.dk"
        dk.convert(path, target, verify=False)
        contenders: dict[str, Any] = {"deploykit": dk.Interpreter(target, threads=threads)}
        want = contenders["deploykit"].run(feeds)
        row: Row = {"model": name, "threads": threads, "missing": {}, "differs": {}, "ms": {}}
        for peer in names:
            try:
                runner = peers.open_peer(peer, path, threads, feeds, want)
                row["differs"][peer] = peers.agreement(want, runner.run(feeds))
                contenders[peer] = runner
            except DeploykitError as e:
                row["missing"][peer] = str(e)
            except Exception as e:  # of the peer: each has kinds of its own
                row["missing"][peer] = f"{peer} fails: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
        gc.disable()
        times = peers.race(contenders, feeds, rounds)
        for k, ms in times.items():
            row["ms"][k] = [statistics.median(ms), min(ms)]
        return row


def best(row: Row, which: int) -> float:
    """The fastest peer's time over ours: of medians (0) or minima (1)."""
    theirs = [v[which] for k, v in row["ms"].items() if k != "deploykit"]
    return min(theirs) / row["ms"]["deploykit"][which] if theirs else float("nan")


def machine() -> str:
    """What it was measured on."""
    name = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs, kernels {native.describe()['isa']}"


def versions(names: list[str]) -> str:
    """Of everything that took part."""
    package = {"litert": "ai-edge-litert"}
    found = [f"{n} {importlib.metadata.version(package.get(n, n))}" for n in names]
    return ", ".join([f"Deploykit {dk.__version__}", *found])


def table(rows: list[Row], names: list[str]) -> str:
    """Markdown."""
    lines = [
        "| model | threads | ours | " + " | ".join(names) + " | best peer / ours |",
        "|---|---|---|" + "---|" * len(names) + "---|",
    ]
    for r in rows:
        cells = []
        for k in ("deploykit", *names):
            if k in r["ms"]:
                wrong = r["differs"].get(k, 0) > (0.1 if r["model"] in INT8 else 1e-3)
                cells.append(f"{r['ms'][k][0]:.2f} ({r['ms'][k][1]:.2f})" + (" !" if wrong else ""))
            else:
                cells.append("-")
        lines.append(f"| {r['model']} | {r['threads']} | {' | '.join(cells)} | {best(r, 0):.2f} ({best(r, 1):.2f}) |")
    return "\n".join(lines)


def plot(rows: list[Row], to: Path) -> None:
    """Bars of best peer / ours, by model and threads."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "deploykit"
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(r["model"] for r in rows))
    threads = sorted({r["threads"] for r in rows})
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(models) + 1.2))
    height = 0.8 / len(threads)
    for i, n in enumerate(threads):
        found = {r["model"]: best(r, 0) for r in rows if r["threads"] == n}
        at = [y + (i - (len(threads) - 1) / 2) * height for y in range(len(models))]
        bars = axes.barh(at, [found.get(m, 0) for m in models], height, label=f"{n} thread{'s' * (n > 1)}")
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(models)), models)
    axes.invert_yaxis()
    axes.set_xlabel("time of the fastest peer / ours (medians; above 1 we are faster)")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(to, metadata={"Date": None})


def page(rows: list[Row], names: list[str], rounds: int, note: str = "") -> str:
    """The text of docs/performance.md."""
    missing = dict.fromkeys(
        f"* {r['model']} on {peer}: {why.splitlines()[0].rstrip(';:')}"
        for r in rows
        for peer, why in r["missing"].items()
    )
    lines = [
        "# Performance",
        "",
        "Made by `python -m tests.bench.table --write`; do not edit.",
        "",
        f"{machine()}. {versions(names)}. Python {platform.python_version()}, {datetime.date.today()}.",
        *([note] if note else []),
        "",
        f"Milliseconds: median (minimum) of {rounds} rounds. Contenders take turns in one process; before its timed run each",
        "waits until the threads of the one before have gone to sleep, and runs twice. float32 arithmetic everywhere but in",
        "the `-int8` models, which onnxruntime quantized. `!`: the outputs differ by more than 1e-3 (int8: 0.1) of the largest",
        "number. The last column is the fastest peer's time over ours: above 1 we are faster.",
        "",
        table(rows, names),
        "",
        "![time of the fastest peer over ours](performance.svg)",
        "",
    ]
    bounds = [f"* {name}: {why}" for name, why in BOUNDS.items() if any(r["model"] == name for r in rows)]
    if bounds:
        lines += ["What bounds ours in fp32:", "", *bounds, ""]
    if missing:
        lines += ["Not run:", "", *missing, ""]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and with --write make the page."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default=",".join(MODELS))
    p.add_argument("--threads", default="1,2")
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--peers", default=",".join(peers.PEERS))
    p.add_argument("--write", action="store_true")
    p.add_argument("--note", default="", help="a sentence for the page, such as what else ran on the machine")
    p.add_argument("--one", action="store_true", help="measure one model here and print JSON")
    a = p.parse_args()
    names = a.peers.split(",")
    if a.one:
        print("ROW " + json.dumps(measure(a.models, int(a.threads), a.rounds, names)))
        return
    rows = []
    for name in a.models.split(","):
        for threads in a.threads.split(","):
            command = [sys.executable, "-m", "tests.bench.table", "--one", "--models", name, "--threads", threads]
            command += ["--rounds", str(a.rounds), "--peers", a.peers]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            found = [line for line in done.stdout.splitlines() if line.startswith("ROW ")]
            if not found:
                raise SystemExit(f"{name}, {threads} threads: {done.stderr[-2000:]}")
            rows.append(json.loads(found[0][4:]))
            print(table(rows[-1:], names).splitlines()[-1], flush=True)
        if a.write:
            (ROOT / "docs" / "performance.md").write_text(page(rows, names, a.rounds, a.note))
            plot(rows, ROOT / "docs" / "performance.svg")


if __name__ == "__main__":
    main()
