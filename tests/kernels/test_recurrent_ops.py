"""The engine's lstm, gru and rnn against their references: every option, lengths, directions, activations, dtypes."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from deploykit.errors import DeploykitError
from deploykit.ops import F
from tests.support.engine import run_op

rng = np.random.default_rng(17)
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
OPTION = {"lstm": "input_forget", "gru": "linear_before_reset"}


def data(*shape, dtype=np.float32):
    return (rng.normal(size=shape) * 0.5).astype(dtype)


def inputs(op, t, b, i, h, dirs, batch_first, dtype=np.float32, bias=True, lengths=False, state=True, peephole=False):
    g = GATES[op]
    x = data(b, t, i, dtype=dtype) if batch_first else data(t, b, i, dtype=dtype)
    s = (b, dirs, h) if batch_first else (dirs, b, h)
    out = [x, data(dirs, g * h, i, dtype=dtype), data(dirs, g * h, h, dtype=dtype)]
    out.append(data(dirs, 2 * g * h, dtype=dtype) if bias else None)
    out.append(rng.integers(0, t + 1, b).astype(np.int32) if lengths else None)
    out.append(data(*s, dtype=dtype) if state else None)
    if op == "lstm":
        out.append(data(*s, dtype=dtype) if state else None)
        out.append(data(dirs, 3 * h, dtype=dtype) if peephole else None)
    return out


def check(op, ins, attrs, tolerance=3e-6):
    n = 3 if op == "lstm" else 2
    want = getattr(F, op)(*ins, **attrs)
    for g, w in zip(run_op(op, ins, attrs, n), want, strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        a, b = g.astype(np.float64), w.astype(np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", list(GATES))
def test_options(op, direction):
    dirs = 2 if direction == "bidirectional" else 1
    for first, bias, lengths, state, option in itertools.product((False, True), repeat=5):
        attrs = {"direction": direction, "batch_first": first}
        if op in OPTION:
            attrs[OPTION[op]] = option
        t, b, i, h = (int(v) for v in rng.integers(1, 8, 4))
        ins = inputs(op, t, b, i, h, dirs, first, bias=bias, lengths=lengths, state=state, peephole=bias and state)
        check(op, ins, attrs)
        check(op, ins, attrs | {"clip": 0.3})


@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize("sizes", [(12, 1, 64, 64), (5, 3, 40, 100), (3, 33, 17, 48), (4, 1, 30, 260)], ids=str)
def test_sizes(op, sizes):
    t, b, i, h = sizes
    for attrs in ({}, {"direction": "bidirectional"}, {"direction": "reverse", "batch_first": True}):
        ins = inputs(op, *sizes, 2 if attrs.get("direction") == "bidirectional" else 1, bool(attrs.get("batch_first")))
        ins[1:3] = [w * np.float32(1 / np.sqrt(h)) for w in ins[1:3]]
        check(op, ins, attrs, 1e-5)


FUNCTIONS = {
    "Affine": (1, 1),
    "Elu": (1, 0),
    "HardSigmoid": (1, 1),
    "LeakyRelu": (1, 0),
    "Relu": (0, 0),
    "ScaledTanh": (1, 1),
    "Sigmoid": (0, 0),
    "Softplus": (0, 0),
    "Softsign": (0, 0),
    "Tanh": (0, 0),
    "ThresholdedRelu": (1, 0),
}


@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_activations(op, name):
    n = {"lstm": 3, "gru": 2, "rnn": 1}[op]
    for dirs in (1, 2):
        names = rng.permutation([name, "tanh", "Sigmoid"])[:n].tolist()
        names = (names + [name, "Softsign", "relu"][:n])[: n * dirs]
        attrs = {"activations": ", ".join(names), "direction": "bidirectional" if dirs == 2 else "forward"}
        check(op, inputs(op, 4, 2, 3, 5, dirs, False), attrs)
        a, b = FUNCTIONS[name]
        attrs["activation_alpha"] = (0.4,) * (a * sum(v == name for v in names))
        attrs["activation_beta"] = (0.3,) * (b * sum(v == name for v in names))
        check(op, inputs(op, 4, 2, 3, 5, dirs, False), attrs)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("op", list(GATES))
def test_dtypes(op, dtype):
    tolerance = {np.float64: 1e-14, np.float16: 1e-3}.get(dtype, 8e-3)
    for dirs, first in ((1, False), (2, True)):
        attrs = {"batch_first": first, "direction": "bidirectional" if dirs == 2 else "forward"}
        ins = inputs(op, 5, 3, 4, 6, dirs, first, dtype, lengths=True, peephole=True)
        check(op, ins, attrs, tolerance)


@pytest.mark.parametrize("op", list(GATES))
def test_empty(op):
    for t, b, i, h in [(0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4)]:
        check(op, inputs(op, t, b, i, h, 1, False), {})


def test_wrong():
    ins = inputs("lstm", 3, 2, 4, 5, 1, False)
    with pytest.raises(DeploykitError, match="DK-SHAPE.*dim 1 of w"):
        run_op("lstm", [ins[0], ins[1][:, :19], *ins[2:]], {}, 3)
    with pytest.raises(DeploykitError, match="DK-UNSUPPORTED.*'Foo'"):
        run_op("lstm", ins, {"activations": "Sigmoid, Foo, Tanh"}, 3)
    with pytest.raises(DeploykitError, match="fewer than 3"):
        run_op("lstm", ins, {"activations": "Sigmoid,Tanh"}, 3)
    with pytest.raises(DeploykitError, match="more than 3"):
        run_op("lstm", ins, {"activations": "Sigmoid,Tanh,Tanh,Tanh"}, 3)
    ins[4] = np.array([3, 9], np.int32)
    with pytest.raises(DeploykitError, match=r"DK-INDEX.*lengths\[1\] is 9"):
        run_op("lstm", ins, {}, 3)
