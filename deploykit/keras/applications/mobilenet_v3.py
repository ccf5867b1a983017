"""MobileNetV3 (Howard et al. 2019), with its preparation of images inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, divisible, finish, pad_for, pooled, start
from deploykit.keras.applications.efficientnet import preprocess_input

__all__ = ["preprocess_input"]
# expansion, filters, wide kernel (5, of the minimalistic form 3), stride, squeeze, hard swish (else ReLU)
_SMALL = (
    (1, 16, 0, 2, 1, 0), (72 / 16, 24, 0, 2, 0, 0), (88 / 24, 24, 0, 1, 0, 0), (4, 40, 1, 2, 1, 1), (6, 40, 1, 1, 1, 1),
    (6, 40, 1, 1, 1, 1), (3, 48, 1, 1, 1, 1), (3, 48, 1, 1, 1, 1), (6, 96, 1, 2, 1, 1), (6, 96, 1, 1, 1, 1),
    (6, 96, 1, 1, 1, 1),
)  # fmt: skip
_LARGE = (
    (1, 16, 0, 1, 0, 0), (4, 24, 0, 2, 0, 0), (3, 24, 0, 1, 0, 0), (3, 40, 1, 2, 1, 0), (3, 40, 1, 1, 1, 0),
    (3, 40, 1, 1, 1, 0), (6, 80, 0, 2, 0, 1), (2.5, 80, 0, 1, 0, 1), (2.3, 80, 0, 1, 0, 1), (2.3, 80, 0, 1, 0, 1),
    (6, 112, 0, 1, 1, 1), (6, 112, 0, 1, 1, 1), (6, 160, 1, 2, 1, 1), (6, 160, 1, 1, 1, 1), (6, 160, 1, 1, 1, 1),
)  # fmt: skip
_BN = dict(epsilon=1e-3, momentum=0.999)


def _active(x: Any, hard: bool) -> Any:
    return layers.Activation("hard_swish")(x) if hard else layers.ReLU()(x)


def _squeeze(x: Any, name: str) -> Any:
    n, name = x.shape[-1], name + "squeeze_excite_"
    s = layers.GlobalAveragePooling2D(keepdims=True, name=name + "avg_pool")(x)
    s = conv(s, divisible(n * 0.25), 1, name + "conv", padding="same", use_bias=True)
    s = conv(layers.ReLU(name=name + "relu")(s), n, 1, name + "conv_1", padding="same", use_bias=True)
    s = layers.ReLU(6.0)(s + 3.0) * (1.0 / 6.0)
    return layers.Multiply(name=name + "mul")([x, s])


def _block(x: Any, i: int, expansion: float, filters: int, kernel: int, stride: int, squeeze: bool, hard: bool) -> Any:
    before, inside, name = x, x.shape[-1], f"expanded_conv_{i}_" if i else "expanded_conv_"
    if i:
        x = conv(x, divisible(inside * expansion), 1, name + "expand", padding="same")
        x = _active(batch_norm(x, name + "expand_bn", **_BN), hard)
    if stride == 2:
        x = layers.ZeroPadding2D(pad_for(x, kernel), name=name + "depthwise_pad")(x)
    padding = "same" if stride == 1 else "valid"
    x = layers.DepthwiseConv2D(kernel, stride, padding, use_bias=False, name=name + "depthwise")(x)
    x = _active(batch_norm(x, name + "depthwise_bn", **_BN), hard)
    if squeeze:
        x = _squeeze(x, name)
    x = batch_norm(conv(x, filters, 1, name + "project", padding="same"), name + "project_bn", **_BN)
    return layers.Add(name=name + "add")([before, x]) if stride == 1 and inside == filters else x


def _make(who: str, stages: tuple[tuple[float, ...], ...], last: int) -> Callable[..., Any]:
    def build(input_shape: Any = None, alpha: float = 1.0, minimalistic: bool = False, include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, classes: int = 1000, pooling: Any = None, dropout_rate: float = 0.2, classifier_activation: Any = "softmax", include_preprocessing: bool = True, name: Any = who) -> Any:  # fmt: skip
        if input_shape is None:
            input_shape = (None, None, 3)
        inputs = start(who, weights, False, input_tensor, input_shape, 224, 32, classes, classifier_activation)
        x = layers.Rescaling(1.0 / 127.5, -1.0)(inputs) if include_preprocessing else inputs
        full = not minimalistic
        x = _active(batch_norm(conv(x, 16, 3, "conv", strides=2, padding="same"), "conv_bn", **_BN), full)
        for i, (expansion, filters, wide, stride, squeeze, hard) in enumerate(stages):
            kernel = 5 if wide and full else 3
            how = (kernel, int(stride), bool(squeeze) and full, bool(hard) and full)
            x = _block(x, i, expansion, divisible(filters * alpha), *how)
        x = conv(x, divisible(x.shape[-1] * 6), 1, "conv_1", padding="same")
        x = _active(batch_norm(x, "conv_1_bn", **_BN), full)
        if include_top:
            x = layers.GlobalAveragePooling2D(keepdims=True)(x)
            n = divisible(last * alpha) if alpha > 1.0 else last
            x = _active(conv(x, n, 1, "conv_2", padding="same", use_bias=True), full)
            if dropout_rate > 0:
                x = layers.Dropout(dropout_rate)(x)
            x = layers.Flatten()(conv(x, classes, 1, "logits", padding="same", use_bias=True))
            x = layers.Activation(classifier_activation, name="predictions")(x)
        return finish(inputs, pooled(x, include_top, pooling, named=True), name, weights)

    build.__name__ = build.__qualname__ = who
    build.__doc__ = "The network; alpha scales the filters, minimalistic leaves out what some accelerators lack."
    return build


MobileNetV3Small = _make("MobileNetV3Small", _SMALL, 1024)
MobileNetV3Large = _make("MobileNetV3Large", _LARGE, 1280)
