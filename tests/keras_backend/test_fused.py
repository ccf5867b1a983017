"""A training step of stock Keras holds the engine's one-pass ops, and goes the long way where a subclass says otherwise."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.peers import have_keras

have_keras()
_PROGRAM = """
import collections, json
import deploykit, deploykit.keras_backend, keras, numpy as np
from keras import layers as L

class Centred(L.BatchNormalization):
    def _moments(self, inputs, mask):
        return keras.ops.zeros(4), keras.ops.ones(4)

class Slow(keras.optimizers.Adam):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)

def ops(layers, optimizer):
    seen, optimize = [], deploykit._optimize
    deploykit._optimize = lambda g: seen.append(optimize(g)) or seen[-1]
    net = keras.Sequential([keras.Input((6, 4)), *layers, L.Dense(2)])
    net.compile(optimizer, "mse")
    net.train_on_batch(np.ones((3, 6, 4), "float32"), np.zeros((3, 6, 2), "float32"))
    deploykit._optimize = optimize
    return collections.Counter(n.op for n in seen[-1].nodes)

print(json.dumps([
    ops([L.BatchNormalization(), L.LayerNormalization()], keras.optimizers.AdamW(1e-3)),
    ops([Centred(), L.LayerNormalization(axis=1)], Slow(1e-3)),
]))
r = np.random.default_rng(0)
x, y = r.normal(size=(4, 7, 3)).astype("float32"), r.normal(size=(4, 2)).astype("float32")
for kind in (L.LSTM, L.GRU):
    for args in ({}, dict(go_backwards=True, return_sequences=True), dict(use_bias=False)):
        nets = []
        for cudnn in ("auto", False):  # False: step by step
            keras.utils.set_random_seed(1)
            net = keras.Sequential([keras.Input((7, 3)), kind(5, use_cudnn=cudnn, **args), L.Flatten(), L.Dense(2)])
            net.compile(keras.optimizers.SGD(0.1), "mse")
            before = net.predict(x, verbose=0)
            losses = [net.train_on_batch(x, y) for _ in range(3)]
            nets.append([before, losses, net.predict(x, verbose=0), *net.get_weights()])
        for a, b in zip(*nets, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=f"{kind.__name__} {args}")
v = keras.Variable([2.0, 3.0])
with deploykit.GradientTape() as tape:
    y = keras.ops.sum(v * v)
kept = np.array(v.value)
v.assign([0.0, 0.0])
assert kept.tolist() == [2.0, 3.0]  # a copy, whatever the variable becomes
assert np.asarray(tape.gradient(y, v)).tolist() == [4.0, 6.0]  # a Keras variable, not the one inside
"""


@pytest.fixture(scope="module")
def counts() -> list[dict[str, int]]:
    done = subprocess.run([sys.executable, "-P", "-c", _PROGRAM], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_one_pass(counts: list[dict[str, int]]) -> None:
    got = counts[0]
    assert got["batch_norm_train"] == got["batch_norm_train_gradient"] == got["layer_norm"] == 1
    assert got["adam_update"] == 6 and "pow" in got and got["pow"] == 2  # gamma, beta twice; weight and bias


def test_the_long_way(counts: list[dict[str, int]]) -> None:
    assert not {"batch_norm_train", "layer_norm", "adam_update"} & set(counts[1])
