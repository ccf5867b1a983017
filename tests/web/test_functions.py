"""Functions of the package and the page against Pillow, NumPy and Deploykit's own Python."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploykit.cli import demo_cmd
from deploykit.images import read_image
from deploykit.interpreter import TensorSpec
from deploykit.web import forms, vectors

HERE = Path(__file__).resolve().parent
KINDS = {"float32": "Float32Array", "uint8": "Uint8ClampedArray", "int32": "Int32Array", "float64": "Float64Array"}


def js(a: np.ndarray) -> dict[str, Any]:
    return {"$": KINDS[a.dtype.name], "v": a.reshape(-1).tolist()}


def buffer(data: bytes) -> dict[str, Any]:
    return {"$": "ArrayBuffer", "v": list(data)}


def call(module: str, name: str, *args: Any, whole: bool = False) -> Any:
    if shutil.which("node") is None:
        assert not os.environ.get("CI"), "CI needs Node"
        pytest.skip("Node is not installed")
    text = json.dumps({"module": module, "name": name, "args": args})
    done = subprocess.run(["node", str(HERE / "call.mjs")], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    return out if whole or "error" in out else out["result"]


def photo(w: int, h: int) -> Image.Image:
    """A picture with edges and noise."""
    rng = np.random.default_rng(w * h)
    a = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    a[h // 4 : h // 2, w // 4 :] = (250, 10, 60)
    return Image.fromarray(a)


@pytest.mark.parametrize(
    ("w", "h", "to_w", "to_h"), [(97, 61, 32, 32), (20, 30, 64, 48), (64, 64, 8, 8), (33, 17, 33, 9)]
)
def test_resize_is_pillows(w: int, h: int, to_w: int, to_h: int) -> None:
    """To the bit: the same filter, fixed point and order of passes."""
    image = photo(w, h)
    want = np.asarray(image.resize((to_w, to_h), Image.Resampling.BILINEAR).convert("RGBA"))
    got = call("image.js", "resize", js(np.asarray(image.convert("RGBA"))), w, h, to_w, to_h)
    np.testing.assert_array_equal(np.array(got).reshape(want.shape), want)


@pytest.mark.parametrize(
    ("shape", "dtype", "preprocessing"),
    [
        ((1, 16, 12, 3), "float32", {"range": [-1.0, 1.0]}),
        ((1, 3, 16, 12), "float32", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        ((1, 16, 12, 3), "uint8", {}),
        ((16, 12, 3), "int8", {}),
        ((1, 16, 12, 1), "float32", {"range": [0.0, 16.0]}),
        ((1, 16, 12, 4), "float32", {}),
    ],
)
def test_tensor_of_a_picture_is_read_image(
    shape: tuple[int, ...], dtype: str, preprocessing: dict, tmp_path: Path
) -> None:
    image = photo(12, 16)
    image.save(tmp_path / "p.png")
    spec = TensorSpec("x", shape, dtype)
    want = read_image(tmp_path / "p.png", spec, preprocessing)
    described = forms.editors([spec], {}, {"preprocessing": preprocessing})[0]
    assert described["editor"] == "image"
    got = call("image.js", "toTensor", js(np.asarray(image.convert("RGBA"))), described)
    assert tuple(got["shape"]) == want.shape and got["dtype"] == dtype
    np.testing.assert_allclose(np.array(got["data"]).reshape(want.shape), want, rtol=1e-6, atol=1e-6)
    kind = {"float32": "Float32Array", "uint8": "Uint8Array", "int8": "Int8Array"}[dtype]
    tensor = {"data": {"$": kind, "v": want.reshape(-1).tolist()}, "shape": list(want.shape), "dtype": dtype}
    back = np.array(call("image.js", "toPixels", tensor, described)).reshape(16, 12, 4)
    mode = {1: "L"}.get(described["channels"], "RGB")
    np.testing.assert_array_equal(back[..., :3], np.asarray(image.convert(mode).convert("RGB")))


def test_boxes_are_the_demos() -> None:
    """The demo's decoder in Python against the page's, on numbers that give overlapping boxes."""
    rng = np.random.default_rng(3)
    shapes = {"s0": (1, 512, 1), "s1": (1, 384, 1), "b0": (1, 512, 16), "b1": (1, 384, 16)}
    outputs = {k: rng.normal(0, 1.2 if k[0] == "s" else 30, s).astype(np.float32) for k, s in shapes.items()}
    for k in ("b0", "b1"):
        outputs[k][..., 2:4] = 40 + np.abs(outputs[k][..., 2:4])
    want = demo_cmd.decode(outputs)
    how = {"kind": "anchors", "grids": [[16, 2], [8, 6]], "size": 128, "scores": ["s0", "s1"], "boxes": ["b0", "b1"]}
    got = call(
        "detect.js",
        "decode",
        {k: {"data": js(v), "shape": v.shape} for k, v in outputs.items()},
        how | {"threshold": 0.75, "overlap": 0.3},
    )
    assert len(want) > 3
    np.testing.assert_allclose(
        [[b[k] for k in ("score", "x0", "y0", "x1", "y1")] for b in got], want, rtol=1e-6, atol=1e-6
    )
    assert all(len(b["points"]) == 6 for b in got)


def test_yolo_and_finished_boxes() -> None:
    raw = np.zeros((1, 6, 3), np.float32)
    raw[0, :4, 1] = (160, 80, 64, 32)
    raw[0, 4:, 1] = (0.2, 0.9)
    how = {"kind": "yolo", "output": "o", "size": 320}
    (box,) = call("detect.js", "decode", {"o": {"data": js(raw), "shape": raw.shape}}, how)
    assert box["label"] == 1 and abs(box["score"] - 0.9) < 1e-6
    np.testing.assert_allclose([box[k] for k in ("x0", "y0", "x1", "y1")], [0.4, 0.2, 0.6, 0.3], atol=1e-7)
    boxes, scores = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32), np.array([[0.8]], np.float32)
    outputs = {"b": {"data": js(boxes), "shape": [1, 4]}, "s": {"data": js(scores), "shape": [1, 1]}}
    (box,) = call("detect.js", "decode", outputs, {"kind": "boxes", "boxes": "b", "scores": "s"})
    np.testing.assert_allclose([box[k] for k in ("x0", "y0", "x1", "y1")], [0.2, 0.1, 0.4, 0.3], atol=1e-7)


def test_fft_is_numpys() -> None:
    z = np.random.default_rng(0).standard_normal((2, 256))
    re, im = call("audio.js", "fft", js(z[0]), js(z[1]), whole=True)["args"]
    np.testing.assert_allclose(np.array(re) + 1j * np.array(im), np.fft.fft(z[0] + 1j * z[1]), atol=1e-9)


def test_spectrogram_finds_a_tone() -> None:
    t = np.arange(4000) / 8000
    got = np.array(call("audio.js", "spectrogram", js(np.sin(2 * np.pi * 1000 * t).astype(np.float32)), 5)).reshape(
        5, 128
    )
    assert (got.argmax(1) == 1000 / 8000 * 256).all()


def test_short_sound_is_repeated_as_in_python() -> None:
    x = np.arange(5, dtype=np.float32)
    assert call("audio.js", "fit", js(x), 12) == np.resize(x, 12).tolist()
    assert call("audio.js", "fit", js(x), 3) == np.resize(x, 3).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_npy_files(dtype: str, shape: tuple[int, ...]) -> None:
    a = (np.arange(int(np.prod(shape))).reshape(shape) - (0 if dtype in ("uint8", "bool") else 2)).astype(dtype)
    f = io.BytesIO()
    np.save(f, a)
    got = call("tensor.js", "parseNpy", buffer(f.getvalue()))
    assert got == {"data": a.reshape(-1).astype(float).tolist(), "shape": list(shape), "dtype": dtype}


@pytest.mark.parametrize("cut", [0, 5, 40, 130])
def test_damaged_npy_files(cut: int) -> None:
    f = io.BytesIO()
    np.save(f, np.zeros(4, np.float32))
    assert call("tensor.js", "parseNpy", buffer(f.getvalue()[:cut]))["error"]["code"] == "DK-FILE"


def test_other_npy_files_are_refused() -> None:
    for a in (np.zeros((2, 3), ">f4"), np.asfortranarray(np.zeros((2, 3))), np.array([b"text"]), np.zeros(2, "c8")):
        f = io.BytesIO()
        np.save(f, a)
        assert call("tensor.js", "parseNpy", buffer(f.getvalue()))["error"]["code"] == "DK-FILE"


def test_vectors_come_back() -> None:
    x = {"a": np.array([1, 2, 3], np.int8), "b": np.array([[1.5, -2.0]], np.float32)}
    blob, index = vectors.pack([("t", x, {"y": np.float32(7.0).reshape(())})])
    got = call("tensor.js", "unpack", buffer(blob), index[0]["inputs"])
    assert got["a"]["data"] == [1, 2, 3] and got["b"] == {"data": [1.5, -2.0], "shape": [1, 2], "dtype": "float32"}
    assert call("tensor.js", "unpack", buffer(blob[:4]), index[0]["outputs"])["error"]["code"] == "DK-FORMAT"


def tensor(values: list[float], shape: list[int] | None = None) -> dict[str, Any]:
    a = np.array(values, np.float32)
    return {
        "data": {"$": "Float32Array", "v": ["NaN" if np.isnan(v) else v for v in a.tolist()]},
        "shape": shape or [len(a)],
    }


def test_compare_tells_bits_from_nearness() -> None:
    assert call("tensor.js", "compare", tensor([1, 2]), tensor([1, 2])) == {"exact": True, "relative": 0}
    near = call("tensor.js", "compare", tensor([1, 2.0001]), tensor([1, 2]))
    assert not near["exact"] and near["relative"] == pytest.approx(5e-5, rel=1e-2)
    assert call("tensor.js", "compare", tensor([1, float("nan")]), tensor([1, 2]))["relative"] == "Infinity"
    assert call("tensor.js", "compare", tensor([float("nan")]), tensor([float("nan")]))["exact"]
    assert not call("tensor.js", "compare", tensor([0.0]), tensor([-0.0]))["exact"]
    assert call("tensor.js", "compare", tensor([1, 2], [2, 1]), tensor([1, 2]))["relative"] == "Infinity"
    assert call("tensor.js", "compare", tensor([1]), tensor([1, 2]))["relative"] == "Infinity"


def test_probabilities() -> None:
    x = np.array([1.0, 3.0, -2.0], np.float32)
    got = call("tensor.js", "probabilities", js(x))
    e = np.exp(x.astype(float) - 3)
    assert got["made"]
    np.testing.assert_allclose(got["values"], e / e.sum(), rtol=1e-12)
    assert not call("tensor.js", "probabilities", js(np.array([0.25, 0.75], np.float32)))["made"]


def test_drawing_lands_where_training_data_lies() -> None:
    """A stroke anywhere on the sheet: 28 x 28 has its centre of mass in the middle and spans 20; 8 x 8 spans the height."""
    cover = np.zeros((280, 280), np.float32)
    cover[20:120, 200:220] = 1
    got = np.array(call("image.js", "shrink", js(cover), 280, 28)).reshape(28, 28)
    rows, columns = np.nonzero(got.sum(1) > 0.01)[0], np.nonzero(got.sum(0) > 0.01)[0]
    assert (rows[0], rows[-1]) == (4, 23) and (columns[0] + columns[-1]) / 2 == pytest.approx(13.5, abs=0.6)
    small = np.array(call("image.js", "shrink", js(cover), 280, 8)).reshape(8, 8)
    assert (small.max(1) > 0.5).all() and small.max() <= 1
    plain = np.array(call("image.js", "shrink", js(cover), 280, 28, False)).reshape(28, 28)
    np.testing.assert_allclose(plain, cover.reshape(28, 10, 28, 10).mean((1, 3)), atol=0.13)


@pytest.mark.parametrize(
    ("how", "text", "length", "fixed", "ids"),
    [
        ({"split": "bytes"}, "aé", 5, True, [97, 195, 169, 0, 0]),
        ({"split": "bytes"}, "abcdef", 4, True, [97, 98, 99, 100]),
        ({"split": "characters", "vocabulary": ["a", "b"], "unknown": 9}, "abz", 8, False, [0, 1, 9]),
        (
            {"split": "words", "vocabulary": ["good", "film", "!"], "lowercase": True},
            "Good  FILM, really!",
            8,
            False,
            [0, 1, 2],
        ),
    ],
)
def test_text(how: dict, text: str, length: int, fixed: bool, ids: list[int]) -> None:
    assert call("text.js", "encode", text, how, length, fixed)["ids"] == ids
