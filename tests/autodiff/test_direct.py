"""Ops called straight from the interpreter (deploykit.native_calls): the same as the long way, for whatever is given."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

import deploykit as dk
from deploykit import native, native_calls
from deploykit.autodiff import tensor as tensors
from deploykit.ops import GraphBuilder
from deploykit.ops.core import REGISTRY, F, get
from deploykit.ops.samples import samples_of
from tests.support.sample_matrix import runnable

T = dk.Tensor


def test_it_is_there() -> None:
    """On the interpreters that CI runs, the short way is open."""
    assert tensors._bound()


NAMES = [n for n, op in REGISTRY.items() if runnable(op) and not op.flags & {"random", "effect"}]


@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str) -> None:
    """Every sample of every op: the same bits as run_op, or NotImplemented where an input is no plain array."""
    assert tensors._bound()
    op, taken = get(name), 0
    for s in samples_of(op):
        if s.variables or (op.variable_outputs and s.n_outputs is None):
            continue
        n = s.n_outputs or sum(not r.variadic for r in op.results) or 1
        kernel = native_calls.prepare(op, s.attrs, n, 0)
        if kernel is None:
            assert n > 4
            continue
        got = kernel(*s.inputs)
        if got is NotImplemented:
            continue
        taken += 1
        want = native.run_op(name, s.inputs, s.attrs, n)
        for a, b in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            assert a.tobytes() == b.tobytes()
    assert taken or all(len(s.inputs) > 8 for s in samples_of(op)) or name in ("quantize", "dequantize") or n > 4


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "float16", "int8"])
@pytest.mark.parametrize("number", [2, -3, 0.1, True, 1 << 30, 1e300, float("nan")])
def test_numbers(dtype: str, number: object) -> None:
    """``x * number`` is what the long way gives: dtype and bits."""
    x = np.arange(1, 7).astype(dtype).reshape(2, 3)
    for f, g in ((lambda a: a * number, "mul"), (lambda a: a + number, "add"), (lambda a: a < number, "less")):
        with np.errstate(all="ignore"):
            try:
                want = getattr(dk.autodiff.numeric, {"mul": "multiply"}.get(g, g))(x, number)
            except OverflowError as e:
                with pytest.raises(type(e)):
                    f(T(x))
                continue
            got = f(T(x))
        assert got.dtype == want.dtype
        assert got.numpy().tobytes() == want.numpy().tobytes()


def test_refuses_what_it_cannot_read() -> None:
    k = tensors.direct(get("add"))
    x = T(np.ones((2, 3), np.float32))
    odd = [
        T(np.ones((3, 2), np.float32).T),  # not C-contiguous
        T(np.ones((2, 3), ">f4")),
        T(np.ones((2, 3), np.float64)),  # another dtype
        T(np.ones((2, 4), np.float32)),  # a shape that does not fit
        T(np.frombuffer(bytearray(25), np.float32, 6, 1).reshape(2, 3)),  # not aligned
        dk.Variable(np.ones((2, 3), np.float32)),
        "1",
        None,
        [1.0],
    ]
    assert [k(x, o) for o in odd] == [NotImplemented] * len(odd)
    assert k(np.ones(2, np.float32), np.ones(2, np.float32)) is NotImplemented  # arrays stay arrays
    assert k(*[x] * 9) is NotImplemented
    assert (x + np.ones((3, 2), np.float32).T).numpy().tolist() == [[2.0] * 3] * 2  # the long way takes it
    with pytest.raises(dk.DeploykitError, match="add"):
        x + odd[3]


def test_integers_divide_as_floats() -> None:
    assert (T(np.int32([7])) / T(np.int32([2]))).numpy().tolist() == [3.5]


def test_tapes_see_it() -> None:
    x = T(np.float32([1.0, 2.0]))
    with dk.GradientTape() as outer:
        outer.watch(x)
        with dk.GradientTape() as inner:
            inner.watch(x)
            y = F.reduce_sum(x * x * 3 - x / 2 + (2.0 + x))
        g = inner.gradient(y, x)
    assert g.numpy().tolist() == [6.5, 12.5]
    assert outer.gradient(g, x).numpy().tolist() == [6.0, 6.0]
    with dk.GradientTape() as tape:
        tape.watch(x)
        with dk.no_gradient():
            y = x * x
    assert tape.gradient(y, x) is None


def test_an_interpreter_on_top_is_asked() -> None:
    """Inside a builder's block, tensors are not computed behind its back."""
    F.add(T(np.ones(1, np.float32)), T(np.ones(1, np.float32)))  # the op has its short way now
    b = GraphBuilder()
    x = b.input("x", "float32", (2,))
    with b.tracing():
        F.add(x, x)
    assert [n.op for n in b.graph.nodes] == ["add"]


def test_nothing_leaks() -> None:
    a, m = T(np.ones(8, np.float32)), T(np.ones((200, 200), np.float32))
    bad = T(np.ones(3, np.float32))
    k = tensors.direct(get("add"))

    def work() -> None:
        for _ in range(300):
            a + a
            a * 2.0
            k(a, bad)
            native_calls.prepare(get("split"), {}, 2, 0)(np.ones(4, np.float32), np.int64([2, 2]))
        m @ m
        T(np.ones(2, np.int64)) + T(np.ones(2, np.int64))

    watched = (None, NotImplemented, np.dtype("float32"), np.dtype("int64"), T, a.payload, bad.payload)
    work()
    gc.collect()
    before = [sys.getrefcount(o) for o in watched]
    work()
    gc.collect()
    after = [sys.getrefcount(o) for o in watched]
    assert all(abs(x - y) < 50 for x, y in zip(after, before, strict=True)), (before, after)


def test_threads() -> None:
    """Large ops let others run; results stay each thread's own."""
    wrong = []

    def work(i: int) -> None:
        x = T(np.full((150, 150), i, np.float32))
        for _ in range(20):
            y = (x @ x).numpy()
            if not (y == 150.0 * i * i).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_without_it() -> None:
    """Where the interpreter cannot be handed over, the same program runs the long way."""
    code = """
import sys; sys.implementation.name = "other"
import numpy as np, deploykit as dk
from deploykit.autodiff import tensor
x = dk.Tensor(np.float32([1, 2]))
with dk.GradientTape() as tape:
    tape.watch(x)
    y = dk.autodiff.numeric.sum(x * x + 1)
print(tape.gradient(y, x).tolist(), tensor._bound())
"""
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.split("\n")[0] == "[2.0, 4.0] False"
