"""VGG with 19 layers."""

from __future__ import annotations

from typing import Any

from deploykit.keras.applications.vgg16 import build, preprocess_input  # noqa: F401


def VGG19(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "vgg19") -> Any:  # fmt: skip
    """19 layers."""
    return build(
        (2, 2, 4, 4, 4), include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )
