"""Hears in a second of recorded speech which language it is; the mel spectrogram is a layer of the model."""

import deploykit.keras_backend  # noqa: F401

# isort: split
import keras
import numpy as np
from keras import layers as L

from examples import common, data

LANGUAGES = {"en": "English", "fr": "French", "it": "Italian"}
RATE = 8000


def network():
    """A second of samples of -1..1 in, probabilities of the languages out."""
    x = inputs = keras.Input((RATE,), name="audio")
    mel = L.MelSpectrogram(
        fft_length=256, sequence_stride=128, sampling_rate=RATE, num_mel_bins=40, min_freq=80, top_db=1000.0
    )
    x = L.Rescaling(1 / 40, 1)(mel(x))
    x = L.Reshape((40, -1, 1))(x)
    for filters in (16, 32, 48):
        x = L.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = L.MaxPooling2D(2)(L.ReLU()(L.BatchNormalization(momentum=0.9)(x)))
    x = L.Dropout(0.3)(L.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, L.Dense(len(LANGUAGES), activation="softmax", name="language")(x))


def recordings(most):
    """Training and test pieces of different recordings."""
    sets = ([], []), ([], [])
    for k, language in enumerate(LANGUAGES):
        files = data.speech(language)
        np.random.default_rng(0).shuffle(files)
        cut = len(files) * 4 // 5
        for (xs, ys), some in zip(sets, (files[:cut], files[cut:]), strict=True):
            pieces = [p for f in some for p in f][:most]
            xs += pieces
            ys += [k] * len(pieces)
    return [(np.stack(xs), np.array(ys, np.int32)) for xs, ys in sets]


def main(quick, out):
    (x, y), (tx, ty) = recordings(100 if quick else 10000)
    model = network()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=32, epochs=1 if quick else 10, verbose=2)
    _, accuracy = model.evaluate(tx, ty, verbose=0)
    print(f"test accuracy {accuracy:.3f} on {len(tx)} seconds of recordings that were not trained on")
    made = common.deliver(model, out, "Which language is it?", tx[:8], list(LANGUAGES.values()))
    return {"accuracy": round(accuracy, 4), "train_seconds": len(x), "test_seconds": len(tx), **made}


if __name__ == "__main__":
    common.run(main)
