"""What all examples share: their command line, and the way of a trained model to a checked .dk file and a web page."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import deploykit as dk


def run(main: Callable[[bool, Path], dict[str, Any]]) -> None:
    """``--quick`` (seconds, little data), ``--out FOLDER``; the last line printed is the result as JSON."""
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(prog=f"python -m examples.{name}", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds on little data")
    parser.add_argument("--out", type=Path, default=Path("examples-out") / name, help="folder of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    import keras

    keras.utils.set_random_seed(0)
    started = time.perf_counter()
    result = main(args.quick, args.out)
    print(json.dumps({**result, "seconds": round(time.perf_counter() - started, 1)}))


def deliver(model: Any, out: Path, title: str, x: np.ndarray, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Export to ``out/model.dk``, hold the engine against Keras on ``x``, write ``out/web`` with ``x[0]`` as a sample.

    Returns ``apart``, the largest difference relative to the largest output, the size of the file, and whether there is a page.
    """
    path = out / "model.dk"
    report = model.export(path)
    assert report.verification["status"] == "passed", report.verification
    engine = dk.Interpreter(path)
    got = next(iter(engine.run(x.astype(engine.inputs[0].dtype)).values()))
    want = np.asarray(model.predict(x, verbose=0))
    apart = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6))
    assert apart < 1e-4, f"engine and Keras differ by {apart}"
    np.save(out / "sample.npy", x[:1].astype(engine.inputs[0].dtype))
    command = [sys.executable, "-P", "-m", "deploykit", "web", str(path), "-o", str(out / "web"), "--title", title]
    command += ["--example", str(out / "sample.npy")]
    if labels:
        (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
        command += ["--labels", str(out / "labels.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "DK-ENGINE" not in done.stderr:
        raise RuntimeError(f"deploykit web: {done.stderr[-2000:]}")
    if done.returncode:  # Deploykit was installed without its engine for browsers
        print(f"no web page: {done.stderr.strip()}")
    made = {"apart": float(f"{apart:.1e}"), "dk_kb": round(path.stat().st_size / 1000, 1)}
    return {**made, "web": (out / "web" / "index.html").is_file()}
