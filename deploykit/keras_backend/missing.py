"""What a module of Keras' backend has and ours lacks yet: calling it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploykit.errors import UnsupportedError


def missing(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module: any other public name is a function that raises UnsupportedError when called."""

    def find(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module 'deploykit.keras_backend.{module}' has no attribute {name!r}")

        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise UnsupportedError(
                f"keras backend '{module}.{name}' is not there in the deploykit backend. Write it with other keras.ops, or "
                "train with another backend and convert the saved model: `deploykit convert model.keras`."
            )

        refuse.__name__ = name
        return refuse

    return find
