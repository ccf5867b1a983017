"""A model with a layer of one's own, for ``deploykit convert net.py:make``."""

import deploykit.keras_backend  # noqa: F401, I001  before Keras
import keras


class Scaled(keras.layers.Layer):
    """tanh(x * w) + mean(x)."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return keras.ops.tanh(x * self.w) + keras.ops.mean(x, axis=-1, keepdims=True)


def make():
    return keras.Sequential([keras.Input((6,)), Scaled(), keras.layers.Dense(2, name="scores")])
