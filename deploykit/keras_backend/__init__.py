"""Stock Keras 3 on our core: ``import deploykit.keras_backend`` before ``import keras`` (or KERAS_BACKEND=deploykit).

Keras chooses its backend by a fixed list of names in five files.  The import hook adds ours to these lists while Keras
is imported, and the way to our one-pass ops to three inner loops (``fused``); nothing on disk is changed.  ``backend``
holds what Keras asks of a backend, split by Keras' module names.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from deploykit.errors import InputError
from deploykit.keras_backend.hook import Finder

__all__ = ["install", "load"]


def install() -> None:
    """Make the next ``import keras`` use Deploykit; InputError when Keras was imported with another backend."""
    if "keras.src.backend" in sys.modules:
        name = sys.modules["keras.src.backend"].backend()
        if name != "deploykit":
            raise InputError(
                f"keras is already imported with the '{name}' backend. Write `import deploykit.keras_backend` before "
                "`import keras`."
            )
        return
    os.environ["KERAS_BACKEND"] = "deploykit"
    if not any(isinstance(f, Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def load(path: Any) -> Any:
    """The model of a ``.keras`` file, by Keras on our core, without its optimizer."""
    install()
    import keras

    return keras.saving.load_model(path, compile=False)


install()
