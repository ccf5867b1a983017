"""Inception v3 (Szegedy et al. 2015)."""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import network, preprocess


def _conv(x: Any, filters: int, rows: int, columns: int, stride: int = 1, padding: str = "same") -> Any:
    x = layers.Conv2D(filters, (rows, columns), stride, padding, use_bias=False)(x)
    return layers.Activation("relu")(layers.BatchNormalization(scale=False)(x))


def _chain(x: Any, *steps: tuple[int, int, int]) -> Any:
    for s in steps:
        x = _conv(x, *s)
    return x


def _narrow(x: Any, filters: int) -> Any:
    return _conv(x, filters, 3, 3, 2, "valid")


def _smooth(x: Any, filters: int) -> Any:
    return _conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), filters, 1, 1)


def _join(branches: list[Any], name: str | None = None) -> Any:
    return layers.Concatenate(axis=-1, name=name)(branches)


def _body(x: Any) -> Any:
    x = _conv(_narrow(x, 32), 32, 3, 3, 1, "valid")
    x = layers.MaxPooling2D(3, strides=2)(_conv(x, 64, 3, 3))
    x = _conv(_conv(x, 80, 1, 1, 1, "valid"), 192, 3, 3, 1, "valid")
    x = layers.MaxPooling2D(3, strides=2)(x)
    for i, filters in enumerate((32, 64, 64)):
        branches = [
            _conv(x, 64, 1, 1),
            _chain(x, (48, 1, 1), (64, 5, 5)),
            _chain(x, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        ]
        x = _join([*branches, _smooth(x, filters)], f"mixed{i}")
    deep = _narrow(x, 384), _narrow(_chain(x, (64, 1, 1), (96, 3, 3)), 96)
    x = _join([*deep, layers.MaxPooling2D(3, strides=2)(x)], "mixed3")
    for i, n in enumerate((128, 160, 160, 192), 4):
        one, seven = _conv(x, 192, 1, 1), _chain(x, (n, 1, 1), (n, 1, 7), (192, 7, 1))
        twice = _chain(x, (n, 1, 1), (n, 7, 1), (n, 1, 7), (n, 7, 1), (192, 1, 7))
        x = _join([one, seven, twice, _smooth(x, 192)], f"mixed{i}")
    three = _narrow(_conv(x, 192, 1, 1), 320)
    seven = _narrow(_chain(x, (192, 1, 1), (192, 1, 7), (192, 7, 1)), 192)
    x = _join([three, seven, layers.MaxPooling2D(3, strides=2)(x)], "mixed8")
    for i in range(2):
        one, three = _conv(x, 320, 1, 1), _conv(x, 384, 1, 1)
        three = _join([_conv(three, 384, 1, 3), _conv(three, 384, 3, 1)], f"mixed9_{i}")
        deep = _chain(x, (448, 1, 1), (384, 3, 3))
        deep = _join([_conv(deep, 384, 1, 3), _conv(deep, 384, 3, 1)])
        x = _join([one, three, deep, _smooth(x, 192)], f"mixed{9 + i}")
    return x


InceptionV3 = network("InceptionV3", "inception_v3", 299, 75, _body, "Images of 299 x 299.", named=False)


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as -1 to 1."""
    return preprocess(x, "tf")
