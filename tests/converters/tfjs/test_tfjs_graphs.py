"""Graph models, one op each, against the answers of TensorFlow.js (``graphs.json.gz``, by ``make_graphs.mjs``)."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.converters.importers.tfjs.call import HANDLERS
from deploykit.errors import DeploykitError, FormatError, UnsupportedError

CASES = json.loads(gzip.decompress((Path(__file__).parent / "graphs.json.gz").read_bytes()))
# ops of TensorFlow that TensorFlow.js 4.22 does not know itself, as make_graphs.mjs prints
UNTESTED = {"CheckNumerics", "Inv", "PreventGradient", "Softsign", "SpaceToDepth"}


def write(case: dict[str, Any], folder: Path, **more: Any) -> Path:
    (folder / "w.bin").write_bytes(base64.b64decode(case["data"]))
    signature = {
        "inputs": {"x": {"name": "x:0"}},
        "outputs": {f"out{i}": {"name": r if ":" in r else f"{r}:0"} for i, r in enumerate(case["refs"])},
    }
    top = {
        "format": "graph-model",
        "modelTopology": case["modelTopology"],
        "weightsManifest": [{"paths": ["w.bin"], "weights": case["weights"]}],
        "signature": signature,
    }
    file = folder / "model.json"
    file.write_text(json.dumps(top | more))
    return file


def array(t: dict[str, Any]) -> np.ndarray:
    return np.array([float(v) for v in t["data"]]).astype(t["dtype"]).reshape(t["shape"])


@pytest.mark.parametrize("name", CASES)
def test_answers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    dk.convert(write(case, tmp_path), tmp_path / "m.dk")
    got = dk.Interpreter(tmp_path / "m.dk").run({"x": array(case["x"])})
    want = [array(t) for t in case["outputs"]]
    assert list(got) == [r if i else "y" for i, r in enumerate(case["refs"])]
    for a, b in zip(got.values(), want, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(b).max())))


def test_steps_and_a_dropped_dim_together(tmp_path: Path) -> None:
    """NumPy is the oracle: TensorFlow.js' CPU kernel takes wrong elements."""
    case = json.loads(json.dumps(CASES["strided"]))
    numbers = {"c0": [0, 1, 2], "c1": [3, -1, 3], "c2": [2, 2, 1]}
    assert [w["name"] for w in case["weights"]] == list(numbers)
    case["data"] = base64.b64encode(np.array(list(numbers.values()), "<i4").tobytes()).decode()
    dk.convert(write(case, tmp_path), tmp_path / "m.dk")
    x = np.arange(72, dtype=np.float32).reshape(4, 6, 3)
    np.testing.assert_array_equal(dk.Interpreter(tmp_path / "m.dk").run({"x": x})["y"], x[0:3:2, 1:-1:2, 2])


def test_every_handler_is_tested_or_listed() -> None:
    used = {n["op"] for c in CASES.values() for n in c["modelTopology"]["node"]}
    assert set(HANDLERS) - used == UNTESTED


def _node(index: int, **change: Any) -> Any:
    return lambda t: t["modelTopology"]["node"][index].update(change)


BAD = {
    "unknown op": (_node(-1, op="Magic"), UnsupportedError, r"Magic.*'y'"),
    "control flow": (_node(-1, op="StatelessWhile"), UnsupportedError, "control flow"),
    "missing node": (_node(-1, input=["x", "z"]), FormatError, "no node 'z'"),
    "cycle": (_node(-1, input=["x", "y"]), FormatError, "cycle"),
    "inputs": (_node(-1, input=[3]), FormatError, "list of names"),
    "too few inputs": (_node(-1, input=["x"]), FormatError, "missing"),
    "padding": (
        _node(-1, attr={"strides": {"list": {"i": ["1"] * 4}}, "padding": {"s": "!"}}), FormatError, "padding"),
    "strides": (_node(-1, attr={"strides": {"list": {"i": ["a"]}}}), FormatError, "strides"),
    "one stride": (_node(-1, attr={"strides": {"i": "2"}, "padding": {"s": "U0FNRQ=="}}), FormatError, "one per dim"),
    "no name": (lambda t: t["modelTopology"]["node"][0].pop("name"), FormatError, "no name"),
    "twice": (lambda t: t["modelTopology"]["node"].append(t["modelTopology"]["node"][0]), FormatError, "two nodes"),
    "nodes": (lambda t: t["modelTopology"].update(node={}), FormatError, "list of nodes"),
    "no constant": (lambda t: t.update(weightsManifest=[]), FormatError, "in no shard"),
    "shape": (lambda t: t["modelTopology"]["node"][0]["attr"].update(shape={"shape": {"dim": [3]}}), FormatError, "shape"),
    "signature": (lambda t: t["signature"]["outputs"].update(out0={"name": "w:0"}), FormatError, "'w'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_graphs(name: str, tmp_path: Path) -> None:
    change, kind, words = BAD[name]
    file = write(CASES["conv_same"], tmp_path)
    top = json.loads(file.read_text())
    change(top)
    file.write_text(json.dumps(top))
    with pytest.raises(kind, match=words):
        dk.convert(file)


def test_input_shapes_and_open_batch(tmp_path: Path) -> None:
    case = json.loads(json.dumps(CASES["conv_same"]))
    case["modelTopology"]["node"][0]["attr"]["shape"]["shape"]["dim"][0]["size"] = "-1"
    file = write(case, tmp_path)
    assert [str(d) for d in dk.convert(file).graph.inputs[0].shape] == ["batch", "6", "6", "4"]
    assert dk.convert(file, input_shapes={"x": [5, 6, 6, 4]}).graph.inputs[0].shape == (5, 6, 6, 4)
    with pytest.raises(DeploykitError, match="no input 'q'"):
        dk.convert(file, input_shapes={"q": [1]})
