"""Runs test files of the installed Keras in processes of their own, a few files each, and gathers what happened."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
# tests of other backends, and of a process of many devices
FOREIGN = ("backend/jax/", "backend/tensorflow/", "backend/torch/", "backend/openvino/")
PER_PROCESS = 4
ABSENT = "No module named '"  # a test that needs a package that is not installed says nothing about the backend


@dataclass
class Result:
    """What became of one file's tests."""

    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # test: first line of the error
    absent: dict[str, str] = field(default_factory=dict)  # test: the package it lacks
    collect: str = ""  # why the file could not be collected
    seconds: float = 0.0


def keras_folder() -> Path:
    """Where keras/src of the installed Keras is."""
    spec = importlib.util.find_spec("keras")
    assert spec is not None and spec.origin is not None, "Keras is not installed: pip install 'deploykit[keras]'"
    return Path(spec.origin).parent / "src"


def find(patterns: Sequence[str]) -> list[str]:
    """Test files under these folders or files of keras/src (all by default), other backends' own left out."""
    root = keras_folder()
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*_test.py"))
    files = [f for f in files if not f.startswith(FOREIGN)]
    return [f for f in files if not patterns or any(f == p or f.startswith(p.rstrip("/") + "/") for p in patterns)]


def run(
    files: Sequence[str],
    backend: str,
    jobs: int = 2,
    select: str = "",
    done: Callable[[dict[str, Result]], None] | None = None,
) -> dict[str, Result]:
    """Results by file; ``done`` gets those so far after each process.  A process that dies is followed by others that run its
    remaining files one by one."""
    queue = [list(files[i : i + PER_PROCESS]) for i in range(0, len(files), PER_PROCESS)]
    results: dict[str, Result] = {}
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not queue:
                    return
                some = queue.pop(0)
                print(f"{len(results)} of {len(files)} files; next {some[0]}", file=sys.stderr, flush=True)
            got, unfinished = _process(some, backend, select)
            with lock:
                results.update(got)
                queue[:0] = [[f] for f in unfinished]
                if done is not None:
                    done(results)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def _process(files: list[str], backend: str, select: str) -> tuple[dict[str, Result], list[str]]:
    root = keras_folder()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        report.touch()
        env = {**os.environ, "KERAS_BACKEND": backend, "KERAS_SUITE_REPORT": str(report), "KERAS_HOME": folder}
        env["PYTHONPATH"] = os.pathsep.join([str(HERE / "standin"), os.environ.get("PYTHONPATH", "")])
        env.update(TF_CPP_MIN_LOG_LEVEL="3", MPLBACKEND="agg", DK_THREADS=os.environ.get("DK_THREADS", "1"))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
        command += ["-c", os.devnull, "--rootdir", str(root.parents[1]), "--noconftest", "--import-mode=prepend"]
        command += ["-W", "ignore", "--continue-on-collection-errors", *(["-k", select] if select else [])]
        done = subprocess.run(
            [*command, *(str(root / f) for f in files)], env=env, cwd=folder, capture_output=True, text=True
        )
        lines = [json.loads(line) for line in report.read_text().splitlines()]
    results = {f: Result() for f in files}
    running: tuple[str, str] | None = None
    for line in lines:
        r = results[line["file"]]
        if "collect" in line:
            r.collect = line["collect"]
        elif "begins" in line:
            running = (line["file"], line["begins"])
        else:
            _count(r, line)
    if done.returncode in (0, 1, 2, 5) or running is None:
        if done.returncode not in (0, 1, 2, 5):
            raise RuntimeError(f"pytest failed with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return results, []
    file, test = running  # the process died inside this test
    results[file].failed[f"{test} (the process died)"] = f"exit code {done.returncode}"
    at = files.index(file)
    return {f: results[f] for f in files[: at + 1]}, files[at + 1 :]


def _count(r: Result, line: dict) -> None:
    r.seconds += line["seconds"]
    if line["outcome"] == "passed":
        r.passed += 1
    elif line["outcome"] == "skipped":
        r.skipped += 1
    elif ABSENT in line["why"]:
        r.absent[line["test"]] = line["why"].split(ABSENT)[1].split("'")[0].split(".")[0]
    else:
        r.failed[line["test"]] = line["why"]
