"""The engine in Chromium against its peers there: time of a call, navigation to the first answer, bytes to download.

    npm ci --prefix tests/bench/web
    python -m tests.bench.web [--models mobilenetv2,...] [--threads 1,2] [--rounds 30] [--write]

Peers: LiteRT.js (@litertjs/core) and onnxruntime-web, both on WebAssembly.  Each model has a page of its own, cross-origin
isolated, on which the runtimes take turns; everything is compared with the native engine's answer.  First answers and
downloads come from a fresh browser for each runtime.  LiteRT.js gets the file that our exporter writes.  TensorFlow.js is
not run: its models come from a converter that needs TensorFlow.  --write makes docs/web-performance.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import deploykit as dk
from deploykit.formats import to_bytes
from tests.bench import precision, table
from tests.web import pages

HERE = Path(__file__).resolve().parent
MODELS = [
    "ds_cnn", "ds_cnn-int8", "mobilenetv2", "mobilenetv2-int8", "efficientnet_lite0", "yolo", "transformer", "lstm",
    "resnet50", "resnet50-int8",
]  # fmt: skip
COLD = ["ds_cnn", "mobilenetv2", "mobilenetv2-int8"]
HEADERS = {  # isolated, and without a policy for scripts: peers evaluate text
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
RUNTIMES = ["deploykit", "litert", "onnxruntime"]
Row = dict[str, Any]


def prepare(name: str, folder: Path) -> dict[str, str]:
    """Write model, inputs and answers for the page; what could not be made, by runtime."""
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as t:
        plain, feeds = table.model(name.removesuffix("-int8"), Path(t))
        if name.endswith("-int8"):
            plain = precision.quantized(plain, feeds, "int8")
        shutil.copyfile(plain, folder / f"{name}.onnx")
        report = dk.convert(plain, folder / f"{name}.dk", verify=False)
        try:
            (folder / f"{name}.tflite").write_bytes(to_bytes(dk.convert(plain, verify=False).graph, ".tflite"))
        except dk.errors.DeploykitError as e:
            missing["litert"] = str(e).splitlines()[0].rstrip(";:")
        del report
    answers = dk.Interpreter(folder / f"{name}.dk", threads=1).run(feeds)
    inputs = []
    for i, (k, v) in enumerate(feeds.items()):
        (folder / f"{name}.in{i}").write_bytes(np.ascontiguousarray(v).tobytes())
        inputs.append({"name": k, "shape": list(v.shape), "dtype": str(v.dtype), "file": f"{name}.in{i}"})
    for i, v in enumerate(answers.values()):
        (folder / f"{name}.out{i}").write_bytes(v.astype(np.float32).tobytes())
    page = {
        "name": name,
        "inputs": inputs,
        "outputs": list(answers),
        "answers": [f"{name}.out{i}" for i in range(len(answers))],
    }
    (folder / f"{name}.json").write_text(json.dumps(page))
    return missing


def told(folder: Path, name: str) -> str:
    """What the page has to know of a model."""
    return (folder / "m" / f"{name}.json").read_text()


def browse(url: str, queries: list[dict[str, Any]]) -> list[Row]:
    """What the pages found, one for each query."""
    command = ["node", str(HERE / "run.mjs"), url, pages.CHROMIUM]
    done = subprocess.run(
        command, input=json.dumps([{"query": q} for q in queries]), capture_output=True, text=True, cwd=HERE
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def compressed(paths: set[str], folder: Path) -> int:
    """Brotli bytes of what a page fetched of a runtime (its files, not the model's)."""
    files = [str(folder / p.lstrip("/")) for p in sorted(paths) if p.startswith(("/engine/", "/nm/"))]
    code = (
        "const z=require('zlib'),fs=require('fs');let n=0;for(const f of JSON.parse(fs.readFileSync(0)))"
        "n+=z.brotliCompressSync(fs.readFileSync(f),{params:{[z.constants.BROTLI_PARAM_QUALITY]:11,"
        "[z.constants.BROTLI_PARAM_LGWIN]:24}}).length;console.log(n)"
    )
    done = subprocess.run(["node", "-e", code], input=json.dumps(files), capture_output=True, text=True, check=True)
    return int(done.stdout)


def show(entry: Row | None) -> str:
    if entry is None:
        return "-"
    if "error" in entry:
        return "failed"
    far = entry["off"] > (precision.SOUND if entry.get("int8") else 1e-3)
    return f"{statistics.median(entry['ms']):.2f} ({min(entry['ms']):.2f}){'!' if far else ''}"


def latency(url: str, folder: Path, models: list[str], threads: list[int], rounds: int) -> tuple[list[str], list[str]]:
    lines = [
        "| model | threads | ours | LiteRT.js | onnxruntime-web | best peer / ours | against native |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = []
    for name in models:
        missing = prepare(name, folder / "m")
        notes += [f"{name} on {k}: {v}" for k, v in missing.items()]
        there = [r for r in RUNTIMES if r not in missing]
        for n in threads:
            found = browse(
                url, [{"model": told(folder, name), "threads": n, "rounds": rounds, "runtimes": ",".join(there)}]
            )[0]
            if "error" in found:
                notes.append(f"{name}, {n} threads: {found['error']}")
                print(notes[-1], flush=True)
                continue
            rows: dict[str, Row] = found["contenders"]
            for k, v in rows.items():
                v["int8"] = name.endswith("-int8")
                if "error" in v:
                    notes.append(f"{name}, {n} threads, {k}: {v['error']}")
            ours = rows["deploykit"]
            peers = [v for k, v in rows.items() if k != "deploykit" and "error" not in v]
            ratio = "-"
            if peers and "error" not in ours:
                median, least = (min(f(v["ms"]) for v in peers) / f(ours["ms"]) for f in (statistics.median, min))
                ratio = f"{median:.2f} ({least:.2f})"
            cells = [show(rows.get(r)) for r in RUNTIMES]
            same = "failed" if "error" in ours else "same bits" if ours["same"] else f"{ours['off']:.0e}"
            lines.append(f"| {name} | {n} | {' | '.join(cells)} | {ratio} | {same} |")
            print(lines[-1], ours.get("info", ""), flush=True)
    return lines, notes


def cold(url: str, folder: Path, models: list[str], reps: int) -> list[str]:
    lines = ["| model | runtime | to the first answer, ms | runtime, brotli kB |", "|---|---|---|---|"]
    for name in models:
        if not (folder / "m" / f"{name}.json").exists():
            prepare(name, folder / "m")
        queries = [{"model": told(folder, name), "threads": 1, "rounds": 0, "runtimes": r} for r in RUNTIMES] * reps
        rows = browse(url, queries)
        for runtime in RUNTIMES:
            mine = [r for r in rows if r["query"]["runtimes"] == runtime and "error" not in r]
            first = [r["contenders"][runtime]["first"] for r in mine if "first" in r["contenders"][runtime]]
            if not first:
                print(f"{name}, {runtime}: no answer", flush=True)
                continue
            size = compressed(set(mine[0]["fetched"]), folder)
            lines.append(
                f"| {name} | {runtime} | {statistics.median(first):.0f} ({min(first):.0f}) | {size / 1e3:.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--models", default=",".join(MODELS))
    args.add_argument("--threads", default="1,2")
    args.add_argument("--rounds", type=int, default=30)
    args.add_argument("--cold", default=",".join(COLD))
    args.add_argument("--reps", type=int, default=7)
    args.add_argument("--write", action="store_true")
    a = args.parse_args()
    if not (HERE / "node_modules").is_dir():
        raise SystemExit("the peers are missing: npm ci --prefix tests/bench/web")
    with tempfile.TemporaryDirectory() as t:
        folder = Path(t)
        (folder / "m").mkdir()
        (folder / "nm").symlink_to(HERE / "node_modules")
        shutil.copytree(pages.build(), folder / "engine")
        for f in ("page.html", "page.js"):
            shutil.copyfile(HERE / f, folder / f)
        with pages.served(folder, HEADERS) as url:
            models = [m for m in a.models.split(",") if m]
            rows, notes = latency(url, folder, models, [int(n) for n in a.threads.split(",")], a.rounds)
            firsts = cold(url, folder, [m for m in a.cold.split(",") if m], a.reps)
    if a.write:
        packages = json.loads((HERE / "package.json").read_text())["devDependencies"]
        browser = subprocess.run([pages.CHROMIUM, "--version"], capture_output=True, text=True).stdout.strip()
        text = TEXT.format(
            cpu=table.machine(), browser=browser, rounds=a.rounds, date=datetime.date.today(), python=platform.python_version(),
            litert=packages["@litertjs/core"], ort=packages["onnxruntime-web"], rows="\n".join(rows), firsts="\n".join(firsts),
            notes="\n".join(f"* {n}" for n in notes) or "* none",
        )  # fmt: skip
        (HERE.parents[2] / "docs" / "web-performance.md").write_text(text)


TEXT = """# Performance in browsers

Made by `python -m tests.bench.web --write`; do not edit.

{cpu}; {browser}, headless. LiteRT.js {litert}, onnxruntime-web {ort}, both on WebAssembly. {date}.

Milliseconds of a call on the page's own thread, arrays in and out: median (minimum) of {rounds} rounds in which the
runtimes take turns. `-int8`: the file that onnxruntime's quantizer makes; LiteRT.js runs what our exporter writes of it.
`!`: further from the native engine's answer than 1e-3 (int8: 0.3) of the largest number. Last column: how far our
answer is from the native one.

{rows}

From navigation to the first answer, in a fresh browser that has started, from a local server, runtime, model and input
fetched at once: median (minimum); and what is downloaded besides page and model, brotli 11.

{firsts}

Failed or not run:

{notes}
"""

if __name__ == "__main__":
    main()
