"""Every public model on every engine that runs here, held against the scalar kernels on one thread: docs/same-answer.md.

    python -m tests.trust.same_answer [--only native,wasm,browser,arm] [--models WORD,...] [--int8] [--write]

native: every kernel set of this machine with 1, 2 and 3 threads.  wasm: the engine for browsers in Node, without threads and
with 1, 2 and 3 lanes.  arm: AArch64 under qemu-user, cortex-a53 with 1 thread, cortex-a76 with 2, max with 3.  Real inputs,
the first case of each model, up to STEPS steps where state goes from one to the next.  ``--int8``: quantized, too.
Integers must have the same bits; so must floats that are dequantized 8-bit numbers; other floats are held to the class "loose"
of the passports, 1e-4 of the largest number of an output.  Threads must change no bit.  Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import deploykit as dk
from deploykit import dtypes, vectors
from deploykit.graph.dkfile import from_bytes, to_bytes
from tests.support import assets, cases, tflite_cases

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "same-answer.md"
STEPS, THREADS, LOOSE = 4, (1, 2, 3), 1e-4
MODULES = ("engine.wasm", "engine.threads.wasm")
Outputs = list[dict[str, np.ndarray]]


@dataclass
class Job:
    """A model as .dk, its inputs step by step (state already carried), and what each engine gave."""

    name: str
    path: Path
    steps: list[dict[str, np.ndarray]]
    got: dict[tuple[str, int], Outputs] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def first_case(model: str) -> cases.Case:
    """The first case of a public model, cut to STEPS steps."""
    of = cases.cases if model.endswith(".onnx") else tflite_cases.cases
    case = of(model)[0]
    case.steps = case.steps[:STEPS]
    return case


def make(folder: Path, words: list[str], int8: bool) -> Iterator[Job]:
    """Converts; the state that models return goes into the next step's inputs as the native engine computes it."""
    for number, model in enumerate(assets.ONNX_MODELS + assets.TFLITE_MODELS):
        if words and not any(w in model for w in words):
            continue
        case = first_case(model)
        for suffix in ("", " int8") if int8 else ("",):
            options: dict[str, Any] = {}
            if suffix:
                options = {"quantize": "int8", "calibration": case.steps, "repair": "none"}
            path = folder / f"{number}{suffix.strip()}.dk"
            try:
                path.write_bytes(to_bytes(dk.convert(assets.file(model), verify=False, **options).graph))
            except dk.DeploykitError as e:
                print(f"{model}{suffix}: not made: {str(e)[:200]}", flush=True)
                continue
            fed: list[dict[str, np.ndarray]] = []
            session = dk.Interpreter(path, threads=1)

            def run(feeds: dict[str, np.ndarray], fed: Any = fed, session: Any = session) -> dict[str, np.ndarray]:
                fed.append(feeds)
                return session.run(feeds)

            cases.run(run, case)
            yield Job(model.removeprefix("models/") + suffix, path, fed)


# ---------------------------------------------------------------- engines
def worker() -> None:
    """In a process with DK_ISA: all models with all numbers of threads; pickles in and out."""
    jobs = pickle.load(sys.stdin.buffer)
    out = []
    for path, steps in jobs:
        rows = []
        for n in THREADS:
            session = dk.Interpreter(path, threads=n)
            rows.append([session.run(s) for s in steps])
        out.append(rows)
    pickle.dump(out, sys.stdout.buffer)


def native(jobs: list[Job], isa: str) -> None:
    """One kernel set of this machine."""
    given = pickle.dumps([(j.path, j.steps) for j in jobs])
    command = [sys.executable, "-P", "-c", "from tests.trust.same_answer import worker; worker()"]
    env = os.environ | {"DK_ISA": isa, "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])}
    done = subprocess.run(command, input=given, capture_output=True, env=env)
    if done.returncode:
        raise SystemExit(f"{isa}: {done.stderr.decode()[-2000:]}")
    for job, rows in zip(jobs, pickle.loads(done.stdout), strict=True):
        job.got |= {(isa, n): got for n, got in zip(THREADS, rows, strict=True)}


def wasm(jobs: list[Job], module: str) -> None:
    """A module of the engine for browsers in Node."""
    from tests.web import pages

    built = pages.build() / module
    for job in jobs:
        specs = dk.Interpreter(job.path)
        steps = [[_packed(s[i.name]) for i in specs.inputs] for s in job.steps]
        for n in THREADS if "threads" in module else (1,):
            text = json.dumps({"module": str(built), "shared": "threads" in module, "model": str(job.path),
                               "threads": n, "inputs": steps[0], "more": steps[1:]})  # fmt: skip
            command = ["node", str(ROOT / "tests" / "web" / "engine.mjs")]
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600)
            seen = json.loads(done.stdout) if done.stdout else {"error": done.stderr[-300:]}
            if "error" in seen:
                job.problems.append(f"{module}: {seen['error'][:200]}")
                continue
            rows = [seen["outputs"], *seen["more"]]
            key = f"wasm_{'threads' if 'threads' in module else 'simd128'}", n
            base = job.got["scalar", 1]  # whose dtypes a file need not tell
            job.got[key] = [
                {k: np.frombuffer(base64.b64decode(b), a.dtype) for (k, a), b in zip(want.items(), row, strict=True)}
                for want, row in zip(base, rows, strict=True)
            ]


def browser(jobs: list[Job], name: str) -> None:
    """The engine for browsers in one, by the web package."""
    from deploykit import web_answers as answers
    from deploykit.web import site
    from tests.web import pages

    built = pages.build()
    site.runtime = lambda: built  # type: ignore[assignment]
    for job in jobs:
        try:
            for n, (got, info) in answers.in_browser(job.path, job.steps, pages.CHROMIUM, list(THREADS), False).items():
                job.got[f"{name}_{info['isa'].removeprefix('wasm_')}", n] = got
        except dk.DeploykitError as e:
            job.problems.append(f"{name}: {e}")


def _packed(x: np.ndarray) -> dict[str, Any]:
    code = dtypes.dtype(x.dtype).code
    return {"dtype": code, "shape": list(x.shape), "data": base64.b64encode(np.ascontiguousarray(x).tobytes()).decode()}


def arm(jobs: list[Job], cpu: str) -> None:
    """An emulated CPU."""
    from tests.support.arm import CPUS, Arm

    with Arm(cpu) as engine:
        for job in jobs:
            specs = dk.Interpreter(job.path)
            for n in (1 + list(CPUS).index(cpu),):
                engine.open(job.path.read_bytes(), n)
                rows = [engine.run(*(s[i.name] for i in specs.inputs)) for s in job.steps]
                names = [o.name for o in specs.outputs]
                job.got[CPUS[cpu], n] = [dict(zip(names, r, strict=True)) for r in rows]


# ---------------------------------------------------------------- judging
def eight_bit(job: Job) -> set[str]:
    """Outputs that are integers, or 8-bit numbers dequantized at the end."""
    graph = from_bytes(job.path.read_bytes())
    found = set()
    for name, value in zip(graph.public_outputs, graph.outputs, strict=True):
        node = value.producer
        while (
            node is not None and node.op in ("reshape", "transpose", "slice", "concat") and node.inputs[0] is not None
        ):
            node = node.inputs[0].producer
        if value.dtype is not None and value.dtype.kind != "f" or node is not None and node.op == "dequantize":
            found.add(name)
    return found


def judge(job: Job) -> tuple[bool, dict[str, str]]:
    """(fine, what the page says for each engine)."""
    exact, fine, cells = eight_bit(job), True, {}
    base = job.got["scalar", 1]
    for engine in dict.fromkeys(k for k, _ in job.got):
        runs = {n: got for (k, n), got in job.got.items() if k == engine}
        one = next(iter(runs.values()))
        for n, got in runs.items():
            if any(a[k].tobytes() != b[k].tobytes() for a, b in zip(one, got, strict=True) for k in a):
                job.problems.append(f"{engine}: {n} threads change bits")
                fine = False
        worst, equal = 0.0, True
        for want, got in zip(base, one, strict=True):
            for k, w in want.items():
                g = got[k].reshape(w.shape)
                if w.tobytes() == g.tobytes():
                    continue
                equal = False
                if k in exact:
                    job.problems.append(f"{engine}: '{k}', 8-bit or integer, has other bits")
                    fine = False
                    continue
                scale = np.abs(w[np.isfinite(w)]).max(initial=0)
                with np.errstate(invalid="ignore"):
                    d = np.abs(w.astype(np.float64) - g)
                d[(w == g) | (np.isnan(w) & np.isnan(g))] = 0
                worst = max(worst, float(np.nan_to_num(d, nan=np.inf).max()) / max(float(scale), 1e-30))
        if worst > LOOSE:
            job.problems.append(f"{engine}: a float is off by {worst:.2g} of the largest, allowed {LOOSE:g}")
            fine = False
        cells[engine] = "bits" if equal else f"{worst:.0e}"
    return fine and not job.problems, cells


def page(jobs: list[Job], rows: list[tuple[bool, dict[str, str]]], command: str) -> str:
    """The page as Markdown."""
    engines = list(dict.fromkeys(e for _, cells in rows for e in cells))
    fine = sum(ok for ok, _ in rows)
    runs = sum(len(j.got) for j in jobs)
    text = [
        "# The same answer everywhere",
        "",
        f"Written by `{command}` on {time.strftime('%d %B %Y').lstrip('0')}, {platform.machine()}: {fine} of {len(jobs)}",
        f"models agree on all engines, {runs:,} runs of a model with some number of threads.",
        "",
        "Each model runs on real inputs on every kernel set of the machine, on the engine for browsers in Node",
        "(`wasm_simd128`; `wasm_threads`: its build for shared memory) and in Chromium (`chromium_relaxed`), with 1, 2 and 3",
        "threads, except `wasm_simd128`, which has one; and on AArch64 under emulation (`arm_*`: cortex-a53 with 1 thread,",
        "cortex-a76 with 2, max with 3). **Threads change no bit**, unless it is said below. `bits`: every output equals that of",
        "the scalar kernels to the bit. A number: the largest difference of a float as a part of the output's largest number;",
        'allowed is 1e-4 (class "loose" of the passports). Integers and dequantized 8-bit outputs must have the same bits.',
        "Node 20's relaxed SIMD is not exact and not used; Chromium's is, with fused multiply-add.",
        "",
        "| model | " + " | ".join(f"`{e}`" for e in engines) + " |",
        "|---|" + "---|" * len(engines),
    ]
    for job, (_, cells) in zip(jobs, rows, strict=True):
        text.append(f"| {job.name} | " + " | ".join(cells.get(e, "") for e in engines) + " |")
    wrong = [f"* {j.name}: {p}" for j in jobs for p in dict.fromkeys(j.problems)]
    text += ["", "## What differs", "", *(wrong or ["Nothing."])]
    return "\n".join(text) + "\n"


def main() -> int:
    p = argparse.ArgumentParser()
    p.add_argument("--only", default="native,wasm,browser,arm")
    p.add_argument("--models", default="")
    p.add_argument("--int8", action="store_true")
    p.add_argument("--write", action="store_true")
    a = p.parse_args()
    from tests.support.arm import CPUS

    todo: list[tuple[str, Callable[[list[Job], str], None], list[str]]] = [
        ("native", native, vectors.kernel_sets()),
        ("wasm", wasm, list(MODULES)),
        ("browser", browser, ["chromium"]),
        ("arm", arm, list(CPUS)),
    ]
    with tempfile.TemporaryDirectory() as d:
        started = time.time()
        jobs = list(make(Path(d), [w for w in a.models.split(",") if w], a.int8))
        print(f"{len(jobs)} models made, {time.time() - started:.0f} s", flush=True)
        for kind, run, names in todo:
            for name in names if kind in a.only.split(",") else names[:1] if kind == "native" else ():
                try:
                    run(jobs, name)
                except Exception as e:  # told on the page; the other engines go on
                    jobs[0].problems.append(f"{name}: {e}")
                print(f"{kind} {name}: {time.time() - started:.0f} s", flush=True)
        rows = [judge(j) for j in jobs]
    text = page(jobs, rows, " ".join(["python -m tests.trust.same_answer", *sys.argv[1:]]))
    print(text)
    if a.write:
        PAGE.write_text(text)
    return int(not all(ok for ok, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
