"""dk.function, control flow and random draws: traced against eager."""

import numpy as np
import pytest

import deploykit as dk
from deploykit.autodiff import numeric as N
from deploykit.autodiff.compiled import Spec
from deploykit.errors import DeploykitError
from deploykit.graph.dkfile import to_bytes


def test_one_trace_per_signature() -> None:
    calls = []

    @dk.function
    def f(x, scale, flag=True):
        calls.append(1)
        return {"y": x * scale, "flag": flag, "n": x.shape[0]}

    a = np.float32([1, 2])
    assert f(a, 2)["y"].numpy().tolist() == [2, 4] and f(a, 2)["n"] == 2
    f(a, 3), f(a, 2, flag=False), f(np.float32([1, 2, 3]), 2), f(a + 1, 2)
    assert len(calls) == f.traces == 4


def test_state_lives_in_the_engine_and_in_python() -> None:
    v = dk.Variable([0.0, 0.0])
    other = dk.function(lambda: v * 1)

    @dk.function
    def step(x):
        old = v + 0
        v.assign_add(x)
        v.assign(v * 2)
        return old, v

    old, new = step(np.float32([1, 2]))
    assert old.numpy().tolist() == [0, 0] and new.numpy().tolist() == [2, 4] == v.numpy().tolist()
    held = v.value
    v.assign([1, 1])
    assert other().numpy().tolist() == [1, 1]
    step(np.float32([0, 0]))
    assert v.numpy().tolist() == [2, 2] == other().numpy().tolist()
    assert held.numpy().tolist() == [2, 4]


def test_training_step_learns_and_ships() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    y = x @ np.float32([[1], [-2], [0.5]]) + 0.25
    w, b = dk.Variable(np.zeros((3, 1), np.float32), name="w"), dk.Variable(np.zeros(1, np.float32), name="b")

    @dk.function
    def train(x, y):
        with dk.GradientTape() as tape:
            loss = N.mean(N.square(x @ w + b - y))
        for v, g in zip((w, b), tape.gradient(loss, [w, b]), strict=True):
            v.assign_sub(0.1 * g)
        return loss

    start = (w.numpy(), b.numpy())
    graph = train.graph(Spec(("n", 3)), Spec(("n", 1)))  # any batch
    losses = [train(x, y).item() for _ in range(100)]
    assert losses[-1] < 1e-5 * losses[0]
    np.testing.assert_allclose(b.numpy(), [0.25], atol=1e-2)
    trained = (w.numpy(), b.numpy())
    w.assign(start[0]), b.assign(start[1])
    alone = dk.Interpreter(to_bytes(train.graph(Spec(("n", 3)), Spec(("n", 1)))))  # the file, without Python's tapes
    assert graph.variables[0].name == "w"
    for _ in range(100):
        alone.run(x, y)
    np.testing.assert_allclose(alone.variable("w"), trained[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flag", [True, False])
def test_cond(flag: bool) -> None:
    v = dk.Variable(1.0)

    def f(p, x):
        def yes():
            v.assign_add(1.0)
            return x * v, x + 1

        with dk.GradientTape() as tape:
            tape.watch(x)
            a, b = dk.cond(p, yes, lambda: (x * x * x, x * 2))
            loss = N.sum(a * 3 + b)
        return loss, *tape.gradient(loss, [x, v])

    x = np.float32([1, 2, 3])
    want = f(np.array(flag), dk.convert_to_tensor(x))
    assert v.numpy() == 1 + flag
    v.assign(1.0)
    got = dk.function(f)(np.array(flag), x)
    assert v.numpy() == 1 + flag
    for a, b in zip(want, got, strict=True):
        assert (a is None and np.all(b.numpy() == 0)) or np.allclose(a.numpy(), b.numpy())


def test_while_loop() -> None:
    v = dk.Variable(0.0)

    def f(n):
        def body(i, s):
            v.assign_add(1.0)
            return i + 1, s + N.cast(i, "float32")

        return dk.while_loop(lambda i, s: i < n, body, (N.cast(0, "int32"), N.cast(0, "float32")))

    for n in (0, 5):
        for g in (f, dk.function(f)):
            v.assign(0.0)
            i, s = g(dk.convert_to_tensor(n))
            assert (i.item(), s.item(), float(v)) == (n, n * (n - 1) / 2, n)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_and_its_gradient(reverse: bool) -> None:
    w = dk.Variable(np.random.default_rng(4).standard_normal((3, 3)).astype(np.float32) * 0.5)

    def f(xs, h0):
        def cell(h, x):
            h = N.tanh(h @ w + x)
            return h, h[:, 0]

        with dk.GradientTape() as tape:
            tape.watch([xs, h0])
            h, ys = dk.scan(cell, h0, xs, reverse=reverse)
            loss = N.sum(h * 2) + N.sum(N.square(ys))
        return (loss, ys, *tape.gradient(loss, [xs, h0, w]))

    rng = np.random.default_rng(5)
    xs, h0 = rng.standard_normal((6, 2, 3)).astype(np.float32), rng.standard_normal((2, 3)).astype(np.float32)
    want = f(dk.convert_to_tensor(xs), dk.convert_to_tensor(h0))
    got = dk.function(f)(xs, h0)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_random_numbers_follow_the_seed() -> None:
    dk.random.set_seed(7)
    a, b = dk.random.normal((4,)), dk.random.uniform((1000,))
    dk.random.set_seed(7)
    np.testing.assert_array_equal(dk.random.normal((4,)).numpy(), a.numpy())
    assert 0.45 < b.numpy().mean() < 0.55 and b.numpy().min() >= 0 and b.numpy().max() < 1
    assert not np.array_equal(dk.random.normal((4,)).numpy(), a.numpy())
    np.testing.assert_array_equal(dk.random.normal((4,), seed=3).numpy(), dk.random.normal((4,), seed=3).numpy())
    t = dk.random.truncated_normal((5000,), stddev=0.5).numpy()
    assert np.abs(t).max() < 1 and abs(t.std() - 0.44) < 0.02
    drop = dk.function(lambda x: dk.random.dropout(x, 0.5))
    x = np.ones(1000, np.float32)
    first, second = drop(x).numpy(), drop(x).numpy()
    assert set(first) == {0, 2} and not np.array_equal(first, second)


def test_what_cannot_be_traced_says_so() -> None:
    kept = []
    dk.function(lambda x: kept.append(x) or x)(np.float32([1]))
    with pytest.raises(DeploykitError, match="belongs to a trace that has ended"):
        dk.function(lambda x: x + kept[0])(np.float32([1]))
    with pytest.raises(DeploykitError, match="no gradient.*dk.scan"):

        @dk.function
        def f(x):
            with dk.GradientTape() as tape:
                tape.watch(x)
                y = dk.while_loop(lambda y: N.sum(y) < 10, lambda y: y * 2, x)
            return tape.gradient(y, x)

        f(np.float32([1]))
