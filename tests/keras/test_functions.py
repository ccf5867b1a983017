"""Activations, initializers, losses, metrics, regularizers, constraints, schedules: each against Keras."""

import re

import numpy as np
import pytest

from tests.keras.parity import array, both, close, floats, ints, ours, rng, theirs

X = floats(4, 7) * 2


@pytest.mark.parametrize(
    "name", sorted(n for n in ours.activations.ALL if n not in ("glu", "swish", "hard_swish", "threshold", "sparsemax"))
)
def test_activation(name: str) -> None:
    close(
        ours.activations.get(name)(ours.ops.convert_to_tensor(X)),
        theirs.activations.get(name)(theirs.ops.convert_to_tensor(X)),
        name,
    )


def test_sparsemax() -> None:
    """By its definition (Keras' own gives zeros for some rows): max(x - t, 0) with t such that it adds up to 1."""
    got = array(ours.activations.sparsemax(ours.ops.convert_to_tensor(X)))
    for row, y in zip(X, got, strict=True):
        low, high = row.min() - 1, row.max()
        for _ in range(60):
            t = (low + high) / 2
            low, high = (t, high) if np.maximum(row - t, 0).sum() > 1 else (low, t)
        close(y, np.maximum(row - low, 0).astype(np.float32))


LABELS = {
    "probabilities": (
        rng(1).dirichlet(np.ones(5), 6).astype(np.float32),
        rng(2).dirichlet(np.ones(5), 6).astype(np.float32),
    ),
    "one hot": (np.eye(5, dtype=np.float32)[ints(6, high=5)], rng(2).dirichlet(np.ones(5), 6).astype(np.float32)),
    "binary": (ints(6, 4, high=2).astype(np.float32), floats(6, 4, low=0.05, seed=3)),
    "real": (floats(6, 4, seed=4), floats(6, 4, seed=5)),
    "integer": (ints(6, high=5), rng(2).dirichlet(np.ones(5), 6).astype(np.float32)),
    "logits": (ints(6, high=5), floats(6, 5, seed=6)),
    "one hot logits": (np.eye(5, dtype=np.float32)[ints(6, high=5)], floats(6, 5, seed=6)),
    "labels": (np.array([0, 1, 0, 1, 2, 0]), rng(7).dirichlet(np.ones(4), 6).astype(np.float32)),  # 2 has no partner
    "binary logits": (ints(6, 4, high=2).astype(np.float32), floats(6, 4, seed=3)),
}
LOSSES = [
    ("MeanSquaredError", {}, "real"), ("MeanAbsoluteError", {}, "real"), ("MeanAbsolutePercentageError", {}, "real"),
    ("MeanSquaredLogarithmicError", {}, "binary"), ("CosineSimilarity", {}, "real"), ("Huber", {"delta": 0.7}, "real"),
    ("LogCosh", {}, "real"), ("Hinge", {}, "binary"), ("SquaredHinge", {}, "binary"), ("CategoricalHinge", {}, "one hot"),
    ("KLDivergence", {}, "probabilities"), ("Poisson", {}, "binary"), ("BinaryCrossentropy", {}, "binary"),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "binary logits"),
    ("CategoricalCrossentropy", {}, "one hot"),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "one hot logits"),
    ("SparseCategoricalCrossentropy", {}, "integer"), ("SparseCategoricalCrossentropy", {"from_logits": True}, "logits"),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, "integer"),
    ("BinaryFocalCrossentropy", {"apply_class_balancing": True}, "binary"),
    ("BinaryFocalCrossentropy", {"from_logits": True}, "binary logits"),
    ("CategoricalFocalCrossentropy", {}, "one hot"), ("CategoricalFocalCrossentropy", {"from_logits": True}, "one hot logits"),
    ("CategoricalGeneralizedCrossEntropy", {}, "integer"), ("Dice", {}, "binary"), ("Tversky", {"alpha": 0.3}, "binary"),
    ("Circle", {"gamma": 8.0, "margin": 0.3}, "labels"), ("Circle", {"remove_diagonal": False}, "labels"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "data"), LOSSES, ids=lambda v: str(v))
def test_loss(name: str, how: dict, data: str) -> None:
    y, p = LABELS[data]
    for reduction in ("sum_over_batch_size", "sum", "none"):
        a, b = both(lambda k, r=reduction: getattr(k.losses, name)(reduction=r, **how))
        close(a(y, p), b(y, p), f"{name} {reduction}")
    if name not in ("Dice", "Tversky"):
        w = floats(6, low=0.1)
        a, b = both(lambda k: getattr(k.losses, name)(**how))
        close(a(y, p, sample_weight=w), b(y, p, sample_weight=w), f"{name} weighted")
    config = a.get_config()
    assert {k: v for k, v in b.get_config().items() if k not in ("dtype",)}.keys() <= config.keys()
    close(type(a).from_config(config)(y, p), a(y, p))


METRICS = [
    ("Accuracy", {}, "equal"), ("BinaryAccuracy", {"threshold": 0.4}, "binary"), ("CategoricalAccuracy", {}, "one hot"),
    ("SparseCategoricalAccuracy", {}, "integer"), ("TopKCategoricalAccuracy", {"k": 2}, "one hot"),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, "integer"), ("MeanSquaredError", {}, "real"), ("MeanAbsoluteError", {}, "real"),
    ("MeanAbsolutePercentageError", {}, "real"), ("MeanSquaredLogarithmicError", {}, "binary"), ("LogCoshError", {}, "real"),
    ("Hinge", {}, "binary"), ("SquaredHinge", {}, "binary"), ("CategoricalHinge", {}, "one hot"),
    ("KLDivergence", {}, "probabilities"), ("Poisson", {}, "binary"), ("BinaryCrossentropy", {}, "binary"),
    ("CategoricalCrossentropy", {}, "one hot"), ("SparseCategoricalCrossentropy", {"from_logits": True}, "logits"),
    ("CosineSimilarity", {}, "real"), ("RootMeanSquaredError", {}, "real"), ("TruePositives", {}, "binary"),
    ("FalsePositives", {"thresholds": [0.2, 0.7]}, "binary"), ("TrueNegatives", {}, "binary"), ("FalseNegatives", {}, "binary"),
    ("Precision", {}, "binary"), ("Precision", {"top_k": 2}, "one hot"), ("Recall", {"thresholds": [0.3, 0.6]}, "binary"),
    ("Recall", {"class_id": 1}, "binary"), ("AUC", {}, "binary"), ("AUC", {"curve": "PR"}, "binary"),
    ("AUC", {"summation_method": "majoring", "num_thresholds": 30}, "binary"),
    ("SensitivityAtSpecificity", {"specificity": 0.4}, "binary"), ("SpecificityAtSensitivity", {"sensitivity": 0.4}, "binary"),
    ("PrecisionAtRecall", {"recall": 0.5}, "binary"), ("RecallAtPrecision", {"precision": 0.4}, "binary"),
    ("F1Score", {"average": "macro"}, "one hot"), ("FBetaScore", {"beta": 2.0, "threshold": 0.5}, "binary"),
    ("FBetaScore", {"average": "weighted"}, "one hot"), ("FBetaScore", {"average": "micro", "beta": 0.5}, "one hot"),
    ("IoU", {"num_classes": 5, "target_class_ids": [0, 2]}, "classes"), ("MeanIoU", {"num_classes": 5}, "classes"),
    ("OneHotIoU", {"num_classes": 5, "target_class_ids": [1, 3]}, "one hot"), ("OneHotMeanIoU", {"num_classes": 5}, "one hot"),
    ("BinaryIoU", {"threshold": 0.4}, "binary"), ("R2Score", {}, "real"),
    ("R2Score", {"class_aggregation": "variance_weighted_average", "num_regressors": 1}, "real"),
]  # fmt: skip
LABELS |= {
    "equal": (ints(6, 3, high=3), ints(6, 3, high=3, seed=1)),
    "classes": (ints(9, high=5), ints(9, high=5, seed=1)),
}
NO_WEIGHTS = (
    "IoU",
    "MeanIoU",
    "OneHotIoU",
    "OneHotMeanIoU",
    "BinaryIoU",
    "R2Score",
)  # Keras casts weights of IoU to int


@pytest.mark.parametrize(("name", "how", "data"), METRICS, ids=lambda v: str(v))
def test_metric(name: str, how: dict, data: str) -> None:
    a, b = both(lambda k: getattr(k.metrics, name)(**how))
    assert re.sub(r"_\d+$", "", a.name) == re.sub(r"_\d+$", "", b.name)
    y, p = LABELS[data]
    for m in (a, b):
        m.update_state(y, p)
        m.update_state(y[::-1].copy(), p)
        m.update_state(y[:4], p[:4], sample_weight=None if name in NO_WEIGHTS else floats(4, low=0.2))
    close(a.result(), b.result(), name)
    a.reset_state(), b.reset_state()
    if name != "R2Score":  # 0 / 0
        close(a.result(), b.result(), f"{name} reset")
    if name not in ("FBetaScore", "F1Score", "R2Score"):  # whose state is made by the first batch
        close(type(a).from_config(a.get_config()).result(), a.result())


def test_mean_and_sum() -> None:
    for name in ("Mean", "Sum"):
        a, b = both(lambda k, n=name: getattr(k.metrics, n)())
        for m in (a, b):
            m.update_state(X)
            m.update_state(X[:2], sample_weight=[0.3, 2.0])
        close(a.result(), b.result(), name)


SCHEDULES = [
    ("ExponentialDecay", dict(initial_learning_rate=0.1, decay_steps=4, decay_rate=0.8)),
    ("ExponentialDecay", dict(initial_learning_rate=0.1, decay_steps=4, decay_rate=0.8, staircase=True)),
    ("PiecewiseConstantDecay", dict(boundaries=[3, 7], values=[1.0, 0.5, 0.1])),
    ("PolynomialDecay", dict(initial_learning_rate=0.1, decay_steps=5, power=2.0)),
    ("PolynomialDecay", dict(initial_learning_rate=0.1, decay_steps=5, cycle=True)),
    ("InverseTimeDecay", dict(initial_learning_rate=0.1, decay_steps=3, decay_rate=0.5)),
    ("CosineDecay", dict(initial_learning_rate=0.1, decay_steps=6, alpha=0.1)),
    ("CosineDecay", dict(initial_learning_rate=0.0, decay_steps=6, warmup_target=0.2, warmup_steps=3)),
    ("CosineDecayRestarts", dict(initial_learning_rate=0.1, first_decay_steps=3, m_mul=0.9)),
    ("CosineDecayRestarts", dict(initial_learning_rate=0.1, first_decay_steps=3, t_mul=1.0)),
]


@pytest.mark.parametrize(("name", "how"), SCHEDULES, ids=str)
def test_schedule(name: str, how: dict) -> None:
    from deploykit.keras import schedules

    a, b = getattr(schedules, name)(**how), getattr(theirs.optimizers.schedules, name)(**how)
    for step in range(12):
        close(a(step), b(step), f"{name} at {step}", 1e-6)
    assert a.get_config() == b.get_config()


@pytest.mark.parametrize("name", ["L1", "L2", "L1L2", "OrthogonalRegularizer"])
def test_regularizer(name: str) -> None:
    a, b = both(lambda k: getattr(k.regularizers, name)(*((0.02, 0.03) if name == "L1L2" else (0.02,))))
    close(a(ours.ops.convert_to_tensor(X)), b(theirs.ops.convert_to_tensor(X)), name)


@pytest.mark.parametrize(("name", "how"), [("MaxNorm", {"max_value": 1.5}), ("NonNeg", {}), ("UnitNorm", {"axis": 1}), ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.2, "rate": 0.7})])  # fmt: skip
def test_constraint(name: str, how: dict) -> None:
    a, b = both(lambda k: getattr(k.constraints, name)(**how))
    close(a(ours.ops.convert_to_tensor(X)), b(theirs.ops.convert_to_tensor(X)), name)


def test_initializers_have_the_right_spread() -> None:
    """Numbers differ, distributions must not."""
    for name in ("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal", "TruncatedNormal", "RandomNormal", "RandomUniform"):  # fmt: skip
        a, b = both(lambda k, n=name: array(getattr(k.initializers, n)(seed=1)((3, 3, 60, 80))))
        assert abs(a.std() / b.std() - 1) < 0.02 and abs(a.max() / b.max() - 1) < 0.25, name
    for name, how in (("Zeros", {}), ("Ones", {}), ("Constant", {"value": 3}), ("Identity", {"gain": 2.0})):
        a, b = both(lambda k, n=name, h=how: array(getattr(k.initializers, n)(**h)((4, 5))))
        np.testing.assert_array_equal(a, b)
    q = ours.initializers.Orthogonal(seed=2)((6, 4))
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-5)
    same = ours.initializers.GlorotUniform(seed=3)
    np.testing.assert_array_equal(same((3, 4)), same((3, 4)))
