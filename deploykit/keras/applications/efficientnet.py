"""EfficientNet (Tan and Le 2019), with its preparation of images inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from deploykit.keras import initializers, layers
from deploykit.keras.applications.common import batch_norm, conv, divisible, finish, pad_for, pooled, start

# kernel, blocks, filters in, filters out, expansion, stride of the first
_STAGES = (
    (3, 1, 32, 16, 1, 1), (3, 2, 16, 24, 6, 2), (5, 2, 24, 40, 6, 2), (3, 3, 40, 80, 6, 2), (5, 3, 80, 112, 6, 1),
    (5, 4, 112, 192, 6, 2), (3, 1, 192, 320, 6, 1),
)  # fmt: skip
# width, depth, size of images, dropout
_FORMS = {
    "b0": (1.0, 1.0, 224, 0.2), "b1": (1.0, 1.1, 240, 0.2), "b2": (1.1, 1.2, 260, 0.3), "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4), "b5": (1.6, 2.2, 456, 0.4), "b6": (1.8, 2.6, 528, 0.5), "b7": (2.0, 3.1, 600, 0.5),
}  # fmt: skip
_DROP = 0.2  # of whole blocks, rising to this in the last


def _initializer(scale: float, distribution: str) -> Any:
    return initializers.VarianceScaling(scale, "fan_out", distribution)


def _conv(x: Any, filters: int, size: int, name: str, **options: Any) -> Any:
    return conv(x, filters, size, name, kernel_initializer=_initializer(2.0, "truncated_normal"), **options)


def _swish(x: Any, name: str) -> Any:
    return layers.Activation("swish", name=name)(x)


def _block(x: Any, kernel: int, inside: int, out: int, expand: int, stride: int, drop: float, name: str) -> Any:
    before, wide = x, inside * expand
    if expand != 1:
        x = batch_norm(_conv(x, wide, 1, name + "expand_conv", padding="same"), name + "expand_bn")
        x = _swish(x, name + "expand_activation")
    if stride == 2:
        x = layers.ZeroPadding2D(pad_for(x, kernel), name=name + "dwconv_pad")(x)
    how = dict(use_bias=False, depthwise_initializer=_initializer(2.0, "truncated_normal"), name=name + "dwconv")
    x = layers.DepthwiseConv2D(kernel, stride, "valid" if stride == 2 else "same", **how)(x)
    x = _swish(batch_norm(x, name + "bn"), name + "activation")
    # squeeze and excite
    s = layers.GlobalAveragePooling2D(name=name + "se_squeeze")(x)
    s = layers.Reshape((1, 1, wide), name=name + "se_reshape")(s)
    how = dict(padding="same", use_bias=True)
    s = _conv(s, max(1, int(inside * 0.25)), 1, name + "se_reduce", activation="swish", **how)
    s = _conv(s, wide, 1, name + "se_expand", activation="sigmoid", **how)
    x = layers.Multiply(name=name + "se_excite")([x, s])
    x = batch_norm(_conv(x, out, 1, name + "project_conv", padding="same"), name + "project_bn")
    if stride != 1 or inside != out:
        return x
    if drop > 0:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=name + "drop")(x)
    return layers.Add(name=name + "add")([x, before])


def _build(
    form: str, include_top: bool, weights: Any, input_tensor: Any, input_shape: Any, pooling: Any, classes: int,
    classifier_activation: Any, name: Any,
) -> Any:  # fmt: skip
    width, depth, size, dropout = _FORMS[form]
    who = f"EfficientNet{form.upper()}"
    inputs = start(who, weights, include_top, input_tensor, input_shape, size, 32, classes, classifier_activation)

    def filters(n: int) -> int:
        return divisible(n * width)

    x = layers.Normalization(axis=-1)(layers.Rescaling(1.0 / 255.0)(inputs))
    x = layers.ZeroPadding2D(pad_for(x, 3), name="stem_conv_pad")(x)
    x = _swish(batch_norm(_conv(x, filters(32), 3, "stem_conv", strides=2), "stem_bn"), "stem_activation")
    counts = [math.ceil(n * depth) for _, n, *_ in _STAGES]
    b = 0
    for i, ((kernel, _, inside, out, expand, stride), n) in enumerate(zip(_STAGES, counts, strict=True)):
        for k in range(n):
            a = filters(inside if k == 0 else out)
            block = f"block{i + 1}{chr(97 + k)}_"
            x = _block(x, kernel, a, filters(out), expand, stride if k == 0 else 1, _DROP * b / sum(counts), block)
            b += 1
    x = _swish(batch_norm(_conv(x, filters(1280), 1, "top_conv", padding="same"), "top_bn"), "top_activation")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout, name="top_dropout")(x)
        how = dict(activation=classifier_activation, kernel_initializer=_initializer(1.0 / 3.0, "uniform"))
        x = layers.Dense(classes, name="predictions", **how)(x)
    return finish(inputs, pooled(x, include_top, pooling), name or who.lower(), weights)


def _make(form: str) -> Callable[..., Any]:
    def network(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = None) -> Any:  # fmt: skip
        return _build(
            form, include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
        )

    network.__name__ = network.__qualname__ = f"EfficientNet{form.upper()}"
    width, depth, size, dropout = _FORMS[form]
    network.__doc__ = f"Images of {size} x {size}, 0 to 255; width {width}, depth {depth}, dropout {dropout}."
    return network


EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3 = map(_make, ("b0", "b1", "b2", "b3"))
EfficientNetB4, EfficientNetB5, EfficientNetB6, EfficientNetB7 = map(_make, ("b4", "b5", "b6", "b7"))


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """Nothing: the network prepares its images itself."""
    return x
