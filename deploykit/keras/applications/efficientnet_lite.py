"""EfficientNet-Lite0, the form for mobile devices: no squeeze and excite, ReLU6, stem and head that do not grow.

Keras has none; layers are named as those of its EfficientNet-B0.
"""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, network, pad_for
from deploykit.keras.applications.efficientnet import DROP, STAGES, he_conv, initializer, top


def _active(x: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=name)(x)


def _body(inputs: Any) -> Any:
    x = layers.ZeroPadding2D(pad_for(inputs, 3), name="stem_conv_pad")(inputs)
    x = _active(batch_norm(he_conv(x, 32, 3, "stem_conv", strides=2), "stem_bn"), "stem_activation")
    b, total = 0, sum(n for _, n, *_ in STAGES)
    for i, (kernel, n, inside, out, expand, first) in enumerate(STAGES):
        for k in range(n):
            (a, stride), name, before = (out, 1) if k else (inside, first), f"block{i + 1}{chr(97 + k)}_", x
            if expand != 1:
                x = batch_norm(he_conv(x, a * expand, 1, name + "expand_conv", padding="same"), name + "expand_bn")
                x = _active(x, name + "expand_activation")
            if stride == 2:
                x = layers.ZeroPadding2D(pad_for(x, kernel), name=name + "dwconv_pad")(x)
            how = dict(use_bias=False, depthwise_initializer=initializer(2.0, "truncated_normal"), name=name + "dwconv")
            x = layers.DepthwiseConv2D(kernel, stride, "valid" if stride == 2 else "same", **how)(x)
            x = _active(batch_norm(x, name + "bn"), name + "activation")
            x = batch_norm(he_conv(x, out, 1, name + "project_conv", padding="same"), name + "project_bn")
            if stride == 1 and a == out:
                if b:
                    x = layers.Dropout(DROP * b / total, noise_shape=(None, 1, 1, 1), name=name + "drop")(x)
                x = layers.Add(name=name + "add")([x, before])
            b += 1
    return _active(batch_norm(he_conv(x, 1280, 1, "top_conv", padding="same"), "top_bn"), "top_activation")


EfficientNetLite0 = network("EfficientNetLite0", "efficientnet_lite0", 224, 32, _body, "Images of 224 x 224.", top(0.2))


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as (x - 127) / 128."""
    return (x - 127.0) / 128.0
