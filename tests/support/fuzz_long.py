"""Millions of executions of one importer, in slices that go on where the last one ended.

    python -m tests.support.fuzz_long KIND EXECUTIONS [--seed N] [--state FILE] [--whole]
    chrt -i 0 nice -n 19 python -m tests.support.fuzz_long tflite 5000000 --state build/fuzz/tflite.json

KIND: onnx tflite keras tfjs gguf safetensors dk.  Cases are those of tests/support/fuzz_importers.py, two of three changed
gently here (one or two numbers become close, or equal to others of the same file), so that many pass the first checks.
``--whole``: what a conversion does next, too.  Every case must end within a second of CPU time, in a result or a coded error,
in a process with 4 GB.  FILE holds the counts so far, and is what docs/security.md quotes: executions, how many were accepted by
the reader of the container (``past``), how they ended, the slowest case.  Exit code 1 when something was found.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import json
import mmap
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploykit.errors import DeploykitError
from tests.support import fuzz_importers as base

SLICE = 20_000  # cases of one child
WARM = 300
# where the container is read: a return from there is counted as ``past``
DOORS: dict[str, list[tuple[str, str]]] = {
    "onnx": [("deploykit.converters.importers.onnx.importer", "read_model")],
    "tflite": [("deploykit.converters.importers.tflite.importer", "read_model")],
    "tfjs": [("deploykit.converters.importers.tfjs.importer", "read_model")],
    "keras": [("deploykit.keras.saving", "_json")],
    "gguf": [("deploykit.weights", "open_weights")],
    "safetensors": [("deploykit.weights", "open_weights")],
    "dk": [("deploykit.graph.dkfile", "check_container")],
}
_past = [0]


def nudge(data: bytes, r: random.Random, other: bytes = b"") -> bytes:
    """One to three numbers of a file become close ones, or such as stand elsewhere in it."""
    if r.random() < 0.33:
        return base.mutate_bytes(data, r, other)
    b = bytearray(data)
    words = len(b) // 4
    for _ in range(1 + (r.random() < 0.3) + (r.random() < 0.1)):
        if not words:
            break
        at = 4 * int(r.random() * words)
        how = r.random()
        if how < 0.35:
            i = at + int(r.random() * 4)
            b[i] = (b[i] + r.choice((-4, -2, -1, 1, 1, 2, 3, 8))) & 255
        elif how < 0.6:
            b[at] = int(r.random() * 40)
        elif how < 0.85:
            of = 4 * int(r.random() * words)
            b[at : at + 4] = b[of : of + 4]
        else:
            of = 4 * int(r.random() * words)
            b[at : at + 4], b[of : of + 4] = b[of : of + 4], b[at : at + 4]
    return bytes(b)


def small_seeds(kind: str) -> list[Any]:
    """Seeds that run in little time: onnx's node tests in today's opset in place of files that onnx has to convert."""
    if kind == "onnx":
        import onnx

        from tests.support.onnx_node_tests import collect

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            models = [m for m in (c.model.SerializeToString() for c in collect()) if len(m) < 4000]
        old = [m for m in base._seeds_onnx() if max(o.version for o in onnx.load_from_string(m).opset_import) >= 7]
        return models + old
    seeds = base._seeds(kind)
    if kind == "tfjs":
        return [s for s in seeds if len(s[0]) < 5000]
    return [s for s in seeds if not isinstance(s, bytes) or len(s) < 20_000]


@contextmanager
def prepared(kind: str) -> Iterator[Callable[[random.Random, Path], Callable[[], Any]]]:
    """The kind's cases, its door counted and its files mutated gently."""
    plain, seeds = base.mutate_bytes, base._made.get(kind)
    doors = [(importlib.import_module(m), name) for m, name in DOORS[kind]]
    before = [getattr(m, name) for m, name in doors]
    base._made[kind] = small_seeds(kind)

    def gentle(data: bytes, r: random.Random, other: bytes = b"") -> bytes:
        base.mutate_bytes = plain
        try:
            return nudge(data, r, other)
        finally:
            base.mutate_bytes = gentle

    if kind in ("tflite", "gguf", "safetensors", "dk"):
        base.mutate_bytes = gentle
    for (m, name), door in zip(doors, before, strict=True):
        setattr(m, name, _counted(door))
    try:
        yield base.KINDS[kind]
    finally:
        base.mutate_bytes = plain
        for (m, name), door in zip(doors, before, strict=True):
            setattr(m, name, door)
        if seeds is not None:
            base._made[kind] = seeds
        else:
            del base._made[kind]


def random_of(seed: int, k: int) -> random.Random:
    """What case k of a seed is made from."""
    return random.Random(seed << 40 | k)


def _counted(door: Callable[..., Any]) -> Callable[..., Any]:
    def through(*a: Any, **k: Any) -> Any:
        got = door(*a, **k)
        _past[0] += 1
        return got

    return through


def _late(*_: Any) -> None:
    raise base.Slow


def timed(case: Callable[[random.Random, Path], Callable[[], Any]], r: random.Random, folder: Path) -> str:
    """:func:`one` by itself, with its time limit."""
    old = signal.signal(signal.SIGPROF, _late)
    try:
        return one(case, r, folder)
    finally:
        signal.signal(signal.SIGPROF, old)


def one(case: Callable[[random.Random, Path], Callable[[], Any]], r: random.Random, folder: Path) -> str:
    """How a case ends: as ``fuzz_importers.one``."""
    try:
        action = case(r, folder)
        signal.setitimer(signal.ITIMER_PROF, base.SLOW)
        action()
        return "ok"
    except DeploykitError as e:
        cause = e.__cause__
        if cause is None or isinstance(cause, DeploykitError):
            return e.code
        return f"unforeseen: {base._where(cause)}"
    except base.Slow:
        return "!slow"
    except BaseException as e:
        return f"!{base._where(e)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def child(case: Any, seed: int, first: int, end: int, shared: mmap.mmap) -> dict[str, Any]:
    """Cases first to end in this process; the number of the one at work stands in ``shared``."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (4 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr = open(os.devnull, "w")
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _late)
    counts: collections.Counter[str] = collections.Counter()
    told: dict[str, int] = {}
    slowest, r, clock = (0.0, first), random.Random(), time.process_time
    _past[0] = past = 0
    shm = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shm) as d:
        folder = Path(d)
        for k in range(first, end):
            shared[:8] = struct.pack("<q", k)
            r.seed(seed << 40 | k)
            began, before = clock(), _past[0]
            how = one(case, r, folder)
            slowest = max(slowest, (clock() - began, k))
            past += _past[0] > before
            counts[how[:1] if how.startswith("!") else how.partition(":")[0]] += 1
            if how.startswith(("!", "unforeseen")) and how not in told and len(told) < 200:
                told[how] = k
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"counts": counts, "told": told, "slowest": slowest, "past": past, "peak": peak}


def run(kind: str, cases: int, seed: int, state: Path, whole: bool) -> dict[str, Any]:
    """Go on from the state until ``cases`` executions are done; the state after every slice."""
    s: dict[str, Any] = {
        "kind": kind, "seed": seed, "whole": whole, "done": 0, "past": 0, "seconds": 0.0, "counts": {}, "slowest": [0.0, 0],
        "peak": 0, "found": {}, "unforeseen": {},
    }  # fmt: skip
    if state.exists():
        s = json.loads(state.read_text())
    base._read_only = not whole
    signal.signal(signal.SIGPROF, _late)
    with prepared(kind) as case, tempfile.TemporaryDirectory() as d, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(WARM):  # imports what is imported on first use
            one(case, random.Random(k), Path(d))
        while s["done"] < cases:
            _slice(s, case, min(s["done"] + SLICE, cases), state)
    return s


def _slice(s: dict[str, Any], case: Any, end: int, state: Path) -> None:
    """Cases up to ``end`` in a child; the state grows by what it tells."""
    first, shared = s["done"], mmap.mmap(-1, 8)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as out:
            pickle.dump(child(case, s["seed"], first, end, shared), out)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as f:
        data = f.read()
    status = os.waitpid(pid, 0)[1]
    s["seconds"] += resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if status == 0:
        got = pickle.loads(data)
        s["counts"] = dict(collections.Counter(s["counts"]) + got["counts"])
        s["past"] += got["past"]
        s["slowest"] = max(s["slowest"], list(got["slowest"]))
        s["peak"] = max(s["peak"], got["peak"])
        for how, k in got["told"].items():
            s["found" if how.startswith("!") else "unforeseen"].setdefault(how, k)
    else:
        (end,) = struct.unpack("<q", shared[:8])
        s["found"][f"!the process died (status {status})"] = end
        end += 1
        s["counts"]["lost"] = s["counts"].get("lost", 0) + end - first
    s["done"] = end
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps(s, indent=1))


def main() -> int:
    p = argparse.ArgumentParser()
    p.add_argument("kind", choices=list(base.KINDS))
    p.add_argument("cases", type=int)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--state", type=Path)
    p.add_argument("--whole", action="store_true")
    p.add_argument("--only", type=int)
    a = p.parse_args()
    if a.only is not None:
        base._read_only = not a.whole
        with prepared(a.kind) as case, tempfile.TemporaryDirectory() as d:
            print(case(random_of(a.seed, a.only), Path(d))())
        return 0
    state = a.state or base.ROOT.parent / "build" / "fuzz" / f"{a.kind}.json"
    s = run(a.kind, a.cases, a.seed, state, a.whole)
    print(json.dumps(s, indent=1))
    return int(bool(s["found"]))


if __name__ == "__main__":
    sys.exit(main())
