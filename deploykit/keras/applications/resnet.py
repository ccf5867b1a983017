"""ResNet (He et al. 2015) and, through :mod:`resnet_v2`, its second form with normalization first (2016)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, network, preprocess

_BLOCKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_EPSILON = 1.001e-5


def _relu(x: Any, name: str) -> Any:
    return layers.Activation("relu", name=name)(x)


def _block(x: Any, filters: int, stride: int, widen: bool, name: str) -> Any:
    short = x
    if widen:
        short = conv(x, 4 * filters, 1, f"{name}_0_conv", strides=stride, use_bias=True)
        short = batch_norm(short, f"{name}_0_bn", epsilon=_EPSILON)
    x = conv(x, filters, 1, f"{name}_1_conv", strides=stride, use_bias=True)
    x = _relu(batch_norm(x, f"{name}_1_bn", epsilon=_EPSILON), f"{name}_1_relu")
    x = conv(x, filters, 3, f"{name}_2_conv", padding="same", use_bias=True)
    x = _relu(batch_norm(x, f"{name}_2_bn", epsilon=_EPSILON), f"{name}_2_relu")
    x = conv(x, 4 * filters, 1, f"{name}_3_conv", use_bias=True)
    x = layers.Add(name=f"{name}_add")([short, batch_norm(x, f"{name}_3_bn", epsilon=_EPSILON)])
    return _relu(x, f"{name}_out")


def _block_v2(x: Any, filters: int, stride: int, widen: bool, name: str) -> Any:
    before = _relu(batch_norm(x, f"{name}_preact_bn", epsilon=_EPSILON), f"{name}_preact_relu")
    if widen:
        short = conv(before, 4 * filters, 1, f"{name}_0_conv", strides=stride, use_bias=True)
    else:
        short = layers.MaxPooling2D(1, strides=stride)(x) if stride > 1 else x
    y = conv(before, filters, 1, f"{name}_1_conv")
    y = _relu(batch_norm(y, f"{name}_1_bn", epsilon=_EPSILON), f"{name}_1_relu")
    y = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(y)
    y = conv(y, filters, 3, f"{name}_2_conv", strides=stride)
    y = _relu(batch_norm(y, f"{name}_2_bn", epsilon=_EPSILON), f"{name}_2_relu")
    y = conv(y, 4 * filters, 1, f"{name}_3_conv", use_bias=True)
    return layers.Add(name=f"{name}_out")([short, y])


def _body(inputs: Any, depth: str, second: bool) -> Any:
    x = layers.ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = conv(x, 64, 7, "conv1_conv", strides=2, use_bias=True)
    if not second:
        x = _relu(batch_norm(x, "conv1_bn", epsilon=_EPSILON), "conv1_relu")
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    counts = _BLOCKS[depth]
    for i, n in enumerate(counts):
        for k in range(n):
            # the second form narrows at the end of a stage, the first at the start of the next
            at = k == n - 1 and i < 3 if second else k == 0 and i > 0
            x = (_block_v2 if second else _block)(x, 64 << i, 2 if at else 1, k == 0, f"conv{i + 2}_block{k + 1}")
    return _relu(batch_norm(x, "post_bn", epsilon=_EPSILON), "post_relu") if second else x


def make(depth: str, second: bool = False) -> Callable[..., Any]:
    """The network of that depth."""
    who = f"ResNet{depth}" + "V2" * second
    body = functools.partial(_body, depth=depth, second=second)
    return network(who, who.lower(), 224, 32, body, f"{depth} layers.")


ResNet50, ResNet101, ResNet152 = map(make, _BLOCKS)


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """BGR less the means of ImageNet."""
    return preprocess(x, "caffe")
