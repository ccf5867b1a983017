"""What all networks share: their arguments, their ends, preparing images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from deploykit.errors import InputError
from deploykit.keras import activations, layers
from deploykit.keras.models import Input, Model


def batch_norm(x: Any, name: str, **options: Any) -> Any:
    """Batch normalization by its name."""
    return layers.BatchNormalization(name=name, **options)(x)


def conv(x: Any, filters: int, size: int, name: str, **options: Any) -> Any:
    """A convolution without bias unless asked for."""
    return layers.Conv2D(filters, size, name=name, **{"use_bias": False, **options})(x)


def divisible(v: float, by: int = 8) -> int:
    """The nearest multiple, not less than 0.9 of v, at least ``by``."""
    n = max(by, int(v + by / 2) // by * by)
    return n + by if n < 0.9 * v else n


def pad_for(x: Any, kernel: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros around an image so that a valid convolution with stride 2 reads what TensorFlow's "same" reads."""
    half, (h, w) = kernel // 2, x.shape[1:3]
    return tuple((half - (1 - (d or 1) % 2), half) for d in (h, w))  # type: ignore[return-value]


def start(
    who: str, weights: Any, include_top: bool, input_tensor: Any, input_shape: Any, size: int, smallest: int, classes: int,
    classifier_activation: Any,
) -> Any:  # fmt: skip
    """Check the arguments; the input."""
    if weights == "imagenet":
        raise InputError(
            f"{who}: weights='imagenet' would be downloaded, which this package never does. Give weights=None, or the path "
            "of a file: Keras' keras.applications model saved with model.save_weights('x.weights.h5') fits."
        )
    if weights is not None and not os.path.isfile(weights):
        raise InputError(f"{who}: weights={weights!r}; there is no such file. Expected None or a path.")
    if include_top and weights is not None and activations.get(classifier_activation) not in (
        activations.softmax, activations.linear
    ):  # fmt: skip
        raise InputError(
            f"{who}: classifier_activation={classifier_activation!r}; expected 'softmax' or None with weights."
        )
    if input_tensor is not None:
        return input_tensor
    shape = tuple(input_shape) if input_shape is not None else (size, size, 3) if include_top else (None, None, 3)
    if len(shape) != 3 or shape[2] is None:
        raise InputError(f"{who}: input_shape={input_shape}; expected (height, width, channels).")
    if any(d is not None and d < smallest for d in shape[:2]):
        raise InputError(f"{who}: input_shape={input_shape}; expected at least {smallest} x {smallest}.")
    if include_top and None in shape:
        raise InputError(f"{who}: input_shape={input_shape}; include_top=True needs sizes, expected numbers.")
    if classes < 1:
        raise InputError(f"{who}: classes={classes}, expected 1 or more.")
    return Input(shape)


def pooled(x: Any, include_top: bool, pooling: str | None) -> Any:
    """The features as pooling says."""
    if include_top or pooling is None:
        return x
    if pooling not in ("avg", "max"):
        raise InputError(f"pooling={pooling!r}, expected None, 'avg' or 'max'.")
    return (layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D)()(x)


def finish(inputs: Any, outputs: Any, name: str, weights: Any) -> Any:
    """The model, with its weights read."""
    model = Model(inputs, outputs, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model


def preprocess(x: Any, mode: str) -> Any:
    """Images of 0 to 255 as a network wants them: "tf" -1 to 1, "caffe" BGR less the means of ImageNet."""
    if mode == "tf":
        return x / 127.5 - 1.0
    mean = np.array([103.939, 116.779, 123.68], np.float32)
    return x[..., ::-1] - mean
