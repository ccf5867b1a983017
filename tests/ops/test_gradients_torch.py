"""Gradients of passports against PyTorch in float64, first and second order, on the samples that finite differences check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deploykit.ops.core import get
from deploykit.ops.samples import Sample
from tests.ops.test_passports import cases, complete, float_inputs, gradient_of, in_float64, partial_of
from tests.ops.torch_table import TABLE as MORE
from tests.ops.torch_table import reduced_product
from tests.support.peers import need

torch = need("torch")
F = torch.nn.functional


def axes(a: Any, rank: int) -> tuple[int, ...] | None:
    return None if a is None else tuple(int(i) % rank for i in np.atleast_1d(a))


def reduced(f: Any) -> Any:
    def run(x: Any, over: Any = None, *, keepdims: bool, noop_if_empty: bool = False, **_: Any) -> Any:
        over = axes(over, x.ndim)
        if not over and noop_if_empty:
            return f(x[..., None], (-1,), False)
        return f(x, over or tuple(range(x.ndim)), keepdims) if x.ndim else f(x[None], (0,), False)

    return run


def plain(f: Any) -> Any:
    return lambda *xs, **_: f(*xs)


def product(a: Any, b: Any, bias: Any = None, residual: Any = None, **how: Any) -> Any:
    acts = {"none": lambda x: x, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu6": F.relu6}
    if how["act"] not in acts:
        return None
    act = acts[how["act"]]
    a = a.mT if how["transpose_a"] and a.ndim > 1 else a
    b = b.mT if how["transpose_b"] and b.ndim > 1 else b
    y = how["alpha"] * torch.matmul(a, b)
    y = y if bias is None else y + bias
    if residual is None:
        return act(y)
    return act(y + residual) if how["act_after"] else act(y) + residual


def layer_norm(x: Any, scale: Any = None, bias: Any = None, *, axis: int, epsilon: float, **_: Any) -> Any:
    over = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(over, keepdim=True)
    y = (x - mean) / torch.sqrt(((x - mean) ** 2).mean(over, keepdim=True) + epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


UNARY = {n: getattr(torch, n) for n in (
    "abs", "neg", "sqrt", "rsqrt", "reciprocal", "square", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin",
    "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "sigmoid",
)}  # fmt: skip
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow, "minimum": torch.minimum,
          "maximum": torch.maximum, "atan2": torch.atan2, "squared_difference": lambda a, b: (a - b) ** 2}  # fmt: skip
ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "softplus": F.softplus, "softsign": F.softsign, "mish": F.mish,
               "hard_swish": F.hardswish}  # fmt: skip
OTHERS = {
    "leaky_relu": lambda x, alpha: F.leaky_relu(x, alpha),
    "elu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0))),
    "celu": lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0) / alpha)),
    "selu": lambda x, alpha, gamma: gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0))),
    "silu": lambda x, alpha: x * torch.sigmoid(alpha * x),
    "gelu": lambda x, approximate: F.gelu(x, approximate="tanh" if approximate else "none"),
    "softmax": lambda x, axis: torch.softmax(x, axis),
    "log_softmax": lambda x, axis: torch.log_softmax(x, axis),
    "reduce_sum": reduced(lambda x, a, k: x.sum(a, keepdim=k)),
    "reduce_mean": reduced(lambda x, a, k: x.mean(a, keepdim=k)),
    "reduce_l2": reduced(lambda x, a, k: (x * x).sum(a, keepdim=k) ** 0.5),
    "reduce_sum_square": reduced(lambda x, a, k: (x * x).sum(a, keepdim=k)),
    "reduce_log_sum_exp": reduced(lambda x, a, k: torch.logsumexp(x, a, keepdim=k)),
    "reduce_log_sum": reduced(lambda x, a, k: x.sum(a, keepdim=k).log()),
    "reduce_max": reduced(lambda x, a, k: torch.amax(x, a, k)),
    "reduce_min": reduced(lambda x, a, k: torch.amin(x, a, k)),
    "reduce_l1": reduced(lambda x, a, k: x.abs().sum(a, keepdim=k)),
    "reduce_prod": reduced(reduced_product),
    "matmul": product,
    "einsum": lambda *xs, equation: torch.einsum(equation.replace(" ", ""), *xs),
    "layer_norm": layer_norm,
    "where": lambda c, a, b: torch.where(torch.from_numpy(np.asarray(c)), a, b),
    "transpose": lambda x, perm=None: x.permute(tuple(perm) if perm else tuple(range(x.ndim))[::-1]),
    "concat": lambda *xs, axis: torch.cat(xs, axis),
    "expand": lambda x, shape: x * torch.ones(tuple(int(d) for d in shape), dtype=x.dtype),
    "identity": plain(lambda x: x.clone()),
}
TABLE = {**{k: plain(f) for k, f in {**UNARY, **BINARY, **ACTIVATIONS}.items()}, **OTHERS, **MORE}


# Places that float32 holds exactly: the op's own samples have others.
DOUBLED = np.random.default_rng(5).standard_normal((1, 3, 4, 2)).astype(np.float32)
MORE_SAMPLES = {
    "resize": [
        Sample(
            [DOUBLED, None, None, np.array([6, 2])],
            dict(axes=(1, 2), mode=mode, coordinates="half_pixel"),
            fixed=(1, 2),
        )
        for mode in ("linear", "cubic")
    ]
}


@pytest.mark.parametrize("name", TABLE)
def test_against_torch(name: str) -> None:
    op, checked = get(name), 0
    for what, s in [*cases(op), *((f"{name} {s}", s) for s in MORE_SAMPLES.get(name, ()))]:
        if not s.differentiable or not (s := in_float64(s)):
            continue
        floats = float_inputs(s)
        xs = [s.inputs[i] for i in floats]
        leaves = [torch.tensor(x, requires_grad=True) for x in xs]
        inputs = list(s.inputs)
        for i, t in zip(floats, leaves, strict=True):
            inputs[i] = t
        y = TABLE[name](*inputs, **complete(op, s))
        if y is None:
            continue
        draw = np.random.default_rng(3)  # as gradient_of draws them
        ys = y if isinstance(y, (tuple, list)) else (y,)
        gs = [draw.standard_normal(tuple(t.shape)) for t in ys]
        total = sum((t * torch.tensor(g)).sum() for t, g in zip(ys, gs, strict=True))
        first = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
        first = [torch.zeros_like(t) + 0 * t if d is None else d for d, t in zip(first, leaves, strict=True)]
        ours = partial_of(op, s).gradient(gs, *xs)
        for a, b in zip(ours, first, strict=True):
            np.testing.assert_allclose(
                a, b.detach().numpy(force=True), rtol=1e-9, atol=1e-9, err_msg=f"{what} first order"
            )
        checked += 1
        if any(x.size > 64 for x in xs):
            continue
        hs = [np.random.default_rng(4).standard_normal(x.shape) for x in xs]
        total = sum((d * torch.tensor(h)).sum() for d, h in zip(first, hs, strict=True))
        if not total.requires_grad:
            continue
        second = torch.autograd.grad(total, leaves, allow_unused=True)
        mine = gradient_of(op, s).gradient(hs, *xs)
        for a, b, x in zip(mine, second, xs, strict=True):
            want = np.zeros(x.shape) if b is None else b.numpy(force=True)
            np.testing.assert_allclose(a, want, rtol=1e-8, atol=1e-8, err_msg=f"{what} second order")
    assert checked, "no sample that PyTorch can say"
