"""Training steps against PyTorch, Keras on TensorFlow and JAX: each in a resident process of its own, taking turns.

    python -m tests.bench.train [--workloads mlp,cnn] [--threads 1,2] [--rounds 12] [--write]
                                [--contenders keras-deploykit,keras-torch,keras-tensorflow,keras-jax]
                                [--python keras-tensorflow=/path/bin/python jax=/path/bin/python]

All start from the same weights and see the same batches; losses are compared.  Ratios are the peer's time over ours: of the
medians of paired turns, and of the fastest step of each (above 1: we are faster).  --write puts the table into
docs/training-performance.md.
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

WORKLOADS = ("mlp", "cnn", "lstm", "transformer", "mbv2")
CONTENDERS = ("deploykit", "torch", "torch-channels-last", "keras-tensorflow", "jax")
OURS = ("deploykit", "keras-deploykit")  # keras-X: stock Keras on backend X
IMAGES = ("cnn", "mbv2")  # where channels_last says something
PAGE = Path(__file__).parents[2] / "docs" / "training-performance.md"
TARGETS = {"mbv2": 2.0}  # else 1.2


class Resident:
    """A contender's process."""

    def __init__(self, contender: str, workload: str, threads: int, weights: Path, python: str) -> None:
        worker = Path(__file__).with_name("train_worker.py")
        args = [python, str(worker), contender, workload, str(threads), str(weights)]
        env = {
            k: v for k, v in os.environ.items() if python == sys.executable or k not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        self.name, self.log = contender, tempfile.TemporaryFile("w+")
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.process = subprocess.Popen(args, text=True, env=env, **pipes)
        self.times: list[float] = []
        self.turns: list[float] = []
        self.losses: list[float] = []
        self.cpu: list[float] = []  # processor seconds per step
        self.peak = 0.0
        self._read()

    def _read(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError(f"{self.name}: {self.log.read()[-1500:]}")
        return json.loads(line.removeprefix("ready "))

    def steps(self, n: int, count: bool = True) -> list[float]:
        """So many steps now; their seconds."""
        self.process.stdin.write(f"{n}\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        got = self._read()
        self.losses += got["losses"]
        self.peak = got["peak_mb"]
        self.cpu.append(got["cpu"])
        if count:
            self.times += got["times"]
            self.turns.append(statistics.median(got["times"]))
        return got["times"]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(20)


def run(
    workload: str, threads: int, rounds: int, pythons: dict[str, str], contenders: list[str]
) -> list[dict[str, Any]]:
    """Rows by contender, ours first."""
    with tempfile.TemporaryDirectory() as folder:
        there: list[Resident] = []
        first: dict[str, float] = {}
        for name in contenders:
            if name == "torch-channels-last" and workload not in IMAGES:
                continue
            try:
                r = Resident(name, workload, threads, Path(folder) / "w.npz", pythons.get(name, sys.executable))
            except RuntimeError as e:
                print(f"{name}: not run ({str(e).strip().splitlines()[-1]})", file=sys.stderr)
                continue
            first[name] = r.steps(1, False)[0]
            there.append(r)
        per_turn = max(2, int(0.15 / max(1e-3, min(r.steps(3, False)[-1] for r in there))))
        for k in range(rounds):
            for r in there[k % len(there) :] + there[: k % len(there)]:
                r.steps(min(per_turn, 10))
        rows = []
        ours = there[0]
        for r in there:
            pairs = [a / b for a, b in zip(r.turns, ours.turns, strict=True)]
            n = 3  # later ones differ by more than rounding: training amplifies it
            apart = max(abs(a - b) / abs(b) for a, b in zip(r.losses[:n], ours.losses[:n], strict=True))
            row = dict(workload=workload, threads=threads, name=r.name, median=statistics.median(r.times) * 1e3)
            row |= dict(best=min(r.times) * 1e3, ratio=statistics.median(pairs), first=first[r.name], peak=r.peak)
            row |= dict(best_ratio=min(r.times) / min(ours.times), apart=apart)
            row |= dict(cpu=statistics.median(r.cpu[2:]) * 1e3, first_cpu=r.cpu[0])
            rows.append(row)
            r.close()
        return rows


def lines(head: str, rows: list[list[str]]) -> str:
    """A table of Markdown."""
    names = head.split(", ")
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *rows])


def table(rows: list[dict[str, Any]]) -> str:
    """All figures."""
    out = []
    for r in rows:
        peer = r["name"] not in OURS
        ratios = [f"{r['ratio']:.2f}", f"{r['best_ratio']:.2f}"] if peer else ["", ""]
        cells = [r["workload"], str(r["threads"]), r["name"], f"{r['median']:.2f}", f"{r['best']:.2f}", *ratios]
        cells += [f"{r['cpu']:.2f}", f"{r['first']:.2f}", f"{r['first_cpu']:.2f}", f"{r['peak']:.0f}"]
        out.append([*cells, f"{r['apart']:.0e}" if peer else ""])
    head = "workload, threads, , median ms, fastest ms, ratio, ratio of fastest, processor ms, first step (s), of processor (s)"
    head += ", peak MB, loss apart"
    return lines(head, out)


def verdicts(rows: list[dict[str, Any]]) -> str:
    """The best peer per cell against the target."""
    out = []
    for w, t in dict.fromkeys((r["workload"], r["threads"]) for r in rows):
        peers = [r for r in rows if (r["workload"], r["threads"]) == (w, t) and r["name"] not in OURS]
        if peers:
            best = min(peers, key=lambda r: r["ratio"])
            fast, goal = min(r["best_ratio"] for r in peers), TARGETS.get(w, 1.2)
            held = "yes" if min(best["ratio"], fast) >= goal else "no"
            out.append([w, str(t), best["name"], f"{best['ratio']:.2f}", f"{fast:.2f}", str(goal), held])
    return lines("workload, threads, best peer, ratio, ratio of fastest, wanted, held", out)


def cpu() -> str:
    """The processor's name."""
    try:
        return next(
            x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x
        )
    except (OSError, StopIteration):
        return platform.machine()


def page(rows: list[dict[str, Any]]) -> str:
    """The whole page."""
    load = os.getloadavg()[0]
    day = datetime.date.today().isoformat()
    return f"""# Speed of training steps

{day}, {cpu()}, {os.cpu_count()} cores, load {load:.1f} (other work on the machine: ratios mean more than times). Written by
`python -m tests.bench.train --write`: every contender in a resident process of its own, the same first weights and batches,
taking turns of a few steps; float32, Adam, data handed over as NumPy arrays. A ratio is the peer's time over ours, median of
paired turns; the ratio of fastest compares the fastest step of each. `jax` is one jitted step without Keras' loop, `torch` is
eager. Loss apart: largest relative difference from our loss within the first three steps.

{verdicts(rows)}

{table(rows)}
"""


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workloads", default=",".join(WORKLOADS))
    p.add_argument("--threads", default="1,2")
    p.add_argument("--contenders", default=",".join(CONTENDERS))
    p.add_argument("--rounds", type=int, default=12)
    p.add_argument("--python", nargs="*", default=[], help="CONTENDER=INTERPRETER")
    p.add_argument("--write", action="store_true")
    a = p.parse_args()
    pythons = dict(x.split("=", 1) for x in a.python)
    rows: list[dict[str, Any]] = []
    for w in a.workloads.split(","):
        for n in map(int, a.threads.split(",")):
            got = run(w, n, a.rounds, pythons, a.contenders.split(","))
            print(table(got), flush=True)
            rows += got
            if a.write:  # so far: a later contender may fail
                PAGE.write_text(page(rows))
    print(verdicts(rows))


if __name__ == "__main__":
    main()
