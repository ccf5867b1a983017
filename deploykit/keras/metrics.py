"""Metrics: state that batches update, and a result; as in Keras 3.  The state is variables, so updates trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deploykit.autodiff import numeric as N
from deploykit.autodiff.tensor import Tensor, convert_to_tensor
from deploykit.autodiff.variable import Variable
from deploykit.errors import InputError
from deploykit.keras import losses
from deploykit.keras.losses import squeeze_or_expand
from deploykit.keras.serialize import Configurable, lookup, snake_case, unique_name


class Metric(Configurable):
    """``update_state(y_true, y_pred, sample_weight=None)``, ``result()``, ``reset_state()``; a call does the first two."""

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = dtype or "float32"
        self._variables: list[Variable] = []

    def add_variable(
        self, shape: Any = (), initializer: float = 0.0, name: str = "state", dtype: Any = "float32"
    ) -> Variable:
        """State that ``reset_state`` sets back."""
        start = np.full(tuple(shape), initializer, dtype)
        v = Variable(start, trainable=False, name=name, path=f"{self.name}/{name}")
        self._variables.append(v)
        return v

    add_weight = add_variable

    @property
    def variables(self) -> list[Variable]:
        """All state."""
        return list(self._variables)

    def reset_state(self) -> None:
        """Begin anew: everything 0."""
        for v in self._variables:
            v.assign(np.zeros(v.shape, v.dtype))

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take in a batch."""
        raise NotImplementedError(type(self).__name__)

    def result(self) -> Any:
        """The metric so far."""
        raise NotImplementedError(type(self).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


def _reduce(values: Any, sample_weight: Any) -> tuple[Tensor, Tensor]:
    """(weighted sum, sum of weights)."""
    x = N.cast(values, "float32")
    if sample_weight is None:
        return N.sum(x), losses._count(x)
    w = N.cast(sample_weight, "float32")
    w, _ = squeeze_or_expand(w, x)
    while w.ndim < x.ndim:
        w = N.expand_dims(w, -1)
    w = N.broadcast_to(w, N.shape(x)) if x.ndim else w
    return N.sum(x * w), N.sum(w)


class Mean(Metric):
    """Weighted mean of the values given."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total, self.count = self.add_variable(name="total"), self.add_variable(name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        total, count = _reduce(values, sample_weight)
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self) -> Any:
        return N.where(
            N.greater(self.count, 0.0), self.total / N.where(N.greater(self.count, 0.0), self.count, 1.0), 0.0
        )


class Sum(Metric):
    """Weighted sum of the values given."""

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable(name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(_reduce(values, sample_weight)[0])

    def result(self) -> Any:
        return self.total.value


class MeanMetricWrapper(Mean):
    """Mean of a function of (y_true, y_pred)."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name or getattr(fn, "__name__", "metric"), dtype)
        self._fn, self._kwargs = fn, kwargs

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None:
            m = N.cast(mask, "float32")
            sample_weight = m if sample_weight is None else N.cast(sample_weight, "float32") * m
        super().update_state(self._fn(y_true, y_pred, **self._kwargs), sample_weight)


# ---------------------------------------------------------------- matches
def _matching(a: Any, b: Any) -> Tensor:
    return N.cast(N.equal(a, N.cast(b, a.dtype)), "float32")


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where label and prediction are equal."""
    t, p = squeeze_or_expand(convert_to_tensor(y_true), convert_to_tensor(y_pred))
    return N.mean(_matching(t, p), -1) if t.ndim > 1 else _matching(t, p)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """1 where the prediction is on the label's side of the threshold."""
    t, p = squeeze_or_expand(convert_to_tensor(y_true), convert_to_tensor(y_pred))
    hits = _matching(N.cast(t, "float32"), N.greater(p, threshold))
    return N.mean(hits, -1) if t.ndim > 1 else hits


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest prediction is at the one of a one-hot label."""
    return _matching(N.argmax(y_true, -1), N.argmax(y_pred, -1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest prediction is at the integer label."""
    t, p = convert_to_tensor(y_true), convert_to_tensor(y_pred)
    if t.ndim == p.ndim and t.shape[-1] == 1:
        t = N.squeeze(t, -1)
    return _matching(N.argmax(p, -1), N.cast(t, "int32"))


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """1 where the one of a one-hot label is among the k largest predictions."""
    return sparse_top_k_categorical_accuracy(N.argmax(y_true, -1), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """1 where the integer label is among the k largest predictions."""
    t, p = N.cast(y_true, "int64"), convert_to_tensor(y_pred)
    if t.ndim == p.ndim and t.shape[-1] == 1:
        t = N.squeeze(t, -1)
    own = N.sum(N.one_hot(t, int(p.shape[-1]), dtype=p.dtype) * p, -1, keepdims=True)
    higher = N.sum(N.cast(N.greater(p, own), "int32"), -1)
    return N.cast(N.less(higher, k), "float32")


def _wrapped(name: str, fn: Callable[..., Any], default: str, **extra: Any) -> type[Metric]:
    """A MeanMetricWrapper class for a function."""
    import inspect

    own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    head = [("name", default), ("dtype", None)]
    order = [*extra.items(), *head] if name in _EXTRA_FIRST else [*head, *extra.items()]
    own += [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=v) for k, v in order]
    signature = inspect.Signature(own)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        a = dict(bound.arguments)
        MeanMetricWrapper.__init__(self, fn, a["name"], a["dtype"], **{k: a[k] for k in extra})

    init.__signature__ = signature  # type: ignore[attr-defined]
    return type(name, (MeanMetricWrapper,), {"__init__": init, "__doc__": fn.__doc__, "__module__": __name__})


_EXTRA_FIRST = ("TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy")
Accuracy = _wrapped("Accuracy", accuracy, "accuracy")
BinaryAccuracy = _wrapped("BinaryAccuracy", binary_accuracy, "binary_accuracy", threshold=0.5)
CategoricalAccuracy = _wrapped("CategoricalAccuracy", categorical_accuracy, "categorical_accuracy")
SparseCategoricalAccuracy = _wrapped(
    "SparseCategoricalAccuracy", sparse_categorical_accuracy, "sparse_categorical_accuracy"
)
TopKCategoricalAccuracy = _wrapped(
    "TopKCategoricalAccuracy", top_k_categorical_accuracy, "top_k_categorical_accuracy", k=5
)
SparseTopKCategoricalAccuracy = _wrapped("SparseTopKCategoricalAccuracy", sparse_top_k_categorical_accuracy, "sparse_top_k_categorical_accuracy", k=5)  # fmt: skip
MeanSquaredError = _wrapped("MeanSquaredError", losses.mean_squared_error, "mean_squared_error")
MeanAbsoluteError = _wrapped("MeanAbsoluteError", losses.mean_absolute_error, "mean_absolute_error")
MeanAbsolutePercentageError = _wrapped("MeanAbsolutePercentageError", losses.mean_absolute_percentage_error, "mean_absolute_percentage_error")  # fmt: skip
MeanSquaredLogarithmicError = _wrapped("MeanSquaredLogarithmicError", losses.mean_squared_logarithmic_error, "mean_squared_logarithmic_error")  # fmt: skip
LogCoshError = _wrapped("LogCoshError", losses.log_cosh, "logcosh")
Hinge = _wrapped("Hinge", losses.hinge, "hinge")
SquaredHinge = _wrapped("SquaredHinge", losses.squared_hinge, "squared_hinge")
CategoricalHinge = _wrapped("CategoricalHinge", losses.categorical_hinge, "categorical_hinge")
KLDivergence = _wrapped("KLDivergence", losses.kl_divergence, "kl_divergence")
Poisson = _wrapped("Poisson", losses.poisson, "poisson")
BinaryCrossentropy = _wrapped("BinaryCrossentropy", losses.binary_crossentropy, "binary_crossentropy", from_logits=False, label_smoothing=0)  # fmt: skip
CategoricalCrossentropy = _wrapped("CategoricalCrossentropy", losses.categorical_crossentropy, "categorical_crossentropy", from_logits=False, label_smoothing=0, axis=-1)  # fmt: skip
SparseCategoricalCrossentropy = _wrapped("SparseCategoricalCrossentropy", losses.sparse_categorical_crossentropy, "sparse_categorical_crossentropy", from_logits=False, axis=-1)  # fmt: skip


def _cosine(y_true: Any, y_pred: Any, axis: int = -1) -> Tensor:
    """Cosine of the angle between the two."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


CosineSimilarity = _wrapped("CosineSimilarity", _cosine, "cosine_similarity", axis=-1)


class RootMeanSquaredError(Mean):
    """Square root of the mean squared error."""

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        t, p = squeeze_or_expand(N.cast(y_true, "float32"), N.cast(y_pred, "float32"))
        super().update_state(N.square(p - t), sample_weight)

    def result(self) -> Any:
        return N.sqrt(super().result())


# ---------------------------------------------------------------- confusion
def _flat_weight(y: Tensor, sample_weight: Any) -> Tensor:
    """Weights of the elements of y, flat."""
    if sample_weight is None:
        return N.ones_like(N.reshape(y, (-1,)))
    w = N.cast(sample_weight, "float32")
    while w.ndim < y.ndim:
        w = N.expand_dims(w, -1)
    return N.reshape(N.broadcast_to(w, N.shape(y)), (-1,))


class _Thresholds(Metric):
    """Counts of true and false positives and negatives above each threshold."""

    def __init__(
        self, thresholds: Any, name: str | None, dtype: Any, kinds: tuple[str, ...], default: float = 0.5
    ) -> None:
        super().__init__(dtype, name)
        self.thresholds = thresholds
        self._many = isinstance(thresholds, (list, tuple))
        self._cuts = [float(t) for t in (thresholds if self._many else [default if thresholds is None else thresholds])]
        if any(not 0 <= t <= 1 for t in self._cuts if t > -1):
            raise InputError(f"{type(self).__name__}: thresholds {self._cuts}, expected numbers between 0 and 1.")
        for kind in kinds:
            setattr(self, kind, self.add_variable((len(self._cuts),), name=kind))
        self._kinds = kinds

    def _count(self, y_true: Any, y_pred: Any, sample_weight: Any, class_id: int | None = None, top_k: int | None = None) -> None:  # fmt: skip
        t, p = squeeze_or_expand(N.cast(y_true, "float32"), N.cast(y_pred, "float32"))
        if top_k is not None:
            kth = N.top_k(p, top_k)[0][..., -1:]
            p = N.where(p >= kth, p, -1e10)
        if class_id is not None:
            t, p = t[..., class_id], p[..., class_id]
        w = _flat_weight(t, sample_weight)
        t, p = N.cast(N.reshape(t, (-1,)), "bool"), N.reshape(p, (-1,))
        above = N.greater(N.expand_dims(p, 0), np.array(self._cuts, np.float32)[:, None])
        t = N.expand_dims(t, 0)
        cases = {
            "true_positives": t & above,
            "false_positives": ~t & above,
            "true_negatives": ~t & ~above,
            "false_negatives": t & ~above,
        }
        for kind in self._kinds:
            getattr(self, kind).assign_add(N.sum(N.cast(cases[kind], "float32") * w, 1))

    def _shown(self, x: Any) -> Any:
        return x if self._many else x[0]


def _counter(name: str, kind: str) -> type[Metric]:
    def init(self: Any, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        _Thresholds.__init__(self, thresholds, name, dtype, (kind,))

    def update_state(self: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._count(y_true, y_pred, sample_weight)

    def result(self: Any) -> Any:
        return self._shown(getattr(self, kind).value)

    body = {"__init__": init, "update_state": update_state, "result": result, "__module__": __name__}
    return type(name, (_Thresholds,), body | {"__doc__": f"Number of {kind.replace('_', ' ')}."})


TruePositives = _counter("TruePositives", "true_positives")
FalsePositives = _counter("FalsePositives", "false_positives")
TrueNegatives = _counter("TrueNegatives", "true_negatives")
FalseNegatives = _counter("FalseNegatives", "false_negatives")


def _ratio(a: Any, b: Any) -> Any:
    return N.where(N.greater(b, 0.0), a / N.where(N.greater(b, 0.0), b, 1.0), 0.0)


class Precision(_Thresholds):
    """True positives among what was called positive."""

    def __init__(self, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None, name: str | None = None, dtype: Any = None) -> None:  # fmt: skip
        default = 0.5 if top_k is None else -1e9
        super().__init__(thresholds, name, dtype, ("true_positives", "false_positives"), default)
        self.top_k, self.class_id = top_k, class_id

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._count(y_true, y_pred, sample_weight, self.class_id, self.top_k)

    def result(self) -> Any:
        return self._shown(_ratio(self.true_positives.value, self.true_positives + self.false_positives))  # type: ignore[attr-defined]


class Recall(_Thresholds):
    """True positives among what is positive."""

    def __init__(self, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None, name: str | None = None, dtype: Any = None) -> None:  # fmt: skip
        default = 0.5 if top_k is None else -1e9
        super().__init__(thresholds, name, dtype, ("true_positives", "false_negatives"), default)
        self.top_k, self.class_id = top_k, class_id

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._count(y_true, y_pred, sample_weight, self.class_id, self.top_k)

    def result(self) -> Any:
        return self._shown(_ratio(self.true_positives.value, self.true_positives + self.false_negatives))  # type: ignore[attr-defined]


class AUC(_Thresholds):
    """Area under the ROC (or precision-recall) curve, by thresholds at equal distances."""

    def __init__(self, num_thresholds: int = 200, curve: str = "ROC", summation_method: str = "interpolation", name: str | None = None, dtype: Any = None, from_logits: bool = False) -> None:  # fmt: skip
        if curve not in ("ROC", "PR") or summation_method not in ("interpolation", "minoring", "majoring"):
            raise InputError(f"AUC: got curve={curve!r}, summation_method={summation_method!r}; expected ROC or PR, and interpolation, minoring or majoring.")  # fmt: skip
        inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
        kinds = ("true_positives", "true_negatives", "false_positives", "false_negatives")
        Metric.__init__(self, dtype, name)
        self._cuts, self._many, self._kinds = [-1e-7, *inner, 1.0 + 1e-7], True, kinds
        for kind in kinds:
            setattr(self, kind, self.add_variable((num_thresholds,), name=kind))
        self.curve, self.summation_method, self.from_logits = curve, summation_method, from_logits

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        p = N.cast(y_pred, "float32")
        self._count(y_true, N.sigmoid(p) if self.from_logits else p, sample_weight)

    def result(self) -> Any:
        tp, tn, fp, fn = (getattr(self, k).value for k in self._kinds)
        if self.curve == "PR":
            if self.summation_method == "interpolation":
                return self._interpolated_pr(tp, fp, fn)
            x, y = _ratio(tp, tp + fn), _ratio(tp, tp + fp)
        else:
            x, y = _ratio(fp, fp + tn), _ratio(tp, tp + fn)
        a, b = y[:-1], y[1:]
        heights = {"interpolation": (a + b) / 2.0, "minoring": N.minimum(a, b), "majoring": N.maximum(a, b)}
        return N.sum((x[:-1] - x[1:]) * heights[self.summation_method])

    @staticmethod
    def _interpolated_pr(tp: Any, fp: Any, fn: Any) -> Any:
        """Davis and Goadrich (2006)."""
        dtp = tp[:-1] - tp[1:]
        p = tp + fp
        slope = _ratio(dtp, N.maximum(p[:-1] - p[1:], 0.0))
        intercept = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0.0) & (p[1:] > 0.0)
        fraction = N.where(both, _ratio(p[:-1], N.maximum(p[1:], 0.0)), 1.0)
        area = _ratio(
            slope * (dtp + intercept * N.log(N.where(fraction > 0.0, fraction, 1.0))), N.maximum(tp[1:] + fn[1:], 0.0)
        )
        return N.sum(area)


class _AtLeast(_Thresholds):
    """The best of one rate among thresholds where another is high enough."""

    def __init__(self, value: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any) -> None:
        if not 0 <= value <= 1 or num_thresholds < 1:
            raise InputError(f"{type(self).__name__}: got {value} and num_thresholds={num_thresholds}; expected 0 to 1, and 1 or more.")  # fmt: skip
        inner = [0.5] if num_thresholds == 1 else [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
        cuts = inner if num_thresholds == 1 else [0.0, *inner, 1.0]
        super().__init__(cuts, name, dtype, ("true_positives", "false_positives", "true_negatives", "false_negatives"))
        self._value, self.class_id = value, class_id

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self._count(y_true, y_pred, sample_weight, self.class_id)

    def _best(self, given: Any, wanted: Any) -> Any:
        return N.max(N.where(given >= self._value, wanted, 0.0))

    def _rates(self) -> tuple[Any, Any, Any]:
        tp, fp, tn, fn = (getattr(self, k).value for k in self._kinds)
        return _ratio(tp, tp + fn), _ratio(tn, tn + fp), _ratio(tp, tp + fp)  # sensitivity, specificity, precision


def _at(name: str, argument: str, pick: tuple[int, int], doc: str, thresholds: int = 200) -> type[Metric]:
    import inspect

    signature = inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
            inspect.Parameter(argument, inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("num_thresholds", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=thresholds),
            inspect.Parameter("class_id", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
            inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
            inspect.Parameter("dtype", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
        ]
    )

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        b = signature.bind(self, *args, **kwargs)
        b.apply_defaults()
        a = dict(b.arguments)
        _AtLeast.__init__(self, a[argument], a["num_thresholds"], a["class_id"], a["name"], a["dtype"])

    init.__signature__ = signature  # type: ignore[attr-defined]

    def result(self: Any) -> Any:
        rates = self._rates()
        return self._best(rates[pick[0]], rates[pick[1]])

    return type(name, (_AtLeast,), {"__init__": init, "result": result, "__doc__": doc, "__module__": __name__})


SensitivityAtSpecificity = _at("SensitivityAtSpecificity", "specificity", (1, 0), "Best sensitivity where specificity is high enough.")  # fmt: skip
SpecificityAtSensitivity = _at("SpecificityAtSensitivity", "sensitivity", (0, 1), "Best specificity where sensitivity is high enough.")  # fmt: skip
PrecisionAtRecall = _at("PrecisionAtRecall", "recall", (0, 2), "Best precision where recall is high enough.")
RecallAtPrecision = _at("RecallAtPrecision", "precision", (2, 0), "Best recall where precision is high enough.")


class FBetaScore(Metric):
    """(1 + beta^2) * precision * recall / (beta^2 * precision + recall), per class or averaged."""

    def __init__(self, average: str | None = None, beta: float = 1.0, threshold: float | None = None, name: str | None = "fbeta_score", dtype: Any = None) -> None:  # fmt: skip
        super().__init__(dtype, name)
        if average not in (None, "micro", "macro", "weighted"):
            raise InputError(f"FBetaScore: got average={average!r}, expected None, micro, macro or weighted.")
        self.average, self.beta, self.threshold = average, beta, threshold
        self._axis = None if average == "micro" else 0

    def _build(self, classes: int) -> None:
        shape = () if self.average == "micro" else (classes,)
        for k in ("true_positives", "false_positives", "false_negatives", "intermediate_weights"):
            setattr(self, k, self.add_variable(shape, name=k))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, p = N.cast(y_true, "float32"), N.cast(y_pred, "float32")
        if not self._variables:
            self._build(int(p.shape[-1]))
        if self.threshold is None:
            top = N.max(p, -1, keepdims=True)
            p = N.cast(N.equal(p, top) & (N.abs(p) > 1e-9), "float32")
        else:
            p = N.cast(p > self.threshold, "float32")
        w: Any = 1.0 if sample_weight is None else N.expand_dims(N.cast(sample_weight, "float32"), 1)
        for k, x in (
            ("true_positives", p * t),
            ("false_positives", p * (1.0 - t)),
            ("false_negatives", (1.0 - p) * t),
            ("intermediate_weights", t),
        ):
            getattr(self, k).assign_add(N.sum(x * w, self._axis))

    def result(self) -> Any:
        tp, fp, fn, weights = (v.value for v in self._variables)
        precision, recall = tp / (tp + fp + 1e-7), tp / (tp + fn + 1e-7)
        b = self.beta**2
        score = (1.0 + b) * precision * recall / (b * precision + recall + 1e-7)
        if self.average == "weighted":
            return N.sum(score * (weights / (N.sum(weights) + 1e-7)))
        return N.mean(score) if self.average is not None else score


class F1Score(FBetaScore):
    """FBetaScore with beta 1."""

    def __init__(self, average: str | None = None, threshold: float | None = None, name: str | None = "f1_score", dtype: Any = None) -> None:  # fmt: skip
        super().__init__(average, 1.0, threshold, name, dtype)


class _Confusion(Metric):
    def __init__(self, num_classes: int, name: str | None, dtype: Any, ignore_class: int | None, sparse_y_true: bool, sparse_y_pred: bool, axis: int) -> None:  # fmt: skip
        super().__init__(dtype, name)
        self.num_classes, self.ignore_class = num_classes, ignore_class
        self.sparse_y_true, self.sparse_y_pred, self.axis = sparse_y_true, sparse_y_pred, axis
        self.total_cm = self.add_variable((num_classes, num_classes), name="total_confusion_matrix")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t = N.cast(y_true, "int64") if self.sparse_y_true else N.argmax(y_true, self.axis)
        p = N.cast(y_pred, "int64") if self.sparse_y_pred else N.argmax(y_pred, self.axis)
        w = _flat_weight(t, sample_weight)
        t, p = N.reshape(t, (-1,)), N.reshape(p, (-1,))
        w = N.cast(w, "float32")
        if self.ignore_class is not None:
            w = N.where(N.equal(t, self.ignore_class), 0.0, w)
        a, b = N.one_hot(t, self.num_classes), N.one_hot(p, self.num_classes)
        self.total_cm.assign_add(N.transpose(a) @ (b * N.expand_dims(w, -1)))

    def _ious(self) -> tuple[Any, Any]:
        """(intersection over union, whether the class was seen), per class."""
        m = self.total_cm.value
        both = N.sum(m * N.eye(self.num_classes), 1)
        union = N.sum(m, 0) + N.sum(m, 1) - both
        return both / (union + 1e-7), N.greater(union, 0.0)


class IoU(_Confusion):
    """Mean intersection over union of the target classes."""

    def __init__(self, num_classes: int, target_class_ids: Any, name: str | None = None, dtype: Any = None, ignore_class: int | None = None, sparse_y_true: bool = True, sparse_y_pred: bool = True, axis: int = -1) -> None:  # fmt: skip
        super().__init__(num_classes, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)
        if max(target_class_ids) >= num_classes:
            raise InputError(
                f"IoU: target class {max(target_class_ids)}, expected less than num_classes={num_classes}."
            )
        self.target_class_ids = list(target_class_ids)

    def result(self) -> Any:
        iou, seen = self._ious()
        k = np.array(self.target_class_ids)
        seen = N.cast(seen[k], "float32")
        return _ratio(N.sum(iou[k] * seen), N.sum(seen))


class MeanIoU(IoU):
    """IoU of all classes."""

    def __init__(self, num_classes: int, name: str | None = None, dtype: Any = None, ignore_class: int | None = None, sparse_y_true: bool = True, sparse_y_pred: bool = True, axis: int = -1) -> None:  # fmt: skip
        super().__init__(
            num_classes, list(range(num_classes)), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis
        )


class OneHotIoU(IoU):
    """IoU of one-hot labels."""

    def __init__(self, num_classes: int, target_class_ids: Any, name: str | None = None, dtype: Any = None, ignore_class: int | None = None, sparse_y_pred: bool = False, axis: int = -1) -> None:  # fmt: skip
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """MeanIoU of one-hot labels."""

    def __init__(self, num_classes: int, name: str | None = None, dtype: Any = None, ignore_class: int | None = None, sparse_y_pred: bool = False, axis: int = -1) -> None:  # fmt: skip
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)


class BinaryIoU(IoU):
    """IoU of two classes cut at a threshold."""

    def __init__(self, target_class_ids: Any = (0, 1), threshold: float = 0.5, name: str | None = None, dtype: Any = None) -> None:  # fmt: skip
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, N.cast(N.cast(y_pred, "float32") >= self.threshold, "int64"), sample_weight)


class R2Score(Metric):
    """1 - squared residuals / squared distances from the mean, averaged over outputs."""

    def __init__(self, class_aggregation: str | None = "uniform_average", num_regressors: int = 0, name: str = "r2_score", dtype: Any = None) -> None:  # fmt: skip
        super().__init__(dtype, name)
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self.num_samples = self.add_variable(name="num_samples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        t, p = squeeze_or_expand(N.cast(y_true, "float32"), N.cast(y_pred, "float32"))
        if len(self._variables) == 1:
            for k in ("squared_sum", "sum", "total_mse", "count"):
                setattr(self, k, self.add_variable((int(p.shape[1]),), name=k))
        w: Any = N.ones_like(t) if sample_weight is None else N.expand_dims(N.cast(sample_weight, "float32"), 1) * N.ones_like(t)  # fmt: skip
        self.sum.assign_add(N.sum(t * w, 0))  # type: ignore[attr-defined]
        self.squared_sum.assign_add(N.sum(t * t * w, 0))  # type: ignore[attr-defined]
        self.total_mse.assign_add(N.sum(N.square(t - p) * w, 0))  # type: ignore[attr-defined]
        self.count.assign_add(N.sum(w, 0))  # type: ignore[attr-defined]
        self.num_samples.assign_add(losses._count(t))

    def result(self) -> Any:
        n, squares, total, mse, count = (v.value for v in self._variables)
        spread = squares - total * (total / count)
        raw = 1.0 - mse / spread
        raw = N.where(N.isinf(raw), 0.0, raw)
        if self.class_aggregation == "uniform_average":
            raw = N.mean(raw)
        elif self.class_aggregation == "variance_weighted_average":
            raw = N.sum(raw * spread) / N.sum(spread)
        if self.num_regressors:
            raw = 1.0 - (1.0 - raw) * (n - 1.0) / (n - self.num_regressors - 1.0)
        return raw


CLASSES = (
    Mean, Sum, MeanMetricWrapper, Accuracy, BinaryAccuracy, CategoricalAccuracy, SparseCategoricalAccuracy,
    TopKCategoricalAccuracy, SparseTopKCategoricalAccuracy, MeanSquaredError, MeanAbsoluteError,
    MeanAbsolutePercentageError, MeanSquaredLogarithmicError, LogCoshError, Hinge, SquaredHinge, CategoricalHinge,
    KLDivergence, Poisson, BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy, CosineSimilarity,
    RootMeanSquaredError, TruePositives, FalsePositives, TrueNegatives, FalseNegatives, Precision, Recall, AUC,
    SensitivityAtSpecificity, SpecificityAtSensitivity, PrecisionAtRecall, RecallAtPrecision, FBetaScore, F1Score, IoU,
    MeanIoU, OneHotIoU, OneHotMeanIoU, BinaryIoU, R2Score,
)  # fmt: skip
_FUNCTIONS = (
    accuracy, binary_accuracy, categorical_accuracy, sparse_categorical_accuracy, top_k_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
)  # fmt: skip
ALL: dict[str, Any] = {f.__name__: f for f in _FUNCTIONS} | {c.__name__: c for c in CLASSES}
ALL |= {snake_case(c.__name__): c for c in CLASSES if snake_case(c.__name__) not in ALL}
ALL |= dict(mse=MeanSquaredError, mae=MeanAbsoluteError, mape=MeanAbsolutePercentageError, msle=MeanSquaredLogarithmicError, bce=BinaryCrossentropy, auc=AUC)  # fmt: skip


def get(identifier: Any) -> Any:
    """A metric by name, config, class, object or function."""
    return lookup("metric", ALL, identifier)


def as_metric(identifier: Any, y_true: Any, y_pred: Any) -> Metric:
    """A Metric of anything that ``compile(metrics=)`` takes; "accuracy" becomes the kind that fits the shapes."""
    if identifier in ("accuracy", "acc", "crossentropy", "ce"):
        last = y_pred.shape[-1]
        sparse = len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1] == 1
        kind = "Binary" if last == 1 else "SparseCategorical" if sparse else "Categorical"
        name = f"{kind}{'Accuracy' if identifier in ('accuracy', 'acc') else 'Crossentropy'}"
        return ALL[name](name="accuracy" if name.endswith("Accuracy") else "crossentropy")
    found = get(identifier)
    if isinstance(found, Metric):
        if isinstance(identifier, str):
            found.name = identifier
        return found
    return MeanMetricWrapper(found, name=identifier if isinstance(identifier, str) else None)
