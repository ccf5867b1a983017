"""Sessions called straight from the interpreter: the same as through ctypes, for whatever is given."""

from __future__ import annotations

import gc
import pickle
import sys

import numpy as np
import pytest

import deploykit as dk
from deploykit import native, native_calls
from deploykit.errors import DeploykitError, InputError
from deploykit.graph import Dim
from deploykit.graph.dkfile import to_bytes
from deploykit.ops import GraphBuilder

F32 = np.float32


def model() -> bytes:
    """a + b, a > b, and the sum of a as a number; one symbolic dim."""
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"), 3))
    y = b.input("y", "float32", (Dim.symbol("n"), 3))
    b.output(b.op("add", x, y), "sum")
    b.output(b.op("greater", x, y), "more")
    b.output(b.op("reduce_sum", x, np.int64([0, 1])), "total")
    return to_bytes(b.graph)


def pair(n: int) -> dict[str, np.ndarray]:
    """Inputs."""
    rng = np.random.default_rng(n)
    return {k: rng.standard_normal((n, 3)).astype(F32) for k in ("x", "y")}


@pytest.fixture
def warm() -> dk.Interpreter:
    """One that has found its short way."""
    i = dk.Interpreter(model(), threads=1)
    for _ in range(2):
        i.run(pair(2))
    assert i._session._direct is not None
    return i


def test_outputs_are_those_of_the_long_way(warm: dk.Interpreter) -> None:
    for n in (2, 5, 1, 0, 2):
        feeds = pair(n)
        direct = warm._session.direct(list(feeds.values()))
        assert isinstance(direct, tuple)
        want = dk.Interpreter(model(), threads=1).run(feeds)
        got = warm.run(feeds)
        assert list(got) == list(want) == ["sum", "more", "total"]
        for a, b, w in zip(direct, got.values(), want.values(), strict=True):
            assert a.dtype == b.dtype == w.dtype and a.shape == b.shape == w.shape
            assert a.tobytes() == b.tobytes() == w.tobytes()
            assert a.flags.owndata and a.flags.writeable


def test_outputs_are_copies(warm: dk.Interpreter) -> None:
    first = warm.run(pair(2))["sum"]
    kept = first.copy()
    warm.run({k: v + 1 for k, v in pair(2).items()})
    np.testing.assert_array_equal(first, kept)


STRANGE = {
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "fortran": np.asfortranarray,
    "big endian": lambda a: a.astype(">f4"),
    "unpickled": lambda a: pickle.loads(pickle.dumps(a)),
    "subclass": lambda a: a.view(np.ma.MaskedArray),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), F32, offset=1).reshape(a.shape),
    "list": lambda a: a.astype(F32).tolist(),
    "read only": lambda a: np.frombuffer(a.tobytes(), F32).reshape(a.shape),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_arrays(warm: dk.Interpreter, kind: str) -> None:
    """Read in place or the long way, never wrongly."""
    feeds = pair(4)
    want = dk.Interpreter(model(), threads=1)
    given = {"x": STRANGE[kind](feeds["x"]), "y": feeds["y"]}
    try:
        expected = want.run(given)
    except InputError as e:
        with pytest.raises(InputError) as found:
            warm.run(given)
        assert str(found.value) == str(e)
        return
    for k, v in warm.run(given).items():
        np.testing.assert_array_equal(v, expected[k])


BAD = {
    "dtype": {**pair(2), "x": np.zeros((2, 3))},
    "integers": {**pair(2), "x": np.zeros((2, 3), np.int32)},
    "rank": {**pair(2), "x": np.zeros(6, F32)},
    "size": {**pair(2), "x": np.zeros((2, 4), F32)},
    "symbol": {**pair(2), "x": np.zeros((5, 3), F32)},
    "name": {"x": np.zeros((2, 3), F32), "z": np.zeros((2, 3), F32)},
    "missing": {"x": np.zeros((2, 3), F32)},
    "none": {**pair(2), "x": None},
    "rank 40": {**pair(2), "x": np.zeros((1,) * 40, F32)},
}


@pytest.mark.parametrize("kind", BAD)
def test_errors_are_those_of_the_long_way(warm: dk.Interpreter, kind: str) -> None:
    errors = []
    for i in (dk.Interpreter(model(), threads=1), warm):
        with pytest.raises(DeploykitError) as e:
            i.run(BAD[kind])
        errors.append(str(e.value))
    assert errors[0] == errors[1]
    assert warm.run(pair(2))["sum"].shape == (2, 3)


def test_a_failing_run_is_reported_once() -> None:
    """A limit is hit in the run itself: the status comes back, and nothing runs a second time."""
    b = GraphBuilder()
    x = b.input("x", "float32", (Dim.symbol("n"),))
    b.output(b.op("tile", x, np.int64([64])), "y")
    i = dk.Interpreter(to_bytes(b.graph), threads=1, max_memory=1 << 20)
    for _ in range(2):
        i.run({"x": np.ones(4, F32)})
    assert isinstance(i._session.direct([np.ones(1 << 16, F32)]), int)
    with pytest.raises(DeploykitError, match="DK-MEMORY"):
        i.run({"x": np.ones(1 << 16, F32)})
    assert i.run({"x": np.ones(4, F32)})["y"].shape == (256,)


def test_a_timeout_does_not_outlive_its_run(warm: dk.Interpreter) -> None:
    warm.run(pair(2), timeout=10)
    assert warm._limited
    warm.run(pair(2))
    assert not warm._limited


def test_nothing_leaks(warm: dk.Interpreter) -> None:
    feeds = pair(3)
    x, bad = feeds["x"], np.zeros(7, F32)
    for _ in range(3):
        warm.run(feeds)
    gc.collect()
    before = sys.getrefcount(x), sys.getrefcount(bad), sys.getrefcount(x.dtype), native.library().dk_test_bytes_held()
    for _ in range(1000):
        warm.run(feeds)
        with pytest.raises(InputError):
            warm.run({"x": bad, "y": feeds["y"]})
    gc.collect()
    warm.run(feeds)
    after = sys.getrefcount(x), sys.getrefcount(bad), sys.getrefcount(x.dtype), native.library().dk_test_bytes_held()
    assert all(abs(a - b) < 20 for a, b in zip(before, after, strict=True))


def test_inputs_live_until_the_next_call(warm: dk.Interpreter) -> None:
    """The session knows their memory until it gets others."""
    held = pair(2)
    warm.run(held)
    assert any(a is held["x"] for a in warm._session._kept)


def test_a_closed_session_is_not_called() -> None:
    s = native.NativeSession(native.NativeModel(model()), threads=1)
    s(*pair(2).values())
    native_calls.shorten(s)
    assert s._direct is not None
    s(*pair(2).values())
    s.close()
    assert s._direct is None
