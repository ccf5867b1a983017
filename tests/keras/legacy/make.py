"""Writes the files of this folder with Keras 2 (the package tf_keras, which needs tensorflow): ``python make.py``.

Each ``NAME.h5`` is a whole model by ``model.save``; ``answers.npz`` holds an input and Keras' answer for each.
"""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tf_keras as keras

L = keras.layers
HERE = Path(__file__).parent


def cnn():
    """Convolutions, folded statistics, odd paddings."""
    return keras.Sequential(
        [
            L.Conv2D(4, 3, padding="same", activation="relu", input_shape=(8, 8, 3)),
            L.BatchNormalization(),
            L.DepthwiseConv2D(3, strides=2, padding="same", activation="hard_sigmoid"),
            L.SeparableConv2D(5, 3, padding="same"),
            L.LeakyReLU(alpha=0.2),
            L.Dropout(0.3),
            L.Conv2DTranspose(3, 3, strides=2, padding="same"),
            L.GlobalAveragePooling2D(),
            L.Dense(3, activation="softmax"),
        ],
        name="cnn",
    )


def branches():
    """A functional model: a model inside, a layer used twice, a keyword tensor, two outputs."""
    i = keras.Input((6,), name="x")
    inner = keras.Sequential([L.Dense(5, activation="tanh", input_shape=(6,)), L.BatchNormalization()], name="inner")
    shared = L.Dense(5, name="shared")
    a = inner(i)
    b = L.Add()([shared(L.Dense(6, name="first")(i)), a])
    c = L.Concatenate()([b, shared(i)])
    seq = L.Reshape((2, 5))(c)
    att = L.MultiHeadAttention(2, 3, name="mha")(seq, seq)
    return keras.Model(
        i, [L.Dense(2, name="one")(c), L.Flatten()(L.LayerNormalization(name="ln")(att))], name="branches"
    )


def recurrent():
    """LSTM, GRU and the wrappers."""
    i = keras.Input((7, 4), name="x")
    y = L.Bidirectional(L.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid"))(i)
    y = L.TimeDistributed(L.Dense(4))(y)
    return keras.Model(i, L.SimpleRNN(2)(L.GRU(3, return_sequences=True)(y)), name="recurrent")


def frozen():
    """Layers that do not train come last in the weights of a model within a model."""
    inner = keras.Sequential([L.Dense(4, input_shape=(4,)), L.Dense(4), L.PReLU()], name="inner")
    inner.layers[0].trainable = False
    return keras.Sequential([inner, L.Dense(2, trainable=False)], name="frozen")


if __name__ == "__main__":
    answers = {}
    for make in (cnn, branches, recurrent, frozen):
        keras.utils.set_random_seed(7)
        model = make() if make is not frozen else frozen()
        if make is frozen:
            model.build((None, 4))
        r = np.random.default_rng(7)
        for v in model.weights:
            v.assign(np.asarray(r.uniform(0.2, 0.8, v.shape) if "variance" in v.name else r.normal(0, 0.4, v.shape)))
        model.compile("adam", "mse")
        name = make.__name__
        x = r.standard_normal((2, *model.input_shape[1:])).astype(np.float32)
        got = model(x, training=False)
        answers[f"{name}/x"] = x
        for k, y in enumerate(got if isinstance(got, (list, tuple)) else [got]):
            answers[f"{name}/{k}"] = np.asarray(y)
        model.save(HERE / f"{name}.h5", save_format="h5", include_optimizer=False)
    np.savez_compressed(HERE / "answers.npz", **answers)
