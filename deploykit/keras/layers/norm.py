"""Normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff.tape import stop_gradient
from deploykit.errors import InputError
from deploykit.keras import constraints, initializers, regularizers
from deploykit.keras.layers.base import InputSpec, Layer
from deploykit.keras.layers.core import Wrapper
from deploykit.ops.core import F


class BatchNormalization(Layer):
    """Ioffe and Szegedy (2015): by the batch's mean and variance while training, by their moving averages else."""

    supports_masking = True

    def __init__(self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", moving_mean_initializer: Any = "zeros", moving_variance_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, synchronized: bool = False, renorm: bool = False, renorm_clipping: Any = None, renorm_momentum: float = 0.99, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        if renorm:
            raise InputError("BatchNormalization: renorm=True is not supported.")
        self.axis, self.momentum, self.epsilon, self.center, self.scale = int(axis), momentum, epsilon, center, scale
        self._beta = (
            initializers.get(beta_initializer),
            regularizers.get(beta_regularizer),
            constraints.get(beta_constraint),
        )
        self._gamma = (
            initializers.get(gamma_initializer),
            regularizers.get(gamma_regularizer),
            constraints.get(gamma_constraint),
        )
        self._moving = (initializers.get(moving_mean_initializer), initializers.get(moving_variance_initializer))

    def build(self, input_shape: Any) -> None:
        if not -len(input_shape) <= self.axis < len(input_shape):
            raise InputError(f"BatchNormalization: axis {self.axis} for an input of shape {tuple(input_shape)}.")
        shape = (input_shape[self.axis],)
        g, b = self._gamma, self._beta
        self.gamma = (
            self.add_weight(shape, g[0], name="gamma", regularizer=g[1], constraint=g[2]) if self.scale else None
        )
        self.beta = (
            self.add_weight(shape, b[0], name="beta", regularizer=b[1], constraint=b[2]) if self.center else None
        )
        self.moving_mean = self.add_weight(shape, self._moving[0], name="moving_mean", trainable=False)
        self.moving_variance = self.add_weight(shape, self._moving[1], name="moving_variance", trainable=False)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        rank, axis = inputs.ndim, self.axis % inputs.ndim
        size = int(inputs.shape[axis])
        gamma = self.gamma.value if self.gamma is not None else np.ones(size, inputs.dtype)
        beta = self.beta.value if self.beta is not None else np.zeros(size, inputs.dtype)
        if not (training and self.trainable):
            mean, variance = self.moving_mean.value, self.moving_variance.value
            return F.batch_norm(inputs, gamma, beta, mean, variance, epsilon=self.epsilon, axis=axis)
        if mask is None and str(inputs.dtype) in ("float32", "float64"):
            y, mean, variance = F.batch_norm_train(inputs, gamma, beta, epsilon=self.epsilon, axis=axis)
        else:
            axes = tuple(i for i in range(rank) if i != axis)
            mean, variance = self._moments(inputs, axes, mask)
            y = F.batch_norm(inputs, gamma, beta, mean, variance, epsilon=self.epsilon, axis=axis)
        m = self.momentum
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * m + stop_gradient(now) * (1.0 - m))
        return y

    @staticmethod
    def _moments(x: Any, axes: tuple[int, ...], mask: Any) -> tuple[Any, Any]:
        if mask is None:
            mean = N.mean(x, axes, keepdims=True)
            variance = N.mean(N.square(x - mean), axes)
            return N.reshape(mean, (-1,)), variance
        m = N.cast(mask, x.dtype)
        while m.ndim < x.ndim:
            m = N.expand_dims(m, -1)
        m = m + N.zeros_like(x[..., :1])
        count = N.sum(m)
        mean = N.sum(x * m, axes, keepdims=True) / count
        return N.reshape(mean, (-1,)), N.sum(N.square(x - mean) * m, axes) / count


class LayerNormalization(Layer):
    """Ba et al. (2016): each sample by its own mean and variance along axis."""

    supports_masking = True

    def __init__(self, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self._beta = (
            initializers.get(beta_initializer),
            regularizers.get(beta_regularizer),
            constraints.get(beta_constraint),
        )
        self._gamma = (
            initializers.get(gamma_initializer),
            regularizers.get(gamma_regularizer),
            constraints.get(gamma_constraint),
        )

    def _axes(self, rank: int) -> list[int]:
        return sorted(a % rank for a in (self.axis if isinstance(self.axis, list) else [self.axis]))

    def build(self, input_shape: Any) -> None:
        shape = [input_shape[a] for a in self._axes(len(input_shape))]
        g, b = self._gamma, self._beta
        self.gamma = (
            self.add_weight(shape, g[0], name="gamma", regularizer=g[1], constraint=g[2]) if self.scale else None
        )
        self.beta = (
            self.add_weight(shape, b[0], name="beta", regularizer=b[1], constraint=b[2]) if self.center else None
        )

    def call(self, inputs: Any) -> Any:
        axes = self._axes(inputs.ndim)
        gamma = None if self.gamma is None else self.gamma.value
        beta = None if self.beta is None else self.beta.value
        if axes == [inputs.ndim - 1]:
            if gamma is None and beta is not None:
                return F.layer_norm(inputs, epsilon=self.epsilon) + beta
            return F.layer_norm(inputs, gamma, beta, axis=-1, epsilon=self.epsilon)
        mean = N.mean(inputs, axes, keepdims=True)
        d = inputs - mean
        y = d * N.rsqrt(N.mean(N.square(d), axes, keepdims=True) + self.epsilon)
        shape = [int(inputs.shape[i]) if i in axes else 1 for i in range(inputs.ndim)]
        y = y if gamma is None else y * N.reshape(gamma, shape)
        return y if beta is None else y + N.reshape(beta, shape)


class RMSNormalization(Layer):
    """Zhang and Sennrich (2019): divided by the root of the mean square."""

    supports_masking = True

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis, self.epsilon = axis, epsilon  # Keras' files hold the axis as a list

    def _axes(self, rank: int) -> list[int]:
        return sorted(a % rank for a in (self.axis if isinstance(self.axis, (list, tuple)) else [self.axis]))

    def build(self, input_shape: Any) -> None:
        axes = self._axes(len(input_shape))
        self.scale = self.add_weight(tuple(input_shape[a] for a in axes), "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        axes = self._axes(inputs.ndim)
        y = inputs * N.rsqrt(N.mean(N.square(inputs), axes, keepdims=True) + self.epsilon)
        return y * N.reshape(self.scale, [int(inputs.shape[i]) if i in axes else 1 for i in range(inputs.ndim)])


class GroupNormalization(Layer):
    """Wu and He (2018): by groups of channels; groups=-1 is one group per channel."""

    supports_masking = True

    def __init__(self, groups: int = 32, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.groups, self.axis, self.epsilon, self.center, self.scale = groups, axis, epsilon, center, scale
        self._beta = (
            initializers.get(beta_initializer),
            regularizers.get(beta_regularizer),
            constraints.get(beta_constraint),
        )
        self._gamma = (
            initializers.get(gamma_initializer),
            regularizers.get(gamma_regularizer),
            constraints.get(gamma_constraint),
        )

    def build(self, input_shape: Any) -> None:
        c = input_shape[self.axis]
        self.groups = c if self.groups == -1 else self.groups
        if c % self.groups:
            raise InputError(f"layer '{self.name}': {c} channels are not a multiple of groups={self.groups}.")
        g, b = self._gamma, self._beta
        self.gamma = (
            self.add_weight((c,), g[0], name="gamma", regularizer=g[1], constraint=g[2]) if self.scale else None
        )
        self.beta = self.add_weight((c,), b[0], name="beta", regularizer=b[1], constraint=b[2]) if self.center else None

    def call(self, inputs: Any) -> Any:
        axis = self.axis % inputs.ndim
        x = inputs if axis == inputs.ndim - 1 else N.moveaxis(inputs, axis, -1)
        c = int(x.shape[-1])
        gamma = self.gamma.value if self.gamma is not None else np.ones(c, x.dtype)
        beta = self.beta.value if self.beta is not None else np.zeros(c, x.dtype)
        y = F.group_norm(x, gamma, beta, groups=self.groups, epsilon=self.epsilon)
        return y if axis == inputs.ndim - 1 else N.moveaxis(y, -1, axis)


class UnitNormalization(Layer):
    """Each sample to length 1 along axis."""

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any) -> Any:
        axis = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        return inputs * N.rsqrt(N.maximum(N.sum(N.square(inputs), axis, keepdims=True), 1e-12))


class SpectralNormalization(Wrapper):
    """The kernel of a layer divided by its largest singular value (Miyato et al., 2018), by power iteration."""

    def __init__(self, layer: Any, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise InputError(f"SpectralNormalization: got power_iterations={power_iterations}, expected 1 or more.")
        self.power_iterations = power_iterations

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self._wrapped: Any = getattr(self.layer, "kernel", getattr(self.layer, "embeddings", None))
        if self._wrapped is None:
            raise InputError(f"SpectralNormalization: layer '{self.layer.name}' has no kernel.")
        self.vector_u = self.add_weight((1, self._wrapped.shape[-1]), initializers.TruncatedNormal(stddev=0.02), trainable=False, name="vector_u")  # fmt: skip

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            w = N.reshape(self._wrapped, (-1, self._wrapped.shape[-1]))
            u: Any = self.vector_u.value
            unit = lambda x: x * N.rsqrt(N.maximum(N.sum(N.square(x)), 1e-12))  # noqa: E731
            for _ in range(self.power_iterations):
                v = unit(u @ N.transpose(w))
                u = unit(v @ w)
            u, v = stop_gradient(u), stop_gradient(v)
            self.vector_u.assign(u)
            sigma = (v @ w) @ N.transpose(u)
            self._wrapped.assign(self._wrapped / N.reshape(sigma, ()))
        return self.layer(inputs)
