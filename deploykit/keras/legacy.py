"""Topologies and weight names of Keras 2, and whole models in ``.h5`` files of Keras 2 and 3.

Keras 2 (and TensorFlow.js, which kept its form) describes a model by other keys than Keras 3: they are brought into the
newer form, which :mod:`deploykit.keras.serialize` reads.  Weights are found by their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from deploykit.errors import DeploykitError, FormatError, InputError, UnsupportedError
from deploykit.graph.growth import loading

_RNN = {"SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM2D", "Bidirectional"}
# keys of Keras 2 that say nothing, or what Keras 3 says elsewhere; weights come from the file, so nothing is initialised
_DROP = frozenset(
    "batch_input_shape batch_size input_dtype implementation sparse ragged time_major rank input_length optional "
    "fused virtual_batch_size adjustment query_shape key_shape value_shape".split()
)
_DROP_ENDS = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization",
            "Convolution2D": "Conv2D", "Model": "Functional", "Deconvolution2D": "Conv2DTranspose"}  # fmt: skip
_PARAMETERS = {"LeakyReLU": {"alpha": "negative_slope"}}
_DEPTH = 32


def build(topology: Any, weights: dict[str, np.ndarray], where: str, old: bool = True) -> Any:
    """The model of a topology, with random weights.  ``old``: of Keras 2, whose hard_sigmoid is clip(0.2 x + 0.5, 0, 1).

    Raises UnsupportedError that names every layer which we do not have.
    """
    from deploykit.keras import layers, models  # noqa: F401  (defining the classes makes them known)
    from deploykit.keras.serialize import _KNOWN, deserialize

    layers.load_all()
    _register_hard_sigmoid()
    unknown: dict[str, list[str]] = {}
    config = _Upgrade(where, _KNOWN, unknown, old).layer(topology)
    if unknown:
        problems = [
            f"{cls}: there is no such layer (layer {', '.join(map(repr, names[:3]))})" for cls, names in unknown.items()
        ]
        head = f"{where} cannot be imported; {len(problems)} problem{'s' * (len(problems) > 1)}:"
        raise UnsupportedError("\n  ".join([head, *problems]), problems=problems)
    try:
        with loading(where, sum(w.nbytes for w in weights.values())):
            model = deserialize(config)
        if not model.built:
            raise InputError("its input shape is not stored. Save it after it has been built or trained once")
    except InputError as e:
        raise UnsupportedError(f"{where} cannot be imported: {e.message}") from None
    except DeploykitError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as e:
        raise FormatError(f"{where}: its topology is damaged ({type(e).__name__}: {e}).") from None
    return model


def _register_hard_sigmoid() -> None:
    from deploykit.keras.serialize import _CUSTOM
    from deploykit.ops.core import F

    def hard_sigmoid(x: Any) -> Any:
        return F.hard_sigmoid(x)

    _CUSTOM.setdefault("keras2>hard_sigmoid", hard_sigmoid)


class _Upgrade:
    """Dicts of layers and models in Keras 3's form; classes that nobody knows are collected in ``unknown``."""

    def __init__(self, where: str, known: Any, unknown: dict[str, list[str]], old: bool) -> None:
        self.where, self.known, self.unknown, self.old = where, known, unknown, old

    def layer(self, d: Any, depth: int = 0) -> dict[str, Any]:
        """One layer or model."""
        if not isinstance(d, dict) or not isinstance(d.get("class_name"), str) or depth > _DEPTH:
            raise FormatError(f"{self.where}: the topology holds something that is no layer: {str(d)[:80]}")
        cls: str = _RENAMED.get(d["class_name"]) or d["class_name"]
        config = d.get("config")
        if isinstance(config, list):  # Sequential of old
            config = {"layers": config}
        if not isinstance(config, dict):
            raise FormatError(f"{self.where}: layer of class '{cls}' has no config.")
        name = str(d.get("name") or config.get("name") or cls)
        if not isinstance(config.get("name", ""), str) or not isinstance(
            config.get("batch_input_shape", []), (list, type(None))
        ):
            raise FormatError(f"{self.where}: layer '{name}': its name is no text, or its batch_input_shape no list.")
        if not self.old and not {"trainable", "layers"} & set(config) and cls != "InputLayer":
            # an operation of keras.ops, which alone has nothing to train (Keras itself cannot read it back from .h5)
            return {"class_name": cls, "module": "keras.ops", "config": config}
        if cls not in self.known:
            self.unknown.setdefault(cls, []).append(name)
            return {"class_name": cls, "config": {}}
        if "layers" in config:
            return self._model(cls, name, config, depth)
        out = {k: v for k, v in config.items() if k not in _DROP and not k.endswith(_DROP_ENDS)}
        for old_key, new_key in _PARAMETERS.get(cls, {}).items():
            if old_key in out:
                out[new_key] = out.pop(old_key)
        if cls == "InputLayer" and config.get("batch_input_shape") is not None:
            out["batch_shape"] = config["batch_input_shape"]
        if isinstance(out.get("dtype"), dict) and out["dtype"].get("class_name") == "Policy":
            out["dtype"] = (out["dtype"].get("config") or {}).get("name")
        if isinstance(out.get("axis"), list) and len(out["axis"]) == 1:
            out["axis"] = out["axis"][0]
        if out.get("groups") == 1:
            del out["groups"]
        for key in ("activation", "recurrent_activation"):
            if self.old and out.get(key) == "hard_sigmoid":
                out[key] = "keras2>hard_sigmoid"
        if cls == "GRU":
            out["reset_after"] = bool(config.get("reset_after", False))
        if cls in ("LSTM", "LSTMCell") and out.get("unit_forget_bias") is None:
            out.pop("unit_forget_bias", None)
        for key in ("layer", "backward_layer", "cell"):
            if isinstance(out.get(key), dict):
                out[key] = self.layer(out[key], depth + 1)
        return {"class_name": cls, "config": out}

    def _model(self, cls: str, name: str, config: dict[str, Any], depth: int) -> dict[str, Any]:
        inner = config["layers"]
        if not isinstance(inner, list):
            raise FormatError(f"{self.where}: the layers of '{name}' are no list.")
        layers = [self.layer(x, depth + 1) for x in inner]
        if not all(isinstance(x.get("inbound_nodes", []), (list, type(None))) for x in inner):
            raise FormatError(f"{self.where}: the inbound_nodes of a layer of '{name}' are no list.")
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
                x["inbound_nodes"] = [self._inbound(n, x["class_name"]) for n in old.get("inbound_nodes") or []]
            _number_calls(new)
        return {"class_name": cls, "config": new}

    def _inbound(self, node: Any, cls: str) -> dict[str, Any]:
        """One call of a layer: ``[[name, node, tensor, kwargs], ...]`` to args and kwargs."""
        if isinstance(node, dict):
            return node  # Keras 3's own
        try:
            if node and isinstance(node[0], str):
                node = [node]  # the only input, written without a list
            tensors = [_tensor(t) for t in node]
            kwargs = {k: v for t in node for k, v in (t[3] if len(t) > 3 else {}).items() if v is not None}
            kwargs = {k: _tensor(v) if _is_tensor(v) else v for k, v in kwargs.items()}
        except (TypeError, LookupError, AttributeError, ValueError):
            raise FormatError(f"{self.where}: a layer's inbound_nodes are damaged: {str(node)[:80]}") from None
        kwargs.pop("training", None)
        if cls in _RNN and len(tensors) > 1:  # first states follow the sequence
            return {"args": tensors[:1], "kwargs": {**kwargs, "initial_state": tensors[1:]}}
        return {"args": tensors if len(tensors) == 1 else [tensors], "kwargs": kwargs}


def _tensor(t: Any) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [str(t[0]), int(t[1]), int(t[2])]}}


def _is_tensor(v: Any) -> bool:
    """``[layer, call, output]``: how Keras 2 writes a tensor given by keyword."""
    return isinstance(v, list) and len(v) == 3 and isinstance(v[0], str) and all(isinstance(n, int) for n in v[1:])


def _number_calls(model: dict[str, Any]) -> None:
    """Keras 2 counts the calls of a model within a model from 1, where 0 is its own making; Keras 3 from 0."""
    used: dict[str, list[list[Any]]] = {}

    def walk(x: Any) -> None:
        if isinstance(x, dict):
            x = list(x.values())
        if isinstance(x, list):
            if _is_tensor(x):
                used.setdefault(x[0], []).append(x)
            else:
                for v in x:
                    walk(v)

    walk([x["inbound_nodes"] for x in model["layers"]])
    walk([model["input_layers"], model["output_layers"]])
    for x in model["layers"]:
        calls = used.get(x["name"], [])
        if "layers" in x["config"] and calls and min(t[1] for t in calls) == 1:
            for t in calls:
                t[1] -= 1


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


# ---------------------------------------------------------------- weights
def assign(model: Any, weights: dict[str, np.ndarray], where: str) -> None:
    """Give every variable its weight: names are ``layer/weight``, wrappers in between may be left out by the writer."""
    left = dict(weights)
    problems = []
    for parts, v in variables(model, (), set()):
        path = "/".join(parts)
        found = [n for n in left if _means(n.split("/"), list(parts))]
        exact = [n for n in found if left[n].shape == tuple(v.shape)] or found
        most = max((len(n.split("/")) for n in exact), default=0)
        exact = [n for n in exact if len(n.split("/")) == most]
        if len(exact) != 1:
            what = "not there" if not exact else f"not clear: {', '.join(exact[:4])} all fit"
            problems.append(f"weight '{path}' {tuple(v.shape)} is {what}")
            continue
        data = left.pop(exact[0])
        if data.shape != tuple(v.shape):
            problems.append(f"weight '{path}' should have shape {tuple(v.shape)}; in the file it has {data.shape}")
            continue
        v.assign(np.asarray(data, v.dtype))
    if problems:
        raise FormatError(f"{where}: weights and topology do not fit: " + "; ".join(problems[:8]))


def variables(layer: Any, above: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Any]]:
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
            yield from variables(x, here, seen)


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


# ---------------------------------------------------------------- .h5
def load_h5(path: str, compile: bool) -> Any:
    """A whole model of an ``.h5`` file that ``model.save`` of Keras 2 or 3 wrote."""
    from deploykit.keras.saving import _h5, _h5_tensors

    tensors = _h5_tensors(path)
    with _h5().File(path, "r") as f:
        try:
            config = f.attrs.get("model_config")
            version = _text(f.attrs.get("keras_version") or b"2")
            names = _names(f["model_weights"], "layer_names") if "model_weights" in f else []
            inside = {n: _names(f["model_weights"][n], "weight_names") for n in names}
            training = f.attrs.get("training_config")
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError) as e:
            raise FormatError(f"{path}: damaged HDF5 file ({e}). Get the file again.") from None
    if config is None:
        raise InputError(
            f"{path}: this .h5 file holds weights alone, no model. Build the model and use model.load_weights(), or save "
            "it whole with model.save()."
        )
    try:
        topology = json.loads(_text(config))
        compiled = json.loads(_text(training)) if training is not None else None
    except (ValueError, RecursionError):
        raise FormatError(f"{path}: the model's description is no JSON, or nested without end.") from None
    model = build(topology, tensors, path, old=not version.startswith("3"))
    by_name = {layer.name: layer for layer in model.layers}
    for name in names:
        weights = {w.partition(":")[0]: tensors.get(f"model_weights/{name}/{w}") for w in inside[name]}
        lost = [w for w, a in weights.items() if a is None]
        if lost or (weights and name not in by_name):
            raise FormatError(f"{path}: layer '{name}' {f'lacks {lost[0]!r}' if lost else 'is not in the model'}.")
        if weights:
            _assign_layer(by_name[name], weights, path)  # type: ignore[arg-type]
    missing = [k for k, x in by_name.items() if x.weights and not inside.get(k)]
    if missing:
        raise FormatError(f"{path}: there are no weights for layer '{missing[0]}'.")
    if compile and compiled and version.startswith("3"):  # Keras 2 describes losses and optimizers in other words
        given = {k: compiled.get(k) for k in ("loss", "loss_weights", "metrics", "weighted_metrics")}
        model.compile_from_config({"optimizer": compiled.get("optimizer_config"), **given})
    return model


def _assign_layer(layer: Any, weights: dict[str, np.ndarray], where: str) -> None:
    """By name; by order (trainable ones first) where names say it in other words."""
    try:
        assign(layer, weights, where)
    except FormatError:
        ordered = [*layer.trainable_weights, *layer.non_trainable_weights]
        arrays = list(weights.values())
        if [tuple(v.shape) for v in ordered] != [a.shape for a in arrays]:
            raise
        for v, a in zip(ordered, arrays, strict=True):
            v.assign(np.asarray(a, v.dtype))


def _text(x: Any) -> str:
    return x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x)


def _names(group: Any, key: str) -> list[str]:
    """An attribute that lists names; long lists are cut into ``key0``, ``key1`` ..."""
    parts = [group.attrs[key]] if key in group.attrs else []
    while f"{key}{len(parts)}" in group.attrs and key not in group.attrs:
        parts.append(group.attrs[f"{key}{len(parts)}"])
    return [_text(n) for p in parts for n in p]
