"""Applications of real Keras with random weights: saved by Keras, converted and run here.

python -m tests.support.keras_applications [--h5] [NAME ...]     one line each: error relative to the largest output
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import deploykit as dk
from tests.keras.parity import rng, theirs

# name -> image size, no larger than it must be
APPLICATIONS = {
    "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "MobileNetV3Large": 64, "EfficientNetB0": 64,
    "EfficientNetB1": 64, "EfficientNetV2B0": 64, "DenseNet121": 64, "ResNet50": 64, "ResNet50V2": 64, "InceptionV3": 75,
    "InceptionResNetV2": 75, "Xception": 71, "VGG16": 32, "ConvNeXtTiny": 64,
}  # fmt: skip


def randomize(model: Any, seed: int = 0) -> None:
    """Statistics and affine weights away from 0 and 1, so that none can be lost unseen."""
    r = rng(seed)
    for w in model.weights:
        kind = w.path.rsplit("/", 1)[-1]
        if "variance" in kind:
            w.assign(r.uniform(0.5, 1.5, w.shape))
        elif kind in ("beta", "moving_mean", "bias"):
            w.assign(r.normal(0, 0.1, w.shape))
        elif kind in ("gamma", "scale") or "layer_scale" in w.path:
            w.assign(r.normal(1, 0.1, w.shape))


def save(name: str, path: Path) -> Any:
    """The model, and its file written by Keras."""
    size = APPLICATIONS[name]
    theirs.utils.set_random_seed(1)
    make = getattr(theirs.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    randomize(model)
    model.save(path)
    return model


def check(name: str, folder: Path, kind: str = ".keras") -> tuple[float, int]:
    """(largest error over largest output, transposes left)."""
    model = save(name, folder / f"m{kind}")
    report = dk.convert(folder / f"m{kind}", folder / "m.dk", verify=False)
    x = rng(3).uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    want = model(x).detach().numpy()
    (got,) = dk.Interpreter(folder / "m.dk").run(x).values()
    assert np.isfinite(want).all() and np.ptp(want) > 0
    return float(np.abs(got - want).max() / np.abs(want).max()), report.transposes_left


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        kind = ".h5" if "--h5" in sys.argv else ".keras"
        for name in [a for a in sys.argv[1:] if a != "--h5"] or APPLICATIONS:
            error, left = check(name, Path(folder), kind)
            print(f"{name}: {error:.1e}, {left} transposes left", flush=True)
