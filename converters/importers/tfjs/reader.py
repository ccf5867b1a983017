"""``model.json`` -> topology and weights: shards are looked for beside it and nowhere else, sizes are checked first."""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from deploykit.errors import FormatError, InputError, UnsupportedError
from deploykit.graph.growth import check_shape
from deploykit.graph.sniff import what_is

_LIMIT = 256 << 20  # bytes of a model.json
_DTYPES = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4"), "bool": np.dtype("u1"), "float16": np.dtype("<f2"),
           "uint8": np.dtype("u1"), "uint16": np.dtype("<u2")}  # fmt: skip
_OTHERS = {"string": "strings have no counterpart here", "complex64": "complex weights are not supported"}


@dataclass
class Source:
    """What a model.json says: ``topology`` as it stands there, ``weights`` by name, ``info`` the other fields."""

    name: str
    topology: dict[str, Any]
    weights: dict[str, np.ndarray]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def is_layers(self) -> bool:
        """Whether it is a layers model (Keras' architecture) rather than a graph of TensorFlow ops."""
        return "node" not in self.topology


def read_model(source: Any) -> Source:
    """Read a path of a ``model.json``; FormatError for what is damaged, missing or points elsewhere."""
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            "a TensorFlow.js model is several files: give the path of its model.json, with the weight shards beside it."
        )
    path = Path(source)
    name = str(path)
    if path.stat().st_size > _LIMIT:
        raise FormatError(f"{name}: {path.stat().st_size} bytes are too many for a model.json; the limit is {_LIMIT}.")
    data = path.read_bytes()
    try:
        top = json.loads(data)
    except (ValueError, RecursionError):
        kind = what_is(data)
        raise FormatError(
            f"{name} is not a TensorFlow.js model: " + (f"it is {kind}." if kind else "no JSON.")
        ) from None
    if not isinstance(top, dict) or not isinstance(top.get("modelTopology"), dict):
        hint = ""
        if isinstance(top, list) or (isinstance(top, dict) and "weights" in top and "paths" in top):
            hint = " This looks like a weights manifest of before 2019; convert the model again with tensorflowjs_converter"
        raise FormatError(f"{name} is JSON, but no TensorFlow.js model: it has no 'modelTopology'.{hint}")
    topology = top["modelTopology"]
    if isinstance(topology.get("model_config"), dict):  # written by the Python converter
        topology = topology["model_config"]
    weights: dict[str, np.ndarray] = {}
    for group in _list(top.get("weightsManifest", []), name, "weightsManifest"):
        weights |= _group(path, group)
    return Source(
        name, topology, weights, {k: v for k, v in top.items() if k not in ("modelTopology", "weightsManifest")}
    )


def _list(x: Any, name: str, what: str) -> list[Any]:
    if not isinstance(x, list):
        raise FormatError(f"{name}: '{what}' is {type(x).__name__}; expected a list.")
    return x


def _group(path: Path, group: Any) -> dict[str, np.ndarray]:
    """The weights of one group: its shards are one run of bytes, cut up by the specs in order."""
    name = str(path)
    if not isinstance(group, dict):
        raise FormatError(f"{name}: an entry of weightsManifest is no object.")
    specs = [_spec(s, name) for s in _list(group.get("weights"), name, "weights")]
    shards = [_shard(path, p) for p in _list(group.get("paths"), name, "paths")]
    have = sum(len(s) for s in shards)
    want = sum(s["bytes"] for s in specs)
    if have != want:
        state = "cut off" if have < want else "of another model"
        raise FormatError(
            f"{name}: its weights need {want} bytes, the {len(shards)} shards have {have}: a shard is {state}. "
            "Download the shards again."
        )
    data = shards[0] if len(shards) == 1 else np.concatenate(shards) if shards else np.empty(0, np.uint8)
    out, at = {}, 0
    for s in specs:
        out[s["name"]] = _array(s, data[at : at + s["bytes"]])
        at += s["bytes"]
    return out


def _shard(path: Path, p: Any) -> np.ndarray:
    """The bytes of a shard, mapped; only plain file names beside (or below) model.json are followed."""
    folder = path.resolve().parent
    text = unquote(p) if isinstance(p, str) else ""
    parts = text.replace("\\", "/").split("/")
    file = folder / text
    if not text or ":" in text or "\0" in text or text[0] in "/\\" or ".." in parts or max(map(len, parts)) > 200:
        raise FormatError(f"{path}: the shard name {p!r} does not stand for a file beside the model. Nothing was read.")
    if not file.is_file():
        raise FormatError(f"{path}: its weight shard '{text}' is missing. Put all shards in {folder}.")
    if not file.resolve().is_relative_to(folder):
        raise FormatError(f"{path}: the shard '{text}' is a link out of its folder. Nothing was read.")
    with open(file, "rb") as f:
        if os.fstat(f.fileno()).st_size == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _spec(s: Any, name: str) -> dict[str, Any]:
    """One weight's name, shape, dtype, quantization and bytes."""
    try:
        out = {"name": s["name"], "shape": tuple(s["shape"]), "dtype": s["dtype"], "q": s.get("quantization")}
        whole = all(type(d) is int and d >= 0 for d in out["shape"]) and all(
            isinstance(out[k], str) for k in ("name", "dtype")
        )
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise FormatError(f"{name}: a weight is not described right: {str(s)[:120]}")
    kind = out["dtype"] if out["q"] is None else out["q"].get("dtype") if isinstance(out["q"], dict) else None
    if out["dtype"] in _OTHERS:
        raise UnsupportedError(f"{name}: weight '{out['name']}': {_OTHERS[out['dtype']]}.")
    if not isinstance(kind, str) or kind not in _DTYPES or out["dtype"] not in ("float32", "int32", "bool"):
        raise FormatError(f"{name}: weight '{out['name']}' has dtype {out['dtype']!r} stored as {kind!r}.")
    out["stored"] = _DTYPES[kind]
    count = check_shape(f"{name}: weight '{out['name']}'", out["shape"], 4)
    out["bytes"] = count * out["stored"].itemsize
    return out


def _array(s: dict[str, Any], raw: np.ndarray) -> np.ndarray:
    """The numbers of a weight; quantized ones as ``min + scale * q``, in single precision as TensorFlow.js does."""
    stored = np.frombuffer(raw.tobytes() if not raw.flags.contiguous else raw, s["stored"]).reshape(s["shape"])
    q = s["q"]
    if q is None:
        return stored != 0 if s["dtype"] == "bool" else stored
    if s["stored"].kind == "f":
        return stored.astype(np.float32)
    try:
        scale, low = float(q["scale"]), float(q["min"])
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"weight '{s['name']}' is quantized, but has no scale and min.") from None
    real = stored.astype(np.float64) * scale + low
    if s["dtype"] == "int32":
        return np.floor(real + 0.5).astype(np.int32)  # Math.round
    return real.astype(np.float32)
