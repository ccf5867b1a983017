"""EfficientNetV2 (Tan and Le 2021), with its preparation of images inside."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from deploykit.keras import layers
from deploykit.keras.applications.common import DEVIATION, MEAN, batch_norm, network
from deploykit.keras.applications.efficientnet import (
    DROP,
    he_conv,
    initializer,
    preprocess_input,
    squeeze_excite,
    swish,
    top,
)  # fmt: skip

__all__ = ["preprocess_input"]
# blocks, filters in, filters out, expansion, stride of the first; the first three stages convolve with 3 x 3 where the others
# have a 1 x 1 and a depthwise 3 x 3 convolution, and do not squeeze
_B = (
    (1, 32, 16, 1, 1),
    (2, 16, 32, 4, 2),
    (2, 32, 48, 4, 2),
    (3, 48, 96, 4, 2),
    (5, 96, 112, 6, 1),
    (8, 112, 192, 6, 2),
)
_STAGES = {
    "S": ((2, 24, 24, 1, 1), (4, 24, 48, 4, 2), (4, 48, 64, 4, 2), (6, 64, 128, 4, 2), (9, 128, 160, 6, 1),
          (15, 160, 256, 6, 2)),
    "M": ((3, 24, 24, 1, 1), (5, 24, 48, 4, 2), (5, 48, 80, 4, 2), (7, 80, 160, 4, 2), (14, 160, 176, 6, 1),
          (18, 176, 304, 6, 2), (5, 304, 512, 6, 1)),
    "L": ((4, 32, 32, 1, 1), (7, 32, 64, 4, 2), (7, 64, 96, 4, 2), (10, 96, 192, 4, 2), (19, 192, 224, 6, 1),
          (25, 224, 384, 6, 2), (7, 384, 640, 6, 1)),
}  # fmt: skip
# width, depth, size of images
_FORMS = {
    "B0": (1.0, 1.0, 224), "B1": (1.0, 1.1, 240), "B2": (1.1, 1.2, 260), "B3": (1.2, 1.4, 300), "S": (1.0, 1.0, 384),
    "M": (1.0, 1.0, 480), "L": (1.0, 1.0, 480),
}  # fmt: skip
_BN = dict(momentum=0.9)


def _block(x: Any, inside: int, out: int, expand: int, stride: int, fused: bool, drop: float, name: str) -> Any:
    before = x
    how: dict[str, Any] = dict(padding="same", strides=stride)
    if fused and expand == 1:
        x = batch_norm(he_conv(x, out, 3, name + "project_conv", **how), name + "project_bn", **_BN)
        x = swish(x, name + "project_activation")
    else:
        size: int = 3 if fused else 1
        if not fused:
            how = dict(padding="same", strides=1)
        x = batch_norm(he_conv(x, inside * expand, size, name + "expand_conv", **how), name + "expand_bn", **_BN)
        x = swish(x, name + "expand_activation")
        if not fused:
            start = initializer(2.0, "truncated_normal")
            deep = dict(use_bias=False, depthwise_initializer=start, name=name + "dwconv2")
            x = layers.DepthwiseConv2D(3, stride, "same", **deep)(x)
            x = squeeze_excite(swish(batch_norm(x, name + "bn", **_BN), name + "activation"), inside, name)
        x = batch_norm(he_conv(x, out, 1, name + "project_conv", padding="same"), name + "project_bn", **_BN)
    if stride != 1 or inside != out:
        return x
    if drop > 0:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=name + "drop")(x)
    return layers.Add(name=name + "add")([x, before])


def _body(x: Any, form: str, include_preprocessing: bool) -> Any:
    (width, depth, _), stages = _FORMS[form], _STAGES.get(form, _B)

    def filters(n: int) -> int:
        return max(8, int(n * width + 4) // 8 * 8)

    if include_preprocessing and form[0] == "B" and x.shape[-1] == 3:
        x = layers.Rescaling(1.0 / 255)(x)
        x = layers.Normalization(axis=-1, mean=list(MEAN), variance=[d**2 for d in DEVIATION])(x)
    elif include_preprocessing:
        x = layers.Rescaling(1.0 / 128.0, offset=-1)(x)
    x = batch_norm(he_conv(x, filters(stages[0][1]), 3, "stem_conv", strides=2, padding="same"), "stem_bn", **_BN)
    x = swish(x, "stem_activation")
    b, total = 0, sum(n for n, *_ in stages)
    for i, (n, inside, out, expand, stride) in enumerate(stages):
        for k in range(math.ceil(n * depth)):
            a, s = (filters(inside), stride) if k == 0 else (filters(out), 1)
            x = _block(x, a, filters(out), expand, s, i < 3, DROP * b / total, f"block{i + 1}{chr(97 + k)}_")
            b += 1
    x = batch_norm(he_conv(x, filters(1280), 1, "top_conv", padding="same"), "top_bn", **_BN)
    return swish(x, "top_activation")


def _make(form: str) -> Callable[..., Any]:
    width, depth, size = _FORMS[form]
    name, body = f"efficientnetv2-{form.lower()}", functools.partial(_body, form=form)
    doc = f"Images of {size} x {size}, 0 to 255 unless include_preprocessing=False; width {width}, depth {depth}."
    return network(f"EfficientNetV2{form}", name, size, 32, body, doc, top(0.2), include_preprocessing=True)


EfficientNetV2B0, EfficientNetV2B1, EfficientNetV2B2, EfficientNetV2B3 = map(_make, ("B0", "B1", "B2", "B3"))
EfficientNetV2S, EfficientNetV2M, EfficientNetV2L = map(_make, ("S", "M", "L"))
