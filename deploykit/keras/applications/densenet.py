"""DenseNet (Huang et al. 2017): each block reads all blocks before it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, network, preprocess

_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
_GROWTH = 32


def _active(x: Any, name: str) -> Any:
    return layers.Activation("relu", name=name + "relu")(batch_norm(x, name + "bn", epsilon=1.001e-5))


def _body(x: Any, depth: int) -> Any:
    x = conv(layers.ZeroPadding2D(3)(x), 64, 7, "conv1_conv", strides=2)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(layers.ZeroPadding2D(1)(_active(x, "conv1_")))
    for i, n in enumerate(_BLOCKS[depth], 2):
        if i > 2:
            x = _active(x, f"pool{i - 1}_")
            x = conv(x, x.shape[-1] // 2, 1, f"pool{i - 1}_conv")
            x = layers.AveragePooling2D(2, strides=2, name=f"pool{i - 1}_pool")(x)
        for k in range(n):
            name = f"conv{i}_block{k + 1}_"
            y = conv(_active(x, name + "0_"), 4 * _GROWTH, 1, name + "1_conv")
            y = conv(_active(y, name + "1_"), _GROWTH, 3, name + "2_conv", padding="same")
            x = layers.Concatenate(axis=-1, name=name + "concat")([x, y])
    return _active(x, "")


def _make(depth: int) -> Callable[..., Any]:
    body = functools.partial(_body, depth=depth)
    return network(f"DenseNet{depth}", f"densenet{depth}", 224, 32, body, f"{depth} layers.")


DenseNet121, DenseNet169, DenseNet201 = map(_make, _BLOCKS)


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as 0 to 1, less the means of ImageNet, by its deviations."""
    return preprocess(x, "torch")
