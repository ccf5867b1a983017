"""ResNet (He et al. 2015) and, through :mod:`resnet_v2`, its second form with normalization first (2016)."""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, finish, pooled, preprocess, start

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


def build(
    depth: str, second: bool, include_top: bool, weights: Any, input_tensor: Any, input_shape: Any, pooling: Any, classes: int,
    classifier_activation: Any, name: Any,
) -> Any:  # fmt: skip
    """The network of that depth."""
    who = f"ResNet{depth}" + "V2" * second
    inputs = start(who, weights, include_top, input_tensor, input_shape, 224, 32, classes, classifier_activation)
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
    if second:
        x = _relu(batch_norm(x, "post_bn", epsilon=_EPSILON), "post_relu")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    return finish(inputs, pooled(x, include_top, pooling), name or who.lower(), weights)


def ResNet50(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "resnet50") -> Any:  # fmt: skip
    """50 layers."""
    return build(
        "50", False, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def ResNet101(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "resnet101") -> Any:  # fmt: skip
    """101 layers."""
    return build(
        "101", False, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def ResNet152(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = "resnet152") -> Any:  # fmt: skip
    """152 layers."""
    return build(
        "152", False, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """BGR less the means of ImageNet."""
    return preprocess(x, "caffe")
