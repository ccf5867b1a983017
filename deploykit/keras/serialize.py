"""Objects to JSON-able dicts and back, in Keras 3's form: ``{"module", "class_name", "config", "registered_name"}``."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit import dtypes
from deploykit.errors import FormatError, InputError

_CUSTOM: dict[str, Any] = {}  # "package>name" or name -> class or function
_KNOWN: dict[str, type] = {}  # class name, also as "layers.Identity" -> our class


_BASE = {"name", "trainable", "dtype", "activity_regularizer", "autocast"}  # what **kwargs of a layer may hold


@functools.cache
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


class Configurable:
    """Remembers the arguments it was made with, so that ``get_config`` needs no writing; subclasses that take
    ``*args`` write their own."""

    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("deploykit.keras."):
            _KNOWN.setdefault(cls.__name__, cls)
            _KNOWN[f"{cls.__module__.split('.')[2]}.{cls.__name__}"] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        signature = _signature(cls.__init__)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = dict(list(bound.arguments.items())[1:])
        for p in signature.parameters.values():
            if p.kind is p.VAR_KEYWORD:
                given.update(given.pop(p.name, {}))
            elif p.kind is p.VAR_POSITIONAL:
                given.pop(p.name, None)
        object.__setattr__(self, "_arguments", given)
        return self

    def get_config(self) -> dict[str, Any]:
        """The arguments, JSON-able."""
        return {k: serialize(v) for k, v in self._arguments.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """An equal object.  Arguments that we do not know and that ask for nothing (None, False) are passed
        over: newer files."""
        if not isinstance(config, dict):
            raise FormatError(f"{cls.__name__}: its config is {str(config)[:60]}; expected an object.")
        parameters = _signature(cls.__init__).parameters
        known = (
            set(parameters) | _BASE if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else set(parameters)
        )
        given = {k: deserialize(v) for k, v in config.items() if k in known or v not in (None, False)}
        for k, p in parameters.items():
            if k in given:
                _check_kind(f"{cls.__name__}: '{k}'", str(p.annotation), given[k], p.default)
            elif p.default is p.empty and k != "self" and p.kind is p.POSITIONAL_OR_KEYWORD:
                raise FormatError(
                    f"{cls.__name__}: its config lacks '{k}'; it has {', '.join(map(str, given)) or 'nothing'}."
                )
        for k in ("name", "dtype"):
            if k in given and k not in parameters:
                _check_kind(f"{cls.__name__}: '{k}'", "str", given[k], None)
        kind = given.get("dtype")
        if isinstance(kind, str) and kind not in dtypes.BY_NAME and not kind.startswith("mixed_"):
            raise FormatError(f"{cls.__name__}: 'dtype' is {kind[:60]!r}; known are {', '.join(dtypes.BY_NAME)}.")
        return cls(**given)


_KINDS: dict[str, Any] = {
    "int": int,
    "bool": (bool, int, type(None)),
    "float": (int, float),
    "str": str,
    "None": type(None),
}


def _check_kind(what: str, annotation: str, v: Any, default: Any) -> None:
    """FormatError unless v is what a parameter of plain numbers, words and truth values is declared as."""
    kinds = annotation.split(" | ")
    if (
        not set(kinds) <= set(_KINDS)
        or v is default
        or hasattr(v, "__index__")
        and not isinstance(v, bool)
        and "int" in kinds
    ):
        return
    if isinstance(v, bool) and "bool" not in kinds or not any(isinstance(v, _KINDS[k]) for k in kinds):
        raise FormatError(f"{what} is {str(v)[:60]!r}; expected {annotation}.")


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Any], Any]:
    """A decorator: let saved models name a class or function of the user's."""

    def register(x: Any) -> Any:
        _CUSTOM[f"{package}>{name or x.__name__}"] = x
        return x

    return register


def module_of(x: Any) -> str:
    """The public module of one of our classes, under Keras' name."""
    special = {"Functional": "keras.src.models.functional", "InputLayer": "keras.layers", "LayerScale": "keras.src.applications.convnext",
               "CustomScaleLayer": "keras.src.applications.inception_resnet_v2"}  # fmt: skip
    if type(x).__name__ in special:
        return special[type(x).__name__]
    if type(x).__module__.endswith("keras.schedules"):
        return "keras.optimizers.schedules"
    for part in ("layers", "initializers", "regularizers", "constraints", "losses", "metrics", "optimizers"):
        if f".keras.{part}" in type(x).__module__:
            return f"keras.{part}"
    return "keras"


def serialize(x: Any) -> Any:
    """A value of a config as JSON-able data."""
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    if isinstance(x, (list, tuple)):
        return [serialize(v) for v in x]
    if isinstance(x, dict):
        return {str(k): serialize(v) for k, v in x.items()}
    if isinstance(x, slice):
        return {"class_name": "__slice__", "config": {"start": x.start, "stop": x.stop, "step": x.step}}
    if x is ...:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": x.tolist(), "dtype": str(x.dtype)}}
    if hasattr(x, "keras_form"):
        return x.keras_form()
    if hasattr(x, "get_config"):
        registered = next((k for k, v in _CUSTOM.items() if v is type(x)), None)
        return {
            "module": module_of(x),
            "class_name": type(x).__name__,
            "config": x.get_config(),
            "registered_name": registered,
        }
    if callable(x):
        registered = next((k for k, v in _CUSTOM.items() if v is x), None)
        name = getattr(x, "__name__", "")
        if registered is None and (not name or name == "<lambda>"):
            raise InputError(
                "a lambda cannot be saved: write a function and register it with register_keras_serializable."
            )
        return registered or name
    if hasattr(x, "dtype"):
        return {"class_name": "__numpy__", "config": {"value": np.asarray(x).tolist(), "dtype": str(np.dtype(x.dtype))}}
    return str(x)


def _ours(name: str, module: str = "") -> type | None:
    """Our class of that name; Keras' module decides where two have one name (a layer and an initializer: Identity).
    Classes are known once their module is imported, and the package imports late: a file may name one that nobody has
    touched yet."""
    part = module.split(".")[1] if module.startswith("keras.") else ""
    if name not in _KNOWN or (part and f"{part}.{name}" not in _KNOWN):
        importlib.import_module("deploykit.keras.layers").load_all()
        for m in (
            "models",
            "losses",
            "metrics",
            "optimizers",
            "schedules",
            "initializers",
            "regularizers",
            "constraints",
        ):
            importlib.import_module(f"deploykit.keras.{m}")
    return _KNOWN.get(f"{part}.{name}") or _KNOWN.get(name)


def deserialize(x: Any, custom_objects: dict[str, Any] | None = None) -> Any:
    """Back from :func:`serialize` (and from Keras' own files).  Unknown classes raise InputError."""
    if isinstance(x, list):
        return [deserialize(v, custom_objects) for v in x]
    if not isinstance(x, dict):
        return x
    if "class_name" not in x or "config" not in x:
        return {k: deserialize(v, custom_objects) for k, v in x.items()}
    name: str = x["class_name"]
    config: Any = x["config"]
    whole = isinstance(config, str if name == "function" else dict)
    if not isinstance(name, str) or not whole:
        raise FormatError(f"a saved object is damaged: class {str(name)[:60]!r} with the config {str(config)[:60]!r}.")
    if name == "__numpy__":
        return np.array(config["value"], config["dtype"])
    if name == "__tuple__":
        return tuple(deserialize(v, custom_objects) for v in x["config"]["value"])
    if name == "__slice__":
        return slice(*(config.get(k) for k in ("start", "stop", "step")))
    if name == "__ellipsis__":
        return ...
    if name == "DTypePolicy":
        return config["name"]
    if name == "function":
        return (custom_objects or {}).get(config, _CUSTOM.get(str(x.get("registered_name")), config))
    if str(x.get("module", "")).startswith(("keras.src.ops", "keras.ops")):
        options = {k: deserialize(v, custom_objects) for k, v in config.items() if k != "name"}
        return _ours("KerasOp")(name, x["module"], options, config.get("name"))  # type: ignore[misc]
    cls: Any = (
        (custom_objects or {}).get(name)
        or _CUSTOM.get(str(x.get("registered_name")))
        or _ours(name, str(x.get("module", "")))
    )
    if cls is None:
        cls = next((v for k, v in _CUSTOM.items() if k.split(">")[-1] == name), None)
    if cls is None:
        raise InputError(
            f"unknown class '{name}' in a saved model. Give it in custom_objects={{'{name}': {name}}}, or register it "
            "with @dk.keras.utils.register_keras_serializable() before loading."
        )
    if "custom_objects" in inspect.signature(cls.from_config).parameters:
        return cls.from_config(config, custom_objects=custom_objects)
    return cls.from_config(config)


def lookup(kind: str, table: dict[str, Any], x: Any, *, make: bool = True) -> Any:
    """An argument that may be a name, a config, an object or a function, as Keras' ``get`` functions take it."""
    if x is None:
        return None
    if isinstance(x, dict):
        x = deserialize(x)
    if isinstance(x, str):
        found = table.get(x) or table.get(x.lower()) or _CUSTOM.get(x)
        found = found or next((v for k, v in _CUSTOM.items() if k.split(">")[-1] == x), None)
        if found is None:
            import difflib

            near = difflib.get_close_matches(x, table, 3)
            hint = f" Near: {', '.join(near)}." if near else ""
            raise InputError(
                f"unknown {kind} {x!r}.{hint} Known: {', '.join(sorted(k for k in table if k.islower()))}."
            )
        x = found
    if isinstance(x, (bool, int, float, list, dict)):
        raise InputError(f"{kind}: got {str(x)[:60]}, expected a name, a config, an object or a function.")
    return x() if make and isinstance(x, type) else x


_counts: dict[str, int] = {}


def unique_name(prefix: str) -> str:
    """``dense``, ``dense_1`` ... as Keras numbers layers; ``clear_session`` starts again."""
    n = _counts.get(prefix, 0)
    _counts[prefix] = n + 1
    return f"{prefix}_{n}" if n else prefix


def clear_session() -> None:
    """Start the numbering of names again."""
    _counts.clear()


def snake_case(name: str) -> str:
    """``MaxPooling2D`` to ``max_pooling2d``, as Keras names its layers.

    >>> snake_case("BatchNormalization"), snake_case("Conv2D")
    ('batch_normalization', 'conv2d')
    """
    import re

    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
