"""The first half of ``deploykit demo``: train a classifier of handwritten digits, look at it, export it, check it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS = 30


def build() -> Any:
    """A small convolutional network; scaling and random shifts are layers, so that they ship inside (shifts only
    happen while training)."""
    from deploykit import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Rescaling(1 / 16),
            layers.RandomTranslation(0.12, 0.12, fill_mode="constant", seed=1),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


def run(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, plot, export, compare; returns the figures."""
    import deploykit as dk
    from deploykit import keras
    from deploykit.data import digits

    keras.utils.set_random_seed(0)
    (x, y), (tx, ty) = digits()
    x, tx = (a[..., None].astype(np.float32) for a in (x, tx))
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    history = model.fit(x, y, batch_size=32, epochs=EPOCHS, validation_data=(tx, ty), verbose=0)
    seconds = time.perf_counter() - started
    loss, accuracy = model.evaluate(tx, ty, verbose=0)
    history.plot(folder / "digits-training.svg")
    model.plot(folder / "digits-model.svg")
    say(
        f"   {len(x)} images, {EPOCHS} epochs in {seconds:.1f} s: {100 * accuracy:.1f} % of {len(tx)} unseen digits right "
        f"({model.count_params():,} weights)"
    )
    say(f"   curves in {folder / 'digits-training.svg'}, architecture in {folder / 'digits-model.svg'}")

    metadata = {"labels": [str(i) for i in range(10)], "preprocessing": {"range": [0.0, 16.0]}}
    want = model.predict(tx, verbose=0)
    figures: dict[str, Any] = {"accuracy": accuracy, "seconds": seconds, "exports": {}}
    for suffix in (".dk", ".onnx"):
        path = folder / f"digits{suffix}"
        report = model.export(path, metadata=metadata)
        figures["exports"][suffix] = {"bytes": path.stat().st_size, "verified": report.verification["status"]}
    got = dk.Interpreter(folder / "digits.dk").run({"image": tx})["digit"]
    figures["same_answer"] = bool(np.abs(got - want).max() <= 1e-5 and (got.argmax(1) == want.argmax(1)).all())
    sizes = ", ".join(f"{k} {v['bytes'] / 1e3:.1f} kB ({v['verified']})" for k, v in figures["exports"].items())
    say(
        f"   exported and checked against the model: {sizes}; the same answers on all test images: {_yes(figures['same_answer'])}"
    )
    return figures


def _yes(x: bool) -> str:
    return "yes" if x else "no"
