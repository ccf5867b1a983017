"""What a caller can limit: memory, nodes and iterations, time; and ending a run from another thread.  The session must
be usable after each."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploykit import Interpreter, native
from deploykit.errors import DeploykitError, InputError
from deploykit.graph import Graph
from deploykit.graph.dims import Dim
from deploykit.graph.dkfile import to_bytes
from deploykit.ops.builder import GraphBuilder

F32 = np.float32


def endless(growing: bool = False, trip: int | None = None) -> Graph:
    """A loop that ends when its input is finite: -x and x in turn, or (growing) ever more elements, which makes the loop
    one that is planned at every iteration."""
    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    body = GraphBuilder()
    body.input("i", "int64", ())
    body.input("c", "bool", ())
    acc = body.input("acc", "float32", (Dim.symbol("k"),) if growing else (2,))
    first = body.op("slice", acc, np.int64([0]), np.int64([1]), np.int64([0]))
    go = body.op("greater", body.op("abs", first), F32([1e30]))
    body.output(body.op("reshape", go, np.zeros(0, np.int64)), "go")
    body.output(body.op("concat", acc, first, axis=0) if growing else body.op("neg", acc), "next")
    count = None if trip is None else np.int64(trip)
    (y,) = b.op("loop", count, None, x, outputs=1, body=body.graph, carried=1)
    b.output(y, "y")
    return b.graph


def nested() -> Graph:
    """The endless loop inside the branch of an `if` inside a loop: plans within plans."""
    inner = endless()
    then = GraphBuilder()
    tx = then.input("tx", "float32", (2,))
    (ty,) = then.op("loop", None, None, tx, outputs=1, body=inner.nodes[0].attrs["body"], carried=1)
    then.output(ty, "ty")
    other = GraphBuilder()
    other.output(other.op("neg", other.input("ox", "float32", (2,))), "oy")
    body = GraphBuilder()
    i = body.input("i", "int64", ())
    body.input("c", "bool", ())
    acc = body.input("acc", "float32", (2,))
    body.output(body.op("less", i, np.int64(3)), "go")
    flag = body.op("greater_equal", i, np.int64(1))
    (nxt,) = body.op("if", flag, acc, outputs=1, then_graph=then.graph, else_graph=other.graph)
    body.output(nxt, "next")
    b = GraphBuilder()
    (y,) = b.op("loop", None, None, b.input("x", "float32", (2,)), outputs=1, body=body.graph, carried=1)
    b.output(y, "y")
    return b.graph


ENDLESS: dict[str, Callable[[], Graph]] = {
    "static": endless,
    "trip_count": lambda: endless(trip=2**62),
    "growing": lambda: endless(growing=True),
    "nested": nested,
}
STARTS, ENDS = F32([np.inf, 1]), F32([1, 2])


def failure(run: Callable[[], Any]) -> DeploykitError:
    with pytest.raises(DeploykitError) as e:
        run()
    return e.value


@pytest.mark.parametrize("case", ENDLESS)
def test_an_endless_loop_ends_by_each_limit_and_the_model_runs_on(case: str) -> None:
    data = to_bytes(ENDLESS[case]())
    want = Interpreter(data, threads=1).run(ENDS)["y"]
    gc.collect()  # the count is the whole process's: what earlier tests left behind goes now, not in between
    at_first = native.library().dk_test_bytes_held()
    it = Interpreter(data, threads=1, max_memory=64 << 20)

    began = time.monotonic()
    e = failure(lambda: it.run(STARTS, timeout=0.2))
    took = time.monotonic() - began
    # where every iteration needs more memory, either limit may come first
    assert e.code == "DK-LIMIT" or (case == "growing" and e.code == "DK-MEMORY"), e
    assert took < 2
    np.testing.assert_array_equal(it.run(ENDS)["y"], want)

    held = []
    for _ in range(4):
        timer = threading.Timer(0.1, it.cancel)
        timer.start()
        e = failure(lambda: it.run(STARTS, timeout=60))
        timer.join()
        assert e.code == "DK-CANCELLED" or (case == "growing" and e.code == "DK-MEMORY"), e
        np.testing.assert_array_equal(it.run(ENDS)["y"], want)
        held.append(native.library().dk_test_bytes_held())
    # A session keeps free blocks for its next run; which ones, where every iteration wants larger ones, depends on when the
    # run was cut off, but there is a limit to them, and they go with the session.
    if case == "growing":
        assert max(held) - at_first < 64 << 20, f"more than the limit: {held}"
    else:
        assert len(set(held[1:])) == 1, f"a cancelled run keeps memory: {held}"
    it._session.close()
    it._model.close()
    assert native.library().dk_test_bytes_held() == at_first, "a session that is gone keeps memory"

    limited = Interpreter(data, threads=1, max_ops=1000)
    e = failure(lambda: limited.run(STARTS))
    assert e.code == "DK-LIMIT" and "limit of 1000 steps" in str(e)
    np.testing.assert_array_equal(limited.run(ENDS)["y"], want)


def test_time_is_seen_inside_a_loop_that_grows() -> None:
    it = Interpreter(to_bytes(endless(growing=True)), threads=1)
    assert failure(lambda: it.run(STARTS, timeout=0.05)).code == "DK-LIMIT"


def test_cancel_without_a_run_does_nothing() -> None:
    it = Interpreter(to_bytes(endless()), threads=1)
    it.cancel()
    it.run(ENDS)
    it.cancel()
    it.run(ENDS)


def test_a_timeout_counts_for_one_run() -> None:
    it = Interpreter(to_bytes(endless()), threads=1)
    it.run(ENDS, timeout=0.001)
    time.sleep(0.01)
    it.run(ENDS)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}], ids=lambda o: str(o["timeout"])
)
def test_impossible_timeouts(options: dict[str, float]) -> None:
    it = Interpreter(to_bytes(endless()), threads=1)
    with pytest.raises(InputError, match="expected seconds above 0"):
        it.run(ENDS, **options)
    it.run(ENDS, timeout=float("inf"))


def test_impossible_limits() -> None:
    for options in ({"max_memory": -1}, {"max_ops": -1}, {"max_ops": 1 << 64}):
        with pytest.raises(InputError, match=next(iter(options))):
            Interpreter(to_bytes(endless()), **options)  # type: ignore[arg-type]


def test_an_input_may_be_called_timeout() -> None:
    b = GraphBuilder()
    b.output(b.op("neg", b.input("timeout", "float32", ())), "y")
    assert Interpreter(to_bytes(b.graph)).run(timeout=3.0)["y"] == -3


# ---- memory
def huge(kind: str) -> Graph:
    """A model of a few hundred bytes that asks for 2^60."""
    b = GraphBuilder()
    n = b.input("n", "int64", (1,))
    if kind == "static":
        y = b.op("expand", F32([1]), np.int64([1 << 58]))
    elif kind == "data":  # the size is in the input
        y = b.op("expand", F32([1]), n)
    elif kind == "intermediate":
        y = b.op("reduce_sum", b.op("add", b.op("expand", F32([1]), n), F32(1)))
    elif kind in ("scan", "planned_scan"):  # slices of 4 MB that are stacked; how many may be known or not
        body = GraphBuilder()
        body.input("i", "int64", ())
        c = body.input("c", "bool", ())
        body.output(c if kind == "scan" else body.op("less", np.int64(0), np.int64(1)), "go")
        body.output(body.op("expand", F32([1]), np.int64([1 << 20])), "piece")
        (y,) = b.op("loop", np.int64(1 << 38), None, outputs=1, body=body.graph, carried=0)
    else:  # range
        y = b.op("range", np.int64(0), b.op("reshape", n, np.zeros(0, np.int64)), np.int64(1))
    b.output(y, "y")
    b.output(b.op("neg", n), "m")
    return b.graph


@pytest.mark.parametrize("limit", [0, 1 << 24], ids=["no_limit", "16MB"])
@pytest.mark.parametrize("kind", ["static", "data", "intermediate", "planned_scan", "scan", "range"])
def test_a_model_that_wants_2_to_the_60_bytes_is_refused(kind: str, limit: int) -> None:
    if kind == "scan" and not limit:
        return  # grows slice by slice until the system's memory is gone: that is what max_memory is for
    it = Interpreter(to_bytes(huge(kind)), threads=1, max_memory=limit)
    held = native.library().dk_test_bytes_held()
    for _ in range(2):
        e = failure(lambda: it.run(np.int64([1 << 58])))
        assert e.code == "DK-MEMORY", e
    # free blocks are kept for the next run, but all of it together stays under the limit
    assert native.library().dk_test_bytes_held() <= held + (limit or 1 << 17)
    if kind in ("data", "intermediate", "range"):  # small sizes still work
        assert it.run(np.int64([2]))["m"] == -2


@pytest.mark.parametrize("count", [1 << 61, (1 << 63) - 1])
@pytest.mark.parametrize("kind", ["data", "intermediate", "range"])
def test_sizes_that_overflow_are_refused(kind: str, count: int) -> None:
    it = Interpreter(to_bytes(huge(kind)), threads=1)
    e = failure(lambda: it.run(np.int64([count])))
    assert e.code in ("DK-SHAPE", "DK-MEMORY"), e
    assert it.run(np.int64([2]))["m"] == -2


def test_memory_taken_while_planning_counts() -> None:
    """Constants are widened when the model is planned: that memory is limited too."""
    b = GraphBuilder()
    x = b.input("x", "float32", (1 << 20,))
    b.output(b.op("add", x, b.op("cast", np.ones(1 << 20, np.float16), dtype="float32")), "y")
    data = to_bytes(b.graph)
    x0 = np.zeros(1 << 20, F32)
    for limit in (1 << 20, 1 << 22):
        it = Interpreter(data, threads=1, max_memory=limit)
        assert failure(lambda it=it: it.run(x0)).code == "DK-MEMORY"  # type: ignore[misc]
        assert failure(lambda it=it: it.run(x0)).code == "DK-MEMORY"  # type: ignore[misc]
    np.testing.assert_array_equal(Interpreter(data, max_memory=1 << 24).run(x0)["y"], 1)


def test_a_refused_constant_is_not_taken_for_filled() -> None:
    """Whichever allocation of a first run fails, the run after it has the right numbers."""
    b = GraphBuilder()
    x = b.input("x", "float32", (200, 100))
    w = np.arange(20000, dtype=np.float16).reshape(100, 200) / 64
    b.output(b.op("add", x, b.op("cast", b.op("transpose", w, perm=(1, 0)), dtype="float32")), "y")
    data, lib, x0 = to_bytes(b.graph), native.library(), np.zeros((200, 100), F32)
    want = Interpreter(data).run(x0)["y"]
    for n in range(1, 1000):
        s = native.NativeSession(native.NativeModel(data), threads=1)
        lib.dk_test_fail_at(n)
        try:
            s(x0)
            whole = True
        except DeploykitError as e:
            assert e.code == "DK-MEMORY"
            whole = False
        finally:
            lib.dk_test_fail_at(0)
        np.testing.assert_array_equal(s(x0)[0], want)
        if whole:
            break
    assert 5 < n < 999


# ---- the C API
def test_prepare_has_the_limits_too() -> None:
    s = native.NativeSession(native.NativeModel(to_bytes(endless())), threads=1)
    s.set_time_limit(2**63)  # as good as none
    s.set_input_shape(0, (2,), "float32")
    s.prepare()


def test_options_of_older_callers_still_fit() -> None:
    """Limits came as functions: the struct of API version 1 must not grow, its users give no size."""
    assert ctypes.sizeof(native.CSessionOptions) == 40
