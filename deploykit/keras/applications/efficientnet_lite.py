"""EfficientNet-Lite0, the form for mobile devices: no squeeze and excite, ReLU6, stem and head that do not grow.

Keras has none; layers are named as those of its EfficientNet-B0.
"""

from __future__ import annotations

from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import batch_norm, network, pad_for
from deploykit.keras.applications.efficientnet import DROP, STAGES, block, he_conv, top


def _active(x: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=name)(x)


def _body(inputs: Any) -> Any:
    x = layers.ZeroPadding2D(pad_for(inputs, 3), name="stem_conv_pad")(inputs)
    x = _active(batch_norm(he_conv(x, 32, 3, "stem_conv", strides=2), "stem_bn"), "stem_activation")
    b, total = 0, sum(n for _, n, *_ in STAGES)
    for i, (kernel, n, inside, out, expand, first) in enumerate(STAGES):
        for k in range(n):
            a, stride = (out, 1) if k else (inside, first)
            name = f"block{i + 1}{chr(97 + k)}_"
            x = block(x, kernel, a, out, expand, stride, DROP * b / total, name, _active, excite=False)
            b += 1
    return _active(batch_norm(he_conv(x, 1280, 1, "top_conv", padding="same"), "top_bn"), "top_activation")


EfficientNetLite0 = network("EfficientNetLite0", "efficientnet_lite0", 224, 32, _body, "Images of 224 x 224.", top(0.2))


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """0 to 255 as (x - 127) / 128."""
    return (x - 127.0) / 128.0
