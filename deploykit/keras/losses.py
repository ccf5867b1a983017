"""Losses: functions that give one number per sample, and classes that reduce them, as in Keras 3."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from deploykit.autodiff import numeric as N
from deploykit.autodiff.control import scan
from deploykit.autodiff.tensor import Tensor, convert_to_tensor, dtype_of
from deploykit.errors import InputError, ShapeError
from deploykit.keras.serialize import Configurable, lookup, snake_case
from deploykit.ops.core import F

EPSILON = 1e-7


def _pair(y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    p = convert_to_tensor(y_pred)
    p = p if dtype_of(p).kind == "f" else N.cast(p, "float32")
    return squeeze_or_expand(N.cast(y_true, p.dtype), p)


def squeeze_or_expand(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Drop a last dim of size 1 that only one of the two has."""
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        y_true = N.squeeze(y_true, -1)
    elif y_pred.ndim == y_true.ndim + 1 and y_pred.shape[-1] == 1:
        y_pred = N.squeeze(y_pred, -1)
    return y_true, y_pred


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((true - pred)^2) over the last dim."""
    t, p = _pair(y_true, y_pred)
    return N.mean(N.square(p - t), -1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean(|true - pred|)."""
    t, p = _pair(y_true, y_pred)
    return N.mean(N.abs(p - t), -1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """100 * mean(|true - pred| / |true|)."""
    t, p = _pair(y_true, y_pred)
    return 100.0 * N.mean(N.abs((t - p) / N.maximum(N.abs(t), EPSILON)), -1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean((log(true + 1) - log(pred + 1))^2)."""
    t, p = _pair(y_true, y_pred)
    a, b = N.log(N.maximum(p, EPSILON) + 1.0), N.log(N.maximum(t, EPSILON) + 1.0)
    return N.mean(N.square(a - b), -1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Minus the cosine of the angle between the two."""
    t, p = _pair(y_true, y_pred)
    return -N.sum(_unit(t, axis) * _unit(p, axis), axis)


def _unit(x: Tensor, axis: Any) -> Tensor:
    return x * N.rsqrt(N.maximum(N.sum(N.square(x), axis, keepdims=True), 1e-12))


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """Quadratic within delta, linear beyond."""
    t, p = _pair(y_true, y_pred)
    e = N.abs(p - t)
    return N.mean(N.where(e <= delta, 0.5 * N.square(e), delta * e - 0.5 * delta * delta), -1)


def log_cosh(y_true: Any, y_pred: Any) -> Tensor:
    """mean(log(cosh(pred - true)))."""
    t, p = _pair(y_true, y_pred)
    d = p - t
    return N.mean(d + F.softplus(d * -2.0) - math.log(2), -1)


def _signs(t: Tensor) -> Tensor:
    """Labels 0 and 1 as -1 and 1; -1 and 1 stay.  Decided by all labels at once."""
    binary = N.all(N.equal(t, 0.0) | N.equal(t, 1.0))
    return N.where(binary, 2.0 * t - 1.0, t)


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - true * pred, 0)), true being -1 or 1."""
    t, p = _pair(y_true, y_pred)
    return N.mean(N.maximum(1.0 - _signs(t) * p, 0.0), -1)


def squared_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean(max(1 - true * pred, 0)^2)."""
    t, p = _pair(y_true, y_pred)
    return N.mean(N.square(N.maximum(1.0 - _signs(t) * p, 0.0)), -1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Tensor:
    """max(largest wrong score - right score + 1, 0)."""
    t, p = _pair(y_true, y_pred)
    return N.maximum(N.max((1.0 - t) * p, -1) - N.sum(t * p, -1) + 1.0, 0.0)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """sum(true * log(true / pred))."""
    t, p = _pair(y_true, y_pred)
    t, p = N.clip(t, EPSILON, 1.0), N.clip(p, EPSILON, 1.0)
    return N.sum(t * N.log(t / p), -1)


def poisson(y_true: Any, y_pred: Any) -> Tensor:
    """mean(pred - true * log(pred))."""
    t, p = _pair(y_true, y_pred)
    return N.mean(p - t * N.log(p + EPSILON), -1)


def _smooth(t: Tensor, amount: float, classes: Any) -> Tensor:
    return t * (1.0 - amount) + amount / classes if amount else t


def _probabilities(p: Tensor, axis: int = -1) -> Tensor:
    """Normalised and kept off 0 and 1."""
    return N.clip(p / N.sum(p, axis, keepdims=True), EPSILON, 1.0 - EPSILON)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-sum(true * log(pred)) for one-hot labels."""
    t, p = N.cast(y_true, "float32"), convert_to_tensor(y_pred)
    if t.ndim != p.ndim:
        raise ShapeError(
            f"categorical_crossentropy: labels have shape {tuple(t.shape)}, predictions {tuple(p.shape)}: one-hot labels "
            "are wanted. For integer labels use sparse_categorical_crossentropy."
        )
    t = _smooth(t, label_smoothing, p.shape[axis])
    logs = N.log_softmax(p, axis) if from_logits else N.log(_probabilities(p, axis))
    return -N.sum(t * logs, axis)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Tensor:
    """-log(pred[true]) for integer labels."""
    p = convert_to_tensor(y_pred)
    t = convert_to_tensor(y_true)
    if t.ndim == p.ndim and t.shape[-1] == 1:
        t = N.squeeze(t, -1)
    if t.ndim != p.ndim - 1:
        raise ShapeError(
            f"sparse_categorical_crossentropy: labels have shape {tuple(t.shape)}, predictions {tuple(p.shape)}: one "
            "integer per prediction is wanted. For one-hot labels use categorical_crossentropy."
        )
    t = N.cast(t, "int64")
    if axis not in (-1, p.ndim - 1):
        p = N.moveaxis(p, axis, -1)
    logs = N.log_softmax(p) if from_logits else N.log(_probabilities(p))
    picked = t
    if ignore_class is not None:
        valid = N.not_equal(t, ignore_class)
        picked = N.where(valid, t, 0)
    loss = -N.sum(N.one_hot(picked, int(p.shape[-1]), dtype=p.dtype) * logs, -1)
    if ignore_class is None:
        return loss
    loss = N.where(valid, loss, 0.0)
    loss._keras_mask = valid
    return loss


_NEVER = -1e30  # log of 0 that gradients survive


def ctc_loss(target: Any, output: Any, target_length: Any, output_length: Any, mask_index: int = 0) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006), one number per sample: -log of the probability that
    the steps of ``output`` [batch, time, classes] (logits) spell ``target`` [batch, labels], where a step may repeat the
    label before it or be blank (``mask_index``).  Lengths are per sample; a target that does not fit has loss inf."""
    p, t = convert_to_tensor(output), N.cast(target, "int64")
    if p.ndim != 3 or t.ndim != 2:
        raise ShapeError(
            f"ctc: labels have shape {tuple(t.shape)}, predictions {tuple(p.shape)}; expected [batch, labels] and "
            "[batch, time, classes]."
        )
    labels = int(t.shape[1])
    places = 2 * labels + 1  # labels with blanks around
    blank = N.zeros_like(t) + mask_index
    path = N.concatenate([N.reshape(N.stack([blank, t], -1), (-1, 2 * labels)), blank[:, :1]], 1)
    steps = N.moveaxis(N.log_softmax(p), 1, 0)  # [time, batch, classes]
    # from two places before: only onto a label that differs from the one there (blanks never do)
    jump = N.cast(N.concatenate([N.zeros_like(path[:, :2]), path[:, 2:] - path[:, :-2]], 1), "bool")
    never = N.cast(N.zeros_like(path), p.dtype) + _NEVER
    start = N.where(N.less(N.arange(places), 1), N.zeros_like(never), never)
    length = N.expand_dims(N.cast(output_length, "int64"), -1)

    def step(carry: Any, logits: Tensor) -> Any:
        before, k = carry
        one = N.concatenate([never[:, :1], before[:, :-1]], 1)
        two = N.where(jump, N.concatenate([never[:, :2], before[:, :-2]], 1), never)
        most = N.maximum(N.maximum(before, one), two)
        total = N.exp(before - most) + N.exp(one - most) + N.exp(two - most)
        now = N.maximum(most + N.log(total), _NEVER) + N.take_along_axis(logits, path, -1)
        return (N.where(N.less(k, length), now, before), k + 1), None

    # before the first step all weight is on a blank that costs nothing, so the first label is one place away
    (last, _), _ = scan(step, (start, N.zeros_like(length)), steps)
    at = N.expand_dims(N.cast(target_length, "int64"), -1) * 2
    end, label = N.take_along_axis(last, at, -1), N.take_along_axis(last, N.maximum(at - 1, 0), -1)
    label = N.where(N.greater(at, 0), label, never[:, :1])
    most = N.maximum(end, label)
    loss = N.squeeze(-(most + N.log(N.exp(end - most) + N.exp(label - most))), -1)
    return N.where(N.greater(loss, -0.5 * _NEVER), float("inf"), loss)


def ctc(y_true: Any, y_pred: Any) -> Tensor:
    """:func:`ctc_loss` of whole sequences: labels end where the first 0 (blank) stands for padding."""
    t, p = convert_to_tensor(y_true), convert_to_tensor(y_pred)
    if p.ndim != 3:
        raise ShapeError(f"ctc: predictions have shape {tuple(p.shape)}; expected [batch, time, classes].")
    label_length = N.sum(N.cast(N.not_equal(t, 0), "int64"), -1)
    return ctc_loss(t, p, label_length, N.zeros_like(label_length) + int(p.shape[1]))


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-mean(true * log(pred) + (1 - true) * log(1 - pred))."""
    t, p = _pair(y_true, y_pred)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return N.mean(_binary(t, p, from_logits), axis)


def _binary(t: Tensor, p: Tensor, from_logits: bool) -> Tensor:
    if from_logits:
        return N.maximum(p, 0.0) - p * t + F.softplus(-N.abs(p))
    p = N.clip(p, EPSILON, 1.0 - EPSILON)
    return -(t * N.log(p) + (1.0 - t) * N.log(1.0 - p))


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Binary cross entropy that weighs easy samples less (Lin et al., 2017)."""
    t, p = _pair(y_true, y_pred)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        p = F.sigmoid(p)
    right = t * p + (1.0 - t) * (1.0 - p)
    loss = N.power(1.0 - right, gamma) * _binary(t, p, False)
    if apply_class_balancing:
        loss = (t * alpha + (1.0 - t) * (1.0 - alpha)) * loss
    return N.mean(loss, axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Cross entropy that weighs easy samples less."""
    t, p = _pair(y_true, y_pred)
    t = _smooth(t, label_smoothing, p.shape[-1])
    p = _probabilities(N.softmax(p, axis) if from_logits else p, axis)
    return N.sum(alpha * N.power(1.0 - p, gamma) * (-t * N.log(p)), axis)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Tensor:
    """(1 - pred[true]^q) / q, which forgives wrong labels (Zhang and Sabuncu, 2018)."""
    p = convert_to_tensor(y_pred)
    t = N.one_hot(N.cast(y_true, "int64"), int(p.shape[-1]))
    t = t if t.ndim == p.ndim else N.reshape(t, p.shape)
    right = N.clip(N.sum(p * t, -1), EPSILON, 1.0 - EPSILON)
    return (1.0 - N.power(right, q)) / q


def _flat(x: Tensor, axis: Any) -> tuple[Tensor, Any]:
    return (x, axis) if axis is not None else (N.reshape(x, (-1,)), 0)


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Tensor:
    """1 - 2 * |both| / (|true| + |pred|)."""
    t, p = _pair(y_true, y_pred)
    both, total = N.sum(t * p, axis), N.sum(t, axis) + N.sum(p, axis)
    return 1.0 - (2.0 * both + EPSILON) / (total + EPSILON)


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Tensor:
    """1 - |both| / (|both| + alpha * |only true| + beta * |only pred|) (Salehi et al., 2017)."""
    t, p = _pair(y_true, y_pred)
    both = N.sum(t * p, axis)
    only_true, only_pred = N.sum((1.0 - p) * t, axis), N.sum(p * (1.0 - t), axis)
    return 1.0 - both / (both + only_true * alpha + only_pred * beta + EPSILON)


# ---------------------------------------------------------------- classes
def reduce_weighted(values: Tensor, sample_weight: Any, mask: Any, reduction: str | None) -> Tensor:
    """Weigh and add up per-sample values: sum, sum_over_batch_size, mean, mean_with_sample_weight or none."""
    if mask is not None:
        m = N.cast(mask, values.dtype)
        if reduction in ("sum_over_batch_size", "mean"):
            total, valid = _count(m), N.sum(m)
            m = m * (total / N.maximum(valid, EPSILON))
        sample_weight = m if sample_weight is None else squeeze_or_expand(N.cast(sample_weight, m.dtype), m)[0] * m
    if sample_weight is not None:
        w = N.cast(sample_weight, values.dtype)
        if w.ndim == values.ndim + 1 and w.shape[-1] == 1:
            w = N.squeeze(w, -1)
        while w.ndim < values.ndim:
            w = N.expand_dims(w, -1)
        values = values * w
    if reduction in (None, "none"):
        return values
    total = N.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        return total / N.maximum(N.sum(N.cast(sample_weight, values.dtype)), EPSILON)
    return total / _count(values)


def _count(x: Tensor) -> Tensor:
    return N.cast(F.size_of(x), x.dtype) if x.ndim else convert_to_tensor(1.0)


class Loss(Configurable):
    """``loss(y_true, y_pred, sample_weight=None)`` gives the reduced loss; subclasses write ``call``."""

    REDUCTIONS = ("sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None)

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        if reduction not in self.REDUCTIONS:
            raise InputError(f"{type(self).__name__}: got reduction={reduction!r}, expected one of {self.REDUCTIONS}.")
        self.name = name or snake_case(type(self).__name__)
        self.reduction = reduction
        self.dtype = dtype or "float32"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        mask = getattr(y_pred, "_keras_mask", None)
        values = self.call(y_true, y_pred)
        own = getattr(values, "_keras_mask", None)
        mask = own if mask is None else mask if own is None else N.logical_and(mask, own)
        return reduce_weighted(convert_to_tensor(values), sample_weight, mask, self.reduction)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One value per sample."""
        raise NotImplementedError(f"{type(self).__name__}.call")


class LossFunctionWrapper(Loss):
    """A loss of a function."""

    def __init__(
        self, fn: Callable[..., Any], reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(name or getattr(fn, "__name__", None), reduction, dtype)
        self.fn, self.kwargs = fn, kwargs

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(y_true, y_pred, **self.kwargs)


def circle(
    y_true: Any, y_pred: Any, ref_labels: Any = None, ref_embeddings: Any = None, remove_diagonal: bool = True,
    gamma: float = 80.0, margin: float = 0.4,
) -> Tensor:  # fmt: skip
    """Circle loss (Sun et al. 2020) of normalized embeddings [batch, n] with a label each, against the references (None:
    the batch itself)."""
    p, t = convert_to_tensor(y_pred), N.cast(y_true, "int32")
    others = p if ref_embeddings is None else convert_to_tensor(ref_embeddings)
    labels = t if ref_labels is None else N.cast(ref_labels, "int32")
    distance = N.maximum(1.0 - N.matmul(p, N.transpose(others)), 0.0)
    same = N.equal(N.reshape(t, (-1, 1)), N.reshape(labels, (1, -1)))
    other = N.logical_not(same)
    if remove_diagonal:
        rows, columns = (N.expand_dims(N.cumsum(N.ones_like(N.reshape(v, (-1,)))), i) for v, i in ((t, 1), (labels, 0)))
        same = N.logical_and(same, N.not_equal(rows, columns))
    near = -gamma * (margin + distance) * (margin - distance)
    far = gamma * N.maximum(1.0 + margin - distance, 0.0) * (1.0 - margin - distance)
    parts = [N.logsumexp(N.where(m, v, float("-inf")), 1) for m, v in ((same, near), (other, far))]
    loss = F.softplus(parts[0] + parts[1])
    loss._keras_mask = N.greater(loss, 0.0)
    return loss


def _loss_class(name: str, fn: Callable[..., Any], **defaults: Any) -> type[Loss]:
    """A Loss class for a function whose further arguments are ``defaults``."""
    import inspect

    def __init__(self: Any, **kwargs: Any) -> None:
        extra = {k: kwargs[k] for k in defaults}
        Loss.__init__(self, kwargs["name"], kwargs["reduction"], kwargs["dtype"])
        self._extra = extra
        for k, v in extra.items():
            setattr(self, k, v)

    own = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=v) for k, v in defaults.items()]
    own += [
        inspect.Parameter("reduction", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="sum_over_batch_size"),
        inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=fn.__name__),
        inspect.Parameter("dtype", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
    ]
    signature = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *own])

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given.pop("self")
        __init__(self, **given)

    init.__signature__ = signature  # type: ignore[attr-defined]

    def call(self: Any, y_true: Any, y_pred: Any) -> Any:
        return fn(y_true, y_pred, **self._extra)

    body = {"__init__": init, "fn": staticmethod(fn), "call": call, "__doc__": fn.__doc__, "__module__": __name__}
    return type(name, (Loss,), body)


MeanSquaredError = _loss_class("MeanSquaredError", mean_squared_error)
MeanAbsoluteError = _loss_class("MeanAbsoluteError", mean_absolute_error)
MeanAbsolutePercentageError = _loss_class("MeanAbsolutePercentageError", mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _loss_class("MeanSquaredLogarithmicError", mean_squared_logarithmic_error)
CosineSimilarity = _loss_class("CosineSimilarity", cosine_similarity, axis=-1)
Huber = _loss_class("Huber", huber, delta=1.0)
LogCosh = _loss_class("LogCosh", log_cosh)
Hinge = _loss_class("Hinge", hinge)
SquaredHinge = _loss_class("SquaredHinge", squared_hinge)
CategoricalHinge = _loss_class("CategoricalHinge", categorical_hinge)
KLDivergence = _loss_class("KLDivergence", kl_divergence)
Poisson = _loss_class("Poisson", poisson)
BinaryCrossentropy = _loss_class(
    "BinaryCrossentropy", binary_crossentropy, from_logits=False, label_smoothing=0.0, axis=-1
)
CategoricalCrossentropy = _loss_class(
    "CategoricalCrossentropy", categorical_crossentropy, from_logits=False, label_smoothing=0.0, axis=-1
)
SparseCategoricalCrossentropy = _loss_class(
    "SparseCategoricalCrossentropy", sparse_categorical_crossentropy, from_logits=False, ignore_class=None, axis=-1
)
BinaryFocalCrossentropy = _loss_class(
    "BinaryFocalCrossentropy", binary_focal_crossentropy,
    apply_class_balancing=False, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1,
)  # fmt: skip
CategoricalFocalCrossentropy = _loss_class(
    "CategoricalFocalCrossentropy", categorical_focal_crossentropy,
    alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1,
)  # fmt: skip
CategoricalGeneralizedCrossEntropy = _loss_class(
    "CategoricalGeneralizedCrossEntropy", categorical_generalized_cross_entropy, q=0.5
)
CTC = _loss_class("CTC", ctc)
Circle = _loss_class("Circle", circle, gamma=80.0, margin=0.4, remove_diagonal=True)
Dice = _loss_class("Dice", dice, axis=None)
Tversky = _loss_class("Tversky", tversky, alpha=0.5, beta=0.5, axis=None)

FUNCTIONS = (
    mean_squared_error, mean_absolute_error, mean_absolute_percentage_error, mean_squared_logarithmic_error,
    cosine_similarity, huber, log_cosh, hinge, squared_hinge, categorical_hinge, kl_divergence, poisson,
    binary_crossentropy, categorical_crossentropy, sparse_categorical_crossentropy, binary_focal_crossentropy,
    categorical_focal_crossentropy, categorical_generalized_cross_entropy, circle, ctc, dice, tversky,
)  # fmt: skip
CLASSES = (
    MeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredLogarithmicError, CosineSimilarity,
    Huber, LogCosh, Hinge, SquaredHinge, CategoricalHinge, KLDivergence, Poisson, BinaryCrossentropy,
    CategoricalCrossentropy, SparseCategoricalCrossentropy, BinaryFocalCrossentropy, CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy, Circle, CTC, Dice, Tversky,
)  # fmt: skip
ALIASES = dict(
    mse=mean_squared_error, mae=mean_absolute_error, mape=mean_absolute_percentage_error,
    msle=mean_squared_logarithmic_error, bce=binary_crossentropy, kld=kl_divergence, kullback_leibler_divergence=kl_divergence,
    logcosh=log_cosh,
)  # fmt: skip
ALL: dict[str, Any] = {f.__name__: f for f in FUNCTIONS} | {c.__name__: c for c in CLASSES} | ALIASES


def get(identifier: Any) -> Any:
    """A loss by name, config, class, object or function."""
    return lookup("loss", ALL, identifier)


def as_loss(identifier: Any) -> Loss | None:
    """A Loss object of anything that ``compile(loss=)`` takes."""
    found = get(identifier)
    return found if found is None or isinstance(found, Loss) else LossFunctionWrapper(found)
