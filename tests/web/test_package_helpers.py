"""Pictures, drawings, sound and text as inputs in Chromium (deploykit/image, audio, text), against Python's own preparation."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit.images import read_image
from deploykit.ops import GraphBuilder
from tests.web import pages
from tests.web.test_functions import photo
from tests.web.test_package_browser import drive
from tests.web.test_site import classifier

RATE = 8000


def identity(path: Path, name: str, dtype: str, shape: tuple[int, ...], **metadata: object) -> Path:
    """A model that gives its input back."""
    b = GraphBuilder()
    x = b.input(name, dtype, shape)
    dk.convert(b.output(b.op("concat", x, x, axis=0), "y"), path, metadata=metadata, verify=False)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("helpers")
    shutil.copytree(pages.engine(), folder / "runtime")
    (folder / "blank.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>Blank</title>')
    scale = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    identity(folder / "photo.dk", "image", "float32", (1, 3, 24, 20), preprocessing=scale)
    classifier(folder, preprocessing={"range": [0.0, 16.0]})
    identity(folder / "sound.dk", "sound", "int16", (1, 400), preprocessing={"sample_rate": RATE})
    text = {"split": "words", "vocabulary": ["?", "good", "film"], "lowercase": True, "unknown": 0, "pad": 9}
    identity(folder / "words.dk", "ids", "int32", (1, 6), preprocessing={"text": text})
    photo(61, 47).save(folder / "p.png")
    tone = (np.sin(2 * np.pi * 500 * np.arange(600) / RATE) * 20000).astype("<i2")
    with wave.open(str(folder / "tone.wav"), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(RATE)
        w.writeframes(tone.tobytes())
    return folder


def test_inputs_are_pythons(built: Path) -> None:
    with pages.served(built) as url:
        seen = drive(url, "helpers")
    assert not seen["errors"]
    spec = dk.Interpreter(built / "photo.dk")
    want = read_image(built / "p.png", spec.inputs[0], spec.metadata["preprocessing"])
    got = seen["file"]
    assert got["shape"] == [1, 3, 24, 20] and got["dtype"] == "float32"
    np.testing.assert_allclose(np.array(got["data"]).reshape(want.shape), want, rtol=1e-6, atol=1e-6)
    assert seen["same"] == [True] * 3

    drawing = np.array(seen["drawing"]["data"]).reshape(8, 8)  # the whole height, in the middle, 1.6 columns of 16
    assert seen["drawing"]["shape"] == [1, 8, 8, 1] and (np.abs(drawing.max(1) - 12.8) < 1).all()
    assert np.nonzero(drawing.sum(0))[0].tolist() == [3, 4]
    assert np.nonzero(np.array(seen["unfitted"]["data"]).reshape(8, 8).sum(0))[0].tolist() == [5, 6]

    samples = np.array(seen["samples"]["data"])
    assert seen["samples"]["shape"] == [1, 400] and seen["samples"]["dtype"] == "int16"
    np.testing.assert_array_equal(samples, np.resize([16384, -32767, 32767], 400))
    with wave.open(str(built / "tone.wav")) as w:
        tone = np.frombuffer(w.readframes(400), "<i2").astype(int)
    assert np.abs(np.array(seen["wav"]["data"]) - tone).max() <= 1  # 32767 against 32768
    assert seen["text"] == {"data": [1, 2, 0, 0, 9, 9], "shape": [1, 6], "dtype": "int32"}
    assert seen["ran"] == [[2, 3, 24, 20], [1, 3]]
    for key in ("notes", "sound", "none", "silent", "wordless", "boxless"):
        assert seen[key]["code"] == "DK-INPUT", key
    assert "not a picture" in seen["notes"]["message"] and "not a sound file" in seen["sound"]["message"]
