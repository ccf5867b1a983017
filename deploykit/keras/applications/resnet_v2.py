"""ResNet's second form (He et al. 2016)."""

from __future__ import annotations

from typing import Any

from deploykit.keras.applications.common import preprocess
from deploykit.keras.applications.resnet import build


def ResNet50V2(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "resnet50v2") -> Any:  # fmt: skip
    """50 layers."""
    return build(
        "50", True, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def ResNet101V2(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "resnet101v2") -> Any:  # fmt: skip
    """101 layers."""
    return build(
        "101", True, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def ResNet152V2(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "resnet152v2") -> Any:  # fmt: skip
    """152 layers."""
    return build(
        "152", True, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as -1 to 1."""
    return preprocess(x, "tf")
