"""EfficientNet (Tan and Le 2019), with its preparation of images inside."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from deploykit.keras import initializers, layers
from deploykit.keras.applications.common import batch_norm, conv, dense_top, divisible, network, pad_for

# kernel, blocks, filters in, filters out, expansion, stride of the first
STAGES = (
    (3, 1, 32, 16, 1, 1), (3, 2, 16, 24, 6, 2), (5, 2, 24, 40, 6, 2), (3, 3, 40, 80, 6, 2), (5, 3, 80, 112, 6, 1),
    (5, 4, 112, 192, 6, 2), (3, 1, 192, 320, 6, 1),
)  # fmt: skip
# width, depth, size of images, dropout
_FORMS = {
    "b0": (1.0, 1.0, 224, 0.2), "b1": (1.0, 1.1, 240, 0.2), "b2": (1.1, 1.2, 260, 0.3), "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4), "b5": (1.6, 2.2, 456, 0.4), "b6": (1.8, 2.6, 528, 0.5), "b7": (2.0, 3.1, 600, 0.5),
}  # fmt: skip
DROP = 0.2  # of whole blocks, rising to this in the last


def initializer(scale: float, distribution: str) -> Any:
    """Weights of that variance times the fan out."""
    return initializers.VarianceScaling(scale, "fan_out", distribution)


def he_conv(x: Any, filters: int, size: int, name: str, **options: Any) -> Any:
    """A convolution that starts as He et al. (2015) say."""
    return conv(x, filters, size, name, kernel_initializer=initializer(2.0, "truncated_normal"), **options)


def swish(x: Any, name: str) -> Any:
    """x sigmoid(x)."""
    return layers.Activation("swish", name=name)(x)


def squeeze_excite(x: Any, inside: int, name: str, ratio: float = 0.25) -> Any:
    """Channels weighted by what all places of the image say (Hu et al. 2018)."""
    s = layers.GlobalAveragePooling2D(name=name + "se_squeeze")(x)
    s = layers.Reshape((1, 1, x.shape[-1]), name=name + "se_reshape")(s)
    how = dict(padding="same", use_bias=True)
    s = he_conv(s, max(1, int(inside * ratio)), 1, name + "se_reduce", activation="swish", **how)
    s = he_conv(s, x.shape[-1], 1, name + "se_expand", activation="sigmoid", **how)
    return layers.Multiply(name=name + "se_excite")([x, s])


def block(
    x: Any, kernel: int, inside: int, out: int, expand: int, stride: int, drop: float, name: str, active: Any = swish,
    excite: bool = True,
) -> Any:  # fmt: skip
    """Expanded by a 1 x 1 convolution, a depthwise one, squeezed and excited, back by another 1 x 1."""
    before, wide = x, inside * expand
    if expand != 1:
        x = batch_norm(he_conv(x, wide, 1, name + "expand_conv", padding="same"), name + "expand_bn")
        x = active(x, name + "expand_activation")
    if stride == 2:
        x = layers.ZeroPadding2D(pad_for(x, kernel), name=name + "dwconv_pad")(x)
    how = dict(use_bias=False, depthwise_initializer=initializer(2.0, "truncated_normal"), name=name + "dwconv")
    x = layers.DepthwiseConv2D(kernel, stride, "valid" if stride == 2 else "same", **how)(x)
    x = active(batch_norm(x, name + "bn"), name + "activation")
    if excite:
        x = squeeze_excite(x, inside, name)
    x = batch_norm(he_conv(x, out, 1, name + "project_conv", padding="same"), name + "project_bn")
    if stride != 1 or inside != out:
        return x
    if drop > 0:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=name + "drop")(x)
    return layers.Add(name=name + "add")([x, before])


def _body(inputs: Any, form: str) -> Any:
    width, depth, _, _ = _FORMS[form]

    def filters(n: int) -> int:
        return divisible(n * width)

    x = layers.Normalization(axis=-1)(layers.Rescaling(1.0 / 255.0)(inputs))
    x = layers.ZeroPadding2D(pad_for(x, 3), name="stem_conv_pad")(x)
    x = swish(batch_norm(he_conv(x, filters(32), 3, "stem_conv", strides=2), "stem_bn"), "stem_activation")
    counts = [math.ceil(n * depth) for _, n, *_ in STAGES]
    b = 0
    for i, ((kernel, _, inside, out, expand, stride), n) in enumerate(zip(STAGES, counts, strict=True)):
        for k in range(n):
            a = filters(inside if k == 0 else out)
            name = f"block{i + 1}{chr(97 + k)}_"
            x = block(x, kernel, a, filters(out), expand, stride if k == 0 else 1, DROP * b / sum(counts), name)
            b += 1
    return swish(batch_norm(he_conv(x, filters(1280), 1, "top_conv", padding="same"), "top_bn"), "top_activation")


def top(dropout: float) -> Callable[..., Any]:
    """The head, with that much dropout."""
    return functools.partial(dense_top, dropout=dropout, kernel_initializer=initializer(1.0 / 3.0, "uniform"))


def _make(form: str) -> Callable[..., Any]:
    width, depth, size, dropout = _FORMS[form]
    doc = f"Images of {size} x {size}, 0 to 255; width {width}, depth {depth}, dropout {dropout}."
    body = functools.partial(_body, form=form)
    return network(f"EfficientNet{form.upper()}", f"efficientnet{form}", size, 32, body, doc, top(dropout))


EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3 = map(_make, ("b0", "b1", "b2", "b3"))
EfficientNetB4, EfficientNetB5, EfficientNetB6, EfficientNetB7 = map(_make, ("b4", "b5", "b6", "b7"))


def preprocess_input(x: Any, data_format: Any = None) -> Any:
    """Nothing: the network prepares its images itself."""
    return x
