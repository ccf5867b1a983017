"""Recurrent layers with dropout: traced, with the same masks on the way forth and back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.peers import have_keras

have_keras()
PROGRAM = """
import sys, warnings
import deploykit.keras_backend
import keras, numpy as np
warnings.simplefilter("error", UserWarning)  # a step that cannot be traced warns
keras.utils.set_random_seed(3)
layer = getattr(keras.layers, sys.argv[1])(4, dropout=0.4, recurrent_dropout=0.4)
model = keras.Sequential([keras.Input((5, 3)), layer])
r = np.random.default_rng(0)
x, y = r.standard_normal((8, 5, 3)).astype("float32"), r.standard_normal((8, 4)).astype("float32")
state = layer.cell.seed_generator.state
start = state.numpy().copy()
def loss():
    state.assign(start)
    return float(np.mean((model(x, training=True).numpy() - y) ** 2))
model.compile(keras.optimizers.SGD(1.0), "mse")
kernel = layer.cell.recurrent_kernel
before = [w.numpy().copy() for w in model.trainable_variables]
state.assign(start)
model.train_on_batch(x, y)
gradient = before[1] - kernel.numpy()
for w, b in zip(model.trainable_variables, before):
    w.assign(b)
way, h = r.standard_normal(kernel.shape).astype("float32"), 1e-2
kernel.assign(before[1] + h * way)
up = loss()
kernel.assign(before[1] - h * way)
found, want = (up - loss()) / (2 * h), float((gradient * way).sum())
assert abs(found - want) < 0.01 * abs(want) + 1e-4, (found, want)
"""


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_gradient_has_the_masks_of_the_forward_pass(layer: str) -> None:
    subprocess.run([sys.executable, "-P", "-c", PROGRAM, layer], check=True)
