"""The model files that can be read: by suffix, the importer's module and function.

An importer is called as ``f(path_or_bytes, input_shapes=...)`` and returns an unoptimised Graph.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

IMPORTERS = {
    ".onnx": ("deploykit.converters.importers.onnx", "import_onnx"),
    ".tflite": ("deploykit.converters.importers.tflite", "import_tflite"),
}
READABLE = (*IMPORTERS, ".dk")
WRITABLE = (".dk", ".onnx")


def importer(suffix: str) -> Callable[..., Any]:
    """The function that imports files with this suffix.

    >>> importer(".tflite").__name__
    'import_tflite'
    """
    module, name = IMPORTERS[suffix]
    return getattr(importlib.import_module(module), name)


def kind_of(data: bytes) -> str | None:
    """The suffix that a model's bytes should have: known by marks in them, ONNX (which has none) last.

    >>> kind_of(b"....TFL3")
    '.tflite'
    """
    mark = bytes(data[4:8])
    return {b"TFL3": ".tflite", b"DKIT": ".dk"}.get(mark, ".onnx" if len(data) else None)
