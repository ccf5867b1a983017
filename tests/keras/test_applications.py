"""keras.applications against Keras: the same layers by name and kind, the same weights, files both ways, the same numbers."""

import gc
import re

import numpy as np
import pytest

import deploykit as dk
from deploykit.keras.layers.base import OpLayer
from tests.keras.parity import close, rng, theirs
from tests.support.keras_applications import randomize
from tests.support.peers import need

# name -> arguments
NETWORKS = {
    "MobileNet": dict(alpha=0.25), "MobileNetV2": dict(alpha=0.35), "MobileNetV3Small": dict(alpha=0.5),
    "MobileNetV3Large": dict(alpha=0.35, minimalistic=True), "ResNet50": {}, "ResNet50V2": {}, "EfficientNetB0": {},
    "EfficientNetV2B0": {}, "DenseNet121": {}, "InceptionV3": {}, "Xception": {}, "VGG16": {},
}  # fmt: skip
# Parameters of all networks as Keras counts them (its documentation; EfficientNetV2B3 as Keras 3.15.1 itself, whose
# documentation has another number; EfficientNet-Lite0 and BERT as their authors do).
COUNTS = {
    "MobileNet": 4_253_864, "MobileNetV2": 3_538_984, "MobileNetV3Small": 2_554_968, "MobileNetV3Large": 5_507_432,
    "ResNet50": 25_636_712, "ResNet101": 44_707_176, "ResNet152": 60_419_944, "ResNet50V2": 25_613_800,
    "ResNet101V2": 44_675_560, "ResNet152V2": 60_380_648, "EfficientNetB0": 5_330_571, "EfficientNetB1": 7_856_239,
    "EfficientNetB2": 9_177_569, "EfficientNetB3": 12_320_535, "EfficientNetB4": 19_466_823, "EfficientNetB5": 30_562_527,
    "EfficientNetB6": 43_265_143, "EfficientNetB7": 66_658_687, "EfficientNetV2B0": 7_200_312,
    "EfficientNetV2B1": 8_212_124, "EfficientNetV2B2": 10_178_374, "EfficientNetV2B3": 14_467_622,
    "EfficientNetV2S": 21_612_360, "EfficientNetV2M": 54_431_388, "EfficientNetV2L": 119_027_848,
    "DenseNet121": 8_062_504, "DenseNet169": 14_307_880, "DenseNet201": 20_242_984, "InceptionV3": 23_851_784,
    "Xception": 22_910_480, "VGG16": 138_357_544, "VGG19": 143_667_240,
}  # fmt: skip
SIZES = {"VGG16": 32, "InceptionV3": 75, "Xception": 71}  # of images; 64 where not said


def both(name: str, **how: object) -> tuple:
    out = []
    for k in (dk.keras, theirs):
        k.utils.set_random_seed(1)
        out.append(getattr(k.applications, name)(weights=None, **how))
    gc.collect()
    return tuple(out)


def signature(model: object) -> list:
    def shape(layer: object) -> tuple:
        s = layer.output.shape
        return tuple(None if d is None or not isinstance(d, int) else d for d in s)

    # in Keras a sum of two tensors is no layer
    return [(x.name, type(x).__name__, x.count_params(), shape(x)) for x in layers(model)]


def layers(model: object) -> list:
    return [x for x in model.layers if not isinstance(x, OpLayer)]


def named(rows: list) -> list:
    """Layers without a name of their own are numbered by process: their kind says enough."""

    def name(given: str, kind: str, parameters: int) -> str:
        own = re.sub(r"_\d+$", "", given)
        return own if own.replace("_", "") == kind.lower() or not parameters else given

    return [(name(*r[:3]), *r[1:]) for r in rows]


def without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that stay zero take no memory, so the largest network is no burden."""
    zeros = lambda self, shape, dtype=None: np.zeros(shape, dtype or "float32")  # noqa: E731
    monkeypatch.setattr(dk.keras.initializers.VarianceScaling, "__call__", zeros)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_numbers(monkeypatch)
    assert getattr(dk.keras.applications, name)(weights=None).count_params() == COUNTS[name]
    gc.collect()


def test_every_network_is_counted() -> None:
    known = {n for names in dk.keras.applications._FILES.values() for n in names.split()}
    assert known == {*COUNTS, "EfficientNetLite0", "BertEncoder"}


def plain(v: object) -> object:
    """3, (3, 3) and [3, 3] say the same; so do functions and their names."""
    if isinstance(v, (list, tuple)):
        inner = [plain(x) for x in v]
        return inner[0] if inner and all(x == inner[0] for x in inner) else inner
    return {"swish": "silu", "hard_swish": "hard_silu", None: "linear"}.get(v, v)


def same_layers(a: object, b: object) -> None:
    assert a.name == b.name
    assert a.count_params() == b.count_params()
    assert named(signature(a)) == named(signature(b))
    for x, y in zip(layers(a), layers(b), strict=True):
        skip = {"name", "dtype", "module", "registered_name", "build_config", "batch_shape", "data_format", "axis"}
        p, q = ({k: v for k, v in m.get_config().items() if k not in skip} for m in (x, y))
        for k in p.keys() & q.keys():
            if not isinstance(p[k], dict) and not isinstance(q[k], dict):
                assert plain(p[k]) == plain(q[k]), (x.name, k)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_as_keras(name: str, tmp_path: object) -> None:
    """Layers and configurations; weights written by Keras and read by us, and the other way round: the same output."""
    size = SIZES.get(name, 64)
    how = dict(NETWORKS[name], input_shape=(size, size, 3), classes=5, classifier_activation=None)
    a, b = both(name, **how)
    same_layers(a, b)
    randomize(b)
    b.save_weights(str(tmp_path / "w.weights.h5"))
    a.load_weights(str(tmp_path / "w.weights.h5"))
    x = rng(3).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    want = b(x).detach().numpy()
    assert np.isfinite(want).all() and np.ptp(want) > 0
    close(a.predict(x, verbose=0), want, name, 2e-5)
    a.save_weights(str(tmp_path / "back.weights.h5"))
    wrote = [w.numpy() for w in a.weights]
    del a
    randomize(b, 1)
    b.load_weights(str(tmp_path / "back.weights.h5"))
    close(b(x).detach().numpy(), want, name, 1e-6)
    assert sum(w.size for w in wrote) == sum(int(np.prod(w.shape)) for w in b.weights)


@pytest.mark.parametrize(
    "name", ["MobileNetV2", "MobileNetV3Small", "ResNet50V2", "EfficientNetB0", "EfficientNetV2B0"]
)
def test_features(name: str, tmp_path: object) -> None:
    """Without the head, from a whole model that Keras has saved."""
    how = dict(NETWORKS[name], input_shape=(64, 64, 3), include_top=False, pooling="avg")
    theirs.utils.set_random_seed(1)
    b = getattr(theirs.applications, name)(weights=None, **how)
    randomize(b)
    b.save(str(tmp_path / "w.keras"))
    a = getattr(dk.keras.applications, name)(weights=str(tmp_path / "w.keras"), **how)
    assert named(signature(a)) == named(signature(b))
    x = rng(3).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    close(a.predict(x, verbose=0), b(x).detach().numpy(), name, 2e-5)


@pytest.mark.parametrize("name", [*NETWORKS, "EfficientNetLite0"])
def test_features_are_the_layers_below_the_head(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_numbers(monkeypatch)
    size = SIZES.get(name, 64)
    make, how = (
        getattr(dk.keras.applications, name),
        dict(NETWORKS.get(name, {}), weights=None, input_shape=(size, size, 3)),
    )
    whole, features = named(signature(make(**how))), named(signature(make(**how, include_top=False)))
    assert features == whole[: len(features)] and len(whole) - len(features) in range(1, 9)


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
    for file in (
        "mobilenet_v2",
        "mobilenet_v3",
        "resnet",
        "resnet_v2",
        "efficientnet",
        "efficientnet_v2",
        "densenet",
        "inception_v3",
        "xception",
        "vgg16",
    ):
        want = getattr(theirs.applications, file).preprocess_input(x.copy())
        close(np.asarray(getattr(dk.keras.applications, file).preprocess_input(x.copy())), np.asarray(want), file)


def test_lite() -> None:
    """As its authors count it, statistics of normalization aside."""
    model = dk.keras.applications.EfficientNetLite0(weights=None)
    assert sum(v.size for v in model.trainable_variables) == 4_652_008
    assert not [x for x in model.layers if "se_" in x.name]
    assert dk.keras.applications.efficientnet_lite.preprocess_input(np.float32([127, 255])).tolist() == [0, 1]


def test_bert(tmp_path: object) -> None:
    """The parameters that its authors count, and the numbers of PyTorch's encoder layers with the same weights."""
    torch = need("torch")
    assert dk.keras.applications.BertEncoder("tiny").count_params() == 4_385_920
    how = dict(vocabulary_size=50, sequence_length=12, max_sequence_length=16)
    model = dk.keras.applications.BertEncoder("tiny", **how)
    r = rng(0)
    model.set_weights([r.normal(0, 0.1, w.shape).astype(np.float32) + ("gamma" in w.path) for w in model.weights])
    file = str(tmp_path / "w.weights.h5")
    model.save_weights(file)
    model = dk.keras.applications.BertEncoder("tiny", **how, weights=file)
    tokens, kinds = r.integers(1, 50, (3, 12)).astype(np.int32), r.integers(0, 2, (3, 12)).astype(np.int32)
    tokens[1, 7:] = tokens[2, 3:] = 0
    got = model.predict({"token_ids": tokens, "segment_ids": kinds}, verbose=0)
    w = {v.path: torch.from_numpy(v.numpy()) for v in model.weights}
    name = lambda at: next(v for k, v in w.items() if k.endswith(at))  # noqa: E731
    F = torch.nn.functional
    x = name("tokens")[tokens] + name("positions")[:12] + name("segments")[kinds]
    x = F.layer_norm(x, (128,), name("embedding_norm/gamma"), name("embedding_norm/beta"), 1e-12)
    for i in range(2):
        e = torch.nn.TransformerEncoderLayer(128, 2, 512, 0.0, "gelu", 1e-12, batch_first=True).eval()
        q, qb, k, kb, v, vb, o, ob = map(torch.from_numpy, model.get_layer(f"layer_{i}_attention").get_weights())
        with torch.no_grad():
            e.self_attn.in_proj_weight.copy_(torch.cat([p.reshape(128, 128).T for p in (q, k, v)]))
            e.self_attn.in_proj_bias.copy_(torch.cat([p.reshape(128) for p in (qb, kb, vb)]))
            e.self_attn.out_proj.weight.copy_(o.reshape(128, 128).T)
            e.self_attn.out_proj.bias.copy_(ob)
            for theirs_, ours_ in ((e.linear1, "intermediate"), (e.linear2, "output")):
                theirs_.weight.copy_(name(f"layer_{i}_{ours_}/kernel").T)
                theirs_.bias.copy_(name(f"layer_{i}_{ours_}/bias"))
            for theirs_, ours_ in ((e.norm1, "attention_norm"), (e.norm2, "output_norm")):
                theirs_.weight.copy_(name(f"layer_{i}_{ours_}/gamma"))
                theirs_.bias.copy_(name(f"layer_{i}_{ours_}/beta"))
            x = e(x, src_key_padding_mask=torch.from_numpy(tokens == 0))
    with torch.no_grad():
        pooled = torch.tanh(x[:, 0] @ name("pooled_dense/kernel") + name("pooled_dense/bias"))
    real = tokens != 0
    np.testing.assert_allclose(got["sequence"][real], x.detach().numpy()[real], atol=1e-5)
    np.testing.assert_allclose(got["pooled"], pooled.numpy(), atol=1e-5)
    # a head on top learns; the whole model comes back from its file
    top = dk.keras.applications.BertEncoder("tiny", **how, dropout=0.0, include_top=True, classifier_activation=None)
    top.compile(dk.keras.optimizers.Adam(1e-3), dk.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = {"token_ids": tokens, "segment_ids": kinds}
    history = top.fit(data, np.array([0, 1, 1]), epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.2 * history[0]
    top.save(str(tmp_path / "m.keras"))
    again = dk.keras.models.load_model(str(tmp_path / "m.keras"))
    np.testing.assert_allclose(again.predict(data, verbose=0), top.predict(data, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (dict(size="huge"), "size='huge', expected tiny"),
        (dict(sequence_length=600), "expected 1 to max_sequence_length=512"),
        (dict(weights="no.h5"), "no such file"),
    ],
)
def test_bad_arguments_of_bert(how: dict, text: str) -> None:
    with pytest.raises(dk.DeploykitError, match=text):
        dk.keras.applications.BertEncoder(**how)


def test_unknown_argument() -> None:
    with pytest.raises(dk.DeploykitError, match="ResNet50: got the argument 'alpha'; expected one of include_top"):
        dk.keras.applications.ResNet50(weights=None, alpha=1.0)
