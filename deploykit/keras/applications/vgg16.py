"""VGG (Simonyan and Zisserman 2014)."""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import finish, pooled, preprocess, start


def build(
    counts: tuple[int, ...], include_top: bool, weights: Any, input_tensor: Any, input_shape: Any, pooling: Any, classes: int,
    classifier_activation: Any, name: str,
) -> Any:  # fmt: skip
    """Five stages of so many convolutions each."""
    inputs = start(
        name.upper(), weights, include_top, input_tensor, input_shape, 224, 32, classes, classifier_activation
    )
    x = inputs
    for i, n in enumerate(counts, 1):
        for k in range(n):
            how = dict(padding="same", activation="relu", name=f"block{i}_conv{k + 1}")
            x = layers.Conv2D(min(512, 32 << i), 3, **how)(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{i}_pool")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        for k in (1, 2):
            x = layers.Dense(4096, activation="relu", name=f"fc{k}")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    return finish(inputs, pooled(x, include_top, pooling), name, weights)


def VGG16(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "vgg16") -> Any:  # fmt: skip
    """16 layers."""
    return build(
        (2, 2, 3, 3, 3), include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """BGR less the means of ImageNet."""
    return preprocess(x, "caffe")
