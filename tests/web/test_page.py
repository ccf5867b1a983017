"""The page in Chromium, on the engine built from the same sources (web/engine)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deploykit.web import site
from tests.web import pages
from tests.web.test_site import classifier


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    model = classifier(folder, labels=["a", "b", "c"], preprocessing={"range": [0.0, 16.0]})
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) % 17
    site.build(model, folder / "site", examples=[("first", {"image": x})], engine=pages.engine())
    return folder / "site"


@pytest.mark.parametrize("headers", [None, {}], ids=["our headers", "a host without headers"])
def test_offline_and_isolated(built: Path, headers: dict[str, str] | None, tmp_path: Path) -> None:
    """Once loaded, the page works without a network; where the host sends no headers the service worker isolates it."""
    with pages.served(built, headers) as url:
        seen = pages.drive(url, "offline", tmp_path)
    assert seen["isolated"] is True
    assert seen["offline"] in ("a", "b", "c")
    pages.clean(seen)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("model.dk", b"<!doctype html><p>not found", "DK-FORMAT"),
        ("model.dk", None, "DK-"),
        ("runtime/deploykit.js", None, "DK-IO"),
        ("runtime/deploykit.js", b"<!doctype html>", "DK-IO"),
        ("runtime/engine*.wasm", b"<!doctype html>", "DK-IO"),
    ],
    ids=["html for the model", "no model", "no engine", "html for the engine", "html for its code"],
)
def test_broken_sites_say_so(built: Path, file: str, content: bytes | None, code: str, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "site"
    shutil.copytree(built, broken)
    for path in [*broken.glob(file)]:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    with pages.served(broken) as url:
        seen = pages.drive(url, "broken", tmp_path)
    assert seen["problem"].startswith(code), seen["problem"]
    assert seen["state"] == "Not started" and seen["card"] > 3
    assert not seen["violations"], seen["violations"]


def serve_and_drive(site_folder: Path, scenario: str, folder: Path, *more: object) -> dict:
    with pages.served(site_folder) as url:
        seen = pages.drive(url, scenario, folder, *more)
    pages.clean(seen)
    return seen


def test_pictures_and_boxes(tmp_path: Path) -> None:
    """The demo's face detector: sample, file, paste, drop, camera once and live; a file that is no picture."""
    from importlib.resources import files

    import deploykit as dk
    from deploykit.cli import demo_cmd
    from deploykit.images import read_image

    source, photo = tmp_path / "blazeface.onnx", tmp_path / "astronaut.jpg"
    source.write_bytes(demo_cmd.face_model())
    photo.write_bytes((files("deploykit") / "demo_data" / photo.name).read_bytes())
    prep = {"range": [-1.0, 1.0]}
    dk.convert(source, tmp_path / "face.dk", metadata={"preprocessing": prep, "detector": demo_cmd.detector(source)})
    session = dk.Interpreter(tmp_path / "face.dk")
    x = {session.inputs[0].name: read_image(photo, session.inputs[0], prep)}
    (face,) = demo_cmd.decode(session.run(x))
    site.build(tmp_path / "face.dk", tmp_path / "site", examples=[("astronaut", x)], engine=pages.engine())
    seen = serve_and_drive(tmp_path / "site", "image", tmp_path, photo)

    def numbers(text: str) -> list[float]:
        (line,) = text.splitlines()
        return [float(n) for n in re.findall(r"[0-9.]+", line)]

    want = [100 * face[0], face[1], face[3], face[2], face[4]]
    np.testing.assert_allclose(numbers(seen["sample"]), want, atol=0.051)
    # the browser's JPEG decoder may differ from Pillow's by a level; resizing does not
    np.testing.assert_allclose(numbers(seen["file"]), want, atol=1)
    assert seen["file"] == seen["pasted"] == seen["dropped"]
    assert seen["camera"] == "nothing found"  # Chromium's made-up camera shows no face
    assert seen["notes"].startswith("DK-FILE") and "notes.txt" in seen["notes"]
    assert seen["stopped"] and not seen["dark overflows"] and not seen["phone overflows"]


def test_sound(tmp_path: Path) -> None:
    import wave

    import deploykit as dk
    from deploykit.ops import GraphBuilder

    b = GraphBuilder()
    x = b.input("sound", "float32", (1, 8000))
    w = np.random.default_rng(0).standard_normal((8000, 2)).astype(np.float32)
    graph = b.output(b.op("matmul", x, b.constant(w)), "kind")
    dk.convert(graph, tmp_path / "m.dk", metadata={"preprocessing": {"sample_rate": 8000}, "labels": ["high", "low"]})
    site.build(tmp_path / "m.dk", tmp_path / "site", engine=pages.engine())
    with wave.open(str(tmp_path / "tone.wav"), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(16000)
        f.writeframes((8000 * np.sin(np.arange(24000) / 5)).astype("<i2").tobytes())
    seen = serve_and_drive(tmp_path / "site", "audio", tmp_path, tmp_path / "tone.wav")
    assert "high" in seen["file"] and "low" in seen["file"]
    assert seen["heard"] == seen["recorded"] == "Spectrogram of 1.00 seconds"
    assert seen["notes"].startswith("DK-FILE")


def test_numbers(tmp_path: Path) -> None:
    import deploykit as dk
    from deploykit.ops import GraphBuilder

    b = GraphBuilder()
    graph = b.output(b.op("relu", b.input("x", "float32", (4,))), "y")
    dk.convert(graph, tmp_path / "m.dk")
    site.build(tmp_path / "m.dk", tmp_path / "site", engine=pages.engine())
    np.save(tmp_path / "good.npy", np.array([1.5, 2, 3, -4], np.float32))
    np.save(tmp_path / "wrong.npy", np.zeros(5, np.float32))
    seen = serve_and_drive(tmp_path / "site", "tensor", tmp_path, tmp_path / "good.npy", tmp_path / "wrong.npy")
    assert "got 2 values, expected 4" in seen["short"] and "'three' is not a number" in seen["words"]
    assert seen["typed"] and "got shape [5], expected [4]" in seen["wrong"]
    assert seen["file"] == "1.5, 2, 3, -4"


def test_digits(tmp_path: Path) -> None:
    """The demo's classifier: samples, drawing by mouse and by keys, the check, speed, ops; in light, dark, phone size."""
    import deploykit as dk
    from deploykit.cli import demo_digits
    from deploykit.data import digits

    demo_digits.run(tmp_path, lambda text: None)
    _, (x, y) = digits()
    first = [int(np.flatnonzero(y == d)[0]) for d in range(10)]
    examples = [(str(d), {"image": x[i : i + 1, ..., None].astype(np.float32)}) for d, i in enumerate(first)]
    native = dk.Interpreter(tmp_path / "digits.dk")
    want = [[t, str(native.run(feeds)["digit"].argmax())] for t, feeds in examples]
    site.build(tmp_path / "digits.dk", tmp_path / "site", examples=examples, engine=pages.engine())
    seen = serve_and_drive(tmp_path / "site", "digits", tmp_path)
    assert seen["kind"] == "good" and seen["check"].startswith("Yes")
    assert seen["samples"] == want
    assert {d: seen["drawn"][d] for d in "017"} == {d: d for d in "017"} and seen["keys"] == "1"
    assert "nothing is drawn yet" in seen["empty"]
    assert seen["speed"].startswith("50 runs") and seen["ops"] >= 5
    assert seen["isolated"] and "memory: arena" in seen["size"]
    assert not seen["dark overflows"] and not seen["phone overflows"]


def test_a_real_model_gives_the_native_answer(tmp_path: Path) -> None:
    """Silero's voice detector: control flow, LSTM, three inputs, 1.3 MB."""
    import deploykit as dk
    from tests.support import assets

    engine = pages.engine()
    dk.convert(assets.file("models/silero-vad/silero_vad_16k_op15.onnx"), tmp_path / "m.dk", verify=False)
    site.build(tmp_path / "m.dk", tmp_path / "site", engine=engine)
    seen = serve_and_drive(tmp_path / "site", "check", tmp_path)
    assert seen["check"].startswith("Yes"), seen["check"]


def test_maps(tmp_path: Path) -> None:
    """A picture in, a picture out: the answer is drawn."""
    import deploykit as dk
    from deploykit.ops import GraphBuilder

    b = GraphBuilder()
    graph = b.output(b.op("relu", b.input("x", "float32", (1, 32, 48, 3))), "y")
    dk.convert(graph, tmp_path / "m.dk")
    x = np.zeros((1, 32, 48, 3), np.float32)
    x[:, :, :24] = 1
    site.build(tmp_path / "m.dk", tmp_path / "site", examples=[("half", {"x": x})], engine=pages.engine())
    from PIL import Image

    Image.new("RGB", (48, 32), (255, 0, 0)).save(tmp_path / "red.png")
    seen = serve_and_drive(tmp_path / "site", "map", tmp_path, tmp_path / "red.png")
    assert "48 × 32, black is 0, white is 1" in seen["note"]
    assert seen["left"] == [255, 255, 255, 255] and seen["right"] == [0, 0, 0, 255]
    assert seen["red"] == [255, 0, 0, 255]
