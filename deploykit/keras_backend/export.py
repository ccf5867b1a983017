"""``model.export``: ``.dk``, ONNX and TFLite files, checked against the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploykit import hooks
from deploykit.errors import UnsupportedError

_SUFFIXES = {"dk": ".dk", "onnx": ".onnx", "litert": ".tflite", "tflite": ".tflite"}


class NoSavedModelError(UnsupportedError, NotImplementedError):
    """A SavedModel was asked for."""


def suffix_of(filepath: Any, format: str | None) -> str | None:
    """The suffix of the file to write, None where neither path nor format names one of ours."""
    suffix = Path(filepath).suffix
    return suffix if suffix in _SUFFIXES.values() else _SUFFIXES.get(str(format))


def export(model: Any, filepath: Any, format: str | None = None, input_signature: Any = None, **kwargs: Any) -> Any:
    """What ``keras.Model.export`` does on our backend; returns the converter's report.

    The format is the path's suffix (``.dk``, ``.onnx``, ``.tflite``), or ``format``: "dk", "onnx", "litert".  Other
    arguments go to ``dk.convert``.
    """
    path, suffix = Path(filepath), suffix_of(filepath, format)
    if suffix is None:
        # the words that Keras has for its other backends, and what to do
        raise NoSavedModelError(
            "`export_saved_model` only currently supports the tensorflow, jax and torch backends. "
            "Write model.export('m.dk'), 'm.onnx' or 'm.tflite'."
        )
    kwargs.pop("verbose", None)
    source = model if input_signature is None else model.to_graph(input_signature)
    return hooks.package().convert(source, path.with_suffix(suffix), **kwargs)


class BackendSavedModelExportArchive:
    """Refuses by name what only TensorFlow can write."""

    def _refuse(self, what: str) -> Any:
        raise UnsupportedError(
            f"ExportArchive.{what}: SavedModel needs TensorFlow. Write `model.export('m.dk')` for our engine, or 'm.onnx'."
        )

    def track(self, resource: Any) -> None:
        """Refused."""
        self._refuse("track")

    def add_endpoint(self, name: str, fn: Any, input_signature: Any = None, **kwargs: Any) -> None:
        """Refused."""
        self._refuse("add_endpoint")
