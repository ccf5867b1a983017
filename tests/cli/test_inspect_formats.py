"""``inspect`` explains and draws a model of every format that can be read, as it is: no second tool, no conversion first."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import deploykit as dk
from deploykit import formats
from deploykit.api import import_graph
from deploykit.cli.graph_page import page
from deploykit.cli.inspect_cmd import describe
from tests.support.peers import need

ROOT = Path(__file__).resolve().parents[1]


def net() -> dk.keras.Model:
    layers = dk.keras.layers
    x = layers.Input((8, 8, 3), name="pixels")
    y = layers.Conv2D(4, 3, activation="relu", name="first")(x)
    y = layers.Flatten()(layers.MaxPooling2D()(y))
    return dk.keras.Model(x, [layers.Dense(3, name="scores")(y), layers.Dense(2, activation="tanh", name="place")(y)])


def make(kind: str, folder: Path) -> Path:
    """A model in this format: ours, written by Keras 2, by TensorFlow.js, by torch."""
    path = folder / f"m{kind}"
    if kind in (".keras", ".dkt"):
        net().save(path)
    elif kind == ".h5":
        return ROOT / "keras" / "legacy" / "cnn.h5"
    elif kind == ".json":
        from tests.converters.tfjs.test_tfjs_layers import CASES, write

        return write(CASES["conv"], folder)
    elif kind == ".pt2":
        torch = need("torch")
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
        torch.export.save(torch.export.export(module.eval(), (torch.zeros(1, 3, 8, 8),)), path)
    else:
        dk.convert(net().to_graph(), path, verify=False)
    return path


KINDS = [".onnx", ".tflite", ".keras", ".h5", ".dkt", ".pt2", ".json", ".dk"]


def test_all_formats_are_here() -> None:
    aliases = {".hdf5", ".pt", ".pth"}  # of .h5; what torch.save wrote is refused with the way
    assert {k for k in formats.IMPORTERS if k.startswith(".")} | {".dk"} <= {*KINDS, *aliases}


@pytest.mark.parametrize("kind", KINDS)
def test_explained_and_drawn(kind: str, tmp_path: Path) -> None:
    need("h5py")
    path = make(kind, tmp_path)
    graph = import_graph(path)
    info = describe(path, graph)
    json.dumps(info)
    assert [v["name"] for v in info["inputs"]] == [v.name for v in graph.inputs] and info["outputs"]
    if kind not in (".h5", ".json", ".pt2"):
        assert [v["name"] for v in info["inputs"]] == ["pixels"]
        assert [v["name"] for v in info["outputs"]] == ["scores", "place"]
    text = page(path, graph, info)
    assert not re.search(r'(src|href)="', text)  # one file, nothing fetched
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    drawn = data["graphs"][0]["nodes"]
    assert len(drawn) >= len(graph.nodes) and any("conv" in str(n) for n in drawn)
    assert all(np.isfinite(n[k]) for n in drawn for k in "xywh")
