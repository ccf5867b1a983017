"""Domain ai.onnx.ml (tree ensembles, scalers, linear models) and TfIdfVectorizer, as tensor ops.

A tree ensemble walks all its trees at once: one state per sample and tree, a table lookup and a comparison per level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deploykit.converters.importers.onnx.call import Call, handles
from deploykit.dtypes import float32
from deploykit.errors import FormatError, LimitError
from deploykit.graph import Value, growth

ML = "ai.onnx.ml"


@handles("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(c: Call) -> Value:
    x, at = c.x(0), c.reshape(c.x(1), -1)
    y = c.op("gather", x, at, axis=-1)
    return y if c.rank(x) > 1 else c.op("unsqueeze", y, c.i64(0))


@handles("Binarizer", domain=ML)
def binarizer(c: Call) -> Value:
    x = c.x()
    return c.cast(c.op("greater", x, c.scalar(c.attr("threshold", 0.0), x)), x.dtype)


@handles("Scaler", domain=ML)
def scaler(c: Call) -> Value:
    x = c.cast(c.x(), float32)
    for op, name in (("sub", "offset"), ("mul", "scale")):
        if c.has(name):
            values = np.array(c.attr(name), np.float32)
            x = c.op(op, x, c.const(values if values.size > 1 else values.reshape(())))
    return x


@handles("Normalizer", domain=ML)
def normalizer(c: Call) -> Value:
    x, norm = c.cast(c.x(), float32), c.attr("norm", "MAX")
    axis = c.i64(1 if c.rank(c.x()) > 1 else 0)
    size = {"MAX": lambda: c.op("reduce_max", x, axis), "L1": lambda: c.op("reduce_l1", x, axis),
            "L2": lambda: c.op("reduce_l2", x, axis)}.get(norm)  # fmt: skip
    if size is None:
        raise FormatError(f"norm '{norm}'; expected MAX, L1 or L2")
    by = size()
    return c.op("where", c.op("equal", by, c.scalar(0, by)), x, c.op("div", x, by))


@handles("LinearRegressor", domain=ML)
def linear_regressor(c: Call) -> Value:
    targets = c.attr("targets", 1)
    weights = np.array(c.attr("coefficients"), np.float32).reshape(targets, -1)
    bias = np.array(c.attr("intercepts"), np.float32) if c.has("intercepts") else None
    y = c.op("matmul", c.cast(c.x(), float32), c.const(weights), bias, transpose_b=True)
    return post_transform(c, y, c.attr("post_transform", "NONE"))


def post_transform(c: Call, y: Value, name: str) -> Value:
    """The function of scores that ai.onnx.ml models may end with."""
    if name == "NONE":
        return y
    if name == "SOFTMAX":
        return c.op("softmax", y)
    if name == "LOGISTIC":
        return c.op("sigmoid", y)
    if name == "SOFTMAX_ZERO":  # zeros stay zeros and take no part
        zero = c.op("equal", y, c.scalar(0, y))
        e = c.op("where", zero, c.scalar(0, y), c.op("exp", c.op("sub", y, c.op("reduce_max", y, c.i64(-1)))))
        return c.op("div", e, c.op("reduce_sum", e, c.i64(-1)))
    raise c.unsupported(f"post_transform '{name}'")


# ---- tree ensembles
@dataclass
class Trees:
    """Tables over states: the inner nodes, then the leaves (which lead to themselves)."""

    roots: np.ndarray  # [trees] state
    feature: np.ndarray  # [states]
    split: np.ndarray  # [states]
    mode: np.ndarray  # [states] index into MODES
    on_true: np.ndarray  # [states] state
    on_false: np.ndarray  # [states] state
    nan_is_true: np.ndarray  # [states] bool
    members: list[np.ndarray]  # the set of each node with mode MEMBER, in order
    inner: int  # number of inner nodes
    leaves: np.ndarray  # [leaves, targets] what a leaf adds; NaN where it says nothing


MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_COMPARE = ("less_equal", "less", "greater_equal", "greater", "equal", "not_equal")


def _depth(t: Trees) -> int:
    """Levels of the deepest tree; raises FormatError on a loop."""
    states = np.unique(t.roots)
    for depth in range(t.inner + 1):
        states = states[states < t.inner]
        if states.size == 0:
            return depth
        states = np.unique(np.concatenate([t.on_true[states], t.on_false[states]]))
    raise FormatError("a tree leads back into itself")


def run_trees(c: Call, t: Trees, aggregate: str, base: np.ndarray | None) -> Value:
    """Scores [samples, targets]."""
    x = c.x()
    dtype = x.dtype if x.dtype is not None and x.dtype.kind == "f" else float32
    x = c.cast(x, dtype)
    if c.rank(x) == 1:
        x = c.op("unsqueeze", x, c.i64(0))
    count = c.op("concat", c.dims(x, 0, 1), c.i64(1), axis=0)
    state = c.op("tile", c.const(t.roots.astype(np.int64)[None]), count)
    modes = sorted(set(t.mode[: t.inner].tolist()))
    for _ in range(_depth(t)):
        v = c.op("gather_elements", x, c.op("gather", c.const(t.feature), state), axis=1)
        split = c.op("gather", c.const(t.split.astype(dtype.np)), state)
        mode = c.op("gather", c.const(t.mode), state) if len(modes) > 1 else None
        goes = None
        for m in modes:
            hit = _is_member(c, t, v, state, dtype) if m == 6 else c.op(_COMPARE[m], v, split)
            goes = hit if goes is None else c.op("where", c.op("equal", mode, c.const(np.int64(m))), hit, goes)
        if t.nan_is_true.any():
            tracks = c.op("gather", c.const(t.nan_is_true), state)
            goes = c.op("logical_or", goes, c.op("logical_and", tracks, c.op("is_nan", v)))
        yes, no = (c.op("gather", c.const(n), state) for n in (t.on_true, t.on_false))
        state = c.op("where", goes, yes, no)
    leaf = c.op("sub", state, c.const(np.int64(t.inner)))
    nothing = {"SUM": 0.0, "AVERAGE": 0.0, "MIN": np.inf, "MAX": -np.inf}[aggregate]
    table = np.where(np.isnan(t.leaves), nothing, t.leaves).astype(dtype.np)
    parts = c.op("gather", c.const(table), leaf)
    reduce = {"SUM": "reduce_sum", "AVERAGE": "reduce_sum", "MIN": "reduce_min", "MAX": "reduce_max"}[aggregate]
    y = c.op(reduce, parts, c.i64(1), keepdims=False)
    if aggregate == "AVERAGE":
        y = c.op("div", y, c.scalar(len(t.roots), y))
    return y if base is None else c.op("add", y, c.const(base.astype(dtype.np)))


def _is_member(c: Call, t: Trees, v: Value, state: Value, dtype: Any) -> Value:
    if np.count_nonzero(t.mode == 6) != len(t.members):
        raise FormatError(
            f"{np.count_nonzero(t.mode == 6)} nodes ask for members, membership_values hold {len(t.members)} sets"
        )
    width = max((len(m) for m in t.members), default=0)
    sets = np.full((len(t.members) + 1, width), np.nan)  # the last row is for the other nodes
    for i, m in enumerate(t.members):
        sets[i, : len(m)] = m
    row = np.full(len(t.mode), len(t.members), np.int64)
    row[np.flatnonzero(t.mode == 6)] = np.arange(len(t.members))
    own = c.op("gather", c.const(sets.astype(dtype.np)), c.op("gather", c.const(row), state))
    return c.op("reduce_max", c.op("equal", c.op("unsqueeze", v, c.i64(-1)), own), c.i64(-1), keepdims=False)


def _padded(a: Any, leaves: int, dtype: Any, fill: Any = 0) -> np.ndarray:
    a = np.asarray(a, dtype)
    return np.concatenate([a, np.full(leaves, fill, dtype)])


def _check_room(what: str, count: int) -> None:
    if count > growth.FREE:
        raise LimitError(f"{what} would take {count} bytes; at most {growth.FREE} are allowed.")


@handles("TreeEnsemble", domain=ML)
def tree_ensemble(c: Call) -> Value:
    def array(name: str) -> np.ndarray:
        return c.importer.weights.array(c.attr(name))

    weights, targets = array("leaf_weights"), np.array(c.attr("leaf_targetids"))
    inner, count = len(c.attr("nodes_featureids")), len(weights)
    of_nodes = ("nodes_trueleafs", "nodes_falseleafs", "nodes_truenodeids", "nodes_falsenodeids")
    for k, n in (*((k, inner) for k in of_nodes), ("leaf_targetids", count)):
        if len(c.attr(k)) != n:
            raise FormatError(f"attribute '{k}' has {len(c.attr(k))} entries; expected {n}")
    if targets.min(initial=0) < 0 or targets.max(initial=0) >= c.attr("n_targets", 1):
        raise FormatError(
            f"leaf_targetids from {targets.min()} to {targets.max()} for {c.attr('n_targets', 1)} targets"
        )
    leaf_ids = np.arange(inner, inner + count)

    def next_state(ids: str, is_leaf: str) -> np.ndarray:
        to, leaf = np.array(c.attr(ids), np.int64), np.array(c.attr(is_leaf)) != 0
        if np.any((to < 0) | (to >= np.where(leaf, count, inner))):
            raise FormatError(
                f"attribute '{ids}' {to.tolist()!s:.60} points outside of {inner} nodes and {count} leaves"
            )
        to = to + inner * leaf
        return np.concatenate([to, leaf_ids])

    leaves = np.full((count, c.attr("n_targets", 1)), np.nan)
    leaves[np.arange(count), targets] = weights
    members: list[np.ndarray] = []
    if c.has("membership_values"):
        values = array("membership_values")
        ends = np.flatnonzero(np.isnan(values))
        members = [values[a:b] for a, b in zip([0, *(ends + 1)], ends, strict=False)]
    tracks = c.ints("nodes_missing_value_tracks_true", [0] * inner)
    trees = Trees(
        roots=np.array(c.attr("tree_roots"), np.int64),
        feature=_padded(c.attr("nodes_featureids"), count, np.int64),
        split=_padded(array("nodes_splits"), count, np.float64),
        mode=_padded(array("nodes_modes"), count, np.int64),
        on_true=next_state("nodes_truenodeids", "nodes_trueleafs"),
        on_false=next_state("nodes_falsenodeids", "nodes_falseleafs"),
        nan_is_true=_padded(tracks, count, bool, False),
        members=members,
        inner=inner,
        leaves=leaves,
    )
    aggregate = c.one_of("aggregate_function", ("AVERAGE", "SUM", "MIN", "MAX"), 1)
    after = c.one_of("post_transform", ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"), 0)
    return post_transform(c, run_trees(c, trees, aggregate, None), after)


def older_trees(c: Call, ids: tuple[str, str, str, str], targets: int) -> tuple[Trees, np.ndarray]:
    """The form of the first three versions: nodes by (tree, number), what leaves add in four lists named ``ids``."""

    def array(name: str, dtype: Any = np.int64) -> np.ndarray:
        return tensor_or_list(c, name, dtype)

    tree, node = array("nodes_treeids"), array("nodes_nodeids")
    modes = c.attr("nodes_modes")
    is_leaf = np.array([m == "LEAF" for m in modes])
    order = np.concatenate([np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)])
    inner = int((~is_leaf).sum())
    state = {(int(tree[i]), int(node[i])): s for s, i in enumerate(order)}

    def next_state(name: str) -> np.ndarray:
        to = array(name)
        out = np.arange(len(order), dtype=np.int64)
        for s, i in enumerate(order[:inner]):
            out[s] = state[int(tree[i]), int(to[i])]
        return out

    leaves = np.full((len(order) - inner, targets), np.nan)
    weights = array(ids[3], np.float64)
    for t, n, k, w in zip(array(ids[0]), array(ids[1]), array(ids[2]), weights, strict=True):
        place = leaves[state[int(t), int(n)] - inner]
        place[k] = w + (0 if np.isnan(place[k]) else place[k])
    roots = [state[int(t), int(node[np.flatnonzero(tree == t)[0]])] for t in dict.fromkeys(tree.tolist())]
    tracks = array("nodes_missing_value_tracks_true")
    trees = Trees(
        roots=np.array(roots, np.int64),
        feature=np.where(is_leaf, 0, array("nodes_featureids"))[order],
        split=array("nodes_values", np.float64)[order],
        mode=np.array([0 if modes[i] == "LEAF" else MODES.index(modes[i]) for i in order], np.int64),
        on_true=next_state("nodes_truenodeids"),
        on_false=next_state("nodes_falsenodeids"),
        nan_is_true=tracks[order].astype(bool) if tracks.size else np.zeros(len(order), bool),
        members=[],
        inner=inner,
        leaves=leaves,
    )
    return trees, array("base_values", np.float64)


def tensor_or_list(c: Call, name: str, dtype: Any = np.int64) -> np.ndarray:
    """An attribute written as a list, or as a tensor under another name."""
    if c.has(name + "_as_tensor"):
        return c.importer.weights.array(c.attr(name + "_as_tensor")).astype(dtype)
    return np.array(c.attr(name, ()), dtype)


@handles("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(c: Call) -> Value:
    ids = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
    trees, base = older_trees(c, ids, c.attr("n_targets", 1))
    y = run_trees(c, trees, c.attr("aggregate_function", "SUM"), base if base.size else None)
    return post_transform(c, y, c.attr("post_transform", "NONE"))


# ---- TfIdfVectorizer, in the default domain
@handles("TfIdfVectorizer")
def tf_idf_vectorizer(c: Call) -> Value:
    """Counts of the n-grams in the pool (equal gaps of 0 to max_skip_count items): all windows against all grams."""
    if not c.has("pool_int64s"):
        raise c.unsupported("n-grams of strings; the engine computes with numbers only")
    x = c.x()
    width = c.shape(x)[-1] if c.rank(x) else None
    if not isinstance(width, int):
        raise c.unsupported("the length of the sequences is not known. Give the input shapes (input_shapes=)")
    x = c.cast(x if c.rank(x) == 2 else c.op("unsqueeze", x, c.i64(0)), "int64")
    pool, starts = np.array(c.attr("pool_int64s")), c.attr("ngram_counts")
    columns = np.array(c.attr("ngram_indexes"))
    low, high, skips = (c.attr(k) for k in ("min_gram_length", "max_gram_length", "max_skip_count"))
    if starts is None or None in (low, high, skips):
        raise FormatError("ngram_counts, min_gram_length, max_gram_length and max_skip_count are needed")
    if pool.ndim != 1 or columns.min(initial=0) < 0 or not columns.size:
        raise FormatError(
            f"pool_int64s {pool.tolist()!s:.60}, ngram_indexes {columns.tolist()!s:.60}; expected numbers from 0"
        )
    counts = []
    for n, (a, b) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        if not 0 <= a <= b <= len(pool) or (b - a) % n:
            raise FormatError(f"ngram_counts give {b - a} numbers from {a} on, of {len(pool)}, for groups of {n}")
        grams = pool[a:b].reshape(-1, n)
        if not len(grams):
            continue
        # beyond the length of the sequences no window is left, however many skips are allowed
        last = 1 if n == 1 else min(skips + 1, width // (n - 1))
        steps = range(1, last + 1) if low <= n <= high else ()
        total = None
        for step in steps:
            windows = width - (n - 1) * step
            if windows <= 0:
                continue
            _check_room("the windows of a sequence", 8 * windows * n)
            at = np.arange(windows)[:, None] + np.arange(n) * step
            seen = c.op("unsqueeze", c.op("gather", x, c.const(at), axis=1), c.i64(2))
            same = c.op("cast", c.op("equal", seen, c.const(grams)), dtype="float32")
            found = c.op("reduce_sum", c.op("reduce_min", same, c.i64(-1), keepdims=False), c.i64(1), keepdims=False)
            total = found if total is None else c.op("add", total, found)
        if total is None:
            none = c.op("concat", c.dims(x, 0, 1), c.i64(len(grams)), axis=0)
            total = c.op("fill", none, c.const(np.float32(0)))
        counts.append(total)
    y = counts[0] if len(counts) == 1 else c.op("concat", *counts, axis=1)
    size = int(columns.max()) + 1
    _check_room("the columns of ngram_indexes", 4 * size * len(columns))
    place = np.zeros((len(columns), size), np.float32)
    place[np.arange(len(columns)), columns] = 1
    y = c.op("matmul", y, c.const(place))
    mode = c.attr("mode")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise FormatError(f"mode '{mode}'; expected TF, IDF or TFIDF")
    if mode == "IDF":
        y = c.op("minimum", y, c.const(np.float32(1)))
    if mode != "TF" and c.has("weights"):
        y = c.op("mul", y, c.const(np.array(c.attr("weights"), np.float32)))
    return y if c.rank(c.x()) == 2 else c.op("squeeze", y, c.i64(0))
