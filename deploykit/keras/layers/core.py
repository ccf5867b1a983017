"""Core layers: dense, embedding, activations, shapes, merging, noise."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff import random, tree
from deploykit.autodiff.tensor import Tensor
from deploykit.errors import InputError, ShapeError
from deploykit.keras import activations, constraints, initializers, regularizers
from deploykit.keras.layers.base import InputSpec, Layer, show
from deploykit.ops.core import F


class Dense(Layer):
    """activation(x @ kernel + bias) on the last dim."""

    supports_masking = True

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, lora_rank: Any = None, lora_alpha: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if units <= 0:
            raise InputError(f"Dense: got units={units}, expected more than 0.")
        self.units, self.activation, self.use_bias = units, activations.get(activation), use_bias
        self._kernel = (
            initializers.get(kernel_initializer),
            regularizers.get(kernel_regularizer),
            constraints.get(kernel_constraint),
        )
        self._bias = (
            initializers.get(bias_initializer),
            regularizers.get(bias_regularizer),
            constraints.get(bias_constraint),
        )
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: Any) -> None:
        k, b = self._kernel, self._bias
        self.kernel = self.add_weight(
            (input_shape[-1], self.units), k[0], name="kernel", regularizer=k[1], constraint=k[2]
        )
        self.bias = (
            self.add_weight((self.units,), b[0], name="bias", regularizer=b[1], constraint=b[2])
            if self.use_bias
            else None
        )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Any) -> Any:
        x = N.matmul(inputs, self.kernel)
        return self.activation(x if self.bias is None else x + self.bias)


class EinsumDense(Layer):
    """activation(einsum(equation, x, kernel) + bias)."""

    def __init__(self, equation: str, output_shape: Any, activation: Any = None, bias_axes: str | None = None, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.equation, self.bias_axes, self.activation = equation, bias_axes, activations.get(activation)
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self._kernel = (
            initializers.get(kernel_initializer),
            regularizers.get(kernel_regularizer),
            constraints.get(kernel_constraint),
        )
        self._bias = (
            initializers.get(bias_initializer),
            regularizers.get(bias_regularizer),
            constraints.get(bias_constraint),
        )

    def build(self, input_shape: Any) -> None:
        left, out = self.equation.replace(" ", "").split("->")
        a, w = left.split(",")
        rank = len(input_shape)
        if "..." in a:
            extra = "0123456789"[: rank - len(a.replace("...", ""))]
            a, out = a.replace("...", extra), out.replace("...", extra)
        sizes = dict(zip(a, input_shape, strict=True))
        given = self.partial_output_shape
        for c, d in zip(out[len(out) - len(given) :], given, strict=True):
            sizes.setdefault(c, d) if d is not None else None
        k, b = self._kernel, self._bias
        self.kernel = self.add_weight([sizes[c] for c in w], k[0], name="kernel", regularizer=k[1], constraint=k[2])
        self.bias = None
        if self.bias_axes:
            first = min(out.index(c) for c in self.bias_axes)
            shape = [sizes[c] if c in self.bias_axes else 1 for c in out[first:]]
            self.bias = self.add_weight(shape, b[0], name="bias", regularizer=b[1], constraint=b[2])

    def call(self, inputs: Any, training: Any = None) -> Any:
        equation = self.equation.replace(" ", "")
        if "..." in equation:
            letters = "ABCDEFGHIJ"[: inputs.ndim - len(equation.split(",")[0].replace("...", ""))]
            equation = equation.replace("...", letters)
        x = N.einsum(equation, inputs, self.kernel)
        return self.activation(x if self.bias is None else x + self.bias)


class Embedding(Layer):
    """Vectors of integers.  mask_zero: 0 means "nothing here"."""

    def __init__(self, input_dim: int, output_dim: int, embeddings_initializer: Any = "uniform", embeddings_regularizer: Any = None, embeddings_constraint: Any = None, mask_zero: bool = False, weights: Any = None, lora_rank: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.input_dim, self.output_dim, self.mask_zero = input_dim, output_dim, mask_zero
        self.supports_masking, self.autocast = mask_zero, False
        self._init = (
            initializers.get(embeddings_initializer),
            regularizers.get(embeddings_regularizer),
            constraints.get(embeddings_constraint),
        )
        self._start = weights

    def get_config(self) -> dict[str, Any]:
        return {k: v for k, v in super().get_config().items() if k != "weights"} | {"input_dim": self.input_dim}

    def build(self, input_shape: Any = None) -> None:
        i = self._init
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim), i[0], name="embeddings", regularizer=i[1], constraint=i[2]
        )
        if self._start is not None:
            self.embeddings.assign(np.asarray(self._start[0] if isinstance(self._start, list) else self._start))

    def call(self, inputs: Any) -> Any:
        return N.take(self.embeddings, N.cast(inputs, "int32"), axis=0)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return N.not_equal(inputs, 0) if self.mask_zero else None


class Lambda(Layer):
    """A function as a layer."""

    def __init__(
        self, function: Any, output_shape: Any = None, mask: Any = None, arguments: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.function, self.arguments = function, arguments or {}

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        return self.function(inputs, **self.arguments)


class Identity(Layer):
    """x."""

    supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs


class Masking(Layer):
    """Steps whose features all equal mask_value are masked and set to 0."""

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return N.any(N.not_equal(inputs, self.mask_value), -1)

    def call(self, inputs: Any) -> Any:
        keep = N.any(N.not_equal(inputs, self.mask_value), -1, keepdims=True)
        return inputs * N.cast(keep, inputs.dtype)


class Wrapper(Layer):
    """Base of layers around a layer."""

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, Layer):
            raise InputError(f"{type(self).__name__}: got {type(layer).__name__}, expected a layer.")
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True


# ---------------------------------------------------------------- activations
class Activation(Layer):
    """An activation function as a layer."""

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class ReLU(Layer):
    """max(x, 0), with slope, limit and threshold."""

    supports_masking = True

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Layer):
    """negative_slope * x below 0."""

    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = float(negative_slope)

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)


class PReLU(Layer):
    """A slope below 0 that is learnt."""

    supports_masking = True

    def __init__(self, alpha_initializer: Any = "Zeros", alpha_regularizer: Any = None, alpha_constraint: Any = None, shared_axes: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self._init = (
            initializers.get(alpha_initializer),
            regularizers.get(alpha_regularizer),
            constraints.get(alpha_constraint),
        )
        self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else list(shared_axes or [])

    def build(self, input_shape: Any) -> None:
        shape = list(input_shape[1:])
        for a in self.shared_axes:
            shape[a - 1] = 1
        self.alpha = self.add_weight(
            shape, self._init[0], name="alpha", regularizer=self._init[1], constraint=self._init[2]
        )

    def call(self, inputs: Any) -> Any:
        return F.relu(inputs) - self.alpha * F.relu(-inputs)


class ELU(Layer):
    """alpha * (exp(x) - 1) below 0."""

    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, self.alpha)


class Softmax(Layer):
    """Softmax along axis; mask True keeps."""

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is not None:
            inputs = inputs + (1.0 - N.cast(mask, inputs.dtype)) * -3.4e38 / 2
        return activations.softmax(inputs, self.axis)


# ---------------------------------------------------------------- merging
class _Merge(Layer):
    supports_masking = True

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise InputError(f"layer '{self.name}': a merging layer takes a list of two or more inputs.")
        rank = max(x.ndim for x in inputs)
        xs = [self._widen(x, rank) for x in inputs]
        out = xs[0]
        for x in xs[1:]:
            out = self.merge(out, x)
        return self.finish(out, len(xs))

    @staticmethod
    def _widen(x: Any, rank: int) -> Any:
        while x.ndim < rank:  # new dims stand behind the batch
            x = N.expand_dims(x, 1)
        return x

    def merge(self, a: Any, b: Any) -> Any:
        raise NotImplementedError

    def finish(self, x: Any, count: int) -> Any:
        return x

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        masks = [m for m in (previous_mask or []) if m is not None]
        if not masks or len(masks) != len(inputs):
            return None
        out = masks[0]
        for m in masks[1:]:
            out = N.logical_and(out, m)
        return out


def _merging(name: str, f: Any, doc: str, finish: Any = None) -> type[Layer]:
    body = {"merge": lambda self, a, b: f(a, b), "__doc__": doc, "__module__": __name__}
    if finish is not None:
        body["finish"] = lambda self, x, n: finish(x, n)
    return type(name, (_Merge,), body)


Add = _merging("Add", N.add, "Sum of the inputs.")
Multiply = _merging("Multiply", N.multiply, "Product of the inputs.")
Average = _merging("Average", N.add, "Mean of the inputs.", lambda x, n: x / float(n))
Maximum = _merging("Maximum", N.maximum, "Largest of the inputs, element by element.")
Minimum = _merging("Minimum", N.minimum, "Smallest of the inputs, element by element.")


class Subtract(_Merge):
    """First input minus the second."""

    def call(self, inputs: Any) -> Any:
        if len(inputs) != 2:
            raise InputError(f"layer '{self.name}': Subtract takes two inputs, got {len(inputs)}.")
        return super().call(inputs)

    def merge(self, a: Any, b: Any) -> Any:
        return a - b


class Concatenate(_Merge):
    """The inputs side by side along axis."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        return N.concatenate(list(inputs), self.axis)


class Dot(_Merge):
    """Products along axes of two inputs, batch by batch."""

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes, self.normalize = axes, normalize

    def call(self, inputs: Any) -> Any:
        a, b = inputs
        i, j = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        if not (-a.ndim <= i < a.ndim and -b.ndim <= j < b.ndim):
            raise InputError(f"Dot: axes {i} and {j} for inputs of rank {a.ndim} and {b.ndim}.")
        i, j = i % a.ndim, j % b.ndim
        if self.normalize:
            a, b = (x * N.rsqrt(N.maximum(N.sum(N.square(x), k, keepdims=True), 1e-12)) for x, k in ((a, i), (b, j)))
        la = "zabcdefg"[: a.ndim]
        lb = "z" + "nopqrst"[: b.ndim - 1]
        lb = lb[:j] + la[i] + lb[j + 1 :]
        out = "z" + "".join(c for c in la[1:] if c != la[i]) + "".join(c for c in lb[1:] if c != la[i])
        y = N.einsum(f"{la},{lb}->{out}", a, b)
        return N.expand_dims(y, 1) if y.ndim == 1 else y


# ---------------------------------------------------------------- shapes
class Flatten(Layer):
    """All dims but the batch as one."""

    def __init__(self, data_format: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _channels_last(self, data_format)

    def call(self, inputs: Any) -> Any:
        return F.flatten(inputs, axis=1) if inputs.ndim > 1 else N.expand_dims(inputs, -1)


class Reshape(Layer):
    """Another shape behind the batch; one -1 allowed."""

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(target_shape, (list, tuple)) or not all(hasattr(d, "__index__") for d in target_shape):
            raise InputError(f"Reshape: target_shape is {str(target_shape)[:60]}; expected whole numbers.")
        self.target_shape = tuple(target_shape)

    def call(self, inputs: Any) -> Any:
        rest = list(inputs.shape[1:])
        target = list(self.target_shape)
        if -1 in target and all(isinstance(d, int) for d in rest):
            known = math.prod(d for d in target if d != -1)
            target[target.index(-1)] = math.prod(rest) // max(known, 1)
        if all(isinstance(d, int) for d in rest) and math.prod(rest) != math.prod(target):
            raise ShapeError(f"layer '{self.name}': cannot reshape {show(rest)} to {tuple(self.target_shape)}.")
        return N.reshape(inputs, (N.shape(inputs)[0], *target))


class Permute(Layer):
    """Dims behind the batch in another order, counted from 1."""

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise InputError(f"Permute: got dims={dims}, expected an order of 1 to {len(self.dims)}.")

    def call(self, inputs: Any) -> Any:
        return N.transpose(inputs, (0, *self.dims))


class RepeatVector(Layer):
    """[batch, features] n times: [batch, n, features]."""

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = n
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Any) -> Any:
        return N.tile(N.expand_dims(inputs, 1), (1, self.n, 1))


def _channels_last(layer: Layer, data_format: Any) -> None:
    if data_format not in (None, "channels_last"):
        raise InputError(
            f"{type(layer).__name__} '{layer.name}': data_format={data_format!r}; this engine is channels_last only. "
            "Put a Permute layer around channels-first data."
        )


def _pairs(x: Any, n: int) -> list[tuple[int, int]]:
    """One number, one per dim, or a pair per dim, as pairs."""
    xs = [x] * n if isinstance(x, int) else list(x)
    if n == 1 and not isinstance(x, int) and len(xs) == 2 and isinstance(xs[0], int):
        return [(xs[0], xs[1])]
    return [(v, v) if isinstance(v, int) else tuple(v) for v in xs]  # type: ignore[misc]


def _spatial(name: str, n: int, body: dict[str, Any], doc: str) -> type[Layer]:
    return type(name, (Layer,), {**body, "__doc__": doc, "__module__": __name__, "rank": n})


def _zero_padding(n: int) -> type[Layer]:
    def init(self: Any, padding: Any = 1, data_format: Any = None, **kwargs: Any) -> None:
        Layer.__init__(self, **kwargs)
        _channels_last(self, data_format)
        self.padding = _pairs(padding, n)

    def call(self: Any, inputs: Any) -> Any:
        return N.pad(inputs, [(0, 0), *self.padding, (0, 0)])

    return _spatial(f"ZeroPadding{n}D", n, {"__init__": init, "call": call}, "Zeros around.")


def _without(init: Any, *names: str) -> Any:
    """The same __init__ with fewer arguments: forms with one spatial dim have fewer than the others."""
    signature = inspect.signature(init)
    init.__signature__ = signature.replace(parameters=[p for n, p in signature.parameters.items() if n not in names])
    return init


def _cropping(n: int) -> type[Layer]:
    def init(self: Any, cropping: Any = 1, data_format: Any = None, **kwargs: Any) -> None:
        Layer.__init__(self, **kwargs)
        _channels_last(self, data_format)
        self.cropping = _pairs(cropping, n)

    def call(self: Any, inputs: Any) -> Any:
        return inputs[(slice(None), *(slice(a, -b if b else None) for a, b in self.cropping))]

    body = {"__init__": _without(init, "data_format") if n == 1 else init, "call": call}
    return _spatial(f"Cropping{n}D", n, body, "Rows cut off around.")


def _up_sampling(n: int) -> type[Layer]:
    def init(self: Any, size: Any = 2, data_format: Any = None, interpolation: str = "nearest", **kwargs: Any) -> None:
        Layer.__init__(self, **kwargs)
        _channels_last(self, data_format)
        self.size = (size,) * n if isinstance(size, int) else tuple(size)
        self.interpolation = interpolation

    def call(self: Any, inputs: Any) -> Any:
        if self.interpolation != "nearest":
            return resize_images(
                inputs, [d * s for d, s in zip(inputs.shape[1:-1], self.size, strict=True)], self.interpolation
            )
        x = inputs
        for i, s in enumerate(self.size):
            x = N.repeat(x, s, i + 1)
        return x

    less = {1: ("data_format", "interpolation"), 2: (), 3: ("interpolation",)}[n]
    return _spatial(f"UpSampling{n}D", n, {"__init__": _without(init, *less), "call": call}, "Each element repeated.")


def resize_images(x: Any, size: Any, interpolation: str = "bilinear", antialias: bool = False) -> Tensor:
    """Spatial dims of [batch, ..., channels] to another size: nearest, bilinear or bicubic."""
    modes = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
    if interpolation not in modes:
        raise InputError(f"interpolation: got {interpolation!r}, expected one of {', '.join(modes)}.")
    how = dict(coordinates="half_pixel", cubic_a=-0.5, antialias=antialias, exclude_outside=interpolation == "bicubic")
    axes = tuple(range(x.ndim - 1 - len(size), x.ndim - 1))
    if interpolation == "nearest":
        how = dict(nearest="round_prefer_ceil", coordinates="half_pixel")
    return F.resize(x, None, None, np.array(size, np.int64), axes=axes, mode=modes[interpolation], **how)


ZeroPadding1D, ZeroPadding2D, ZeroPadding3D = map(_zero_padding, (1, 2, 3))
Cropping1D, Cropping2D, Cropping3D = map(_cropping, (1, 2, 3))
UpSampling1D, UpSampling2D, UpSampling3D = map(_up_sampling, (1, 2, 3))


# ---------------------------------------------------------------- noise
class _Noise(Layer):
    supports_masking = True

    def _seeds(self, seed: Any) -> None:
        self.seed = seed
        self._generator = random.Generator(seed) if seed is not None else None

    @property
    def generator(self) -> Any:
        return self._generator or random.default_generator()


class Dropout(_Noise):
    """Zeros with probability rate while training."""

    def __init__(self, rate: float, noise_shape: Any = None, seed: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise InputError(f"Dropout: got rate={rate}, expected a number between 0 and 1.")
        self.rate, self.noise_shape = rate, noise_shape
        self._seeds(seed)

    def _noise_shape(self, x: Any) -> Any:
        if self.noise_shape is None:
            return None
        return [d if n is None else n for n, d in zip(self.noise_shape, N.shape(x), strict=True)]

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self._noise_shape(inputs), self.generator)


def _spatial_dropout(n: int) -> type[Layer]:
    def init(self: Any, rate: float, data_format: Any = None, seed: Any = None, name: Any = None, dtype: Any = None, **kwargs: Any) -> None:  # fmt: skip
        Dropout.__init__(self, rate, seed=seed, name=name, dtype=dtype, **kwargs)
        _channels_last(self, data_format)

    def shape(self: Any, x: Any) -> Any:
        return [N.shape(x)[0], *[1] * n, x.shape[-1]]

    def get_config(self: Any) -> dict[str, Any]:
        extra = {} if n == 1 else {"data_format": "channels_last"}
        return {"rate": self.rate, "seed": self.seed, "name": self.name, "dtype": self.dtype, **extra}

    body = {
        "__init__": _without(init, "data_format") if n == 1 else init,
        "_noise_shape": shape,
        "get_config": get_config,
    }
    return type(f"SpatialDropout{n}D", (Dropout,), {**body, "__doc__": "Drops whole channels.", "__module__": __name__})


SpatialDropout1D, SpatialDropout2D, SpatialDropout3D = map(_spatial_dropout, (1, 2, 3))


class GaussianDropout(_Noise):
    """Multiplied by normal noise around 1 while training."""

    def __init__(self, rate: float, seed: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self._seeds(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        deviation = math.sqrt(self.rate / (1 - self.rate))
        return inputs * random.normal(N.shape(inputs), 1.0, deviation, seed=self.generator)


class GaussianNoise(_Noise):
    """Normal noise added while training."""

    def __init__(self, stddev: float, seed: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stddev = stddev
        self._seeds(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        return inputs + random.normal(N.shape(inputs), 0.0, self.stddev, seed=self.generator)


class AlphaDropout(_Noise):
    """Dropout that keeps mean and variance of selu networks (Klambauer et al., 2017)."""

    def __init__(self, rate: float, noise_shape: Any = None, seed: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.noise_shape = rate, noise_shape
        self._seeds(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        alpha = -1.6732632423543772 * 1.0507009873554805
        keep = N.greater_equal(random.uniform(self.noise_shape or N.shape(inputs), seed=self.generator), self.rate)
        a = ((1 - self.rate) * (1 + self.rate * alpha**2)) ** -0.5
        return N.where(keep, inputs, alpha) * a + -a * alpha * self.rate


class ActivityRegularization(Layer):
    """A penalty on what passes through."""

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs: Any) -> Any:
        return inputs


# ---------------------------------------------------------------- functions of merging
def _functional(cls: type[Layer]) -> Any:
    return lambda inputs, **kwargs: cls(**kwargs)(inputs)


add, subtract, multiply, average = map(_functional, (Add, Subtract, Multiply, Average))
maximum, minimum, concatenate = map(_functional, (Maximum, Minimum, Concatenate))
dot = lambda inputs, axes=-1, **kwargs: Dot(axes=axes, **kwargs)(inputs)  # noqa: E731
del tree
