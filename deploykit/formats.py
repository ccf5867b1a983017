"""The model files that can be read: by suffix, the importer's module and function.

An importer is called as ``f(path_or_bytes, input_shapes=...)`` and returns an unoptimised Graph.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploykit.errors import UnsupportedError

KERAS = (".keras", ".h5", ".hdf5", ".dkt")
IMPORTERS = {
    ".onnx": ("deploykit.converters.importers.onnx", "import_onnx"),
    ".tflite": ("deploykit.converters.importers.tflite", "import_tflite"),
    # TorchScript and pickles come with the other two suffixes: the importer says what to do with them
    **dict.fromkeys(KERAS, ("deploykit.keras.saving", "import_keras")),
    **dict.fromkeys((".pt2", ".pt", ".pth"), ("deploykit.converters.importers.pytorch", "import_pytorch")),
    ".json": ("deploykit.converters.importers.tfjs", "import_tfjs"),  # TensorFlow.js: model.json with shards beside it
}
READABLE = (".onnx", ".tflite", ".pt2", ".keras", ".h5", ".dkt", "model.json", "FILE.py:FUNCTION", ".dk")
WRITABLE = (".dk", ".onnx", ".tflite")


def importer(suffix: str) -> Callable[..., Any]:
    """The function that imports files with this suffix.

    >>> importer(".tflite").__name__
    'import_tflite'
    """
    module, name = IMPORTERS[suffix]
    return getattr(importlib.import_module(module), name)


def kind_of_source(src: Any) -> str:
    """The suffix of a source's kind: of its path, by marks in its bytes, by its type (else ``.onnx``, a ModelProto).

    >>> kind_of_source("model.tflite")
    '.tflite'
    """
    if isinstance(src, (str, os.PathLike)):
        return Path(src).suffix
    if isinstance(src, bytes):
        return kind_of(src) or ".onnx"
    if hasattr(src, "to_graph"):
        return ".keras"
    return ".pt2" if type(src).__module__.partition(".")[0] == "torch" else ".onnx"


def kind_of(data: bytes) -> str | None:
    """The suffix that a model's bytes should have: known by marks in them, ONNX (which has none) last.

    >>> kind_of(b"....TFL3")
    '.tflite'
    """
    mark = bytes(data[4:8])
    return {b"TFL3": ".tflite", b"DKIT": ".dk"}.get(mark, ".onnx" if len(data) else None)


def stock_keras(path: Any, error: Exception) -> Any:
    """The model of a ``.keras`` file by Keras itself on our core; None when Keras cannot take part: it is not installed, or
    was imported with another backend.  Custom classes are found when their module can be imported.

    Raises InputError with both reasons when Keras cannot read the file either; ``error`` is our own reader's.
    """
    import importlib.util
    import sys

    from deploykit.errors import InputError

    if importlib.util.find_spec("keras") is None:
        return None
    known = sys.modules.get("keras.src.backend")
    if known is not None and known.backend() != "deploykit":
        return None
    backend = importlib.import_module("deploykit.keras_backend")
    try:
        return backend.load(path)
    except Exception as e:
        lines = str(e).strip().splitlines() or [type(e).__name__]
        said = next((line for line in lines if "Could not locate" in line), lines[0])[:300]
        raise InputError(
            f"{error.args[0]} Keras itself says: {said} Or load it yourself: `deploykit convert net.py:make`, where make() "
            "imports deploykit.keras_backend, then Keras and the classes, and returns the model."
        ) from e


def to_bytes(graph: Any, kind: str, *, names: bool = True) -> bytes:
    """A Graph as the bytes of a file of this kind (a suffix out of WRITABLE); ``names`` keeps inner names in a .dk file.

    Raises UnsupportedError with every node that the format cannot express.
    """
    return b"".join(pieces(graph, kind, names=names))


def pieces(graph: Any, kind: str, *, names: bool = True) -> list[Any]:
    """As :func:`to_bytes`, in pieces; large weights among them are not copied."""
    if kind != ".dk" and "strings" in graph.metadata:
        text = [*graph.metadata["strings"]["inputs"], *graph.metadata["strings"]["outputs"]]
        raise UnsupportedError(
            f"{', '.join(map(repr, text))}: text is code points in our engine; it cannot be written as {kind}. Write .dk."
        )
    if kind == ".onnx":
        from deploykit.converters.exporters.onnx import onnx_pieces

        return onnx_pieces(graph)
    if kind == ".tflite":
        from deploykit.converters.exporters.tflite import tflite_parts

        return tflite_parts(graph)
    from deploykit.graph import dkfile

    return [dkfile.to_bytes(graph, names=names)]
