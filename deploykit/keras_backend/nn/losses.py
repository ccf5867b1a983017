"""Crossentropies, one-hot, peak signal to noise.  Signatures are Keras' own."""

from __future__ import annotations

import math

import numpy as np
from keras.src import backend

from deploykit import dtypes
from deploykit.autodiff import numeric as N
from deploykit.keras_backend.core import convert_to_tensor, our_dtype
from deploykit.keras_backend.numpy.elementwise import same
from deploykit.ops.core import F


def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    if sparse:
        raise ValueError("Unsupported value `sparse=True` with the deploykit backend")
    return N.one_hot(convert_to_tensor(x), int(num_classes), axis, our_dtype(dtype or backend.floatx()))


def multi_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    x = convert_to_tensor(x)
    y = one_hot(convert_to_tensor(x, "int32"), num_classes, axis, dtype, sparse)
    wide = convert_to_tensor(y, "int32") if dtypes.dtype(y.dtype).kind == "b" else y
    return convert_to_tensor(N.max(wide, 1 if x.ndim > 1 else 0), y.dtype)


def _two(target, output):
    target, output = same(target, output)
    if target.shape != output.shape:
        raise ValueError(
            "Arguments `target` and `output` must have the same shape. Received: "
            f"target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}"
        )
    return target, output


def _log_probability(output, from_logits, axis):
    if from_logits:
        return F.log_softmax(output, axis=axis)
    output = F.div(output, N.sum(output, axis, True))
    return F.log(N.clip(output, backend.epsilon(), 1.0 - backend.epsilon()))


def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target, output = _two(target, output)
    if output.ndim < 1:
        raise ValueError(
            "Arguments `target` and `output` must be at least rank 1. Received: "
            f"target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}"
        )
    return F.neg(N.sum(F.mul(target, _log_probability(output, from_logits, axis)), axis))


def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target, output = convert_to_tensor(target, "int32"), convert_to_tensor(output)
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = F.squeeze(target, np.array([target.ndim - 1]))
    if output.ndim < 1:
        raise ValueError(f"Argument `output` must be at least rank 1. Received: output.shape={tuple(output.shape)}")
    if target.shape != output.shape[:-1]:
        raise ValueError(
            "Arguments `target` and `output` must have the same shape up until the last dimension: "
            f"target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}"
        )
    chosen = N.one_hot(target, output.shape[axis], axis, output.dtype)
    return F.neg(N.sum(F.mul(chosen, _log_probability(output, from_logits, axis)), axis))


def binary_crossentropy(target, output, from_logits=False):
    target, output = _two(target, output)
    if from_logits:  # log(1 - sigmoid(x)) = -softplus(x)
        yes, no = F.neg(F.softplus(F.neg(output))), F.neg(F.softplus(output))
    else:
        output = N.clip(output, backend.epsilon(), 1.0 - backend.epsilon())
        yes, no = F.log(output), F.log(F.sub(1.0, output))
    return F.neg(F.add(F.mul(target, yes), F.mul(F.sub(1.0, target), no)))


def psnr(x1, x2, max_val):
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    if x1.shape != x2.shape:
        raise ValueError(f"Input shapes {tuple(x1.shape)} and {tuple(x2.shape)} must match for PSNR calculation. ")
    ln10 = math.log(10.0)
    top = F.log(convert_to_tensor(max_val, x2.dtype))
    return F.sub(F.mul(top, 20 / ln10), F.mul(F.log(N.mean(F.square(F.sub(x1, x2)))), 10 / ln10))
