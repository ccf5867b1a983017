"""A model's answers on the engine for browsers, in Node and in a browser, held against the native engine's:
``deploykit compare MODEL --web``."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from deploykit import dtypes, replay, vectors
from deploykit.errors import DeploykitError, EngineError, InputError
from deploykit.interpreter import Interpreter
from deploykit.vectors import Arrays
from deploykit.web import serve, site

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge", "brave-browser", "firefox")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Firefox.app/Contents/MacOS/firefox",
)
WAIT = 300  # seconds that a browser may take

_PAGE = '<!doctype html><meta charset="utf-8"><title>deploykit</title><script type="module" src="page.js"></script>'
_SCRIPT = """
const say = (path, body) => fetch(path, { method: "POST", body });
try {
  const { Model } = await import("./engine/deploykit.js");
  const job = await (await fetch("job.json")).json();
  const kinds = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
    uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, bool: Uint8Array };
  for (const threads of job.threads) {
    const model = await Model.load("model.dk", { threads });
    for (const [v, inputs] of job.inputs.entries()) {
      const given = {};
      for (const [name, dtype, shape, file] of inputs) {
        given[name] = { data: new kinds[dtype](await (await fetch(file)).arrayBuffer()), shape };
      }
      if (job.fresh) await model.reset();
      for (const [name, { data, dtype, shape }] of Object.entries(await model.run(given))) {
        await say(`out?${new URLSearchParams({ threads, v, name, dtype, shape: JSON.stringify(shape) })}`, data.slice());
      }
    }
    await say("end", JSON.stringify({ threads, info: model.info }));
    model.dispose();
  }
  await say("done", "{}");
} catch (e) {
  await say("done", JSON.stringify({ error: String(e?.message ?? e) }));
}
"""


def find(browser: str | None = None) -> str:
    """The program of a browser: the one asked for (a name or a path), else the first that is installed.  InputError when
    there is none."""
    asked = [browser] if browser else [os.environ.get("BROWSER_PATH", ""), *NAMES, *PLACES]
    for name in asked:
        found = shutil.which(name) if name else None
        if found:
            return found
    what = f"'{browser}' is no program here" if browser else f"no browser is installed (looked for {', '.join(NAMES)})"
    raise InputError(f"{what}. Install Chromium or Firefox, or give its program with --browser PATH.")


def _command(program: str, profile: str, url: str) -> list[str]:
    if "firefox" in Path(program).name.lower():
        return [program, "--headless", "--no-remote", "--profile", profile, url]
    flags = ["--headless=new", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-extensions"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # root has none
    return [program, *flags, f"--user-data-dir={profile}", url]


def in_browser(
    model: Path, feeds: list[Arrays], program: str, threads: list[int], fresh: bool = True
) -> dict[int, tuple[list[Arrays], Any]]:
    """For each number of threads: the outputs for each of the inputs, and what ``model.info`` of the web package says.
    fresh: variables have their first values for each of the inputs.

    Raises EngineError when the model does not run there, or the browser does not start or answer.
    """
    said: queue.Queue[tuple[str, dict[str, Any], bytes]] = queue.Queue()

    class Handler(serve.Handler):
        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said.put((parts.path.strip("/"), {k: v[0] for k, v in parse_qs(parts.query).items()}, body))
            self.send_response(204)
            self.end_headers()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as d:
        folder = Path(d) / "page"
        shutil.copytree(site.runtime(), folder / "engine")
        shutil.copyfile(model, folder / "model.dk")
        (folder / "index.html").write_text(_PAGE)
        (folder / "page.js").write_text(_SCRIPT)
        job = {"threads": threads, "fresh": fresh, "inputs": replay.write_inputs(folder, feeds)}
        (folder / "job.json").write_text(json.dumps(job))
        httpd = serve.server(folder)
        httpd.RequestHandlerClass = lambda *a, **k: Handler(*a, directory=str(folder), **k)  # type: ignore[assignment]
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        log = Path(d) / "log"
        with log.open("wb") as f:
            url = f"http://127.0.0.1:{httpd.server_address[1]}/"
            command = _command(program, str(Path(d) / "profile"), url)
            running = subprocess.Popen(command, stdout=f, stderr=f, start_new_session=True)
        try:
            return _listen(said, running, len(feeds), log)
        finally:
            if hasattr(os, "killpg"):  # with all its processes
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
            running.kill()
            running.wait()
            httpd.shutdown()
            httpd.server_close()


def _listen(said: Any, running: Any, count: int, log: Path) -> dict[int, tuple[list[Arrays], Any]]:
    outputs: dict[int, list[Arrays]] = {}
    found: dict[int, tuple[list[Arrays], Any]] = {}
    waited = 0
    while waited < WAIT:
        try:
            kind, query, body = said.get(timeout=1)
        except queue.Empty:
            waited += 1
            if running.poll() is not None:
                tail = " ".join(log.read_text(errors="replace").split())[-300:]
                raise EngineError(f"the browser ended before the page was done: {tail}") from None
            continue
        if kind == "out":
            rows = outputs.setdefault(int(query["threads"]), [{} for _ in range(count)])
            a = np.frombuffer(body, dtypes.dtype(query["dtype"]).np).reshape(json.loads(query["shape"]))
            rows[int(query["v"])][query["name"]] = a
        elif kind == "end":
            told = json.loads(body)
            found[told["threads"]] = outputs[told["threads"]], told["info"]
        elif kind == "done":
            error = json.loads(body).get("error")
            if error:
                raise EngineError(f"the model does not run in the browser: {error}")
            return found
    raise EngineError(f"the browser has not answered for {WAIT} s.")


def _apart(want: list[Arrays], got: list[Arrays]) -> tuple[str, float, bool]:
    """(the output that is worst, how far as a part of its largest number, whether all bits are equal)."""
    name, worst, same = "", 0.0, True
    for a, b in zip(want, got, strict=True):
        for k, w in a.items():
            g = b.get(k)
            if g is not None and g.shape == w.shape and g.tobytes() == w.tobytes():
                continue
            same = False
            far = float("inf")
            if g is not None and g.shape == w.shape and w.dtype.kind not in "biu":
                with np.errstate(invalid="ignore"):
                    d = np.abs(w.astype(np.float64) - g)
                d[(w == g) | (np.isnan(w) & np.isnan(g))] = 0
                largest = float(np.abs(w[np.isfinite(w)]).max(initial=0)) or 1.0
                far = float(np.nan_to_num(d, nan=np.inf).max()) / largest
            if far > worst or not name:
                name, worst = k, max(far, worst)
    return name, worst, same


def compare(
    model: Path, tolerance: float, browser: str | None, threads: list[int], feeds: list[Arrays] | None
) -> dict[str, Any]:
    """The native engine's answers against those of the engine for browsers.

    Integers must have the same bits, floats be within ``tolerance`` of the largest number of their output.  feeds: real inputs
    (default: made-up ones).  Returns status ("same", "different"), ``inputs`` and for each engine a row: ``engine``, ``ok``,
    ``bits`` (all equal), ``worst`` and its ``output``, ``detail``; ``not_run`` says why an engine is missing.
    """
    session = Interpreter(model, threads=1)
    if feeds is None:
        cases = vectors.record(model, 2)
        if not cases:
            raise InputError("no made-up inputs fit the model, or it draws random numbers; give --inputs NAME=FILE.")
        feeds = [vectors.feeds(session.inputs, c["shapes"], c["seed"]) for c in cases]
    want = []
    for given in feeds:
        session.reset()
        want.append({k: np.array(v) for k, v in session.run(given).items()})
    rows: list[dict[str, Any]] = []
    missing: list[str] = []

    def judge(engine: str, got: list[Arrays], detail: str) -> None:
        name, worst, same = _apart(want, got)
        row = {
            "engine": engine,
            "ok": same or worst <= tolerance,
            "bits": same,
            "worst": worst,
            "output": name,
            "detail": detail,
        }
        rows.append(row)

    why = replay.have_node()
    if why:
        missing.append(f"Node: {why}")
    else:
        try:
            judge("Node", replay.replay_in_node(model, feeds), "")
        except DeploykitError as e:
            rows.append(
                {"engine": "Node", "ok": False, "bits": False, "worst": float("inf"), "output": "", "detail": str(e)}
            )
    program = find(browser)
    for n, (got, info) in in_browser(model, feeds, program, threads).items():
        notes = "; ".join(n for n in info["notes"] if n.startswith(("threads", "relaxed")))
        judge(
            f"{Path(program).stem}, {n} thread{'s' * (n > 1)}", got, info["engine"] + (f" ({notes})" if notes else "")
        )
    return {
        "status": "same" if all(r["ok"] for r in rows) else "different",
        "inputs": {k: list(v.shape) for k, v in feeds[0].items()},
        "tolerance": tolerance,
        "engines": rows,
        "not_run": missing,
    }
