"""Batch normalisation while training against PyTorch: values, first and second order gradients, hard data."""

from __future__ import annotations

import numpy as np
import pytest

import deploykit as dk
from deploykit import native
from deploykit.autodiff import numeric as N
from deploykit.ops import F
from tests.support.peers import need


@pytest.mark.parametrize("act", ["none", "relu", "relu6"])
@pytest.mark.parametrize("traced", [False, True])
def test_against_torch(act: str, traced: bool) -> None:
    torch = need("torch")
    r = np.random.default_rng(1)
    data = [r.normal(1, 3, (4, 5, 3, 6)), r.uniform(0.5, 2, 6), r.normal(0, 1, 6)]
    weight = r.normal(size=(4, 5, 3, 6))

    def first(x, s, b):
        with dk.GradientTape() as tape:
            tape.watch([x, s, b])
            y, mean, variance = F.batch_norm_train(x, s, b, epsilon=1e-3, act=act)
            # mean and variance are results like any other: what uses them has gradients too
            loss = N.sum(y * y * weight) + N.sum(mean * 3.0) + N.sum(variance * variance)
        return loss, tape.gradient(loss, [x, s, b])

    def second(x, s, b):
        with dk.GradientTape() as tape:
            tape.watch([x, s, b])
            loss, grads = first(x, s, b)
            total = N.sum(grads[0] ** 2) + N.sum(grads[1] ** 2) + N.sum(grads[2] ** 2)
        return loss, grads, tape.gradient(total, [x, s, b])

    run = dk.function(second) if traced else second
    loss, grads, again = run(*(dk.convert_to_tensor(a) for a in data))

    x, s, b = (torch.tensor(a, requires_grad=True) for a in data)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), correction=0)
    y = (x - mean) * torch.rsqrt(variance + 1e-3) * s + b
    y = {"none": lambda v: v, "relu": torch.relu, "relu6": torch.nn.functional.relu6}[act](y)
    want = (y * y * torch.tensor(weight)).sum() + (mean * 3).sum() + (variance**2).sum()
    g = torch.autograd.grad(want, [x, s, b], create_graph=True)
    gg = torch.autograd.grad(sum((t**2).sum() for t in g), [x, s, b])
    np.testing.assert_allclose(float(loss), float(want), rtol=1e-10)
    for a, t in zip([*grads, *again], [*g, *gg], strict=True):
        np.testing.assert_allclose(a.numpy(), t.detach().numpy(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", ["large mean", "first rows unlike the rest", "constant", "one row", "nan"])
def test_hard_data(case: str) -> None:
    """float32 against the reference in float64: statistics by one pass lose nothing that matters."""
    x = np.random.default_rng(2).normal(size=(3000, 19)).astype(np.float32)
    if case == "large mean":
        x += 1000
    elif case == "first rows unlike the rest":
        x[::187] = 5000
        x[1:] += 20
    elif case == "constant":
        x[:] = 0.1
    elif case == "one row":
        x = x[:1]
    else:
        x[7, 3] = np.nan
    s, b = np.full(19, 2, np.float32), np.full(19, 0.5, np.float32)
    y, mean, variance = native.run_op("batch_norm_train", [x, s, b], {"epsilon": 1e-3})
    wide = x.astype(np.float64)
    m, v = wide.mean(0), wide.var(0)
    np.testing.assert_allclose(mean, m, rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(variance, v, rtol=2e-5, atol=1e-9)
    want = (wide - m) / np.sqrt(v + 1e-3) * 2 + 0.5
    np.testing.assert_allclose(y, want, rtol=3e-5, atol=2e-4 if case == "large mean" else 3e-5)


def test_threads_do_not_change_bits() -> None:
    r = np.random.default_rng(3)
    x, g = (r.normal(size=(7, 40, 41, 24)).astype(np.float32) for _ in range(2))
    v = np.float32(r.uniform(0.5, 2, 24))
    for op, inputs in (("batch_norm_train", [x, v, v]), ("batch_norm_train_gradient", [g, x, v, v, v, v])):
        one, two = (native.run_op(op, inputs, {"act": "relu"}, threads=t) for t in (1, 2))
        assert [a.tobytes() for a in one] == [a.tobytes() for a in two]


def test_mixed_dtypes_are_told() -> None:
    with pytest.raises(dk.DeploykitError, match=r"float32 or float64"):
        F.batch_norm_train(*(dk.Tensor(np.ones((2, 3)[-n:], np.float16)) for n in (2, 1, 1)))
