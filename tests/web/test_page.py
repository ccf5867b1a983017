"""The page in Chromium, with recorded answers in place of the engine: what it does itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.web import site
from tests.web import pages
from tests.web.test_site import classifier


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pages.need_browser()
    folder = tmp_path_factory.mktemp("page")
    model = classifier(folder, labels=["a", "b", "c"], preprocessing={"range": [0.0, 16.0]})
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) % 17
    site.build(model, folder / "site", examples=[("first", {"image": x})], engine=pages.FAKE)
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
    ],
    ids=["html for the model", "no model", "no engine", "html for the engine"],
)
def test_broken_sites_say_so(built: Path, file: str, content: bytes | None, code: str, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "site"
    shutil.copytree(built, broken)
    (broken / file).unlink()
    if content is not None:
        (broken / file).write_bytes(content)
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
    pages.need_browser()
    from importlib.resources import files

    import deploykit as dk
    from deploykit.cli import demo_cmd
    from deploykit.images import read_image

    data = files("deploykit") / "demo_data"
    for name in ("blazeface.onnx", "astronaut.jpg"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    source, photo = tmp_path / "blazeface.onnx", tmp_path / "astronaut.jpg"
    prep = {"range": [-1.0, 1.0]}
    dk.convert(source, tmp_path / "face.dk", metadata={"preprocessing": prep, "detector": demo_cmd.detector(source)})
    session = dk.Interpreter(tmp_path / "face.dk")
    x = {session.inputs[0].name: read_image(photo, session.inputs[0], prep)}
    (face,) = demo_cmd.decode(session.run(x))
    site.build(tmp_path / "face.dk", tmp_path / "site", examples=[("astronaut", x)], engine=pages.FAKE)
    seen = serve_and_drive(tmp_path / "site", "image", tmp_path, photo)
    want = f"face {100 * face[0]:.1f} %: x {face[1]:.2f} to {face[3]:.2f}, y {face[2]:.2f} to {face[4]:.2f}"
    assert seen["sample"] == want
    assert seen["file"] == seen["pasted"] == seen["dropped"] == seen["camera"] == want  # recorded answers
    assert seen["notes"].startswith("DK-FILE") and "notes.txt" in seen["notes"]
    assert seen["stopped"] and not seen["dark overflows"] and not seen["phone overflows"]


def test_sound(tmp_path: Path) -> None:
    pages.need_browser()
    import wave

    import deploykit as dk
    from deploykit.ops import GraphBuilder

    b = GraphBuilder()
    x = b.input("sound", "float32", (1, 8000))
    w = np.random.default_rng(0).standard_normal((8000, 2)).astype(np.float32)
    graph = b.output(b.op("matmul", x, b.constant(w)), "kind")
    dk.convert(graph, tmp_path / "m.dk", metadata={"preprocessing": {"sample_rate": 8000}, "labels": ["high", "low"]})
    site.build(tmp_path / "m.dk", tmp_path / "site", engine=pages.FAKE)
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
    pages.need_browser()
    import deploykit as dk
    from deploykit.ops import GraphBuilder

    b = GraphBuilder()
    graph = b.output(b.op("relu", b.input("x", "float32", (4,))), "y")
    dk.convert(graph, tmp_path / "m.dk")
    site.build(tmp_path / "m.dk", tmp_path / "site", engine=pages.FAKE)
    np.save(tmp_path / "good.npy", np.array([1.5, 2, 3, -4], np.float32))
    np.save(tmp_path / "wrong.npy", np.zeros(5, np.float32))
    seen = serve_and_drive(tmp_path / "site", "tensor", tmp_path, tmp_path / "good.npy", tmp_path / "wrong.npy")
    assert "got 2 values, expected 4" in seen["short"] and "'three' is not a number" in seen["words"]
    assert seen["typed"] and "got shape [5], expected [4]" in seen["wrong"]
    assert seen["file"] == "1.5, 2, 3, -4"
