"""The few things that user code asks of ``keras.backend``."""

from __future__ import annotations

from deploykit.keras.layers.base import clear_session

__all__ = ["backend", "clear_session", "epsilon", "floatx", "image_data_format"]


def backend() -> str:
    """Our name."""
    return "deploykit"


def floatx() -> str:
    """The default float dtype."""
    return "float32"


def epsilon() -> float:
    """The usual small number."""
    return 1e-7


def image_data_format() -> str:
    """Channels last, always."""
    return "channels_last"
