"""A layers model: its topology is Keras 2's, so it is rewritten in Keras 3's form and built by ``deploykit.keras``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deploykit.converters.importers.tfjs.reader import Source
from deploykit.errors import DeploykitError, FormatError, InputError, UnsupportedError
from deploykit.graph import Graph
from deploykit.graph.growth import loading

_RNN = {"SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM2D", "Bidirectional"}
# keys of Keras 2 that say nothing, or what Keras 3 says elsewhere; weights come from the file, so nothing is initialised
_DROP = {
    "batch_input_shape",
    "batch_size",
    "input_dtype",
    "implementation",
    "sparse",
    "ragged",
    "time_major",
    "rank",
    "input_length",
}
_DROP_ENDS = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization",
            "Convolution2D": "Conv2D", "Model": "Functional", "Deconvolution2D": "Conv2DTranspose"}  # fmt: skip
_PARAMETERS = {"LeakyReLU": {"alpha": "negative_slope"}}
_DEPTH = 32


def import_layers(source: Source) -> Graph:
    """The Graph of a layers model."""
    from deploykit.keras import layers, models  # noqa: F401  (defining the classes makes them known)
    from deploykit.keras.serialize import _KNOWN, deserialize

    layers.load_all()

    # Keras 2 and TensorFlow.js: clip(0.2 x + 0.5, 0, 1); Keras 3 changed the slope to 1/6
    _register_hard_sigmoid()
    unknown: dict[str, list[str]] = {}
    config = _upgrade(source.topology, source.name, _KNOWN, unknown)
    if unknown:
        problems = [
            f"{cls}: there is no such layer (layer {', '.join(map(repr, names[:3]))})" for cls, names in unknown.items()
        ]
        head = f"{source.name} cannot be imported; {len(problems)} problem{'s' * (len(problems) > 1)}:"
        raise UnsupportedError("\n  ".join([head, *problems]), problems=problems)
    try:
        with loading(source.name, sum(w.nbytes for w in source.weights.values())):
            model = deserialize(config)
        if not model.built:
            raise InputError("its input shape is not stored. Save it after it has been built or trained once")
    except InputError as e:
        raise UnsupportedError(f"{source.name} cannot be imported: {e.message}") from None
    except DeploykitError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as e:
        raise FormatError(f"{source.name}: its topology is damaged ({type(e).__name__}: {e}).") from None
    _load(model, source)
    return model.to_graph()


def _register_hard_sigmoid() -> None:
    from deploykit.keras.serialize import _CUSTOM
    from deploykit.ops.core import F

    def hard_sigmoid(x: Any) -> Any:
        return F.hard_sigmoid(x)

    _CUSTOM.setdefault("tfjs>hard_sigmoid", hard_sigmoid)


def _upgrade(d: Any, where: str, known: Any, unknown: dict[str, list[str]], depth: int = 0) -> dict[str, Any]:
    """A layer's or model's dict in Keras 3's form; classes that nobody knows are collected."""
    if not isinstance(d, dict) or not isinstance(d.get("class_name"), str) or depth > _DEPTH:
        raise FormatError(f"{where}: the topology holds something that is no layer: {str(d)[:80]}")
    cls = _RENAMED.get(d["class_name"], d["class_name"])
    config = d.get("config")
    if isinstance(config, list):  # Sequential of old
        config = {"layers": config}
    if not isinstance(config, dict):
        raise FormatError(f"{where}: layer of class '{cls}' has no config.")
    name = str(d.get("name") or config.get("name") or cls)
    if cls not in known:
        unknown.setdefault(cls, []).append(name)
        return {"class_name": cls, "config": {}}
    if "layers" in config:
        inner = config["layers"]
        if not isinstance(inner, list):
            raise FormatError(f"{where}: the layers of '{name}' are no list.")
        layers = [_upgrade(x, where, known, unknown, depth + 1) for x in inner]
        new: dict[str, Any] = {"name": name, "layers": layers}
        if cls == "Sequential":
            first = _first_shape(inner)
            if first is not None and layers[0]["class_name"] != "InputLayer":
                given = {"batch_shape": list(first), "name": f"{layers[0]['config'].get('name', name)}_input"}
                layers.insert(0, {"class_name": "InputLayer", "config": given})
        else:
            new |= {k: config.get(k) for k in ("input_layers", "output_layers")}
            for x, old in zip(layers, inner, strict=True):
                x["name"] = old.get("name") or x["config"].get("name")
                x["inbound_nodes"] = [_inbound(n, x["class_name"], where) for n in old.get("inbound_nodes") or []]
        return {"class_name": cls, "config": new}
    out = {k: v for k, v in config.items() if k not in _DROP and not k.endswith(_DROP_ENDS)}
    for old_key, new_key in _PARAMETERS.get(cls, {}).items():
        if old_key in out:
            out[new_key] = out.pop(old_key)
    if cls == "InputLayer" and config.get("batch_input_shape") is not None:
        out["batch_shape"] = config["batch_input_shape"]
    for key in ("activation", "recurrent_activation"):
        if out.get(key) == "hard_sigmoid":
            out[key] = "tfjs>hard_sigmoid"
    if cls == "GRU":
        out["reset_after"] = bool(config.get("reset_after", False))
    if cls in ("LSTM", "LSTMCell") and out.get("unit_forget_bias") is None:
        out.pop("unit_forget_bias", None)
    for key in ("layer", "backward_layer", "cell"):
        if isinstance(out.get(key), dict):
            out[key] = _upgrade(out[key], where, known, unknown, depth + 1)
    return {"class_name": cls, "config": out}


def _first_shape(layers: Any) -> Any:
    """The input shape that the first layer, or the first one within it, was made with."""
    for _ in range(_DEPTH):
        first = layers[0] if isinstance(layers, list) and layers else None
        config = first.get("config") if isinstance(first, dict) else None
        if not isinstance(config, dict):
            return None
        if config.get("batch_input_shape") is not None:
            return config["batch_input_shape"]
        layers = config.get("layers")
    return None


def _inbound(node: Any, cls: str, where: str) -> dict[str, Any]:
    """One call of a layer: ``[[name, node, tensor, kwargs], ...]`` to args and kwargs."""
    if isinstance(node, dict):
        return node  # Keras 3's own
    try:
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [str(t[0]), int(t[1]), int(t[2])]}}
            for t in node
        ]
        kwargs = {k: v for t in node for k, v in (t[3] if len(t) > 3 else {}).items() if v is not None}
    except (TypeError, IndexError, AttributeError, ValueError):
        raise FormatError(f"{where}: a layer's inbound_nodes are damaged: {str(node)[:80]}") from None
    kwargs.pop("training", None)
    if cls in _RNN and len(tensors) > 1:  # first states follow the sequence
        return {"args": tensors[:1], "kwargs": {**kwargs, "initial_state": tensors[1:]}}
    return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": kwargs}


def _load(model: Any, source: Source) -> None:
    """Give every variable its weight: names are ``layer/weight``, wrappers in between may be left out by the writer."""
    left = dict(source.weights)
    problems = []
    for parts, v in _variables(model, (), set()):
        path = "/".join(parts)
        found = [n for n in left if _means(n.split("/"), list(parts))]
        exact = [n for n in found if left[n].shape == tuple(v.shape)] or found
        most = max((len(n.split("/")) for n in exact), default=0)
        exact = [n for n in exact if len(n.split("/")) == most]
        if len(exact) != 1:
            what = "in no shard" if not exact else f"not clear: {', '.join(exact[:4])} all fit"
            problems.append(f"weight '{path}' {tuple(v.shape)} is {what}")
            continue
        data = left.pop(exact[0])
        if data.shape != tuple(v.shape):
            problems.append(f"weight '{path}' should have shape {tuple(v.shape)}; in the file it has {data.shape}")
            continue
        v.assign(np.asarray(data, v.dtype))
    if problems:
        raise FormatError(f"{source.name}: weights and topology do not fit: " + "; ".join(problems[:8]))


def _variables(layer: Any, above: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names of the layers around it and its own, variable) for every variable."""
    from deploykit.keras.saving import _children

    if id(layer) in seen:
        return
    seen.add(id(layer))
    here = (*above, layer.name)
    for v in layer._weights:
        if "seed_generator" not in v.path:
            yield (*here, v.path.rpartition("/")[2]), v
    for _, child in _children(layer):
        for x in child if isinstance(child, list) else [child]:
            yield from _variables(x, here, seen)


def _means(name: list[str], path: list[str]) -> bool:
    """Whether a weight's name in the file stands for a variable's path."""
    leaf = {"depthwise_kernel": "kernel"}.get(name[-1], name[-1])
    if leaf != path[-1] and name[-1] != path[-1]:
        return False
    at = 0
    inner = [p for p in name[:-1] if not p.endswith("_cell")]
    for p in path[:-1]:
        if at < len(inner) and p == inner[at]:
            at += 1
    return at == len(inner) and at > 0
