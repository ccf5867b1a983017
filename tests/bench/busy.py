"""What another program on one core does to two threads.

    python -m tests.bench.busy [--models mobilenetv2,lstm] [--rounds 40] [--gap 0] [--peers onnxruntime]

Each contender has a process of its own, so that nobody's threads spin on another's cores; they take turns.  First alone,
then beside one process that never sleeps.  Medians (minima) in ms; `--gap` is a pause in ms before each run, in which
threads go to sleep.  Our aims: at most twice the quiet time, and two threads at most 10 % above one.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import deploykit as dk
from deploykit import peers
from tests.bench import table

RUNS = 5  # in a turn
HOG = "while True: pass"


def work(kind: str, folder: Path, threads: int, gap: float) -> None:
    """A contender: one turn per line of standard input."""
    feeds, want, path = pickle.loads((folder / "case.pkl").read_bytes())
    runner: Any = (
        dk.Interpreter(folder / "model.dk", threads=threads)
        if kind == "deploykit"
        else peers.open_peer(kind, path, threads, feeds, want)
    )
    for _ in range(3):
        runner.run(feeds)
    print("ready", flush=True)
    for _ in sys.stdin:
        ms = []
        for _ in range(RUNS):
            time.sleep(gap / 1e3)
            start = time.perf_counter()
            runner.run(feeds)
            ms.append((time.perf_counter() - start) * 1e3)
        print(*ms, flush=True)


def race(contenders: list[tuple[str, int]], folder: Path, gap: float, rounds: int) -> list[list[float]]:
    """Times by contender."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.busy", "--work", f"{kind},{folder},{threads},{gap}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=table.ROOT,
        )
        for kind, threads in contenders
    ]
    times: list[list[float]] = [[] for _ in started]
    for p in started:
        assert p.stdout and p.stdout.readline()
    for i in range(rounds):
        for k in range(len(started)) if i % 2 else reversed(range(len(started))):
            stdin, stdout = started[k].stdin, started[k].stdout
            assert stdin and stdout
            stdin.write("\n")
            stdin.flush()
            times[k] += map(float, stdout.readline().split())
    for p in started:
        p.communicate("")
    return times


def main() -> None:
    """Print a line per model and contender."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default="mobilenetv2,lstm")
    p.add_argument("--rounds", type=int, default=40)
    p.add_argument("--gap", type=float, default=0)
    p.add_argument("--peers", default="onnxruntime")
    p.add_argument("--work", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.work:
        kind, folder, threads, gap = a.work.split(",")
        return work(kind, Path(folder), int(threads), float(gap))
    names = ["deploykit", *(n for n in a.peers.split(",") if n)]
    contenders = [(n, t) for n in names for t in (1, 2)]
    for name in a.models.split(","):
        with tempfile.TemporaryDirectory() as t:
            path, feeds = table.model(name, Path(t))
            dk.convert(path, Path(t) / "model.dk", verify=False)
            want = dk.Interpreter(Path(t) / "model.dk").run(feeds)
            (Path(t) / "case.pkl").write_bytes(pickle.dumps((feeds, want, path)))
            quiet = race(contenders, Path(t), a.gap, a.rounds)
            hog = subprocess.Popen([sys.executable, "-c", HOG])
            try:
                busy = race(contenders, Path(t), a.gap, a.rounds)
            finally:
                hog.kill()
                hog.wait()
        for (kind, threads), q, b in zip(contenders, quiet, busy, strict=True):
            told = [f"{statistics.median(x):.2f} ({min(x):.2f})" for x in (q, b)]
            ratio = statistics.median(b) / statistics.median(q)
            print(
                f"{name:16} {kind:12} {threads} thread(s)  quiet {told[0]:>16}  busy {told[1]:>16}  x{ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
