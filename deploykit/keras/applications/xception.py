"""Xception (Chollet 2017)."""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, network, preprocess


def _relu(x: Any, name: str) -> Any:
    return layers.Activation("relu", name=name)(x)


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return batch_norm(x, name + "_bn")


def _body(x: Any) -> Any:
    for k, (filters, stride) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{k}"
        x = _relu(batch_norm(conv(x, filters, 3, name, strides=stride), name + "_bn"), name + "_act")
    for i in range(2, 14):
        out = {2: 128, 3: 256, 13: 1024}.get(i, 728)
        narrow, name = i in (2, 3, 4, 13), f"block{i}_sepconv"
        short = x
        if narrow:
            short = layers.Conv2D(out, 1, 2, "same", use_bias=False)(x)
            short = layers.BatchNormalization()(short)
        for k in (1, 2) if narrow else (1, 2, 3):
            if i > 2 or k > 1:
                x = _relu(x, f"{name}{k}_act")
            x = _separable(x, 728 if i == 13 and k == 1 else out, f"{name}{k}")
        if narrow:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{i}_pool")(x)
        x = layers.Add()([x, short])
    for k, filters in enumerate((1536, 2048), 1):
        x = _relu(_separable(x, filters, f"block14_sepconv{k}"), f"block14_sepconv{k}_act")
    return x


Xception = network("Xception", "xception", 299, 71, _body, "Images of 299 x 299.", named=False)


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as -1 to 1."""
    return preprocess(x, "tf")
