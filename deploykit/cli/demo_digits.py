"""The first half of ``deploykit demo``: train a classifier of handwritten digits, look at it, export it, check it,
quantize it."""

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
    figures["int8"] = quantized(folder, x, tx, ty, say)
    figures["tunable"] = tunable(model, folder / "digits-tune.dk", metadata)
    say(
        f"   and with its training step inside, to teach the last layer anywhere: {figures['tunable']['bytes'] / 1e3:.1f} kB"
    )
    return figures


def tunable(trained: Any, path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """The classifier with a frozen body and the step that trains its last layer, as one file with two signatures.

    Layers that only act in training (shifts, dropout) are left out, so that a step depends on its examples alone.  The
    output is raw scores: behind a softmax, the loss has no slope where the model is sure and wrong.
    """
    from deploykit import keras

    layers = [
        layer
        for layer in trained.layers
        if not isinstance(layer, (keras.layers.RandomTranslation, keras.layers.Dropout))
    ]
    copies = [type(layer).from_config(layer.get_config()) for layer in layers]
    copies[-1].activation = keras.activations.linear
    model = keras.Sequential([keras.Input((8, 8, 1), name="image"), *copies], name="digits")
    for old, new in zip(layers, copies, strict=True):
        new.set_weights(old.get_weights())
        new.trainable = new is copies[-1]
    loss: Any = keras.losses.SparseCategoricalCrossentropy  # takes its arguments at run time
    model.compile(keras.optimizers.Adam(0.03), loss(from_logits=True), metrics=["accuracy"])
    report = model.export(path, signatures=("infer", "train"), metadata=metadata)
    return {"bytes": path.stat().st_size, "verified": report.verification["status"]}


def quantized(
    folder: Path, x: np.ndarray, tx: np.ndarray, ty: np.ndarray, say: Callable[[str], None]
) -> dict[str, Any]:
    """The classifier in 8 bits, ranges taken from training images; how good, small and fast it is."""
    import deploykit as dk
    from deploykit.cli import bench_cmd

    source, path = folder / "digits.dk", folder / "digits-int8.dk"
    dk.convert(source, path, quantize="int8", calibration=[{"image": a[None]} for a in x[:200]])
    models = {"float": dk.Interpreter(source, threads=1), "int8": dk.Interpreter(path, threads=1)}
    right = {k: float((m.run({"image": tx})["digit"].argmax(1) == ty).mean()) for k, m in models.items()}
    times = bench_cmd.measure(models, {"image": tx[:1]}, 40)["runtimes"]
    size = path.stat().st_size
    say(
        f"   in 8 bits: {size / 1e3:.1f} kB, {100 * right['int8']:.1f} % right (float {100 * right['float']:.1f} %), "
        f"{1e3 * times['int8']['median_ms']:.0f} µs an image (float {1e3 * times['float']['median_ms']:.0f})"
    )
    return {"bytes": size, "accuracy": right["int8"], "bench": times}


def _yes(x: bool) -> str:
    return "yes" if x else "no"
