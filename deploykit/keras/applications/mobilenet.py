"""MobileNet (Howard et al. 2017)."""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, conv, finish, pooled, preprocess, start

# filters, stride
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def MobileNet(input_shape: Any = None, alpha: float = 1.0, depth_multiplier: int = 1, dropout: float = 1e-3, include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = None) -> Any:  # fmt: skip
    """The network; alpha scales the filters."""
    inputs = start(
        "MobileNet", weights, include_top, input_tensor, input_shape, 224, 32, classes, classifier_activation
    )
    x = conv(inputs, int(32 * alpha), 3, "conv1", strides=2, padding="same")
    x = layers.ReLU(6.0, name="conv1_relu")(batch_norm(x, "conv1_bn"))
    for i, (filters, stride) in enumerate(_BLOCKS, 1):
        if stride == 2:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{i}")(x)
        x = layers.DepthwiseConv2D(3, stride, "same" if stride == 1 else "valid", depth_multiplier, use_bias=False, name=f"conv_dw_{i}")(x)  # fmt: skip
        x = layers.ReLU(6.0, name=f"conv_dw_{i}_relu")(batch_norm(x, f"conv_dw_{i}_bn"))
        x = conv(x, int(filters * alpha), 1, f"conv_pw_{i}", padding="same")
        x = layers.ReLU(6.0, name=f"conv_pw_{i}_relu")(batch_norm(x, f"conv_pw_{i}_bn"))
    if include_top:
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        x = conv(x, classes, 1, "conv_preds", padding="same", use_bias=True)
        x = layers.Reshape((classes,), name="reshape_2")(x)
        x = layers.Activation(classifier_activation, name="predictions")(x)
    rows = inputs.shape[1]
    return finish(inputs, pooled(x, include_top, pooling), name or f"mobilenet_{alpha:0.2f}_{rows}", weights)  # fmt: skip


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as -1 to 1."""
    return preprocess(x, "tf")
