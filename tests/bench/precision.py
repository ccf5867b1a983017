"""Every runtime in every precision it has, interleaved in one process: who is fastest if three digits are enough?

    python -m tests.bench.precision [--models mobilenetv2,...] [--threads 1,2] [--rounds 30] [--no-amx] [--write]

Ours: float32; bfloat16 in tile registers ("fast", where the CPU has them); the file that onnxruntime quantized; our own
quantizer's int8 and dynamic.  onnxruntime: float32, its int8 (Q/DQ) and dynamic files.  OpenVINO: float32, its own choice
(bfloat16 where the CPU has it), the int8 file.  LiteRT: float32, and the int8 file as our exporter writes it.  Each model runs
in a process of its own.  --write makes docs/precision.md, with --no-amx
docs/precision-without-amx.md: tile registers off, as on most PCs, for us and for OpenVINO; LiteRT and onnxruntime have no
switch for theirs.  On a processor with no more than AVX2 it makes docs/precision-avx2.md.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import deploykit as dk
from deploykit import native, peers
from deploykit.runners import OnnxRuntimeRunner
from tests.bench import table

Feeds = dict[str, np.ndarray]
MODELS = [m for m in table.MODELS if m not in table.INT8]
NO_AMX = {"DK_ISA": "x86_avx512vnni", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
SOUND = 0.3  # of the largest number: results further off than this do not count


class OpenVino(peers.OpenVinoRunner):
    """Floats in the precision that OpenVINO chooses."""

    def __init__(self, model: Path, threads: int, outputs: Feeds) -> None:
        import openvino as ov

        how = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        compiled = ov.Core().compile_model(str(model), "CPU", how)
        self._request = compiled.create_infer_request()
        self._names = [next((n for n in outputs if n in o.names), o.any_name) for o in compiled.outputs]


def quantized(plain: Path, feeds: Feeds, kind: str) -> Path:
    """The file that onnxruntime's quantizer makes: "int8" (Q/DQ, weights per channel) or "dynamic"."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out, ready = plain.with_name(f"{kind}.onnx"), plain.with_name("ready.onnx")
    if kind == "dynamic":
        q.quantize_dynamic(plain, out, weight_type=q.QuantType.QInt8, per_channel=True)
        return out
    model = onnx.load(plain)
    if model.opset_import[0].version < 13:
        model = onnx.version_converter.convert_version(model, 13)
    onnx.save(model, ready)
    quant_pre_process(ready, ready, skip_symbolic_shape=True)

    class Reader(q.CalibrationDataReader):
        left = [feeds]

        def get_next(self) -> Feeds | None:
            return self.left.pop() if self.left else None

    how: dict[str, Any] = dict(activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8, per_channel=True)
    q.quantize_static(ready, out, Reader(), quant_format=q.QuantFormat.QDQ, **how)
    return out


def contenders(plain: Path, feeds: Feeds, threads: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Runners by name, and why others are missing."""
    made: dict[str, Path] = {}

    def file(kind: str) -> Path:
        if kind == "f32":
            return plain
        if kind not in made:
            made[kind] = quantized(plain, feeds, kind)
        return made[kind]

    def ours(kind: str, precision: str = "default", **how: Any) -> Any:
        target = plain.with_name(f"ours_{kind}{'_'.join(how)}.dk")
        dk.convert(file(kind), target, verify=False, **how)
        return dk.Interpreter(target, threads=threads, precision=precision)

    first = ours("f32")
    want = first.run(feeds)
    makers: dict[str, Callable[[], Any]] = {
        "deploykit int8 (onnxruntime's file)": lambda: ours("int8"),
        "deploykit int8": lambda: ours("f32", quantize="int8", calibration=[feeds]),
        "deploykit dynamic": lambda: ours("f32", quantize="dynamic"),
    }
    if native.describe()["fast"]:
        makers["deploykit bf16"] = lambda: ours("f32", "fast")
    for kind in ("f32", "int8", "dynamic"):
        makers[f"onnxruntime {kind}"] = lambda kind=kind: OnnxRuntimeRunner(file(kind), threads)  # type: ignore[misc]
    makers |= {
        "openvino f32": lambda: peers.open_peer("openvino", plain, threads, feeds, want),
        "openvino default": lambda: OpenVino(plain, threads, want),
        "openvino int8": lambda: OpenVino(file("int8"), threads, want),
        "litert f32": lambda: peers.open_peer("litert", plain, threads, feeds, want),
        "litert int8": lambda: peers.open_peer("litert", file("int8"), threads, feeds, want),
    }
    found, missing = {"deploykit f32": first}, {}
    for name, make in makers.items():
        try:
            runner = make()
            runner.run(feeds)
            found[name] = runner
        except Exception as e:  # of the peers, each has kinds of its own
            missing[name] = (str(e).strip().splitlines() or [type(e).__name__])[0]
    return found, missing


def measure(name: str, threads: int, rounds: int) -> dict[str, Any]:
    """Medians, minima and differences of everything that runs the model."""
    with tempfile.TemporaryDirectory() as t:
        plain, feeds = table.model(name, Path(t))
        if plain.parent != Path(t):
            plain = Path(t) / plain.name
            plain.write_bytes(table.model(name, Path(t))[0].read_bytes())
        found, missing = contenders(plain, feeds, threads)
        want = found["deploykit f32"].run(feeds)
        differs = {k: peers.agreement(want, r.run(feeds)) for k, r in found.items()}
        gc.disable()
        times = peers.race(found, feeds, rounds)
        ms = {k: [statistics.median(v), min(v)] for k, v in times.items()}
        return {"model": name, "threads": threads, "ms": ms, "differs": differs, "missing": missing}


def best(row: dict[str, Any], ours: bool, which: int = 0, plain: bool = False) -> str:
    """The name of the fastest whose results are sound; ``plain``: of those that surely leave tile registers alone when
    they are told to, or have no products in 8 bits."""
    names = [k for k in row["ms"] if k.startswith("deploykit") == ours and row["differs"][k] <= SOUND]
    if plain:
        names = [k for k in names if ours or k.startswith("openvino") or k.endswith(" f32")]
    return min(names, key=lambda k: row["ms"][k][which], default="")


def summary(rows: list[dict[str, Any]], plain: bool = False) -> str:
    """One line per model: our fastest against the fastest peer."""
    lines = ["| model | threads | ours | ms | fastest peer | ms | peer / ours |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        us, them = best(r, True), best(r, False, plain=plain)
        cells = [f"{r['ms'][k][0]:.2f} ({r['ms'][k][1]:.2f})" if k else "-" for k in (us, them)]
        ratios = [r["ms"][them][i] / r["ms"][us][i] if them else float("nan") for i in (0, 1)]
        name = us.removeprefix("deploykit ")
        ratio = f"{ratios[0]:.2f} ({ratios[1]:.2f})"
        lines.append(f"| {r['model']} | {r['threads']} | {name} | {cells[0]} | {them} | {cells[1]} | {ratio} |")
    return "\n".join(lines)


def details(rows: list[dict[str, Any]]) -> str:
    """Everything that was measured."""
    names = sorted({k for r in rows for k in r["ms"]}, key=lambda k: (not k.startswith("deploykit"), k))
    lines = []
    for r in rows:
        lines.append(f"**{r['model']}, {r['threads']} thread{'s' * (r['threads'] > 1)}.** " + "; ".join(
            f"{k} {r['ms'][k][0]:.2f} ({r['ms'][k][1]:.2f}), off {r['differs'][k]:.0e}" for k in names if k in r["ms"]
        ) + ".\n")  # fmt: skip
    return "\n".join(lines)


def page(rows: list[dict[str, Any]], rounds: int, note: str, plain: bool = False) -> str:
    """The text of docs/precision.md."""
    missing = dict.fromkeys(f"* {r['model']}, {k}: {why}" for r in rows for k, why in r["missing"].items())
    return "\n".join(
        [
            "# The fastest precision of every runtime",
            "",
            "Made by `python -m tests.bench.precision --write`; do not edit.",
            "",
            f"{table.machine()}. {table.versions(['onnxruntime', 'litert', 'openvino'])}. Python "
            f"{platform.python_version()}, {datetime.date.today()}.",
            *([note] if note else []),
            "",
            f"Milliseconds: median (minimum) of {rounds} rounds; contenders take turns in one process. bf16: float32 models",
            'with products in bfloat16 (`precision="fast"`; OpenVINO chooses it by itself). int8: static, made by our quantizer',
            "where it is called deploykit int8, else by onnxruntime's. dynamic: activations quantized as they come. Results are",
            f"compared with our float32; those more than {SOUND} of the largest number off do not count (most weights are",
            "random, so 8 bits are far off already). The last column is the fastest peer's time over ours (above 1: we win).",
            "",
            summary(rows),
            "",
            *(
                [
                    "LiteRT and onnxruntime may use tile registers above. Against those that do not: OpenVINO, and float32",
                    "of the others.",
                    "",
                    summary(rows, plain=True),
                    "",
                ]
                if plain
                else []
            ),
            "## All of them",
            "",
            details(rows),
            *(["## Not run", "", *missing, ""] if missing else []),
        ]
    )  # fmt: skip


def main() -> None:
    """Measure, print, and with --write make the page."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default=",".join(MODELS))
    p.add_argument("--threads", default="1,2")
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--no-amx", action="store_true", help="as on processors without tile registers")
    p.add_argument("--write", action="store_true")
    p.add_argument("--note", default="", help="a sentence for the page, such as what else ran on the machine")
    p.add_argument("--one", action="store_true", help="measure one model here and print JSON")
    a = p.parse_args()
    if a.one:
        print("ROW " + json.dumps(measure(a.models, int(a.threads), a.rounds)))
        return
    if a.no_amx:
        a.note = f"Tile registers off in Deploykit and OpenVINO, which are the only ones with a switch for them. {a.note}".strip()
        os.environ |= NO_AMX
    rows = []
    for name in a.models.split(","):
        for threads in a.threads.split(","):
            command = [sys.executable, "-m", "tests.bench.precision", "--one", "--models", name, "--threads", threads]
            done = subprocess.run([*command, "--rounds", str(a.rounds)], cwd=table.ROOT, capture_output=True, text=True)
            found = [line for line in done.stdout.splitlines() if line.startswith("ROW ")]
            if not found:
                raise SystemExit(f"{name}, {threads} threads: {done.stderr[-2000:]}")
            rows.append(json.loads(found[0][4:]))
            print(summary(rows[-1:]).splitlines()[-1], flush=True)
            print(details(rows[-1:]), flush=True)
        if a.write:
            avx2 = native.describe()["isa"] == "x86_avx2"
            target = "precision-without-amx.md" if a.no_amx else "precision-avx2.md" if avx2 else "precision.md"
            (table.ROOT / "docs" / target).write_text(page(rows, a.rounds, a.note, a.no_amx))


if __name__ == "__main__":
    main()
