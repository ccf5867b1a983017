"""ResNet's second form (He et al. 2016)."""

from __future__ import annotations

from typing import Any

from deploykit.keras.applications.common import preprocess
from deploykit.keras.applications.resnet import make

ResNet50V2, ResNet101V2, ResNet152V2 = (make(depth, True) for depth in ("50", "101", "152"))


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as -1 to 1."""
    return preprocess(x, "tf")
