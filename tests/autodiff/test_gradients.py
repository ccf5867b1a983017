"""Tapes: against finite differences and PyTorch, of first and second order, eager and inside dk.function."""

import numpy as np
import pytest

import deploykit as dk
from deploykit.autodiff import numeric as N
from deploykit.errors import DeploykitError
from tests.support.peers import need

X = np.random.default_rng(2).uniform(0.3, 1.5, (3, 4))
W = np.random.default_rng(3).uniform(0.3, 1.5, (4, 2))

# name -> (our function of x and w, torch's)
CASES = {
    "polynomial": (lambda x, w: N.sum(x * x * x @ w), lambda t, x, w: (x * x * x @ w).sum()),
    "softmax": (
        lambda x, w: N.sum(N.log_softmax(x @ w)[:, 0] * N.tanh(x)[:, 1]),
        lambda t, x, w: (t.log_softmax(x @ w, -1)[:, 0] * t.tanh(x)[:, 1]).sum(),
    ),
    "indexing": (
        lambda x, w: N.sum(N.square(x[1:, ::2] / w[None, 0, 1])),
        lambda t, x, w: ((x[1:, ::2] / w[None, 0, 1]) ** 2).sum(),
    ),
    "reductions": (
        lambda x, w: N.sum(N.max(x, 1) * N.mean(w) + N.std(x, 1) + N.logsumexp(x, 1)),
        lambda t, x, w: (x.max(1).values * w.mean() + x.std(1, correction=0) + t.logsumexp(x, 1)).sum(),
    ),
    "joins": (
        lambda x, w: N.sum(N.concatenate([x, N.transpose(w)], 0) ** 3.0),
        lambda t, x, w: (t.cat([x, w.T], 0) ** 3.0).sum(),
    ),
    "branches": (
        lambda x, w: N.sum(N.where(x > 0.9, N.exp(x), N.sqrt(x)) * N.sum(w)),
        lambda t, x, w: (t.where(x > 0.9, t.exp(x), t.sqrt(x)) * w.sum()).sum(),
    ),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name: str, traced: bool) -> None:
    torch = need("torch")
    ours, theirs = CASES[name]

    def both(x, w):
        with dk.GradientTape() as outer:
            outer.watch([x, w])
            with dk.GradientTape() as tape:
                tape.watch([x, w])
                y = ours(x, w)
            first = tape.gradient(y, [x, w])
            z = N.sum(N.square(first[0])) + N.sum(N.square(first[1]))
        return first, outer.gradient(z, [x, w])

    f = dk.function(both) if traced else both
    first, second = f(dk.convert_to_tensor(X), dk.convert_to_tensor(W))
    x, w = (torch.tensor(a, requires_grad=True) for a in (X, W))
    want = torch.autograd.grad(theirs(torch, x, w), [x, w], create_graph=True)
    again = torch.autograd.grad((want[0] ** 2).sum() + (want[1] ** 2).sum(), [x, w])
    for got, expected in zip([*first, *second], [*want, *again], strict=True):
        np.testing.assert_allclose(got.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_tape_rules() -> None:
    x = dk.convert_to_tensor(2.0)
    with dk.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x).item() == 4
    with pytest.raises(DeploykitError, match="persistent"):
        tape.gradient(y, x)
    with dk.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, z = x * 3, dk.stop_gradient(x) * x
    assert [tape.gradient(t, x).item() for t in (y, z)] == [3, 2]
    assert tape.gradient(y, dk.convert_to_tensor(1.0)) is None
    assert tape.gradient(y, dk.Variable(1.0), unconnected_gradients="zero").item() == 0
    with dk.GradientTape() as tape:
        tape.watch(x)
        with dk.no_gradient():
            y = x * x
    assert tape.gradient(y, x) is None


def test_variables_are_watched_when_they_are_trainable() -> None:
    v, fixed = dk.Variable([1.0, 2.0]), dk.Variable([3.0, 4.0], trainable=False)
    with dk.GradientTape() as tape:
        y = N.sum(v * v * fixed)
        v.assign([5.0, 6.0])  # what was read before counts
    gv, gf = tape.gradient(y, [v, fixed])
    np.testing.assert_array_equal(gv.numpy(), [6, 16])
    assert gf is None


def test_jacobian() -> None:
    x = dk.convert_to_tensor([1.0, 2.0, 3.0])
    with dk.GradientTape() as tape:
        tape.watch(x)
        y = x[:2] * x[1:]
    np.testing.assert_array_equal(tape.jacobian(y, x).numpy(), [[2, 1, 0], [0, 3, 2]])


def test_custom_gradient_and_functions_of_functions() -> None:
    @dk.custom_gradient
    def f(x, y):
        return x * y, lambda g: (g * 10, g * 20)

    assert [g.item() for g in dk.grad(f, (0, 1))(2.0, 3.0)] == [10, 20]
    assert dk.grad(dk.grad(lambda x: x**3))(2.0).item() == 12
    value, g = dk.value_and_grad(lambda x: (N.sum(x["a"] * 2), "aux"), has_aux=True)({"a": dk.convert_to_tensor([1.0])})
    assert value[1] == "aux" and g["a"].item() == 2


def test_gradient_through_a_compiled_call() -> None:
    w = dk.Variable([[2.0], [3.0]])
    layer = dk.function(lambda x: N.tanh(x @ w))
    x = dk.convert_to_tensor([[0.1, 0.2]])
    got = []
    for f in (layer, layer.python):
        with dk.GradientTape() as tape:
            tape.watch(x)
            y = N.sum(f(x) * 2)
        got.append(tape.gradient(y, [x, w]))
    for a, b in zip(*got, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
