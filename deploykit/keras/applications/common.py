"""What all networks share: their arguments, their ends, preparing images."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.errors import InputError
from deploykit.keras import activations, layers
from deploykit.keras.models import Input, Model

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images as 0 to 1


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


def pooled(x: Any, include_top: bool, pooling: str | None, named: bool = False) -> Any:
    """The features as pooling says; some of Keras' networks name that layer."""
    if include_top or pooling is None:
        return x
    if pooling not in ("avg", "max"):
        raise InputError(f"pooling={pooling!r}, expected None, 'avg' or 'max'.")
    kind = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
    return kind(name=f"{pooling}_pool" if named else None)(x)


def finish(inputs: Any, outputs: Any, name: str, weights: Any) -> Any:
    """The model, with its weights read."""
    model = Model(inputs, outputs, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model


def dense_top(x: Any, classes: int, activation: Any, dropout: float = 0.0, **options: Any) -> Any:
    """The head that most networks share."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="top_dropout")(x)
    return layers.Dense(classes, activation=activation, name="predictions", **options)(x)


def network(
    who: str, title: str | None, size: int, smallest: int, body: Callable[..., Any], doc: str, top: Callable[..., Any] = dense_top,
    named: bool = True, **own: Any,
) -> Callable[..., Any]:  # fmt: skip
    """The public function of a network with Keras' usual arguments: ``body`` makes the features of the input, ``top``
    the classes of the features.  named: whether the layer of ``pooling`` has a name.  own: further arguments with their defaults, which go to body."""

    def build(include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None, pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: Any = title, **more: Any) -> Any:  # fmt: skip
        wrong = sorted(more.keys() - own.keys())
        if wrong:
            allowed = ["include_top", "weights", "input_tensor", "input_shape", "pooling", "classes"]
            allowed += ["classifier_activation", "name", *own]
            raise InputError(f"{who}: got the argument {wrong[0]!r}; expected one of {', '.join(allowed)}.")
        inputs = start(
            who, weights, include_top, input_tensor, input_shape, size, smallest, classes, classifier_activation
        )
        x = body(inputs, **{**own, **more})
        if include_top:
            x = top(x, classes, classifier_activation)
        return finish(inputs, pooled(x, include_top, pooling, named), name or who.lower(), weights)

    build.__name__ = build.__qualname__ = who
    build.__doc__ = doc
    return build


def preprocess(x: Any, mode: str) -> Any:
    """Images of 0 to 255 as a network wants them: "tf" -1 to 1, "caffe" BGR less the means of ImageNet, "torch" 0 to 1
    less the means, by the deviations."""
    if mode == "tf":
        return x / 127.5 - 1.0
    if mode == "torch":
        return (x / 255.0 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    mean = np.array([103.939, 116.779, 123.68], np.float32)
    return x[..., ::-1] - mean
