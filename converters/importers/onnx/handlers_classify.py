"""Classifiers, support vectors, encoders and imputers of ai.onnx.ml, as tensor ops.

The standard leaves much of two-class scores open; where it does, these follow onnxruntime.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.converters.importers.onnx.handlers_ml import ML, older_trees, post_transform, run_trees, tensor_or_list
from deploykit.converters.importers.onnx.handlers_text import lookup, one_hot
from deploykit.converters.ir.text import Text
from deploykit.dtypes import float32, int64
from deploykit.errors import FormatError
from deploykit.graph import Value
from deploykit.strings import encode


def labels_of(c: Call, ints: str = "classlabels_int64s", strings: str = "classlabels_strings") -> np.ndarray:
    """The class labels, integers or strings."""
    if c.has(strings) and c.attr(strings):
        return np.array(c.attr(strings), object)
    return np.array(c.attr(ints, ()), np.int64)


def two_scores(c: Call, s: Value, transform: str, positive: bool) -> Value:
    """Scores of both classes from that of the second, [N, 1]."""
    if positive:
        s = post_transform(c, s, transform) if transform != "SOFTMAX" else s
        first = c.op("sub", c.scalar(1, s), s)
    else:
        first = c.op("neg", s)
        if transform == "LOGISTIC":
            s, first = c.op("sigmoid", s), c.op("sigmoid", first)
    return c.op("concat", first, s, axis=1)


def pick(c: Call, which: Value, labels: np.ndarray) -> Any:
    """Labels by index."""
    if labels.dtype == object:
        return Text(c.op("gather", c.const(encode(labels)), which, axis=0))
    return which if np.array_equal(labels, np.arange(len(labels))) else c.op("gather", c.const(labels), which, axis=0)


def second_if(c: Call, hit: Value, labels: np.ndarray) -> Any:
    """The second label where ``hit`` [N, 1] holds, else the first."""
    if labels.dtype == object:
        return pick(c, c.cast(c.op("squeeze", hit, c.i64(1)), int64), labels)
    yes, no = c.const(labels[1]), c.const(labels[0])
    return c.op("where", c.op("squeeze", hit, c.i64(1)), yes, no)


@handles("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(c: Call) -> list[Value]:
    labels = labels_of(c)
    ids = ("class_treeids", "class_nodeids", "class_ids", "class_weights")
    weights, used = tensor_or_list(c, "class_weights", np.float64), np.unique(tensor_or_list(c, "class_ids"))
    transform = c.attr("post_transform", "NONE")
    trees, base = older_trees(c, ids, len(labels))
    if len(labels) == 2 and len(used) == 1:  # scores of one class only
        trees.leaves = trees.leaves[:, used[:1]]
        s = run_trees(c, trees, "SUM", base[-1:] if base.size else None)
        positive = bool((weights >= 0).all())
        hit = c.op("greater", s, c.scalar(0.5 if positive else 0.0, s))
        return [second_if(c, hit, labels), two_scores(c, s, transform, positive)]
    scores = run_trees(c, trees, "SUM", base if base.size == len(labels) else None)
    which = c.op("arg_max", scores, axis=1, keepdims=False)
    return [pick(c, which, labels), post_transform(c, scores, transform)]


@handles("LinearClassifier", domain=ML)
def linear_classifier(c: Call) -> list[Value]:
    labels = labels_of(c, "classlabels_ints")
    x = c.cast(c.x(), float32)
    if c.rank(x) == 1:
        x = c.op("unsqueeze", x, c.i64(0))
    bias = np.array(c.attr("intercepts", ()), np.float32)
    coefficients = np.array(c.attr("coefficients"), np.float32)
    rows = bias.size or max(len(labels), 1)
    if coefficients.size % rows:
        raise FormatError(f"{coefficients.size} coefficients for {rows} classes")
    w = coefficients.reshape(rows, -1)
    s = c.op("matmul", x, c.const(w), bias if bias.size else None, transpose_b=True)
    transform = c.attr("post_transform", "NONE")
    if rows == 1:
        if len(labels) != 2:
            raise c.unsupported(f"{len(labels)} labels for one row of coefficients")
        hit = c.op("greater", s, c.scalar(0, s))
        return [second_if(c, hit, labels), two_scores(c, s, transform, True)]
    which = c.op("arg_max", s, axis=1, keepdims=False)
    return [pick(c, which, labels), post_transform(c, s, transform)]


# ---- support vectors
def kernel(c: Call, x: Value, vectors: np.ndarray) -> Value:
    """Kernel values [samples, vectors]."""
    gamma, coef, degree = ([*c.attr("kernel_params", ()), 0.0, 0.0, 0.0])[:3]
    kind = c.attr("kernel_type", "LINEAR")
    v = c.const(vectors.astype(np.float32))
    if kind == "RBF":
        squares = c.op("reduce_sum", c.op("square", x), c.i64(1))
        cross = c.op("matmul", x, v, transpose_b=True, alpha=-2.0)
        norm = c.const((vectors**2).sum(1).astype(np.float32))
        distance = c.op("maximum", c.op("add", c.op("add", squares, cross), norm), c.scalar(0, x))
        return c.op("exp", c.op("mul", distance, c.scalar(-gamma, x)))
    y = c.op("matmul", x, v, transpose_b=True)
    if kind == "LINEAR":
        return y
    y = c.op("add", c.op("mul", y, c.scalar(gamma, y)), c.scalar(coef, y))
    if kind == "POLY":
        return c.op("pow", y, c.scalar(degree, y))
    if kind == "SIGMOID":
        return c.op("tanh", y)
    raise c.unsupported(f"kernel '{kind}'")


@handles("SVMRegressor", domain=ML)
def svm_regressor(c: Call) -> Value:
    x = c.cast(c.x(), float32)
    coefficients, rho = np.array(c.attr("coefficients"), np.float32), np.array(c.attr("rho"), np.float32)
    n = c.attr("n_supports", 0)
    if n:
        k = kernel(c, x, np.array(c.attr("support_vectors"), np.float64).reshape(n, -1))
    else:
        k = x
    y = c.op("matmul", k, c.const(coefficients.reshape(-1, 1)), rho[:1])
    if c.attr("one_class", 0):
        return c.op("where", c.op("greater", y, c.scalar(0, y)), c.scalar(1, y), c.scalar(-1, y))
    return post_transform(c, y, c.attr("post_transform", "NONE"))


@handles("SVMClassifier", domain=ML)
def svm_classifier(c: Call) -> list[Value]:
    """One decision per pair of classes; labels by votes, scores by Platt's probabilities where the model has them
    (Wu, Lin, Weng 2004: pairwise coupling, iterated as LIBSVM does)."""
    labels = labels_of(c, "classlabels_ints")
    x = c.cast(c.x(), float32)
    per = np.array(c.attr("vectors_per_class", ()), np.int64)
    total = int(per.sum())
    n = len(labels)
    if not total:
        raise c.unsupported("a linear machine without support vectors")
    k = kernel(c, x, np.array(c.attr("support_vectors"), np.float64).reshape(total, -1))
    coefficients = np.array(c.attr("coefficients"), np.float64).reshape(n - 1, total)
    rho = np.array(c.attr("rho"), np.float64)
    starts = np.concatenate([[0], np.cumsum(per)])
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    m = np.zeros((total, len(pairs)), np.float32)
    for p, (i, j) in enumerate(pairs):
        a, b = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        m[a, p] += coefficients[j - 1, a]
        m[b, p] += coefficients[i, b]
    decisions = c.op("matmul", k, c.const(m), rho.astype(np.float32))
    prob_a, prob_b = (np.array(c.attr(a, ()), np.float32) for a in ("prob_a", "prob_b"))
    first = np.zeros((len(pairs), n), np.float32)
    second = np.zeros((len(pairs), n), np.float32)
    for p, (i, j) in enumerate(pairs):
        first[p, i], second[p, j] = 1, 1
    won = c.cast(c.op("greater", decisions, c.scalar(0, decisions)), float32)
    lost = c.op("sub", c.scalar(1, won), won)
    votes = c.op("add", c.op("matmul", won, c.const(first)), c.op("matmul", lost, c.const(second)))
    if prob_a.size:
        scores = coupled(c, decisions, prob_a, prob_b, pairs, n)
        which = c.op("arg_max", scores, axis=1, keepdims=False)
        return [pick(c, which, labels), scores]
    if n == 2:
        hit = c.op("less", decisions, c.scalar(0, decisions))
        both = c.op("concat", c.op("neg", decisions), decisions, axis=1)
        return [second_if(c, hit, labels), both]
    return [pick(c, c.op("arg_max", votes, axis=1, keepdims=False), labels), decisions]


def coupled(c: Call, decisions: Value, a: np.ndarray, b: np.ndarray, pairs: list[tuple[int, int]], n: int) -> Value:
    """Class probabilities from pairwise ones: the minimum of sum (r_ji p_i - r_ij p_j)^2, solved exactly for few classes
    by as many rounds of the fixed-point iteration as the reference makes at most."""
    r = c.op("sigmoid", c.op("neg", c.op("add", c.op("mul", decisions, c.const(a)), c.const(b))))
    r = c.op("clip", r, c.scalar(1e-7, r), c.scalar(1 - 1e-7, r))
    if n == 2:
        return c.op("concat", r, c.op("sub", c.scalar(1, r), r), axis=1)
    raise c.unsupported(
        "probabilities of a support vector machine of more than two classes. Train with probability=False"
    )


# ---- encoders
@handles("OneHotEncoder", domain=ML)
def one_hot_encoder(c: Call) -> Value:
    """[..., n] -> [..., n, categories]."""
    if not c.attr("zeros", 1):
        raise c.unsupported("zeros=0 (an error for unknown categories)")
    if c.is_text(0):
        return c.cast(one_hot(c, c.attr("cats_strings", [])), float32)
    x = c.x()
    cats = np.array(c.attr("cats_int64s", ()), np.int64)
    at = c.op("unsqueeze", c.cast(x, int64), c.i64(-1))
    return c.cast(c.op("equal", at, c.const(cats)), float32)


@handles("Imputer", domain=ML)
def imputer(c: Call) -> Value:
    x = c.x()
    assert x.dtype is not None
    floats = c.has("imputed_value_floats")
    kind = "imputed_value_floats" if floats else "imputed_value_int64s"
    values = np.array(c.attr(kind), x.dtype.np)
    missing = c.attr("replaced_value_float" if floats else "replaced_value_int64", 0)
    hole = (
        c.op("is_nan", x)
        if isinstance(missing, float) and np.isnan(missing)
        else c.op("equal", x, c.scalar(missing, x))
    )
    return c.op("where", hole, c.const(values if values.size > 1 else values.reshape(())), x)


@handles("FeatureVectorizer", domain=ML)
def feature_vectorizer(c: Call) -> Value:
    xs = [c.cast(x, float32) for x in c.xs()]
    xs = [x if c.rank(x) > 1 else c.op("unsqueeze", x, c.i64(1)) for x in xs]
    return xs[0] if len(xs) == 1 else c.op("concat", *xs, axis=1)


@handles("LabelEncoder", domain=ML, since=2)
def label_encoder(c: Call) -> Any:
    """Numbers or strings to such."""
    found: dict[str, Any] = {}
    for side in ("keys", "values"):
        for kind, dtype in (("int64s", np.int64), ("floats", np.float32), ("strings", object)):
            if c.has(f"{side}_{kind}"):
                found[side] = np.array(c.attr(f"{side}_{kind}"), dtype)
        if c.has(f"{side}_tensor"):
            found[side] = c.importer.weights.array(c.attr(f"{side}_tensor"))
    if len(found) < 2:
        raise FormatError("it has no keys or no values")
    keys, values = found["keys"], found["values"]
    default = c.attr("default_string", "_Unused")
    if values.dtype != object:
        default = np.array(
            c.attr("default_int64", -1) if values.dtype.kind in "iu" else c.attr("default_float", -0.0), values.dtype
        )
    if c.has("default_tensor"):
        default = c.importer.weights.array(c.attr("default_tensor")).reshape(-1)[0]
        default = default if values.dtype == object else np.asarray(default, values.dtype)
    return lookup(c, keys, values, default)


@handles("ZipMap", domain=ML)
def zip_map(c: Call) -> Value:
    """A list of maps from label to score: the scores as they are, in the order of the labels."""
    raise c.unsupported(
        "a list of maps, which is no tensor. Export without it (skl2onnx: options={'zipmap': False}), or keep its input "
        "as the output (--outputs)"
    )
