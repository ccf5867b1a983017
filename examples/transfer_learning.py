"""A network that others trained to tell facial expressions learns from 100 pictures to tell faces from other things."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L

from examples import common, data


def network(pretrained):
    """25 x 25 grey pixels of 0..255 in, probability of a face out; the body comes with its weights or without."""
    body = keras.models.load_model(data.emotion_model(), compile=False)
    if not pretrained:
        body = keras.models.clone_model(body)
    middle = [layer for layer in body.layers if isinstance(layer, (L.Add, L.MaxPooling2D))][-1]
    body = keras.Model(body.input, middle.output, name="body")
    body.trainable = False
    x = inputs = keras.Input((25, 25, 1), name="picture")
    x = L.Rescaling(1 / 127.5, -1)(L.Resizing(64, 64)(x))  # as it was trained: -1..1
    x = L.GlobalAveragePooling2D()(body(x, training=False))
    return keras.Model(inputs, L.Dense(1, activation="sigmoid", name="face")(L.Dropout(0.2)(x))), body


def train(pretrained, train_set, test_set, epochs):
    """The head first, then everything with a small rate; test accuracy after each."""
    model, body = network(pretrained)
    scores = []
    for trainable, rate, n in ((False, 1e-2, epochs), (True, 1e-4, epochs // 3)):
        body.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
        model.fit(*train_set, batch_size=20, epochs=n, verbose=0)
        scores.append(round(model.evaluate(*test_set, verbose=0)[1], 3))
    return model, scores


def main(quick, out):
    x, y = data.faces()
    cut = 60 if quick else 100
    train_set, test_set = (x[:cut], y[:cut]), (x[cut : cut + 100], y[cut : cut + 100])
    epochs = 3 if quick else 30
    model, scores = train(True, train_set, test_set, epochs)
    print(f"test accuracy: head alone {scores[0]}, after fine-tuning {scores[1]}")
    result = {"head": scores[0], "fine_tuned": scores[1]}
    if not quick:
        result["without_pretraining"] = train(False, train_set, test_set, epochs)[1][1]
        print(f"the same without the others' weights: {result['without_pretraining']}")
    return {**result, **common.deliver(model, out, "Is it a face?", np.ascontiguousarray(x[:8]))}


if __name__ == "__main__":
    common.run(main)
