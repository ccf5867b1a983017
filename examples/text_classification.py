"""A transformer encoder that tells the subject of a saying from its words."""

import re
from collections import Counter

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L

from examples import common, data

SUBJECTS = ("computers", "definitions", "songs-poems", "startrek", "zippy")
WORDS, LENGTH, WIDTH = 4000, 64, 48


def words(text):
    """Lower-case words and marks."""
    return re.findall(r"[a-z']+|[.,:;!?\"*-]|\d+", text.lower())


def numbers(texts, table):
    """Rows of LENGTH word numbers: 0 is padding, 1 an unknown word."""
    rows = np.zeros((len(texts), LENGTH), np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [table.get(w, 1) for w in words(text)[:LENGTH]]
        row[: len(ids)] = ids
    return rows


class Embedding(L.Layer):
    """Words and their places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words, self.places = L.Embedding(WORDS, WIDTH), L.Embedding(LENGTH, WIDTH)

    def build(self, shape):
        self.words.build(shape)
        self.places.build(shape)

    def call(self, x):
        return self.words(x) + self.places(keras.ops.arange(LENGTH))


def network():
    """One encoder block; padded places are masked."""
    inputs = keras.Input((LENGTH,), dtype="int32", name="words")
    there = keras.ops.not_equal(inputs, 0)
    x = Embedding()(inputs)
    h = L.MultiHeadAttention(4, WIDTH // 4, dropout=0.1)(x, x, attention_mask=keras.ops.expand_dims(there, 1))
    x = L.LayerNormalization()(x + L.Dropout(0.2)(h))
    h = L.Dense(WIDTH)(L.Dense(2 * WIDTH, activation="gelu")(x))
    x = L.LayerNormalization()(x + L.Dropout(0.2)(h))
    x = L.Dropout(0.4)(L.GlobalAveragePooling1D()(x, mask=there))
    return keras.Model(inputs, L.Dense(len(SUBJECTS), activation="softmax", name="subject")(x))


def main(quick, out):
    texts, y = data.fortunes(SUBJECTS)
    n = 800 if quick else len(texts)
    cut = n * 4 // 5
    common_words = Counter(w for t in texts[:cut] for w in words(t)).most_common(WORDS - 2)
    table = {w: i + 2 for i, (w, _) in enumerate(common_words)}
    x, y = numbers(texts[:n], table), y[:n]
    model = network()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=3, restore_best_weights=True)
    model.fit(
        x[:cut], y[:cut], batch_size=32, epochs=2 if quick else 15, verbose=2, callbacks=[stop], validation_split=0.1
    )
    _, accuracy = model.evaluate(x[cut:], y[cut:], verbose=0)
    largest = float(np.bincount(y[cut:]).max() / len(y[cut:]))
    print(f"test accuracy {accuracy:.3f} (always the largest subject: {largest:.3f})")
    made = common.deliver(model, out, "What is it about?", x[:16], SUBJECTS)
    return {"accuracy": round(accuracy, 4), "largest_class": round(largest, 4), **made}


if __name__ == "__main__":
    common.run(main)
