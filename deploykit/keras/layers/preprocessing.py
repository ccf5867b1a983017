"""Preprocessing inside the model: scaling, sizes, random changes of images while training, categories."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff import random
from deploykit.errors import InputError
from deploykit.keras.layers.base import Layer
from deploykit.keras.layers.core import _channels_last, _Noise, resize_images
from deploykit.ops.core import F


class Rescaling(Layer):
    """x * scale + offset."""

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Any) -> Any:
        x = N.cast(inputs, self.dtype)
        return x * np.asarray(self.scale, self.dtype) + np.asarray(self.offset, self.dtype)


class Normalization(Layer):
    """(x - mean) / sqrt(variance) along axis; given, or learnt from data by ``adapt``."""

    def __init__(
        self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None):
            raise InputError("Normalization: give both mean and variance, or neither.")
        self.invert, self._mean, self._variance = invert, mean, variance

    def build(self, input_shape: Any) -> None:
        rank = len(input_shape)
        keep = [a % rank for a in self.axis]
        shape = [input_shape[i] if i in keep else 1 for i in range(rank)]
        if any(s is None for s in shape):
            raise InputError(f"layer '{self.name}': the sizes along axis {self.axis} must be known.")
        self._shape = shape
        if self._mean is not None:
            self._values = tuple(np.broadcast_to(np.asarray(v, np.float32).reshape(shape) if np.size(v) > 1 else np.float32(v), shape) for v in (self._mean, self._variance))  # fmt: skip
        else:
            flat = tuple(s for i, s in enumerate(shape) if i in keep)
            self.adapt_mean = self.add_weight(flat, "zeros", trainable=False, name="mean")
            self.adapt_variance = self.add_weight(flat, "ones", trainable=False, name="variance")
            self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def adapt(self, data: Any) -> None:
        """Learn mean and variance from an array, or from batches."""
        batches = (
            [np.asarray(data)]
            if isinstance(data, (np.ndarray, list)) or hasattr(data, "numpy")
            else [np.asarray(b) for b in data]
        )
        if not batches or not batches[0].size:
            raise InputError("Normalization.adapt: the data is empty.")
        if not self.built:
            self.build((None, *batches[0].shape[1:]))
            self.built = True
        rank = batches[0].ndim
        axes = tuple(i for i in range(rank) if i not in [a % rank for a in self.axis])
        count = sum(math.prod(b.shape[i] for i in axes) for b in batches)
        mean = sum(b.astype(np.float64).sum(axes) for b in batches) / count
        around = np.expand_dims(mean, axes)
        variance = sum(np.square(b.astype(np.float64) - around).sum(axes) for b in batches) / count
        self.adapt_mean.assign(np.asarray(mean, np.float32).reshape(self.adapt_mean.shape))
        self.adapt_variance.assign(np.asarray(variance, np.float32).reshape(self.adapt_variance.shape))

    def call(self, inputs: Any) -> Any:
        x = N.cast(inputs, self.dtype)
        if self._mean is not None:
            mean, variance = (N.convert_to_tensor(v) for v in self._values)
        else:
            mean, variance = (N.reshape(v, self._shape) for v in (self.adapt_mean, self.adapt_variance))
        deviation = N.maximum(N.sqrt(variance), 1e-7)
        return mean + x * deviation if self.invert else (x - mean) / deviation


class Resizing(Layer):
    """Images in another size."""

    def __init__(self, height: int, width: int, interpolation: str = "bilinear", crop_to_aspect_ratio: bool = False, pad_to_aspect_ratio: bool = False, fill_mode: str = "constant", fill_value: float = 0.0, antialias: bool = False, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        _channels_last(self, data_format)
        if pad_to_aspect_ratio:
            raise InputError("Resizing: pad_to_aspect_ratio is not supported; use ZeroPadding2D before.")
        self.height, self.width, self.interpolation = height, width, interpolation
        self.crop_to_aspect_ratio, self.antialias = crop_to_aspect_ratio, antialias

    def call(self, inputs: Any) -> Any:
        x = N.cast(inputs, self.dtype)
        single = x.ndim == 3
        x = N.expand_dims(x, 0) if single else x
        if self.crop_to_aspect_ratio:
            h, w = int(x.shape[1]), int(x.shape[2])
            ch, cw = min(h, int(w * self.height / self.width)), min(w, int(h * self.width / self.height))
            top, left = (h - ch) // 2, (w - cw) // 2
            x = x[:, top : top + ch, left : left + cw]
        y = resize_images(x, (self.height, self.width), self.interpolation, self.antialias)
        return y[0] if single else y


class CenterCrop(Layer):
    """The middle of images; smaller ones are resized."""

    def __init__(self, height: int, width: int, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _channels_last(self, data_format)
        self.height, self.width = height, width

    def call(self, inputs: Any) -> Any:
        x = N.cast(inputs, self.dtype)
        h, w = int(x.shape[-3]), int(x.shape[-2])
        if h < self.height or w < self.width:
            return Resizing(self.height, self.width, crop_to_aspect_ratio=True)(x)
        top, left = (h - self.height) // 2, (w - self.width) // 2
        return x[..., top : top + self.height, left : left + self.width, :]


# ---------------------------------------------------------------- random changes, while training only
class _Random(_Noise):
    """Each image of a batch is changed on its own; without ``training`` nothing happens."""

    def __init__(self, seed: Any = None, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _channels_last(self, data_format)
        self._seeds(seed)

    def call(self, inputs: Any, training: bool = True) -> Any:
        x = N.cast(inputs, self.dtype)
        if not training:
            return x
        return self.change(N.expand_dims(x, 0))[0] if x.ndim == 3 else self.change(x)

    def change(self, x: Any) -> Any:
        """The changed batch."""
        raise NotImplementedError

    def each(self, x: Any, low: float, high: float) -> Any:
        """A uniform number per image, shaped to multiply images."""
        return random.uniform((N.shape(x)[0], 1, 1, 1), low, high, seed=self.generator)


class RandomFlip(_Random):
    """Mirrored: horizontally, vertically, or both."""

    def __init__(
        self, mode: str = "horizontal_and_vertical", seed: Any = None, data_format: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        if mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise InputError(
                f"RandomFlip: got mode={mode!r}, expected horizontal, vertical or horizontal_and_vertical."
            )
        self.mode = mode

    def change(self, x: Any) -> Any:
        for word, axis in (("horizontal", 2), ("vertical", 1)):
            if word in self.mode:
                x = N.where(N.less(self.each(x, 0.0, 1.0), 0.5), N.flip(x, axis), x)
        return x


class RandomBrightness(_Random):
    """A number added, as a fraction of the range."""

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: Any = None, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor = (-abs(factor), abs(factor)) if isinstance(factor, (int, float)) else tuple(factor)
        self.value_range = tuple(value_range)

    def change(self, x: Any) -> Any:
        low, high = self.value_range
        return N.clip(x + self.each(x, *map(float, self.factor)) * float(high - low), float(low), float(high))


class RandomContrast(_Random):
    """Distances from the mean of each channel multiplied."""

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: Any = None, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        self.factor = (factor, factor) if isinstance(factor, (int, float)) else tuple(factor)
        self.value_range = tuple(value_range)

    def change(self, x: Any) -> Any:
        low, high = self.factor
        mean = N.mean(x, (1, 2), keepdims=True)
        y = (x - mean) * self.each(x, 1.0 - low, 1.0 + high) + mean
        return N.clip(y, float(self.value_range[0]), float(self.value_range[1]))


class RandomCrop(_Random):
    """A window at a random place; the middle when not training."""

    def __init__(self, height: int, width: int, seed: Any = None, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.height, self.width = height, width

    def call(self, inputs: Any, training: bool = True) -> Any:
        if not training:
            return CenterCrop(self.height, self.width)(inputs)
        return super().call(inputs, training)

    def change(self, x: Any) -> Any:
        h, w = int(x.shape[1]), int(x.shape[2])
        if h < self.height or w < self.width:
            return CenterCrop(self.height, self.width)(x)
        top = N.cast(N.floor(random.uniform((), 0.0, h - self.height + 1.0, seed=self.generator)), "int64")
        left = N.cast(N.floor(random.uniform((), 0.0, w - self.width + 1.0, seed=self.generator)), "int64")
        rows, cols = N.arange(self.height, dtype="int64") + top, N.arange(self.width, dtype="int64") + left
        return N.take(N.take(x, rows, 1), cols, 2)


class _Affine(_Random):
    """Images drawn through a matrix per image, by bilinear sampling; outside as fill_mode says."""

    def __init__(self, fill_mode: str, interpolation: str, seed: Any, fill_value: float, data_format: Any, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(seed, data_format, **kwargs)
        modes = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}
        if fill_mode not in modes:
            raise InputError(f"{type(self).__name__}: fill_mode={fill_mode!r}, expected one of {', '.join(modes)}.")
        if fill_value:
            raise InputError(f"{type(self).__name__}: fill_value other than 0 is not supported.")
        self.fill_mode, self.interpolation, self._padding = fill_mode, interpolation, modes[fill_mode]

    def matrix(self, x: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        """a, b, c, d, e, f per image [batch, 1, 1]: source x = a X + b Y + c, y = d X + e Y + f, in -1..1."""
        raise NotImplementedError

    def change(self, x: Any) -> Any:
        h, w = int(x.shape[1]), int(x.shape[2])
        cols = ((np.arange(w, dtype=np.float32) * 2 + 1) / w - 1).reshape(1, 1, w)
        rows = ((np.arange(h, dtype=np.float32) * 2 + 1) / h - 1).reshape(1, h, 1)
        a, b, c, d, e, f = self.matrix(x)
        zero = N.zeros((1, h, w))
        grid = N.stack([a * cols + b * rows + c + zero, d * cols + e * rows + f + zero], -1)
        mode = "linear" if self.interpolation == "bilinear" else "nearest"
        return F.grid_sample(x, grid, mode=mode, padding=self._padding, align_corners=False)

    def one(self, x: Any, low: float, high: float) -> Any:
        """A uniform number per image [batch, 1, 1]."""
        return random.uniform((N.shape(x)[0], 1, 1), low, high, seed=self.generator)


def _range(factor: Any, what: str) -> tuple[float, float]:
    return (-float(factor), float(factor)) if isinstance(factor, (int, float)) else (float(factor[0]), float(factor[1]))


class RandomRotation(_Affine):
    """Turned by a fraction of a full turn."""

    def __init__(self, factor: Any, fill_mode: str = "reflect", interpolation: str = "bilinear", seed: Any = None, fill_value: float = 0.0, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = _range(factor, "factor")

    def matrix(self, x: Any) -> Any:
        angle = self.one(x, self.factor[0] * 2 * math.pi, self.factor[1] * 2 * math.pi)
        cos, sin = N.cos(angle), N.sin(angle)
        h, w = int(x.shape[1]), int(x.shape[2])
        zero = angle * 0.0
        return cos, -sin * (h / w), zero, sin * (w / h), cos, zero


class RandomZoom(_Affine):
    """Nearer (negative factors) or farther."""

    def __init__(self, height_factor: Any, width_factor: Any = None, fill_mode: str = "reflect", interpolation: str = "bilinear", seed: Any = None, fill_value: float = 0.0, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = _range(height_factor, "height_factor")
        self.width_factor = None if width_factor is None else _range(width_factor, "width_factor")

    def matrix(self, x: Any) -> Any:
        h = 1.0 + self.one(x, *self.height_factor)
        w = h if self.width_factor is None else 1.0 + self.one(x, *self.width_factor)
        zero = h * 0.0
        return w, zero, zero, zero, h, zero


class RandomTranslation(_Affine):
    """Moved by a fraction of the size."""

    def __init__(self, height_factor: Any, width_factor: Any, fill_mode: str = "reflect", interpolation: str = "bilinear", seed: Any = None, fill_value: float = 0.0, data_format: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = (
            _range(height_factor, "height_factor"),
            _range(width_factor, "width_factor"),
        )

    def matrix(self, x: Any) -> Any:
        y = self.one(x, self.height_factor[0] * 2, self.height_factor[1] * 2)
        z = self.one(x, self.width_factor[0] * 2, self.width_factor[1] * 2)
        one, zero = y * 0.0 + 1.0, y * 0.0
        return one, zero, -z, zero, one, -y


class CategoryEncoding(Layer):
    """Integers as one-hot, multi-hot or counts."""

    def __init__(self, num_tokens: int | None = None, output_mode: str = "multi_hot", sparse: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if output_mode not in ("one_hot", "multi_hot", "count") or num_tokens is None:
            raise InputError(f"CategoryEncoding: got num_tokens={num_tokens}, output_mode={output_mode!r}; expected a number, and one_hot, multi_hot or count.")  # fmt: skip
        self.num_tokens, self.output_mode = num_tokens, output_mode

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        hot = N.one_hot(inputs, self.num_tokens, dtype=self.dtype)
        if self.output_mode == "one_hot":
            return N.squeeze(hot, -2) if inputs.ndim > 1 and inputs.shape[-1] == 1 else hot
        if count_weights is not None:
            hot = hot * N.expand_dims(N.cast(count_weights, self.dtype), -1)
        return N.sum(hot, -2) if self.output_mode == "count" else N.max(hot, -2)


class _NotWhileTraining(Layer):
    """Changes images while training in ways that are not here: files that hold one are read and run, not trained."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{k: v for k, v in kwargs.items() if k in ("name", "trainable", "dtype")})

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            raise InputError(
                f"layer '{self.name}': {type(self).__name__} does nothing in inference and is not here for training; "
                "change the data before the model, or take RandomFlip, RandomRotation, RandomZoom, RandomContrast ..."
            )
        return N.cast(inputs, self.dtype)


for _name in (
    "AugMix CutMix MixUp RandAugment RandomColorDegeneration RandomColorJitter RandomElasticTransform RandomErasing "
    "RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomSaturation "
    "RandomSharpness RandomShear"
).split():
    globals()[_name] = type(_name, (_NotWhileTraining,), {"__module__": __name__, "__doc__": _NotWhileTraining.__doc__})


class Discretization(Layer):
    """Numbers to the index of their bin, as it is, one-hot, multi-hot or counted."""

    def __init__(self, bin_boundaries: Any = None, num_bins: int | None = None, epsilon: float = 0.01, output_mode: str = "int", sparse: bool = False, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if bin_boundaries is None:
            raise InputError("Discretization: bins are not learnt from data here; give bin_boundaries.")
        if sparse or output_mode not in ("int", "one_hot", "multi_hot", "count"):
            raise InputError(
                f"Discretization: got output_mode={output_mode!r}, sparse={sparse}; expected int, one_hot, multi_hot or "
                "count, and no sparse tensors."
            )
        self.bin_boundaries, self.output_mode = [float(b) for b in bin_boundaries], output_mode

    def get_config(self) -> dict[str, Any]:
        return {k: v for k, v in super().get_config().items() if k != "trainable"}  # Keras' own takes none

    def call(self, inputs: Any) -> Any:
        bounds = np.asarray(self.bin_boundaries, np.float32)
        at = N.sum(N.cast(N.expand_dims(N.cast(inputs, "float32"), -1) >= bounds, "int32"), -1)
        if self.output_mode == "int":
            return N.cast(at, "int64")
        return CategoryEncoding(len(bounds) + 1, self.output_mode)(at)
