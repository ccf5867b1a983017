"""The heavy command: models that TensorFlow's own converter writes, imported and held against LiteRT.

    python -m tests.support.tensorflow_models [--only TEXT] [--docs]

Needs tensorflow (not part of any extra).  Keras applications with seeded random weights and layers that the converter
writes in its own ways, each in float, float16, dynamic-range, int8 and int16x8 form.  ``--docs`` writes the results to
docs/tflite-results.md.  Bounds are those of tests/models/test_tflite_models.py; chains of
int8 ops may add up to two steps, or twice what LiteRT's own kernels differ.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DOCS = Path(__file__).parents[2] / "docs" / "tflite-results.md"
FORMS = ("float", "float16", "dynamic", "int8", "int16x8")


def models() -> dict[str, tuple[Callable[[], Any], tuple[int, ...]]]:
    """name -> (maker of a Keras model, input shape without batch)."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from keras import applications as a
    from keras import layers as l

    def app(name: str, size: int = 64) -> tuple[Callable[[], Any], tuple[int, ...]]:
        # without softmax, which would hide differences of random weights
        kw = {} if name == "NASNetMobile" else {"classifier_activation": None}
        return lambda: getattr(a, name)(weights=None, input_shape=(size, size, 3), classes=10, **kw), (size, size, 3)

    def net(shape: tuple[int, ...], *layers: Any) -> tuple[Callable[[], Any], tuple[int, ...]]:
        return lambda: keras.Sequential([keras.Input(shape), *(make() for make in layers)]), shape

    seq = (12, 6)
    return {
        "MobileNet": app("MobileNet"),
        "MobileNetV2": app("MobileNetV2"),
        "MobileNetV3Small": app("MobileNetV3Small"),
        "EfficientNetB0": app("EfficientNetB0"),
        "EfficientNetV2B0": app("EfficientNetV2B0"),
        "ResNet50": app("ResNet50"),
        "ResNet50V2": app("ResNet50V2"),
        "DenseNet121": app("DenseNet121"),
        "NASNetMobile": app("NASNetMobile", 96),
        "Xception": app("Xception", 72),
        "InceptionV3": app("InceptionV3", 75),
        "ConvNeXtTiny": app("ConvNeXtTiny"),
        "LSTM": net(seq, lambda: l.LSTM(8), lambda: l.Dense(3)),
        "LSTM sequences": net(seq, lambda: l.LSTM(8, return_sequences=True), lambda: l.Dense(3)),
        "LSTM unrolled": net(seq, lambda: l.LSTM(8, unroll=True), lambda: l.Dense(3)),
        "GRU": net(seq, lambda: l.GRU(8), lambda: l.Dense(3)),
        "bidirectional": net(seq, lambda: l.Bidirectional(l.LSTM(8, return_sequences=True)), lambda: l.Dense(3)),
        "convolution 1-D": net(
            (32, 4), lambda: l.Conv1D(8, 5, 2, "causal", activation="gelu"), lambda: l.GlobalMaxPool1D()
        ),
        "transposed": net(
            (9, 9, 4), lambda: l.Conv2DTranspose(6, 3, 2, "same", activation="relu"), lambda: l.UpSampling2D(2)
        ),
        "dilated": net((20, 20, 4), lambda: l.Conv2D(6, 3, dilation_rate=3, padding="same"), lambda: l.LeakyReLU()),
        "norms": net((9, 8), lambda: l.LayerNormalization(), lambda: l.Dense(8, "silu"), lambda: l.UnitNormalization()),
        "separable": net(
            (20, 20, 4), lambda: l.SeparableConv2D(8, 3, activation="elu"), lambda: l.PReLU(shared_axes=[1, 2])
        ),
        "pads": net(
            (8, 8, 3), lambda: l.ZeroPadding2D(((1, 2), (0, 3))), lambda: l.Cropping2D(1), lambda: l.AveragePooling2D(2)
        ),
        "volumes": net((6, 8, 8, 2), lambda: l.Conv3D(4, 3, padding="same"), lambda: l.GlobalAveragePooling3D()),
    }


def converted(model: Any, shape: tuple[int, ...], form: str) -> bytes:
    """The model by TensorFlow's converter."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        spec = tf.TensorSpec((1, *shape), tf.float32)
        model.export(folder, format="tf_saved_model", input_signature=[spec], verbose=False)
        return _converted(tf, tf.lite.TFLiteConverter.from_saved_model(folder), shape, form)


def _converted(tf: Any, c: Any, shape: tuple[int, ...], form: str) -> bytes:
    if form != "float":
        c.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        c.target_spec.supported_types = [tf.float16]
    if form in ("int8", "int16x8"):
        r = np.random.default_rng(1)
        c.representative_dataset = lambda: ([r.random((1, *shape), np.float32)] for _ in range(20))
        kind = (
            "TFLITE_BUILTINS_INT8"
            if form == "int8"
            else ("EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8")
        )
        c.target_spec.supported_ops = [getattr(tf.lite.OpsSet, kind)]
        if form == "int8":
            c.inference_input_type = c.inference_output_type = tf.int8
    return c.convert()


def judged(data: bytes, shape: tuple[int, ...], form: str) -> str:
    """'ok ...' or what is wrong: our engine against LiteRT on seeded inputs."""
    import deploykit as dk
    from deploykit.graph.dkfile import to_bytes
    from deploykit.runners import LiteRtRunner, difference

    theirs, quick = LiteRtRunner(data, 1, optimize=False), LiteRtRunner(data, 2)
    ours = dk.Interpreter(to_bytes(dk.convert(data, verify=False).graph))
    (spec,) = theirs.inputs
    r = np.random.default_rng(2)
    x = r.random((1, *shape), np.float32)
    x = np.round(x * 255 - 128).astype(np.int8) if spec.dtype == "int8" else x
    want, got = theirs.run({spec.name: x}), ours.run({spec.name: x})
    try:
        noisy = quick.run({spec.name: x})
    except RuntimeError:
        noisy = want
    # LiteRT rounds multipliers of 16-bit layers to 16 bits, and the activations of dynamic layers to 8, which we do not
    least = {"int16x8": 1e-3, "dynamic": 3e-2}.get(form, 1e-4)
    worst = []
    for k, w in want.items():
        if got[k].shape != w.shape or got[k].dtype != w.dtype:
            return f"{got[k].dtype}{got[k].shape} for {w.dtype}{w.shape}"
        error, scale = difference(w, got[k])
        if w.dtype.kind == "f":
            bound = max(least * scale, 4 * difference(w, noisy[k])[0])
            worst.append((error <= bound, f"{error / max(scale, 1e-30):.1e} of max"))
        else:
            own = difference(w, noisy[k])[0]  # LiteRT's plain kernels from its optimised ones
            text = f"{int(error)} steps, {(w == got[k]).mean():.1%} equal" + (
                f" (LiteRT's own: {int(own)})" if own else ""
            )
            worst.append((error <= max(2, 2 * own), text))
    return ("ok, " if all(ok for ok, _ in worst) else "differs, ") + "; ".join(t for _, t in worst)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 1 when something differs."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--only", default="", help="parts of the names to run, with commas")
    p.add_argument("--forms", default=",".join(FORMS))
    p.add_argument("--docs", action="store_true")
    a = p.parse_args(argv)
    rows: dict[str, dict[str, str]] = {}
    for name, (make, shape) in models().items():
        if not any(part in name for part in a.only.split(",")):
            continue
        import keras

        keras.utils.set_random_seed(3)
        model = make()
        for v in model.variables:  # statistics and scales that matter
            if v.name in ("moving_mean", "beta", "bias"):
                v.assign(np.random.default_rng(4).normal(0, 0.1, v.shape))
        for form in a.forms.split(","):
            if form.startswith("int") and ("LSTM" in name or name in ("GRU", "bidirectional")):
                continue  # the converter's own calibration crashes on loops
            try:
                data = converted(model, shape, form)
            except Exception as e:  # its converter raises whatever it likes
                outcome = f"not converted by TensorFlow: {str(e).splitlines()[0][:60]}"
            else:
                try:
                    outcome = judged(data, shape, form)
                except Exception as e:
                    outcome = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
            rows.setdefault(name, {})[form] = outcome
            print(f"{name}, {form}: {outcome}", flush=True)
    if a.docs:
        lines = [
            "# Models of TensorFlow's converter",
            "",
            "Written by `python -m tests.support.tensorflow_models --docs`: our engine against LiteRT's plain kernels.",
            "",
            "| model | " + " | ".join(FORMS) + " |",
            "|" + " --- |" * (len(FORMS) + 1),
            *(f"| {n} | " + " | ".join(r.get(f, "") for f in FORMS) + " |" for n, r in rows.items()),
            "",
        ]
        DOCS.write_text("\n".join(lines), encoding="utf-8")
    return int(any(not o.startswith(("ok", "not converted")) for r in rows.values() for o in r.values()))


if __name__ == "__main__":
    sys.exit(main())
