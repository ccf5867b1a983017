"""Files that real Keras saves: applications with random weights, one file per layer, operations."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import InputError
from tests.keras.parity import rng, theirs
from tests.keras.test_layers import LAYERS
from tests.support.keras_applications import check, randomize, save


@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0", "ResNet50V2", "ConvNeXtTiny"])
def test_application(tmp_path, name: str) -> None:
    """Those of the fifteen in tests/support/keras_applications.py that differ most in what their files hold."""
    error, transposes = check(name, tmp_path)
    assert error <= 1e-4 and transposes == 0


def test_layers_stand_in_the_order_of_keras() -> None:
    """By this order files name weights: branches, a layer called twice, an unused input."""

    def make(k):
        a, b, c = k.Input((4,), name="a"), k.Input((4,), name="b"), k.Input((2,), name="c")
        shared = k.layers.Dense(4, name="shared")
        long = k.layers.Dense(4, name="long_2")(k.layers.Dense(4, name="long_1")(shared(a)))
        join = k.layers.Add(name="join")([k.layers.Dense(4, name="short")(b), long])
        return k.Model([b, a, c], [k.layers.Dense(2, name="end")(shared(join)), k.layers.Dense(1, name="side")(join)])

    names = [[x.name for x in make(k).layers] for k in (dk.keras, theirs)]
    assert names[0] == names[1]


def test_a_file_loads_where_nothing_of_the_package_was_used(tmp_path) -> None:
    """Classes are found by name although the package imports its modules late."""
    save("MobileNetV2", tmp_path / "m.keras")
    code = "import sys, deploykit as dk; dk.convert(sys.argv[1], sys.argv[2], verify=False)"
    subprocess.run([sys.executable, "-P", "-c", code, tmp_path / "m.keras", tmp_path / "m.dk"], check=True)


@pytest.mark.parametrize(("name", "how", "shape"), LAYERS, ids=str)
def test_layer_file(tmp_path, name: str, how: dict, shape: tuple) -> None:
    """A file with just this layer, saved by Keras, read by us, run by the engine."""
    inputs = theirs.Input(shape[1:])
    model = theirs.Model(inputs, getattr(theirs.layers, name)(**how)(inputs))
    randomize(model)
    model.save(tmp_path / "m.keras")
    x = rng(5).standard_normal(shape).astype(np.float32)
    want = model(x, training=False).detach().numpy()
    dk.convert(tmp_path / "m.keras", tmp_path / "m.dk", verify=False)
    (got,) = dk.Interpreter(tmp_path / "m.dk").run(x).values()
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= 1e-4 * max(1.0, np.abs(want).max(initial=0))


@pytest.mark.parametrize("name", ["AugMix", "CutMix", "MixUp", "RandAugment", "RandomColorDegeneration", "RandomColorJitter", "RandomElasticTransform", "RandomErasing", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear"])  # fmt: skip
def test_what_only_training_changes(tmp_path, name: str) -> None:
    """Such a layer of a file does nothing in inference, as in Keras; training says that it is not here."""
    needed = dict.fromkeys(("RandomColorDegeneration", "RandomHue", "RandomSaturation", "RandomSharpness"), 0.3)
    how = {"factor": needed[name]} if name in needed else {"factor": 4} if name == "RandomPosterization" else {}
    inputs = theirs.Input((8, 8, 3))
    model = theirs.Model(inputs, theirs.layers.Conv2D(2, 3)(getattr(theirs.layers, name)(**how)(inputs)))
    model.save(tmp_path / "m.keras")
    x = rng(8).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    want = model(x, training=False).detach().numpy()
    dk.convert(tmp_path / "m.keras", tmp_path / "m.dk")
    (got,) = dk.Interpreter(tmp_path / "m.dk").run(x).values()
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
    with pytest.raises(InputError, match=f"{name} does nothing in inference"):
        dk.keras.models.load_model(tmp_path / "m.keras")(x, training=True)


def test_operations_of_a_file_go_back_to_keras(tmp_path) -> None:
    """``x + 3`` and functions of keras.ops are operations, not layers, in Keras' files."""
    k, x = theirs, rng(6).standard_normal((2, 4, 6)).astype(np.float32)
    i = k.Input((4, 6))
    y = k.ops.transpose(k.ops.relu6(i + 3.0) * 0.5, (0, 2, 1))
    y = k.ops.reshape(k.ops.mean(y, axis=1, keepdims=True), (-1, 2, 2)) - i[:, :2, 1:3]
    model = k.Model(i, k.layers.Dense(3)(y))
    model.save(tmp_path / "m.keras")
    mine = dk.keras.models.load_model(tmp_path / "m.keras")
    want = model(x).detach().numpy()
    assert np.abs(np.asarray(mine(x)) - want).max() <= 1e-5
    mine.save(tmp_path / "back.keras")
    assert np.abs(k.models.load_model(tmp_path / "back.keras")(x).detach().numpy() - want).max() <= 1e-5


def test_an_operation_that_is_missing_is_named(tmp_path) -> None:
    i = theirs.Input((4,))
    theirs.Model(i, theirs.ops.logaddexp(i, i)).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as z:
        assert b"Logaddexp" in z.read("config.json")
    with pytest.raises(InputError, match=r"Logaddexp.*not here"):
        dk.keras.models.load_model(tmp_path / "m.keras")


# layers of several inputs, of other layers, of integers
COMBINED = {
    **{n: lambda k, a, b, n=n: getattr(k.layers, n)()([a, b]) for n in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract", "Attention", "AdditiveAttention")},
    "Dot": lambda k, a, b: k.layers.Dot(axes=(2, 2))([a, b]),
    "GroupQueryAttention": lambda k, a, b: k.layers.GroupQueryAttention(3, 4, 2)(a, b),
    "MultiHeadAttention": lambda k, a, b: k.layers.MultiHeadAttention(2, 3)(a, b),
    "Bidirectional": lambda k, a, b: k.layers.Bidirectional(k.layers.GRU(3))(k.layers.Add()([a, b])),
    "TimeDistributed": lambda k, a, b: k.layers.TimeDistributed(k.layers.Dense(3))(k.layers.Add()([a, b])),
}  # fmt: skip


@pytest.mark.parametrize("name", COMBINED)
def test_combining_layer_file(tmp_path, name: str) -> None:
    a, b = (theirs.Input((5, 4), name=n) for n in "ab")
    model = theirs.Model([a, b], COMBINED[name](theirs, a, b))
    randomize(model)
    model.save(tmp_path / "m.keras")
    feeds = {n: rng(i).standard_normal((2, 5, 4)).astype(np.float32) for i, n in enumerate("ab")}
    want = model(list(feeds.values()), training=False).detach().numpy()
    dk.convert(tmp_path / "m.keras", tmp_path / "m.dk", verify=False)
    (got,) = dk.Interpreter(tmp_path / "m.dk").run(feeds).values()
    assert got.shape == want.shape and np.abs(got - want).max() <= 1e-4 * max(1.0, np.abs(want).max())
