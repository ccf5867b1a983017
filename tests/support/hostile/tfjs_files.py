"""Hostile TensorFlow.js models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.hostile.cases import CASES, HUGE, Case, beside_a_secret, case


def _tfjs(
    folder: Path, weights: list[dict[str, Any]], paths: list[Any], topology: dict[str, Any] | None = None
) -> Path:
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "w", "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "y", "op": "AddV2", "input": ["x", "w"], "attr": {"T": {"type": "DT_FLOAT"}}},
    ]
    top = {
        "format": "graph-model",
        "modelTopology": topology or {"node": nodes},
        "weightsManifest": [{"paths": paths, "weights": weights}],
    }
    path = folder / "model.json"
    path.write_text(json.dumps(top))
    return path


def _shard(name: Any, link: str = "") -> Case:
    def make(folder: Path) -> Path:
        inner = beside_a_secret(folder, 8, str(name), link)
        return _tfjs(inner, [{"name": "w", "shape": [2], "dtype": "float32"}], [name])

    return make


CASES |= {
    "tfjs_path_up": _shard("../secret"),
    "tfjs_path_encoded": _shard("%2e%2e/secret"),
    "tfjs_path_absolute": _shard("/etc/passwd"),
    "tfjs_path_url": _shard("file:///etc/passwd"),
    "tfjs_path_link": _shard("w", "../secret"),
    "tfjs_path_folder_link": _shard("d/secret", ".."),
    "tfjs_path_device": _shard("w", "/dev/zero"),
    "tfjs_path_number": _shard(7),
}


@case
def tfjs_huge_weight(folder: Path) -> Path:
    (folder / "w").write_bytes(b"1234")
    return _tfjs(folder, [{"name": "w", "shape": [HUGE, HUGE], "dtype": "float32"}], ["w"])


@case
def tfjs_deep_json(folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text('{"modelTopology":' * 100_000)
    return path


@case
def tfjs_fill(folder: Path) -> Path:
    (folder / "w").write_bytes(np.int32([1 << 20, 1 << 20]).tobytes() + np.float32(1).tobytes())
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "n", "op": "Const", "attr": {"dtype": {"type": "DT_INT32"}}},
        {"name": "v", "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}},
        {"name": "f", "op": "Fill", "input": ["n", "v"], "attr": {"T": {"type": "DT_FLOAT"}}},
        {"name": "y", "op": "AddV2", "input": ["x", "f"], "attr": {"T": {"type": "DT_FLOAT"}}},
    ]
    weights = [{"name": "n", "shape": [2], "dtype": "int32"}, {"name": "v", "shape": [], "dtype": "float32"}]
    return _tfjs(folder, weights, ["w"], {"node": nodes})


@case
def tfjs_units(folder: Path) -> Path:
    """A layers model with a layer of 2^33 units."""
    layers = json.loads((Path(__file__).parents[2] / "converters" / "tfjs" / "layers.json").read_text())
    text = json.dumps(_first_topology(layers))
    at = text.index('"units": ') + 9
    end = next(i for i in range(at, len(text)) if not text[i].isdigit())
    path = folder / "model.json"
    path.write_text(json.dumps({
        "format": "layers-model",
        "modelTopology": json.loads(text[:at] + "8589934592" + text[end:]),
        "weightsManifest": [],
    }))  # fmt: skip
    return path


def _first_topology(x: Any) -> Any:
    """The first model in the tests' layers.json that has a Dense layer."""
    if isinstance(x, dict) and "modelTopology" in x and '"units": ' in json.dumps(x["modelTopology"]):
        return x["modelTopology"]
    for v in x.values() if isinstance(x, dict) else x if isinstance(x, list) else ():
        found = _first_topology(v)
        if found is not None:
            return found
    return None
