"""VGG (Simonyan and Zisserman 2014)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import network, preprocess


def _body(x: Any, counts: tuple[int, ...]) -> Any:
    for i, n in enumerate(counts, 1):
        for k in range(n):
            how = dict(padding="same", activation="relu", name=f"block{i}_conv{k + 1}")
            x = layers.Conv2D(min(512, 32 << i), 3, **how)(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{i}_pool")(x)
    return x


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = layers.Flatten(name="flatten")(x)
    for k in (1, 2):
        x = layers.Dense(4096, activation="relu", name=f"fc{k}")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def make(name: str, counts: tuple[int, ...]) -> Callable[..., Any]:
    """A network of five stages of so many convolutions each."""
    body = functools.partial(_body, counts=counts)
    return network(name, name.lower(), 224, 32, body, f"{sum(counts) + 3} layers.", _top, named=False)


VGG16 = make("VGG16", (2, 2, 3, 3, 3))


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """BGR less the means of ImageNet."""
    return preprocess(x, "caffe")
