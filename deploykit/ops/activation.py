"""Activations.  ``conv`` and ``matmul`` can apply most of them in their epilogue, see ACTIVATIONS."""

from __future__ import annotations

import math

import numpy as np

from deploykit.ops.core import Enum, F, Spec, op
from deploykit.ops.grads import np_dtype, scalar, sum_to
from deploykit.ops.numerics import back, exactly, float64, is_float, widely
from deploykit.ops.rules import axis_of, broadcast_shapes, error, require_kind, require_same_dtype, same_as, show
from deploykit.ops.samples import FLOATS, Draw, Sample, unary
from deploykit.ops.through import vjp_through
from deploykit.ops.unary import erf_of

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


_ROOT_2_PI = math.sqrt(2 / math.pi)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _along_axis(x: Spec, axis: int) -> Spec:
    require_kind(x, "f")
    if x.shape is not None:
        axis_of(axis, len(x.shape))
    return Spec(x.dtype, x.shape)


def _softmaxes() -> list[Sample]:
    r = Draw("softmax")
    cases = [
        ((2, 5), -1),
        ((2, 5), 0),
        ((3, 4, 2), 1),
        ((7,), 0),
        ((2, 0), -1),
        ((0, 3), -1),
        ((2, 1), 1),
        ((2, 3, 37), -1),
    ]
    out = [Sample([r(s)], {"axis": a}) for s, a in cases]
    out += [Sample([r((3, 5), d)], differentiable=False) for d in FLOATS[1:]]
    big = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -1e4], [0, -np.inf, 3]], np.float32)
    return out + [Sample([big], differentiable=False)]


@op(70, "x -> y", onnx="Relu", tflite="RELU", flags="inplace", tolerance="exact")
class relu:
    "max(x, 0); NaN stays."

    infer = same_as("fiu")
    samples = unary(kinds="fi")

    def reference(x):
        return exactly(lambda x: np.maximum(x, 0))(x)

    def vjp(g, y, x):
        return (F.where(F.greater(y, 0.0), g, scalar(0, g)),)  # y > 0 where x > 0, and y is there also when fused


@op(71, "x -> y", tflite="RELU6", flags="inplace", tolerance="exact")
class relu6:
    "min(max(x, 0), 6)."

    infer = same_as("f")
    samples = unary(-3.0, 9.0)

    def reference(x):
        return exactly(lambda x: np.minimum(np.maximum(x, 0), 6))(x)

    def vjp(g, y, x):
        inside = F.logical_and(F.greater(y, 0.0), F.less(y, 6.0))
        return (F.where(inside, g, scalar(0, g)),)

    def decompose(x):
        return F.clip(x, scalar(0, x), scalar(6, x))


@op(72, "x -> y", attrs=dict(alpha=0.01), onnx="LeakyRelu", tflite="LEAKY_RELU", flags="inplace")
class leaky_relu:
    "x where x >= 0, alpha * x elsewhere."

    infer = same_as("f")
    samples = unary(attrs=({}, {"alpha": 0.3}, {"alpha": 0.0}))

    def reference(x, alpha):
        return widely(lambda x: np.where(x < 0, x * alpha, x))(x)

    def vjp(g, y, x, alpha):
        return (F.where(F.less(x, 0.0), F.mul(g, alpha), g),)


@op(73, "x -> y", attrs=dict(alpha=1.0), onnx="Elu", tflite="ELU", flags="inplace")
class elu:
    "x where x > 0, alpha * (exp(x) - 1) elsewhere."

    infer = same_as("f")
    samples = unary(attrs=({}, {"alpha": 0.7}))

    def reference(x, alpha):
        return widely(lambda x: np.where(x > 0, x, alpha * np.expm1(x)))(x)

    def vjp(g, y, x, alpha):
        return (F.where(F.greater(x, 0.0), g, F.mul(g, F.add(y, alpha))),)


@op(
    74,
    "x -> y",
    attrs=dict(alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    onnx="Selu",
    flags="inplace",
)
class selu:
    "gamma * elu(x, alpha)."

    infer = same_as("f")
    samples = unary(attrs=({}, {"alpha": 2.0, "gamma": 3.0}))

    def reference(x, alpha, gamma):
        return widely(lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(x)))(x)

    def vjp(g, y, x, alpha, gamma):
        return (F.where(F.greater(x, 0.0), F.mul(g, gamma), F.mul(g, F.add(y, alpha * gamma))),)

    def decompose(x, alpha, gamma):
        return F.mul(F.elu(x, alpha=alpha), gamma)


@op(75, "x -> y", onnx="Sigmoid", tflite="LOGISTIC", flags="inplace")
class sigmoid:
    "1 / (1 + exp(-x))."

    infer = same_as("f")
    samples = unary(-6.0, 6.0)

    def reference(x):
        return widely(lambda x: 1 / (1 + np.exp(-x)))(x)

    def vjp(g, y, x):
        return (F.mul(g, F.mul(y, F.sub(1.0, y))),)


@op(76, "x -> y", attrs=dict(alpha=0.2, beta=0.5), onnx="HardSigmoid", flags="inplace")
class hard_sigmoid:
    "clip(alpha * x + beta, 0, 1)."

    infer = same_as("f")
    samples = unary(-4.0, 4.0, attrs=({}, {"alpha": 0.5, "beta": 0.6}))

    def reference(x, alpha, beta):
        return widely(lambda x: np.clip(alpha * x + beta, 0, 1))(x)

    def vjp(g, y, x, alpha, beta):
        t = F.add(F.mul(x, alpha), beta)
        inside = F.logical_and(F.greater(t, 0.0), F.less(t, 1.0))
        return (F.where(inside, F.mul(g, alpha), scalar(0, g)),)

    def decompose(x, alpha, beta):
        t = F.add(F.mul(x, alpha), beta)
        return F.clip(t, scalar(0, x), scalar(1, x))


@op(77, "x -> y", onnx="HardSwish", tflite="HARD_SWISH", flags="inplace")
class hard_swish:
    "x * clip(x / 6 + 0.5, 0, 1)."

    infer = same_as("f")
    samples = unary(-5.0, 5.0)

    def reference(x):
        return widely(lambda x: x * np.clip(x / 6 + 0.5, 0, 1))(x)

    def vjp(g, y, x):
        slope = F.add(F.div(x, 3.0), 0.5)
        middle = F.where(F.greater(x, -3.0), F.mul(g, slope), scalar(0, g))
        return (F.where(F.less(x, 3.0), middle, g),)

    def decompose(x):
        return F.mul(x, F.hard_sigmoid(x, alpha=1 / 6, beta=0.5))


@op(78, "x -> y", attrs=dict(alpha=1.0), flags="inplace")
class silu:
    "x * sigmoid(alpha * x) (Swish)."

    infer = same_as("f")
    samples = unary(-6.0, 6.0, attrs=({}, {"alpha": 1.7}))

    def reference(x, alpha):
        return widely(lambda x: x / (1 + np.exp(-alpha * x)))(x)

    def vjp(g, y, x, alpha):
        s = F.sigmoid(F.mul(x, alpha))
        return (F.mul(g, F.add(s, F.mul(F.mul(y, alpha), F.sub(1.0, s)))),)

    def decompose(x, alpha):
        return F.mul(x, F.sigmoid(x if alpha == 1 else F.mul(x, alpha)))


@op(79, "x -> y", attrs=dict(approximate=False), flags="inplace")
class gelu:
    "x * Phi(x) by erf; by 0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) when approximate."

    infer = same_as("f")
    samples = unary(-4.0, 4.0, attrs=({}, {"approximate": True}))

    def reference(x, approximate):
        if approximate:
            return widely(lambda x: 0.5 * x * (1 + np.tanh(_ROOT_2_PI * (x + 0.044715 * x**3))))(x)
        return widely(lambda x: 0.5 * x * (1 + erf_of(x / math.sqrt(2))))(x)

    def vjp(g, y, x, approximate):
        if np_dtype(x).name in ("float32", "float64"):
            return (F.gelu_gradient(g, x, approximate=approximate),)
        return vjp_through(gelu.decompose, (g,), (x,), dict(approximate=approximate))

    def decompose(x, approximate):
        if approximate:
            inner = F.mul(F.add(x, F.mul(F.mul(F.mul(x, x), x), 0.044715)), _ROOT_2_PI)
            return F.mul(F.mul(x, 0.5), F.add(F.tanh(inner), 1.0))
        return F.mul(F.mul(x, 0.5), F.add(F.erf(F.mul(x, math.sqrt(0.5))), 1.0))


@op(80, "x -> y", onnx="Softplus", flags="inplace")
class softplus:
    "log(1 + exp(x)), without overflow."

    infer = same_as("f")
    samples = unary(-6.0, 6.0)

    def reference(x):
        return widely(lambda x: _softplus(x))(x)

    def vjp(g, y, x):
        return (F.mul(g, F.sigmoid(x)),)


@op(81, "x -> y", onnx="Softsign", flags="inplace")
class softsign:
    "x / (1 + |x|)."

    infer = same_as("f")
    samples = unary(-4.0, 4.0)

    def reference(x):
        return widely(lambda x: x / (1 + np.abs(x)))(x)

    def vjp(g, y, x):
        d = F.add(F.abs(x), 1.0)
        return (F.div(g, F.mul(d, d)),)

    def decompose(x):
        return F.div(x, F.add(F.abs(x), 1.0))


@op(82, "x -> y", onnx="Mish", flags="inplace")
class mish:
    "x * tanh(softplus(x))."

    infer = same_as("f")
    samples = unary(-5.0, 5.0)

    def reference(x):
        return widely(lambda x: x * np.tanh(_softplus(x)))(x)

    def vjp(g, y, x):
        t = F.tanh(F.softplus(x))
        return (F.mul(g, F.add(t, F.mul(F.mul(x, F.sigmoid(x)), F.sub(1.0, F.mul(t, t))))),)

    def decompose(x):
        return F.mul(x, F.tanh(F.softplus(x)))


@op(83, "x, slope -> y", onnx="PRelu", tflite="PRELU")
class prelu:
    "x where x >= 0, slope * x elsewhere; slope broadcasts to x."

    def infer(x, slope):
        require_kind(x, "fiu")
        require_same_dtype(x, slope, what="x and slope")
        if x.shape is not None and slope.shape is not None:
            both = broadcast_shapes(x.shape, slope.shape)
            if len(both) != len(x.shape) or any(
                isinstance(d, int) and d != 1 and n == 1 for d, n in zip(both, x.shape, strict=True)
            ):
                raise error("slope does not broadcast to x", f"{show(slope.shape)} for x {show(x.shape)}")
        return Spec(x.dtype, x.shape)

    def reference(x, slope):
        return exactly(lambda x, s: np.where(x < 0, x * s, x))(x, slope)

    def samples():
        r = Draw("prelu")
        shapes = [
            ((2, 3), (3,)),
            ((2, 3), ()),
            ((2, 3, 4, 5), (5,)),
            ((2, 4, 4, 3), (1, 1, 3)),
            ((0, 3), (3,)),
            ((), ()),
            ((4, 3), (4, 1)),
        ]
        out = [Sample([r(a), r(b)]) for a, b in shapes]
        return out + [Sample([r((3, 5), d), r((5,), d)], differentiable=False) for d in (*FLOATS[1:], "int32")]

    def vjp(g, y, x, slope):
        negative = F.less(x, scalar(0, x))
        gslope = sum_to(F.where(negative, F.mul(g, x), scalar(0, g)), slope)
        return F.where(negative, F.mul(g, slope), g), gslope


@op(84, "x -> y", attrs=dict(alpha=1.0), onnx="ThresholdedRelu", flags="inplace")
class thresholded_relu:
    "x where x > alpha, 0 elsewhere."

    infer = same_as("f")
    samples = unary(attrs=({}, {"alpha": 0.3}))

    def reference(x, alpha):
        return exactly(lambda x: np.where(x > alpha, x, 0))(x)

    def vjp(g, y, x, alpha):
        return (F.where(F.greater(x, alpha), g, scalar(0, g)),)

    def decompose(x, alpha):
        return F.where(F.greater(x, alpha), x, scalar(0, x))


@op(85, "x -> y", attrs=dict(lambd=0.5, bias=0.0), onnx="Shrink", flags="inplace")
class shrink:
    "x + bias where x < -lambd, x - bias where x > lambd, 0 elsewhere; integers: computed in float64, then truncated."

    infer = same_as("fiu")
    samples = unary(attrs=({}, {"lambd": 0.8, "bias": 0.3}), kinds="fi")

    def reference(x, lambd, bias):
        def f(x):
            return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)).astype(x.dtype)

        return widely(f)(x) if is_float(x) else back(np.trunc(f(float64(x))), x.dtype)

    def vjp(g, y, x, lambd, bias):
        return (F.where(F.greater(F.abs(x), lambd), g, scalar(0, g)),)


@op(86, "x -> y", attrs=dict(axis=-1))
class softmax:
    "exp(x - max) / sum(exp(x - max)) along one axis."

    infer = _along_axis
    samples = _softmaxes

    def reference(x, axis):
        def f(x):
            e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
            return e / e.sum(axis, keepdims=True)

        return widely(f)(x)

    def vjp(g, y, x, axis):
        along = np.array([axis])
        return (F.mul(y, F.sub(g, F.reduce_sum(F.mul(g, y), along))),)

    def decompose(x, axis):
        e = F.exp(F.sub(x, F.reduce_max(x, np.array([axis]))))
        return F.div(e, F.reduce_sum(e, np.array([axis])))


@op(87, "x -> y", attrs=dict(axis=-1))
class log_softmax:
    "Logarithm of softmax, computed as x - max - log(sum(exp(x - max)))."

    infer = _along_axis
    samples = _softmaxes

    def reference(x, axis):
        def f(x):
            z = x - x.max(axis, keepdims=True, initial=-np.inf)
            return z - np.log(np.exp(z).sum(axis, keepdims=True))

        return widely(f)(x)

    def vjp(g, y, x, axis):
        return (F.sub(g, F.mul(F.exp(y), F.reduce_sum(g, np.array([axis])))),)

    def decompose(x, axis):
        z = F.sub(x, F.reduce_max(x, np.array([axis])))
        return F.sub(z, F.log(F.reduce_sum(F.exp(z), np.array([axis]))))


@op(88, "x -> y", attrs=dict(alpha=1.0), onnx="Celu", flags="inplace")
class celu:
    "max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))."

    infer = same_as("f")
    samples = unary(attrs=({}, {"alpha": 0.6}))

    def reference(x, alpha):
        return widely(lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)))(x)

    def vjp(g, y, x, alpha):
        slope = F.exp(F.div(F.minimum(x, 0.0), alpha))
        return (F.mul(g, slope),)
