"""What ``deploykit verify`` does: a file's test vectors on every kernel set of this machine, and in Node where the engine
for browsers is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploykit import dtypes, lineage, vectors
from deploykit.errors import DeploykitError, EngineError
from deploykit.interpreter import Interpreter
from deploykit.vectors import Arrays

# ---------------------------------------------------------------- WebAssembly
_NODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const job = JSON.parse(readFileSync(0, "utf8"));
globalThis.fetch = async (url) => new Response(readFileSync(new URL(url)));
const { Model } = await import(pathToFileURL(job.engine));
const kinds = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, bool: Uint8Array };
const out = [];
for (const [v, inputs] of job.inputs.entries()) {
  const model = await Model.load(pathToFileURL(job.model).href);
  const given = {};
  for (const [name, dtype, shape, file] of inputs) {
    const bytes = readFileSync(`${job.out}/${file}`);
    given[name] = { data: new kinds[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)), shape };
  }
  const names = [];
  for (const [name, t] of Object.entries(await model.run(given))) {
    const file = `${job.out}/out-${v}-${names.length}`;
    writeFileSync(file, new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength));
    names.push([name, t.dtype, t.shape, file]);
  }
  out.push(names);
}
console.log(JSON.stringify(out));
"""


def have_node() -> str:
    """Why the engine for browsers cannot be replayed here, or ''."""
    from deploykit.web import site

    if shutil.which("node") is None:
        return "Node is not installed"
    try:
        site.runtime()
    except DeploykitError:
        return "the engine for browsers is not installed"
    return ""


def write_inputs(folder: Path, feeds: Sequence[Arrays]) -> list[list[list[Any]]]:
    """Inputs as files of a folder; for each of them name, dtype, shape and the file's name."""
    out: list[list[list[Any]]] = []
    for i, given in enumerate(feeds):
        out.append([])
        for k, a in given.items():
            name = f"in-{i}-{len(out[-1])}"
            (folder / name).write_bytes(np.ascontiguousarray(a).tobytes())
            out[-1].append([k, dtypes.dtype(a.dtype).name, list(a.shape), name])
    return out


def replay_in_node(model: Path, feeds: Sequence[Arrays]) -> list[Arrays]:
    """The outputs for each of the inputs from the WebAssembly engine in Node."""
    from deploykit.web import site

    with tempfile.TemporaryDirectory() as d:
        script = Path(d) / "replay.mjs"
        script.write_text(_NODE)
        job = {
            "engine": str(site.runtime() / "deploykit.js"),
            "model": str(Path(model).resolve()),
            "inputs": write_inputs(Path(d), feeds),
            "out": d,
        }
        done = subprocess.run(["node", str(script)], input=json.dumps(job), capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "Error" in line] or ["killed"]
            raise EngineError(f"wasm: the model does not run: {lines[0][:300]}")
        return [
            {k: np.frombuffer(Path(f).read_bytes(), dtypes.dtype(t).np).reshape(shape) for k, t, shape, f in names}
            for names in json.loads(done.stdout)
        ]


# ---------------------------------------------------------------- all of it
def verify(model: Path, threads: Sequence[int] = (1, 2)) -> dict[str, Any]:
    """Replay a file's vectors (or made-up ones, against the scalar kernels) on everything that runs here.

    Returns status ("passed", "failed"), ``vectors`` (how many were stored), ``source`` (what the file says
    it was made from), ``runs``: for each engine, ``engine``,
    ``ok``, ``problem``, and ``tensor``, the first one that differs from the scalar kernels.
    """
    session = Interpreter(model, threads=1)  # every checksum
    cases = vectors.stored(session)
    count = len(cases)
    if not cases:
        cases = vectors.record(model, 1)
    runs: list[dict[str, Any]] = []

    def judge(engine: str, outputs: list[Arrays], isa: str = "", lanes: int = 1) -> None:
        for v, got in zip(cases, outputs, strict=True):
            for name, want in v["outputs"].items():
                problem = vectors.check(want, got[name]) if name in got else "the output is missing"
                if problem:
                    tensor = vectors.first_difference(model, v, "scalar", isa, lanes) if isa and isa != "scalar" else ""
                    runs.append({"engine": engine, "ok": False, "problem": f"output '{name}' (seed {v['seed']}): {problem}",
                                 "tensor": tensor})  # fmt: skip
                    return
        runs.append({"engine": engine, "ok": True, "problem": "", "tensor": ""})

    for isa in vectors.kernel_sets() if cases else ():
        for lanes in threads:
            judge(f"{isa}, {lanes} thread{'s' * (lanes > 1)}", vectors.replay(model, isa, cases, lanes), isa, lanes)
    why = have_node()
    if cases and not why:
        made = [vectors.feeds(session.inputs, v["shapes"], v["seed"]) for v in cases]
        judge("WebAssembly in Node", replay_in_node(model, made))
    return {
        "status": "passed" if all(r["ok"] for r in runs) else "failed",
        "vectors": count,
        "source": lineage.told(session.metadata),
        "replayed": len(cases),
        "runs": runs,
        "not_run": [f"WebAssembly: {why}"] if why else [],
    }
