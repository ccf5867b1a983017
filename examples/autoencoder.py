"""A convolutional autoencoder that takes noise out of pictures."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L

from examples import common, data


def network():
    """28 x 28 pixels through 7 x 7 x 8 numbers and back."""
    x = inputs = keras.Input((28, 28, 1), name="noisy")
    for filters in (16, 32):
        x = L.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="code")(x)
    for filters in (32, 16):
        x = L.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Conv2D(1, 3, padding="same", activation="sigmoid", name="clean")(x))


def psnr(a, b):
    """Peak signal to noise ratio in decibels."""
    return float(10 * np.log10(1 / np.mean(np.square(a - b))))


def main(quick, out):
    (x, _), (tx, _) = data.fashion(1500 if quick else 20000, 200 if quick else 2000)
    x, tx = x / 255, tx / 255
    draw = np.random.default_rng(0)

    def noisy(a):
        return np.clip(a + draw.normal(0, 0.3, a.shape), 0, 1).astype(np.float32)

    given, shown = noisy(x), noisy(tx)
    model = network()
    model.compile(keras.optimizers.Adam(2e-3), "mean_squared_error")
    model.fit(given, x, batch_size=64, epochs=1 if quick else 4, verbose=2)
    before, after = psnr(shown, tx), psnr(model.predict(shown, batch_size=250, verbose=0), tx)
    print(f"PSNR {before:.1f} dB with noise, {after:.1f} dB cleaned")
    made = common.deliver(model, out, "Take out the noise", shown[:16])
    return {"psnr_noisy": round(before, 2), "psnr_cleaned": round(after, 2), **made}


if __name__ == "__main__":
    common.run(main)
