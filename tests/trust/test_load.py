"""Many loads, many models at once, forks beside running threads, processes killed while they write, two that write one file."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit import native, search
from deploykit.graph.dkfile import to_bytes
from tests.support import fuzz_seeds, small

CYCLES = 10_000
needs_fork = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork")


def network(seed: int = 0) -> bytes:
    """A small network; models of different seeds give different answers."""
    graph = fuzz_seeds.network()
    weights = next(n.inputs[1] for n in graph.nodes if n.op == "conv")
    assert weights is not None and weights.data is not None
    weights.data = np.random.default_rng(seed).standard_normal(weights.data.shape).astype(np.float32) / 4
    return to_bytes(graph)


def resident() -> int:
    """Bytes of memory that this process really has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held() -> tuple[int, int, int, int]:
    """Bytes of the engine's allocator, open files, mappings, threads."""
    gc.collect()
    maps = sum("m.dk" in line for line in Path("/proc/self/maps").read_text().splitlines())
    threads = len(os.listdir("/proc/self/task"))
    return native.library().dk_test_bytes_held(), len(os.listdir("/proc/self/fd")), maps, threads


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts what /proc tells")
@pytest.mark.parametrize("threads", [1, 2])
def test_ten_thousand_loads_and_runs_hold_on_to_nothing(threads: int, tmp_path: Path) -> None:
    path = tmp_path / "m.dk"
    path.write_bytes(network())
    sources = [path, path.read_bytes(), to_bytes(fuzz_seeds.state()), to_bytes(fuzz_seeds.loops(True))]
    x = np.ones((1, 8, 8, 3), np.float32)
    feeds = [[x], [x], [np.ones(3, np.float32)], [np.array(3), np.ones(2, np.float32)]]
    first = None
    for i in range(CYCLES):
        source, given = sources[i % 4], feeds[i % 4]
        session = dk.Interpreter(source, threads=threads)
        session.run(*given)
        del session
        if i == CYCLES // 10:
            first = (held(), resident())
    assert first is not None
    assert held() == first[0]
    assert resident() - first[1] < 1 << 20


def test_64_models_at_once() -> None:
    x = np.random.default_rng(0).standard_normal((1, 12, 12, 3)).astype(np.float32)
    files = [network(k) for k in range(64)]
    alone = [dk.Interpreter(f, threads=1).run(x)["p"] for f in files]
    assert len({a.tobytes() for a in alone}) == 64
    sessions = [dk.Interpreter(f, threads=1 + k % 3) for k, f in enumerate(files)]
    order = list(range(64)) * 4
    random.Random(0).shuffle(order)
    for k in order:
        np.testing.assert_array_equal(sessions[k].run(x)["p"], alone[k])


# ---------------------------------------------------------------- processes
def child(action: Callable[[], None]) -> int:
    """The process id of a fork that does it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


@needs_fork
@pytest.mark.filterwarnings("ignore:This process")
def test_forks_while_sessions_run_on_other_threads() -> None:
    """The child has none of the engine's threads, and none of the locks that they may have held."""
    data, x = network(), np.ones((1, 24, 24, 3), np.float32)
    want = dk.Interpreter(data, threads=2).run(x)["p"]
    idle, stop = dk.Interpreter(data, threads=2), threading.Event()
    idle.run(x)

    def busy() -> None:
        session = dk.Interpreter(data, threads=2)
        while not stop.is_set():
            session.run(x)
            dk.Interpreter(data, threads=2).run(x)

    def use() -> None:
        signal.alarm(20)  # a lock held for ever would end here
        for session in (idle, dk.Interpreter(data, threads=2)):
            assert np.array_equal(session.run(x)["p"], want)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        ends = [os.waitpid(child(use), 0)[1] for _ in range(40)]
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert ends == [0] * 40
    np.testing.assert_array_equal(idle.run(x)["p"], want)


@needs_fork
@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("kind", ["convert", "quantize", "search"])
def test_a_killed_conversion_leaves_the_file_of_before(kind: str, tmp_path: Path) -> None:
    """SIGKILL at any moment: the target holds the old file or a new one, whole; what is besides has a name with a dot."""
    source, target = small.cnn(tmp_path / "m.onnx", batch=1), tmp_path / "m.dk"
    data = [np.random.default_rng(k).standard_normal((1, 3, 16, 16)).astype(np.float32) for k in range(4)]
    options: dict[str, dict] = {
        "convert": {"verify": False},
        "quantize": {"quantize": "int8", "calibration": data, "verify": False},
        "search": {"quantize": "auto", "calibration": data, "max_accuracy_drop": 0.5, "verify": False},
    }

    def convert() -> None:
        dk.convert(source, target, **options[kind])

    convert()
    started = time.monotonic()
    convert()
    took = time.monotonic() - started
    whole, killed = target.read_bytes(), 0
    want = dk.Interpreter(whole).run(data[0])["y"]
    near = 0.05 if kind == "search" else 0  # which looks at the clock, so that its choices differ
    tries = 24 if took < 1 else 10
    for k in range(tries):
        pid = child(convert)
        time.sleep(took * 1.2 * k / tries)
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        np.testing.assert_allclose(dk.Interpreter(target).run(data[0])["y"], want, rtol=near)
    assert killed > tries // 3, "the conversions were too fast to be killed"
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith((".", "m."))]
    convert()  # also on top of what the killed ones left
    np.testing.assert_allclose(dk.Interpreter(target).run(data[0])["y"], want, rtol=near)


@needs_fork
@pytest.mark.filterwarnings("ignore:This process")
def test_two_processes_write_one_file(tmp_path: Path) -> None:
    """Whoever reads meanwhile sees one of the two files, never a mixture."""
    target, x = tmp_path / "m.dk", np.ones((1, 3, 16, 16), np.float32)
    sources = [small.cnn(tmp_path / f"{k}.onnx", batch=1, seed=k) for k in range(2)]
    wants = set()
    for s in sources:
        dk.convert(s, target, verify=False)
        wants.add(dk.Interpreter(target).run(x)["y"].tobytes())
    assert len(wants) == 2

    def write(k: int) -> None:
        for _ in range(30):
            dk.convert(sources[k], target, verify=False)

    pids = {child(lambda k=k: write(k)) for k in range(2)}  # type: ignore[misc]
    seen, reads = set(), 0
    while pids:
        seen.add(dk.Interpreter(target).run(x)["y"].tobytes())
        reads += 1
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            assert status == 0
            pids.discard(done)
    assert seen == wants and reads > 30
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@needs_fork
@pytest.mark.filterwarnings("ignore:This process")
def test_two_processes_keep_one_state_of_a_search(tmp_path: Path) -> None:
    """The file from which an interrupted search goes on: both write it, neither stumbles over the other."""
    state = tmp_path / "m.dk.search.json"

    def save(k: int) -> None:
        kept = search._State(state, "key", drops={f"{k}": float(k)})
        for _ in range(500):
            kept.save()

    pids = {child(lambda k=k: save(k)) for k in range(2)}  # type: ignore[misc]
    while pids:
        if state.exists():
            assert len(search._State.open(state, "key").drops) == 1
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            assert status == 0
            pids.discard(done)
    assert [p.name for p in tmp_path.iterdir()] == [state.name]
