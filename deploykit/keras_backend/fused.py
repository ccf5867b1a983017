"""Inner loops of Keras that the engine has in one op: batch normalization, layer normalization, Adam's update.

Keras writes them in many small ops, which cost memory traffic in every step and time in the first.  What these forms do
not cover (masks, renormalization, narrow floats, own subclasses) goes the long way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src import ops
from keras.src.optimizers import base_optimizer

from deploykit.ops.core import F

_WIDE = ("float32", "float64")


class Optimizer(base_optimizer.BaseOptimizer):
    """What Keras' optimizers take from a backend."""

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        from keras.src.optimizers.adam import Adam

        numbers = (getattr(self, k, None) for k in ("beta_1", "beta_2", "epsilon"))
        adam = isinstance(self, Adam) and type(self).update_step is Adam.update_step and not self.amsgrad
        if not adam or not all(isinstance(v, float) for v in numbers):
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        rates: dict[str, Any] = {}  # with the correction of the bias in it, per dtype
        how = dict(beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)
        for g, v in zip(grads, trainable_variables, strict=True):
            dtype = v.dtype
            if dtype not in _WIDE:
                self.update_step(g, v, learning_rate)
                continue
            if dtype not in rates:
                step, rate = ops.cast(self.iterations + 1, dtype), ops.cast(learning_rate, dtype)
                power_1, power_2 = (ops.power(ops.cast(b, dtype), step) for b in (self.beta_1, self.beta_2))
                rates[dtype] = rate * ops.sqrt(1 - power_2) / (1 - power_1)
            at = self._get_variable_index(v)
            m, s = self._momentums[at], self._velocities[at]
            new, new_m, new_s = F.adam_update(v.value, m.value, s.value, ops.cast(g, dtype), rates[dtype], **how)
            for variable, value in ((m, new_m), (s, new_s), (v, new)):
                self.assign(variable, value)


def batch_normalization(layer: Any, x: Any, gamma: Any, beta: Any, training: bool, mask: Any) -> Any:
    """The whole of the layer's ``call`` from its casts on, moving averages included; None: go the long way."""
    from keras.src.layers import BatchNormalization

    if x.dtype.name not in _WIDE or not isinstance(layer.axis, int) or x.ndim < 2:
        return None
    size = layer.moving_mean.shape[0]
    gamma = np.ones(size, x.dtype) if gamma is None else gamma
    beta = np.zeros(size, x.dtype) if beta is None else beta
    how = dict(epsilon=float(layer.epsilon), axis=layer.axis % x.ndim)
    moving = layer.moving_mean, layer.moving_variance
    if not (training and layer.trainable):
        return F.batch_norm(x, gamma, beta, *(ops.cast(v, x.dtype) for v in moving), **how)
    if (
        mask is not None
        or layer.renorm
        or layer.synchronized
        or type(layer)._moments is not BatchNormalization._moments
    ):
        return None
    y, *now = F.batch_norm_train(x, gamma, beta, **how)
    m = layer.momentum
    for variable, value in zip(moving, now, strict=True):
        variable.assign(ops.cast(variable, x.dtype) * m + value * (1.0 - m))
    return y


def layer_norm(x: Any, gamma: Any, beta: Any, axis: list[int], epsilon: float) -> Any:
    """x by its own mean and variance over its last dims; gamma and beta have these dims."""
    first = min(a % x.ndim for a in axis) - x.ndim
    dims = tuple(x.shape[first:])
    gamma, beta = (v if v is None else ops.reshape(v, dims) for v in (gamma, beta))
    if gamma is None and beta is not None:
        gamma = np.ones(dims, x.dtype)
    return F.layer_norm(x, gamma, beta, axis=first, epsilon=float(epsilon))
