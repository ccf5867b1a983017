"""The engine on whole graphs: plans, memory, shapes that depend on data, control flow, variables, failures."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from deploykit import native
from deploykit.errors import DeploykitError, InputError
from deploykit.graph import Graph
from deploykit.graph.dims import Dim
from deploykit.graph.dkfile import to_bytes
from deploykit.graph.ir import Value, Variable
from deploykit.ops.builder import GraphBuilder
from tests.support import fuzz_seeds

F32 = np.float32
RNG = np.random.default_rng(0)


def session(graph: Graph, **options: Any) -> native.NativeSession:
    return native.NativeSession(native.NativeModel(to_bytes(graph)), **options)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(F32)


# ---- plans
def test_plans_are_kept_by_shape() -> None:
    s = session(fuzz_seeds.network())
    shapes = [(1, 8, 8, 3), (2, 5, 7, 3), (0, 4, 4, 3)]
    first = {shape: (x := floats(*shape), s(x)[0]) for shape in shapes}
    assert s.memory()["plans"] == 3
    for shape in shapes * 2:
        x, y = first[shape]
        np.testing.assert_array_equal(s(x)[0], y)
    assert s.memory()["plans"] == 3
    for n in range(3, 14):
        s(floats(n, 4, 4, 3))
    assert s.memory()["plans"] <= 8


def test_values_known_from_shapes_cost_nothing() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"), 4))
    size = b.op("shape_of", x)
    half = b.op("div", b.op("gather", size, np.int64([1])), np.int64([2]))
    to = b.op("concat", b.op("gather", size, np.int64([0])), half, np.int64([2]), axis=0)
    b.output(b.op("neg", b.op("reshape", x, to)), "y")
    s = session(b.graph, profile=True)
    a = floats(5, 4)
    np.testing.assert_array_equal(s(a)[0], -a.reshape(5, 2, 2))
    assert [r.op for r in s.profile()] == ["neg"]
    assert s.memory()["nodes_dynamic"] == 0


def test_concat_of_leading_axes_copies_nothing_that_it_can_place() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (64, 16))
    parts = [b.op("relu", x), b.op("neg", x), b.op("abs", x)]
    b.output(b.op("concat", *parts, axis=0), "y")
    s = session(b.graph, profile=True)
    a = floats(64, 16)
    np.testing.assert_array_equal(s(a)[0], np.concatenate([np.maximum(a, 0), -a, np.abs(a)]))
    assert "concat" not in [r.op for r in s.profile()]
    assert s.memory()["arena"] == 3 * a.nbytes


def test_chain_runs_in_place() -> None:
    b = GraphBuilder()
    y = b.input("x", "float32", (1000,))
    for name in ("relu", "neg", "abs", "square", "neg"):
        y = b.op(name, y)
    b.output(y, "y")
    s = session(b.graph)
    a = floats(1000)
    np.testing.assert_allclose(s(a)[0], -np.square(np.maximum(a, 0)), rtol=1e-6)
    assert s.memory()["arena"] == 4032  # 4000, rounded to 64


def test_in_place_spares_values_still_wanted() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (6,))
    y = b.op("relu", x)
    view = b.op("reshape", y, np.int64([2, 3]))
    z = b.op("neg", y)  # must not overwrite y: the view is read later
    b.output(z, "z")
    b.output(b.op("add", view, F32(1)), "w")
    a = floats(6)
    z_, w_ = session(b.graph)(a)
    np.testing.assert_array_equal(z_, -np.maximum(a, 0))
    np.testing.assert_array_equal(w_, np.maximum(a, 0).reshape(2, 3) + 1)


def test_outputs_never_lie_in_foreign_memory() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"),))
    b.output(b.op("identity", x), "same")
    b.output(Value("c", data=F32([1, 2])), "constant")
    b.output(b.op("shape_of", x), "shape")
    b.output(b.op("reshape", x, b.op("shape_of", b.op("compress", x, np.array([True, True]), axis=0))), "dynamic")
    s = session(b.graph)
    a = F32([3, 4])
    s(a)
    for i, want in enumerate(([3, 4], [1, 2], [2], [3, 4])):
        out = s.output(i, copy=False)
        np.testing.assert_array_equal(out, want)
        assert not np.shares_memory(out, a)
        out[...] = 9  # neither the caller's array nor the next run may notice
    assert a.tolist() == [3, 4]
    assert [y.tolist() for y in s(a)] == [[3, 4], [1, 2], [2], [3, 4]]


# ---- memory
@pytest.mark.parametrize("threads", [1, 2])
def test_run_allocates_nothing(threads: int) -> None:
    s = session(fuzz_seeds.network(), threads=threads)
    s.set_input(0, floats(1, 32, 32, 3))
    s.run()
    lib = native.library()
    before = lib.dk_test_alloc_count()
    for _ in range(5):
        s.run()
    assert lib.dk_test_alloc_count() == before


def test_dynamic_runs_of_equal_sizes_use_their_blocks_again() -> None:
    s = session(fuzz_seeds.data_dependent())
    s.set_input(0, F32([1, 0, 2, 0, 3]))
    s.run()
    held = native.library().dk_test_bytes_held()
    for _ in range(5):
        s.run()
    assert native.library().dk_test_bytes_held() == held


CASES = {
    "network": (fuzz_seeds.network, lambda: [floats(2, 9, 7, 3)]),
    "data": (fuzz_seeds.data_dependent, lambda: [F32([1, 0, 2])]),
    "if": (lambda: fuzz_seeds.branches(False), lambda: [np.bool_(False), floats(3, 4)]),
    "if_static": (lambda: fuzz_seeds.branches(True), lambda: [np.bool_(True), floats(3, 4)]),
    "loop": (lambda: fuzz_seeds.loops(True), lambda: [np.int64(4), F32([1, 2])]),
    "loop_static": (lambda: fuzz_seeds.loops(False), lambda: [np.int64(4), F32([1, 2])]),
    "state": (fuzz_seeds.state, lambda: [F32([1, 2, 3])]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_failing_allocation_is_an_error_and_leaks_nothing(case: str) -> None:
    make, inputs = CASES[case]
    data, arrays, lib = to_bytes(make()), inputs(), native.library()

    def survives(fail_at: int) -> bool:
        gc.collect()
        lib.dk_test_fail_at(fail_at)
        model = s = None
        try:
            model = native.NativeModel(data)
            s = native.NativeSession(model, threads=1)
            s(*arrays)
            s(*arrays)
            return True
        except DeploykitError as e:
            assert e.code == "DK-MEMORY"
            return False
        finally:
            lib.dk_test_fail_at(0)
            for x in (s, model):
                if x is not None:
                    x.close()

    assert survives(0)
    held, n = lib.dk_test_bytes_held(), 1
    while not survives(n):
        assert lib.dk_test_bytes_held() == held, f"allocation {n}"
        n += 1
    assert n > 10


def test_memory_limit() -> None:
    s = session(fuzz_seeds.network(), max_memory=1 << 20)
    s(floats(1, 16, 16, 3))
    with pytest.raises(DeploykitError, match="limit") as e:
        s(floats(1, 512, 512, 3))
    assert e.value.code == "DK-MEMORY"
    s(floats(1, 16, 16, 3))  # and goes on


# ---- shapes that depend on data
def test_data_dependent_shapes() -> None:
    s = session(fuzz_seeds.data_dependent())
    for values in ([], [1, 0, 2, 0, 3], [0, 0], [5]):
        x = F32(values)
        y, n = s(x)
        np.testing.assert_array_equal(y, x[x != 0] + 1)
        assert n.tolist() == [int((x != 0).sum())]
    assert s.memory()["nodes_dynamic"] > 0


# ---- control flow
@pytest.mark.parametrize("same", [True, False])
def test_if(same: bool) -> None:
    s = session(fuzz_seeds.branches(same))
    for n in (3, 0, 2):
        x = floats(n, 4)
        for c in (True, False, True):
            other = -x if same else np.concatenate([x, x])
            np.testing.assert_array_equal(s(np.bool_(c), x)[0], (np.maximum(x, 0) if c else other) * 2)


def test_if_known_from_shapes_plans_one_branch() -> None:
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"), 2))
    rows = b.op("gather", b.op("shape_of", x), np.int64(0))
    bodies = []
    for name in ("neg", "abs"):
        g = GraphBuilder()
        g.output(g.op(name, g.input("v", "float32", (Dim.symbol("n"), 2))), "o")
        bodies.append(g.graph)
    (y,) = b.op("if", b.op("greater", rows, np.int64(2)), x, outputs=1, then_graph=bodies[0], else_graph=bodies[1])
    b.output(y, "y")
    s = session(b.graph, profile=True)
    for n in (3, 1):
        a = floats(n, 2)
        np.testing.assert_array_equal(s(a)[0], -a if n > 2 else np.abs(a))
    assert s.memory()["nodes_dynamic"] == 0


def loop_reference(n: int, x: np.ndarray, growing: bool) -> tuple[np.ndarray, np.ndarray]:
    acc, sums, i, go = x, [], 0, True
    while i < n and go:
        acc = np.concatenate([acc, x]) if growing else acc + x
        sums.append([acc.sum()])
        go = i < 5
        i += 1
    return acc, F32(sums).reshape(len(sums), 1)


@pytest.mark.parametrize("growing", [False, True])
def test_loop(growing: bool) -> None:
    s = session(fuzz_seeds.loops(growing))
    x = F32([1, 2])
    for n in (0, 1, 3, 10, 2, -1):
        last, sums = s(np.int64(n), x)
        want_last, want_sums = loop_reference(n, x, growing)
        np.testing.assert_array_equal(last, want_last)
        np.testing.assert_allclose(sums, want_sums, rtol=1e-6)


def test_loop_may_swap_its_values() -> None:
    b = GraphBuilder()
    n, x, y = b.input("n", "int64", ()), b.input("x", "float32", (3,)), b.input("y", "float32", (3,))
    body = GraphBuilder()
    body.input("i", "int64", ())
    c = body.input("c", "bool", ())
    p, q = body.input("p", "float32", (3,)), body.input("q", "float32", (3,))
    k = body.input("k", "float32", (3,))
    for v, name in ((c, "go"), (q, "p2"), (body.op("add", p, q), "q2"), (k, "k2")):
        body.output(v, name)
    outs = b.op("loop", n, None, x, y, x, outputs=3, body=body.graph, carried=3)
    for v, name in zip(outs, ("a", "b", "c"), strict=True):
        b.output(v, name)
    s = session(b.graph)
    u, v = F32([1, 2, 3]), F32([4, 5, 6])
    for count in (0, 1, 2, 5):
        f, g = u, v
        for _ in range(count):
            f, g = g, f + g
        for got, want in zip(s(np.int64(count), u, v), (f, g, u), strict=True):
            np.testing.assert_array_equal(got, want)


# ---- variables
def test_variables_last_and_reset() -> None:
    s = session(fuzz_seeds.state())
    for k in range(3):
        np.testing.assert_array_equal(s(F32([1, 1, 1]))[0], 2 * (F32([1, 2, 3]) + k))
    np.testing.assert_array_equal(s.variable("v"), F32([4, 5, 6]))
    other = session(fuzz_seeds.state())  # sessions do not share state
    np.testing.assert_array_equal(other.variable("v"), F32([1, 2, 3]))
    s.reset()
    np.testing.assert_array_equal(s.variable("v"), F32([1, 2, 3]))
    np.testing.assert_array_equal(s.variable("w"), np.zeros((2, 2)))
    assert s.variable("none") is None


ADAM = dict(beta_1=0.9, beta_2=0.99, epsilon=1e-3)


def stepping(seed: int) -> Graph:
    """Variables read, updated, assigned and read again in an order of chance, by ops that may and may not work in place."""
    r, b = np.random.default_rng(seed), GraphBuilder()
    names = ["a", "b", "c"]
    b.graph.variables = [Variable(k, r.standard_normal((4, 4)).astype(F32)) for k in names]
    known = [b.input("x", "float32", (4, 4))]
    pick = lambda: known[r.integers(len(known))]  # noqa: E731
    for _ in range(24):
        kind = r.integers(8)
        if kind < 2:
            known.append(b.op("read_variable", variable=names[r.integers(3)]))
        elif kind < 4:
            known.append(b.op(("tanh", "neg", "transpose")[r.integers(3)], pick()))
        elif kind < 5:
            known.append(b.op("mul", b.op("matmul", pick(), pick()), F32(0.1)))
        elif kind < 6:
            known += b.op("adam_update", pick(), pick(), b.op("abs", pick()), pick(), F32(0.1), **ADAM)
        elif kind < 7:
            known.append(b.op(("sub", "maximum")[r.integers(2)], pick(), pick()))
        else:
            b.op("assign_variable", pick(), variable=names[r.integers(3)])
    for k, v in zip(names, known[-3:], strict=True):
        if r.integers(2):
            b.op("assign_variable", v, variable=k)
    b.output(b.op("neg", pick()), "y")
    return b.graph


@pytest.mark.parametrize("seed", range(60))
def test_updates_in_the_memory_of_variables_change_nothing_else(seed: int) -> None:
    """Sessions that keep every value put none of them into a variable's memory."""
    x, graph = floats(4, 4), stepping(seed)
    apart, s = session(graph, keep_values=True), session(graph)
    for _ in range(3):
        np.testing.assert_array_equal(s(x)[0], apart(x)[0])
        for k in "abc":
            np.testing.assert_array_equal(s.variable(k), apart.variable(k))


@pytest.mark.parametrize("op", ["transpose", "matmul"])
def test_a_variable_is_not_overwritten_while_it_is_read(op: str) -> None:
    """These write results before they have read all of their inputs."""
    b, start = GraphBuilder(), floats(64, 64)
    b.graph.variables = [Variable("v", start)]
    old = b.op("read_variable", variable="v")
    b.op("assign_variable", b.op(op, *[old] * (2 if op == "matmul" else 1)), variable="v")
    b.output(b.input("x", "float32", (1,)), "y")
    s = session(b.graph)
    s(floats(1))
    want = start.T if op == "transpose" else start @ start
    np.testing.assert_allclose(s.variable("v"), want, rtol=1e-4, atol=1e-4)


def test_an_optimizer_updates_variables_in_place() -> None:
    b = GraphBuilder()
    b.graph.variables = [Variable(k, np.ones((256, 256), F32)) for k in "pmv"]
    old = [b.op("read_variable", variable=k) for k in "pmv"]
    new = b.op("adam_update", *old, b.input("g", "float32", (256, 256)), F32(0.1), **ADAM)
    for k, v in zip("pmv", new, strict=True):
        b.op("assign_variable", v, variable=k)
    b.output(b.op("shape_of", new[0]), "y")
    s = session(b.graph)
    s(np.ones((256, 256), F32))
    assert s.memory()["arena"] < 4096, "the arena of three arrays would be 786 KB"
    assert np.unique(s.variable("p")) < 1 and np.unique(s.variable("m")) == 1


# ---- the caller's side
def test_wrong_inputs_say_what_came_and_what_is_allowed() -> None:
    s = session(fuzz_seeds.branches(True))
    with pytest.raises(InputError, match=r"'x': got float64\[3,4\], expected float32\[n,4\]"):
        s.set_input(1, np.zeros((3, 4)))
    with pytest.raises(InputError, match=r"got float32\[3,5\]"):
        s.set_input(1, np.zeros((3, 5), F32))
    with pytest.raises(InputError, match="not set"):
        s.run()
    with pytest.raises(InputError, match="number 7"):
        s.set_input(7, np.zeros(3, F32))


def test_one_symbol_one_size() -> None:
    b = GraphBuilder()
    n = Dim.symbol("n")
    b.output(b.op("add", b.input("x", "float32", (n,)), b.input("y", "float32", (n,))), "z")
    with pytest.raises(InputError, match="'n' is 2 in input 'x', but 1 in input 'y'"):
        session(b.graph)(floats(2), floats(1))


def test_unaligned_and_strided_inputs() -> None:
    s = session(fuzz_seeds.network())
    x = floats(1, 8, 8, 3)
    want = s(x)[0]
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = x.reshape(-1).view(np.uint8)
    odd = raw[1:].view(F32).reshape(x.shape)
    np.testing.assert_array_equal(s(odd)[0], want)
    np.testing.assert_array_equal(s(np.repeat(x, 2, axis=1)[:, ::2])[0], want)
    # ends exactly at the end of a page
    page = np.zeros(1 << 14, np.uint8)
    start = -(page.ctypes.data + x.nbytes) % 4096
    edge = page[start : start + x.nbytes].view(F32).reshape(x.shape)
    edge[...] = x
    np.testing.assert_array_equal(s(edge)[0], want)


def test_values_are_kept_on_request_only() -> None:
    graph = fuzz_seeds.network()
    name = graph.nodes[0].output.name
    x = floats(1, 8, 8, 3)
    kept, plain = session(graph, keep_values=True), session(graph)
    np.testing.assert_array_equal(kept(x)[0], plain(x)[0])
    value = kept.value(name)
    assert value is not None and value.shape == (1, 8, 8, 8) and value.min() == 0
    assert plain.value(name) is None and kept.value("no such name") is None


def test_threads_give_the_same_bits() -> None:
    x = floats(2, 64, 64, 3)
    want = session(fuzz_seeds.network(), threads=1)(x)[0]
    for n in (2, 3, 7):
        np.testing.assert_array_equal(session(fuzz_seeds.network(), threads=n)(x)[0], want)


def test_busy_neighbours_neither_stop_threads_nor_change_a_bit() -> None:
    """Programs that never sleep take the CPU away in the middle of regions, and the caller goes on alone for a while:
    every run ends, with the same numbers.  How long it takes is for tests/bench/busy.py to say.
    """
    x = floats(2, 64, 64, 3)
    want = session(fuzz_seeds.network(), threads=1)(x)[0]
    s = session(fuzz_seeds.network(), threads=3)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for _ in range(200):
            np.testing.assert_array_equal(s(x)[0], want)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_sessions_of_one_model_on_many_threads() -> None:
    model = native.NativeModel(to_bytes(fuzz_seeds.network()))
    x = floats(1, 24, 24, 3)
    want = native.NativeSession(model, threads=1)(x)[0]
    wrong: list[int] = []

    def work(k: int) -> None:
        s = native.NativeSession(model, threads=1 + k % 2)
        for _ in range(20):
            if not np.array_equal(s(x)[0], want):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_can_run() -> None:
    s = session(fuzz_seeds.network(), threads=2)
    x = floats(1, 32, 32, 3)
    want = s(x)[0]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if np.array_equal(s(x)[0], want) else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_signatures() -> None:
    model = native.NativeModel(to_bytes(fuzz_seeds.signatures()))
    assert model.signatures == ["main", "other"]
    y, n = native.NativeSession(model, signature="other")(F32([0, 7]))
    assert y.tolist() == [8] and n.tolist() == [1]
    with pytest.raises(InputError, match="'nothing'"):
        native.NativeSession(model, signature="nothing")
