"""Batch normalisation of a training step takes the activation behind it along, forward and backward."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from deploykit import keras
from deploykit.autodiff import numeric as N
from deploykit.autodiff.compiled import Function
from deploykit.autodiff.tape import GradientTape
from deploykit.converters.passes import fuse_training
from deploykit.converters.pipeline import CLEAN
from deploykit.graph import Graph
from deploykit.ops import F, GraphBuilder
from tests.support.rewrites import build, input_f32, rewrite

V = np.float32([0.5, -1.0, 2.0])


def step_graph(act: str, *, reader: bool = False) -> Graph:
    """Gradients of sum(act(bn(x)) ** 2), as traced."""

    def step(x, scale, bias):
        with GradientTape() as tape:
            tape.watch([x, scale, bias])
            y, _, _ = F.batch_norm_train(x, scale, bias)
            z = getattr(F, act)(y)
            loss = N.sum(z * z) + (N.sum(y * y) if reader else 0.0)
        return tape.gradient(loss, [x, scale, bias])

    graph = Function(step, optimize=lambda g: g).graph(np.ones((6, 2, 3), np.float32), V, V)
    for p in CLEAN:
        p.run(graph)
    return graph


@pytest.mark.parametrize("act", ["relu", "relu6"])
def test_both_ways(act: str) -> None:
    ops = Counter(rewrite(step_graph(act), fuse_training.run, CLEAN[-1].run))
    assert ops["batch_norm_train"] == ops["batch_norm_train_gradient"] == 1
    assert not ops.keys() & {"relu", "relu6", "where", "greater", "less", "logical_and"}, ops


def test_another_reader() -> None:
    """What is needed before the activation stays."""
    ops = rewrite(step_graph("relu", reader=True), fuse_training.run)
    assert "relu" in ops and "where" in ops


@pytest.mark.parametrize("what", ["threshold", "other", "x", "epsilon", "twice", "tanh"])
def test_refused(what: str) -> None:
    def make(b: GraphBuilder) -> object:
        x, g = input_f32(b, "x", 5, 3), input_f32(b, "g", 5, 3)
        act = "tanh" if what == "tanh" else "relu"
        y, mean, variance = b.op("batch_norm_train", x, V, V)
        y = b.op(act, y)
        low = np.float32(0.1 if what == "threshold" else 0)
        h = b.op("where", b.op("greater", y, low), g, np.float32(1 if what == "other" else 0))
        read = b.op("neg", x) if what == "x" else x
        eps = {"epsilon": 0.5} if what == "epsilon" else {}
        out = b.op("batch_norm_train_gradient", h, read, V, V, mean, variance, **eps)
        return (*out, h) if what == "twice" else out

    ops = rewrite(build(make), fuse_training.run)
    assert "where" in ops


def test_a_network() -> None:
    """In a traced Keras step nothing is left of the activations; the fused step trains as the eager one."""
    x, y = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype(np.float32), np.arange(8) % 3

    def model() -> keras.Model:
        keras.utils.set_random_seed(3)
        layers = [keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization(), keras.layers.ReLU(6.0)]
        m = keras.Sequential([keras.Input((6, 6, 2)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])
        return m

    losses = []
    for eager in (False, True):
        m = model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        m.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=eager)
        losses.append([float(m.train_on_batch(x, y)) for _ in range(4)])
        if not eager:
            (known,) = (k for f in m._functions.values() for k in f._known.values())
            ops = {n.op: n for n in known.graph.nodes}
            assert ops["batch_norm_train"].attrs["act"] == ops["batch_norm_train_gradient"].attrs["act"] == "relu6"
            assert "relu6" not in ops
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-5)
