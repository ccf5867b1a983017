"""Whole models in .h5 files: of Keras 2 (stored, see legacy/make.py) and of Keras 3 (saved here)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import DeploykitError, FormatError, InputError, UnsupportedError
from tests.keras.parity import rng, theirs
from tests.support.keras_applications import randomize

HERE = Path(__file__).parent / "legacy"
ANSWERS = np.load(HERE / "answers.npz")


@pytest.mark.parametrize("name", ["cnn", "branches", "recurrent", "frozen"])
def test_what_keras_2_answered(tmp_path: Path, name: str) -> None:
    report = dk.convert(HERE / f"{name}.h5", tmp_path / "m.dk")
    assert report.verification["status"] == "passed"
    got = list(dk.Interpreter(tmp_path / "m.dk").run(ANSWERS[f"{name}/x"]).values())
    want = [ANSWERS[f"{name}/{k}"] for k in range(len(got))]
    assert f"{name}/{len(got)}" not in ANSWERS
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and np.abs(g - w).max() <= 1e-5 * np.abs(w).max()


def net(k: Any) -> Any:
    """Layers of most kinds, a model inside, a layer called twice."""
    i = k.Input((8, 8, 3))
    inner = k.Sequential([k.Input((4, 4, 6)), k.layers.Conv2D(6, 3, padding="same"), k.layers.BatchNormalization()])
    x = k.layers.Conv2D(6, 3, strides=2, padding="same", activation="hard_sigmoid")(i)
    x = k.layers.Add()([inner(x), k.layers.SeparableConv2D(6, 3, padding="same")(x)])
    x = k.layers.Reshape((16, 6))(k.layers.LayerNormalization()(x))
    shared = k.layers.Dense(6, name="shared")
    x = k.layers.MultiHeadAttention(2, 3)(shared(x), shared(x))
    x = k.layers.Bidirectional(k.layers.GRU(4))(x)
    return k.Model(i, [k.layers.Dense(3, name="one")(x), k.layers.PReLU(name="two")(x)])


def test_a_model_of_keras_3(tmp_path: Path) -> None:
    model = net(theirs)
    randomize(model)
    model.compile("sgd", "mse")
    model.save(tmp_path / "m.h5")
    x = rng(3).standard_normal((2, 8, 8, 3)).astype(np.float32)
    want = [y.detach().numpy() for y in model(x, training=False)]
    dk.convert(tmp_path / "m.h5", tmp_path / "m.dk")
    for g, w in zip(dk.Interpreter(tmp_path / "m.dk").run(x).values(), want, strict=True):
        assert np.abs(g - w).max() <= 1e-4 * np.abs(w).max()
    mine = dk.keras.models.load_model(tmp_path / "m.h5")
    assert type(mine.optimizer).__name__ == "SGD"


def test_applications_of_keras_3(tmp_path: Path) -> None:
    model = theirs.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3), classes=5)
    randomize(model)
    model.save(tmp_path / "m.h5")
    x = rng(4).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    want = model(x, training=False).detach().numpy()
    (got,) = np.asarray(dk.keras.models.load_model(tmp_path / "m.h5")(x))[None]
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def edited(folder: Path, change: Any) -> Path:
    path = folder / "m.h5"
    shutil.copy(HERE / "frozen.h5", path)
    with h5py.File(path, "r+") as f:
        change(f)
    return path


def _unknown(f: Any) -> None:
    config = json.loads(f.attrs["model_config"])
    config["config"]["layers"][-1] |= {"class_name": "Swirl"}
    f.attrs["model_config"] = json.dumps(config)


def _outside(f: Any) -> None:
    name = next(k for k in _weights(f) if k.endswith("kernel:0"))
    shape = f[name].shape
    del f[name]
    f.create_dataset(name, shape, "f4", external=[("secret", 0, int(np.prod(shape)) * 4)])


def _weights(f: Any) -> list[str]:
    found: list[str] = []
    f.visititems(lambda k, v: found.append(k) if hasattr(v, "shape") else None)
    return found


BAD = {
    "no model": (lambda f: f.attrs.__delitem__("model_config"), InputError, "weights alone, no model"),
    "no JSON": (lambda f: f.attrs.__setitem__("model_config", "{"), FormatError, "no JSON"),
    "no layer": (lambda f: f.attrs.__setitem__("model_config", "[]"), FormatError, "no layer"),
    "unknown": (_unknown, UnsupportedError, r"Swirl: there is no such layer \(layer"),
    "lost weight": (lambda f: f.__delitem__(_weights(f)[0]), FormatError, "lacks"),
    "no weights": (lambda f: f.__delitem__("model_weights"), FormatError, "no weights for layer"),
    "of another file": (_outside, FormatError, "lies in another file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str) -> None:
    change, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        dk.convert(edited(tmp_path, change), tmp_path / "m.dk")
    assert not (tmp_path / "m.dk").exists()


def test_damaged_bytes_are_an_error_of_ours(tmp_path: Path) -> None:
    data = bytearray((HERE / "frozen.h5").read_bytes())
    r, path = rng(9), tmp_path / "m.h5"
    for _ in range(60):
        bad = data.copy()
        for at in r.integers(8, len(bad), 12):
            bad[at] = int(r.integers(0, 256))
        path.write_bytes(bad[: int(r.integers(100, len(bad)))] if r.random() < 0.3 else bad)
        try:
            dk.keras.models.load_model(path)
        except DeploykitError:
            pass
