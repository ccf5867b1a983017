"""Peers in tests.  Light ones are skipped where they are missing, except in CI, where they must be there; heavy ones
(TensorFlow, JAX, OpenVINO) are for named commands and never asked for by the default run."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import pytest

LIGHT = {
    "tensorboard": "peers",
    "onnxruntime": "test",
    "ai_edge_litert": "peers",
    "torch": "peers",
    "keras": "peers",
    "h5py": "peers",
    "sklearn": "peers",
    "skl2onnx": "peers",
    "safetensors": "peers",
    "gguf": "peers",
}


def need(name: str) -> Any:
    """Import a light peer; without it skip the test (at module level: the file), but fail in CI.

    Keras comes on PyTorch: the variable that chooses its backend is set before the import.
    """
    extra = LIGHT[name]
    if name == "keras":
        need("torch")
        os.environ["KERAS_BACKEND"] = "torch"
    if importlib.util.find_spec(name) is None:
        assert not os.environ.get("CI"), f"CI needs {name}: pip install '.[{extra}]'"
        pytest.skip(f"{name} is not installed: pip install '.[{extra}]'", allow_module_level=True)
    return importlib.import_module(name)


def need_onnxruntime() -> None:
    """As :func:`need`, without importing it."""
    if importlib.util.find_spec("onnxruntime") is None:
        need("onnxruntime")


def have_keras() -> None:
    """Keras and PyTorch for programs of their own: as :func:`need`, without importing them here."""
    for name in ("keras", "torch"):
        if importlib.util.find_spec(name) is None:
            need(name)
