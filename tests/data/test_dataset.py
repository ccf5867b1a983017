"""Datasets: what each step gives, that passes repeat, that seeds fix the order, that bad data says so."""

import gzip
import struct

import numpy as np
import pytest

import deploykit as dk
from deploykit.data import Dataset, digits, idx
from deploykit.data.sources import record


def ints(d) -> list:
    return [np.asarray(x).tolist() for x in d]


R = Dataset.range
STEPS = {
    "map": (lambda: R(4).map(lambda x: x * 2), [0, 2, 4, 6]),
    "map in parallel keeps order": (lambda: R(40).map(lambda x: x * 2, num_parallel_calls=4), list(range(0, 80, 2))),
    "filter": (lambda: R(6).filter(lambda x: x % 2 == 0), [0, 2, 4]),
    "batch": (lambda: R(5).batch(2), [[0, 1], [2, 3], [4]]),
    "batch drops": (lambda: R(5).batch(2, drop_remainder=True), [[0, 1], [2, 3]]),
    "unbatch": (lambda: R(5).batch(2).unbatch(), [0, 1, 2, 3, 4]),
    "take skip": (lambda: R(10).skip(2).take(3), [2, 3, 4]),
    "repeat": (lambda: R(2).repeat(3), [0, 1, 0, 1, 0, 1]),
    "endless": (lambda: R(2).repeat().take(5), [0, 1, 0, 1, 0]),
    "repeat of nothing ends": (lambda: R(0).repeat(), []),
    "shard": (lambda: R(7).shard(3, 1), [1, 4]),
    "concatenate": (lambda: R(2).concatenate(R(3)), [0, 1, 0, 1, 2]),
    "interleave": (lambda: R(3).interleave(lambda x: [int(x) * 10 + i for i in range(2)], 2), [0, 10, 1, 11, 20, 21]),
    "window": (lambda: R(5).window(3, shift=1, drop_remainder=True), [[0, 1, 2], [1, 2, 3], [2, 3, 4]]),
    "windows apart": (lambda: R(7).window(2, shift=3), [[0, 1], [3, 4], [6]]),
    "prefetch": (lambda: R(5).prefetch(2), [0, 1, 2, 3, 4]),
    "cache": (lambda: R(3).cache(), [0, 1, 2]),
    "padded": (
        lambda: Dataset.from_generator(lambda: ([1] * n for n in (1, 3))).padded_batch(2, padding_value=9),
        [[[1, 9, 9], [1, 1, 1]]],
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_step(name: str) -> None:
    make, want = STEPS[name]
    d = make()
    assert ints(d) == want and ints(d) == want  # and again
    if d.cardinality() is not None:
        assert len(d) == len(want)


def test_shuffle_is_the_seeds() -> None:
    a, b = (R(100).shuffle(10, seed=3) for _ in range(2))
    first = ints(a)
    assert first == ints(b) and sorted(first) == list(range(100)) and first != list(range(100))
    assert ints(a) != first and ints(R(100).shuffle(10, seed=4)) != first
    fixed = R(20).shuffle(20, seed=1, reshuffle_each_iteration=False)
    assert ints(fixed) == ints(fixed)


def test_nests_zip_and_training() -> None:
    x = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    y = x.sum(1, keepdims=True)
    d = Dataset.from_tensor_slices((x, y)).shuffle(64, seed=0).batch(16).prefetch(2)
    m = dk.keras.Sequential([dk.keras.Input((3,)), dk.keras.layers.Dense(1)])
    m.compile(dk.keras.optimizers.SGD(0.1), "mse")
    losses = m.fit(d, epochs=30, verbose=0, validation_data=d).history
    assert losses["val_loss"][-1] < 1e-3
    z = Dataset.zip(R(3), Dataset.from_tensor_slices({"a": np.arange(3), "b": np.arange(6).reshape(3, 2)}))
    assert z.as_list()[1][1]["b"].tolist() == [2, 3]


def test_errors_reach_the_reader() -> None:
    def bad(x):
        raise ValueError("in the map")

    for d in (R(3).map(bad), R(3).map(bad, num_parallel_calls=2), R(3).map(bad).prefetch()):
        with pytest.raises(ValueError, match="in the map"):
            d.as_list()
    with pytest.raises(dk.DeploykitError, match="one length"):
        Dataset.from_tensor_slices((np.zeros(3), np.zeros(4)))
    with pytest.raises(dk.DeploykitError, match="padded_batch"):
        Dataset.from_generator(lambda: ([1] * n for n in (1, 2))).batch(2).as_list()
    with pytest.raises(dk.DeploykitError, match="batch_size: got 0"):
        R(3).batch(0)


def test_files(tmp_path) -> None:
    from PIL import Image

    a = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    data = b"\0\0\x08\x03" + struct.pack(">3I", *a.shape) + a.tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    np.testing.assert_array_equal(idx(tmp_path / "a.gz"), a)
    for broken, what in ((data[:-1], "needs"), (b"<html>", "not an idx"), (data[:6], "truncated")):
        (tmp_path / "b").write_bytes(broken)
        with pytest.raises(dk.DeploykitError, match=what):
            idx(tmp_path / "b")
    (tmp_path / "r").write_bytes(record(b"one") + record(b""))
    assert Dataset.from_tfrecord(tmp_path / "r").as_list() == [b"one", b""]
    (tmp_path / "r").write_bytes(record(b"one")[:-5] + b"?????")
    with pytest.raises(dk.DeploykitError, match="damaged"):
        Dataset.from_tfrecord(tmp_path / "r").as_list()
    (tmp_path / "t.csv").write_text("a,b,label\n1,2.5,x\n3,4.5,y\n")
    assert Dataset.from_csv(tmp_path / "t.csv", "label").as_list()[1][0] == {"a": 3, "b": 4.5}
    for c in ("cat", "dog"):
        (tmp_path / "images" / c).mkdir(parents=True)
        Image.new("RGB", (5, 4), "red" if c == "cat" else "blue").save(tmp_path / "images" / c / "1.png")
    d = Dataset.from_image_folder(tmp_path / "images", (2, 3))
    assert d.class_names == ["cat", "dog"] and [int(y) for _, y in d] == [0, 1]
    assert next(iter(d))[0].shape == (2, 3, 3)


def test_digits() -> None:
    (x, y), (tx, ty) = digits()
    assert x.shape == (1438, 8, 8) and x.dtype == np.uint8 and x.max() == 16
    assert np.bincount(y).min() > 120 and len(tx) == len(ty) == 359
