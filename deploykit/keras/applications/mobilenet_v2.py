"""MobileNetV2 (Sandler et al. 2018)."""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, divisible, finish, pad_for, pooled, preprocess, start

# filters, blocks, stride of the first
_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_BN = dict(epsilon=1e-3, momentum=0.999)


def _block(x: Any, i: int, filters: int, stride: int) -> Any:
    before, name, channels = x, f"block_{i}_" if i else "expanded_conv_", x.shape[-1]
    if i:
        x = batch_norm(conv(x, 6 * channels, 1, name + "expand", padding="same"), name + "expand_BN", **_BN)
        x = layers.ReLU(6.0, name=name + "expand_relu")(x)
    if stride == 2:
        x = layers.ZeroPadding2D(pad_for(x, 3), name=name + "pad")(x)
    x = layers.DepthwiseConv2D(3, stride, "same" if stride == 1 else "valid", use_bias=False, name=name + "depthwise")(
        x
    )
    x = layers.ReLU(6.0, name=name + "depthwise_relu")(batch_norm(x, name + "depthwise_BN", **_BN))
    x = batch_norm(conv(x, filters, 1, name + "project", padding="same"), name + "project_BN", **_BN)
    return layers.Add(name=name + "add")([before, x]) if channels == filters and stride == 1 else x


def MobileNetV2(input_shape: Any = None, alpha: float = 1.0, include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = None) -> Any:  # fmt: skip
    """The network; alpha scales the filters."""
    inputs = start(
        "MobileNetV2", weights, include_top, input_tensor, input_shape, 224, 32, classes, classifier_activation
    )
    x = conv(inputs, divisible(32 * alpha), 3, "Conv1", strides=2, padding="same")
    x = layers.ReLU(6.0, name="Conv1_relu")(batch_norm(x, "bn_Conv1", **_BN))
    i = 0
    for filters, blocks, stride in _STAGES:
        for k in range(blocks):
            x = _block(x, i, divisible(int(filters * alpha)), stride if k == 0 else 1)
            i += 1
    x = batch_norm(conv(x, divisible(1280 * max(alpha, 1.0)), 1, "Conv_1"), "Conv_1_bn", **_BN)
    x = layers.ReLU(6.0, name="out_relu")(x)
    if include_top:
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    return finish(
        inputs, pooled(x, include_top, pooling), name or f"mobilenetv2_{alpha:0.2f}_{inputs.shape[1]}", weights
    )


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as -1 to 1."""
    return preprocess(x, "tf")
