"""Well-known networks under Keras' names, with its layers, their names and its arguments.

``weights``: None (random), or the path of a ``.keras``, ``.weights.h5`` or ``.safetensors`` file; a file that Keras has
written for the same network fits.  Nothing is downloaded: "imagenet", Keras' default, raises an error that says what to
do.  ``include_top=False`` gives the features for transfer learning.

>>> from deploykit import keras
>>> keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False, input_shape=(96, 96, 3)).output_shape
(None, 3, 3, 1280)
"""

from __future__ import annotations

import importlib
from typing import Any

_FILES = {
    "bert": "BertEncoder",
    "densenet": "DenseNet121 DenseNet169 DenseNet201",
    "inception_v3": "InceptionV3",
    "mobilenet": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3": "MobileNetV3Large MobileNetV3Small",
    "resnet": "ResNet50 ResNet101 ResNet152",
    "resnet_v2": "ResNet50V2 ResNet101V2 ResNet152V2",
    "efficientnet": "EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 "
    "EfficientNetB6 EfficientNetB7",
    "efficientnet_lite": "EfficientNetLite0",
    "efficientnet_v2": "EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 EfficientNetV2S EfficientNetV2M "
    "EfficientNetV2L",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "xception": "Xception",
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names.split()}
__all__ = sorted([*_FILES, *_FILE_OF])


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return importlib.import_module(f"deploykit.keras.applications.{name}")
    if name in _FILE_OF:
        return getattr(importlib.import_module(f"deploykit.keras.applications.{_FILE_OF[name]}"), name)
    raise AttributeError(
        f"module 'deploykit.keras.applications' has no attribute {name!r}; known: {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return __all__
