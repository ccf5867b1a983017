"""Reads lines of scanned digits of any number without being told where each is: convolutions, recurrence, CTC."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L

from examples import common, data

HEIGHT, WIDE, MOST = 12, 72, 6


def lines(x, y, n, seed):
    """Scans beside each other at random heights and distances: pictures [n, 12, 72, 1], labels of 1..10, 0 behind."""
    draw = np.random.default_rng(seed)
    pictures, labels = np.zeros((n, HEIGHT, WIDE, 1), np.float32), np.zeros((n, MOST), np.int32)
    for picture, label in zip(pictures, labels, strict=True):
        at = draw.integers(0, 6)
        for k in range(draw.integers(3, MOST + 1)):
            i, top = draw.integers(len(x)), draw.integers(0, HEIGHT - 7)
            picture[top : top + 8, at : at + 8] = x[i]
            label[k] = y[i] + 1
            at += 8 + draw.integers(0, 4)
    return pictures, labels


def network():
    """A picture to 36 columns of 11 logits; 0 is CTC's blank."""
    x = inputs = keras.Input((HEIGHT, WIDE, 1), name="line")
    x = L.Rescaling(1 / 16)(x)
    x = L.MaxPooling2D(2)(L.Conv2D(32, 3, padding="same", activation="relu")(x))
    x = L.MaxPooling2D((2, 1))(L.Conv2D(48, 3, padding="same", activation="relu")(x))
    x = L.Reshape((WIDE // 2, HEIGHT // 4 * 48))(L.Permute((2, 1, 3))(x))
    x = L.Dense(48, activation="relu")(x)
    x = L.Bidirectional(L.GRU(32, return_sequences=True))(x)
    return keras.Model(inputs, L.Dense(11, name="columns")(x))


def read(logits):
    """Best label per column, repeats merged, blanks dropped."""
    out = []
    for row in logits.argmax(-1):
        kept = row[np.insert(row[1:] != row[:-1], 0, True)]
        out.append("".join(str(c - 1) for c in kept if c))
    return out


def main(quick, out):
    (x, y), (tx, ty) = data.digits()
    given, labels = lines(x, y, 400 if quick else 6000, 0)
    shown, answers = lines(tx, ty, 100 if quick else 1000, 1)  # of scans that were not trained on
    model = network()
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.CTC())
    model.fit(given, labels, batch_size=32, epochs=1 if quick else 8, verbose=2)
    found = read(model.predict(shown, verbose=0))
    wanted = ["".join(str(c - 1) for c in row if c) for row in answers]
    right = float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))
    print(f"{right:.3f} of the lines read without a mistake; for example {wanted[0]} as {found[0]}")
    made = common.deliver(model, out, "Read a line of digits", shown[:16])
    return {"lines_right": round(right, 3), **made}


if __name__ == "__main__":
    common.run(main)
