"""String layers: examples of Keras' documentation (Keras itself needs TensorFlow for them), modes, round trips, errors."""

import numpy as np
import pytest

from deploykit import data, keras
from deploykit.errors import InputError

L = keras.layers


def test_lookup() -> None:
    layer = L.StringLookup(vocabulary=["a", "b", "c", "d"])
    assert layer([["a", "c", "d"], ["d", "z", "b"]]).tolist() == [[1, 3, 4], [4, 0, 2]]
    assert L.StringLookup(vocabulary=["a", "b"], num_oov_indices=0)(np.array(["b", "a"])).tolist() == [1, 0]
    assert L.StringLookup(vocabulary=["a"], mask_token="")(["", "x", "a"]).tolist() == [0, 1, 2]
    assert layer(np.array([b"a", b"?"])).tolist() == [1, 0]


def test_adapt_orders_by_frequency() -> None:
    layer = L.StringLookup()
    layer.adapt([["a", "c", "d"], ["d", "z", "b"]])
    assert layer.get_vocabulary() == ["[UNK]", "d", "z", "c", "b", "a"]
    assert layer.vocabulary_size() == 6
    few = L.StringLookup(max_tokens=3)
    few.adapt(data.Dataset.from_tensor_slices(np.array(["x", "y", "y", "z", "z", "z"])).batch(2))
    assert few.get_vocabulary() == ["[UNK]", "z", "y"]


def test_invert() -> None:
    layer = L.StringLookup(vocabulary=["a", "b", "c", "d"], invert=True)
    assert layer([[1, 3, 4], [4, 0, 2]]).tolist() == [["a", "c", "d"], ["d", "[UNK]", "b"]]


@pytest.mark.parametrize(
    ("mode", "want"),
    [
        ("multi_hot", [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]]),
        ("count", [[0, 1, 0, 1, 2], [2, 0, 1, 0, 1]]),
    ],
)
def test_bags(mode: str, want: list) -> None:
    layer = L.StringLookup(vocabulary=["a", "b", "c", "d"], output_mode=mode)
    assert layer([["a", "c", "d", "d"], ["d", "z", "b", "z"]]).tolist() == want


def test_one_hot_and_tf_idf() -> None:
    one = L.StringLookup(vocabulary=["a", "b", "c", "d"], output_mode="one_hot")
    assert one(["a", "b", "z"]).tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    weights = [0.25, 0.75, 0.6, 0.4]
    layer = L.StringLookup(vocabulary=["a", "b", "c", "d"], idf_weights=weights, output_mode="tf_idf")
    got = layer([["a", "c", "d", "d"], ["d", "z", "b", "z"]]).numpy()
    np.testing.assert_allclose(got, [[0, 0.25, 0, 0.6, 0.8], [1.0, 0, 0.75, 0, 0.4]], rtol=1e-6)


def test_integers() -> None:
    layer = L.IntegerLookup(vocabulary=[12, 36, 1138, 42])
    assert layer([[12, 1138, 42], [42, 1000, 36]]).tolist() == [[1, 3, 4], [4, 0, 2]]
    back = L.IntegerLookup(vocabulary=[12, 36], invert=True)
    assert back([2, 0]).tolist() == [36, -1]


def test_vectorize() -> None:
    layer = L.TextVectorization(max_tokens=5000, output_mode="int", output_sequence_length=4)
    layer.adapt(["foo", "bar", "baz"])
    assert layer.get_vocabulary() == ["", "[UNK]", "foo", "baz", "bar"]
    assert layer([["foo qux bar"], ["qux baz"]]).tolist() == [[2, 1, 4, 0], [1, 3, 0, 0]]
    assert layer("Foo, BAR!").tolist() == [2, 4, 0, 0]
    free = L.TextVectorization(vocabulary=["earth", "wind", "and", "fire"])
    assert free(["earth wind and fire now", "wind"]).tolist() == [[2, 3, 4, 5, 1], [3, 0, 0, 0, 0]]


def test_ngrams_and_splits() -> None:
    layer = L.TextVectorization(ngrams=2, output_mode="count", vocabulary=["a", "b", "a b"])
    assert layer(["a b a"]).tolist() == [[1, 2, 1, 1]]  # "b a" is unknown
    chars = L.TextVectorization(split="character", standardize="lower", vocabulary=["a", "b"])
    assert chars(["Ab?"]).tolist() == [[2, 3, 1]]
    own = L.TextVectorization(standardize=str.upper, split=lambda t: t.split("-"), vocabulary=["X", "Y"])
    assert own(["x-y"]).tolist() == [[2, 3]]
    weighed = L.TextVectorization(output_mode="tf_idf")
    weighed.adapt(["a b", "a c", "a"])
    idf = np.log(1 + 3 / (1 + np.array([3, 1, 1])))
    np.testing.assert_allclose(weighed(["a b b"]).numpy(), [[0, idf[0], 0, 2 * idf[2]]], rtol=1e-6)


def test_before_a_model() -> None:
    """Strings become numbers in the dataset, and the model learns from these."""
    texts, labels = ["good film", "bad film", "good", "bad"] * 4, np.array([1, 0, 1, 0] * 4)
    layer = L.TextVectorization(output_mode="multi_hot")
    layer.adapt(texts)
    x = layer(texts)
    model = keras.Sequential([keras.Input((layer.vocabulary_size(),)), L.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.5), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x.numpy(), labels, epochs=12, verbose=0)
    assert model.evaluate(x.numpy(), labels, verbose=0)[1] == 1.0


def test_round_trip() -> None:
    layer = L.TextVectorization(ngrams=(1, 2), output_mode="tf_idf")
    layer.adapt(["a b", "b c"])
    again = L.TextVectorization.from_config(layer.get_config())
    assert again.get_vocabulary() == layer.get_vocabulary()
    np.testing.assert_array_equal(again(["a b c"]).numpy(), layer(["a b c"]).numpy())
    look = L.StringLookup(vocabulary=["q", "r"], mask_token="")
    assert L.StringLookup.from_config(look.get_config())(["r", ""]).tolist() == look(["r", ""]).tolist()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: L.StringLookup()(["a"]), "no vocabulary yet"),
        (lambda: L.StringLookup(num_oov_indices=2), "hashing unknown tokens"),
        (lambda: L.StringLookup(vocabulary=["a", "a"]), "'a' twice"),
        (lambda: L.StringLookup(vocabulary=["a"], max_tokens=1), "at most 0"),
        (lambda: L.StringLookup(vocabulary=["a"])([1, 2]), "expected strings"),
        (lambda: L.StringLookup(vocabulary=["a"], num_oov_indices=0)(["b"]), "'b' is not in the vocabulary"),
        (lambda: L.StringLookup(vocabulary=["a"])(keras.Input((1,))), "no place in a graph"),
        (lambda: L.StringLookup(output_mode="hot"), "expected one of int"),
        (lambda: L.IntegerLookup(vocabulary=[1])([0.5]), "expected integers"),
        (lambda: L.TextVectorization(ragged=True), "ragged=True"),
        (lambda: L.TextVectorization(vocabulary=["a"])([["a", "b"]]), "one text per sample"),
        (lambda: L.TextVectorization().adapt([]), "the data is empty"),
    ],
)
def test_errors(make: object, text: str) -> None:
    with pytest.raises(InputError, match=text):
        make()
