"""keras.applications against Keras: the same layers by name and kind, the same weights, files both ways, the same numbers."""

import re

import numpy as np
import pytest

import deploykit as dk
from tests.keras.parity import close, rng, theirs
from tests.support.keras_applications import randomize

# name -> arguments
NETWORKS = {
    "MobileNet": dict(alpha=0.25), "MobileNetV2": dict(alpha=0.35), "ResNet50": {}, "ResNet50V2": {}, "EfficientNetB0": {},
    "EfficientNetB1": {}, "VGG16": {},
}  # fmt: skip
# Larger ones of the same code: their parameters as Keras' documentation counts them.
COUNTS = {"ResNet101": 44_707_176, "EfficientNetB3": 12_320_535, "MobileNetV2": 3_538_984}


def both(name: str, **how: object) -> tuple:
    out = []
    for k in (dk.keras, theirs):
        k.utils.set_random_seed(1)
        out.append(getattr(k.applications, name)(weights=None, **how))
    return tuple(out)


def signature(model: object) -> list:
    def shape(layer: object) -> tuple:
        s = layer.output.shape
        return tuple(None if d is None or not isinstance(d, int) else d for d in s)

    return [(x.name, type(x).__name__, x.count_params(), shape(x)) for x in model.layers]


def named(rows: list) -> list:
    """Layers without a name of their own are numbered by process: their kind says enough."""

    def name(given: str, kind: str, parameters: int) -> str:
        own = re.sub(r"_\d+$", "", given)
        return own if own == kind.lower() or not parameters else given

    return [(name(*r[:3]), *r[1:]) for r in rows]


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    assert getattr(dk.keras.applications, name)(weights=None).count_params() == COUNTS[name]


def plain(v: object) -> object:
    """3, (3, 3) and [3, 3] say the same; so do functions and their names."""
    if isinstance(v, (list, tuple)):
        inner = [plain(x) for x in v]
        return inner[0] if inner and all(x == inner[0] for x in inner) else inner
    return {"swish": "silu", None: "linear"}.get(v, v)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers(name: str) -> None:
    size = 32 if name == "VGG16" else 64
    a, b = both(name, **NETWORKS[name], input_shape=(size, size, 3), classes=7)
    assert a.name == b.name
    assert a.count_params() == b.count_params()
    assert named(signature(a)) == named(signature(b))
    for x, y in zip(a.layers, b.layers, strict=True):
        skip = {"name", "dtype", "module", "registered_name", "build_config", "batch_shape", "data_format", "axis"}
        p, q = ({k: v for k, v in m.get_config().items() if k not in skip} for m in (x, y))
        for k in p.keys() & q.keys():
            if not isinstance(p[k], dict) and not isinstance(q[k], dict):
                assert plain(p[k]) == plain(q[k]), (x.name, k)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n in ("MobileNetV2", "ResNet50", "EfficientNetB0")])
@pytest.mark.parametrize("include_top", [True, False])
def test_weights_of_keras(name: str, include_top: bool, tmp_path: object) -> None:
    """Written by Keras, read by us (and the other way round): the same output."""
    how = dict(NETWORKS[name], input_shape=(64, 64, 3), include_top=include_top)
    how |= dict(classes=5, classifier_activation=None) if include_top else dict(pooling="avg")
    a, b = both(name, **how)
    randomize(b)
    file = str(tmp_path / ("w.weights.h5" if include_top else "w.keras"))
    b.save_weights(file) if include_top else b.save(file)
    a = getattr(dk.keras.applications, name)(weights=file, **how)
    x = rng(3).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    want = b(x).detach().numpy()
    assert np.isfinite(want).all() and np.ptp(want) > 0
    close(a.predict(x, verbose=0), want, name, 2e-5)
    if include_top:
        a.save_weights(str(tmp_path / "back.weights.h5"))
        c = both(name, **how)[1]
        c.load_weights(str(tmp_path / "back.weights.h5"))
        for v, w in zip(b.weights, c.weights, strict=True):
            assert np.array_equal(v.detach().numpy() if hasattr(v, "detach") else np.array(v), np.array(w))


def test_transfer_learning() -> None:
    """A frozen body under a new head: only the head learns."""
    base = dk.keras.applications.MobileNetV2(
        alpha=0.35, weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    base.trainable = False
    model = dk.keras.Sequential([base, dk.keras.layers.Dense(2)])
    model.compile("adam", dk.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [w.numpy() for w in base.weights]
    model.build((None, 32, 32, 3))
    head = model.layers[-1].kernel.numpy()
    model.fit(rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32), np.arange(8) % 2, verbose=0)
    assert all(np.array_equal(u, w.numpy()) for u, w in zip(before, base.weights, strict=True))
    assert not np.array_equal(head, model.layers[-1].kernel.numpy())


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({}, "weights='imagenet' would be downloaded"),
        (dict(weights="no.h5"), "no such file"),
        (dict(weights=None, input_shape=(16, 16, 3)), "at least 32 x 32"),
        (dict(weights=None, input_shape=(32, 32)), "height, width, channels"),
        (dict(weights=None, include_top=False, pooling="sum"), "None, 'avg' or 'max'"),
        (dict(weights=None, classes=0), "classes=0"),
    ],
)
def test_bad_arguments(how: dict, text: str) -> None:
    with pytest.raises(dk.DeploykitError, match=text):
        dk.keras.applications.MobileNetV2(**how)


def test_prepared_images() -> None:
    x = rng(5).uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    for file in ("mobilenet_v2", "resnet", "resnet_v2", "efficientnet", "vgg16"):
        want = getattr(theirs.applications, file).preprocess_input(x.copy())
        close(np.asarray(getattr(dk.keras.applications, file).preprocess_input(x.copy())), np.asarray(want), file)
