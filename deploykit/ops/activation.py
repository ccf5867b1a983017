"""Activations.  ``conv`` and ``matmul`` can apply most of them in their epilogue, see ACTIVATIONS."""

from __future__ import annotations

from deploykit.ops.core import Enum, op

# Fused epilogue activations: enum of the attrs `act`, with parameters `act_alpha`, `act_beta` (append only).
ACTIVATIONS = (
    "none",
    "relu",
    "relu6",
    "clip",  # low = act_alpha, high = act_beta
    "leaky_relu",  # slope = act_alpha
    "sigmoid",
    "tanh",
    "silu",
    "gelu",
    "gelu_tanh",
    "hard_sigmoid",  # clip(act_alpha * x + act_beta, 0, 1)
    "hard_swish",
    "elu",  # act_alpha
    "softplus",
    "mish",
)
ACT_ATTRS = dict(act=Enum(*ACTIVATIONS), act_alpha=0.0, act_beta=0.0)


@op(70, "x -> y", onnx="Relu", tflite="RELU", flags="inplace", tolerance="exact")
class relu:
    "max(x, 0); NaN stays."


@op(71, "x -> y", tflite="RELU6", flags="inplace", tolerance="exact")
class relu6:
    "min(max(x, 0), 6)."


@op(72, "x -> y", attrs=dict(alpha=0.01), onnx="LeakyRelu", tflite="LEAKY_RELU", flags="inplace")
class leaky_relu:
    "x where x >= 0, alpha * x elsewhere."


@op(73, "x -> y", attrs=dict(alpha=1.0), onnx="Elu", tflite="ELU", flags="inplace")
class elu:
    "x where x > 0, alpha * (exp(x) - 1) elsewhere."


@op(74, "x -> y", attrs=dict(alpha=1.67326319217681884765625, gamma=1.05070102214813232421875), onnx="Selu", flags="inplace")
class selu:
    "gamma * elu(x, alpha)."


@op(75, "x -> y", onnx="Sigmoid", tflite="LOGISTIC", flags="inplace")
class sigmoid:
    "1 / (1 + exp(-x))."


@op(76, "x -> y", attrs=dict(alpha=0.2, beta=0.5), onnx="HardSigmoid", flags="inplace")
class hard_sigmoid:
    "clip(alpha * x + beta, 0, 1)."


@op(77, "x -> y", onnx="HardSwish", tflite="HARD_SWISH", flags="inplace")
class hard_swish:
    "x * clip(x / 6 + 0.5, 0, 1)."


@op(78, "x -> y", attrs=dict(alpha=1.0), flags="inplace")
class silu:
    "x * sigmoid(alpha * x) (Swish)."


@op(79, "x -> y", attrs=dict(approximate=False), flags="inplace")
class gelu:
    "x * Phi(x) by erf; by 0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) when approximate."


@op(80, "x -> y", onnx="Softplus", flags="inplace")
class softplus:
    "log(1 + exp(x)), without overflow."


@op(81, "x -> y", onnx="Softsign", flags="inplace")
class softsign:
    "x / (1 + |x|)."


@op(82, "x -> y", onnx="Mish", flags="inplace")
class mish:
    "x * tanh(softplus(x))."


@op(83, "x, slope -> y", onnx="PRelu", tflite="PRELU")
class prelu:
    "x where x >= 0, slope * x elsewhere; slope broadcasts to x."


@op(84, "x -> y", attrs=dict(alpha=1.0), onnx="ThresholdedRelu", flags="inplace")
class thresholded_relu:
    "x where x > alpha, 0 elsewhere."


@op(85, "x -> y", attrs=dict(lambd=0.5, bias=0.0), onnx="Shrink", flags="inplace")
class shrink:
    "x + bias where x < -lambd, x - bias where x > lambd, 0 elsewhere."


@op(86, "x -> y", attrs=dict(axis=-1))
class softmax:
    "exp(x - max) / sum(exp(x - max)) along one axis."


@op(87, "x -> y", attrs=dict(axis=-1))
class log_softmax:
    "Logarithm of softmax, computed as x - max - log(sum(exp(x - max)))."


@op(88, "x -> y", attrs=dict(alpha=1.0), onnx="Celu", flags="inplace")
class celu:
    "max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))."
