"""Builds, predicts with and trains small stock Keras models on the backend named first; arrays go to the file named
second.  A program of its own: a process has one Keras backend."""

from __future__ import annotations

import os
import sys

if sys.argv[1] == "deploykit":
    import deploykit.keras_backend  # noqa: F401
else:
    os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers as L


def mlp():
    x = keras.Input((20,))
    h = L.Dense(16, activation="relu", kernel_regularizer="l2")(x)
    return keras.Model(x, L.Dense(4, activation="softmax")(L.Dropout(0.0)(h)))


def cnn():
    return keras.Sequential(
        [
            keras.Input((12, 12, 2)), L.Conv2D(8, 3, padding="same"), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(),
            L.DepthwiseConv2D(3, strides=2, padding="same"), L.Conv2D(8, 1, activation="gelu"), L.GlobalAveragePooling2D(),
            L.Dense(4, activation="softmax"),
        ]
    )  # fmt: skip


def recurrent():
    return keras.Sequential(
        [
            keras.Input((9,)), L.Embedding(30, 8, mask_zero=True), L.LSTM(8, return_sequences=True),
            L.Bidirectional(L.GRU(6)), L.Dense(4, activation="softmax"),
        ]
    )  # fmt: skip


def transformer():
    x = keras.Input((9, 8))
    h = L.LayerNormalization()(L.MultiHeadAttention(2, 4)(x, x) + x)
    return keras.Model(x, L.Dense(4, activation="softmax")(L.GlobalAveragePooling1D()(h)))


def exported(model, x):
    """What the engine says of the first five, from a file with any batch size."""
    import deploykit as dk

    report = model.export("model.dk")
    assert report.verification["status"] == "passed" and str(report.graph.inputs[0].shape[0]) == "batch"
    engine = dk.Interpreter("model.dk")
    (y,) = engine.run(x[:5].astype(engine.inputs[0].dtype)).values()
    return y


def main() -> None:
    r = np.random.RandomState(0)
    out = {}
    for make in (mlp, cnn, recurrent, transformer):
        model = make()
        shape = (48, *model.inputs[0].shape[1:])
        x = r.randint(0, 30, shape) if make is recurrent else r.rand(*shape).astype("float32")
        y = r.randint(0, 4, 48)
        for v in model.variables:
            if "seed" not in v.path:
                v.assign(r.rand(*v.shape).astype("float32") * 0.4 + (1 if "variance" in v.path else -0.2))
        loss = keras.losses.SparseCategoricalCrossentropy()
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
        name = make.__name__
        out[f"{name}/before"] = model.predict(x, batch_size=20, verbose=0)
        history = model.fit(x, y, epochs=3, batch_size=20, shuffle=False, verbose=0, validation_data=(x, y)).history
        for k, v in history.items():
            out[f"{name}/{k}"] = np.array(v)
        out[f"{name}/after"] = model.predict(x, batch_size=20, verbose=0)
        if sys.argv[1] == "deploykit":
            out[f"{name}/exported"] = exported(model, x)
    np.savez(sys.argv[2], **out)


main()
