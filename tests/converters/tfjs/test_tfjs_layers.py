"""Layers models against the answers of TensorFlow.js itself (``layers.json``, written by ``make_layers.mjs``)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import DeploykitError, FormatError, UnsupportedError

CASES = json.loads((Path(__file__).parent / "layers.json").read_text())


def write(case: dict[str, Any], folder: Path, shards: int = 1) -> Path:
    """model.json and its shards, as TensorFlow.js saves them."""
    data = base64.b64decode(case["data"])
    cut = [len(data) * i // shards for i in range(shards + 1)]
    paths = [f"group1-shard{i + 1}of{shards}.bin" for i in range(shards)]
    for p, a, b in zip(paths, cut, cut[1:], strict=False):
        (folder / p).write_bytes(data[a:b])
    top = {
        "format": "layers-model",
        "generatedBy": "TensorFlow.js tfjs-layers v4.22.0",
        "modelTopology": case["modelTopology"],
        "weightsManifest": [{"paths": paths, "weights": case["weights"]}],
    }
    file = folder / "model.json"
    file.write_text(json.dumps(top))
    return file


def arrays(case: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    one = lambda t: np.array(t["data"], np.float32).reshape(t["shape"])  # noqa: E731
    return {k: one(v) for k, v in case["inputs"].items()}, [one(v) for v in case["outputs"]]


@pytest.mark.parametrize("name", CASES)
def test_answers(name: str, tmp_path: Path) -> None:
    file = write(CASES[name], tmp_path, shards=3 if name == "conv" else 1)
    report = dk.convert(file, tmp_path / "m.dk")
    assert report.verification["status"] == "passed"
    session = dk.Interpreter(tmp_path / "m.dk")
    feeds, want = arrays(CASES[name])
    typed = {s.name: x.astype(s.dtype) for s, x in zip(session.inputs, feeds.values(), strict=True)}
    got = session.run(typed)
    for a, b in zip(got.values(), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float16"])
def test_quantized_weights(kind: str, tmp_path: Path) -> None:
    """Weights of ``--quantize_uint8`` and the like stand for min + scale * q."""
    case = json.loads(json.dumps(CASES["activations"]))
    data, parts, at, rounded = base64.b64decode(case["data"]), [], 0, {}
    for w in case["weights"]:
        n = int(np.prod(w["shape"]))
        v = np.frombuffer(data, np.float32, n, at)
        at += 4 * n
        if kind == "float16":
            q, back, w["quantization"] = v.astype(np.float16), v.astype(np.float16).astype(np.float32), {"dtype": kind}
        else:
            low, scale = float(v.min()), float(v.max() - v.min()) / np.iinfo(kind).max or 1.0
            q = np.round((v - low) / scale).astype(kind)
            back, w["quantization"] = q.astype(np.float64) * scale + low, {"dtype": kind, "scale": scale, "min": low}
        parts.append(q.tobytes())
        rounded[w["name"]] = np.asarray(back, np.float32).reshape(w["shape"])
    case["data"] = base64.b64encode(b"".join(parts)).decode()
    from deploykit.converters.importers.tfjs.reader import read_model

    got = read_model(write(case, tmp_path)).weights
    assert set(got) == set(rounded)
    for k, v in rounded.items():
        np.testing.assert_array_equal(got[k], v)
    dk.convert(tmp_path / "model.json", tmp_path / "m.dk")


def _edit(folder: Path, change: Any) -> Path:
    file = write(CASES["conv"], folder)
    top = json.loads(file.read_text())
    change(top)
    file.write_text(json.dumps(top))
    return file


def _shard(name: str) -> Any:
    return lambda top: top["weightsManifest"][0].update(paths=[name])


BAD = {
    "path above": (_shard("../group1-shard1of1.bin"), FormatError, "beside the model"),
    "path encoded": (_shard("..%2Fgroup1-shard1of1.bin"), FormatError, "beside the model"),
    "absolute path": (_shard("/etc/passwd"), FormatError, "beside the model"),
    "windows path": (_shard("..\\x.bin"), FormatError, "beside the model"),
    "address": (_shard("https://example.com/x.bin"), FormatError, "beside the model"),
    "missing": (_shard("x.bin"), FormatError, "missing"),
    "no topology": (lambda t: t.pop("modelTopology"), FormatError, "modelTopology"),
    "shape": (lambda t: t["weightsManifest"][0]["weights"][0].update(shape=[3, 3, 3, 5]), FormatError, "cut off"),
    "negative": (lambda t: t["weightsManifest"][0]["weights"][0].update(shape=[-3, -3, 3, 4]), FormatError, "described"),
    "huge": (lambda t: t["weightsManifest"][0]["weights"][0].update(shape=[2**40, 2**40]), FormatError, "impossible shape"),
    "string": (lambda t: t["weightsManifest"][0]["weights"][0].update(dtype="string"), UnsupportedError, "strings"),
    "dtype": (lambda t: t["weightsManifest"][0]["weights"][0].update(dtype="object"), FormatError, "dtype"),
    "renamed": (lambda t: t["weightsManifest"][0]["weights"][0].update(name="a/b"), FormatError, "do not fit"),
    "layer": (
        lambda t: t["modelTopology"]["config"]["layers"][0].update(class_name="MyLayer"), UnsupportedError, "MyLayer"),
    "damaged": (lambda t: t["modelTopology"].update(config=3), FormatError, "config"),
    "argument": (
        lambda t: t["modelTopology"]["config"]["layers"][0]["config"].update(filters="many"), DeploykitError,
        "filters|many|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    change, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        dk.convert(_edit(tmp_path, change), tmp_path / "m.dk")
    assert not (tmp_path / "m.dk").exists()


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    file = write(CASES["conv"], inner)
    shard = inner / "group1-shard1of1.bin"
    shard.rename(tmp_path / "secret.bin")
    shard.symlink_to(tmp_path / "secret.bin")
    with pytest.raises(FormatError, match="out of its folder"):
        dk.convert(file)


@pytest.mark.parametrize("text", ["", "<!doctype html><html>", "[1", "3", "[]", '{"a": 1}', "[" * 100000])
def test_no_model(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(FormatError):
        dk.convert(tmp_path / "model.json")
